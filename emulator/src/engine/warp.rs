//! A warp: its registers, and which of its lanes are where.
//!
//! A converged warp is one split. A branch that goes both ways makes two, which meet again at the branch's immediate
//! post-dominator: the first to get there parks in a [`Join`] until no lane is missing. Splits take turns, so lanes
//! that spin do not starve the others (independent thread scheduling); lanes parked in a join can be let go by the
//! scheduler when nothing else moves.

use super::calls::Frame;
use super::queue::OpId;
use super::regs::Regs;
use super::wgmma_regs::WgmmaGroups;
use crate::check::Token;
use crate::memory::shared::Bytes;
use std::collections::VecDeque;

/// No join: the split runs to its exit.
pub const NO_JOIN: u32 = u32::MAX;

/// The frame of the entry itself.
pub const NO_FRAME: u32 = u32::MAX;

/// What a blocked split waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A phase of an mbarrier in the block's own shared memory.
    MBarrier { offset: u32 },
    /// A named barrier.
    Bar { id: u8 },
    /// The other lanes of a member mask, at the same instruction.
    Lanes { members: u32 },
    /// The cluster barrier to pass this phase.
    Cluster { phase: u64 },
    /// Copies or tensor operations of the warp.
    Groups,
    /// The other warps of the warpgroup at the same `wgmma`.
    Wgmma,
    /// Registers of the block's pool.
    Registers { registers: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    Blocked(Wait),
}

/// Lanes that execute together.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    pub pc: u32,
    pub mask: u32,
    pub join: u32,
    /// The call it is in.
    pub frame: u32,
    pub state: State,
    /// The instruction at `pc` was issued before and is tried again: it counts once.
    pub retry: bool,
    /// A potentially blocking wait may return false this time.
    pub timed_out: bool,
}

impl Split {
    pub fn ready(pc: u32, mask: u32, join: u32, frame: u32) -> Self {
        Split { pc, mask, join, frame, state: State::Ready, retry: false, timed_out: false }
    }
}

/// A place where lanes meet again.
#[derive(Clone, Copy, Debug)]
pub struct Join {
    pub pc: u32,
    /// The call in which `pc` is to be reached: recursion passes it in others.
    pub frame: u32,
    /// Lanes still on their way.
    pub pending: u32,
    /// Lanes that are here.
    pub arrived: u32,
    pub parent: u32,
    in_use: bool,
}

/// An asynchronous operation with the lanes that issued it.
#[derive(Clone, Copy, Debug)]
pub struct GroupOp {
    pub id: OpId,
    pub lanes: u32,
    pub pc: u32,
    pub token: Option<Token>,
    /// An mbarrier is told when it is done.
    pub told: bool,
}

/// Asynchronous operations committed together.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub lanes: u32,
    pub ops: Vec<GroupOp>,
    /// All who committed it waited for its reads.
    pub read: bool,
}

/// Uncommitted operations and committed groups of one kind.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    pub open: Vec<GroupOp>,
    pub committed: VecDeque<Group>,
}

#[derive(Debug, Default)]
pub struct Warp {
    pub regs: Regs,
    pub splits: Vec<Split>,
    pub joins: Vec<Join>,
    pub frames: Vec<Frame>,
    /// Lanes that exist and have not exited.
    pub live: u32,
    pub queued: bool,
    pub turn: usize,
    pub local: Bytes,
    /// The block knows that this warp is gone.
    pub exited: bool,
    /// Values of strong loads and failed atomics seen lately, to tell polling from reading.
    pub polls: [u64; 4],
    /// The latest instruction that polled.
    pub polls_at: u32,
    /// Registers of each thread, as `setmaxnreg` left them.
    pub registers: u32,
    pub cp_async: Groups,
    pub bulk: Groups,
    pub wgmma: Groups,
    pub wgmma_groups: WgmmaGroups,
    /// Lanes that arrived at the cluster barrier and have not waited yet, and the phase they arrived in.
    pub cluster_arrived: u32,
    pub cluster_phase: u64,
    /// Lanes that arrived at each named barrier while others of the warp had not.
    pub bar_lanes: [u32; 16],
    /// How often the lanes have met: at `bar.warp.sync`, barriers, and whatever else gathers the warp.
    pub meetings: u32,
    /// Lanes were let go from a join to make progress: being apart is no mistake of the program any more.
    pub forced_apart: bool,
    /// The latest delivery time given to an operation of the warp, which keeps them in order.
    pub last_due: u64,
}

