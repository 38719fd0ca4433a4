//! cp.async and cp.async.bulk.

use super::access::{SharedAt, lanes_of};
use super::cluster::{At, Cluster};
use super::probe::{Access, Memory, RangeAccess, WarpAccess};
use super::queue::{Action, BarrierAt, BulkTarget, CpAsyncAction, Issued};
use super::step::Flow;
use super::warp::{GroupOp, Warp};
use crate::check::How;
use crate::finding::FindingKind;
use crate::memory::space::CTA_SHIFT;
use crate::parse::ast::Space;
use crate::program::memory_op::{AtomOp, Bulk, BulkRoute, Completion, CpAsync, Order, Scope};

/// Bytes with a flag for each that says whether it was ever written.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub data: Vec<u8>,
    pub init: Vec<bool>,
}

impl Chunk {
    pub fn new(bytes: usize) -> Self {
        Chunk { data: vec![0; bytes], init: vec![true; bytes] }
    }
}

impl<'a> Cluster<'a> {
    pub(super) fn cp_async(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &CpAsync) -> Flow {
        let dst = self.addresses(warp, at, mask, &op.dst);
        let src = self.addresses(warp, at, dst.lanes, &op.src);
        let lanes = src.lanes;
        let mut src_bytes = [op.bytes; 32];
        if let Some(reg) = op.src_bytes {
            let undefined = lanes & !warp.regs.rdef(reg);
            if undefined != 0 {
                self.report(FindingKind::Uninit, at, undefined, None, || "source size is undefined".into());
            }
            for lane in lanes_of(lanes) {
                let given = warp.regs.r(reg)[lane];
                if given > op.bytes {
                    let size = op.bytes;
                    self.report(FindingKind::Oob, at, 1 << lane, None, || {
                        format!("source size {given} is larger than the copy size {size}")
                    });
                }
                src_bytes[lane] = given.min(op.bytes);
            }
        }
        if let Some(pred) = op.ignore_src {
            for lane in lanes_of(lanes & warp.regs.pred(pred)) {
                src_bytes[lane] = 0;
            }
        }
        let action = CpAsyncAction { mask: lanes, dst: dst.of, src: src.of, bytes: op.bytes, src_bytes };
        let mut due = warp.last_due;
        let Issued { id, token } = self.issue(*at, Action::CpAsync(Box::new(action)), &mut due);
        warp.last_due = due;
        if self.tracks_groups() {
            warp.cp_async.open.push(GroupOp { id, lanes, pc: at.pc, token, told: false });
        }
        Flow::Next
    }

    pub(super) fn perform_cp_async(&mut self, at: At, copy: &CpAsyncAction) {
        let reads = lanes_of(copy.mask).filter(|&lane| copy.src_bytes[lane] > 0).fold(0, |all, lane| all | 1 << lane);
        let observe = |lanes, memory, access, addresses| WarpAccess {
            at,
            lanes,
            memory,
            access,
            order: Order::Weak,
            scope: Scope::Cta,
            addresses,
            bytes: copy.bytes,
            meeting: None,
        };
        self.observe(&observe(reads, Memory::Global, Access::Read, &copy.src), How::CpAsync, None);
        self.observe(&observe(copy.mask, Memory::Shared, Access::Write, &copy.dst), How::CpAsync, None);
        for lane in lanes_of(copy.mask) {
            let lanes = 1 << lane;
            let wanted = copy.src_bytes[lane];
            let Some(place) = self.shared_at(&at, lanes, copy.dst[lane], copy.bytes, copy.bytes, true) else { continue };
            let mut chunk = Chunk::new(copy.bytes as usize);
            if wanted > 0 {
                let address = copy.src[lane];
                if address & u64::from(copy.bytes - 1) != 0 {
                    let size = copy.bytes;
                    self.report(FindingKind::Misaligned, &at, lanes, Some(address), || {
                        format!("source {address:#x} of cp.async is not a multiple of {size}")
                    });
                    continue;
                }
                let Some(buffer) = self.global_at(&at, lanes, address, wanted, 1) else { continue };
                let offset = address - buffer.base;
                let wanted = wanted as usize;
                buffer.read_bytes(offset, &mut chunk.data[..wanted], &mut chunk.init[..wanted]);
            }
            self.write_shared_chunk(&at, lanes, place, &chunk);
        }
    }

