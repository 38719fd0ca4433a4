//! f16 and bf16 arithmetic, scalar and packed.
//!
//! Sums and products of 11-bit (or 8-bit) significands survive a detour through f32 unharmed, because f32 has at
//! least 2p + 2 bits (Figueroa, "When is double rounding innocuous?", 1995). A fused multiply-add does not, so it goes
//! through f64 rounded to odd.

use super::round::odd_sum;
use half::{bf16, f16};

/// The two 16-bit formats.
pub trait Half {
    const CANONICAL_NAN: u16;
    fn widen(bits: u16) -> f32;
    fn narrow(x: f32) -> u16;
    /// Rounds a round-to-odd f64.
    fn narrow64(x: f64) -> u16;
}

pub struct F16;
pub struct Bf16;

/// f64 to f32 rounded to odd, so that a second rounding to 11 bits or fewer is correct.
fn odd32(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) == x || !near.is_finite() || near.to_bits() & 1 == 1 {
        return near;
    }
    if f64::from(near) < x { near.next_up() } else { near.next_down() }
}

impl Half for F16 {
    const CANONICAL_NAN: u16 = 0x7fff;
    fn widen(bits: u16) -> f32 {
        f16::from_bits(bits).to_f32()
    }
    fn narrow(x: f32) -> u16 {
        if x.is_nan() { Self::CANONICAL_NAN } else { f16::from_f32(x).to_bits() }
    }
    fn narrow64(x: f64) -> u16 {
        Self::narrow(odd32(x))
    }
}

impl Half for Bf16 {
    const CANONICAL_NAN: u16 = 0x7fff;
    fn widen(bits: u16) -> f32 {
        bf16::from_bits(bits).to_f32()
    }
    fn narrow(x: f32) -> u16 {
        if x.is_nan() { Self::CANONICAL_NAN } else { bf16::from_f32(x).to_bits() }
    }
    fn narrow64(x: f64) -> u16 {
        Self::narrow(odd32(x))
    }
}

/// Subnormals to zero.
fn flush<H: Half, const FTZ: bool>(bits: u16) -> u16 {
    let tiny = H::widen(0x8000 | bits) == 0.0 || (f32::abs(H::widen(bits)) < H::widen(smallest_normal::<H>()));
    if FTZ && tiny { bits & 0x8000 } else { bits }
}

/// Both f16 halves of a register with subnormals made zero.
pub fn flushed(a: u32) -> u32 {
    u32::from(flush::<F16, true>(a as u16)) | (u32::from(flush::<F16, true>((a >> 16) as u16)) << 16)
}

fn smallest_normal<H: Half>() -> u16 {
    // One in the exponent field: bit 10 for f16, bit 7 for bf16; told apart by what 1.0 looks like.
    if H::narrow(1.0) == 0x3c00 { 1 << 10 } else { 1 << 7 }
}

fn finish<H: Half, const FTZ: bool, const SAT: bool>(bits: u16) -> u16 {
    let bits = flush::<H, FTZ>(bits);
    if !SAT {
        return bits;
    }
    let x = H::widen(bits);
    if x.is_nan() { 0 } else { H::narrow(x.clamp(0.0, 1.0) + 0.0) }
}

fn relu<H: Half, const RELU: bool>(bits: u16) -> u16 {
    let x = H::widen(bits);
    if !RELU {
        bits
    } else if x.is_nan() {
        H::CANONICAL_NAN
    } else if x <= 0.0 {
        0
    } else {
        bits
    }
}

pub fn add<H: Half, const FTZ: bool, const SAT: bool>(a: u16, b: u16) -> u16 {
    let (a, b) = (flush::<H, FTZ>(a), flush::<H, FTZ>(b));
    finish::<H, FTZ, SAT>(H::narrow(H::widen(a) + H::widen(b)))
}

pub fn sub<H: Half, const FTZ: bool, const SAT: bool>(a: u16, b: u16) -> u16 {
    let (a, b) = (flush::<H, FTZ>(a), flush::<H, FTZ>(b));
    finish::<H, FTZ, SAT>(H::narrow(H::widen(a) - H::widen(b)))
}

pub fn mul<H: Half, const FTZ: bool, const SAT: bool>(a: u16, b: u16) -> u16 {
    let (a, b) = (flush::<H, FTZ>(a), flush::<H, FTZ>(b));
    finish::<H, FTZ, SAT>(H::narrow(H::widen(a) * H::widen(b)))
}

pub fn fma<H: Half, const FTZ: bool, const SAT: bool, const RELU: bool>(a: u16, b: u16, c: u16) -> u16 {
    let [a, b, c] = [a, b, c].map(|x| f64::from(H::widen(flush::<H, FTZ>(x))));
    relu::<H, RELU>(finish::<H, FTZ, SAT>(H::narrow64(odd_sum(a * b, c))))
}

pub fn pick<H: Half, const MAX: bool, const FTZ: bool, const NAN: bool, const XORSIGN: bool>(a: u16, b: u16) -> u16 {
    let (a, b) = (flush::<H, FTZ>(a), flush::<H, FTZ>(b));
    let sign = if XORSIGN { (a ^ b) & 0x8000 } else { 0 };
    let (a, b) = if XORSIGN { (a & 0x7fff, b & 0x7fff) } else { (a, b) };
    let (x, y) = (H::widen(a), H::widen(b));
    let chosen = match (x.is_nan(), y.is_nan()) {
        (false, false) => {
            let a_less = x < y || (x == y && x.is_sign_negative());
            if a_less != MAX { a } else { b }
        }
        (true, false) if !NAN => b,
        (false, true) if !NAN => a,
        _ => return H::CANONICAL_NAN,
    };
    chosen | sign
}

/// A unary approximate function, rounded once.
pub fn unary<H: Half, const FTZ: bool>(a: u16, g: fn(f64) -> f64) -> u16 {
    flush::<H, FTZ>(H::narrow64(g(f64::from(H::widen(flush::<H, FTZ>(a))))))
}

pub fn compare<H: Half>(f: fn(f64, f64) -> bool, a: u16, b: u16) -> bool {
    f(f64::from(H::widen(a)), f64::from(H::widen(b)))
}
