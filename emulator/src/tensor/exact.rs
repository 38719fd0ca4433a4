//! The sums of tensor cores, bit for bit.
//!
//! NVIDIA does not publish them; this is the model that Fasi, Higham, Mikaitis and Pranesh measured ("Numerical
//! behavior of NVIDIA tensor cores", 2021) and that MMA-Sim (arXiv 2511.10909) confirmed bit by bit on eight
//! architectures. One step of a dot product `c + Σ a[k] b[k]`:
//!
//! - a product has the exact significand product, *not* normalised, in [1, 4), and the sum of its operands' exponents;
//!   a subnormal operand has the least exponent of its type, zero has -126;
//! - every term, c among them, is aligned to the largest exponent and cut off, toward zero, at F fraction bits;
//! - the aligned terms are added as integers, exactly;
//! - the sum is cut off, toward zero, to the 23 mantissa bits of f32 (13 where the accumulator is short), or rounded to
//!   nearest even for f16. A result of zero is +0, overflow is infinity, NaN is canonical.
//!
//! | chip | types | instruction | F | steps | f32 result |
//! |---|---|---|---|---|---|
//! | Turing, Ampere | f16, bf16, tf32 | `mma` | 24 | two halves of k at the largest k | 23 bits |
//! | Ada | f16, bf16, tf32 | `mma` | 24 | as Ampere | 23 bits |
//! | Ada | e4m3, e5m2 | `mma` | 13 | k 16 | 13 bits |
//! | Hopper | f16, bf16, tf32 | `mma`, `wgmma` | 25 | one | 23 bits |
//! | Hopper | e4m3, e5m2 | `wgmma` | 13 | one | 13 bits |
//! | Hopper, Blackwell | e4m3, e5m2 | `mma` | 25 | k 16: ptxas widens them to f16 | 23 bits |
//! | Blackwell | f16, bf16, tf32 | `mma` | 25 | one | 23 bits |
//! | RTX Blackwell | all | `mma` | 25 | one | 23 bits |
//!
//! The zero's exponent of -126 is MMA-Sim's; it only shows where every other term is smaller than that. Integers and
//! f64 (one fused multiply-add for each k) are the same in every mode.
//!
//! Where exponents allow it, which is nearly always, eight sums at a time are done with f32 vectors: a product of two
//! 11-bit significands is exact in f32, scaling by a power of two is too, and the conversion to integer cuts off.

use super::element::{AccumulatorType, ElementType, f16_to_f32, f32_to_f16_bits};
use super::mma::MmaKind;
use super::numerics::Chip;
use super::simd::vectorised;
use super::tile::{ARow, Accumulate, BRow, TileRegisters};
use super::wgmma::WgmmaKind;

/// What distinguishes one tensor core from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DotUnit {
    /// F: fraction bits that survive alignment.
    fraction_bits: i32,
    /// Elements along k that are summed at once.
    step: usize,
    /// Mantissa bits of an f32 result.
    mantissa_bits: u32,
    /// Least exponents of a, b and c.
    min_exponents: [i16; 3],
}

impl DotUnit {
    /// The unit of an `mma.sync` on `chip`; integers and f64 have none.
    pub fn of_mma(chip: Chip, kind: &MmaKind) -> Option<DotUnit> {
        let k = kind.k as usize;
        let fp8 = kind.a.bits() == 8;
        let largest_k = 256 / kind.a.bits() as usize;
        let (fraction_bits, mantissa_bits, step) = match chip {
            Chip::Ada if fp8 => (13, 13, k.min(16)),
            Chip::Turing | Chip::Ampere | Chip::Ada => (24, 23, if k == largest_k { k / 2 } else { k }),
            Chip::Hopper | Chip::Blackwell if fp8 => (25, 23, k.min(16)),
            Chip::Hopper | Chip::Blackwell | Chip::BlackwellRtx => (25, 23, k),
        };
        // These have no 8-bit floats of their own: the operands go in as f16, where e4m3's subnormals are normal.
        let as_f16 = fp8 && !matches!(chip, Chip::Ada | Chip::BlackwellRtx);
        let least = |ty| if as_f16 { min_exponent(ElementType::F16) } else { min_exponent(ty) };
        floating(kind.a).then(|| DotUnit {
            fraction_bits,
            step,
            mantissa_bits,
            min_exponents: [least(kind.a), least(kind.b), min_exponent_of_c(kind.d)],
        })
    }

    /// The unit of a `wgmma`, which only Hopper has; integers have none.
    pub fn of_wgmma(kind: &WgmmaKind) -> Option<DotUnit> {
        let (fraction_bits, mantissa_bits) = if kind.a.bits() == 8 { (13, 13) } else { (25, 23) };
        floating(kind.a).then(|| DotUnit {
            fraction_bits,
            step: kind.k() as usize,
            mantissa_bits,
            min_exponents: [min_exponent(kind.a), min_exponent(kind.b), min_exponent_of_c(kind.d)],
        })
    }
}