    /// Writes bytes with their flags, unless a live mbarrier is in the way.
    pub(super) fn write_shared_chunk(&mut self, at: &At, lanes: u32, place: SharedAt, chunk: &Chunk) {
        let cta = &mut self.ctas[place.cta];
        if let Some(barrier) = cta.mbarrier_at(place.offset, chunk.data.len() as u32) {
            self.write_to_mbarrier(at, lanes, barrier);
            return;
        }
        cta.shared.write_bytes(place.offset, &chunk.data, &chunk.init);
    }

    /// An operand that every bulk copy takes from one lane.
    fn bulk_lane(&mut self, warp: &mut Warp, at: &At, lane: usize, op: &Bulk) -> Option<()> {
        let dst = self.address_of_lane(warp, at, lane, &op.dst)?;
        let src = self.address_of_lane(warp, at, lane, &op.src)?;
        let lanes = 1u32 << lane;
        if (warp.regs.rdef(op.bytes) >> lane) & 1 == 0 {
            self.report(FindingKind::Uninit, at, lanes, None, || "size is undefined".into());
        }
        let bytes = warp.regs.r(op.bytes)[lane];
        if !bytes.is_multiple_of(16) {
            self.report(FindingKind::Misaligned, at, lanes, None, || format!("bulk size {bytes} is not a multiple of 16"));
            return None;
        }
        let barrier = match op.completion {
            Completion::MBarrier(addr) => {
                let address = self.address_of_lane(warp, at, lane, &addr)?;
                let space = if op.own_cta { Space::Shared } else { Space::SharedCluster };
                Some(self.barrier_place(at, lanes, space, address, true)?)
            }
            Completion::Group => None,
        };
        let mut due = warp.last_due;
        let action = match (op.route, barrier) {
            (BulkRoute::GlobalToShared, Some(barrier)) => {
                let place = self.shared_at(at, lanes, dst, bytes, 16, op.own_cta)?;
                self.global_at(at, lanes, src, bytes, 16)?;
                let targets = self.targets(warp, at, lane, place, barrier, op.multicast)?;
                Action::BulkLoad { src, bytes, targets }
            }
            (BulkRoute::SharedToCluster, Some(barrier)) => {
                let to = self.shared_at(at, lanes, dst, bytes, 16, false)?;
                let from = self.shared_at(at, lanes, src, bytes, 16, true)?;
                if barrier.cta != to.cta {
                    self.report(FindingKind::Mbarrier, at, lanes, Some(dst), || {
                        "the mbarrier of a copy between blocks must be in the destination block".into()
                    });
                }
                Action::BulkPeer {
                    src: (from.cta, from.offset),
                    dst: (to.cta, to.offset),
                    bytes,
                    barrier: (barrier.cta, barrier.offset),
                    reduce: op.reduce,
                }
            }
            _ => {
                let from = self.shared_at(at, lanes, src, bytes, 16, true)?;
                self.global_at(at, lanes, dst, bytes, 16)?;
                Action::BulkStore { src: (from.cta, from.offset), dst, bytes, reduce: op.reduce }
            }
        };
        let Issued { id, token } = self.issue(*at, action, &mut due);
        if self.tracks_groups() && barrier.is_none() {
            warp.bulk.open.push(GroupOp { id, lanes, pc: at.pc, token, told: false });
        }
        Some(())
    }

    pub(super) fn bulk(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &Bulk) -> Flow {
        for lane in lanes_of(mask) {
            // Findings say what went wrong; the copy does not happen.
            let _ = self.bulk_lane(warp, at, lane, op);
        }
        Flow::Next
    }

    /// Where a load lands: one block, or each block of a multicast mask at the same offsets.
    pub(super) fn targets(
        &mut self,
        warp: &Warp,
        at: &At,
        lane: usize,
        place: SharedAt,
        barrier: SharedAt,
        multicast: Option<crate::program::R>,
    ) -> Option<Vec<BulkTarget>> {
        let target = |cta| BulkTarget { cta, offset: place.offset, barrier: (cta, barrier.offset) };
        let Some(reg) = multicast else {
            return Some(vec![BulkTarget { barrier: (barrier.cta, barrier.offset), ..target(place.cta) }]);
        };
        if (warp.regs.rdef(reg) >> lane) & 1 == 0 {
            self.report(FindingKind::Uninit, at, 1 << lane, None, || "multicast mask is undefined".into());
        }
        let mask = warp.regs.r(reg)[lane] & 0xffff;
        let size = self.ctas.len();
        if mask == 0 || (mask >> size) != 0 {
            self.report(FindingKind::Oob, at, 1 << lane, None, || {
                format!("multicast mask {mask:#06x} does not fit a cluster of {size} blocks")
            });
            return None;
        }
        let alive = (0..size).filter(|&cta| (mask >> cta) & 1 == 1).collect::<Vec<_>>();
        if let Some(&gone) = alive.iter().find(|&&cta| self.ctas[cta].live_warps == 0) {
            self.report(FindingKind::Exit, at, 1 << lane, None, || format!("multicast to block rank {gone}, which has exited"));
            return None;
        }
        Some(alive.into_iter().map(target).collect())
    }

