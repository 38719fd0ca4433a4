//! Asynchronous operations between their issue and their effect.

use super::async_store::AsyncStoreAction;
use super::cluster::{At, Cluster};
use super::machine::Delivery;
use super::warp::{Group, Groups};
use crate::program::memory_op::{AtomOp, TmaReduce};
use crate::program::sync_op::Wgmma;
use crate::tensor::tma::TensorMap;
use rustc_hash::FxHashSet;

/// Identity of an operation, in order of issue.
pub type OpId = u64;

/// An mbarrier to tell: block rank in the cluster and offset in its window.
pub type BarrierAt = (usize, u32);

/// What will happen.
#[derive(Clone, Debug)]
pub enum Action<'a> {
    CpAsync(Box<CpAsyncAction>),
    CpAsyncArrive { barrier: BarrierAt, lanes: u32 },
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
    pub coords: Vec<i32>,
    /// Loads: where to; stores: the source, without an mbarrier.
    pub targets: Vec<BulkTarget>,
    pub reduce: Option<TmaReduce>,
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

impl<'a> Cluster<'a> {
    /// Issues an operation; it may happen now. `last_due` keeps the operations of one issuer in order.
    pub(super) fn issue(&mut self, at: At, action: Action<'a>, last_due: &mut u64) -> OpId {
        let id = self.queue.next;
        self.queue.next += 1;
        match self.m.schedule.delivery {
            Delivery::Early => self.perform(at, action),
            delivery => {
                let delay = if delivery == Delivery::Random { self.random(4_000) } else { 0 };
                let due = (self.clock + delay).max(*last_due);
                *last_due = due;
                self.queue.outstanding.insert(id);
                self.queue.pending.push(Pending { id, due, at, action });
            }
        }
        id
    }

    /// Delivers what is due, or with `force` the operation that is due first.
    pub(super) fn deliver(&mut self, force: bool) -> bool {
        let mut delivered = false;
        loop {
            let next = (0..self.queue.pending.len()).min_by_key(|&i| (self.queue.pending[i].due, self.queue.pending[i].id));
            let Some(at) = next else { return delivered };
            let is_due = self.m.schedule.delivery == Delivery::Random && self.queue.pending[at].due <= self.clock;
            if !is_due && (!force || delivered) {
                return delivered;
            }
            let pending = self.queue.pending.remove(at);
            self.queue.outstanding.remove(&pending.id);
            self.perform(pending.at, pending.action);
            self.progress();
            self.events.push(super::cluster::Event::Delivered);
            delivered = true;
        }
    }

    fn perform(&mut self, at: At, action: Action<'a>) {
        match action {
            Action::CpAsync(copy) => self.perform_cp_async(at, &copy),
            Action::CpAsyncArrive { barrier, lanes } => self.perform_cp_async_arrive(at, barrier, lanes),
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
        let mut newer = [0u32; 32];
        for group in groups.committed.iter().rev() {
            for lane in (0..32).filter(|lane| (lanes & group.lanes) >> lane & 1 == 1) {
                newer[lane] += 1;
                let outstanding = |(id, who): &(OpId, u32)| (who >> lane) & 1 == 1 && self.queue.is_outstanding(*id);
                if newer[lane] > allowed && group.ops.iter().any(outstanding) {
                    return true;
                }
            }
        }
        false
    }

    /// Whether operations are recorded at all: with early delivery everything is complete when it is issued.
    pub(super) fn tracks_groups(&self) -> bool {
        self.m.schedule.delivery != Delivery::Early
    }
}

impl Groups {
    /// Closes a group for `lanes`.
    pub fn commit(&mut self, lanes: u32) {
        let mut group = Group { lanes, ops: Vec::new() };
        self.open.retain_mut(|(id, who)| {
            if *who & lanes != 0 {
                group.ops.push((*id, *who & lanes));
            }
            *who &= !lanes;
            *who != 0
        });
        self.committed.push_back(group);
        // No wait can name more groups than this.
        if self.committed.len() > 4_096 {
            self.committed.pop_front();
        }
    }
}
