//! Named barriers and the cluster barrier.

use super::cluster::{At, Cluster, Event};
use super::regs::{FULL, Regs};
use super::step::Flow;
use super::warp::{State, Wait, Warp};
use crate::finding::FindingKind;
use crate::program::Op;
use crate::program::sync_op::{Bar, BarMode};

/// Writes what `barrier.red` returns.
pub(super) fn write_reduction(regs: &mut Regs, op: &Op, mask: u32, (popc, all, any): (u32, bool, bool)) {
    let Op::Bar(bar) = op else { return };
    let spread = |bit: bool| if bit { FULL } else { 0 };
    match bar.mode {
        BarMode::RedPopc(d) => regs.put(d, &[popc; 32], mask, FULL),
        BarMode::RedAnd(d) => regs.put_pred(d, spread(all), mask, FULL),
        BarMode::RedOr(d) => regs.put_pred(d, spread(any), mask, FULL),
        BarMode::Sync | BarMode::Arrive => {}
    }
}

impl Cluster<'_> {
    /// The value of an operand that must be the same in all lanes.
    fn uniform(&mut self, warp: &Warp, at: &At, mask: u32, reg: crate::program::R, what: &str) -> Option<u32> {
        let undefined = mask & !warp.regs.rdef(reg);
        if undefined != 0 {
            self.report(FindingKind::Uninit, at, undefined, None, || format!("{what} is undefined"));
        }
        let row = warp.regs.r(reg);
        let value = row[mask.trailing_zeros() as usize & 31];
        if super::access::lanes_of(mask).any(|lane| row[lane] != value) {
            self.report(FindingKind::Barrier, at, mask, None, || format!("{what} differs between lanes"));
            return None;
        }
        Some(value)
    }

    pub(super) fn bar(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &Bar) -> Flow {
        let Some(id) = self.uniform(warp, at, mask, op.id, "barrier number") else {
            self.fatal = true;
            return Flow::Ended;
        };
        if id > 15 {
            self.report(FindingKind::Barrier, at, mask, None, || format!("barrier {id} does not exist: there are 0 to 15"));
            self.fatal = true;
            return Flow::Ended;
        }
        let count = match op.count {
            None => None,
            Some(reg) => {
                let Some(count) = self.uniform(warp, at, mask, reg, "barrier thread count") else {
                    self.fatal = true;
                    return Flow::Ended;
                };
                let most = self.m.warps() * 32;
                if count == 0 || count % 32 != 0 || count > most {
                    self.report(FindingKind::Barrier, at, mask, None, || {
                        format!("thread count {count} of barrier {id} is not a multiple of 32 up to the block's {most}")
                    });
                    self.fatal = true;
                    return Flow::Ended;
                }
                Some(count)
            }
        };
        if op.aligned {
            self.check_aligned(warp, at, mask, "an aligned barrier");
        }
        let bar = &mut self.ctas[at.cta].bars[id as usize];
        let fresh = bar.warps == 0;
        if !fresh && bar.count != count {
            let before = bar.count;
            self.report(FindingKind::Barrier, at, mask, None, || {
                let show = |count: Option<u32>| count.map_or("all".to_string(), |count| count.to_string());
                format!("barrier {id} is used for {} threads while others wait for {}", show(count), show(before))
            });
        }
        let early = self.check.as_mut().and_then(|check| check.bar_arrive(at.cta, at.warp, id as usize));
        if let Some(other) = early {
            self.report(FindingKind::Barrier, at, mask, None, || {
                format!(
                    "arrives at barrier {id}, but nothing puts this after the arrival of warp {other} at the use of it before: \
                     the two may count together"
                )
            });
        }
        let bar = &mut self.ctas[at.cta].bars[id as usize];
        if fresh {
            bar.count = count;
            (bar.popc, bar.all, bar.any) = (0, true, false);
        }
        let bits = warp.regs.pred(op.a) & mask;
        bar.popc += bits.count_ones();
        bar.all &= bits == mask;
        bar.any |= bits != 0;
        warp.bar_lanes[id as usize] |= mask;
        let waits = op.mode != BarMode::Arrive;
        // The warp arrives as a whole: its lanes may come one split at a time.
        if warp.bar_lanes[id as usize] & warp.live == warp.live {
            warp.bar_lanes[id as usize] = 0;
            self.warp_arrives(at, mask, id);
        }
        self.progress();
        if !waits {
            return Flow::Next;
        }
        Flow::Block(Wait::Bar { id: id as u8 })
    }

    fn warp_arrives(&mut self, at: &At, mask: u32, id: u32) {
        let bar = &mut self.ctas[at.cta].bars[id as usize];
        if (bar.warps >> at.warp) & 1 == 1 {
            self.report(FindingKind::Barrier, at, mask, None, || {
                format!("the warp arrives at barrier {id} again before its phase is over")
            });
            return;
        }
        bar.warps |= 1 << at.warp;
        bar.arrived += 32;
        self.check_bar(at.cta, id);
    }

    fn check_bar(&mut self, cta: usize, id: u32) {
        let live = self.ctas[cta].live_warps * 32;
        let bar = &mut self.ctas[cta].bars[id as usize];
        // Without a count, warps that have exited are not waited for.
        let expected = bar.count.unwrap_or(live);
        if bar.warps == 0 || bar.arrived < expected {
            return;
        }
        let event = Event::Bar { cta, id: id as u8, popc: bar.popc, all: bar.all, any: bar.any };
        *bar = Default::default();
        if let Some(check) = &mut self.check {
            check.bar_complete(cta, id as usize);
        }
        self.events.push(event);
    }

    /// Lanes exited: barriers may have been waiting for them only.
    pub(super) fn lanes_exited(&mut self, warp: &mut Warp, at: &At, lanes: u32) {
        if warp.live != 0 {
            for id in 0..16 {
                let here = warp.bar_lanes[id];
                if here != 0 && here & warp.live == warp.live {
                    warp.bar_lanes[id] = 0;
                    self.warp_arrives(at, here, id as u32);
                }
            }
        }
        // Member masks may have named them.
        for split in &mut warp.splits {
            if matches!(split.state, State::Blocked(Wait::Lanes { .. })) {
                split.state = State::Ready;
                split.retry = true;
            }
        }
        let waiting = warp.cluster_arrived & lanes;
        if waiting != 0 && warp.cluster_phase == self.barrier_phase {
            self.barrier_arrived -= waiting.count_ones();
        }
        warp.cluster_arrived &= !lanes;
        self.check_cluster_barrier_without(warp.live.count_ones(), at);
    }

    /// After a warp's last lane is gone.
    pub(super) fn warp_exited(&mut self, cta: usize) {
        for id in 0..16 {
            if self.ctas[cta].bars[id].count.is_none() {
                self.check_bar(cta, id as u32);
            }
        }
        self.events.push(Event::Registers { cta });
    }

    /// Live threads of the cluster; the running warp, which is out of its place, has `own` of them.
    fn live_threads(&self, own: u32) -> u32 {
        let others = self.ctas.iter().flat_map(|cta| &cta.warps).map(|warp| warp.live.count_ones()).sum::<u32>();
        others + own
    }

    fn check_cluster_barrier_without(&mut self, own: u32, _at: &At) {
        if self.barrier_arrived != 0 && self.barrier_arrived >= self.live_threads(own) {
            self.barrier_arrived = 0;
            self.barrier_phase += 1;
            if let Some(check) = &mut self.check {
                check.cluster_complete();
            }
            self.events.push(Event::ClusterBarrier);
        }
    }

    pub(super) fn cluster_arrive(&mut self, warp: &mut Warp, at: &At, mask: u32, aligned: bool, relaxed: bool) -> Flow {
        if aligned {
            self.check_aligned(warp, at, mask, "barrier.cluster.arrive.aligned");
        }
        let again = mask & warp.cluster_arrived;
        if again != 0 {
            self.report(FindingKind::Barrier, at, again, None, || {
                "barrier.cluster.arrive twice without barrier.cluster.wait between".into()
            });
        }
        let fresh = mask & !warp.cluster_arrived;
        if let Some(check) = &mut self.check {
            check.cluster_arrive(at.cta, at.warp, relaxed);
        }
        warp.cluster_arrived |= fresh;
        if fresh != 0 {
            warp.cluster_phase = self.barrier_phase;
        }
        self.barrier_arrived += fresh.count_ones();
        self.progress();
        self.check_cluster_barrier_without(warp.live.count_ones(), at);
        Flow::Next
    }

    pub(super) fn cluster_wait(&mut self, warp: &mut Warp, at: &At, mask: u32, aligned: bool) -> Flow {
        if aligned {
            self.check_aligned(warp, at, mask, "barrier.cluster.wait.aligned");
        }
        if mask & !warp.cluster_arrived != 0 {
            let lanes = mask & !warp.cluster_arrived;
            self.report(FindingKind::Barrier, at, lanes, None, || {
                "barrier.cluster.wait without barrier.cluster.arrive before".into()
            });
            warp.cluster_arrived &= !mask;
            return Flow::Next;
        }
        if self.barrier_phase <= warp.cluster_phase {
            return Flow::Block(Wait::Cluster { phase: warp.cluster_phase });
        }
        warp.cluster_arrived &= !mask;
        if let Some(check) = &mut self.check {
            check.cluster_pass(at.cta, at.warp);
        }
        Flow::Next
    }
}
