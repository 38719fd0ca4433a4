//! atom and red. Kernels with global atomics run on one thread, so read-modify-write needs no host atomics.

use super::access::lanes_of;
use super::cluster::{At, Cluster};
use super::probe::{Access, Memory, WarpAccess};
use super::regs::FULL;
use super::step::Flow;
use super::warp::Warp;
use crate::check::How;
use crate::finding::FindingKind;
use crate::lane::half::{self, Bf16, F16};
use crate::memory::space::Target;
use crate::parse::ast::Space;
use crate::program::memory_op::{Atom, AtomOp};

fn pair(a: u128, b: u128, f: impl Fn(u16, u16) -> u16) -> u128 {
    let low = f(a as u16, b as u16);
    let high = f((a >> 16) as u16, (b >> 16) as u16);
    (u128::from(high) << 16) | u128::from(low)
}

fn one(a: u128, b: u128, f: impl Fn(u16, u16) -> u16) -> u128 {
    u128::from(f(a as u16, b as u16))
}

/// The value after an atomic operation; `swap` is the new value of a compare-and-swap.
pub(super) fn combine(op: AtomOp, bytes: u32, old: u128, b: u128, swap: u128) -> u128 {
    let bits = 8 * bytes;
    let mask = if bits >= 128 { u128::MAX } else { (1 << bits) - 1 };
    let signed = |x: u128| ((x << (128 - bits)) as i128) >> (128 - bits);
    let value = match op {
        AtomOp::Exch => b,
        AtomOp::Cas => {
            if old & mask == b & mask {
                swap
            } else {
                old
            }
        }
        AtomOp::Add => old.wrapping_add(b),
        AtomOp::MinU => old.min(b & mask),
        AtomOp::MaxU => old.max(b & mask),
        AtomOp::MinS => signed(old).min(signed(b)) as u128,
        AtomOp::MaxS => signed(old).max(signed(b)) as u128,
        AtomOp::And => old & b,
        AtomOp::Or => old | b,
        AtomOp::Xor => old ^ b,
        AtomOp::Inc => {
            if old >= b & mask {
                0
            } else {
                old + 1
            }
        }
        AtomOp::Dec => {
            if old == 0 || old > b & mask {
                b
            } else {
                old - 1
            }
        }
        AtomOp::AddF32 => {
            let sum = f32::from_bits(old as u32) + f32::from_bits(b as u32);
            u128::from(crate::lane::float::canonical(sum))
        }
        AtomOp::AddF64 => {
            let sum = f64::from_bits(old as u64) + f64::from_bits(b as u64);
            u128::from(crate::lane::float::canonical64(sum))
        }
        AtomOp::AddF16 => one(old, b, half::add::<F16, false, false>),
        AtomOp::AddBf16 => one(old, b, half::add::<Bf16, false, false>),
        AtomOp::AddF16x2 => pair(old, b, half::add::<F16, false, false>),
        AtomOp::AddBf16x2 => pair(old, b, half::add::<Bf16, false, false>),
        AtomOp::MinF16 => one(old, b, half::pick::<F16, false, false, false, false>),
        AtomOp::MaxF16 => one(old, b, half::pick::<F16, true, false, false, false>),
        AtomOp::MinBf16 => one(old, b, half::pick::<Bf16, false, false, false, false>),
        AtomOp::MaxBf16 => one(old, b, half::pick::<Bf16, true, false, false, false>),
        AtomOp::MinF16x2 => pair(old, b, half::pick::<F16, false, false, false, false>),
        AtomOp::MaxF16x2 => pair(old, b, half::pick::<F16, true, false, false, false>),
        AtomOp::MinBf16x2 => pair(old, b, half::pick::<Bf16, false, false, false, false>),
        AtomOp::MaxBf16x2 => pair(old, b, half::pick::<Bf16, true, false, false, false>),
        AtomOp::Add16x2 => pair(old, b, u16::wrapping_add),
        AtomOp::MinS16x2 => pair(old, b, |x, y| (x as i16).min(y as i16) as u16),
        AtomOp::MaxS16x2 => pair(old, b, |x, y| (x as i16).max(y as i16) as u16),
    };
    value & mask
}