fn floating(ty: ElementType) -> bool {
    !ty.is_integer() && ty != ElementType::F64
}

const fn min_exponent(ty: ElementType) -> i16 {
    match ty {
        ElementType::F16 | ElementType::E5m2 => -14,
        ElementType::E4m3 => -6,
        _ => -126,
    }
}

const fn min_exponent_of_c(ty: AccumulatorType) -> i16 {
    if matches!(ty, AccumulatorType::F16) { -14 } else { -126 }
}

/// [`accumulate_tiles`](super::tile::accumulate_tiles) with a tensor core's sums.
pub(super) fn accumulate(how: Accumulate, unit: &DotUnit, k: usize, a: &[ARow], b: &[BRow], registers: &mut impl TileRegisters) {
    let mut exponents_a = vec![[0; 32]; a.len()];
    let mut exponents_b = vec![[0; 8]; b.len()];
    let range_a = exponents(a, unit.min_exponents[0], &mut exponents_a);
    let range_b = exponents(b, unit.min_exponents[1], &mut exponents_b);
    // Nonzero products then are normal f32, and so is one bit of the last place that is kept.
    let easy = range_a.min + range_b.min >= LEAST && range_a.max + range_b.max <= 126;
    for (i, (a, ea)) in a.chunks_exact(k).zip(exponents_a.chunks_exact(k)).enumerate() {
        for (j, (b, eb)) in b.chunks_exact(k).zip(exponents_b.chunks_exact(k)).enumerate() {
            let mut sums = [[0f32; 32]; 2];
            if how.keep {
                load(how.ty, registers, [i, j], &mut sums);
            }
            for at in (0..k).step_by(unit.step) {
                let (from, to) = (at, at + unit.step);
                let terms = Terms { a: &a[from..to], b: &b[from..to], ea: &ea[from..to], eb: &eb[from..to] };
                if easy && tame(&sums) {
                    fast_step(unit, how.ty, &terms, &mut sums);
                } else {
                    slow_step(unit, how.ty, &terms, &mut sums);
                }
            }
            store(how.ty, registers, [i, j], &sums);
        }
    }
}

fn load(ty: AccumulatorType, registers: &mut impl TileRegisters, [i, j]: [usize; 2], sums: &mut [[f32; 32]; 2]) {
    if ty == AccumulatorType::F16 {
        let register = registers.register(i, j, 0);
        for lane in 0..32 {
            sums[0][lane] = f16_to_f32(register[lane] & 0xffff);
            sums[1][lane] = f16_to_f32(register[lane] >> 16);
        }
    } else {
        for (s, sums) in sums.iter_mut().enumerate() {
            *sums = registers.register(i, j, s).map(f32::from_bits);
        }
    }
}

fn store(ty: AccumulatorType, registers: &mut impl TileRegisters, [i, j]: [usize; 2], sums: &[[f32; 32]; 2]) {
    if ty == AccumulatorType::F16 {
        let register = registers.register(i, j, 0);
        for lane in 0..32 {
            // The sums are f16 values already.
            register[lane] = f32_to_f16_bits(sums[0][lane]) | f32_to_f16_bits(sums[1][lane]) << 16;
        }
    } else {
        for (s, sums) in sums.iter().enumerate() {
            *registers.register(i, j, s) = sums.map(|x| if x.is_nan() { 0x7fff_ffff } else { x.to_bits() });
        }
    }
}

/// Exponents of the nonzero values of an operand; far apart if one is not finite.
#[derive(Clone, Copy, Debug)]
struct Range {
    min: i32,
    max: i32,
}

/// The least exponent of nonzero terms for which [`fast_step`] is right: one fraction bit of F = 25 is 2^-126 then.
const LEAST: i32 = -101;

vectorised! {
    fn exponents_a(rows: &[ARow], min: i16, out: &mut [[i16; 32]], range: &mut Range) {
        exponents_body(rows, min, out, range);
    }
}

vectorised! {
    fn exponents_b(rows: &[BRow], min: i16, out: &mut [[i16; 8]], range: &mut Range) {
        exponents_body(rows, min, out, range);
    }
}

trait Rows: Sized {
    type Exponents;
    fn exponents(rows: &[Self], min: i16, out: &mut [Self::Exponents], range: &mut Range);
}

impl Rows for ARow {
    type Exponents = [i16; 32];
    fn exponents(rows: &[Self], min: i16, out: &mut [Self::Exponents], range: &mut Range) {
        exponents_a(rows, min, out, range);
    }
}

