//! What the tensor instructions of PTX compute, as pure functions without engine state.
//!
//! A warp register is a [`WarpReg`]: one 32-bit word for each of the 32 lanes. A 64-bit register takes two, low
//! word first. Shared addresses are `u32` byte offsets in the shared window of a CTA, as PTX sees them.
//!
//! - [`swizzle`]: the address XOR shared by TMA and wgmma.
//! - [`convert`]: every rounding and narrow float format of `cvt`.
//! - [`element`]: types of matrix elements.
//! - [`matrix`]: `ldmatrix`, `stmatrix`, `movmatrix`.
//! - [`fragment`]: which matrix element a lane's register holds, for `mma.sync` and `wgmma`.
//! - [`mma`](mod@mma): `mma.sync`, parsed from its modifiers, and its arithmetic.
//! - [`sparse`]: the same for `mma.sp`.
//! - [`wgmma`](mod@wgmma): the same for `wgmma.mma_async`; [`descriptor`]: its view of shared memory;
//!   [`panel`]: an operand as values, from shared memory or registers.
//! - [`wmma`](mod@wmma): matrices, fragments and products of `wmma`.
//! - [`numerics`]: the modes of arithmetic; [`exact`]: the sums of tensor cores to the bit.
//! - [`im2col`]: copies of the pixels under a filter.
//! - [`tma`]: tensor maps, their encode rules and the walk over a box.

pub mod convert;
pub mod descriptor;
pub mod element;
pub mod exact;
pub mod fragment;
pub mod im2col;
pub mod matrix;
pub mod mma;
pub mod numerics;
pub mod panel;
pub mod sparse;
pub mod swizzle;
pub mod tma;
pub mod wgmma;
pub mod wmma;

mod simd;
mod tile;

#[cfg(test)]
mod tests;

pub use numerics::{Arithmetic, Chip, Numerics};

/// One register of a warp: bits by lane.
pub type WarpReg = [u32; 32];
