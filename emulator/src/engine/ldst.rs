//! Loads and stores of single lanes.

use super::access::{POISON_VALUE, SharedAt, lanes_of};
use super::cluster::{At, Cluster};
use super::probe::{Access, Memory, WarpAccess};
use super::regs::{FULL, Regs};
use super::step::Flow;
use super::warp::Warp;
use crate::check::How;
use crate::memory::space::Target;
use crate::parse::ast::Space;
use crate::program::Reg;
use crate::program::memory_op::{Elem, LdParam, Load, Order, Prefetch, Store};

/// Sign-extends an element to the register it goes to.
pub(super) fn extend(value: u128, elem: Elem) -> u128 {
    let unused = 128 - 8 * elem.bytes;
    if elem.signed { (((value << unused) as i128) >> unused) as u128 } else { (value << unused) >> unused }
}

/// Hands the elements of a loaded value to registers of one lane.
pub(super) fn scatter(regs: &mut Regs, dst: &[Reg], elem: Elem, lane: usize, value: u128) {
    for (index, reg) in dst.iter().enumerate() {
        let shifted = value >> (8 * elem.bytes * index as u32);
        regs.set_lane(*reg, lane, extend(shifted, elem));
    }
}

/// The memory image of registers of one lane.
fn gather(regs: &Regs, src: &[Reg], elem: Elem, lane: usize) -> u128 {
    if let [single] = src {
        return extend(regs.lane(*single, lane), Elem { bytes: elem.bytes, signed: false });
    }
    let plain = Elem { bytes: elem.bytes, signed: false };
    src.iter().rev().fold(0, |all, reg| (all << (8 * elem.bytes)) | extend(regs.lane(*reg, lane), plain))
}

/// Splits accesses of more than 16 bytes (`.v8.b32`, `.v4.b64`) in two.
fn pieces(count: usize, elem: Elem) -> usize {
    (16 / elem.bytes as usize).clamp(1, count.max(1))
}

