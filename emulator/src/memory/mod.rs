//! Bytes, with a bit for each that says whether it was ever written.

pub mod cells;
pub mod global;
pub mod shared;
pub mod space;

/// What never-written bytes hold.
pub const POISON: u8 = 0xcc;

/// Bits of an initialised-bytes granule (16 bytes) covered by `bytes` bytes at `offset`, which must not cross it.
#[inline(always)]
pub fn granule_mask(offset: u64, bytes: u32) -> u16 {
    (((1u32 << bytes) - 1) << (offset & 15)) as u16
}
