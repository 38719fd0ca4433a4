//! st.async and red.async: stores to shared memory of the cluster that tell an mbarrier.

use super::access::{SharedAt, lanes_of};
use super::cluster::{At, Cluster};
use super::copies::{Chunk, merge};
use super::probe::{Access, Memory, WarpAccess};
use super::queue::{Action, BulkTarget};
use super::step::Flow;
use super::warp::Warp;
use crate::check::How;
use crate::finding::FindingKind;
use crate::memory::space::CTA_SHIFT;
use crate::parse::ast::Space;
use crate::program::memory_op::{AsyncStore, AtomOp, Order, Scope};

/// What the lanes of one instruction store.
#[derive(Clone, Debug)]
pub struct AsyncStoreAction {
    pub lanes: Vec<AsyncStoreLane>,
    pub bytes: u32,
    /// With the bytes of an element.
    pub reduce: Option<(AtomOp, u32)>,
}

#[derive(Clone, Debug)]
pub struct AsyncStoreLane {
    pub lane: usize,
    pub target: BulkTarget,
    pub data: [u8; 16],
    pub defined: [bool; 16],
}

impl Cluster<'_> {
    pub(super) fn async_store(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &AsyncStore) -> Flow {
        let name = if op.reduce.is_some() { "red.async" } else { "st.async" };
        let addresses = self.addresses(warp, at, mask, &op.addr);
        let barriers = self.addresses(warp, at, addresses.lanes, &op.barrier);
        let bytes = op.bytes * op.src.len() as u32;
        let size = op.bytes as usize;
        let mut lanes = Vec::new();
        for lane in lanes_of(barriers.lanes) {
            let one = 1u32 << lane;
            let address = match self.target(op.space, addresses.of[lane]) {
                crate::memory::space::Target::Shared(address) if op.space == Space::Generic => address.into(),
                _ if op.space == Space::Generic => {
                    self.report(FindingKind::Oob, at, one, Some(addresses.of[lane]), || {
                        format!("{name} reaches shared memory of the cluster only")
                    });
                    continue;
                }
                _ => addresses.of[lane],
            };
            let Some(place) = self.shared_at(at, one, address, bytes, bytes, false) else { continue };
            let Some(barrier) = self.barrier_place(at, one, op.space, barriers.of[lane], true) else { continue };
            if barrier.cta != place.cta {
                self.report(FindingKind::Mbarrier, at, one, Some(address), || {
                    let (to, of) = (place.cta, barrier.cta);
                    format!(
                        "{name} stores to block rank {to} but names an mbarrier of block rank {of}: they must be of one block"
                    )
                });
                continue;
            }
            let (mut data, mut defined) = ([0; 16], [true; 16]);
            for (index, reg) in op.src.iter().enumerate() {
                let part = index * size..(index + 1) * size;
                data[part.clone()].copy_from_slice(&warp.regs.lane(*reg, lane).to_le_bytes()[..size]);
                defined[part].fill((warp.regs.defined(*reg) >> lane) & 1 == 1);
            }
            let target = BulkTarget { cta: place.cta, offset: place.offset, barrier: (barrier.cta, barrier.offset) };
            lanes.push(AsyncStoreLane { lane, target, data, defined });
        }
        if lanes.is_empty() {
            return Flow::Next;
        }
        let mut due = warp.last_due;
        let action = AsyncStoreAction { lanes, bytes, reduce: op.reduce.map(|reduce| (reduce, op.bytes)) };
        self.issue(*at, Action::AsyncStore(Box::new(action)), &mut due);
        warp.last_due = due;
        Flow::Next
    }

    pub(super) fn perform_async_store(&mut self, at: At, store: &AsyncStoreAction) {
        let mut addresses = [0; 32];
        for part in &store.lanes {
            addresses[part.lane] = u64::from(part.target.offset) + ((part.target.cta as u64) << CTA_SHIFT);
        }
        // The accesses go through the generic proxy.
        let (access, order) = match store.reduce {
            Some(_) => (Access::Atomic, Order::Relaxed),
            None => (Access::Write, Order::Weak),
        };
        let access = WarpAccess {
            at,
            lanes: store.lanes.iter().fold(0, |all, part| all | 1 << part.lane),
            memory: Memory::Shared,
            access,
            order,
            scope: Scope::Cluster,
            addresses: &addresses,
            bytes: store.bytes,
            meeting: None,
        };
        self.observe(&access, How::StAsync, None);
        let size = store.bytes as usize;
        for part in &store.lanes {
            let BulkTarget { cta, offset, barrier } = part.target;
            let mut chunk = Chunk { data: part.data[..size].to_vec(), init: part.defined[..size].to_vec() };
            if let Some((op, element)) = store.reduce {
                let old = self.read_shared_chunk((cta, offset), store.bytes);
                merge(&mut chunk, &old, op, element);
            }
            self.write_shared_chunk(&at, 1 << part.lane, SharedAt { cta, offset }, &chunk);
            self.complete_tx(&at, barrier, store.bytes);
        }
    }
}
