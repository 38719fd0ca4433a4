//! Addresses to memory, with every check that does not need to know about other threads.

use super::cluster::{At, Cluster};
use super::regs::FULL;
use super::warp::Warp;
use crate::finding::FindingKind;
use crate::memory::POISON;
use crate::memory::space::{CTA_OFFSET_MASK, CTA_SHIFT, LOCAL_WINDOW, RESERVED_SHARED, SHARED_WINDOW, Target, classify};
use crate::parse::ast::Space;
use crate::program::Reg;
use crate::program::memory_op::{Addr, Base};

/// What a failed read gives: poison, so that nobody mistakes it for data.
pub const POISON_VALUE: u128 = u128::from_le_bytes([POISON; 16]);

/// Addresses of a warp's lanes, and the lanes that have one.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub of: [u64; 32],
    pub lanes: u32,
}

pub fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let lane = left.trailing_zeros() as usize;
        left &= left - 1;
        Some(lane)
    })
}

/// Where in the cluster a shared address points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedAt {
    pub cta: usize,
    pub offset: u32,
}

impl<'a> Cluster<'a> {
    /// Evaluates an address operand. Lanes with an undefined address are reported and left out.
    pub(super) fn addresses(&mut self, warp: &Warp, at: &At, mask: u32, addr: &Addr) -> Addresses {
        let offset = addr.offset as u64;
        let (of, defined) = match addr.base {
            Base::Zero => ([offset; 32], FULL),
            Base::Shared => {
                let base = ((at.cta as u64) << CTA_SHIFT) + u64::from(RESERVED_SHARED);
                ([base.wrapping_add(offset); 32], FULL)
            }
            Base::R(r) => {
                let row = warp.regs.r(r);
                let offset = addr.offset as u32;
                (std::array::from_fn(|lane| u64::from(row[lane].wrapping_add(offset))), warp.regs.rdef(r))
            }
            Base::D(d) => {
                let row = warp.regs.q(d);
                (std::array::from_fn(|lane| row[lane].wrapping_add(offset)), warp.regs.qdef(d))
            }
        };
        if mask & !defined != 0 {
            self.undefined_address(at, mask & !defined, addr);
        }
        Addresses { of, lanes: mask & defined }
    }

    #[cold]
    fn undefined_address(&mut self, at: &At, lanes: u32, addr: &Addr) {
        let name = match addr.base {
            Base::R(r) => self.register_name(Reg::R(r)),
            Base::D(d) => self.register_name(Reg::D(d)),
            Base::Zero | Base::Shared => "operand".into(),
        };
        self.report(FindingKind::Uninit, at, lanes, None, || format!("address register {name} is undefined"));
    }

    /// The address of the first lane, for operations that take one for the warp.
    pub(super) fn address_of_lane(&mut self, warp: &Warp, at: &At, lane: usize, addr: &Addr) -> Option<u64> {
        let addresses = self.addresses(warp, at, 1 << lane, addr);
        (addresses.lanes != 0).then(|| addresses.of[lane])
    }

    /// A 64-bit register that holds a `.shared` address must fit 32 bits.
    fn shared_address(&mut self, at: &At, lanes: u32, address: u64) -> Option<u32> {
        match u32::try_from(address) {
            Ok(address) => Some(address),
            Err(_) => {
                self.report(FindingKind::Oob, at, lanes, Some(address), || {
                    let hint = if address.wrapping_sub(SHARED_WINDOW) >> 32 == 0 { ": it is a generic address" } else { "" };
                    format!("{address:#x} is not an address in shared memory{hint}")
                });
                None
            }
        }
    }

    /// Checks a shared access. With `own_only` other blocks of the cluster may not be reached.
    pub(super) fn shared_at(
        &mut self,
        at: &At,
        lanes: u32,
        address: u64,
        bytes: u32,
        align: u32,
        own_only: bool,
    ) -> Option<SharedAt> {
        let address = self.shared_address(at, lanes, address)?;
        let (cta, offset) = ((address >> CTA_SHIFT) as usize, address & CTA_OFFSET_MASK);
        if cta != at.cta && !self.may_reach(at, lanes, address, cta, own_only) {
            return None;
        }
        if offset & (align - 1) != 0 {
            self.report(FindingKind::Misaligned, at, lanes, Some(address.into()), || {
                format!("shared address {address:#x} is not a multiple of {align}")
            });
            return None;
        }
        if offset < RESERVED_SHARED || !self.ctas[cta].shared.contains(offset, bytes) {
            let size = self.m.shared_window - RESERVED_SHARED;
            self.report(FindingKind::Oob, at, lanes, Some(address.into()), || {
                let offset = i64::from(offset) - i64::from(RESERVED_SHARED);
                format!("{bytes} bytes at offset {offset} of the block's {size} bytes of shared memory")
            });
            return None;
        }
        Some(SharedAt { cta, offset })
    }

    #[cold]
    fn may_reach(&mut self, at: &At, lanes: u32, address: u32, cta: usize, own_only: bool) -> bool {
        let size = self.ctas.len();
        if cta >= size {
            self.report(FindingKind::Oob, at, lanes, Some(address.into()), || {
                format!("block rank {cta} of shared address {address:#x} does not exist in a cluster of {size}")
            });
            return false;
        }
        if own_only {
            let own = at.cta;
            self.report(FindingKind::Oob, at, lanes, Some(address.into()), || {
                format!("{address:#x} lies in block rank {cta}, but .shared::cta reaches only the own block, rank {own}")
            });
            return false;
        }
        if self.ctas[cta].live_warps == 0 {
            self.report(FindingKind::Exit, at, lanes, Some(address.into()), || {
                format!("shared memory of block rank {cta} is accessed after that block has exited")
            });
            return false;
        }
        true
    }

