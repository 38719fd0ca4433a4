//! Float instructions as the [`ring`] has them. The text was decoded as floats before, so that what comes here is
//! known to be PTX: only what matters to payloads is looked at.

use super::arith::{F1, F2, F3};
use super::decoder::{Decoder, Result};
use super::ty::Ty;
use crate::parse::ast::Operand;
use crate::program::convert_op::{Convert, Number};
use crate::program::op::{Bin32, Bin64, Cmp, Tri32, Un32};
use crate::program::{Op, Reg};
use crate::ring::{self, Payload};
use crate::tensor::convert::{IntType, Options};

/// Modifiers that change a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingFlags {
    pub sat: bool,
    pub relu: bool,
    pub xorsign: bool,
}

/// Whether registers of this type hold payloads.
pub(super) fn is_float(ty: Ty) -> bool {
    matches!(ty, Ty::F32 | Ty::F64 | Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2 | Ty::Tf32 | Ty::F32x2 | Ty::Pair(_))
}

fn halves1(a: u32, f: impl Fn(u16) -> u16) -> u32 {
    u32::from(f(a as u16)) | u32::from(f((a >> 16) as u16)) << 16
}

fn halves2(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    u32::from(f(a as u16, b as u16)) | u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}

fn halves3(a: u32, b: u32, c: u32, f: impl Fn(u16, u16, u16) -> u16) -> u32 {
    let high = f((a >> 16) as u16, (b >> 16) as u16, (c >> 16) as u16);
    u32::from(f(a as u16, b as u16, c as u16)) | u32::from(high) << 16
}

fn add_sat<P: Payload>(a: P, b: P) -> P {
    ring::sat(ring::add(a, b))
}

fn sub_sat<P: Payload>(a: P, b: P) -> P {
    ring::sat(ring::sub(a, b))
}

fn mul_sat<P: Payload>(a: P, b: P) -> P {
    ring::sat(ring::mul(a, b))
}

fn fma_sat<P: Payload>(a: P, b: P, c: P) -> P {
    ring::sat(ring::fma(a, b, c))
}

fn fma_relu<P: Payload>(a: P, b: P, c: P) -> P {
    ring::relu(ring::fma(a, b, c))
}

/// `.xorsign.abs`: magnitudes are compared, and the result's sign is the product's.
fn max_xorsign<P: Payload>(a: P, b: P) -> P {
    let magnitude = ring::max(ring::abs(a), ring::abs(b));
    if (a.widened() < 0) != (b.widened() < 0) { ring::neg(magnitude) } else { magnitude }
}

fn min_xorsign<P: Payload>(a: P, b: P) -> P {
    let magnitude = ring::min(ring::abs(a), ring::abs(b));
    if (a.widened() < 0) != (b.widened() < 0) { ring::neg(magnitude) } else { magnitude }
}

macro_rules! unary {
    ($self:ident, $ty:ident, $ops:ident, $f:path) => {{
        match $ty {
            Ty::F64 => return $self.quad1($f, $ops),
            Ty::F32 => {
                let f: F1 = $f;
                return $self.lane1(f, $ops, $ty);
            }
            Ty::F16 | Ty::Bf16 => {
                let f: F1 = |a| u32::from($f(a as u16));
                return $self.lane1(f, $ops, $ty);
            }
            Ty::F16x2 | Ty::Bf16x2 => {
                let f: F1 = |a| halves1(a, $f);
                return $self.lane1(f, $ops, $ty);
            }
            _ => {}
        }
    }};
}

macro_rules! binary {
    ($self:ident, $ty:ident, $ops:ident, $f:path) => {{
        match $ty {
            Ty::F64 => return $self.quad2($f, $ops),
            Ty::F32 => {
                let f: F2 = $f;
                return $self.lane2(f, $ops, $ty);
            }
            Ty::F16 | Ty::Bf16 => {
                let f: F2 = |a, b| u32::from($f(a as u16, b as u16));
                return $self.lane2(f, $ops, $ty);
            }
            Ty::F16x2 | Ty::Bf16x2 => {
                let f: F2 = |a, b| halves2(a, b, $f);
                return $self.lane2(f, $ops, $ty);
            }
            _ => {}
        }
    }};
}