impl Warp {
    /// The next split that can run, taking turns.
    pub fn next_ready(&mut self) -> Option<usize> {
        let count = self.splits.len();
        (0..count).map(|i| (self.turn + i) % count).find(|&i| self.splits[i].state == State::Ready)
    }

    pub fn is_done(&self) -> bool {
        self.live == 0
    }

    /// Splits `mask` of split `index` off to several places, meeting again at `meet`.
    pub fn diverge(&mut self, index: usize, parts: &[(u32, u32)], meet: u32) {
        let frame = self.splits[index].frame;
        let join = self.join_at(index, meet);
        self.splits.remove(index);
        for &(pc, mask) in parts {
            self.splits.push(Split::ready(pc, mask, join, frame));
        }
        self.turn = index;
    }

    /// The join at `meet` for the parts of a split, a new one unless it is already on the way there.
    pub fn join_at(&mut self, index: usize, meet: u32) -> u32 {
        let Split { join, mask, frame, .. } = self.splits[index];
        let inherited = self.is_at(join, meet, frame);
        if meet == u32::MAX || inherited { join } else { self.open_join(meet, mask, join, frame) }
    }

    /// Whether a join is at this place.
    fn is_at(&self, join: u32, pc: u32, frame: u32) -> bool {
        self.joins.get(join as usize).is_some_and(|join| join.pc == pc && join.frame == frame)
    }

    /// Where a split stops to wait for others.
    pub fn stop_of(&self, split: &Split) -> u32 {
        match self.joins.get(split.join as usize) {
            Some(join) if join.frame == split.frame => join.pc,
            _ => u32::MAX,
        }
    }

    fn open_join(&mut self, pc: u32, pending: u32, parent: u32, frame: u32) -> u32 {
        let join = Join { pc, frame, pending, arrived: 0, parent, in_use: true };
        match self.joins.iter().position(|join| !join.in_use) {
            Some(at) => {
                self.joins[at] = join;
                at as u32
            }
            None => {
                self.joins.push(join);
                self.joins.len() as u32 - 1
            }
        }
    }

    /// Split `index` has reached its join.
    pub fn park(&mut self, index: usize) {
        let Split { mask, join, .. } = self.splits.remove(index);
        let here = &mut self.joins[join as usize];
        here.pending &= !mask;
        here.arrived |= mask;
        self.settle(join);
    }

    /// Lets the lanes of a join go on when nobody is missing.
    fn settle(&mut self, join: u32) {
        let Join { pc, frame, pending, arrived, parent, in_use } = self.joins[join as usize];
        if pending != 0 || !in_use {
            return;
        }
        self.joins[join as usize].in_use = false;
        self.joins[join as usize].arrived = 0;
        if arrived == 0 {
            return;
        }
        self.splits.push(Split::ready(pc, arrived, parent, frame));
        if self.is_at(parent, pc, frame) {
            self.park(self.splits.len() - 1);
        }
    }

    /// Lanes of split `index` exit.
    pub fn exit(&mut self, index: usize, lanes: u32) {
        self.live &= !lanes;
        let Split { join, mut frame, .. } = self.splits[index];
        while frame != NO_FRAME {
            self.frames[frame as usize].live &= !lanes;
            frame = self.frames[frame as usize].parent;
        }
        self.splits[index].mask &= !lanes;
        if self.splits[index].mask == 0 {
            self.splits.remove(index);
        }
        let mut at = join;
        while at != NO_JOIN {
            let parent = self.joins[at as usize].parent;
            self.joins[at as usize].pending &= !lanes;
            self.settle(at);
            at = parent;
        }
    }

    /// Lets parked lanes go on without the missing ones; whether there were any.
    pub fn release_parked(&mut self) -> bool {
        let mut released = false;
        for at in 0..self.joins.len() {
            let Join { pc, frame, arrived, parent, in_use, .. } = self.joins[at];
            if !in_use || arrived == 0 {
                continue;
            }
            self.joins[at].arrived = 0;
            let mut up = parent;
            // Joins above at the same place do not wait for these lanes either.
            while self.is_at(up, pc, frame) {
                let next = self.joins[up as usize].parent;
                self.joins[up as usize].pending &= !arrived;
                self.settle(up);
                up = next;
            }
            self.splits.push(Split::ready(pc, arrived, up, frame));
            released = true;
        }
        self.forced_apart |= released;
        released
    }
}
