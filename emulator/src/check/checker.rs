//! Happens-before for one cluster: who has what behind it, kept up by every synchronisation, and asked at every access.

use super::across::{Across, Mark, Touched};
use super::clock::{Agent, Clock, Fenced};
use super::history::{Entry, Histories, How, Strength};
use super::lanes::{LaneClash, LaneShadow, Spell};
use super::places::{Places, reaches};
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
    agent: Agent,
    time: u32,
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
    histories: Histories,
    global: Pages,
    places: Places,
    agents: u32,
    /// Agents that are asynchronous operations.
    detached: Vec<bool>,
}

/// Groups that asynchronous operations are waited for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    CpAsync,
    Bulk,
    Wgmma,
}

#[derive(Debug)]
struct WarpState {
    agent: Agent,
    view: Viewer,
    /// The latest fence, and how far it reaches: what a relaxed write after it passes on.
    fence: Option<(Strength, Clock)>,
    /// What relaxed reads saw, and of which blocks: a fence that reaches those makes it known.
    seen: Vec<((u32, u32), Clock)>,
    /// Agents of the groups that are open.
    open: [Option<Token>; 3],
}

#[derive(Debug)]
struct Op {
    token: Token,
    cta: usize,
    warp: usize,
    /// What its issuer had behind it; of a warpgroup, what all four warps had, then each of them.
    views: Vec<Viewer>,
}

/// A synchronisation object: what the phase under way collects, and what the last complete one passes on.
#[derive(Debug, Default)]
struct Meeting {
    arriving: Clock,
    passed: Clock,
    /// Warps that arrived, at which time of theirs; and those of the use before.
    who: Vec<(usize, Agent, u32)>,
    last: Vec<(usize, Agent, u32)>,
}

impl Meeting {
    fn complete(&mut self) {
        self.passed = std::mem::take(&mut self.arriving);
        self.last = std::mem::take(&mut self.who);
    }
}

/// What arrivals at an mbarrier pass on.
#[derive(Debug, Default)]
struct Arrivals {
    /// From its own block, or at `.cluster` scope.
    same: Clock,
    cluster: Clock,
    /// From another block at `.cta` scope. Strictly that passes nothing on, but consumers tell a producer in another
    /// block so that they have read a stage through the async proxy (CUTLASS does): that much counts.
    narrow: Clock,
}

#[derive(Debug)]
struct Barrier {
    init: Entry,
    arriving: Arrivals,
    passed: Arrivals,
}

#[derive(Debug)]
struct CtaState {
    shared: Shadow,
    lanes: LaneShadow,
    barriers: FxHashMap<u32, Barrier>,
    bars: [Meeting; 16],
}

/// Sets after which those not in use are dropped.
const MANY_SETS: usize = 1 << 20;

#[derive(Debug)]
pub struct Checker {
    pub world: World,
    /// Accesses of other clusters, where those run on other threads.
    across: Option<(Arc<Across>, Touched)>,
    cluster: u32,
    warps: Vec<WarpState>,
    warps_per_cta: usize,
    ctas: Vec<CtaState>,
    cluster_meeting: Meeting,
    ops: FxHashMap<OpId, Op>,
    /// Agents of finished operations of the generic and of the async proxy, which may be used again.
    idle: [VecDeque<Token>; 2],
    of_shared: Histories,
    hazards: Vec<Hazard>,
    reported: FxHashSet<(u32, u32, bool)>,
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

    fn warp(&mut self, cta: usize, warp: usize) -> &mut WarpState {
        &mut self.warps[cta * self.warps_per_cta + warp]
    }

