//! `cvt` in all its forms, applied lane by lane.

use super::reg::{R, Reg};
use crate::ring;
use crate::tensor::convert::{
    FloatFormat, IntType, Options, f32_to_int, f64_to_f32, f64_to_int, flush_subnormal, int_to_f32, int_to_f64, int_to_narrow,
    round_to_integral, saturate_unit,
};

/// One side of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    Int(IntType),
    Float(FloatFormat),
    F64,
}

#[derive(Clone, Debug)]
pub struct Convert {
    pub d: Reg,
    pub a: Reg,
    pub from: Number,
    pub to: Number,
    pub options: Options,
    /// `.sat`: clamp to the range of the destination, or to [0, 1] for floats.
    pub sat: bool,
    /// `.rni` and friends between floats.
    pub integral: bool,
    /// Between payloads of the ring, as integers of their widths; `.relu` and `.sat` are the ring's.
    pub ring: bool,
}

/// Two f32 into a packed pair.
#[derive(Clone, Debug)]
pub struct ConvertPack {
    pub d: R,
    pub high: R,
    pub low: R,
    pub to: FloatFormat,
    pub options: Options,
}

/// A packed pair into another packed pair, such as `f16x2.e4m3x2`.
#[derive(Clone, Debug)]
pub struct ConvertUnpack {
    pub d: R,
    pub a: R,
    pub from: FloatFormat,
    pub to: FloatFormat,
    pub options: Options,
}

fn integer(bits: u64, ty: IntType) -> i128 {
    let unused = 64 - ty.bits;
    if ty.signed { i128::from(((bits << unused) as i64) >> unused) } else { i128::from((bits << unused) >> unused) }
}

fn clamp(x: i128, ty: IntType) -> i128 {
    let (low, high) =
        if ty.signed { (-(1i128 << (ty.bits - 1)), (1i128 << (ty.bits - 1)) - 1) } else { (0, (1i128 << ty.bits) - 1) };
    x.clamp(low, high)
}

impl Convert {
    /// The destination's bits. Integers are sign- or zero-extended to 64 bits by their own type.
    pub fn apply(&self, bits: u64) -> u64 {
        match (self.from, self.to) {
            (Number::Int(from), Number::Int(to)) if self.ring => self.payload(integer(bits, from) as i64, to),
            (Number::Int(from), Number::Int(to)) => {
                let x = integer(bits, from);
                let x = if self.sat { clamp(x, to) } else { x };
                // Narrow first, so that a destination register wider than the type is extended by the type.
                integer(x as u64, to) as u64
            }
            (Number::Int(from), Number::F64) => int_to_f64(integer(bits, from), self.options.rounding).to_bits(),
            (Number::Int(from), Number::Float(FloatFormat::F32)) => {
                let x = int_to_f32(integer(bits, from), self.options.rounding);
                u64::from(if self.sat { x.clamp(0.0, 1.0) } else { x }.to_bits())
            }
            (Number::Int(from), Number::Float(to)) => u64::from(int_to_narrow(to, integer(bits, from), self.options.rounding)),
            (Number::F64, Number::Int(to)) => extend(f64_to_int(f64::from_bits(bits), to, self.options.rounding), to),
            (Number::Float(from), Number::Int(to)) => {
                let x = self.source(from, bits);
                extend(f32_to_int(x, to, self.options.rounding), to)
            }
            (Number::F64, Number::F64) => {
                let x = f64::from_bits(bits);
                let x = if self.integral { round_to_integral(x, self.options.rounding) } else { x };
                crate::lane::float::canonical64(if self.sat { saturate_unit(x) } else { x })
            }
            (Number::F64, Number::Float(FloatFormat::F32)) => {
                let x = f64_to_f32(f64::from_bits(bits), self.options);
                let x = if self.sat { saturate_unit(x.into()) as f32 } else { x };
                u64::from(crate::lane::float::canonical(x))
            }
            (Number::F64, Number::Float(to)) => {
                let x = f64::from_bits(bits);
                u64::from(to.encode(if self.sat { saturate_unit(x) } else { x }, self.options))
            }
            (Number::Float(from), Number::F64) => {
                let x = f64::from(self.source(from, bits));
                crate::lane::float::canonical64(if self.sat { saturate_unit(x) } else { x })
            }
            (Number::Float(from), Number::Float(to)) => {
                let x = f64::from(self.source(from, bits));
                let x = if self.integral { round_to_integral(x, self.options.rounding) } else { x };
                let x = if self.sat { saturate_unit(x) } else { x };
                u64::from(to.encode(x, self.options))
            }
        }
    }

    fn payload(&self, x: i64, to: IntType) -> u64 {
        let x = match (self.options.relu || self.sat, to.bits) {
            (false, _) => x as u64,
            // A hash of the payload depends on its width.
            (true, 16) => u64::from(if self.sat { ring::sat(x as u16) } else { ring::relu(x as u16) }),
            (true, 32) => u64::from(if self.sat { ring::sat(x as u32) } else { ring::relu(x as u32) }),
            (true, _) => {
                if self.sat {
                    ring::sat(x as u64)
                } else {
                    ring::relu(x as u64)
                }
            }
        };
        integer(x, to) as u64
    }

    fn source(&self, from: FloatFormat, bits: u64) -> f32 {
        let x = from.decode(bits as u32);
        if self.options.ftz && from == FloatFormat::F32 { flush_subnormal(x) } else { x }
    }
}

fn extend(bits: u64, ty: IntType) -> u64 {
    integer(bits, ty) as u64
}

impl ConvertPack {
    pub fn apply(&self, high: u32, low: u32) -> u32 {
        self.to.pack(f32::from_bits(high), f32::from_bits(low), self.options)
    }
}

impl ConvertUnpack {
    pub fn apply(&self, bits: u32) -> u32 {
        let [low, high] = self.from.unpack(bits);
        self.to.pack(high, low, self.options)
    }
}
