//! Layouts: where each element of a tile lives, as one algebra.
//!
//! A [`Layout`] is a function from named input coordinates (`reg`, `lane`, `warp`; or `row`, `col`) to named output
//! coordinates (`row`, `col`; or `byte`). Register fragments, swizzled shared memory and TMA boxes are all values of this type,
//! so vector widths, bank conflicts and conversions are computed, never looked up.
//!
//! ```text
//! Layout = Outer (strided, any extent) o Atom (linear over GF(2))
//! out_d  = (XOR of the bases whose index bit is set)_d + (sum of outer index * stride)_d
//! ```
//!
//! The atom carries what is not additive (swizzles) and the outer factors what is not a power of two (N = 96, 112, 176, 192).
//! The index of an input dim is read from its low end: first the atom bits, then the outer factors, first factor fastest.
//!
//! Section numbers are those of PTX ISA 8.7; other releases move them.
//!
//! | file | holds |
//! |---|---|
//! | `dim` | names of coordinates |
//! | `map` | [`Layout`], its accessors and evaluation |
//! | `builder` | [`Builder`] |
//! | `fit` | the layout equal to a given function, and the normal form |
//! | `algebra` | compose, inverse, product, slice and the like |
//! | `query` | injectivity, vector width |
//! | `banks` | shared-memory wavefronts |
//! | `text` | `Display` and `FromStr` |
//! | `fragment` | register fragments of `mma`, `wgmma` and element-wise kernels |
//! | `matrix` | `ldmatrix` and `stmatrix` |
//! | `swizzle` | shared-memory tiles |
//!
//! # Example
//! An accumulator of `wgmma.m64n96`, and the shared-memory addresses its bf16 copy is stored to:
//! ```
//! use tilewright_ir::layout::{Dim, Swizzle, smem_tile, wgmma_acc};
//! let acc = wgmma_acc(64, 96, 1)?;
//! assert_eq!(acc.to_string(),
//!     "{reg: [col1 row8 | 12*col8] lane: [col2 col4 row1 row2 row4] warp: [row16 row32]} -> {row col}");
//! let smem = smem_tile(64, 96, 2, Swizzle::widest(96 * 2))?;
//! let store = acc.compose(&smem)?;
//! assert_eq!(acc.contiguous_run(Dim::Reg, Dim::Col), 2);
//! assert_eq!(store.vector_width(Dim::Reg, Dim::Byte, 2), 2); // pairs of 2-byte elements: 4-byte stores
//! # Ok::<(), tilewright_ir::layout::LayoutError>(())
//! ```

mod algebra;
mod banks;
mod builder;
mod dim;
mod error;
mod fit;
mod fragment;
mod map;
mod matrix;
mod query;
mod swizzle;
mod text;

#[cfg(test)]
mod tests;

pub use algebra::{Restriction, Slice};
pub use banks::{AccessWidth, Wavefronts, matrix_wavefronts, warp_wavefronts};
pub use builder::Builder;
pub use dim::Dim;
pub use error::{LayoutError, Point};
pub use fragment::{
    blocked, mma_a, mma_a_bytes, mma_a_words, mma_acc, mma_acc_words, mma_b, mma_b_bytes, mma_b_words, row_group_words,
    row_groups, wgmma_a, wgmma_acc,
};
pub use map::{Basis, Layout, MAX_POINTS, Outer};
pub use matrix::{MatrixOrder, matrix_regs, matrix_rows};
pub use swizzle::{Swizzle, smem_tile};
