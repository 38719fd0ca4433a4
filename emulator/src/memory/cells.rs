//! Storage that blocks of different clusters may touch from different threads.
//!
//! Emulated programs may race, and Rust programs must not, so during a launch all global memory is read and written
//! through relaxed atomics of one size: 8-byte words, and 2-byte words of initialisation bits. Relaxed loads and
//! stores compile to plain moves. Writes of less than a word go through a compare-exchange, so neighbours survive.

use std::sync::atomic::{AtomicU16, AtomicU64};

#[cfg(not(target_endian = "little"))]
compile_error!("the emulator keeps device memory in host words and needs a little-endian host");

/// Shares a uniquely borrowed slice as atomics.
pub fn atomic_words(words: &mut [u64]) -> &[AtomicU64] {
    const { assert!(size_of::<AtomicU64>() == size_of::<u64>() && align_of::<AtomicU64>() == align_of::<u64>()) };
    // SAFETY: AtomicU64 has the size, alignment (checked above) and validity of u64, and the unique borrow means that
    // nobody else reads or writes the words non-atomically while the result lives.
    unsafe { &*(std::ptr::from_mut(words) as *const [AtomicU64]) }
}

/// The same for 16-bit words.
pub fn atomic_halves(words: &mut [u16]) -> &[AtomicU16] {
    const { assert!(size_of::<AtomicU16>() == size_of::<u16>() && align_of::<AtomicU16>() == align_of::<u16>()) };
    // SAFETY: as in `atomic_words`.
    unsafe { &*(std::ptr::from_mut(words) as *const [AtomicU16]) }
}

/// The bytes of words, in memory order.
pub fn bytes(words: &[u64]) -> &[u8] {
    // SAFETY: every byte of a u64 is a valid u8, u8 has no alignment, and the length is that of the slice.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

/// The bytes of words, in memory order, to be written.
pub fn bytes_mut(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: as in `bytes`; any bytes make a valid u64, and the borrow is unique.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}
