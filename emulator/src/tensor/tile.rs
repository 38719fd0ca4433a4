//! The arithmetic under `mma` and `wgmma`: eight rows by eight columns at a time, in fragment order.
//!
//! A fragment tile is two accumulator registers of a warp: lane `4g + t` holds row g, columns 2t (first register) and
//! 2t + 1 (second). Operands are packed to match, so that a step along k is 64 independent fused multiply-adds without
//! any shuffle:
//! - `a[k][lane]` is A's row `lane / 4`, repeated for the four lanes of the row;
//! - `b[k][4s + t]` is B's column `2t + s`.

use super::WarpReg;
use super::element::{AccumulatorType, Reading, f16_to_f32, f32_to_f16_bits};
use super::exact::{self, DotUnit};

/// A's step along k of a fragment tile, by lane.
pub(super) type ARow = [f32; 32];
/// B's step along k of a fragment tile: even columns, then odd ones.
pub(super) type BRow = [f32; 8];

/// What happens to the accumulator around the products.
#[derive(Clone, Copy)]
pub(super) struct Accumulate {
    pub ty: AccumulatorType,
    /// Whether the old value takes part.
    pub keep: bool,
    /// s32 only: clamp the sum instead of wrapping.
    pub satfinite: bool,
    pub sums: Sums,
}

/// How the products of floats are added; those of integers know one way only.
#[derive(Clone, Copy)]
pub(super) enum Sums {
    /// An f32 fused multiply-add each.
    Fused,
    Exact(DotUnit),
    /// Operands are payloads of the ring, carried as the bits of f32 values.
    Ring,
}

impl Sums {
    /// What operands have to be read as.
    pub const fn reading(self) -> Reading {
        if matches!(self, Sums::Ring) { Reading::Payloads } else { Reading::Values }
    }
}

impl Accumulate {
    /// Accumulator registers of a fragment tile: f16 packs both columns into one.
    pub(super) const fn registers(self) -> usize {
        if matches!(self.ty, AccumulatorType::F16) { 1 } else { 2 }
    }
}

/// Where the accumulator registers of fragment tile (i, j) are; `s` counts them.
pub(super) trait TileRegisters {
    fn register(&mut self, i: usize, j: usize, s: usize) -> &mut WarpReg;
}

/// Adds products onto fragment tiles. Tile (i, j) multiplies `a[i * k..][..k]` with `b[j * k..][..k]`;
/// its registers are `registers.register(i, j, s)`, s < [`Accumulate::registers`].
///
/// To be called inside of a [`vectorised`](super::simd) function.
#[inline(always)]
pub(super) fn accumulate_tiles(how: Accumulate, k: usize, a: &[ARow], b: &[BRow], registers: &mut impl TileRegisters) {
    if let (Sums::Exact(unit), AccumulatorType::F16 | AccumulatorType::F32) = (how.sums, how.ty) {
        return exact::accumulate(how, &unit, k, a, b, registers);
    }
    for (i, a) in a.chunks_exact(k).enumerate() {
        for (j, b) in b.chunks_exact(k).enumerate() {
            match how.ty {
                AccumulatorType::F16 | AccumulatorType::F32 if matches!(how.sums, Sums::Ring) => {
                    ring_tile(how, a, b, registers, [i, j]);
                }
                AccumulatorType::F32 => f32_tile(how, a, b, registers, [i, j]),
                AccumulatorType::S32 => s32_tile(how, a, b, registers, [i, j]),
                AccumulatorType::F16 => f16_tile(how, a, b, registers.register(i, j, 0)),
                AccumulatorType::F64 => unreachable!("f64 has its own loop"),
            }
        }
    }
}

// The loops below run over whole arrays of fixed length so that the accumulators stay in vector registers; `map` on
// arrays of this size would go through memory.

