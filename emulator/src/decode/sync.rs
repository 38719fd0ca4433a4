//! Barriers, mbarriers, fences, warp votes and shuffles.

use super::decoder::{Decoder, Result};
use super::memory::take_order;
use super::modifiers::Modifiers;
use super::moves::take_space;
use super::ty::Ty;
use crate::parse::ast::{Operand, Space};
use crate::program::op::Fence;
use crate::program::sync_op::{
    Bar, BarMode, Elect, MBarrier, MBarrierKind, MBarrierWait, Match, MatchSource, Redux, ReduxOp, Shfl, ShflMode, Vote, VoteMode,
};
use crate::program::{D, Op, P};

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
            "fence" | "membar" => self.fence(m),
            "griddepcontrol" => {
                if !m.take("wait") && !m.take("launch_dependents") {
                    return self.unknown();
                }
                Ok(Op::Fence(Fence::GridDependency))
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

    /// Without `.sync` nothing says which lanes take part (PTX ISA 9.7.9.5: not for sm_70 and later).
    fn needs_sync(&self, sync: bool) -> Result<()> {
        if sync || self.arch.sm < 70 { Ok(()) } else { self.error("needs .sync and a member mask on sm_70 and later") }
    }

    fn shfl(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let sync = m.take("sync");
        self.needs_sync(sync)?;
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
        self.needs_sync(sync)?;
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
            (_, Ty::F32) if self.arch.sm < 100 => return self.error("on f32 needs sm_100a"),
            ("min", Ty::F32) => ReduxOp::FMin { abs, nan },
            ("max", Ty::F32) => ReduxOp::FMax { abs, nan },
            _ => return self.unknown(),
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

    fn fence(&mut self, m: &mut Modifiers) -> Result<Op> {
        if m.take("mbarrier_init") {
            m.take_any(&["release", "cluster"]);
            return Ok(Op::Fence(Fence::MBarrierInit));
        }
        if m.take("proxy") {
            if m.take("async") || m.take("async::generic") {
                take_space(m);
                m.take_any(&["acquire", "release", "sync_restrict::shared::cta", "sync_restrict::shared::cluster", "cluster"]);
                return Ok(Op::Fence(Fence::ProxyAsync));
            }
            if m.take("alias") {
                return Ok(Op::Fence(Fence::Memory));
            }
            if m.take("tensormap::generic") {
                take_order(m);
                return Ok(Op::Fence(Fence::ProxyTensorMap));
            }
            return self.unknown();
        }
        take_order(m);
        m.take_any(&["sc", "gl", "sync_restrict::shared::cta", "sync_restrict::shared::cluster"]);
        Ok(Op::Fence(Fence::Memory))
    }

    fn mbarrier(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let names =
            ["init", "inval", "expect_tx", "complete_tx", "arrive", "arrive_drop", "test_wait", "try_wait", "pending_count"];
        let Some(&name) = m.all().first() else { return self.unknown() };
        if !names.contains(&name) {
            return self.unknown();
        }
        m.take(name);
        let expect = m.take("expect_tx");
        let no_complete = m.take("noComplete");
        let parity = m.take("parity");
        take_order(m);
        let space = take_space(m).unwrap_or(Space::Generic);
        if !matches!(space, Space::Generic | Space::Shared | Space::SharedCluster) {
            return self.unknown();
        }
        self.ty(m)?;
        let u32_ = Ty::U(32);
        if name == "pending_count" {
            self.expect_operands(ops, 2)?;
            let kind = MBarrierKind::PendingCount { d: self.dst32(&ops[0])?, state: self.src64(&ops[1])? };
            let nowhere = crate::program::memory_op::Addr { base: crate::program::memory_op::Base::Zero, offset: 0 };
            return Ok(Op::MBarrier(Box::new(MBarrier { kind, addr: nowhere, space })));
        }
        let is_wait = matches!(name, "test_wait" | "try_wait");
        let is_arrive = matches!(name, "arrive" | "arrive_drop");
        if (parity && !is_wait) || ((expect || no_complete) && !is_arrive) {
            return self.unknown();
        }
        // A destination comes first where there is one; `arrive` may leave it out.
        let has_dst = is_wait || (is_arrive && !matches!(ops.first(), Some(Operand::Address { .. })));
        let at = usize::from(has_dst);
        let Some(address) = ops.get(at) else { return self.error("takes the address of an mbarrier") };
        let addr = self.addr(address)?;
        let value = ops.get(at + 1);
        let expected = at + 1 + usize::from(value.is_some());
        let timeout = usize::from(name == "try_wait" && ops.len() == expected + 1);
        self.expect_operands(ops, expected + timeout)?;
        let needs_value = is_wait || expect || matches!(name, "init" | "expect_tx" | "complete_tx");
        if needs_value && value.is_none() {
            return self.error("an operand is missing");
        }
        let value32 = match value {
            Some(value) if !is_wait => Some(self.src32(value, u32_)?),
            _ => None,
        };
        let kind = match (name, value, value32) {
            ("init", _, Some(count)) => MBarrierKind::Init { count },
            ("inval", None, _) => MBarrierKind::Inval,
            ("expect_tx", _, Some(bytes)) => MBarrierKind::ExpectTx { bytes },
            ("complete_tx", _, Some(bytes)) => MBarrierKind::CompleteTx { bytes },
            ("test_wait" | "try_wait", Some(value), _) => {
                let on =
                    if parity { MBarrierWait::Parity(self.src32(value, u32_)?) } else { MBarrierWait::State(self.src64(value)?) };
                MBarrierKind::Wait { d: self.dst_pred(&ops[0])?, on, may_block: name == "try_wait" }
            }
            ("arrive" | "arrive_drop", _, _) => {
                let state = if has_dst { self.dst64(&ops[0])? } else { D::SINK };
                let (count, expect) = if expect { (None, value32) } else { (value32, None) };
                MBarrierKind::Arrive { state, count, drop: name == "arrive_drop", no_complete, expect }
            }
            _ => return self.unknown(),
        };
        Ok(Op::MBarrier(Box::new(MBarrier { kind, addr, space })))
    }
}
