//! Runs a split: the hot loop, and everything it hands back.

use super::alu::{self, Why};
use super::cluster::{At, Cluster};
use super::regs::FULL;
use super::warp::{Groups, State, Wait, Warp};
use crate::check::GroupKind;
use crate::finding::FindingKind;
use crate::program::op::Clock;
use crate::program::{Guard, Op};

/// What an instruction did to its split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on with the next instruction.
    Next,
    /// Go on at another one.
    Jump(u32),
    /// Try this one again when the wait is over.
    Block(Wait),
    /// The split is gone, or is not this one any more.
    Ended,
}

impl<'a> Cluster<'a> {
    pub(super) fn run_split(&mut self, warp: &mut Warp, index: usize, cta: usize, warp_index: usize, left: &mut u32) {
        let kernel = self.m.kernel;
        loop {
            let split = warp.splits[index];
            let stop = warp.stop_of(&split);
            let ran = alu::run(&mut warp.regs, kernel, split.pc, split.mask, stop, *left);
            let count = ran.alu + ran.branches;
            self.clock += u64::from(count);
            self.probe.counters.warp_instructions += u64::from(count);
            self.probe.counters.alu += u64::from(ran.alu);
            self.probe.counters.control += u64::from(ran.branches);
            *left -= count;
            warp.splits[index].pc = ran.pc;
            let at = At { cta, warp: warp_index, pc: ran.pc };
            match ran.why {
                Why::Join => return warp.park(index),
                Why::Budget => return,
                Why::Held => self.touches_held(warp, &at, split.mask),
                Why::UndefinedGuard => {
                    if let Some(guard) = kernel.code[ran.pc as usize].guard {
                        self.undefined_guard(warp, guard, &at, split.mask);
                    }
                }
                Why::Engine => {
                    *left = left.saturating_sub(1);
                    match self.step(warp, index, &at) {
                        Flow::Next => warp.splits[index].pc = ran.pc + 1,
                        Flow::Jump(target) => warp.splits[index].pc = target,
                        Flow::Block(wait) => {
                            self.probe.counters.waits += 1;
                            warp.splits[index].state = State::Blocked(wait);
                            return;
                        }
                        Flow::Ended => return,
                    }
                    if self.fatal || *left == 0 {
                        return;
                    }
                }
            }
        }
    }

    fn undefined_guard(&mut self, warp: &mut Warp, guard: Guard, at: &At, mask: u32) {
        let lanes = mask & !warp.regs.pdef(guard.reg);
        let name = self.register_name(crate::program::Reg::P(guard.reg));
        self.report(FindingKind::Uninit, at, lanes, None, || format!("predicate {name} was never set"));
        // Once reported it counts as defined, so that one mistake is one finding.
        let value = warp.regs.p[guard.reg.0 as usize];
        warp.regs.put_pred(guard.reg, value, lanes, FULL);
    }

    pub(super) fn register_name(&self, reg: crate::program::Reg) -> String {
        let named = self.m.kernel.names.iter().find(|(slot, _)| *slot == reg);
        named.map_or_else(|| "operand".to_string(), |(_, name)| name.clone())
    }

