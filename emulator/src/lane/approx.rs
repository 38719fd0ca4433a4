//! The approximate functions, correctly rounded: the hardware's own bits are not specified, only their bounds
//! (PTX ISA 9.7.3, "Floating point instructions").

use super::float::{canonical, f, flush};

fn ftz<const FTZ: bool>(x: f32) -> f32 {
    if FTZ { flush(x) } else { x }
}

fn through<const FTZ: bool>(a: u32, g: impl Fn(f64) -> f64) -> u32 {
    canonical(ftz::<FTZ>(g(f64::from(ftz::<FTZ>(f(a)))) as f32))
}

/// 2^x to well below an f32 ulp, without branches so that a loop over lanes vectorises.
#[inline(always)]
pub fn exp2(x: f32) -> f32 {
    // Past these the result is 0 or infinity; NaN passes through the clamp by falling out of both comparisons.
    let x = f64::from(x);
    let x = if x > 200.0 { 200.0 } else { x };
    let x = if x < -200.0 { -200.0 } else { x };
    // Adding 1.5 * 2^52 leaves the nearest integer in the low mantissa bits.
    let magic = 6_755_399_441_055_744.0;
    let shifted = x + magic;
    let whole = shifted - magic;
    let r = (x - whole) * std::f64::consts::LN_2;
    // The Taylor series of e^r for |r| <= 0.35: the next term is below 2^-56.
    let mut p = 1.0 / 6_227_020_800.0;
    for c in [
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        p = p * r + c;
    }
    let scale = f64::from_bits((shifted.to_bits().wrapping_add(1023)) << 52);
    (p * scale) as f32
}

pub fn rsqrt<const FTZ: bool>(a: u32) -> u32 {
    through::<FTZ>(a, |x| 1.0 / x.sqrt())
}

pub fn sqrt_approx<const FTZ: bool>(a: u32) -> u32 {
    through::<FTZ>(a, f64::sqrt)
}

pub fn sin<const FTZ: bool>(a: u32) -> u32 {
    through::<FTZ>(a, f64::sin)
}

pub fn cos<const FTZ: bool>(a: u32) -> u32 {
    through::<FTZ>(a, f64::cos)
}

pub fn lg2<const FTZ: bool>(a: u32) -> u32 {
    through::<FTZ>(a, f64::log2)
}

pub fn tanh(a: u32) -> u32 {
    through::<false>(a, f64::tanh)
}

/// `rcp.approx.ftz.f64` and `rsqrt.approx.ftz.f64` keep the upper 32 bits of the result.
pub fn rcp64_high(a: u64) -> u64 {
    super::float::canonical64(1.0 / f64::from_bits(a)) & 0xffff_ffff_0000_0000
}

pub fn rsqrt64(a: u64) -> u64 {
    super::float::canonical64(1.0 / f64::from_bits(a).sqrt())
}