#[inline(always)]
fn f32_tile(how: Accumulate, a: &[ARow], b: &[BRow], registers: &mut impl TileRegisters, [i, j]: [usize; 2]) {
    let mut sums = [[0f32; 32]; 2];
    if how.keep {
        for (s, sums) in sums.iter_mut().enumerate() {
            let register = registers.register(i, j, s);
            for lane in 0..32 {
                sums[lane] = f32::from_bits(register[lane]);
            }
        }
    }
    add_products(a, b, &mut sums);
    for (s, sums) in sums.iter().enumerate() {
        let register = registers.register(i, j, s);
        for lane in 0..32 {
            register[lane] = if sums[lane].is_nan() { 0x7fff_ffff } else { sums[lane].to_bits() };
        }
    }
}

#[inline(always)]
fn s32_tile(how: Accumulate, a: &[ARow], b: &[BRow], registers: &mut impl TileRegisters, [i, j]: [usize; 2]) {
    // At most 32 products of 8-bit or 64 of 4-bit integers: below 2^21, so f32 sums without the accumulator are exact.
    let mut sums = [[0f32; 32]; 2];
    add_products(a, b, &mut sums);
    for (s, sums) in sums.iter().enumerate() {
        let register = registers.register(i, j, s);
        for lane in 0..32 {
            let old = if how.keep { register[lane] as i32 } else { 0 };
            let sum = sums[lane] as i32;
            register[lane] = if how.satfinite { old.saturating_add(sum) } else { old.wrapping_add(sum) } as u32;
        }
    }
}

#[inline(always)]
fn f16_tile(how: Accumulate, a: &[ARow], b: &[BRow], register: &mut WarpReg) {
    let mut sums = [[0f32; 32]; 2];
    if how.keep {
        for lane in 0..32 {
            sums[0][lane] = f16_to_f32(register[lane] & 0xffff);
            sums[1][lane] = f16_to_f32(register[lane] >> 16);
        }
    }
    add_products(a, b, &mut sums);
    for lane in 0..32 {
        register[lane] = f32_to_f16_bits(sums[0][lane]) | f32_to_f16_bits(sums[1][lane]) << 16;
    }
}

/// Products and sums modulo 2^32, or of f16 modulo 2^16, which is the same cut short.
#[inline(always)]
fn ring_tile(how: Accumulate, a: &[ARow], b: &[BRow], registers: &mut impl TileRegisters, [i, j]: [usize; 2]) {
    let mut sums = [[0u32; 32]; 2];
    for (a, b) in a.iter().zip(b) {
        for (s, sums) in sums.iter_mut().enumerate() {
            for lane in 0..32 {
                let product = a[lane].to_bits().wrapping_mul(b[4 * s + lane % 4].to_bits());
                sums[lane] = sums[lane].wrapping_add(product);
            }
        }
    }
    if how.ty == AccumulatorType::F16 {
        let register = registers.register(i, j, 0);
        for lane in 0..32 {
            let old = if how.keep { register[lane] } else { 0 };
            let (low, high) = (sums[0][lane].wrapping_add(old), sums[1][lane].wrapping_add(old >> 16));
            register[lane] = low & 0xffff | high << 16;
        }
    } else {
        for (s, sums) in sums.iter().enumerate() {
            let register = registers.register(i, j, s);
            for lane in 0..32 {
                register[lane] = if how.keep { register[lane].wrapping_add(sums[lane]) } else { sums[lane] };
            }
        }
    }
}

#[inline(always)]
fn add_products(a: &[ARow], b: &[BRow], sums: &mut [[f32; 32]; 2]) {
    let [mut even, mut odd] = *sums;
    for (a, b) in a.iter().zip(b) {
        for lane in 0..32 {
            even[lane] = a[lane].mul_add(b[lane % 4], even[lane]);
        }
        for lane in 0..32 {
            odd[lane] = a[lane].mul_add(b[4 + lane % 4], odd[lane]);
        }
    }
    *sums = [even, odd];
}