    /// One instruction that is not a register-only one.
    fn step(&mut self, warp: &mut Warp, index: usize, at: &At) -> Flow {
        let inst = &self.m.kernel.code[at.pc as usize];
        let split = &mut warp.splits[index];
        let active = split.mask;
        if !std::mem::take(&mut split.retry) {
            self.clock += 1;
            self.count(&inst.op);
        }
        let mask = match inst.guard {
            None => active,
            Some(guard) => active & warp.regs.pred((guard.reg, guard.negated)),
        };
        if mask == 0 {
            return Flow::Next;
        }
        if gathers(&inst.op) {
            warp.meetings += 1;
        }
        match &inst.op {
            Op::Bra(target) => self.branch(warp, index, at, mask, *target),
            Op::Brx { index: selector, targets } => self.branch_table(warp, index, at, mask, *selector, targets),
            Op::Exit => self.exit(warp, index, at, mask),
            Op::Trap => self.trap(at, mask),
            Op::Call(op) => self.call(warp, index, at, mask, op),
            Op::Ret => self.ret(warp, index, at, mask),
            Op::LdFrame(op) => Self::ld_frame(warp, index, mask, op, self.m.kernel.local_bytes),
            Op::StFrame(op) => Self::st_frame(warp, index, mask, op, self.m.kernel.local_bytes),
            Op::Clock32(clock, d) => {
                let value = self.clock_value(*clock);
                warp.regs.put(*d, &[value as u32; 32], mask, FULL);
                Flow::Next
            }
            Op::Clock64(clock, d) => {
                let value = self.clock_value(*clock);
                warp.regs.put64(*d, &[value; 32], mask, FULL);
                Flow::Next
            }
            Op::Shfl(op) => self.shfl(warp, index, at, mask, op),
            Op::Vote(op) => self.vote(warp, index, at, mask, op),
            Op::Match(op) => self.match_lanes(warp, index, at, mask, op),
            Op::Redux(op) => self.redux(warp, index, at, mask, op),
            Op::Elect(op) => self.elect(warp, index, at, mask, op),
            Op::BarWarpSync(members) => self.warp_sync(warp, index, at, mask, *members),
            Op::LdParam(op) => self.ld_param(warp, mask, op),
            Op::Load(op) => self.load(warp, at, mask, op),
            Op::Store(op) => self.store(warp, at, mask, op),
            Op::Atom(op) => self.atom(warp, at, mask, op),
            Op::Prefetch(op) => self.prefetch(warp, at, mask, op),
            Op::CpAsync(op) => self.cp_async(warp, at, mask, op),
            Op::CpAsyncCommit => self.commit(&mut warp.cp_async, at, mask, GroupKind::CpAsync),
            Op::CpAsyncWait(pending) => self.cp_async_wait(warp, at, mask, *pending),
            Op::LdMatrix(op) => self.ldmatrix(warp, at, mask, op),
            Op::StMatrix(op) => self.stmatrix(warp, at, mask, op),
            Op::MovMatrix(d, a) => self.movmatrix(warp, at, mask, *d, *a),
            Op::AsyncStore(op) => self.async_store(warp, at, mask, op),
            Op::Bulk(op) => self.bulk(warp, at, mask, op),
            Op::Tma(op) => self.tma(warp, at, mask, op),
            Op::MapReplace(op) => self.replace_in_map(warp, at, mask, op),
            Op::MapCopy(op) => self.copy_map(warp, at, mask, op),
            Op::BulkCommit => self.commit(&mut warp.bulk, at, mask, GroupKind::Bulk),
            Op::BulkWait { pending, read } => self.bulk_wait(warp, at, mask, *pending, *read),
            Op::Bar(op) => self.bar(warp, at, mask, op),
            Op::ClusterArrive { aligned, relaxed } => self.cluster_arrive(warp, at, mask, *aligned, *relaxed),
            Op::ClusterWait { aligned } => self.cluster_wait(warp, at, mask, *aligned),
            Op::MBarrier(op) => self.mbarrier(warp, index, at, mask, op),
            Op::Fence(fence) => {
                self.observe_fence(at, *fence);
                Flow::Next
            }
            Op::SetMaxNReg { increase, registers } => self.set_max_registers(warp, at, mask, *increase, *registers),
            Op::Mma(op) => self.mma(warp, at, mask, op),
            Op::Wmma(op) => self.wmma(warp, at, mask, op),
            Op::WmmaMemory(op) => self.wmma_memory(warp, at, mask, op),
            Op::WgmmaFence => {
                self.check_aligned(warp, at, mask, "wgmma.fence");
                self.fence_wgmma(warp);
                Flow::Next
            }
            Op::Wgmma(_) => self.wgmma(warp, at, mask),
            Op::WgmmaCommit => {
                self.check_aligned(warp, at, mask, "wgmma.commit_group");
                warp.wgmma_groups.commit();
                self.commit(&mut warp.wgmma, at, mask, GroupKind::Wgmma)
            }
            Op::WgmmaWait(pending) => self.wgmma_wait(warp, at, mask, *pending),
            // The hot loop runs all others.
            _ => Flow::Next,
        }
    }

