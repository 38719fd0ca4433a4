//! What is wrong when nothing moves, and what is left behind at the end.

use super::cluster::{At, Cluster};
use super::warp::{State, Wait, Warp};
use crate::finding::{FindingKind, Severity};
use crate::memory::space::RESERVED_SHARED;
use std::fmt::Write;

/// Lines of the waiting map that are shown.
const SHOWN: usize = 48;

impl Cluster<'_> {
    pub(super) fn requeue(&mut self, cta: usize, warp: usize) {
        let queued = &mut self.ctas[cta].warps[warp].queued;
        if !*queued {
            *queued = true;
            self.ready.push_back((cta as u32, warp as u32));
        }
    }

    /// Reports who waits for what.
    pub fn report_deadlock(&mut self) {
        let mut first: Option<(At, u32)> = None;
        let mut lines = Vec::new();
        for (cta_index, cta) in self.ctas.iter().enumerate() {
            for (index, warp) in cta.warps.iter().enumerate() {
                for split in &warp.splits {
                    let (pc, what) = match split.state {
                        State::Ready => (warp.polls_at, "spins".to_string()),
                        State::Blocked(wait) => (split.pc, self.describe_wait(cta_index, wait)),
                    };
                    let at = At { cta: cta_index, warp: index, pc };
                    if first.is_none() {
                        first = Some((at, split.mask));
                    }
                    lines.push(format!(
                        "block {:?} warp {index} lanes {:#010x} line {}: {what}",
                        cta.id,
                        split.mask,
                        self.line(&at)
                    ));
                }
                for join in warp.joins.iter().filter(|join| join.arrived != 0) {
                    let at = At { cta: cta_index, warp: index, pc: join.pc };
                    lines.push(format!(
                        "block {:?} warp {index} lanes {:#010x} line {}: waits for lanes {:#010x} to come back",
                        cta.id,
                        join.arrived,
                        self.line(&at),
                        join.pending
                    ));
                }
            }
        }
        let Some((at, lanes)) = first else { return };
        let more = lines.len().saturating_sub(SHOWN);
        lines.truncate(SHOWN);
        let mut message = String::from("no thread can go on:");
        for line in &lines {
            let _ = write!(message, "\n  {line}");
        }
        if more > 0 {
            let _ = write!(message, "\n  and {more} more");
        }
        self.report(FindingKind::Deadlock, &at, lanes, None, || message);
        self.fatal = true;
    }

    fn describe_wait(&self, cta: usize, wait: Wait) -> String {
        match wait {
            Wait::MBarrier { offset } => match self.ctas[cta].mbarriers.get(&offset) {
                Some(barrier) => format!(
                    "waits for the mbarrier at shared offset {}: phase {}, {} of {} arrivals and {} bytes missing",
                    offset - RESERVED_SHARED,
                    barrier.phase,
                    barrier.pending,
                    barrier.expected,
                    barrier.tx
                ),
                None => format!("waits for an mbarrier at shared offset {} that is gone", offset - RESERVED_SHARED),
            },
            Wait::Bar { id } => {
                let bar = &self.ctas[cta].bars[id as usize];
                let expected = bar.count.unwrap_or(self.ctas[cta].live_warps * 32);
                let missing: Vec<usize> = (0..self.ctas[cta].warps.len()).filter(|warp| (bar.warps >> warp) & 1 == 0).collect();
                format!("waits at barrier {id}: {} of {expected} threads are there, not warps {missing:?}", bar.arrived)
            }
            Wait::Lanes { members } => format!("waits for lanes {members:#010x} of its warp at this instruction"),
            Wait::Cluster { phase } => format!(
                "waits at the cluster barrier, phase {phase}: {} of {} threads are there",
                self.barrier_arrived,
                self.ctas.iter().flat_map(|cta| &cta.warps).map(|warp| warp.live.count_ones()).sum::<u32>()
            ),
            Wait::Groups => format!("waits for copies or wgmma; {} are outstanding", self.queue.describe()),
            Wait::Wgmma => "waits for the other warps of its warpgroup at this wgmma".into(),
            Wait::Registers { registers } => {
                format!("waits for {registers} more registers a thread, the pool has {}", self.ctas[cta].free_registers)
            }
        }
    }

    /// The step limit was reached.
    pub(super) fn give_up(&mut self) {
        let steps = self.m.max_steps;
        let place = self.ctas.iter().enumerate().find_map(|(cta, block)| {
            block.warps.iter().enumerate().find_map(|(warp, state)| {
                let split = state.splits.first()?;
                Some((At { cta, warp, pc: split.pc }, split.mask))
            })
        });
        if let Some((at, lanes)) = place {
            self.report(FindingKind::Deadlock, &at, lanes, None, || {
                format!("gave up after {steps} warp instructions in one cluster")
            });
        }
        self.fatal = true;
    }

    /// A warp is gone, and with it whoever could wait for its copies: shared memory may go before they have read it.
    pub(super) fn check_left_behind(&mut self, warp: &Warp, cta: usize, index: usize) {
        if self.check.is_none() {
            return;
        }
        let left = [
            (warp.bulk.unread(), Severity::Error, "a bulk copy that reads shared memory", "cp.async.bulk.wait_group.read 0"),
            // Nobody can miss what it brings any more.
            (warp.cp_async.unread(), Severity::Lint, "cp.async", "cp.async.wait_all"),
            (warp.wgmma.unread(), Severity::Error, "wgmma", "wgmma.wait_group.sync.aligned 0"),
        ];
        for (op, severity, what, wait) in left {
            let Some(op) = op else { continue };
            let at = At { cta, warp: index, pc: op.pc };
            let help = Some(format!("wait with {wait} before the threads that issued it exit"));
            self.report_full(FindingKind::Exit, severity, &at, op.lanes, None, None, help, || {
                format!("the warp exits without having waited for {what}, issued here")
            });
        }
    }

    /// All blocks are done and all copies delivered: what the mbarriers still expect never came.
    pub(super) fn finish(&mut self) {
        let last = self.m.kernel.code.len() as u32 - 1;
        for cta in 0..self.ctas.len() {
            let mut left: Vec<(u32, i64)> = self.ctas[cta]
                .mbarriers
                .iter()
                .filter(|(_, barrier)| barrier.tx != 0)
                .map(|(offset, barrier)| (*offset, barrier.tx))
                .collect();
            left.sort_unstable();
            let mut halves: Vec<(u32, u32, u32)> = self.ctas[cta]
                .mbarriers
                .iter()
                .filter(|(_, barrier)| barrier.tx == 0 && barrier.pending < barrier.expected && barrier.phase > 0)
                .map(|(offset, barrier)| (*offset, barrier.expected - barrier.pending, barrier.expected))
                .collect();
            halves.sort_unstable();
            for (offset, arrived, expected) in halves {
                let at = At { cta, warp: 0, pc: last };
                let help = Some("check the count that mbarrier.init gives against the threads that arrive".into());
                let kind = FindingKind::Mbarrier;
                self.report_full(kind, Severity::Lint, &at, 1, Some(offset.into()), None, help, || {
                    let place = offset - RESERVED_SHARED;
                    format!(
                        "the kernel ends in the middle of a phase of the mbarrier at shared offset {place}: {arrived} of \
                         {expected} arrivals"
                    )
                });
            }
            for (offset, tx) in left {
                let at = At { cta, warp: 0, pc: last };
                self.report(FindingKind::Tx, &at, 1, Some(offset.into()), || {
                    let place = offset - RESERVED_SHARED;
                    if tx > 0 {
                        format!("the kernel ends while the mbarrier at shared offset {place} still expects {tx} bytes")
                    } else {
                        let more = -tx;
                        format!("{more} more bytes arrived at the mbarrier at shared offset {place} than were expected")
                    }
                });
            }
        }
    }
}