impl Rows for BRow {
    type Exponents = [i16; 8];
    fn exponents(rows: &[Self], min: i16, out: &mut [Self::Exponents], range: &mut Range) {
        exponents_b(rows, min, out, range);
    }
}

fn exponents<T: Rows>(rows: &[T], min: i16, out: &mut [T::Exponents]) -> Range {
    let mut range = Range { min: 254, max: -254 };
    T::exponents(rows, min, out, &mut range);
    range
}

#[inline(always)]
fn exponents_body<const W: usize>(rows: &[[f32; W]], min: i16, out: &mut [[i16; W]], range: &mut Range) {
    let (mut low, mut high) = ([range.min; W], [range.max; W]);
    for (row, out) in rows.iter().zip(out) {
        for lane in 0..W {
            let magnitude = row[lane].to_bits() & 0x7fff_ffff;
            let zero = magnitude == 0;
            let field = (magnitude >> 23) as i32;
            let exponent = if field == 255 { 1000 } else { field - 127 };
            low[lane] = low[lane].min(if zero { 254 } else { exponent });
            high[lane] = high[lane].max(if zero { -254 } else { exponent });
            out[lane] = if zero { -126 } else { exponent.max(min.into()) as i16 };
        }
    }
    *range = Range { min: low.into_iter().fold(254, i32::min), max: high.into_iter().fold(-254, i32::max) };
}

/// Whether accumulators are zero or have exponents from [`LEAST`] on, infinity and NaN excluded.
fn tame(sums: &[[f32; 32]; 2]) -> bool {
    const LOW: u32 = ((LEAST + 127) as u32) << 23;
    let mut wild = 0;
    for sums in sums {
        for sum in sums {
            let magnitude = sum.to_bits() & 0x7fff_ffff;
            wild |= u32::from(magnitude.wrapping_sub(LOW) >= 0x7f80_0000 - LOW) & u32::from(magnitude != 0);
        }
    }
    wild == 0
}

/// One step of a fragment tile: operands and their exponents, by k.
struct Terms<'t> {
    a: &'t [ARow],
    b: &'t [BRow],
    ea: &'t [[i16; 32]],
    eb: &'t [[i16; 8]],
}

vectorised! {
    fn fast_step(unit: &DotUnit, ty: AccumulatorType, terms: &Terms<'_>, sums: &mut [[f32; 32]; 2]) {
        fast_half::<0>(unit, ty, terms, &mut sums[0]);
        fast_half::<4>(unit, ty, terms, &mut sums[1]);
    }
}

/// Products of 24 bits before the point that fit an i32 sum: 16 * (2 - 2^-10)^2 * 2^25 < 2^31.
const CHUNK: usize = 16;

/// The even columns (`AT` = 0) or the odd ones (`AT` = 4).
#[inline(always)]
fn fast_half<const AT: usize>(unit: &DotUnit, ty: AccumulatorType, terms: &Terms<'_>, sums: &mut [f32; 32]) {
    let mut top = [0i16; 32];
    for lane in 0..32 {
        let field = (sums[lane].to_bits() >> 23 & 255) as i16;
        top[lane] = if sums[lane] == 0.0 { -126 } else { (field - 127).max(unit.min_exponents[2]) };
    }
    for (ea, eb) in terms.ea.iter().zip(terms.eb) {
        for lane in 0..32 {
            top[lane] = top[lane].max(ea[lane] + eb[AT + lane % 4]);
        }
    }
    let mut scale = [0f32; 32];
    let mut back = [0f64; 32];
    for lane in 0..32 {
        // Below this all terms are zero, and so is the sum, whatever the scale.
        let shift = unit.fraction_bits - i32::from(top[lane]).max(LEAST - 1);
        scale[lane] = f32::from_bits(((127 + shift) as u32) << 23);
        back[lane] = f64::from_bits(((1023 - shift) as u64) << 52);
    }
    let mut total = [0f64; 32];
    for lane in 0..32 {
        total[lane] = f64::from((sums[lane] * scale[lane]).trunc());
    }
    for (a, b) in terms.a.chunks(CHUNK).zip(terms.b.chunks(CHUNK)) {
        let mut sum = [0i32; 32];
        for (a, b) in a.iter().zip(b) {
            for lane in 0..32 {
                let product = a[lane] * b[AT + lane % 4] * scale[lane];
                // SAFETY: both factors are finite, and scaled by the largest exponent there is a product is below
                // 4 * 2^25.
                sum[lane] += unsafe { product.to_int_unchecked::<i32>() };
            }
        }
        for lane in 0..32 {
            total[lane] += f64::from(sum[lane]);
        }
    }
    // f64 holds the sum exactly, and no sum but zero is a subnormal f32.
    if ty == AccumulatorType::F16 {
        for lane in 0..32 {
            let cut = cut_off(total[lane] * back[lane], 23);
            let inexact = f64::from(cut) != total[lane] * back[lane];
            // To odd first, so that the rounding to f16 is the only one.
            sums[lane] = f16_to_f32(f32_to_f16_bits(f32::from_bits(cut.to_bits() | u32::from(inexact)))) + 0.0;
        }
    } else {
        for lane in 0..32 {
            sums[lane] = cut_off(total[lane] * back[lane], unit.mantissa_bits);
        }
    }
}

