//! A cluster of blocks, all of whose warps take turns on one thread.

use super::cta::Cta;
use super::machine::{Dice, Machine, unflatten};
use super::printf::Printed;
use super::probe::Probe;
use super::queue::{OpId, Queue};
use super::warp::{State, Wait};
use crate::check::{Checker, How};
use crate::finding::{Finding, FindingKind, Findings, OtherSide, Severity, Thread};
use crate::tensor::panel::Panel;
use std::collections::VecDeque;

/// The instruction somebody executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    pub cta: usize,
    pub warp: usize,
    pub pc: u32,
}

/// Something that may let blocked splits go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A phase of an mbarrier completed.
    Phase { cta: usize, offset: u32 },
    /// A named barrier completed, with the results of its reduction.
    Bar { cta: usize, id: u8, popc: u32, all: bool, any: bool },
    /// The cluster barrier completed.
    ClusterBarrier,
    /// An asynchronous operation happened.
    Delivered,
    /// Registers went back to a block's pool.
    Registers { cta: usize },
    /// All four warps of a warpgroup are at a `wgmma`.
    Wgmma { cta: usize, first_warp: usize },
}

/// How far a cluster got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Nothing can move without another cluster.
    Stuck,
    /// Warps run, but only poll memory.
    Polling,
    /// The turn is over.
    Running,
}

/// Warp instructions a warp executes before the next one has its turn.
const QUANTUM: u32 = 512;
/// Polls without any progress in the cluster before it counts as stuck.
const IDLE_POLLS: u64 = 4_000;
/// Such polls before another cluster, if there are several, has its turn.
const POLL_TURN: u64 = 256;

pub struct Cluster<'a> {
    pub m: &'a Machine<'a>,
    pub ctas: Vec<Cta>,
    pub ready: VecDeque<(u32, u32)>,
    pub queue: Queue<'a>,
    pub events: Vec<Event>,
    pub findings: Findings,
    pub probe: Probe,
    /// Looks for races, if checks are on.
    pub check: Option<Box<Checker>>,
    /// Clusters on other threads may touch the same global memory.
    pub sees_others: bool,
    /// The asynchronous operation whose effects happen at the moment.
    pub acting: Option<(OpId, How)>,
    /// Warp instructions executed.
    pub clock: u64,
    /// Counts whatever may end somebody's wait.
    pub progress: u64,
    pub idle_polls: u64,
    /// `idle_polls` at the last turn that ended because of them.
    yielded_at: u64,
    pub barrier_phase: u64,
    pub barrier_arrived: u32,
    /// A finding that ends the run.
    pub fatal: bool,
    dice: Dice,
    /// Value of `progress` when blocking waits were last told to time out, and how often since.
    timeouts: (u64, u32),
    pub panels: [Panel; 2],
    pub printed: Vec<Printed>,
    /// Calls of `printf` that were not kept.
    pub left_out: u64,
}

impl<'a> Cluster<'a> {
    pub fn new(m: &'a Machine<'a>, index: u32, check: Option<Box<Checker>>) -> Self {
        let place = unflatten(index, m.clusters());
        let ctas = (0..m.cluster_size())
            .map(|rank| {
                let coords = unflatten(rank, m.cluster);
                let id = m.block_of(index, rank);
                Cta::new(m, id, rank, place, coords)
            })
            .collect::<Vec<_>>();
        let mut cluster = Cluster {
            m,
            ctas,
            ready: VecDeque::new(),
            queue: Queue::default(),
            events: Vec::new(),
            findings: Findings::default(),
            probe: Probe::default(),
            sees_others: check.as_ref().is_some_and(|check| check.sees_others()),
            check,
            acting: None,
            clock: 0,
            progress: 0,
            idle_polls: 0,
            yielded_at: 0,
            barrier_phase: 0,
            barrier_arrived: 0,
            fatal: false,
            dice: Dice::new(m.schedule.seed ^ (u64::from(index) << 32)),
            timeouts: (u64::MAX, 0),
            panels: std::array::from_fn(|_| Panel::reading_as(m.arithmetic.reading())),
            printed: Vec::new(),
            left_out: 0,
        };
        for cta in 0..cluster.ctas.len() {
            for warp in 0..cluster.ctas[cta].warps.len() {
                cluster.enqueue(cta, warp);
            }
        }
        cluster
    }

    /// A number below `bound`, by the seed.
    pub(super) fn random(&mut self, bound: u64) -> u64 {
        self.dice.below(bound)
    }

