//! Asynchronous operations between their issue and their effect.

use super::async_store::AsyncStoreAction;
use super::cluster::{At, Cluster};
use super::machine::Delivery;
use super::warp::{Group, GroupOp, Groups};
use crate::check::{GroupKind, How, Part, Token};
use crate::program::memory_op::{AtomOp, TmaReduce};
use crate::program::sync_op::Wgmma;
use crate::tensor::im2col::Im2col;
use crate::tensor::tma::{Run, TensorMap};
use rustc_hash::FxHashSet;

/// Identity of an operation, in order of issue.
pub type OpId = u64;

/// An operation that was issued.
#[derive(Clone, Copy, Debug)]
pub struct Issued {
    pub id: OpId,
    /// What it is known by once it was waited for, if checks are on.
    pub token: Option<Token>,
}

/// An mbarrier to tell: block rank in the cluster and offset in its window.
pub type BarrierAt = (usize, u32);

/// What will happen.
#[derive(Clone, Debug)]
pub enum Action<'a> {
    CpAsync(Box<CpAsyncAction>),
    CpAsyncArrive { barrier: BarrierAt, lanes: u32, copies: Vec<Token> },
    TmaLoad(Box<TmaAction>),
    TmaStore(Box<TmaAction>),
    BulkLoad { src: u64, bytes: u32, targets: Vec<BulkTarget> },
    BulkStore { src: (usize, u32), dst: u64, bytes: u32, reduce: Option<(AtomOp, u32)> },
    BulkPeer { src: (usize, u32), dst: (usize, u32), bytes: u32, barrier: BarrierAt, reduce: Option<(AtomOp, u32)> },
    Wgmma(Box<WgmmaAction<'a>>),
    AsyncStore(Box<AsyncStoreAction>),
}

#[derive(Clone, Debug)]
pub struct CpAsyncAction {
    pub mask: u32,
    pub dst: [u64; 32],
    pub src: [u64; 32],
    pub bytes: u32,
    pub src_bytes: [u32; 32],
}

/// Where a copy lands and which mbarrier it tells.
#[derive(Clone, Copy, Debug)]
pub struct BulkTarget {
    pub cta: usize,
    pub offset: u32,
    pub barrier: BarrierAt,
}

#[derive(Clone, Debug)]
pub struct TmaAction {
    pub map: TensorMap,
    /// Of an im2col copy, with its offsets.
    pub window: Option<(Im2col, Vec<i32>)>,
    pub coords: Vec<i32>,
    /// Loads: where to; stores: the source, without an mbarrier.
    pub targets: Vec<BulkTarget>,
    pub reduce: Option<TmaReduce>,
}

impl TmaAction {
    /// Bytes in shared memory.
    pub fn bytes(&self) -> u32 {
        self.window.as_ref().map_or_else(|| self.map.box_bytes(), |(window, _)| window.bytes(&self.map))
    }

    /// The consecutive pieces of the copy.
    pub fn runs(&self) -> Vec<Run> {
        if let Some((window, offsets)) = &self.window {
            return window.runs(&self.map, &self.coords, offsets);
        }
        let mut runs = Vec::new();
        // Rank and rules were checked when the copy was issued.
        let _ = self.map.for_each_run(&self.coords, |run| runs.push(run));
        runs
    }
}

#[derive(Clone, Debug)]
pub struct WgmmaAction<'a> {
    pub op: &'a Wgmma,
    pub first_warp: usize,
    /// Descriptors of a (if it is in shared memory) and b.
    pub a: Option<u64>,
    pub b: u64,
    pub scale_d: bool,
}

#[derive(Clone, Debug)]
struct Pending<'a> {
    id: OpId,
    due: u64,
    at: At,
    action: Action<'a>,
}

impl Pending<'_> {
    /// The instruction of a `cp.async.mbarrier.arrive`: block, warp and place.
    fn arrives(&self) -> Option<(usize, usize, u32)> {
        matches!(self.action, Action::CpAsyncArrive { .. }).then_some((self.at.cta, self.at.warp, self.at.pc))
    }
}

