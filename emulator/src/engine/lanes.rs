//! Instructions in which the lanes of a warp see each other.

use super::access::lanes_of;
use super::cluster::{At, Cluster};
use super::regs::FULL;
use super::step::Flow;
use super::warp::{Split, State, Wait, Warp};
use crate::finding::FindingKind;
use crate::program::sync_op::{Elect, Match, MatchSource, Redux, ReduxOp, Shfl, ShflMode, Vote, VoteMode};
use crate::program::{Op, R};

impl Cluster<'_> {
    /// The lanes that take part: `None` while some member is not here yet. Splits of the warp that stand at the same
    /// instruction take part together, and go on separately.
    fn gather_members(&mut self, warp: &mut Warp, index: usize, at: &At, mask: u32, members: R) -> Result<u32, Flow> {
        let undefined = mask & !warp.regs.rdef(members);
        if undefined != 0 {
            self.report(FindingKind::Uninit, at, undefined, None, || "member mask is undefined".into());
        }
        let wanted = warp.regs.r(members)[mask.trailing_zeros() as usize & 31];
        let outside = mask & !wanted;
        if outside != 0 {
            self.report(FindingKind::Mask, at, outside, None, || {
                format!("member mask {wanted:#010x} leaves out the executing lanes {outside:#010x}")
            });
        }
        let wanted = wanted & warp.live;
        // `bar.warp.sync` meets any other one, the rest must be at the same instruction.
        let code = &self.m.kernel.code;
        let is_sync = |pc: u32| matches!(code[pc as usize].op, Op::BarWarpSync(_));
        let meets = |split: &Split| {
            let waits = matches!(split.state, State::Blocked(Wait::Lanes { .. }));
            waits && (split.pc == at.pc || (is_sync(split.pc) && is_sync(at.pc)))
        };
        let others = warp.splits.iter().enumerate().filter(|(other, split)| *other != index && meets(split));
        let here = others.fold(mask, |all, (_, split)| all | split.mask);
        if wanted & !here != 0 {
            return Err(Flow::Block(Wait::Lanes { members: wanted }));
        }
        for (other, split) in warp.splits.iter_mut().enumerate() {
            if other != index && meets(split) {
                split.pc += 1;
                split.state = State::Ready;
            }
        }
        warp.meetings += 1;
        Ok(here)
    }

    fn participants(&mut self, warp: &mut Warp, index: usize, at: &At, mask: u32, members: Option<R>) -> Result<u32, Flow> {
        match members {
            Some(members) => self.gather_members(warp, index, at, mask, members),
            None => Ok(mask),
        }
    }

    pub(super) fn warp_sync(&mut self, warp: &mut Warp, index: usize, at: &At, mask: u32, members: R) -> Flow {
        match self.gather_members(warp, index, at, mask, members) {
            Ok(_) => Flow::Next,
            Err(flow) => flow,
        }
    }

    pub(super) fn shfl(&mut self, warp: &mut Warp, index: usize, at: &At, mask: u32, op: &Shfl) -> Flow {
        let mask = match self.participants(warp, index, at, mask, op.members) {
            Ok(mask) => mask,
            Err(flow) => return flow,
        };
        let (a, b, c) = (*warp.regs.r(op.a), warp.regs.r(op.b), warp.regs.r(op.c));
        let control = warp.regs.rdef(op.b) & warp.regs.rdef(op.c);
        let a_defined = warp.regs.rdef(op.a);
        let mut out = a;
        let (mut in_range, mut defined, mut inactive) = (0u32, 0u32, 0u32);
        for lane in lanes_of(mask) {
            // PTX ISA 9.7.9.6: c holds the clamp in bits 0-4 and the segment mask in bits 8-12.
            let (value, clamp, segment) = (b[lane] & 31, c[lane] & 31, (c[lane] >> 8) & 31);
            let here = lane as u32;
            let last = (here & segment) | (clamp & !segment);
            let first = here & segment;
            let (source, ok) = match op.mode {
                ShflMode::Up => (here.wrapping_sub(value), here as i32 - value as i32 >= last as i32),
                ShflMode::Down => (here + value, here + value <= last),
                ShflMode::Bfly => (here ^ value, here ^ value <= last),
                ShflMode::Idx => {
                    let source = first | (value & !segment);
                    (source, source <= last)
                }
            };
            let source = if ok { source & 31 } else { here };
            in_range |= u32::from(ok) << lane;
            if (mask >> source) & 1 == 1 {
                out[lane] = a[source as usize];
                defined |= ((a_defined >> source) & 1) << lane;
            } else {
                inactive |= 1 << lane;
                out[lane] = 0xcccc_cccc;
            }
        }
        if inactive != 0 {
            self.report(FindingKind::Mask, at, inactive, None, || {
                "shfl reads a lane that does not take part: its value is undefined".into()
            });
        }
        if mask & !control != 0 {
            self.report(FindingKind::Uninit, at, mask & !control, None, || "shfl lane operand is undefined".into());
        }
        warp.regs.put(op.d, &out, mask, defined);
        warp.regs.put_pred(op.p, in_range, mask, FULL);
        Flow::Next
    }

    pub(super) fn vote(&mut self, warp: &mut Warp, index: usize, at: &At, mask: u32, op: &Vote) -> Flow {
        let mask = match self.participants(warp, index, at, mask, op.members) {
            Ok(mask) => mask,
            Err(flow) => return flow,
        };
        let undefined = mask & !warp.regs.pdef(op.a.0);
        if undefined != 0 {
            self.report(FindingKind::Uninit, at, undefined, None, || "vote on an undefined predicate".into());
        }
        let bits = warp.regs.pred(op.a) & mask;
        let spread = |yes: bool| if yes { FULL } else { 0 };
        match op.mode {
            VoteMode::All => warp.regs.put_pred(op.d, spread(bits == mask), mask, FULL),
            VoteMode::Any => warp.regs.put_pred(op.d, spread(bits != 0), mask, FULL),
            VoteMode::Uni => warp.regs.put_pred(op.d, spread(bits == mask || bits == 0), mask, FULL),
            VoteMode::Ballot(d) => warp.regs.put(d, &[bits; 32], mask, FULL),
        }
        Flow::Next
    }

    pub(super) fn match_lanes(&mut self, warp: &mut Warp, index: usize, at: &At, mask: u32, op: &Match) -> Flow {
        let mask = match self.gather_members(warp, index, at, mask, op.members) {
            Ok(mask) => mask,
            Err(flow) => return flow,
        };
        let (values, defined) = match op.a {
            MatchSource::R(r) => (warp.regs.r(r).map(u64::from), warp.regs.rdef(r)),
            MatchSource::D(d) => (*warp.regs.q(d), warp.regs.qdef(d)),
        };
        let defined = if mask & !defined == 0 { FULL } else { 0 };
        let mut out = [0; 32];
        for lane in lanes_of(mask) {
            out[lane] = lanes_of(mask).filter(|&other| values[other] == values[lane]).fold(0, |all, other| all | 1 << other);
        }
        if let Some(p) = op.all {
            let all = lanes_of(mask).all(|lane| out[lane] == mask);
            if !all {
                out = [0; 32];
            }
            warp.regs.put_pred(p, if all { FULL } else { 0 }, mask, defined);
        }
        warp.regs.put(op.d, &out, mask, defined);
        Flow::Next
    }

    pub(super) fn redux(&mut self, warp: &mut Warp, index: usize, at: &At, mask: u32, op: &Redux) -> Flow {
        let mask = match self.gather_members(warp, index, at, mask, op.members) {
            Ok(mask) => mask,
            Err(flow) => return flow,
        };
        let row = *warp.regs.r(op.a);
        let mut values = lanes_of(mask).map(|lane| row[lane]);
        let Some(first) = values.next() else { return Flow::Next };
        let result = match op.op {
            ReduxOp::Add => values.fold(first, u32::wrapping_add),
            ReduxOp::MinU => values.fold(first, u32::min),
            ReduxOp::MaxU => values.fold(first, u32::max),
            ReduxOp::MinS => values.fold(first, |a, b| (a as i32).min(b as i32) as u32),
            ReduxOp::MaxS => values.fold(first, |a, b| (a as i32).max(b as i32) as u32),
            ReduxOp::And => values.fold(first, |a, b| a & b),
            ReduxOp::Or => values.fold(first, |a, b| a | b),
            ReduxOp::Xor => values.fold(first, |a, b| a ^ b),
            ReduxOp::FMin { abs, nan } | ReduxOp::FMax { abs, nan } => {
                let max = matches!(op.op, ReduxOp::FMax { .. });
                let f = match (max, nan) {
                    (false, false) => crate::lane::float::min::<false, false, false>,
                    (false, true) => crate::lane::float::min::<false, true, false>,
                    (true, false) => crate::lane::float::max::<false, false, false>,
                    (true, true) => crate::lane::float::max::<false, true, false>,
                };
                let sign = if abs { 0x7fff_ffff } else { FULL };
                values.fold(first & sign, |a, b| f(a, b & sign))
            }
        };
        let defined = if mask & !warp.regs.rdef(op.a) == 0 { FULL } else { 0 };
        warp.regs.put(op.d, &[result; 32], mask, defined);
        Flow::Next
    }

    pub(super) fn elect(&mut self, warp: &mut Warp, index: usize, at: &At, mask: u32, op: &Elect) -> Flow {
        let mask = match self.gather_members(warp, index, at, mask, op.members) {
            Ok(mask) => mask,
            Err(flow) => return flow,
        };
        // Which lane wins is not specified; the lowest is what programs see.
        let leader = mask.trailing_zeros();
        warp.regs.put(op.d, &[leader; 32], mask, FULL);
        warp.regs.put_pred(op.p, 1 << leader, mask, FULL);
        Flow::Next
    }
}