impl Cluster<'_> {
    pub(super) fn atom(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &Atom) -> Flow {
        let addresses = self.addresses(warp, at, mask, &op.addr);
        let mut changed = false;
        for lane in lanes_of(addresses.lanes) {
            let whole = u64::from(op.bytes) * op.src.len() as u64;
            let first = addresses.of[lane];
            if !first.is_multiple_of(whole) && op.src.len() > 1 {
                self.report(FindingKind::Misaligned, at, 1 << lane, Some(first), || {
                    format!("address {first:#x} of a vector is not a multiple of {whole}")
                });
                continue;
            }
            for (index, src) in op.src.iter().enumerate() {
                let address = addresses.of[lane].wrapping_add(index as u64 * u64::from(op.bytes));
                let b = warp.regs.lane(*src, lane);
                let swap = op.swap.map_or(0, |reg| warp.regs.lane(reg, lane));
                let defined = (warp.regs.defined(*src) & op.swap.map_or(FULL, |reg| warp.regs.defined(reg))) >> lane & 1 == 1;
                let old = match self.target(op.space, address) {
                    _ if matches!(op.space, Space::Shared | Space::SharedCluster) => {
                        self.atom_shared(at, lane, address, op, b, swap, defined, op.space == Space::Shared)
                    }
                    Target::Shared(address) => self.atom_shared(at, lane, address.into(), op, b, swap, defined, false),
                    Target::Global(address) => self.atom_global(at, lane, address, op, b, swap, defined),
                    Target::Local(_) | Target::Param(_) => {
                        self.report(FindingKind::Oob, at, 1 << lane, Some(address), || {
                            "atomics work on global and shared memory only".into()
                        });
                        None
                    }
                };
                let old_value = old.unwrap_or(super::access::POISON_VALUE);
                changed |= old.is_some_and(|old| combine(op.op, op.bytes, old, b, swap) != old);
                if let Some(dst) = op.dst.get(index) {
                    let unused = 128 - 8 * op.bytes;
                    warp.regs.set_lane(*dst, lane, (old_value << unused) >> unused);
                }
            }
        }
        for dst in &op.dst {
            warp.regs.set_defined(*dst, mask, FULL);
        }
        let bytes = op.bytes * op.src.len() as u32;
        let access = WarpAccess {
            at: *at,
            lanes: addresses.lanes,
            memory: Memory::of(op.space),
            access: Access::Atomic,
            order: op.order,
            scope: op.scope,
            addresses: &addresses.of,
            bytes,
            meeting: None,
        };
        self.observe_in(op.space, access, How::Atomic, None);
        // One that changes nothing may be somebody trying to take a lock.
        if changed {
            self.progress();
        } else if let Some(lane) = lanes_of(addresses.lanes).next() {
            let value = op.dst.first().map_or(0, |reg| warp.regs.lane(*reg, lane));
            self.maybe_poll(warp, at, addresses.of[lane], value);
        }
        Flow::Next
    }

    fn atom_shared(
        &mut self,
        at: &At,
        lane: usize,
        address: u64,
        op: &Atom,
        b: u128,
        swap: u128,
        defined: bool,
        own_only: bool,
    ) -> Option<u128> {
        let place = self.shared_at(at, 1 << lane, address, op.bytes, op.bytes, own_only)?;
        let old = self.load_shared(at, 1 << lane, place, op.bytes);
        self.store_shared(at, 1 << lane, place, op.bytes, combine(op.op, op.bytes, old, b, swap), defined);
        Some(old)
    }

    fn atom_global(&mut self, at: &At, lane: usize, address: u64, op: &Atom, b: u128, swap: u128, defined: bool) -> Option<u128> {
        let old = self.load_global(at, 1 << lane, address, op.bytes)?;
        if let Ok(buffer) = self.m.global.find(address, u64::from(op.bytes)) {
            buffer.store(address - buffer.base, op.bytes, combine(op.op, op.bytes, old, b, swap), defined);
        }
        Some(old)
    }
}
