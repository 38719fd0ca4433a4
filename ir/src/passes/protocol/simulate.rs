//! Runs the traces of one cluster against the planned barriers.

use super::trace::{Agent, Event, Place};
use super::{Case, ProtocolError};
use crate::tile::{BarrierPlan, Kernel};
use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Who goes first, and when bytes land. Two extremes each: what holds at both ends of these holds between, since a
/// trace never chooses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    producers_first: bool,
    bytes_late: bool,
}

impl Order {
    pub(super) const ALL: [Order; 4] = [
        Order { producers_first: true, bytes_late: false },
        Order { producers_first: true, bytes_late: true },
        Order { producers_first: false, bytes_late: false },
        Order { producers_first: false, bytes_late: true },
    ];
}

/// An `mbarrier` (PTX ISA 9.7.13.15): completes a phase at zero pending arrivals and zero bytes.
#[derive(Clone, Copy, Debug)]
struct Barrier {
    phase: u64,
    expected: i64,
    pending: i64,
    tx: i64,
}

impl Barrier {
    fn new(expected: u32) -> Self {
        Barrier { phase: 0, expected: i64::from(expected), pending: i64::from(expected), tx: 0 }
    }

    /// False when more arrive than the phase expects.
    fn arrive(&mut self, count: i64) -> bool {
        self.pending -= count;
        let ok = self.pending >= 0;
        self.settle();
        ok
    }

    fn settle(&mut self) {
        if self.pending == 0 && self.tx == 0 {
            self.phase += 1;
            self.pending = self.expected;
        }
    }

    /// `try_wait.parity`.
    fn passed(&self, parity: u64) -> bool {
        self.phase & 1 != parity
    }
}

/// One stage of one CTA.
#[derive(Clone, Debug)]
struct Stage {
    full: Barrier,
    empty: Barrier,
    /// The use now in it, bytes landed, releases so far.
    filled: Option<u64>,
    landed: u32,
    released: u32,
}

/// Bytes on their way.
struct Flight {
    cta: usize,
    pipe: usize,
    ordinal: u64,
    bytes: u32,
}

#[derive(Default)]
struct Progress {
    at: usize,
    /// Arrived at the named barrier it waits for.
    arrived: bool,
    /// Generation of the named barrier it waits for.
    generation: u64,
    groups: VecDeque<Vec<Place>>,
}

#[derive(Default)]
struct Named {
    arrived: u32,
    generation: u64,
}

struct Sim<'a> {
    k: &'a Kernel,
    case: &'a Case,
    agents: &'a [Agent],
    stages: Vec<Vec<Vec<Stage>>>,
    named: FxHashMap<(u32, i64), Named>,
    flights: VecDeque<Flight>,
    late: bool,
}

/// Runs all agents to their end, or says why they cannot get there.
pub(super) fn run(k: &Kernel, case: &Case, agents: &[Agent], order: Order) -> Result<(), ProtocolError> {
    let stage = |b: &BarrierPlan| Stage {
        full: Barrier::new(b.full_arrivals),
        empty: Barrier::new(b.empty_arrivals),
        filled: None,
        landed: 0,
        released: 0,
    };
    let cta: Vec<Vec<Stage>> = k.barriers.iter().zip(&k.pipes).map(|(b, p)| vec![stage(b); p.stages as usize]).collect();
    let mut sim = Sim {
        k,
        case,
        agents,
        stages: vec![cta; k.cluster_size() as usize],
        named: FxHashMap::default(),
        flights: VecDeque::new(),
        late: order.bytes_late,
    };
    let mut progress: Vec<Progress> = agents.iter().map(|_| Progress::default()).collect();
    let mut turn: Vec<usize> = (0..agents.len()).collect();
    // Producers stand first in a kernel; consumers first means backwards.
    if !order.producers_first {
        turn.reverse();
    }
    loop {
        let mut moved = false;
        for &i in &turn {
            while progress[i].at < agents[i].events.len() && sim.step(i, &mut progress[i])? {
                moved = true;
                progress[i].at += 1;
                if !order.producers_first {
                    break;
                }
            }
        }
        if moved {
            continue;
        }
        if let Some(f) = sim.flights.pop_front() {
            sim.land(&f)?;
            continue;
        }
        break;
    }
    if progress.iter().zip(agents).any(|(p, a)| p.at < a.events.len()) {
        return Err(sim.stuck(&progress));
    }
    sim.leftovers(&progress)
}

