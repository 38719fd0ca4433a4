//! Vector clocks that know about proxies.
//!
//! Agents are warps and asynchronous operations. Each access happens at a time of its agent's own clock; an agent that
//! knows of that time or a later one has the access behind it. PTX adds a twist (ISA 8.6): a write through the generic
//! proxy that happened before is still invisible to the async proxy until a proxy fence, so each agent keeps, beside
//! what happened before it, the part of it that was fenced towards each other proxy.

/// A warp or an asynchronous operation in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Agent(pub u32);

/// The latest known time of each agent; 0 knows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vector(Vec<u32>);

impl Vector {
    #[inline]
    pub fn get(&self, agent: Agent) -> u32 {
        self.0.get(agent.0 as usize).copied().unwrap_or(0)
    }

    pub fn raise(&mut self, agent: Agent, time: u32) {
        let at = agent.0 as usize;
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        self.0[at] = self.0[at].max(time);
    }

    pub fn join(&mut self, other: &Vector) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// Joins only what is known of the agents for which `which` is set.
    pub fn join_where(&mut self, other: &Vector, which: &[bool]) {
        for (agent, time) in other.0.iter().enumerate().filter(|(agent, time)| **time != 0 && which[*agent]) {
            self.raise(Agent(agent as u32), *time);
        }
    }

    /// What both know.
    pub fn meet(&mut self, other: &Vector) {
        self.0.truncate(other.0.len());
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).min(*theirs);
        }
    }

    fn copy_from(&mut self, other: &Vector) {
        self.0.clear();
        self.0.extend_from_slice(&other.0);
    }
}

/// Memory that a proxy fence can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced {
    Shared,
    Global,
    /// Released by the writer and acquired by the user.
    TensorMap,
    /// Released only.
    TensorMapReleased,
}

/// What happened before an agent, or what a synchronisation object passes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Accesses of any proxy.
    pub before: Vector,
    /// Generic accesses fenced towards the async proxy, to shared and to global memory, and towards tensor maps.
    fenced: [Vector; 4],
    /// Initialisations of mbarriers that `fence.mbarrier_init` made visible, which even relaxed arrivals pass on.
    pub inits: Vector,
}

impl Clock {
    pub fn join(&mut self, other: &Clock) {
        self.before.join(&other.before);
        for (mine, theirs) in self.fenced.iter_mut().zip(&other.fenced) {
            mine.join(theirs);
        }
        self.inits.join(&other.inits);
    }

    /// What both have behind them.
    pub fn meet(&mut self, other: &Clock) {
        self.before.meet(&other.before);
        for (mine, theirs) in self.fenced.iter_mut().zip(&other.fenced) {
            mine.meet(theirs);
        }
        self.inits.meet(&other.inits);
    }

    /// A proxy fence: everything before it is now visible to the other proxy.
    pub fn fence(&mut self, what: Fenced) {
        self.fenced[what as usize].copy_from(&self.before);
    }

    /// The using side's fence: what was released until then is visible.
    pub fn acquire_maps(&mut self) {
        let [.., visible, released] = &mut self.fenced;
        visible.join(released);
    }

    pub fn fence_inits(&mut self) {
        self.inits.copy_from(&self.before);
    }

    pub fn fenced(&self, what: Fenced) -> &Vector {
        &self.fenced[what as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(times: &[u32]) -> Vector {
        let mut out = Vector::default();
        for (agent, time) in times.iter().enumerate() {
            out.raise(Agent(agent as u32), *time);
        }
        out
    }

    #[test]
    fn join_and_meet_are_the_bounds() {
        let (a, b) = (vector(&[3, 0, 5]), vector(&[1, 4]));
        let mut both = a.clone();
        both.join(&b);
        assert_eq!(both, vector(&[3, 4, 5]));
        let mut common = a;
        common.meet(&b);
        assert_eq!((0..3).map(|agent| common.get(Agent(agent))).collect::<Vec<_>>(), [1, 0, 0]);
    }

    #[test]
    fn a_fence_covers_what_was_before_it_only() {
        let mut clock = Clock::default();
        clock.before.raise(Agent(0), 2);
        clock.fence(Fenced::Shared);
        clock.before.raise(Agent(0), 3);
        assert_eq!(clock.fenced(Fenced::Shared).get(Agent(0)), 2);
        assert_eq!(clock.fenced(Fenced::Global).get(Agent(0)), 0);
    }
}