    pub(super) fn load_shared(&mut self, at: &At, lanes: u32, place: SharedAt, bytes: u32) -> u128 {
        let shared = &self.ctas[place.cta].shared;
        if !shared.is_init(place.offset, bytes) {
            self.uninit_shared(at, lanes, place, bytes);
            // Bytes that are defined keep their value, the others already hold poison.
            if self.ctas[place.cta].mbarrier_at(place.offset, bytes).is_some() {
                return POISON_VALUE;
            }
        }
        self.ctas[place.cta].shared.load(place.offset, bytes)
    }

    #[cold]
    pub(super) fn uninit_shared(&mut self, at: &At, lanes: u32, place: SharedAt, bytes: u32) {
        let SharedAt { cta, offset } = place;
        let address = u64::from(offset) + ((cta as u64) << CTA_SHIFT);
        if let Some(barrier) = self.ctas[cta].mbarrier_at(offset, bytes) {
            self.report(FindingKind::Mbarrier, at, lanes, Some(address), || {
                format!("ordinary read of the live mbarrier at shared address {barrier:#x}")
            });
            return;
        }
        self.report(FindingKind::Uninit, at, lanes, Some(address), || {
            let offset = offset - RESERVED_SHARED;
            format!("reads {bytes} bytes at offset {offset} of shared memory that nobody wrote")
        });
    }

    pub(super) fn store_shared(&mut self, at: &At, lanes: u32, place: SharedAt, bytes: u32, value: u128, defined: bool) {
        let cta = &mut self.ctas[place.cta];
        // Live mbarriers count as never written, so only first writes need to look for them.
        if !cta.shared.is_init(place.offset, bytes)
            && let Some(barrier) = cta.mbarrier_at(place.offset, bytes)
        {
            self.write_to_mbarrier(at, lanes, barrier);
            return;
        }
        cta.shared.store(place.offset, bytes, value, defined);
    }

    #[cold]
    pub(super) fn write_to_mbarrier(&mut self, at: &At, lanes: u32, barrier: u32) {
        self.report(FindingKind::Mbarrier, at, lanes, Some(barrier.into()), || {
            format!("ordinary write to the live mbarrier at shared address {barrier:#x}: mbarrier.inval comes first")
        });
    }

    pub(super) fn load_global(&mut self, at: &At, lanes: u32, address: u64, bytes: u32) -> Option<u128> {
        let buffer = self.global_at(at, lanes, address, bytes, bytes)?;
        let offset = address - buffer.base;
        if !buffer.is_init(offset, bytes) {
            let global = self.m.global;
            self.report(FindingKind::Uninit, at, lanes, Some(address), || {
                format!("reads {bytes} bytes at {} that nobody wrote", global.place(address))
            });
        }
        Some(buffer.load(offset, bytes))
    }

    pub(super) fn global_at(
        &mut self,
        at: &At,
        lanes: u32,
        address: u64,
        bytes: u32,
        align: u32,
    ) -> Option<crate::memory::global::BufferView<'a>> {
        if address & u64::from(align - 1) != 0 {
            self.report(FindingKind::Misaligned, at, lanes, Some(address), || {
                format!("address {address:#x} is not a multiple of {align}")
            });
            return None;
        }
        match self.m.global.find(address, u64::from(bytes)) {
            Ok(buffer) => Some(buffer),
            Err(why) => {
                self.report(FindingKind::Oob, at, lanes, Some(address), || why);
                None
            }
        }
    }

    /// Where a generic or explicit address points.
    pub(super) fn target(&self, space: Space, address: u64) -> Target {
        match space {
            Space::Generic => classify(address),
            Space::Global | Space::Const => Target::Global(address),
            Space::Local => Target::Local(address as u32),
            Space::Param => Target::Param(address as u32),
            // Kept whole by the callers that handle shared memory themselves.
            Space::Shared | Space::SharedCluster => Target::Shared(address as u32),
        }
    }

    /// Offset of a lane's local memory in the warp's, or a finding.
    pub(super) fn local_at(&mut self, at: &At, lane: usize, offset: u32, bytes: u32) -> Option<u32> {
        let size = self.m.kernel.local_bytes;
        if !offset.is_multiple_of(bytes) {
            self.report(FindingKind::Misaligned, at, 1 << lane, Some(LOCAL_WINDOW + u64::from(offset)), || {
                format!("local address {offset:#x} is not a multiple of {bytes}")
            });
            return None;
        }
        if u64::from(offset) + u64::from(bytes) > u64::from(size) {
            self.report(FindingKind::Oob, at, 1 << lane, Some(LOCAL_WINDOW + u64::from(offset)), || {
                format!("{bytes} bytes at offset {offset} of {size} bytes of local memory")
            });
            return None;
        }
        Some(lane as u32 * size.next_multiple_of(16) + offset)
    }

    /// Parameter bytes by offset, or a finding.
    pub(super) fn param_bytes(&mut self, at: &At, lanes: u32, offset: u32, bytes: u32) -> Option<u128> {
        let found = self.m.params.get(offset as usize..offset as usize + bytes as usize);
        match found {
            Some(slice) if offset.is_multiple_of(bytes) => {
                let mut value = [0; 16];
                value[..slice.len()].copy_from_slice(slice);
                Some(u128::from_le_bytes(value))
            }
            Some(_) => {
                self.report(FindingKind::Misaligned, at, lanes, Some(offset.into()), || {
                    format!("parameter offset {offset} is not a multiple of {bytes}")
                });
                None
            }
            None => {
                let size = self.m.params.len();
                self.report(FindingKind::Oob, at, lanes, Some(offset.into()), || {
                    format!("{bytes} bytes at offset {offset} of {size} bytes of parameters")
                });
                None
            }
        }
    }
}
