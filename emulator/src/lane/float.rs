//! f32 and f64 arithmetic with PTX's modifiers.

use super::{round, soft64};

pub const CANONICAL_NAN: u32 = 0x7fff_ffff;
pub const CANONICAL_NAN64: u64 = 0x7ff8_0000_0000_0000;

#[inline(always)]
pub fn f(x: u32) -> f32 {
    f32::from_bits(x)
}

#[inline(always)]
pub fn ff(x: u64) -> f64 {
    f64::from_bits(x)
}

/// Subnormals to a zero of the same sign.
#[inline(always)]
pub fn flush(x: f32) -> f32 {
    if x.to_bits() & 0x7f80_0000 == 0 { f32::from_bits(x.to_bits() & 0x8000_0000) } else { x }
}

fn ftz<const FTZ: bool>(x: u32) -> f32 {
    if FTZ { flush(f(x)) } else { f(x) }
}

/// NaN results are the canonical NaN of the GPU, 0x7fffffff.
fn finish<const FTZ: bool, const SAT: bool>(x: f32) -> u32 {
    let x = if FTZ { flush(x) } else { x };
    if x.is_nan() {
        return if SAT { 0 } else { CANONICAL_NAN };
    }
    (if SAT { x.clamp(0.0, 1.0) + 0.0 } else { x }).to_bits()
}

#[inline(always)]
pub fn canonical(x: f32) -> u32 {
    if x.is_nan() { CANONICAL_NAN } else { x.to_bits() }
}

pub fn canonical64(x: f64) -> u64 {
    if x.is_nan() { CANONICAL_NAN64 } else { x.to_bits() }
}

pub fn add<const RND: u8, const FTZ: bool, const SAT: bool>(a: u32, b: u32) -> u32 {
    finish::<FTZ, SAT>(round::add_f32(ftz::<FTZ>(a), ftz::<FTZ>(b), RND))
}

pub fn sub<const RND: u8, const FTZ: bool, const SAT: bool>(a: u32, b: u32) -> u32 {
    finish::<FTZ, SAT>(round::add_f32(ftz::<FTZ>(a), -ftz::<FTZ>(b), RND))
}

pub fn mul<const RND: u8, const FTZ: bool, const SAT: bool>(a: u32, b: u32) -> u32 {
    finish::<FTZ, SAT>(round::mul_f32(ftz::<FTZ>(a), ftz::<FTZ>(b), RND))
}

pub fn fma<const RND: u8, const FTZ: bool, const SAT: bool>(a: u32, b: u32, c: u32) -> u32 {
    finish::<FTZ, SAT>(round::fma_f32(ftz::<FTZ>(a), ftz::<FTZ>(b), ftz::<FTZ>(c), RND))
}

pub fn div<const RND: u8, const FTZ: bool, const SAT: bool>(a: u32, b: u32) -> u32 {
    finish::<FTZ, SAT>(round::div_f32(ftz::<FTZ>(a), ftz::<FTZ>(b), RND))
}

pub fn rcp<const RND: u8, const FTZ: bool, const SAT: bool>(a: u32) -> u32 {
    finish::<FTZ, SAT>(round::div_f32(1.0, ftz::<FTZ>(a), RND))
}

pub fn sqrt<const RND: u8, const FTZ: bool, const SAT: bool>(a: u32) -> u32 {
    finish::<FTZ, SAT>(round::sqrt_f32(ftz::<FTZ>(a), RND))
}

pub fn add64<const RND: u8>(a: u64, b: u64) -> u64 {
    canonical64(round::add_f64(ff(a), ff(b), RND))
}

pub fn sub64<const RND: u8>(a: u64, b: u64) -> u64 {
    canonical64(round::add_f64(ff(a), -ff(b), RND))
}

pub fn mul64<const RND: u8>(a: u64, b: u64) -> u64 {
    canonical64(soft64::mul(ff(a), ff(b), RND))
}

pub fn div64<const RND: u8>(a: u64, b: u64) -> u64 {
    canonical64(soft64::div(ff(a), ff(b), RND))
}

