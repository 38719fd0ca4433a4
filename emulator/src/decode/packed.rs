//! Tables of f16 and bf16 functions, scalar and packed.

use super::arith::{Bf16, F1, F2, F3, F16};
use crate::lane::half::{self, Half};

fn two<H: Half>(a: u32, b: u32, f: fn(u16, u16) -> u16) -> u32 {
    let low = f(a as u16, b as u16);
    let high = f((a >> 16) as u16, (b >> 16) as u16);
    (u32::from(high) << 16) | u32::from(low)
}

fn one_bin(a: u32, b: u32, f: fn(u16, u16) -> u16) -> u32 {
    u32::from(f(a as u16, b as u16))
}

/// A function on halves as one on registers, scalar or packed.
macro_rules! lanes2 {
    ($packed:expr, $h:ty, $f:expr) => {{
        let f: F2 = if $packed { |a, b| two::<$h>(a, b, $f) } else { |a, b| one_bin(a, b, $f) };
        f
    }};
}

macro_rules! arithmetic {
    ($name:ident, $f16:expr, $packed:expr, $ftz:expr, $sat:expr) => {
        match ($f16, $ftz, $sat) {
            (true, false, false) => lanes2!($packed, F16, half::$name::<F16, false, false>),
            (true, false, true) => lanes2!($packed, F16, half::$name::<F16, false, true>),
            (true, true, false) => lanes2!($packed, F16, half::$name::<F16, true, false>),
            (true, true, true) => lanes2!($packed, F16, half::$name::<F16, true, true>),
            (false, false, false) => lanes2!($packed, Bf16, half::$name::<Bf16, false, false>),
            _ => return None,
        }
    };
}

pub fn binary(root: &str, is_f16: bool, packed: bool, ftz: bool, sat: bool) -> Option<F2> {
    Some(match root {
        "add" => arithmetic!(add, is_f16, packed, ftz, sat),
        "sub" => arithmetic!(sub, is_f16, packed, ftz, sat),
        "mul" => arithmetic!(mul, is_f16, packed, ftz, sat),
        _ => return None,
    })
}

macro_rules! lanes3 {
    ($packed:expr, $f:expr) => {{
        let f: F3 = if $packed {
            |a, b, c| {
                let low = $f(a as u16, b as u16, c as u16);
                let high = $f((a >> 16) as u16, (b >> 16) as u16, (c >> 16) as u16);
                (u32::from(high) << 16) | u32::from(low)
            }
        } else {
            |a, b, c| u32::from($f(a as u16, b as u16, c as u16))
        };
        f
    }};
}

pub fn fused(is_f16: bool, packed: bool, ftz: bool, sat: bool, relu: bool) -> Option<F3> {
    Some(match (is_f16, ftz, sat, relu) {
        (true, false, false, false) => lanes3!(packed, half::fma::<F16, false, false, false>),
        (true, false, false, true) => lanes3!(packed, half::fma::<F16, false, false, true>),
        (true, false, true, false) => lanes3!(packed, half::fma::<F16, false, true, false>),
        (true, true, false, false) => lanes3!(packed, half::fma::<F16, true, false, false>),
        (true, true, false, true) => lanes3!(packed, half::fma::<F16, true, false, true>),
        (true, true, true, false) => lanes3!(packed, half::fma::<F16, true, true, false>),
        (false, false, false, false) => lanes3!(packed, half::fma::<Bf16, false, false, false>),
        (false, false, false, true) => lanes3!(packed, half::fma::<Bf16, false, false, true>),
        _ => return None,
    })
}

macro_rules! picks {
    ($h:ty, $max:expr, $packed:expr, $ftz:expr, $nan:expr, $xorsign:expr) => {
        match ($max, $ftz, $nan, $xorsign) {
            (false, false, false, false) => lanes2!($packed, $h, half::pick::<$h, false, false, false, false>),
            (false, false, false, true) => lanes2!($packed, $h, half::pick::<$h, false, false, false, true>),
            (false, false, true, false) => lanes2!($packed, $h, half::pick::<$h, false, false, true, false>),
            (false, false, true, true) => lanes2!($packed, $h, half::pick::<$h, false, false, true, true>),
            (false, true, false, false) => lanes2!($packed, $h, half::pick::<$h, false, true, false, false>),
            (false, true, false, true) => lanes2!($packed, $h, half::pick::<$h, false, true, false, true>),
            (false, true, true, false) => lanes2!($packed, $h, half::pick::<$h, false, true, true, false>),
            (false, true, true, true) => lanes2!($packed, $h, half::pick::<$h, false, true, true, true>),
            (true, false, false, false) => lanes2!($packed, $h, half::pick::<$h, true, false, false, false>),
            (true, false, false, true) => lanes2!($packed, $h, half::pick::<$h, true, false, false, true>),
            (true, false, true, false) => lanes2!($packed, $h, half::pick::<$h, true, false, true, false>),
            (true, false, true, true) => lanes2!($packed, $h, half::pick::<$h, true, false, true, true>),
            (true, true, false, false) => lanes2!($packed, $h, half::pick::<$h, true, true, false, false>),
            (true, true, false, true) => lanes2!($packed, $h, half::pick::<$h, true, true, false, true>),
            (true, true, true, false) => lanes2!($packed, $h, half::pick::<$h, true, true, true, false>),
            (true, true, true, true) => lanes2!($packed, $h, half::pick::<$h, true, true, true, true>),
        }
    };
}

pub fn pick(max: bool, is_f16: bool, packed: bool, ftz: bool, nan: bool, xorsign: bool) -> Option<F2> {
    if is_f16 {
        Some(picks!(F16, max, packed, ftz, nan, xorsign))
    } else if ftz {
        None
    } else {
        Some(picks!(Bf16, max, packed, false, nan, xorsign))
    }
}

macro_rules! lanes1 {
    ($packed:expr, $unary:expr, $g:expr) => {{
        let f: F1 = if $packed {
            |a| {
                let low = $unary(a as u16, $g);
                let high = $unary((a >> 16) as u16, $g);
                (u32::from(high) << 16) | u32::from(low)
            }
        } else {
            |a| u32::from($unary(a as u16, $g))
        };
        f
    }};
}

/// Only `ex2` of bf16 flushes subnormals, and it has to.
pub fn unary(root: &str, is_f16: bool, packed: bool, ftz: bool) -> Option<F1> {
    Some(match (root, is_f16, ftz) {
        ("ex2", true, false) => lanes1!(packed, half::unary::<F16, false>, f64::exp2),
        ("ex2", false, true) => lanes1!(packed, half::unary::<Bf16, true>, f64::exp2),
        ("tanh", true, false) => lanes1!(packed, half::unary::<F16, false>, f64::tanh),
        ("tanh", false, false) => lanes1!(packed, half::unary::<Bf16, false>, f64::tanh),
        _ => return None,
    })
}