    pub(super) fn shared_range(&mut self, at: At, access: Access, cta: usize, offset: u32, bytes: u32) {
        let address = u64::from(offset) + ((cta as u64) << CTA_SHIFT);
        self.observe_range(&RangeAccess { at, memory: Memory::Shared, access, address, bytes }, None);
    }

    /// `value`: what a write puts there.
    pub(super) fn global_range(&mut self, at: At, access: Access, address: u64, bytes: u32, value: Option<&[u8]>) {
        self.observe_range(&RangeAccess { at, memory: Memory::Global, access, address, bytes }, value);
    }

    pub(super) fn perform_bulk_load(&mut self, at: At, src: u64, bytes: u32, targets: &[BulkTarget]) {
        let mut chunk = Chunk::new(bytes as usize);
        if let Ok(buffer) = self.m.global.find(src, bytes.into()) {
            buffer.read_bytes(src - buffer.base, &mut chunk.data, &mut chunk.init);
        }
        self.global_range(at, Access::Read, src, bytes, None);
        for target in targets {
            self.shared_range(at, Access::Write, target.cta, target.offset, bytes);
            self.write_shared_chunk(&at, 1, SharedAt { cta: target.cta, offset: target.offset }, &chunk);
            self.complete_tx(&at, target.barrier, bytes);
        }
    }

    pub(super) fn read_shared_chunk(&self, (cta, offset): (usize, u32), bytes: u32) -> Chunk {
        let mut chunk = Chunk::new(bytes as usize);
        self.ctas[cta].shared.read_bytes(offset, &mut chunk.data, &mut chunk.init);
        chunk
    }

    pub(super) fn perform_bulk_store(&mut self, at: At, src: (usize, u32), dst: u64, bytes: u32, reduce: Option<(AtomOp, u32)>) {
        let mut chunk = self.read_shared_chunk(src, bytes);
        self.shared_range(at, Access::Read, src.0, src.1, bytes);
        let access = if reduce.is_some() { Access::Atomic } else { Access::Write };
        self.global_range(at, access, dst, bytes, Some(&chunk.data));
        let Ok(buffer) = self.m.global.find(dst, bytes.into()) else { return };
        if let Some((op, size)) = reduce {
            let mut old = Chunk::new(bytes as usize);
            buffer.read_bytes(dst - buffer.base, &mut old.data, &mut old.init);
            merge(&mut chunk, &old, op, size);
        }
        buffer.write_bytes(dst - buffer.base, &chunk.data, &chunk.init);
    }

    pub(super) fn perform_bulk_peer(
        &mut self,
        at: At,
        src: (usize, u32),
        dst: (usize, u32),
        bytes: u32,
        barrier: BarrierAt,
        reduce: Option<(AtomOp, u32)>,
    ) {
        let mut chunk = self.read_shared_chunk(src, bytes);
        self.shared_range(at, Access::Read, src.0, src.1, bytes);
        self.shared_range(at, Access::Write, dst.0, dst.1, bytes);
        if let Some((op, size)) = reduce {
            let old = self.read_shared_chunk(dst, bytes);
            merge(&mut chunk, &old, op, size);
        }
        self.write_shared_chunk(&at, 1, SharedAt { cta: dst.0, offset: dst.1 }, &chunk);
        self.complete_tx(&at, barrier, bytes);
    }
}

/// `chunk = old op chunk`, element by element.
pub(super) fn merge(chunk: &mut Chunk, old: &Chunk, op: AtomOp, size: u32) {
    let size = size as usize;
    let elements = chunk.data.chunks_exact_mut(size).zip(chunk.init.chunks_exact_mut(size));
    for ((new, flags), (before, was)) in elements.zip(old.data.chunks_exact(size).zip(old.init.chunks_exact(size))) {
        let load = |bytes: &[u8]| {
            let mut value = [0; 16];
            value[..size].copy_from_slice(bytes);
            u128::from_le_bytes(value)
        };
        let value = super::atomics::combine(op, size as u32, load(before), load(new), 0);
        new.copy_from_slice(&value.to_le_bytes()[..size]);
        let defined = flags.iter().chain(was).all(|&flag| flag);
        flags.fill(defined);
    }
}
