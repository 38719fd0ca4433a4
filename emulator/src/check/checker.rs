//! Happens-before for one cluster: who has what behind it, kept up by every synchronisation, and asked at every access.

use super::across::{Across, Mark, Touched};
use super::clock::{Agent, Clock, Fenced, Vector};
use super::history::{Entry, Histories, How, Strength};
use super::lanes::{LaneClash, LaneShadow, Spell};
use super::places::Places;
use super::rules::{Conflict, Touch, Viewer, touch};
use super::shadow::{Cell, Pages, Shadow};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::sync::Arc;

/// Names an asynchronous operation until it has happened.
pub type OpId = u64;

/// What a finished operation is known by: the agent it was and the time of its accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub(super) agent: Agent,
    pub(super) time: u32,
}

/// How much of an operation a wait covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `.read`: only its sources.
    Reads,
    All,
}

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    Warp { cta: usize, warp: usize },
    Op(OpId),
}

/// An instruction's accesses, apart from where they go.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    pub actor: Actor,
    pub pc: u32,
    pub how: How,
    pub touch: Touch,
    pub strength: Strength,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Block of the cluster, and byte of its window.
    Shared {
        cta: usize,
        offset: u32,
    },
    Global {
        address: u64,
    },
}

/// Two accesses that collide.
#[derive(Clone, Copy, Debug)]
pub struct Hazard {
    pub conflict: Conflict,
    pub before: Entry,
    /// The earlier one only read.
    pub before_read: bool,
    pub now: Entry,
    pub touch: Touch,
    pub place: Place,
}

/// What outlives a cluster, where clusters see each other: one thread runs them all then.
#[derive(Debug, Default)]
pub struct World {
    pub(super) histories: Histories,
    pub(super) global: Pages,
    pub(super) places: Places,
    pub(super) agents: u32,
    /// Agents that are asynchronous operations.
    pub(super) detached: Vec<bool>,
}

/// Groups that asynchronous operations are waited for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    CpAsync,
    Bulk,
    Wgmma,
}

#[derive(Debug)]
pub(super) struct WarpState {
    pub(super) agent: Agent,
    pub(super) view: Viewer,
    /// The latest fence, and how far it reaches: what a relaxed write after it passes on.
    pub(super) fence: Option<(Strength, Clock)>,
    /// What relaxed reads saw, and of which blocks: a fence that reaches those makes it known.
    pub(super) seen: Vec<((u32, u32), Clock)>,
    /// Agents of the groups that are open.
    pub(super) open: [Option<Token>; 3],
}

#[derive(Debug)]
pub(super) struct Op {
    pub(super) token: Token,
    pub(super) cta: usize,
    pub(super) warp: usize,
    /// What its issuer had behind it; of a warpgroup, what all four warps had, then each of them.
    pub(super) views: Vec<Viewer>,
}

/// A synchronisation object: what the phase under way collects, and what the last complete one passes on.
#[derive(Debug, Default)]
pub(super) struct Meeting {
    pub(super) arriving: Clock,
    pub(super) passed: Clock,
    /// Warps that arrived, at which time of theirs; and those of the use before.
    pub(super) who: Vec<(usize, Agent, u32)>,
    pub(super) last: Vec<(usize, Agent, u32)>,
}

impl Meeting {
    pub(super) fn complete(&mut self) {
        self.passed = std::mem::take(&mut self.arriving);
        self.last = std::mem::take(&mut self.who);
    }
}

/// What arrivals at an mbarrier pass on.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// From its own block, or at `.cluster` scope.
    pub(super) same: Clock,
    pub(super) cluster: Clock,
    /// From another block at `.cta` scope. Strictly that passes nothing on, but consumers tell a producer in another
    /// block so that they have read a stage through the async proxy (CUTLASS does): that much counts.
    pub(super) narrow: Clock,
}

#[derive(Debug)]
pub(super) struct Barrier {
    pub(super) init: Entry,
    pub(super) arriving: Arrivals,
    pub(super) passed: Arrivals,
}