    fn commit(&mut self, groups: &mut Groups, at: &At, mask: u32, kind: GroupKind) -> Flow {
        if self.tracks_groups() {
            groups.commit(mask);
        }
        if let Some(check) = &mut self.check {
            check.commit(kind, at.cta, at.warp);
        }
        Flow::Next
    }

    fn count(&mut self, op: &Op) {
        let counters = &mut self.probe.counters;
        counters.warp_instructions += 1;
        let class = match op {
            Op::Bra(_) | Op::Brx { .. } | Op::Exit | Op::Trap | Op::Call(_) | Op::Ret => &mut counters.control,
            Op::LdParam(_)
            | Op::LdFrame(_)
            | Op::StFrame(_)
            | Op::Load(_)
            | Op::Store(_)
            | Op::Atom(_)
            | Op::Prefetch(_)
            | Op::MapReplace(_)
            | Op::MapCopy(_)
            | Op::LdMatrix(_)
            | Op::StMatrix(_)
            | Op::MovMatrix(..)
            | Op::WmmaMemory(_) => &mut counters.memory,
            Op::CpAsync(_)
            | Op::CpAsyncCommit
            | Op::CpAsyncWait(_)
            | Op::AsyncStore(_)
            | Op::Bulk(_)
            | Op::Tma(_)
            | Op::BulkCommit
            | Op::BulkWait { .. } => &mut counters.async_copy,
            Op::Mma(_) | Op::Wmma(_) | Op::Wgmma(_) => &mut counters.tensor,
            Op::Clock32(..) | Op::Clock64(..) => &mut counters.alu,
            _ => &mut counters.sync,
        };
        *class += 1;
    }

    fn clock_value(&self, clock: Clock) -> u64 {
        match clock {
            Clock::Cycles | Clock::Nanoseconds => self.clock,
            Clock::CyclesHigh | Clock::NanosecondsHigh => self.clock >> 32,
        }
    }

    /// A failed test that a spinning thread repeats until somebody else changes something.
    pub(super) fn poll(&mut self, warp: &mut Warp, at: &At) {
        self.idle_polls += 1;
        warp.polls_at = at.pc;
    }

    /// A read that may be such a test: it is if the same instruction read the same value from the same place before.
    pub(super) fn maybe_poll(&mut self, warp: &mut Warp, at: &At, address: u64, value: u128) {
        let mut key = u64::from(at.pc) ^ address.rotate_left(20) ^ (value as u64).rotate_left(41);
        key = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        if warp.polls.contains(&key) {
            self.poll(warp, at);
        } else {
            warp.polls.rotate_right(1);
            warp.polls[0] = key;
        }
    }

    /// Whether the whole warp executes an `.aligned` instruction; a finding otherwise.
    pub(super) fn check_aligned(&mut self, warp: &Warp, at: &At, mask: u32, what: &str) -> bool {
        let aligned = mask == warp.live;
        if !aligned && !warp.forced_apart {
            let missing = warp.live & !mask;
            self.report(FindingKind::Divergence, at, mask, None, || {
                format!("{what} must be executed by the whole warp, lanes {missing:#010x} are elsewhere")
            });
        }
        aligned
    }
}

/// Whether lanes meet at an instruction, beside those that name their members.
fn gathers(op: &Op) -> bool {
    matches!(
        op,
        Op::Bar(_)
            | Op::ClusterArrive { .. }
            | Op::ClusterWait { .. }
            | Op::MBarrier(_)
            | Op::Fence(_)
            | Op::MapCopy(_)
            | Op::LdMatrix(_)
            | Op::StMatrix(_)
            | Op::MovMatrix(..)
            | Op::Mma(_)
            | Op::Wmma(_)
            | Op::WmmaMemory(_)
            | Op::WgmmaFence
            | Op::Wgmma(_)
            | Op::WgmmaCommit
            | Op::WgmmaWait(_)
    )
}