    pub(super) fn progress(&mut self) {
        self.progress += 1;
        self.idle_polls = 0;
        self.yielded_at = 0;
    }

    /// Somebody outside of the cluster made progress.
    pub fn forget_polls(&mut self) {
        (self.idle_polls, self.yielded_at) = (0, 0);
    }

    fn enqueue(&mut self, cta: usize, warp: usize) {
        let queued = &mut self.ctas[cta].warps[warp].queued;
        if !*queued {
            *queued = true;
            self.ready.push_back((cta as u32, warp as u32));
        }
    }

    /// Runs until the cluster is done or stuck, or for about `turn` warp instructions.
    pub fn run(&mut self, turn: u64) -> Outcome {
        let end = self.clock.saturating_add(turn);
        loop {
            while let Some((cta, warp)) = self.pick() {
                self.run_warp(cta as usize, warp as usize);
                self.handle_events();
                if self.fatal {
                    return Outcome::Done;
                }
                if self.clock >= self.m.max_steps {
                    self.give_up();
                    return Outcome::Done;
                }
                if !self.queue.is_empty() && self.deliver(false) {
                    self.handle_events();
                }
                if self.idle_polls > IDLE_POLLS {
                    (self.idle_polls, self.yielded_at) = (0, 0);
                    // Spinning lanes may wait for lanes of their own warp.
                    if !self.release_parked(true) && self.queue.is_empty() {
                        return Outcome::Polling;
                    }
                    self.deliver(true);
                    self.handle_events();
                } else if self.m.together && self.idle_polls > self.yielded_at + POLL_TURN {
                    self.yielded_at = self.idle_polls;
                    return Outcome::Polling;
                }
                if self.clock >= end {
                    return Outcome::Running;
                }
            }
            if self.ctas.iter().all(|cta| cta.live_warps == 0) {
                while self.deliver(true) {}
                self.handle_events();
                self.finish();
                return Outcome::Done;
            }
            if self.deliver(true) {
                self.handle_events();
                continue;
            }
            if self.release_parked(false) || self.time_out() {
                continue;
            }
            return Outcome::Stuck;
        }
    }

    fn pick(&mut self) -> Option<(u32, u32)> {
        let picked = if self.m.schedule.round_robin {
            self.ready.pop_front()
        } else {
            let count = self.ready.len() as u64;
            let at = self.random(count) as usize;
            self.ready.swap_remove_back(at)
        };
        if let Some((cta, warp)) = picked {
            self.ctas[cta as usize].warps[warp as usize].queued = false;
        }
        picked
    }

    fn run_warp(&mut self, cta: usize, index: usize) {
        let quantum = if self.m.schedule.round_robin { QUANTUM } else { 1 + self.random(u64::from(QUANTUM)) as u32 };
        let mut left = quantum;
        // The warp moves out so that instructions can reach the rest of the cluster.
        let mut warp = std::mem::take(&mut self.ctas[cta].warps[index]);
        while left > 0 && !self.fatal {
            let Some(split) = warp.next_ready() else { break };
            warp.turn = split;
            self.run_split(&mut warp, split, cta, index, &mut left);
        }
        warp.turn = warp.turn.wrapping_add(1);
        let again = warp.splits.iter().any(|split| split.state == State::Ready);
        if warp.is_done() && !warp.exited {
            warp.exited = true;
            self.check_left_behind(&warp, cta, index);
            self.ctas[cta].live_warps -= 1;
            self.progress();
            self.ctas[cta].warps[index] = warp;
            self.warp_exited(cta);
            return;
        }
        self.ctas[cta].warps[index] = warp;
        if again {
            self.enqueue(cta, index);
        }
    }

    pub(super) fn handle_events(&mut self) {
        while let Some(event) = self.events.pop() {
            if let Event::Wgmma { cta, first_warp } = event {
                self.issue_wgmma(cta, first_warp);
                continue;
            }
            for cta in 0..self.ctas.len() {
                for warp in 0..self.ctas[cta].warps.len() {
                    if self.wake(cta, warp, event) {
                        self.enqueue(cta, warp);
                    }
                }
            }
        }
    }

