//! The mbarrier instructions.

use super::access::{SharedAt, lanes_of};
use super::cluster::{At, Cluster, Event};
use super::mbarrier::{MBarrier as Object, Misuse};
use super::observe::strength;
use super::queue::{Action, BarrierAt};
use super::regs::FULL;
use super::step::Flow;
use super::warp::{Groups, Wait, Warp};
use crate::check::{GroupKind, Token};
use crate::finding::FindingKind;
use crate::memory::space::{CTA_SHIFT, Target};
use crate::parse::ast::Space;
use crate::program::memory_op::Order;
use crate::program::sync_op::{MBarrier, MBarrierKind, MBarrierWait};
use crate::program::{D, P, R};

impl Cluster<'_> {
    /// Where an mbarrier operand points; `remote` operations may reach other blocks of the cluster.
    pub(super) fn barrier_place(&mut self, at: &At, lanes: u32, space: Space, address: u64, remote: bool) -> Option<SharedAt> {
        let address = match space {
            Space::Generic => match self.target(space, address) {
                Target::Shared(address) => u64::from(address),
                _ => {
                    self.report(FindingKind::Mbarrier, at, lanes, Some(address), || {
                        format!("{address:#x} is not in shared memory, where mbarriers live")
                    });
                    return None;
                }
            },
            _ => address,
        };
        self.shared_at(at, lanes, address, 8, 8, !remote || space == Space::Shared)
    }

    /// Runs `act` on the mbarrier at a place, reports misuse, and wakes waiters if the phase completed.
    pub(super) fn with_mbarrier(
        &mut self,
        at: &At,
        lanes: u32,
        place: SharedAt,
        act: impl FnOnce(&mut Object) -> Result<bool, Misuse>,
    ) {
        let SharedAt { cta, offset } = place;
        let address = u64::from(offset) + ((cta as u64) << CTA_SHIFT);
        let Some(barrier) = self.ctas[cta].mbarriers.get_mut(&offset) else {
            self.report(FindingKind::Mbarrier, at, lanes, Some(address), || {
                format!("no mbarrier was initialised at shared address {address:#x}")
            });
            return;
        };
        match act(barrier) {
            Ok(true) => {
                self.check_lapped(at, lanes, place);
                if let Some(check) = &mut self.check {
                    check.phase_complete((cta, offset));
                }
                self.events.push(Event::Phase { cta, offset });
            }
            Ok(false) => {}
            Err(misuse) => {
                let kind = if matches!(misuse, Misuse::TxRange { .. }) { FindingKind::Tx } else { FindingKind::Mbarrier };
                self.report(kind, at, lanes, Some(address), || format!("mbarrier at {address:#x}: {misuse}"));
            }
        }
        self.progress();
    }

    /// A phase completed: nobody can tell it from the one before unless somebody saw that one.
    fn check_lapped(&mut self, at: &At, lanes: u32, SharedAt { cta, offset }: SharedAt) {
        let Some(barrier) = self.ctas[cta].mbarriers.get(&offset).copied() else { return };
        if barrier.seen + 1 >= barrier.phase {
            return;
        }
        if let Some(barrier) = self.ctas[cta].mbarriers.get_mut(&offset) {
            barrier.seen = barrier.phase;
        }
        let address = u64::from(offset) + ((cta as u64) << CTA_SHIFT);
        self.report(FindingKind::Mbarrier, at, lanes, Some(address), || {
            let (this, before) = (barrier.phase - 1, barrier.phase - 2);
            format!("phase {this} of the mbarrier at {address:#x} completes before any thread saw phase {before} complete")
        });
    }

    pub(super) fn complete_tx(&mut self, at: &At, (cta, offset): BarrierAt, bytes: u32) {
        if bytes == 0 {
            return;
        }
        if self.ctas[cta].live_warps == 0 {
            self.report(FindingKind::Exit, at, 1, Some(offset.into()), || {
                format!("{bytes} bytes arrive in block rank {cta} after it has exited")
            });
            return;
        }
        self.observe_mbarrier(at, (cta, offset));
        if let (Some(check), Some((id, _))) = (&mut self.check, self.acting) {
            check.arrive_op(id, (cta, offset));
        }
        self.with_mbarrier(at, 1, SharedAt { cta, offset }, |barrier| barrier.complete_tx(bytes));
    }

    pub(super) fn mbarrier(&mut self, warp: &mut Warp, index: usize, at: &At, mask: u32, op: &MBarrier) -> Flow {
        if let MBarrierKind::PendingCount { d, state } = op.kind {
            let out = warp.regs.q(state).map(Object::pending_of_state);
            let defined = warp.regs.qdef(state);
            warp.regs.put(d, &out, mask, defined);
            return Flow::Next;
        }
        let addresses = self.addresses(warp, at, mask, &op.addr);
        match op.kind {
            MBarrierKind::Wait { d, on, may_block } => {
                let timed_out = std::mem::take(&mut warp.splits[index].timed_out);
                self.mbarrier_wait(warp, at, (addresses.lanes, &addresses.of), op, (d, on), may_block && !timed_out)
            }
            kind => {
                for lane in lanes_of(addresses.lanes) {
                    self.mbarrier_lane(warp, at, lane, addresses.of[lane], op, kind);
                }
                Flow::Next
            }
        }
    }

    fn value(&mut self, warp: &Warp, at: &At, lane: usize, reg: R, what: &str) -> u32 {
        if (warp.regs.rdef(reg) >> lane) & 1 == 0 {
            self.report(FindingKind::Uninit, at, 1 << lane, None, || format!("{what} is undefined"));
        }
        warp.regs.r(reg)[lane]
    }

    fn mbarrier_lane(&mut self, warp: &mut Warp, at: &At, lane: usize, address: u64, op: &MBarrier, kind: MBarrierKind) {
        let lanes = 1 << lane;
        let remote = !matches!(kind, MBarrierKind::Init { .. } | MBarrierKind::Inval | MBarrierKind::CpAsyncArrive { .. });
        let Some(place) = self.barrier_place(at, lanes, op.space, address, remote) else { return };
        if !matches!(kind, MBarrierKind::Init { .. } | MBarrierKind::Inval) {
            self.observe_mbarrier(at, (place.cta, place.offset));
        }
        match kind {
            MBarrierKind::Init { count } => {
                let count = self.value(warp, at, lane, count, "mbarrier count");
                self.init_mbarrier(at, lanes, place, count);
            }
            MBarrierKind::Inval => {
                if self.ctas[place.cta].mbarriers.remove(&place.offset).is_none() {
                    self.report(FindingKind::Mbarrier, at, lanes, Some(address), || {
                        format!("mbarrier.inval at {address:#x}, where no mbarrier is")
                    });
                }
                self.progress();
            }
            MBarrierKind::ExpectTx { bytes } => {
                let bytes = self.value(warp, at, lane, bytes, "transaction count");
                self.with_mbarrier(at, lanes, place, |barrier| barrier.expect_tx(bytes).map(|()| false));
            }
            MBarrierKind::CompleteTx { bytes } => {
                let bytes = self.value(warp, at, lane, bytes, "transaction count");
                self.with_mbarrier(at, lanes, place, |barrier| barrier.complete_tx(bytes));
            }
            MBarrierKind::Arrive { state, count, drop, no_complete, expect } => {
                let count = count.map_or(1, |reg| self.value(warp, at, lane, reg, "arrival count"));
                let expect = expect.map(|reg| self.value(warp, at, lane, reg, "transaction count"));
                if let Some(check) = &mut self.check {
                    check.arrive(
                        at.cta,
                        at.warp,
                        (place.cta, place.offset),
                        op.order == Order::Relaxed,
                        strength(op.order, op.scope),
                    );
                }
                let mut token = 0;
                self.with_mbarrier(at, lanes, place, |barrier| {
                    token = barrier.state();
                    if let Some(bytes) = expect {
                        barrier.expect_tx(bytes)?;
                    }
                    match (drop, no_complete) {
                        (true, false) => barrier.arrive_drop(count),
                        (true, true) => barrier.arrive_drop_no_complete(count).map(|()| false),
                        (false, true) => barrier.arrive_no_complete(count).map(|()| false),
                        (false, false) => barrier.arrive(count),
                    }
                });
                if state != D::SINK {
                    warp.regs.q[state.0 as usize][lane] = token;
                    warp.regs.qd[state.0 as usize] |= lanes;
                }
            }
            MBarrierKind::CpAsyncArrive { no_inc } => {
                if !no_inc {
                    self.with_mbarrier(at, lanes, place, |barrier| barrier.expect_arrival(1).map(|()| false));
                }
                let mut due = warp.last_due;
                let copies = self.copies_under_way(warp, at);
                let action = Action::CpAsyncArrive { barrier: (place.cta, place.offset), lanes, copies };
                self.issue(*at, action, &mut due);
                warp.last_due = due;
            }
            MBarrierKind::Wait { .. } | MBarrierKind::PendingCount { .. } => {}
        }
    }

    /// What `cp.async.mbarrier.arrive` waits for: all copies of the warp that nobody waited for.
    fn copies_under_way(&mut self, warp: &mut Warp, at: &At) -> Vec<Token> {
        let Some(check) = &mut self.check else { return Vec::new() };
        // Later copies are not covered, so they must not look like the same operation.
        check.commit(GroupKind::CpAsync, at.cta, at.warp);
        let Groups { open, committed } = &mut warp.cp_async;
        let ops = committed.iter_mut().flat_map(|group| &mut group.ops).chain(&mut *open);
        let mut tokens: Vec<Token> = ops
            .filter_map(|op| {
                op.told = true;
                op.token
            })
            .collect();
        tokens.dedup();
        // Programs that only use mbarriers never close a group.
        if open.len() > 512 {
            open.drain(..256);
        }
        tokens
    }

    pub(super) fn perform_cp_async_arrive(&mut self, at: At, (cta, offset): BarrierAt, lanes: u32, copies: &[Token]) {
        if let Some(check) = &mut self.check {
            copies.iter().for_each(|token| check.arrive_token(*token, (cta, offset)));
        }
        self.with_mbarrier(&at, lanes, SharedAt { cta, offset }, |barrier| barrier.arrive(1));
    }

    fn init_mbarrier(&mut self, at: &At, lanes: u32, place: SharedAt, count: u32) {
        let cta = &mut self.ctas[place.cta];
        if let Some(live) = cta.mbarrier_at(place.offset, 8) {
            self.report(FindingKind::Mbarrier, at, lanes, Some(live.into()), || {
                format!("mbarrier.init over the live mbarrier at shared address {live:#x}: mbarrier.inval comes first")
            });
        }
        match Object::new(count) {
            Ok(object) => {
                let cta = &mut self.ctas[place.cta];
                cta.mbarriers.insert(place.offset, object);
                // Ordinary accesses find the object through these bytes counting as never written.
                cta.shared.mark(place.offset, 8, false);
                if let Some(check) = &mut self.check {
                    check.init_mbarrier(at.cta, at.warp, (place.cta, place.offset), at.pc);
                }
                self.report_hazards(lanes, None);
            }
            Err(misuse) => {
                self.report(FindingKind::Mbarrier, at, lanes, Some(place.offset.into()), || misuse.to_string());
            }
        }
        self.progress();
    }

    fn mbarrier_wait(
        &mut self,
        warp: &mut Warp,
        at: &At,
        (lanes, of): (u32, &[u64; 32]),
        op: &MBarrier,
        (d, on): (P, MBarrierWait),
        may_block: bool,
    ) -> Flow {
        self.probe.waits_at(at.pc);
        let mut done = 0;
        let mut waits_at: Option<Option<u32>> = None;
        let mut passed_last = None;
        for lane in lanes_of(lanes) {
            let Some(place) = self.barrier_place(at, 1 << lane, op.space, of[lane], false) else {
                // A wait that cannot be evaluated passes, or the thread would spin for ever.
                done |= 1 << lane;
                continue;
            };
            let Some(barrier) = self.ctas[place.cta].mbarriers.get(&place.offset).copied() else {
                self.report(FindingKind::Mbarrier, at, 1 << lane, Some(of[lane]), || {
                    format!("wait on {:#x}, where no mbarrier was initialised", of[lane])
                });
                done |= 1 << lane;
                continue;
            };
            let passed = match on {
                MBarrierWait::Parity(reg) => barrier.parity_done(self.value(warp, at, lane, reg, "phase parity")),
                MBarrierWait::State(reg) => {
                    if (warp.regs.qdef(reg) >> lane) & 1 == 0 {
                        self.report(FindingKind::Uninit, at, 1 << lane, None, || "phase token is undefined".into());
                    }
                    barrier.state_done(warp.regs.q(reg)[lane])
                }
            };
            if passed {
                done |= 1 << lane;
                if passed_last != Some(place.offset) {
                    passed_last = Some(place.offset);
                    if let Some(barrier) = self.ctas[place.cta].mbarriers.get_mut(&place.offset) {
                        barrier.seen = barrier.phase;
                    }
                    self.observe_mbarrier(at, (place.cta, place.offset));
                    if let Some(check) = &mut self.check {
                        check.pass(at.cta, at.warp, place.offset, op.order == Order::Relaxed, strength(op.order, op.scope));
                    }
                }
            } else {
                waits_at = Some(match waits_at {
                    None => Some(place.offset),
                    Some(Some(offset)) if offset == place.offset => Some(offset),
                    _ => None,
                });
            }
        }
        // Lanes that all wait for one barrier wait together; mixed results go back to the program.
        if let (Some(Some(offset)), true, 0) = (waits_at, may_block, done) {
            return Flow::Block(Wait::MBarrier { offset });
        }
        if waits_at.is_some() {
            self.poll(warp, at);
        }
        warp.regs.put_pred(d, done, lanes, FULL);
        Flow::Next
    }
}