macro_rules! ternary {
    ($self:ident, $ty:ident, $ops:ident, $f:path) => {{
        match $ty {
            Ty::F32 => {
                let f: F3 = $f;
                return $self.lane3(f, $ops, $ty);
            }
            Ty::F16 | Ty::Bf16 => {
                let f: F3 = |a, b, c| u32::from($f(a as u16, b as u16, c as u16));
                return $self.lane3(f, $ops, $ty);
            }
            Ty::F16x2 | Ty::Bf16x2 => {
                let f: F3 = |a, b, c| halves3(a, b, c, $f);
                return $self.lane3(f, $ops, $ty);
            }
            _ => {}
        }
    }};
}

impl Decoder<'_> {
    fn not_in_ring<T>(&self) -> Result<T> {
        self.error("has no meaning in the ring")
    }

    /// `add` to `copysign` on floats.
    pub(super) fn ring_arith(&mut self, root: &str, ty: Ty, flags: RingFlags, ops: &[Operand]) -> Result<Op> {
        // What kernels are full of has vector loops already.
        if !flags.sat && !flags.relu && !flags.xorsign {
            match (root, ty) {
                ("add", Ty::F32) => return self.bin32(Bin32::Add, ops, ty),
                ("sub", Ty::F32) => return self.bin32(Bin32::Sub, ops, ty),
                ("mul", Ty::F32) => return self.bin32(Bin32::MulLo, ops, ty),
                ("min", Ty::F32) => return self.bin32(Bin32::MinS, ops, ty),
                ("max", Ty::F32) => return self.bin32(Bin32::MaxS, ops, ty),
                ("fma" | "mad", Ty::F32) => return self.tri32(Tri32::MadLo, ops, ty),
                ("neg", Ty::F32) => return self.un32(Un32::NegI, ops, ty),
                ("add", Ty::F64) => return self.bin64(Bin64::Add, ops),
                ("sub", Ty::F64) => return self.bin64(Bin64::Sub, ops),
                ("mul", Ty::F64) => return self.bin64(Bin64::MulLo, ops),
                ("fma" | "mad", Ty::F64) => {
                    self.expect_operands(ops, 4)?;
                    let [a, b, c] = [&ops[1], &ops[2], &ops[3]].map(|o| self.src64(o));
                    return Ok(Op::MadLo64(self.dst64(&ops[0])?, a?, b?, c?));
                }
                _ => {}
            }
        }
        match (root, flags.sat, flags.relu, flags.xorsign) {
            ("add", false, ..) => binary!(self, ty, ops, ring::add),
            ("add", true, ..) => binary!(self, ty, ops, add_sat),
            ("sub", false, ..) => binary!(self, ty, ops, ring::sub),
            ("sub", true, ..) => binary!(self, ty, ops, sub_sat),
            ("mul", false, ..) => binary!(self, ty, ops, ring::mul),
            ("mul", true, ..) => binary!(self, ty, ops, mul_sat),
            ("fma" | "mad", false, false, _) => ternary!(self, ty, ops, ring::fma),
            ("fma" | "mad", true, false, _) => ternary!(self, ty, ops, fma_sat),
            ("fma" | "mad", false, true, _) => ternary!(self, ty, ops, fma_relu),
            ("min", _, _, false) => binary!(self, ty, ops, ring::min),
            ("min", _, _, true) => binary!(self, ty, ops, min_xorsign),
            ("max", _, _, false) => binary!(self, ty, ops, ring::max),
            ("max", _, _, true) => binary!(self, ty, ops, max_xorsign),
            ("div", false, ..) => binary!(self, ty, ops, ring::div),
            ("copysign", ..) => binary!(self, ty, ops, ring::copysign),
            ("neg", ..) => unary!(self, ty, ops, ring::neg),
            ("abs", ..) => unary!(self, ty, ops, ring::abs),
            ("rcp", false, ..) => unary!(self, ty, ops, ring::rcp),
            ("sqrt", false, ..) => unary!(self, ty, ops, ring::sqrt),
            ("rsqrt", ..) => unary!(self, ty, ops, ring::rsqrt),
            ("sin", ..) => unary!(self, ty, ops, ring::sin),
            ("cos", ..) => unary!(self, ty, ops, ring::cos),
            ("lg2", ..) => unary!(self, ty, ops, ring::lg2),
            ("ex2", ..) => unary!(self, ty, ops, ring::ex2),
            ("tanh", ..) => unary!(self, ty, ops, ring::tanh),
            _ => {}
        }
        self.not_in_ring()
    }

    /// `cvt` with a float on either side.
    pub(super) fn ring_convert(&mut self, to: Ty, from: Ty, options: Options, sat: bool, ops: &[Operand]) -> Result<Op> {
        if let Some(container) = pair_bits(to) {
            return self.ring_convert_pair(container, from, options, ops);
        }
        self.expect_operands(ops, 2)?;
        let (d, a) = (self.cvt_register(&ops[0], to, false)?, self.cvt_register(&ops[1], from, true)?);
        // An integer destination clamps of its own accord, which the ring does not; only floats have a [0, 1].
        let modified = options.relu || sat && is_float(to);
        if let (Reg::R(d), Reg::R(a), false) = (d, a, modified) {
            match (is_float(from), from.bits(), to.bits()) {
                (_, 32, 32) => return Ok(Op::Mov32(d, a)),
                (true, 16, 32) => return Ok(Op::L1(|x| ring::convert::<u16, u32>(x as u16), d, a)),
                (_, 32, 16) if is_float(to) => return Ok(Op::L1(|x| x & 0xffff, d, a)),
                _ => {}
            }
        }
        let number = |ty: Ty, signed| Number::Int(IntType { bits: ty.bits(), signed });
        let from = if is_float(from) { number(from, true) } else { number(from, from.signed()) };
        let to = if is_float(to) { number(to, false) } else { number(to, to.signed()) };
        let options = Options { relu: options.relu, ..Options::default() };
        let sat = sat && modified;
        Ok(Op::Convert(Box::new(Convert { d, a, from, to, options, sat, integral: false, ring: true })))
    }

    fn ring_convert_pair(&mut self, container: u32, from: Ty, options: Options, ops: &[Operand]) -> Result<Op> {
        if from == Ty::F32 {
            self.expect_operands(ops, 3)?;
            let f: F2 = match (container, options.relu) {
                (16, false) => |high, low| high << 16 | low & 0xffff,
                (16, true) => |high, low| halves1(high << 16 | low & 0xffff, ring::relu),
                (_, false) => |high, low| (high & 0xff) << 8 | low & 0xff,
                (_, true) => |high, low| u32::from(ring::relu(high as u8)) << 8 | u32::from(ring::relu(low as u8)),
            };
            return self.lane2(f, ops, Ty::F32);
        }
        let Some(source) = pair_bits(from) else { return self.not_in_ring() };
        self.expect_operands(ops, 2)?;
        let f: F1 = match (source, container, options.relu) {
            (8, 16, false) => |a| u32::from(widen(a)) | u32::from(widen(a >> 8)) << 16,
            (8, 16, true) => |a| u32::from(ring::relu(widen(a))) | u32::from(ring::relu(widen(a >> 8))) << 16,
            (16, 8, false) => |a| a & 0xff | (a >> 16 & 0xff) << 8,
            (16, 8, true) => |a| u32::from(ring::relu(a as u8)) | u32::from(ring::relu((a >> 16) as u8)) << 8,
            _ => return self.not_in_ring(),
        };
        Ok(Op::L1(f, self.dst32(&ops[0])?, self.src32(&ops[1], Ty::B(32))?))
    }
}