/// Toward zero; the result is normal, zero or past the largest f32.
#[inline(always)]
fn cut_off(x: f64, mantissa_bits: u32) -> f32 {
    f64::from_bits(x.to_bits() & !((1 << (52 - mantissa_bits)) - 1)) as f32
}

/// Any operands, one sum at a time.
#[inline(never)]
fn slow_step(unit: &DotUnit, ty: AccumulatorType, terms: &Terms<'_>, sums: &mut [[f32; 32]; 2]) {
    for (s, sums) in sums.iter_mut().enumerate() {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let at = 4 * s + lane % 4;
            *sum = slow_sum(unit, ty, terms, lane, at, *sum);
        }
    }
}

fn slow_sum(unit: &DotUnit, ty: AccumulatorType, terms: &Terms<'_>, lane: usize, at: usize, c: f32) -> f32 {
    let products = || terms.a.iter().zip(terms.b).map(|(a, b)| (a[lane], b[at]));
    // Products of narrow floats are exact in f64, and only infinite operands make an infinite sum.
    let special = products().fold(f64::from(c), |sum, (a, b)| sum + f64::from(a) * f64::from(b));
    if !special.is_finite() {
        return special as f32;
    }
    let [_, _, min_c] = unit.min_exponents.map(i32::from);
    let (significand_c, exponent_c) = parts(c, min_c);
    let [min_a, min_b, _] = unit.min_exponents.map(i32::from);
    let pairs = || products().map(|(a, b)| (parts(a, min_a), parts(b, min_b)));
    let top = pairs().map(|((_, ea), (_, eb))| ea + eb).fold(exponent_c, i32::max);
    let mut sum = align(significand_c, 23, exponent_c - top + unit.fraction_bits);
    for ((sa, ea), (sb, eb)) in pairs() {
        sum += align(sa * sb, 46, ea + eb - top + unit.fraction_bits);
    }
    round(unit, ty, sum, top - unit.fraction_bits)
}

/// `x` as a significand with 23 fraction bits, and its exponent. Operands of narrow types lose nothing below `min`.
fn parts(x: f32, min: i32) -> (i64, i32) {
    let bits = x.to_bits();
    let field = (bits >> 23 & 255) as i32;
    let magnitude = i64::from(bits & 0x7f_ffff) | if field > 0 { 1 << 23 } else { 0 };
    if magnitude == 0 {
        return (0, -126);
    }
    let exponent = field.max(1) - 127;
    let magnitude = magnitude >> (min - exponent).max(0);
    (if bits >> 31 == 1 { -magnitude } else { magnitude }, exponent.max(min))
}

/// `significand * 2^(shift - fraction)`, cut off toward zero.
fn align(significand: i64, fraction: i32, shift: i32) -> i64 {
    let right = fraction - shift;
    let magnitude = match right {
        ..0 => significand.abs() << -right,
        0..64 => significand.abs() >> right,
        64.. => 0,
    };
    if significand < 0 { -magnitude } else { magnitude }
}

/// `sum * 2^exponent` as the accumulator keeps it.
fn round(unit: &DotUnit, ty: AccumulatorType, sum: i64, exponent: i32) -> f32 {
    if sum == 0 {
        return 0.0;
    }
    let magnitude = sum.unsigned_abs();
    let leading = 63 - magnitude.leading_zeros() as i32 + exponent;
    let (bits, least) = if ty == AccumulatorType::F16 { (10, -14) } else { (unit.mantissa_bits as i32, -126) };
    // The place of the last bit kept.
    let last = leading.max(least) - bits;
    let drop = last - exponent;
    let kept = match drop {
        ..=0 => magnitude << -drop,
        1..64 => {
            let (kept, rest) = (magnitude >> drop, magnitude & ((1 << drop) - 1));
            let half = 1 << (drop - 1);
            let up = ty == AccumulatorType::F16 && (rest > half || rest == half && kept & 1 == 1);
            kept + u64::from(up)
        }
        64.. => 0,
    };
    // At most 25 bits: exact in f64.
    let value = kept as f64 * 2f64.powi(last);
    let value = if ty == AccumulatorType::F16 && value > 65504.0 { f32::INFINITY } else { value as f32 };
    // Adding zero takes the sign off a zero.
    (if sum < 0 { -value } else { value }) + 0.0
}