/// An access to the shared memory of another block of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    pub(super) time: u32,
    pub pc: u32,
    /// Block and warp that made it.
    pub cta: usize,
    pub warp: usize,
}

#[derive(Debug)]
pub(super) struct CtaState {
    pub(super) shared: Shadow,
    pub(super) lanes: LaneShadow,
    /// Warps and operations of other blocks that came here, and when last.
    pub(super) visits: FxHashMap<Agent, Visit>,
    /// What the block knows of their arrivals at its mbarriers, in whatever scope those were.
    pub(super) arrived: Vector,
    pub(super) barriers: FxHashMap<u32, Barrier>,
    pub(super) bars: [Meeting; 16],
}

/// Sets after which those not in use are dropped.
const MANY_SETS: usize = 1 << 20;

#[derive(Debug)]
pub struct Checker {
    pub world: World,
    /// Accesses of other clusters, where those run on other threads.
    pub(super) across: Option<(Arc<Across>, Touched)>,
    pub(super) cluster: u32,
    pub(super) warps: Vec<WarpState>,
    pub(super) warps_per_cta: usize,
    pub(super) ctas: Vec<CtaState>,
    pub(super) cluster_meeting: Meeting,
    pub(super) ops: FxHashMap<OpId, Op>,
    /// Agents of finished operations of the generic and of the async proxy, which may be used again.
    pub(super) idle: [VecDeque<Token>; 2],
    pub(super) of_shared: Histories,
    pub(super) hazards: Vec<Hazard>,
    pub(super) reported: FxHashSet<(u32, u32, bool)>,
}

impl Checker {
    /// A checker for a cluster of `ctas` blocks with `warps` warps each.
    pub fn new(mut world: World, across: Option<Arc<Across>>, cluster: u32, ctas: usize, warps: usize, window: u32) -> Self {
        let states = (0..ctas * warps).map(|_| {
            let agent = world.agent(false);
            let mut clock = Clock::default();
            clock.before.raise(agent, 1);
            WarpState { agent, view: Viewer::new(clock), fence: None, seen: Vec::new(), open: [None; 3] }
        });
        let warps_per_cta = warps;
        let warps = states.collect();
        let cta = || CtaState {
            shared: Shadow::new(window as usize),
            lanes: LaneShadow::new(window as usize),
            visits: FxHashMap::default(),
            arrived: Vector::default(),
            barriers: FxHashMap::default(),
            bars: Default::default(),
        };
        Checker {
            world,
            across: across.map(|across| (across, Touched::default())),
            cluster,
            warps,
            warps_per_cta,
            ctas: (0..ctas).map(|_| cta()).collect(),
            cluster_meeting: Meeting::default(),
            ops: FxHashMap::default(),
            idle: Default::default(),
            of_shared: Histories::default(),
            hazards: Vec::new(),
            reported: FxHashSet::default(),
        }
    }

    /// Whether clusters on other threads may touch the same memory.
    pub fn sees_others(&self) -> bool {
        self.across.is_some()
    }

    /// Collisions since the last call.
    #[inline]
    pub fn take_hazards(&mut self) -> Option<Vec<Hazard>> {
        if self.hazards.is_empty() { None } else { Some(std::mem::take(&mut self.hazards)) }
    }

    pub(super) fn warp(&mut self, cta: usize, warp: usize) -> &mut WarpState {
        &mut self.warps[cta * self.warps_per_cta + warp]
    }

    pub(super) fn cta_in_launch(&self, cta: usize) -> u32 {
        self.cluster * self.ctas.len() as u32 + cta as u32
    }

    // Accesses.

    /// Bytes of one place; `view` chooses among the views of a warpgroup's operation.
    #[inline]
    pub fn access(&mut self, act: &Act, view: usize, place: Place, bytes: u32) {
        self.access_all(act, view, std::iter::once((place, bytes, None)));
    }