fn widen(a: u32) -> u16 {
    ring::convert(a as u8)
}

/// Bits of an element of a packed pair.
fn pair_bits(ty: Ty) -> Option<u32> {
    match ty {
        Ty::F16x2 | Ty::Bf16x2 => Some(16),
        Ty::Pair(_) => Some(8),
        _ => None,
    }
}

/// What a comparison of floats is on payloads: that of signed integers, nothing unordered.
pub(super) fn comparison(name: &str) -> Option<Cmp> {
    Some(match name {
        "eq" | "equ" => Cmp::Eq,
        "ne" | "neu" => Cmp::Ne,
        "lt" | "ltu" => Cmp::LtS,
        "le" | "leu" => Cmp::LeS,
        "gt" | "gtu" => Cmp::GtS,
        "ge" | "geu" => Cmp::GeS,
        _ => return None,
    })
}

/// The same for 16-bit payloads in the low half of a word; `num` and `nan` for all.
pub(super) fn half_comparison(name: &str) -> Option<fn(u32, u32) -> bool> {
    Some(match name {
        "eq" | "equ" => |a, b| a as u16 == b as u16,
        "ne" | "neu" => |a, b| a as u16 != b as u16,
        "lt" | "ltu" => |a, b| (a as i16) < b as i16,
        "le" | "leu" => |a, b| a as i16 <= b as i16,
        "gt" | "gtu" => |a, b| a as i16 > b as i16,
        "ge" | "geu" => |a, b| a as i16 >= b as i16,
        "num" => |_, _| true,
        "nan" => |_, _| false,
        _ => return None,
    })
}
