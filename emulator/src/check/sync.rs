//! How synchronisation moves knowledge from those who arrive to those who pass.

use super::checker::{Act, Actor, Arrivals, Barrier, Checker, CtaState, Hazard, OpId, Place, Token, Visit, WarpState};
use super::clock::{Agent, Fenced, Vector};
use super::history::{Entry, How, Strength};
use super::places::reaches;
use super::rules::{Conflict, Touch};

impl Checker {
    pub(super) fn tick(&mut self, cta: usize, warp: usize) {
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

    pub fn acquire_maps(&mut self, cta: usize, warp: usize) {
        self.warp(cta, warp).view.clock.acquire_maps();
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
    pub fn arrive(&mut self, (cta, warp, pc): (usize, usize, u32), at: (usize, u32), relaxed: bool, reach: Strength) {
        let WarpState { agent, view, .. } = &self.warps[cta * self.warps_per_cta + warp];
        let clock = &view.clock;
        if at.0 != cta && !relaxed {
            let visit = Visit { time: clock.before.get(*agent), pc, cta, warp };
            self.ctas[at.0].visits.insert(*agent, visit);
        }
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
        let arrived = [&cluster.before, &narrow.before].map(Vector::clone);
        arrived.iter().for_each(|known| self.ctas[cta].arrived.join(known));
    }

    /// A block is about to be gone: what others did to its shared memory without its knowing may come too late.
    pub fn exit(&self, cta: usize) -> Vec<Visit> {
        let warps = &self.warps[cta * self.warps_per_cta..(cta + 1) * self.warps_per_cta];
        let CtaState { visits, arrived, .. } = &self.ctas[cta];
        let known = |agent: Agent, time: u32| {
            arrived.get(agent) >= time || warps.iter().any(|warp| warp.view.clock.before.get(agent) >= time)
        };
        let mut late: Vec<Visit> = visits.iter().filter(|(agent, visit)| !known(**agent, visit.time)).map(|(_, v)| *v).collect();
        late.sort_unstable_by_key(|visit| (visit.pc, visit.cta, visit.warp));
        late
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