pub fn rcp64<const RND: u8>(a: u64) -> u64 {
    canonical64(soft64::div(1.0, ff(a), RND))
}

pub fn sqrt64<const RND: u8>(a: u64) -> u64 {
    canonical64(soft64::sqrt(ff(a), RND))
}

pub fn fma64<const RND: u8>(a: u64, b: u64, c: u64) -> u64 {
    canonical64(soft64::fma(ff(a), ff(b), ff(c), RND))
}

/// `min`/`max` of two floats: a NaN operand loses, unless `.NaN`; -0 is less than +0.
fn pick<const MAX: bool, const NAN: bool, const XORSIGN: bool>(a: f32, b: f32) -> u32 {
    let sign = if XORSIGN { (a.to_bits() ^ b.to_bits()) & 0x8000_0000 } else { 0 };
    let (a, b) = if XORSIGN { (a.abs(), b.abs()) } else { (a, b) };
    let value = match (a.is_nan(), b.is_nan()) {
        (true, true) => return CANONICAL_NAN,
        (true, false) if !NAN => b,
        (false, true) if !NAN => a,
        (false, false) => {
            let a_less = a < b || (a == b && a.is_sign_negative());
            if a_less != MAX { a } else { b }
        }
        _ => return CANONICAL_NAN,
    };
    value.to_bits() | sign
}

pub fn min<const FTZ: bool, const NAN: bool, const XORSIGN: bool>(a: u32, b: u32) -> u32 {
    pick::<false, NAN, XORSIGN>(ftz::<FTZ>(a), ftz::<FTZ>(b))
}

pub fn max<const FTZ: bool, const NAN: bool, const XORSIGN: bool>(a: u32, b: u32) -> u32 {
    pick::<true, NAN, XORSIGN>(ftz::<FTZ>(a), ftz::<FTZ>(b))
}

pub fn min64(a: u64, b: u64) -> u64 {
    pick64(ff(a), ff(b), false)
}

pub fn max64(a: u64, b: u64) -> u64 {
    pick64(ff(a), ff(b), true)
}

fn pick64(a: f64, b: f64, max: bool) -> u64 {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => CANONICAL_NAN64,
        (true, false) => b.to_bits(),
        (false, true) => a.to_bits(),
        (false, false) => {
            let a_less = a < b || (a == b && a.is_sign_negative());
            (if a_less != max { a } else { b }).to_bits()
        }
    }
}

pub fn neg_ftz(a: u32) -> u32 {
    (-flush(f(a))).to_bits()
}

pub fn abs_ftz(a: u32) -> u32 {
    flush(f(a)).abs().to_bits()
}

/// `copysign.f32 d, a, b`: b with the sign of a.
pub fn copysign(a: u32, b: u32) -> u32 {
    (a & 0x8000_0000) | (b & 0x7fff_ffff)
}

pub fn copysign64(a: u64, b: u64) -> u64 {
    (a & (1 << 63)) | (b & !(1 << 63))
}

/// A comparison of two floats by name, for any width that embeds in f64.
pub fn compare(name: &str) -> Option<fn(f64, f64) -> bool> {
    Some(match name {
        "eq" => |a, b| a == b,
        "ne" => |a, b| a.partial_cmp(&b).is_some_and(|order| order.is_ne()),
        "lt" => |a, b| a < b,
        "le" => |a, b| a <= b,
        "gt" => |a, b| a > b,
        "ge" => |a, b| a >= b,
        "equ" => |a, b| a == b || a.is_nan() || b.is_nan(),
        "neu" => |a, b| a != b,
        "ltu" => |a, b| a < b || a.is_nan() || b.is_nan(),
        "leu" => |a, b| a <= b || a.is_nan() || b.is_nan(),
        "gtu" => |a, b| a > b || a.is_nan() || b.is_nan(),
        "geu" => |a, b| a >= b || a.is_nan() || b.is_nan(),
        "num" => |a, b| !a.is_nan() && !b.is_nan(),
        "nan" => |a, b| a.is_nan() || b.is_nan(),
        _ => return None,
    })
}
