//! Tensor maps that the device builds.

use super::access::lanes_of;
use super::cluster::{At, Cluster};
use super::probe::{Access, Memory, WarpAccess};
use super::step::Flow;
use super::warp::Warp;
use crate::check::How;
use crate::finding::FindingKind;
use crate::memory::space::Target;
use crate::parse::ast::Space;
use crate::program::memory_op::{MapCopy, MapReplace, Order, Scope};
use crate::program::op::Fence;
use crate::tensor_map::{BYTES, replace};

impl Cluster<'_> {
    pub(super) fn replace_in_map(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &MapReplace) -> Flow {
        let addresses = self.addresses(warp, at, mask, &op.addr);
        for lane in lanes_of(addresses.lanes) {
            if (warp.regs.defined(op.value) >> lane) & 1 == 0 {
                self.report(FindingKind::Uninit, at, 1 << lane, None, || {
                    format!("the new {:?} of a tensor map is undefined", op.field)
                });
                continue;
            }
            let value = warp.regs.lane(op.value, lane) as u64;
            // Findings say what went wrong; the map stays as it is.
            let _ = self.replace_in_lane_map(warp, at, lane, op, addresses.of[lane], value);
        }
        self.progress();
        Flow::Next
    }

    fn replace_in_lane_map(
        &mut self,
        warp: &Warp,
        at: &At,
        lane: usize,
        op: &MapReplace,
        address: u64,
        value: u64,
    ) -> Option<()> {
        let lanes = 1u32 << lane;
        let target = self.target(op.space, address);
        let (mut bytes, mut init) = ([0; BYTES], [false; BYTES]);
        let (memory, address) = match target {
            Target::Shared(address) => (Memory::Shared, address.into()),
            Target::Global(address) => (Memory::Global, address),
            Target::Local(_) | Target::Param(_) => {
                self.report(FindingKind::Descriptor, at, lanes, Some(address), || {
                    "tensormap.replace reaches shared and global memory only".into()
                });
                return None;
            }
        };
        let meeting = Some(warp.meetings);
        for at_byte in (0..BYTES as u64).step_by(16) {
            let of = [address.wrapping_add(at_byte); 32];
            let (order, scope, access) = (Order::Weak, Scope::Sys, Access::Write);
            let access = WarpAccess { at: *at, lanes, memory, access, order, scope, addresses: &of, bytes: 16, meeting };
            self.observe(&access, How::Store, None);
        }
        let place = match memory {
            Memory::Shared => Some(self.shared_at(at, lanes, address, BYTES as u32, BYTES as u32, true)?),
            _ => None,
        };
        let buffer = match place {
            Some(place) => {
                if let Some(barrier) = self.ctas[place.cta].mbarrier_at(place.offset, BYTES as u32) {
                    self.write_to_mbarrier(at, lanes, barrier);
                    return None;
                }
                self.ctas[place.cta].shared.read_bytes(place.offset, &mut bytes, &mut init);
                None
            }
            None => {
                let buffer = self.global_at(at, lanes, address, BYTES as u32, BYTES as u32)?;
                buffer.read_bytes(address - buffer.base, &mut bytes, &mut init);
                Some(buffer)
            }
        };
        if init.contains(&false) {
            self.report(FindingKind::Uninit, at, lanes, Some(address), || {
                "tensormap.replace in 128 bytes that were not all written: start from zeros, or from another map".into()
            });
            return None;
        }
        if !replace(&mut bytes, op.field, value) {
            self.report(FindingKind::Descriptor, at, lanes, Some(address), || {
                "tensormap.replace in bytes that are neither zeros nor a tensor map".into()
            });
            return None;
        }
        match (place, buffer) {
            (Some(place), _) => self.ctas[place.cta].shared.write_bytes(place.offset, &bytes, &init),
            (None, Some(buffer)) => buffer.write_bytes(address - buffer.base, &bytes, &init),
            (None, None) => {}
        }
        Some(())
    }

    /// The warp as a whole copies a map, and releases it to those that will use it.
    pub(super) fn copy_map(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &MapCopy) -> Flow {
        self.check_aligned(warp, at, mask, "tensormap.cp_fenceproxy");
        let src = self.addresses(warp, at, mask, &op.src);
        let dst = self.addresses(warp, at, mask & src.lanes, &op.dst);
        if let Some(lane) = lanes_of(dst.lanes).next() {
            let (src, dst) = (src.of[lane], dst.of[lane]);
            // Findings say what went wrong; nothing is copied then.
            let _ = self.copy_map_bytes(warp, at, mask, src, dst);
        }
        self.observe_fence(at, Fence::ProxyTensorMap { order: Order::Release, scope: op.scope, addr: None });
        self.progress();
        Flow::Next
    }

    fn copy_map_bytes(&mut self, warp: &Warp, at: &At, mask: u32, src: u64, dst: u64) -> Option<()> {
        const SIZE: u32 = BYTES as u32;
        let target = self.target(Space::Shared, src);
        let Target::Shared(from) = target else { return None };
        let place = self.shared_at(at, mask, src, SIZE, SIZE, true)?;
        let buffer = self.global_at(at, mask, dst, SIZE, SIZE)?;
        let (mut bytes, mut init) = ([0; BYTES], [false; BYTES]);
        self.ctas[place.cta].shared.read_bytes(place.offset, &mut bytes, &mut init);
        let pieces = |base: u64| std::array::from_fn::<u64, 32, _>(|lane| base.wrapping_add(16 * lane as u64));
        let (lanes, order, scope, bytes_each) = ((1 << (BYTES / 16)) - 1, Order::Weak, Scope::Sys, 16);
        let meeting = Some(warp.meetings);
        let (of, memory, access) = (pieces(from.into()), Memory::Shared, Access::Read);
        let reads = WarpAccess { at: *at, lanes, memory, access, order, scope, addresses: &of, bytes: bytes_each, meeting };
        self.observe(&reads, How::Load, None);
        let (of, memory, access) = (pieces(dst), Memory::Global, Access::Write);
        let writes = WarpAccess { at: *at, lanes, memory, access, order, scope, addresses: &of, bytes: bytes_each, meeting };
        let value = |lane: usize| {
            let mut piece = [0; 16];
            piece.copy_from_slice(&bytes[16 * lane % BYTES..][..16]);
            u128::from_le_bytes(piece)
        };
        self.observe(&writes, How::Store, Some(&value));
        if init.contains(&false) {
            self.report(FindingKind::Uninit, at, mask, Some(src), || {
                "tensormap.cp_fenceproxy copies shared memory that nobody wrote".into()
            });
        }
        buffer.write_bytes(dst - buffer.base, &bytes, &init);
        Some(())
    }
}