    /// Lets splits of a warp go on that waited for `event`.
    fn wake(&mut self, cta: usize, index: usize, event: Event) -> bool {
        let warp = &mut self.ctas[cta].warps[index];
        let code = &self.m.kernel.code;
        let mut woken = false;
        for at in 0..warp.splits.len() {
            let split = &mut warp.splits[at];
            let State::Blocked(wait) = split.state else { continue };
            match (wait, event) {
                (Wait::MBarrier { offset }, Event::Phase { cta: where_, offset: which }) => {
                    if cta != where_ || offset != which {
                        continue;
                    }
                    split.retry = true;
                }
                (Wait::Bar { id }, Event::Bar { cta: where_, id: which, popc, all, any }) => {
                    if cta != where_ || id != which {
                        continue;
                    }
                    let (pc, mask) = (split.pc, split.mask);
                    split.pc += 1;
                    if let Some(check) = &mut self.check {
                        check.bar_pass(cta, index, id.into());
                    }
                    super::barriers::write_reduction(&mut warp.regs, &code[pc as usize].op, mask, (popc, all, any));
                }
                (Wait::Cluster { phase }, Event::ClusterBarrier) => {
                    if self.barrier_phase <= phase {
                        continue;
                    }
                    split.retry = true;
                }
                (Wait::Groups, Event::Delivered) => split.retry = true,
                (Wait::Registers { .. }, Event::Registers { cta: where_ }) if cta == where_ => split.retry = true,
                _ => continue,
            }
            warp.splits[at].state = State::Ready;
            woken = true;
        }
        woken
    }

    /// Lets parked lanes go, of all warps or of those that spin.
    fn release_parked(&mut self, spinning_only: bool) -> bool {
        let mut released = false;
        for cta in 0..self.ctas.len() {
            for warp in 0..self.ctas[cta].warps.len() {
                let state = &mut self.ctas[cta].warps[warp];
                let spins = state.splits.iter().any(|split| split.state == State::Ready);
                if (spins || !spinning_only) && state.release_parked() {
                    released = true;
                    self.enqueue(cta, warp);
                }
            }
        }
        released
    }

    /// Potentially blocking waits return false, once for each bit of progress: their time limit is up.
    fn time_out(&mut self) -> bool {
        if self.timeouts.0 == self.progress && self.timeouts.1 >= 2 {
            return false;
        }
        let again = if self.timeouts.0 == self.progress { self.timeouts.1 + 1 } else { 0 };
        self.timeouts = (self.progress, again);
        let mut any = false;
        for cta in 0..self.ctas.len() {
            for index in 0..self.ctas[cta].warps.len() {
                let mut woken = false;
                for split in &mut self.ctas[cta].warps[index].splits {
                    if matches!(split.state, State::Blocked(Wait::MBarrier { .. })) {
                        split.state = State::Ready;
                        split.timed_out = true;
                        split.retry = true;
                        woken = true;
                    }
                }
                if woken {
                    self.enqueue(cta, index);
                    any = true;
                }
            }
        }
        any
    }

    /// Who an instruction's finding is about.
    pub(super) fn thread(&self, at: &At, lanes: u32) -> Thread {
        let first = at.warp as u32 * 32 + lanes.trailing_zeros().min(31);
        Thread { block: self.ctas[at.cta].id, warp: at.warp as u32, lanes, tid: self.m.tid(first) }
    }

    #[cold]
    pub(super) fn report(
        &mut self,
        kind: FindingKind,
        at: &At,
        lanes: u32,
        address: Option<u64>,
        message: impl FnOnce() -> String,
    ) {
        self.report_full(kind, Severity::Error, at, lanes, address, None, None, message);
    }

    #[cold]
    pub(super) fn report_full(
        &mut self,
        kind: FindingKind,
        severity: Severity,
        at: &At,
        lanes: u32,
        address: Option<u64>,
        other: Option<OtherSide>,
        help: Option<String>,
        message: impl FnOnce() -> String,
    ) {
        // What stops a kernel on a device is reported whatever is asked for.
        let stops = matches!(kind, FindingKind::Deadlock | FindingKind::Oob | FindingKind::Unsupported | FindingKind::Exit);
        if !self.m.checks && !stops {
            return;
        }
        let thread = self.thread(at, lanes);
        let line = self.line(at);
        let source = self.m.source(at.pc);
        self.findings.add(kind, line, || Finding {
            kind,
            severity,
            line,
            source,
            thread: Some(thread),
            address,
            message: message(),
            other,
            help,
            seed: self.m.schedule.seed,
            count: 1,
        });
    }

    /// How many findings there are, to tell whether something was found.
    pub(super) fn findings_count(&self) -> u64 {
        self.findings.total()
    }

    pub(super) fn line(&self, at: &At) -> u32 {
        self.m.kernel.code.get(at.pc as usize).map_or(0, |inst| inst.line)
    }
}