    /// Accesses of one instruction, with the bytes they write where another cluster may write the same.
    pub fn access_all<'v>(&mut self, act: &Act, view: usize, places: impl Iterator<Item = (Place, u32, Option<&'v [u8]>)>) {
        let Checker { world, of_shared, across, cluster, warps, warps_per_cta, ctas, ops, hazards, .. } = self;
        let (agent, time, cta, warp, viewer) = match act.actor {
            Actor::Warp { cta, warp } => {
                let state = &mut warps[cta * *warps_per_cta + warp];
                let time = state.view.clock.before.get(state.agent);
                (state.agent, time, cta, warp, &mut state.view)
            }
            Actor::Op(id) => {
                let Some(op) = ops.get_mut(&id) else { return };
                // Writes are done after reads, so that a wait for the reads can be told from one for all.
                let time = op.token.time + u32::from(act.touch != Touch::Read);
                (op.token.agent, time, op.cta, op.warp, &mut op.views[view])
            }
        };
        let now = Entry {
            agent,
            time,
            pc: act.pc,
            how: act.how,
            strength: act.strength,
            cta: *cluster * ctas.len() as u32 + cta as u32,
            cluster: *cluster,
            warp: warp as u16,
        };
        let World { histories: of_global, global, .. } = world;
        // Neighbours mostly look alike.
        let mut last = (Cell::NEVER, Cell::NEVER);
        let mut visit = |cell: &mut Cell, viewer: &mut Viewer, histories: &mut Histories, fenced, place: Place| {
            if last.0 == *cell {
                *cell = last.1;
                return;
            }
            let (after, conflict) = touch(viewer, histories, *cell, &now, act.touch, fenced);
            match conflict {
                None => last = (*cell, after),
                Some((before, conflict)) => {
                    let before_read = !histories.entries(cell.writers).contains(&before);
                    hazards.push(Hazard { conflict, before, before_read, now, touch: act.touch, place });
                }
            }
            *cell = after;
        };
        let home = cta;
        for (place, bytes, value) in places {
            match place {
                Place::Shared { cta, offset } => {
                    if cta != home {
                        ctas[cta].visits.insert(agent, Visit { time, pc: act.pc, cta: home, warp });
                    }
                    let shadow = &mut ctas[cta].shared;
                    if let Some(cells) = shadow.whole(offset as usize, bytes as usize) {
                        if let Some(alike) = all_alike(cells) {
                            let mut cell = alike;
                            visit(&mut cell, viewer, of_shared, Fenced::Shared, place);
                            cells.fill(cell);
                            continue;
                        }
                        for (index, cell) in cells.iter_mut().enumerate() {
                            let place = Place::Shared { cta, offset: offset + 4 * index as u32 };
                            visit(cell, viewer, of_shared, Fenced::Shared, place);
                        }
                        continue;
                    }
                    shadow.visit(offset as usize, bytes as usize, |cell, at| {
                        visit(cell, viewer, of_shared, Fenced::Shared, Place::Shared { cta, offset: at as u32 });
                    });
                }
                Place::Global { address } => {
                    let fenced = if act.how == How::MapRead { Fenced::TensorMap } else { Fenced::Global };
                    match global.whole(address, bytes as usize) {
                        Some(cells) if all_alike(cells).is_some() => {
                            let mut cell = cells[0];
                            visit(&mut cell, viewer, of_global, fenced, place);
                            cells.fill(cell);
                        }
                        Some(cells) => {
                            for (index, cell) in cells.iter_mut().enumerate() {
                                let place = Place::Global { address: address + 4 * index as u64 };
                                visit(cell, viewer, of_global, fenced, place);
                            }
                        }
                        None => global.visit(address, bytes.into(), |cell, at| {
                            visit(cell, viewer, of_global, fenced, Place::Global { address: at });
                        }),
                    }
                    if let Some((across, touched)) = across {
                        let mark = Mark { cluster: *cluster, pc: act.pc, cta: cta as u32, warp: warp as u32 };
                        touched.touch(across, mark, address, bytes, act.touch != Touch::Read, value);
                    }
                }
            }
        }
        if !hazards.is_empty() {
            let reported = &mut self.reported;
            // One for each pair of instructions and conflict is enough.
            hazards.retain(|hazard| {
                let unordered = hazard.conflict == Conflict::Unordered;
                reported.insert((hazard.before.pc, hazard.now.pc, unordered))
            });
        }
        if self.of_shared.len() > MANY_SETS {
            let ctas = &mut self.ctas;
            sweep(&mut self.of_shared, |visit| ctas.iter_mut().flat_map(|cta| cta.shared.cells()).for_each(visit));
        }
        let World { histories, global, .. } = &mut self.world;
        if histories.len() > MANY_SETS {
            sweep(histories, |visit| global.cells().for_each(visit));
        }
    }

    /// Weak accesses of single lanes to their block's shared memory; `row` is where they start if they are one range.
    #[inline]
    pub fn touch_lanes(
        &mut self,
        cta: usize,
        spell: Spell,
        row: Option<u32>,
        lanes: impl Iterator<Item = (u8, u32)>,
        (bytes, writes, pc): (u32, bool, u32),
    ) -> Option<LaneClash> {
        let shadow = &mut self.ctas[cta].lanes;
        if row.is_some_and(|offset| shadow.touch_row(spell, offset, bytes, writes, pc)) {
            return None;
        }
        let mut clash = None;
        for (lane, offset) in lanes {
            let found = shadow.touch(spell, lane, offset, bytes, writes, pc);
            clash = clash.or(found);
        }
        clash.filter(|clash| self.reported.insert((clash.pc, pc, true)))
    }
}