impl Sim<'_> {
    fn depth(&self, pipe: usize) -> u64 {
        u64::from(self.k.pipes[pipe].stages)
    }

    fn stage(&mut self, cta: usize, pipe: usize, ordinal: u64) -> &mut Stage {
        let s = (ordinal % self.depth(pipe)) as usize;
        &mut self.stages[cta][pipe][s]
    }

    fn overlap(&self, agent: usize, at: usize, what: String) -> ProtocolError {
        let a = &self.agents[agent];
        let loc = a.events[at].1;
        let what = format!("role {}: {what}", self.k.roles[a.role].name);
        ProtocolError::Overlap { case: self.case.name.clone(), at: self.k.sources.display(loc), what }
    }

    fn arrivals(&self, pipe: usize, side: &'static str) -> ProtocolError {
        let plan = &self.k.barriers[pipe];
        let made = if side == "full" {
            u32::from(plan.tx_bytes > 0) + self.committers(pipe)
        } else {
            self.consumers(pipe) * self.warps(pipe) * super::super::barriers::writers(self.k, &self.k.pipes[pipe])
        };
        let planned = if side == "full" { plan.full_arrivals } else { plan.empty_arrivals };
        ProtocolError::Arrivals { case: self.case.name.clone(), pipe: plan.pipe.clone(), side, planned, made }
    }

    /// Units of one CTA that consume each stage.
    fn consumers(&self, pipe: usize) -> u32 {
        let waits =
            |a: &&Agent| a.cta == 0 && a.events.iter().any(|(e, _)| matches!(e, Event::Wait { pipe: p, .. } if *p == pipe));
        let mut list = self.agents.iter().filter(waits);
        match list.next() {
            Some(a) if a.skips => 1,
            Some(_) => 1 + list.count() as u32,
            None => 0,
        }
    }

    /// Warps that fill part of each stage themselves.
    fn committers(&self, pipe: usize) -> u32 {
        let commits =
            |a: &&Agent| a.cta == 0 && a.events.iter().any(|(e, _)| matches!(e, Event::Commit { pipe: p, .. } if *p == pipe));
        self.agents.iter().filter(commits).map(|a| a.threads.div_ceil(32)).sum()
    }

    /// Warps of a consuming unit: each arrives for itself.
    fn warps(&self, pipe: usize) -> u32 {
        let waits = |a: &&Agent| a.events.iter().any(|(e, _)| matches!(e, Event::Wait { pipe: p, .. } if *p == pipe));
        self.agents.iter().find(waits).map_or(0, |a| a.threads.div_ceil(32))
    }

    /// Tries one event; false if it must wait.
    fn step(&mut self, i: usize, p: &mut Progress) -> Result<bool, ProtocolError> {
        let agent = &self.agents[i];
        let cta = agent.cta as usize;
        let late = self.late;
        match &agent.events[p.at].0 {
            Event::Acquire { pipe, ordinal } => {
                let depth = self.depth(*pipe);
                let tx = i64::from(self.k.barriers[*pipe].tx_bytes);
                let s = self.stage(cta, *pipe, *ordinal);
                if !s.empty.passed(((ordinal / depth) & 1) ^ 1) {
                    return Ok(false);
                }
                s.full.tx += tx;
                if tx > 0 && !s.full.arrive(1) {
                    return Err(self.arrivals(*pipe, "full"));
                }
            }
            Event::Commit { pipe, ordinal } => {
                let own = self.own_bytes(*pipe);
                self.fill(i, p.at, cta, *pipe, *ordinal)?;
                let s = self.stage(cta, *pipe, *ordinal);
                s.landed += own;
                if !s.full.arrive(i64::from(agent.threads.div_ceil(32))) {
                    return Err(self.arrivals(*pipe, "full"));
                }
            }
            Event::Load { pipe, ordinal, bytes, multicast } => {
                let ctas = if *multicast > 1 { self.stages.len() } else { 1 };
                for c in 0..ctas {
                    let target = if *multicast > 1 { c } else { cta };
                    self.fill(i, p.at, target, *pipe, *ordinal)?;
                    let f = Flight {
                        cta: target,
                        pipe: *pipe,
                        ordinal: *ordinal,
                        bytes: bytes / if *multicast > 1 { *multicast } else { 1 },
                    };
                    if late { self.flights.push_back(f) } else { self.land(&f)? }
                }
            }
            Event::Wait { pipe, ordinal } => {
                let depth = self.depth(*pipe);
                let tile_bytes: u32 = self.k.pipes[*pipe].slots.iter().map(|s| s.tile.bytes()).sum();
                let s = self.stage(cta, *pipe, *ordinal);
                if !s.full.passed((ordinal / depth) & 1) {
                    return Ok(false);
                }
                if s.filled != Some(*ordinal) || s.landed < tile_bytes {
                    let announced = self.k.barriers[*pipe].tx_bytes;
                    if announced + self.own_bytes(*pipe) != tile_bytes {
                        return Err(self.bytes(*pipe));
                    }
                    let what =
                        format!("stage {} of {} is used before its bytes have landed", ordinal % depth, self.k.pipes[*pipe].name);
                    return Err(self.overlap(i, p.at, what));
                }
            }
            Event::Release { pipe, ordinal } => {
                let reads = |g: &Vec<Place>| g.contains(&Place::Stage { pipe: *pipe, ordinal: *ordinal });
                if p.groups.iter().any(reads) {
                    let what = format!(
                        "stage {} of {} is released while a wgmma group still reads it",
                        ordinal % self.depth(*pipe),
                        self.k.pipes[*pipe].name
                    );
                    return Err(self.overlap(i, p.at, what));
                }
                let warps = i64::from(agent.threads.div_ceil(32));
                let everywhere = super::super::barriers::writers(self.k, &self.k.pipes[*pipe]) > 1;
                if self.stage(cta, *pipe, *ordinal).filled != Some(*ordinal) {
                    return Err(self.overlap(
                        i,
                        p.at,
                        format!("use {ordinal} of {} is released, but it was never filled", self.k.pipes[*pipe].name),
                    ));
                }
                self.stage(cta, *pipe, *ordinal).released += 1;
                for c in 0..self.stages.len() {
                    if (everywhere || c == cta) && !self.stage(c, *pipe, *ordinal).empty.arrive(warps) {
                        return Err(self.arrivals(*pipe, "empty"));
                    }
                }
            }
            Event::Read { place: Place::Stage { pipe, ordinal } } => {
                let tile_bytes: u32 = self.k.pipes[*pipe].slots.iter().map(|s| s.tile.bytes()).sum();
                let s = self.stage(cta, *pipe, *ordinal);
                if s.filled != Some(*ordinal) || s.landed < tile_bytes {
                    let what = format!("use {ordinal} of {} is read, but is not there", self.k.pipes[*pipe].name);
                    return Err(self.overlap(i, p.at, what));
                }
            }
            Event::Mma { reads } => p.groups.push_back(reads.clone()),
            Event::MmaWait { pending } => {
                while p.groups.len() > *pending {
                    p.groups.pop_front();
                }
            }
            Event::Named { id, threads, wait } => {
                let n = self.named.entry((agent.cta, *id)).or_default();
                if !p.arrived {
                    p.generation = n.generation;
                    p.arrived = true;
                    n.arrived += agent.threads;
                    if n.arrived >= *threads {
                        n.arrived = 0;
                        n.generation += 1;
                    }
                }
                if *wait && n.generation == p.generation {
                    return Ok(false);
                }
                p.arrived = false;
            }
            _ => {}
        }
        Ok(true)
    }

    /// A stage gets its next contents, which the last ones must have left.
    fn fill(&mut self, agent: usize, at: usize, cta: usize, pipe: usize, ordinal: u64) -> Result<(), ProtocolError> {
        let consumers = self.consumers(pipe);
        let depth = self.depth(pipe);
        let s = self.stage(cta, pipe, ordinal);
        match s.filled {
            Some(old) if old == ordinal => {}
            Some(old) if s.released < consumers => {
                let what = format!(
                    "stage {} of {} is filled again (use {ordinal}) before use {old} was released by all consumers",
                    ordinal % depth,
                    self.k.pipes[pipe].name
                );
                return Err(self.overlap(agent, at, what));
            }
            _ => {
                s.filled = Some(ordinal);
                s.landed = 0;
                s.released = 0;
            }
        }
        Ok(())
    }

    /// Bytes of a stage that its producer's warps copy themselves.
    fn own_bytes(&self, pipe: usize) -> u32 {
        let all: u32 = self.k.pipes[pipe].slots.iter().map(|s| s.tile.bytes()).sum();
        if self.committers(pipe) == 0 { 0 } else { all.saturating_sub(self.k.barriers[pipe].tx_bytes) }
    }

    fn land(&mut self, f: &Flight) -> Result<(), ProtocolError> {
        let bytes = i64::from(f.bytes);
        let s = self.stage(f.cta, f.pipe, f.ordinal);
        s.full.tx -= bytes;
        s.landed += f.bytes;
        s.full.settle();
        Ok(())
    }

    fn bytes(&self, pipe: usize) -> ProtocolError {
        let load = |(e, _): &(Event, crate::loc::Loc)| match e {
            Event::Load { pipe: p, ordinal: 0, bytes, .. } if *p == pipe => *bytes,
            _ => 0,
        };
        let producer = self.agents.iter().find(|a| a.cta == 0 && a.events.iter().any(|e| load(e) > 0));
        let brought = producer.map_or(0, |a| a.events.iter().map(load).sum());
        let plan = &self.k.barriers[pipe];
        ProtocolError::Bytes { case: self.case.name.clone(), pipe: plan.pipe.clone(), announced: plan.tx_bytes, brought }
    }

    /// Why nobody can go on: a miscount if a barrier shows one, else the waiting map.
    fn stuck(&mut self, progress: &[Progress]) -> ProtocolError {
        let mut waiting = Vec::new();
        for (i, p) in progress.iter().enumerate() {
            let a = &self.agents[i];
            let Some((event, loc)) = a.events.get(p.at) else { continue };
            let what = match event {
                Event::Wait { pipe, ordinal } => {
                    let s = self.stage(a.cta as usize, *pipe, *ordinal);
                    if s.full.pending == 0 && s.full.tx != 0 {
                        return self.bytes(*pipe);
                    }
                    if s.filled == Some(*ordinal) && s.full.pending > 0 && s.full.pending < s.full.expected {
                        return self.arrivals(*pipe, "full");
                    }
                    format!("stage {} of {} to be filled (use {ordinal})", ordinal % self.depth(*pipe), self.k.pipes[*pipe].name)
                }
                Event::Acquire { pipe, ordinal } => {
                    let consumers = self.consumers(*pipe);
                    let s = self.stage(a.cta as usize, *pipe, *ordinal);
                    if s.released >= consumers && s.empty.pending > 0 {
                        return self.arrivals(*pipe, "empty");
                    }
                    format!(
                        "stage {} of {} to be released (use {ordinal})",
                        ordinal % self.depth(*pipe),
                        self.k.pipes[*pipe].name
                    )
                }
                Event::Named { id, .. } => format!("named barrier {id}"),
                _ => "nothing".to_string(),
            };
            waiting.push(format!(
                "role {} unit {} of CTA {} waits for {what} at {}",
                self.k.roles[a.role].name,
                a.unit,
                a.cta,
                self.k.sources.display(*loc)
            ));
        }
        waiting.extend(self.cycle(progress));
        ProtocolError::Deadlock { case: self.case.name.clone(), waiting: waiting.join("; ") }
    }

    /// Units that wait for each other in a circle, where it is one: an edge leads from a unit to those that could let it go
    /// on.
    fn cycle(&self, progress: &[Progress]) -> Option<String> {
        let mut graph = DiGraph::<usize, ()>::new();
        let nodes: Vec<_> = (0..self.agents.len()).map(|i| graph.add_node(i)).collect();
        for (i, p) in progress.iter().enumerate() {
            let a = &self.agents[i];
            let Some((event, _)) = a.events.get(p.at) else { continue };
            for (j, other) in self.agents.iter().enumerate().filter(|(j, _)| *j != i) {
                let helps = |e: &Event| match (event, e) {
                    (Event::Wait { pipe, .. }, Event::Acquire { pipe: q, .. } | Event::Commit { pipe: q, .. }) => pipe == q,
                    (Event::Acquire { pipe, .. }, Event::Release { pipe: q, .. }) => pipe == q,
                    (Event::Named { id, .. }, Event::Named { id: other_id, .. }) => id == other_id && a.cta == other.cta,
                    _ => false,
                };
                if other.events[progress[j].at..].iter().any(|(e, _)| helps(e)) {
                    graph.add_edge(nodes[i], nodes[j], ());
                }
            }
        }
        let circle = tarjan_scc(&graph).into_iter().find(|c| c.len() > 1)?;
        let name = |i: usize| format!("{} unit {}", self.k.roles[self.agents[i].role].name, self.agents[i].unit);
        let names: Vec<String> = circle.iter().map(|n| name(graph[*n])).collect();
        Some(format!("in a circle: {}", names.join(", ")))
    }

    /// Everyone is done: nothing may be left in a stage or in flight.
    fn leftovers(&self, progress: &[Progress]) -> Result<(), ProtocolError> {
        for (c, pipes) in self.stages.iter().enumerate() {
            for (pipe, stages) in pipes.iter().enumerate() {
                let consumers = self.consumers(pipe);
                if let Some(s) = stages.iter().find(|s| s.filled.is_some() && s.released < consumers) {
                    let what = format!(
                        "use {} of pipe {} in CTA {c} is loaded, but not released by all consumers",
                        s.filled.unwrap_or(0),
                        self.k.pipes[pipe].name
                    );
                    return Err(ProtocolError::Overlap { case: self.case.name.clone(), at: self.k.name.clone(), what });
                }
            }
        }
        if let Some(i) = progress.iter().position(|p| !p.groups.is_empty()) {
            let at = self.agents[i].events.len().saturating_sub(1);
            return Err(self.overlap(i, at, "ends with a wgmma group pending".to_string()));
        }
        Ok(())
    }
}
