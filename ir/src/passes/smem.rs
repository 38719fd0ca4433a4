//! Places every resource in shared memory.

use super::PassError;
use crate::tile::{Kernel, SmemPlan, SmemTile};

/// Swizzle patterns are functions of address bits 4 to 9, and descriptors require a pattern to start on its own size:
/// every tile starts on 1024 bytes.
const TILE_ALIGN: u32 = 1024;
/// An `mbarrier` object, bytes.
const BARRIER_BYTES: u32 = 8;

/// Fills [`Kernel::smem`]: `pipe.slot` rings, buffers, then barriers (`pipe.full`, `pipe.empty`). A ring's stages and a
/// buffer's copies follow each other at [`stride`].
pub fn plan_smem(k: &mut Kernel) -> Result<(), PassError> {
    let mut places = Vec::new();
    let mut at = 0u32;
    let mut put = |name: String, bytes: u32, align: u32| {
        let offset = at.next_multiple_of(align);
        places.push(SmemPlan { name, offset, bytes });
        at = offset + bytes;
    };
    for p in &k.pipes {
        for (i, s) in p.slots.iter().enumerate() {
            put(format!("{}.{i}", p.name), stride(&s.tile) * p.stages, TILE_ALIGN);
        }
    }
    for b in &k.buffers {
        put(b.name.clone(), stride(&b.tile) * b.copies, TILE_ALIGN);
    }
    for p in &k.pipes {
        for side in ["full", "empty"] {
            put(format!("{}.{side}", p.name), BARRIER_BYTES * p.stages, BARRIER_BYTES);
        }
    }
    k.smem = places;
    let (have, need) = (k.arch.caps().max_smem_bytes, k.smem_bytes());
    if need > have {
        return Err(PassError::SmemOverflow { kernel: k.name.clone(), need, have, plan: k.smem.clone() });
    }
    Ok(())
}

/// Bytes from one stage or copy of a tile to the next.
pub(super) fn stride(tile: &SmemTile) -> u32 {
    tile.bytes().next_multiple_of(TILE_ALIGN)
}

/// The offset of a placed resource, bytes.
pub(super) fn offset(k: &Kernel, name: &str) -> u32 {
    k.smem.iter().find(|s| s.name == name).map_or(0, |s| s.offset)
}
