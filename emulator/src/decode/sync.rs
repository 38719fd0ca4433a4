//! Barriers, warp votes and shuffles.

use super::decoder::{Decoder, Result};
use super::modifiers::Modifiers;
use super::ty::Ty;
use crate::parse::ast::Operand;
use crate::program::op::Fence;
use crate::program::sync_op::{Bar, BarMode, Elect, Match, MatchSource, Redux, ReduxOp, Shfl, ShflMode, Vote, VoteMode};
use crate::program::{Op, P};

impl Decoder<'_> {
    pub(super) fn sync(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        match root {
            "shfl" => self.shfl(m, ops),
            "vote" => self.vote(m, ops),
            "match" => self.match_lanes(m, ops),
            "redux" => self.redux(m, ops),
            "elect" => {
                if !m.take("sync") {
                    return self.unknown();
                }
                self.expect_operands(ops, 2)?;
                let (d, p) = self.pair(&ops[0]);
                let (d, p) = (self.dst32(d)?, self.dst_pred(p)?);
                Ok(Op::Elect(Box::new(Elect { d, p, members: self.src32(&ops[1], Ty::B(32))? })))
            }
            "bar" | "barrier" => self.bar(root, m, ops),
            "mbarrier" => self.mbarrier(m, ops),
            "fence" | "membar" => self.fence(root, m, ops),
            "griddepcontrol" => {
                let Some(fence) = m.choose(&[("wait", Fence::GridDependency), ("launch_dependents", Fence::GridLaunch)]) else {
                    return self.unknown();
                };
                self.expect_operands(ops, 0)?;
                Ok(Op::Fence(fence))
            }
            "setmaxnreg" => {
                let increase = m.choose(&[("inc", true), ("dec", false)]);
                let (Some(increase), true, true) = (increase, m.take("sync"), m.take("aligned")) else {
                    return self.unknown();
                };
                self.ty(m)?;
                Ok(Op::SetMaxNReg { increase, registers: self.constant(ops, 0)? })
            }
            // A hint to wait a while, and a profiler trigger.
            _ => {
                m.ty();
                m.take("mask");
                Ok(Op::Nop)
            }
        }
    }

    fn shfl(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let sync = m.take("sync");
        let mode = m.choose(&[("up", ShflMode::Up), ("down", ShflMode::Down), ("bfly", ShflMode::Bfly), ("idx", ShflMode::Idx)]);
        let (Some(mode), Ty::B(32)) = (mode, self.ty(m)?) else { return self.unknown() };
        self.expect_operands(ops, if sync { 5 } else { 4 })?;
        let (d, p) = self.pair(&ops[0]);
        let (d, p) = (self.dst32(d)?, self.dst_pred(p)?);
        let u32_ = Ty::B(32);
        let (a, b, c) = (self.src32(&ops[1], u32_)?, self.src32(&ops[2], u32_)?, self.src32(&ops[3], u32_)?);
        let members = if sync { Some(self.src32(&ops[4], u32_)?) } else { None };
        Ok(Op::Shfl(Box::new(Shfl { mode, d, p, a, b, c, members })))
    }

    fn vote(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let sync = m.take("sync");
        let ballot = m.take("ballot");
        let mode = m.choose(&[("all", VoteMode::All), ("any", VoteMode::Any), ("uni", VoteMode::Uni)]);
        let ty = self.ty(m)?;
        self.expect_operands(ops, if sync { 3 } else { 2 })?;
        let (mode, d) = match (mode, ballot, ty) {
            (Some(mode), false, Ty::Pred) => (mode, self.dst_pred(&ops[0])?),
            (None, true, Ty::B(32)) => (VoteMode::Ballot(self.dst32(&ops[0])?), P::SINK),
            _ => return self.unknown(),
        };
        let a = self.src_pred(&ops[1])?;
        let members = if sync { Some(self.src32(&ops[2], Ty::B(32))?) } else { None };
        Ok(Op::Vote(Box::new(Vote { mode, d, a, members })))
    }

    fn match_lanes(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let all = m.choose(&[("any", false), ("all", true)]);
        let (Some(all), true) = (all, m.take("sync")) else { return self.unknown() };
        let ty = self.ty(m)?;
        self.expect_operands(ops, 3)?;
        let (d, p) = self.pair(&ops[0]);
        let all = if all { Some(self.dst_pred(p)?) } else { None };
        let d = self.dst32(d)?;
        let a = match ty {
            Ty::B(32) => MatchSource::R(self.src32(&ops[1], ty)?),
            Ty::B(64) => MatchSource::D(self.src64(&ops[1])?),
            _ => return self.unknown(),
        };
        Ok(Op::Match(Box::new(Match { d, all, a, members: self.src32(&ops[2], Ty::B(32))? })))
    }

    fn redux(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        if !m.take("sync") {
            return self.unknown();
        }
        let names = ["add", "min", "max", "and", "or", "xor"];
        let Some(name) = names.into_iter().find(|name| m.take(name)) else { return self.unknown() };
        let (abs, nan) = (m.take("abs"), m.take("NaN"));
        let op = match (name, self.ty(m)?) {
            ("add", Ty::U(32) | Ty::S(32)) => ReduxOp::Add,
            ("min", Ty::U(32)) => ReduxOp::MinU,
            ("max", Ty::U(32)) => ReduxOp::MaxU,
            ("min", Ty::S(32)) => ReduxOp::MinS,
            ("max", Ty::S(32)) => ReduxOp::MaxS,
            ("and", Ty::B(32)) => ReduxOp::And,
            ("or", Ty::B(32)) => ReduxOp::Or,
            ("xor", Ty::B(32)) => ReduxOp::Xor,
            ("min", Ty::F32) => ReduxOp::FMin { abs, nan },
            ("max", Ty::F32) => ReduxOp::FMax { abs, nan },
            _ => return self.unknown(),
        };
        let op = match op {
            // Payloads are signed integers to min and max.
            ReduxOp::FMin { abs: false, .. } if self.ring => ReduxOp::MinS,
            ReduxOp::FMax { abs: false, .. } if self.ring => ReduxOp::MaxS,
            ReduxOp::FMin { .. } | ReduxOp::FMax { .. } if self.ring => return self.error("has no meaning in the ring"),
            op => op,
        };
        self.expect_operands(ops, 3)?;
        let (a, members) = (self.src32(&ops[1], Ty::B(32))?, self.src32(&ops[2], Ty::B(32))?);
        Ok(Op::Redux(Box::new(Redux { op, d: self.dst32(&ops[0])?, a, members })))
    }

    fn bar(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        if m.take("cluster") {
            return self.cluster_barrier(m);
        }
        m.take("cta");
        if m.take("warp") {
            if !m.take("sync") {
                return self.unknown();
            }
            self.expect_operands(ops, 1)?;
            return Ok(Op::BarWarpSync(self.src32(&ops[0], Ty::B(32))?));
        }
        // `bar` is `barrier.aligned`.
        let aligned = m.take("aligned") || root == "bar";
        let u32_ = Ty::U(32);
        if m.take("red") {
            let name = ["popc", "and", "or"].into_iter().find(|name| m.take(name));
            self.ty(m)?;
            if !(3..=4).contains(&ops.len()) {
                return self.error("takes 3 or 4 operands");
            }
            let mode = match name {
                Some("popc") => BarMode::RedPopc(self.dst32(&ops[0])?),
                Some("and") => BarMode::RedAnd(self.dst_pred(&ops[0])?),
                Some(_) => BarMode::RedOr(self.dst_pred(&ops[0])?),
                None => return self.unknown(),
            };
            let id = self.src32(&ops[1], u32_)?;
            let count = if ops.len() == 4 { Some(self.src32(&ops[2], u32_)?) } else { None };
            let a = self.src_pred(&ops[ops.len() - 1])?;
            return Ok(Op::Bar(Box::new(Bar { mode, id, count, aligned, a })));
        }
        let mode = match m.choose(&[("sync", BarMode::Sync), ("arrive", BarMode::Arrive)]) {
            Some(mode) => mode,
            None => return self.unknown(),
        };
        if ops.is_empty() || ops.len() > 2 || (mode == BarMode::Arrive && ops.len() != 2) {
            return self.error(format!("takes a barrier and a count, has {} operands", ops.len()));
        }
        let id = self.src32(&ops[0], u32_)?;
        let count = match ops.get(1) {
            Some(count) => Some(self.src32(count, u32_)?),
            None => None,
        };
        Ok(Op::Bar(Box::new(Bar { mode, id, count, aligned, a: (P::TRUE, false) })))
    }

    fn cluster_barrier(&mut self, m: &mut Modifiers) -> Result<Op> {
        let arrive = m.choose(&[("arrive", true), ("wait", false)]);
        let relaxed = m.take("relaxed");
        m.take_any(&["release", "acquire"]);
        let aligned = m.take("aligned");
        match arrive {
            Some(true) => Ok(Op::ClusterArrive { aligned, relaxed }),
            Some(false) if !relaxed => Ok(Op::ClusterWait { aligned }),
            _ => self.unknown(),
        }
    }
}