impl World {
    pub(super) fn agent(&mut self, is_detached: bool) -> Agent {
        self.agents += 1;
        self.detached.push(is_detached);
        Agent(self.agents - 1)
    }
}

/// Drops the sets that no cell names any more; if that is not enough, all of them, and with them what they knew.
#[cold]
fn sweep(histories: &mut Histories, mut cells: impl FnMut(&mut dyn FnMut(&mut Cell))) {
    let mut used = vec![false; histories.len()];
    cells(&mut |cell| {
        used[cell.writers.0 as usize] = true;
        used[cell.readers.0 as usize] = true;
    });
    if used.iter().filter(|used| **used).count() > MANY_SETS / 2 {
        used.fill(false);
    }
    let names = histories.keep(&used);
    cells(&mut |cell| *cell = Cell { writers: names[cell.writers.0 as usize], readers: names[cell.readers.0 as usize] });
}

/// What all cells are, if they are the same.
#[inline]
fn all_alike(cells: &[Cell]) -> Option<Cell> {
    let first = *cells.first()?;
    let differs = cells.iter().fold(0, |bits, cell| bits | cell.writers.0 ^ first.writers.0 | cell.readers.0 ^ first.readers.0);
    (differs == 0).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::history::SetId;

    fn entry(time: u32) -> Entry {
        let (agent, how, strength) = (Agent(1), How::Store, Strength::Weak);
        Entry { agent, time, pc: time, how, strength, cta: 0, cluster: 0, warp: 0 }
    }

    /// Sets that cells name keep what they hold; others go, and ids of before are known to be stale.
    #[test]
    fn sweeping_keeps_what_cells_name() {
        let mut histories = Histories::default();
        let ids: Vec<_> = (1..=3).map(|time| histories.with(SetId::EMPTY, entry(time))).collect();
        let mut cells = [Cell { writers: ids[2], readers: ids[0] }, Cell::default()];
        let before = histories.numbering();
        sweep(&mut histories, |visit| cells.iter_mut().for_each(visit));
        assert_eq!(histories.entries(cells[0].writers), [entry(3)]);
        assert_eq!(histories.entries(cells[0].readers), [entry(1)]);
        assert_eq!(cells[1], Cell::default());
        assert_eq!(histories.len(), 3);
        assert_ne!(histories.numbering(), before);
    }
}
