//! Happens-before for one cluster: who has what behind it, kept up by every synchronisation, and asked at every access.

use super::across::{Across, Mark, Touched};
use super::clock::{Agent, Clock, Fenced};
use super::history::{Entry, Histories, How, SetId, Strength};
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
    /// What relaxed reads saw: a fence makes it known.
    seen: Clock,
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
}

impl Meeting {
    fn complete(&mut self) {
        self.passed = std::mem::take(&mut self.arriving);
    }
}

#[derive(Debug)]
struct Barrier {
    init: Entry,
    meeting: Meeting,
}

#[derive(Debug)]
struct CtaState {
    shared: Shadow,
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
    hazards: Vec<Hazard>,
    reported: FxHashSet<(u32, u32, bool)>,
    sweep_at: usize,
}

impl Checker {
    /// A checker for a cluster of `ctas` blocks with `warps` warps each.
    pub fn new(mut world: World, across: Option<Arc<Across>>, cluster: u32, ctas: usize, warps: usize, window: u32) -> Self {
        let states = (0..ctas * warps).map(|_| {
            let agent = world.agent();
            let mut clock = Clock::default();
            clock.before.raise(agent, 1);
            WarpState { agent, view: Viewer::new(clock), fence: None, seen: Clock::default(), open: [None; 3] }
        });
        let warps_per_cta = warps;
        let warps = states.collect();
        let cta = || CtaState { shared: Shadow::new(window as usize), barriers: FxHashMap::default(), bars: Default::default() };
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
            hazards: Vec::new(),
            reported: FxHashSet::default(),
            sweep_at: MANY_SETS,
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
        let Checker { world, across, cluster, warps, warps_per_cta, ctas, ops, hazards, .. } = self;
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
        let World { histories, global, .. } = world;
        // Neighbours mostly look alike.
        let mut last = (Cell::NEVER, Cell::NEVER);
        let mut visit = |cell: &mut Cell, viewer: &mut Viewer, fenced, place: Place| {
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
                            visit(cell, viewer, Fenced::Shared, Place::Shared { cta, offset: offset + 4 * index as u32 });
                        }
                        continue;
                    }
                    shadow.visit(offset as usize, bytes as usize, |cell, at| {
                        visit(cell, viewer, Fenced::Shared, Place::Shared { cta, offset: at as u32 });
                    });
                }
                Place::Global { address } => {
                    match global.whole(address, bytes as usize) {
                        Some(cells) => {
                            for (index, cell) in cells.iter_mut().enumerate() {
                                let place = Place::Global { address: address + 4 * index as u64 };
                                visit(cell, viewer, Fenced::Global, place);
                            }
                        }
                        None => global.visit(address, bytes.into(), |cell, at| {
                            visit(cell, viewer, Fenced::Global, Place::Global { address: at });
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
        if self.world.histories.len() > self.sweep_at {
            self.sweep();
        }
    }

    #[cold]
    fn sweep(&mut self) {
        let Checker { world, ctas, .. } = self;
        let mut used = vec![false; world.histories.len()];
        for cell in ctas.iter_mut().flat_map(|cta| cta.shared.cells()).chain(world.global.cells()) {
            used[cell.writers.0 as usize] = true;
            used[cell.readers.0 as usize] = true;
        }
        let names = world.histories.keep(&used);
        let rename = |id: &mut SetId| *id = names[id.0 as usize];
        for cell in ctas.iter_mut().flat_map(|cta| cta.shared.cells()).chain(world.global.cells()) {
            rename(&mut cell.writers);
            rename(&mut cell.readers);
        }
        self.warps.iter_mut().for_each(|warp| warp.view.forget());
        self.ops.values_mut().flat_map(|op| &mut op.views).for_each(Viewer::forget);
        self.sweep_at = MANY_SETS.max(2 * self.world.histories.len());
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
        Token { agent: self.world.agent(), time: 1 }
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
        let state = self.warp(cta, warp);
        if acquires {
            let seen = std::mem::take(&mut state.seen);
            state.view.clock.join(&seen);
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

    pub fn bar_arrive(&mut self, cta: usize, warp: usize, id: usize) {
        let clock = &self.warps[cta * self.warps_per_cta + warp].view.clock;
        self.ctas[cta].bars[id].arriving.join(clock);
        self.tick(cta, warp);
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
        self.ctas[at.0].barriers.insert(at.1, Barrier { init, meeting: Meeting::default() });
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
    pub fn arrive(&mut self, cta: usize, warp: usize, at: (usize, u32), relaxed: bool) {
        let clock = &self.warps[cta * self.warps_per_cta + warp].view.clock;
        if let Some(barrier) = self.ctas[at.0].barriers.get_mut(&at.1)
            && !relaxed
        {
            barrier.meeting.arriving.join(clock);
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
            barrier.meeting.arriving.before.raise(token.agent, token.time + 1);
        }
    }

    pub fn phase_complete(&mut self, (cta, offset): (usize, u32)) {
        if let Some(barrier) = self.ctas[cta].barriers.get_mut(&offset) {
            barrier.meeting.complete();
        }
    }

    /// A successful wait, which acquires unless it is relaxed.
    pub fn pass(&mut self, cta: usize, warp: usize, offset: u32, relaxed: bool) {
        if relaxed {
            return;
        }
        if let Some(barrier) = self.ctas[cta].barriers.get(&offset) {
            self.warps[cta * self.warps_per_cta + warp].view.clock.join(&barrier.meeting.passed);
        }
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
        world.places.write(self.cluster, place, who, passes, update);
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
        let into = if acquire { &mut state.view.clock } else { &mut state.seen };
        world.places.read(self.cluster, place, who, reach, into);
    }
}

impl World {
    fn agent(&mut self) -> Agent {
        self.agents += 1;
        Agent(self.agents - 1)
    }
}