impl Cluster<'_> {
    pub(super) fn ld_param(&mut self, warp: &mut Warp, mask: u32, op: &LdParam) -> Flow {
        let bytes = op.elem.bytes as usize;
        for (index, reg) in op.dst.iter().enumerate() {
            let start = op.offset as usize + index * bytes;
            let mut value = [0; 16];
            // The decoder checked the range against the parameters' size.
            if let Some(slice) = self.m.params.get(start..start + bytes) {
                value[..bytes].copy_from_slice(slice);
            }
            let value = extend(u128::from_le_bytes(value), op.elem);
            match reg {
                Reg::R(r) => warp.regs.put(*r, &[value as u32; 32], mask, FULL),
                Reg::D(d) => warp.regs.put64(*d, &[value as u64; 32], mask, FULL),
                other => {
                    for lane in lanes_of(mask) {
                        warp.regs.set_lane(*other, lane, value);
                    }
                    warp.regs.set_defined(*other, mask, FULL);
                }
            }
        }
        Flow::Next
    }

    pub(super) fn load(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &Load) -> Flow {
        let addresses = self.addresses(warp, at, mask, &op.addr);
        let step = pieces(op.dst.len(), op.elem);
        for (piece, dst) in op.dst.chunks(step).enumerate() {
            let bytes = op.elem.bytes * dst.len() as u32;
            let skip = (piece * step) as u64 * u64::from(op.elem.bytes);
            let mut of = addresses.of;
            if skip != 0 {
                of.iter_mut().for_each(|address| *address = address.wrapping_add(skip));
            }
            self.load_piece(warp, at, addresses.lanes, op, &of, bytes, dst);
        }
        for reg in &op.dst {
            warp.regs.set_defined(*reg, mask, FULL);
        }
        if op.order != Order::Weak
            && let (Some(lane), Some(reg)) = (lanes_of(addresses.lanes).next(), op.dst.first())
        {
            let value = warp.regs.lane(*reg, lane);
            self.maybe_poll(warp, at, addresses.of[lane], value);
        }
        Flow::Next
    }

    fn load_piece(&mut self, warp: &mut Warp, at: &At, lanes: u32, op: &Load, of: &[u64; 32], bytes: u32, dst: &[Reg]) {
        let how = if op.order == Order::Weak { How::Load } else { How::Atomic };
        let (access, memory) = (Access::Read, Memory::of(op.space));
        let meeting = (op.order == Order::Weak).then_some(warp.meetings);
        let access =
            WarpAccess { at: *at, lanes, memory, access, order: op.order, scope: op.scope, addresses: of, bytes, meeting };
        self.observe_in(op.space, access, how, None);
        match op.space {
            Space::Shared | Space::SharedCluster => {
                let own_only = op.space == Space::Shared;
                if self.load_row(at.cta, true, of, lanes, &mut warp.regs, dst, op.elem.bytes) {
                    return;
                }
                for lane in lanes_of(lanes) {
                    let value = match self.shared_at(at, 1 << lane, of[lane], bytes, bytes, own_only) {
                        Some(place) => self.load_shared(at, 1 << lane, place, bytes),
                        None => POISON_VALUE,
                    };
                    scatter(&mut warp.regs, dst, op.elem, lane, value);
                }
            }
            Space::Global | Space::Const => {
                if self.load_row(at.cta, false, of, lanes, &mut warp.regs, dst, op.elem.bytes) {
                    return;
                }
                for lane in lanes_of(lanes) {
                    let value = self.load_global(at, 1 << lane, of[lane], bytes).unwrap_or(POISON_VALUE);
                    scatter(&mut warp.regs, dst, op.elem, lane, value);
                }
            }
            space => {
                for lane in lanes_of(lanes) {
                    let value = self.load_lane(warp, at, lane, self.target(space, of[lane]), bytes);
                    scatter(&mut warp.regs, dst, op.elem, lane, value);
                }
            }
        }
    }

    pub(super) fn load_lane(&mut self, warp: &Warp, at: &At, lane: usize, target: Target, bytes: u32) -> u128 {
        match target {
            Target::Global(address) => self.load_global(at, 1 << lane, address, bytes).unwrap_or(POISON_VALUE),
            Target::Shared(address) => match self.shared_at(at, 1 << lane, address.into(), bytes, bytes, false) {
                Some(place) => self.load_shared(at, 1 << lane, place, bytes),
                None => POISON_VALUE,
            },
            Target::Local(offset) => match self.local_at(at, lane, offset, bytes) {
                Some(place) => {
                    if !warp.local.is_partly_init(place, bytes) {
                        self.report(crate::finding::FindingKind::Uninit, at, 1 << lane, Some(offset.into()), || {
                            format!("reads {bytes} bytes at offset {offset} of local memory that were never written")
                        });
                    }
                    warp.local.load(place, bytes)
                }
                None => POISON_VALUE,
            },
            Target::Param(offset) => self.param_bytes(at, 1 << lane, offset, bytes).unwrap_or(POISON_VALUE),
        }
    }

    pub(super) fn store(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &Store) -> Flow {
        let addresses = self.addresses(warp, at, mask, &op.addr);
        let step = pieces(op.src.len(), op.elem);
        for (piece, src) in op.src.chunks(step).enumerate() {
            let bytes = op.elem.bytes * src.len() as u32;
            let skip = (piece * step) as u64 * u64::from(op.elem.bytes);
            let defined = src.iter().fold(FULL, |all, reg| all & warp.regs.defined(*reg));
            let mut of = addresses.of;
            if skip != 0 {
                of.iter_mut().for_each(|address| *address = address.wrapping_add(skip));
            }
            self.observe_store(warp, at, addresses.lanes, op, &of, bytes, src);
            let lanes = match op.space {
                Space::Shared | Space::SharedCluster | Space::Global => {
                    let shared = op.space != Space::Global;
                    if self.store_row(at.cta, shared, &of, addresses.lanes, &warp.regs, src, op.elem.bytes) {
                        0
                    } else {
                        addresses.lanes
                    }
                }
                _ => addresses.lanes,
            };
            for lane in lanes_of(lanes) {
                let value = gather(&warp.regs, src, op.elem, lane);
                let is_defined = (defined >> lane) & 1 == 1;
                let address = of[lane];
                match op.space {
                    Space::Shared | Space::SharedCluster => {
                        let own_only = op.space == Space::Shared;
                        if let Some(place) = self.shared_at(at, 1 << lane, address, bytes, bytes, own_only) {
                            self.store_piece(warp, at, lane, place, src, op.elem, value, is_defined);
                        }
                    }
                    Space::Global | Space::Const => {
                        self.store_global(warp, at, lane, address, src, op.elem, value, is_defined);
                    }
                    space => match self.target(space, address) {
                        Target::Global(address) => {
                            self.store_global(warp, at, lane, address, src, op.elem, value, is_defined);
                        }
                        Target::Shared(address) => {
                            if let Some(place) = self.shared_at(at, 1 << lane, address.into(), bytes, bytes, false) {
                                self.store_piece(warp, at, lane, place, src, op.elem, value, is_defined);
                            }
                        }
                        Target::Local(offset) => {
                            if let Some(place) = self.local_at(at, lane, offset, bytes) {
                                warp.local.store(place, bytes, value, is_defined);
                            }
                        }
                        Target::Param(offset) => {
                            self.report(crate::finding::FindingKind::Oob, at, 1 << lane, Some(offset.into()), || {
                                "parameters cannot be written".into()
                            });
                        }
                    },
                }
            }
        }
        // What a thread keeps for itself ends nobody's wait.
        let private = |lane: usize| matches!(self.target(op.space, addresses.of[lane]), Target::Local(_));
        if !lanes_of(addresses.lanes).all(private) {
            self.progress();
        }
        Flow::Next
    }

    fn observe_store(&mut self, warp: &Warp, at: &At, lanes: u32, op: &Store, of: &[u64; 32], bytes: u32, src: &[Reg]) {
        let how = if op.order == Order::Weak { How::Store } else { How::Atomic };
        let (access, memory) = (Access::Write, Memory::of(op.space));
        let meeting = (op.order == Order::Weak).then_some(warp.meetings);
        let access =
            WarpAccess { at: *at, lanes, memory, access, order: op.order, scope: op.scope, addresses: of, bytes, meeting };
        self.observe_in(op.space, access, how, Some(&|lane| gather(&warp.regs, src, op.elem, lane)));
    }

    /// A store to shared memory; a vector with some undefined elements marks just those bytes.
    fn store_piece(
        &mut self,
        warp: &Warp,
        at: &At,
        lane: usize,
        place: SharedAt,
        src: &[Reg],
        elem: Elem,
        value: u128,
        defined: bool,
    ) {
        let bytes = elem.bytes * src.len() as u32;
        self.store_shared(at, 1 << lane, place, bytes, value, defined);
        if !defined {
            for (index, reg) in src.iter().enumerate() {
                let is_defined = (warp.regs.defined(*reg) >> lane) & 1 == 1;
                let offset = place.offset + index as u32 * elem.bytes;
                self.ctas[place.cta].shared.mark(offset, elem.bytes, is_defined);
            }
        }
    }

    fn store_global(
        &mut self,
        warp: &Warp,
        at: &At,
        lane: usize,
        address: u64,
        src: &[Reg],
        elem: Elem,
        value: u128,
        defined: bool,
    ) {
        let bytes = elem.bytes * src.len() as u32;
        let Some(buffer) = self.global_at(at, 1 << lane, address, bytes, bytes) else { return };
        let offset = address - buffer.base;
        if defined || src.len() == 1 {
            buffer.store(offset, bytes, value, defined);
            return;
        }
        for (index, reg) in src.iter().enumerate() {
            let is_defined = (warp.regs.defined(*reg) >> lane) & 1 == 1;
            let part = value >> (8 * elem.bytes * index as u32);
            buffer.store(offset + index as u64 * u64::from(elem.bytes), elem.bytes, extend(part, elem), is_defined);
        }
    }

    /// Prefetches do nothing but need an address.
    pub(super) fn prefetch(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &Prefetch) -> Flow {
        let addresses = self.addresses(warp, at, mask, &op.addr);
        if op.tensormap {
            for lane in lanes_of(addresses.lanes) {
                self.tensor_map(at, 1 << lane, op.space, addresses.of[lane]);
            }
        }
        Flow::Next
    }
}