#[derive(Debug, Default)]
pub struct Queue<'a> {
    pending: Vec<Pending<'a>>,
    outstanding: FxHashSet<OpId>,
    next: OpId,
}

impl Queue<'_> {
    pub fn is_outstanding(&self, id: OpId) -> bool {
        self.outstanding.contains(&id)
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// One line for each operation that has not happened, for deadlock reports.
    pub fn describe(&self) -> usize {
        self.pending.len()
    }
}

impl Action<'_> {
    /// What the checker calls it, and the groups it is waited for in.
    fn how(&self) -> Option<(How, Option<GroupKind>)> {
        Some(match self {
            Action::CpAsync(_) => (How::CpAsync, Some(GroupKind::CpAsync)),
            Action::CpAsyncArrive { .. } => return None,
            Action::TmaLoad(_) => (How::Tensor, None),
            Action::TmaStore(_) => (How::Tensor, Some(GroupKind::Bulk)),
            Action::BulkLoad { .. } | Action::BulkPeer { .. } => (How::Bulk, None),
            Action::BulkStore { .. } => (How::Bulk, Some(GroupKind::Bulk)),
            Action::Wgmma(_) => (How::Wgmma, Some(GroupKind::Wgmma)),
            Action::AsyncStore(_) => (How::StAsync, None),
        })
    }
}

impl<'a> Cluster<'a> {
    /// Issues an operation; it may happen now. `last_due` keeps the operations of one issuer in order.
    pub(super) fn issue(&mut self, at: At, action: Action<'a>, last_due: &mut u64) -> Issued {
        let id = self.queue.next;
        self.queue.next += 1;
        let token = match (&mut self.check, action.how()) {
            (Some(check), Some((How::Wgmma, _))) => Some(check.issue_warpgroup(id, at.cta, at.warp)),
            (Some(check), Some((how, group))) => Some(check.issue(id, how, group, at.cta, at.warp)),
            _ => None,
        };
        match self.m.schedule.delivery {
            Delivery::Early => self.perform(id, at, action),
            delivery => {
                let delay = if delivery == Delivery::Random { self.random(4_000) } else { 0 };
                let due = (self.clock + delay).max(*last_due);
                *last_due = due;
                self.queue.outstanding.insert(id);
                self.queue.pending.push(Pending { id, due, at, action });
            }
        }
        Issued { id, token }
    }

    /// Delivers what is due, or with `force` the operation that is due first.
    pub(super) fn deliver(&mut self, force: bool) -> bool {
        let mut delivered = false;
        let mut arrives = None;
        loop {
            let next = (0..self.queue.pending.len()).min_by_key(|&i| (self.queue.pending[i].due, self.queue.pending[i].id));
            let Some(at) = next else { return delivered };
            let is_due = self.m.schedule.delivery == Delivery::Random && self.queue.pending[at].due <= self.clock;
            // What one `cp.async.mbarrier.arrive` of a warp issued, an operation a lane, happens at once.
            let same = arrives.is_some() && arrives == self.queue.pending[at].arrives();
            if !is_due && !same && (!force || delivered) {
                return delivered;
            }
            let pending = self.queue.pending.remove(at);
            arrives = pending.arrives();
            self.queue.outstanding.remove(&pending.id);
            self.perform(pending.id, pending.at, pending.action);
            self.progress();
            self.events.push(super::cluster::Event::Delivered);
            delivered = true;
        }
    }

    fn perform(&mut self, id: OpId, at: At, action: Action<'a>) {
        let how = action.how();
        let outer = std::mem::replace(&mut self.acting, how.map(|(how, _)| (id, how)));
        self.perform_action(at, action);
        self.acting = outer;
        if let (Some(check), Some((how, group))) = (&mut self.check, how) {
            check.finish(id, how, group.is_some());
        }
    }