    fn cta_in_launch(&self, cta: usize) -> u32 {
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
        for (place, bytes, value) in places {
            match place {
                Place::Shared { cta, offset } => {
                    let shadow = &mut ctas[cta].shared;
                    if let Some(cells) = shadow.whole(offset as usize, bytes as usize) {
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
                    match global.whole(address, bytes as usize) {
                        Some(cells) => {
                            for (index, cell) in cells.iter_mut().enumerate() {
                                let place = Place::Global { address: address + 4 * index as u64 };
                                visit(cell, viewer, of_global, Fenced::Global, place);
                            }
                        }
                        None => global.visit(address, bytes.into(), |cell, at| {
                            visit(cell, viewer, of_global, Fenced::Global, Place::Global { address: at });
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

    // Asynchronous operations.

    fn new_token(&mut self, how: How, before: &super::clock::Vector) -> Token {
        let idle = &mut self.idle[usize::from(how.is_async())];
        // An agent can stand for a second operation only after everybody who will know of the second knows the first.
        for _ in 0..idle.len().min(8) {
            if let Some(token) = idle.pop_front() {
                if before.get(token.agent) > token.time {
                    return Token { time: token.time + 2, ..token };
                }
                idle.push_back(token);
            }
        }
        Token { agent: self.world.agent(true), time: 1 }
    }

    fn begin(&mut self, id: OpId, how: How, group: Option<GroupKind>, cta: usize, warp: usize, views: Vec<Viewer>) -> Token {
        let open = group.and_then(|kind| self.warp(cta, warp).open[kind as usize]);
        let token = match open {
            Some(token) => token,
            None => self.new_token(how, &views[0].clock.before),
        };
        if let Some(kind) = group {
            self.warp(cta, warp).open[kind as usize] = Some(token);
        }
        self.ops.insert(id, Op { token, cta, warp, views });
        token
    }

    /// A warp issues an operation.
    pub fn issue(&mut self, id: OpId, how: How, group: Option<GroupKind>, cta: usize, warp: usize) -> Token {
        let view = Viewer::new(self.warp(cta, warp).view.clock.clone());
        let token = self.begin(id, how, group, cta, warp, vec![view]);
        // What the warp does from now on is not behind the operation.
        self.tick(cta, warp);
        token
    }

    /// A warpgroup issues an operation: view 0 is what all of its warps have behind them, 1 to 4 are theirs.
    pub fn issue_warpgroup(&mut self, id: OpId, cta: usize, first_warp: usize) -> Token {
        let mut views: Vec<Clock> = (0..4).map(|i| self.warp(cta, first_warp + i).view.clock.clone()).collect();
        let mut common = views[0].clone();
        views[1..].iter().for_each(|view| common.meet(view));
        views.insert(0, common);
        let views = views.into_iter().map(Viewer::new).collect();
        let token = self.begin(id, How::Wgmma, Some(GroupKind::Wgmma), cta, first_warp, views);
        (0..4).for_each(|i| self.tick(cta, first_warp + i));
        token
    }

    /// An operation has happened.
    pub fn finish(&mut self, id: OpId, how: How, in_group: bool) {
        if let Some(op) = self.ops.remove(&id)
            && !in_group
        {
            self.retire(op.token, how.is_async());
        }
    }

    fn retire(&mut self, token: Token, is_async: bool) {
        self.idle[usize::from(is_async)].push_back(token);
    }

    /// The group under way is closed.
    pub fn commit(&mut self, kind: GroupKind, cta: usize, warp: usize) {
        if let Some(token) = self.warp(cta, warp).open[kind as usize].take() {
            self.retire(token, kind != GroupKind::CpAsync);
        }
    }

    /// A warp has waited for an operation.
    pub fn waited(&mut self, cta: usize, warp: usize, token: Token, part: Part) {
        let time = token.time + u32::from(part == Part::All);
        self.warp(cta, warp).view.clock.before.raise(token.agent, time);
    }

    // Synchronisation.

    fn tick(&mut self, cta: usize, warp: usize) {
        let state = self.warp(cta, warp);
        let next = state.view.clock.before.get(state.agent) + 1;
        state.view.clock.before.raise(state.agent, next);
    }

    /// A fence between generic accesses of threads.
    pub fn fence_memory(&mut self, cta: usize, warp: usize, reach: Strength, acquires: bool, releases: bool) {
        let own = (self.cta_in_launch(cta), self.cluster);
        let state = self.warp(cta, warp);
        if acquires {
            let WarpState { seen, view, .. } = state;
            seen.retain(|(who, clock)| {
                let known = reaches(reach, own, *who);
                if known {
                    view.clock.join(clock);
                }
                !known
            });
        }
        if releases {
            state.fence = Some((reach, state.view.clock.clone()));
        }
        self.tick(cta, warp);
    }

    pub fn fence_proxy(&mut self, cta: usize, warp: usize, what: &[Fenced]) {
        let clock = &mut self.warp(cta, warp).view.clock;
        what.iter().for_each(|what| clock.fence(*what));
        self.tick(cta, warp);
    }

    pub fn fence_inits(&mut self, cta: usize, warp: usize) {
        self.warp(cta, warp).view.clock.fence_inits();
        self.tick(cta, warp);
    }

    /// A warp arrives at a named barrier. Gives a warp of the barrier's use before whose arrival nothing puts before this
    /// one: in another schedule the two would count together.
    pub fn bar_arrive(&mut self, cta: usize, warp: usize, id: usize) -> Option<usize> {
        let WarpState { agent, view, .. } = &self.warps[cta * self.warps_per_cta + warp];
        let (clock, bar) = (&view.clock, &mut self.ctas[cta].bars[id]);
        let unordered = bar.last.iter().find(|(_, agent, time)| clock.before.get(*agent) < *time).map(|(warp, ..)| *warp);
        bar.arriving.join(clock);
        bar.who.push((warp, *agent, clock.before.get(*agent)));
        self.tick(cta, warp);
        unordered
    }

    pub fn bar_complete(&mut self, cta: usize, id: usize) {
        self.ctas[cta].bars[id].complete();
    }

    pub fn bar_pass(&mut self, cta: usize, warp: usize, id: usize) {
        let passed = &self.ctas[cta].bars[id].passed;
        self.warps[cta * self.warps_per_cta + warp].view.clock.join(passed);
    }

    pub fn cluster_arrive(&mut self, cta: usize, warp: usize, relaxed: bool) {
        let clock = &self.warps[cta * self.warps_per_cta + warp].view.clock;
        let arriving = &mut self.cluster_meeting.arriving;
        if relaxed {
            arriving.inits.join(&clock.inits);
        } else {
            arriving.join(clock);
        }
        self.tick(cta, warp);
    }

    pub fn cluster_complete(&mut self) {
        self.cluster_meeting.complete();
    }

    pub fn cluster_pass(&mut self, cta: usize, warp: usize) {
        let passed = &self.cluster_meeting.passed;
        self.warps[cta * self.warps_per_cta + warp].view.clock.join(passed);
    }

    /// An mbarrier comes to be; the initialisation is a write to its eight bytes.
    pub fn init_mbarrier(&mut self, cta: usize, warp: usize, at: (usize, u32), pc: u32) {
        let act =
            Act { actor: Actor::Warp { cta, warp }, pc, how: How::MBarrierInit, touch: Touch::Write, strength: Strength::Weak };
        self.access(&act, 0, Place::Shared { cta: at.0, offset: at.1 }, 8);
        let own = self.cta_in_launch(cta);
        let cluster = self.cluster;
        let state = self.warp(cta, warp);
        let time = state.view.clock.before.get(state.agent);
        let init = Entry {
            agent: state.agent,
            time,
            pc,
            how: How::MBarrierInit,
            strength: Strength::Weak,
            cta: own,
            cluster,
            warp: warp as u16,
        };
        let barrier = Barrier { init, arriving: Arrivals::default(), passed: Arrivals::default() };
        self.ctas[at.0].barriers.insert(at.1, barrier);
    }

    /// Somebody uses an mbarrier, which must see its initialisation.
    pub fn use_mbarrier(&mut self, act: &Act, (cta, offset): (usize, u32)) {
        let Checker { warps, warps_per_cta, ctas, ops, hazards, reported, .. } = self;
        let Some(barrier) = ctas[cta].barriers.get(&offset) else { return };
        let (agent, clock, warp) = match act.actor {
            Actor::Warp { cta, warp } => {
                let state = &warps[cta * *warps_per_cta + warp];
                (state.agent, &state.view.clock, warp)
            }
            Actor::Op(id) => match ops.get(&id) {
                Some(op) => (op.token.agent, &op.views[0].clock, op.warp),
                None => return,
            },
        };
        let init = barrier.init;
        let known = clock.before.get(init.agent).max(clock.inits.get(init.agent));
        if known < init.time && reported.insert((init.pc, act.pc, true)) {
            let now = Entry { agent, pc: act.pc, how: act.how, warp: warp as u16, ..init };
            let (before, place) = (init, Place::Shared { cta, offset });
            hazards.push(Hazard { conflict: Conflict::Unordered, before, before_read: false, now, touch: Touch::Update, place });
        }
    }

    /// A thread's arrival, which releases what it has behind it unless it is relaxed.
    pub fn arrive(&mut self, cta: usize, warp: usize, at: (usize, u32), relaxed: bool, reach: Strength) {
        let clock = &self.warps[cta * self.warps_per_cta + warp].view.clock;
        if let Some(barrier) = self.ctas[at.0].barriers.get_mut(&at.1)
            && !relaxed
        {
            let Arrivals { same, cluster, narrow } = &mut barrier.arriving;
            let into = match reach {
                _ if at.0 == cta => same,
                Strength::Cta => narrow,
                _ => cluster,
            };
            into.join(clock);
        }
        self.tick(cta, warp);
    }

    /// An operation tells an mbarrier that it is done: its own accesses are behind the phase, nothing else.
    pub fn arrive_op(&mut self, id: OpId, at: (usize, u32)) {
        let Some(op) = self.ops.get(&id) else { return };
        let token = op.token;
        self.arrive_token(token, at);
    }

    pub fn arrive_token(&mut self, token: Token, at: (usize, u32)) {
        if let Some(barrier) = self.ctas[at.0].barriers.get_mut(&at.1) {
            barrier.arriving.same.before.raise(token.agent, token.time + 1);
        }
    }

    pub fn phase_complete(&mut self, (cta, offset): (usize, u32)) {
        if let Some(barrier) = self.ctas[cta].barriers.get_mut(&offset) {
            barrier.passed = std::mem::take(&mut barrier.arriving);
        }
    }

    /// A successful wait, which acquires unless it is relaxed.
    pub fn pass(&mut self, cta: usize, warp: usize, offset: u32, relaxed: bool, reach: Strength) {
        let Some(barrier) = self.ctas[cta].barriers.get(&offset).filter(|_| !relaxed) else { return };
        let clock = &mut self.warps[cta * self.warps_per_cta + warp].view.clock;
        let Arrivals { same, cluster, narrow } = &barrier.passed;
        clock.join(same);
        if reach == Strength::Cta {
            clock.before.join_where(&cluster.before, &self.world.detached);
        } else {
            clock.join(cluster);
        }
        clock.before.join_where(&narrow.before, &self.world.detached);
    }

    /// A strong write to a place that others may read: passes on what a release, or a fence before it, covers.
    pub fn strong_write(&mut self, cta: usize, warp: usize, place: Place, reach: Strength, release: bool, update: bool) {
        let who = (self.cta_in_launch(cta), self.cluster);
        let Checker { world, warps, warps_per_cta, .. } = self;
        let state = &warps[cta * *warps_per_cta + warp];
        let passes = if release {
            Some((reach, &state.view.clock))
        } else {
            state.fence.as_ref().map(|(fence, clock)| (reach.min(*fence), clock))
        };
        world.places.write(self.cluster, place, state.agent, who, passes, update);
        let released = passes.is_some();
        if released {
            self.tick(cta, warp);
        }
    }

    /// A strong read: acquires what was released there, now or at the next fence.
    pub fn strong_read(&mut self, cta: usize, warp: usize, place: Place, reach: Strength, acquire: bool) {
        let who = (self.cta_in_launch(cta), self.cluster);
        let Checker { world, warps, warps_per_cta, .. } = self;
        let state = &mut warps[cta * *warps_per_cta + warp];
        let WarpState { view, seen, .. } = state;
        world.places.read(self.cluster, place, who, reach, |by, clock| {
            if acquire {
                view.clock.join(clock);
                return;
            }
            match seen.iter_mut().find(|(who, _)| *who == by) {
                Some((_, known)) => known.join(clock),
                None => seen.push((by, clock.clone())),
            }
        });
    }
}

impl World {
    fn agent(&mut self, is_detached: bool) -> Agent {
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