    fn perform_action(&mut self, at: At, action: Action<'a>) {
        match action {
            Action::CpAsync(copy) => self.perform_cp_async(at, &copy),
            Action::CpAsyncArrive { barrier, lanes, copies } => self.perform_cp_async_arrive(at, barrier, lanes, &copies),
            Action::TmaLoad(tma) => self.perform_tma_load(at, &tma),
            Action::TmaStore(tma) => self.perform_tma_store(at, &tma),
            Action::BulkLoad { src, bytes, targets } => self.perform_bulk_load(at, src, bytes, &targets),
            Action::BulkStore { src, dst, bytes, reduce } => self.perform_bulk_store(at, src, dst, bytes, reduce),
            Action::BulkPeer { src, dst, bytes, barrier, reduce } => {
                self.perform_bulk_peer(at, src, dst, bytes, barrier, reduce);
            }
            Action::Wgmma(action) => self.perform_wgmma(at, &action),
            Action::AsyncStore(store) => self.perform_async_store(at, &store),
        }
    }

    /// Whether lanes must still wait until at most `allowed` of their latest groups are outstanding.
    pub(super) fn must_wait(&self, groups: &Groups, lanes: u32, allowed: u32) -> bool {
        groups
            .beyond(lanes, allowed)
            .any(|(group, lanes)| group.ops.iter().any(|op| op.lanes & lanes != 0 && self.queue.is_outstanding(op.id)))
    }

    /// The lanes' wait is over: all but their `allowed` latest groups are behind the warp.
    pub(super) fn pass_groups(&mut self, groups: &mut Groups, at: &At, lanes: u32, allowed: u32, part: Part) {
        let Some(check) = &mut self.check else {
            groups.settle(lanes, allowed, part);
            return;
        };
        let mut last = None;
        for (group, lanes) in groups.beyond(lanes, allowed) {
            for token in group.ops.iter().filter(|op| op.lanes & lanes != 0).filter_map(|op| op.token) {
                if last != Some(token) {
                    check.waited(at.cta, at.warp, token, part);
                    last = Some(token);
                }
            }
        }
        groups.settle(lanes, allowed, part);
    }

    /// Whether operations are recorded at all: with early delivery everything is complete when it is issued, and only
    /// the checker needs to know who waited.
    pub(super) fn tracks_groups(&self) -> bool {
        self.m.schedule.delivery != Delivery::Early || self.check.is_some()
    }
}

impl Groups {
    /// An operation whose reads nobody waited for.
    pub fn unread(&self) -> Option<&GroupOp> {
        let committed = self.committed.iter().filter(|group| !group.read).flat_map(|group| &group.ops);
        self.open.iter().chain(committed).find(|op| !op.told)
    }

    /// Closes a group for `lanes`.
    pub fn commit(&mut self, lanes: u32) {
        let mut group = Group { lanes, ops: Vec::new(), read: false };
        self.open.retain_mut(|op| {
            if op.lanes & lanes != 0 {
                group.ops.push(GroupOp { lanes: op.lanes & lanes, ..*op });
            }
            op.lanes &= !lanes;
            op.lanes != 0
        });
        self.committed.push_back(group);
        // No wait can name more groups than this.
        if self.committed.len() > 4_096 {
            self.committed.pop_front();
        }
    }

    /// Committed groups, latest first, with the lanes for which they are older than the `allowed` latest ones.
    fn beyond(&self, lanes: u32, allowed: u32) -> impl Iterator<Item = (&Group, u32)> {
        let mut newer = [0u32; 32];
        self.committed.iter().rev().map(move |group| {
            let mut old = 0;
            for lane in (0..32).filter(|lane| (lanes & group.lanes) >> lane & 1 == 1) {
                newer[lane] += 1;
                old |= u32::from(newer[lane] > allowed) << lane;
            }
            (group, old)
        })
    }

    /// Forgets groups that were waited for by all who committed them.
    fn settle(&mut self, lanes: u32, allowed: u32, part: Part) {
        let mut newer = [0u32; 32];
        for at in (0..self.committed.len()).rev() {
            let group = &mut self.committed[at];
            let mut old = 0;
            for lane in (0..32).filter(|lane| (lanes & group.lanes) >> lane & 1 == 1) {
                newer[lane] += 1;
                old |= u32::from(newer[lane] > allowed) << lane;
            }
            if old != group.lanes {
                continue;
            }
            match part {
                // A wait for all of it may follow.
                Part::Reads => group.read = true,
                Part::All => {
                    self.committed.remove(at);
                }
            }
        }
    }
}
