//! add, sub, mul, mad, fma, div, rem, abs, neg, min, max and the unary float functions.

use super::decoder::{Decoder, Result};
use super::modifiers::Modifiers;
use super::ring::RingFlags;
use super::ty::Ty;
use crate::lane::{approx, float, half, int, round};
use crate::parse::ast::Operand;
use crate::program::Op;
use crate::program::op::{Bin32, Bin64, Tri32, Un32};

pub(super) type F1 = fn(u32) -> u32;
pub(super) type F2 = fn(u32, u32) -> u32;
pub(super) type F3 = fn(u32, u32, u32) -> u32;
type G1 = fn(u64) -> u64;
type G2 = fn(u64, u64) -> u64;

/// Picks the instance of a function with `<rounding, ftz, sat>` parameters.
macro_rules! modal {
    ($module:ident :: $f:ident, $flags:expr) => {{
        use $module::$f;
        match ($flags.rounding, $flags.ftz, $flags.sat) {
            (0, false, false) => $f::<0, false, false>,
            (0, false, true) => $f::<0, false, true>,
            (0, true, false) => $f::<0, true, false>,
            (0, true, true) => $f::<0, true, true>,
            (1, false, false) => $f::<1, false, false>,
            (1, false, true) => $f::<1, false, true>,
            (1, true, false) => $f::<1, true, false>,
            (1, true, true) => $f::<1, true, true>,
            (2, false, false) => $f::<2, false, false>,
            (2, false, true) => $f::<2, false, true>,
            (2, true, false) => $f::<2, true, false>,
            (2, true, true) => $f::<2, true, true>,
            (_, false, false) => $f::<3, false, false>,
            (_, false, true) => $f::<3, false, true>,
            (_, true, false) => $f::<3, true, false>,
            (_, true, true) => $f::<3, true, true>,
        }
    }};
}

macro_rules! rounded {
    ($module:ident :: $f:ident, $flags:expr) => {
        match $flags.rounding {
            0 => $module::$f::<0>,
            1 => $module::$f::<1>,
            2 => $module::$f::<2>,
            _ => $module::$f::<3>,
        }
    };
}

macro_rules! ftz_only {
    ($module:ident :: $f:ident, $flags:expr) => {
        if $flags.ftz { $module::$f::<true> } else { $module::$f::<false> }
    };
}

/// Modifiers shared by float arithmetic.
#[derive(Clone, Copy, Default)]
pub(super) struct Flags {
    pub rounding: u8,
    pub rounded: bool,
    pub ftz: bool,
    pub sat: bool,
}

impl Flags {
    pub fn take(m: &mut Modifiers) -> Self {
        let rounding = m.choose(&[("rn", round::RN), ("rz", round::RZ), ("rm", round::RM), ("rp", round::RP)]);
        Flags { rounding: rounding.unwrap_or(round::RN), rounded: rounding.is_some(), ftz: m.take("ftz"), sat: m.take("sat") }
    }

    fn plain(self) -> bool {
        self.rounding == round::RN && !self.sat
    }
}

impl Decoder<'_> {
    pub(super) fn un32(&mut self, op: Un32, ops: &[Operand], ty: Ty) -> Result<Op> {
        self.expect_operands(ops, 2)?;
        Ok(Op::U32(op, self.dst32(&ops[0])?, self.src32(&ops[1], ty)?))
    }

    pub(super) fn bin32(&mut self, op: Bin32, ops: &[Operand], ty: Ty) -> Result<Op> {
        self.expect_operands(ops, 3)?;
        Ok(Op::B32(op, self.dst32(&ops[0])?, self.src32(&ops[1], ty)?, self.src32(&ops[2], ty)?))
    }

    pub(super) fn tri32(&mut self, op: Tri32, ops: &[Operand], ty: Ty) -> Result<Op> {
        self.expect_operands(ops, 4)?;
        let [a, b, c] = [&ops[1], &ops[2], &ops[3]].map(|o| self.src32(o, ty));
        Ok(Op::T32(op, self.dst32(&ops[0])?, a?, b?, c?))
    }

    pub(super) fn bin64(&mut self, op: Bin64, ops: &[Operand]) -> Result<Op> {
        self.expect_operands(ops, 3)?;
        Ok(Op::B64(op, self.dst64(&ops[0])?, self.src64(&ops[1])?, self.src64(&ops[2])?))
    }

    pub(super) fn lane1(&mut self, f: F1, ops: &[Operand], ty: Ty) -> Result<Op> {
        self.expect_operands(ops, 2)?;
        Ok(Op::L1(f, self.dst32(&ops[0])?, self.src32(&ops[1], ty)?))
    }

    pub(super) fn lane2(&mut self, f: F2, ops: &[Operand], ty: Ty) -> Result<Op> {
        self.expect_operands(ops, 3)?;
        Ok(Op::L2(f, self.dst32(&ops[0])?, self.src32(&ops[1], ty)?, self.src32(&ops[2], ty)?))
    }

    pub(super) fn lane3(&mut self, f: F3, ops: &[Operand], ty: Ty) -> Result<Op> {
        self.expect_operands(ops, 4)?;
        let [a, b, c] = [&ops[1], &ops[2], &ops[3]].map(|o| self.src32(o, ty));
        Ok(Op::L3(f, self.dst32(&ops[0])?, a?, b?, c?))
    }

    pub(super) fn quad1(&mut self, f: G1, ops: &[Operand]) -> Result<Op> {
        self.expect_operands(ops, 2)?;
        Ok(Op::Q1(f, self.dst64(&ops[0])?, self.src64(&ops[1])?))
    }

    pub(super) fn quad2(&mut self, f: G2, ops: &[Operand]) -> Result<Op> {
        self.expect_operands(ops, 3)?;
        Ok(Op::Q2(f, self.dst64(&ops[0])?, self.src64(&ops[1])?, self.src64(&ops[2])?))
    }

    pub(super) fn arith(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let width = m.choose(&[("lo", 'l'), ("hi", 'h'), ("wide", 'w')]);
        let carry_out = m.take("cc");
        let approx = m.take("approx");
        let full = m.take("full");
        let flags = Flags::take(m);
        let nan = m.take("NaN");
        let xorsign = m.take("xorsign");
        let abs = m.take("abs");
        let relu = m.take("relu");
        let ty = self.ty(m)?;
        let floating = matches!(ty, Ty::F32 | Ty::F64 | Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2);
        let only_integers = width.is_some() || carry_out;
        let only_floats = flags.rounded || flags.ftz || nan || xorsign || approx || full || abs;
        if (floating && only_integers) || (!floating && only_floats) || (xorsign != abs) {
            return self.unknown();
        }
        if self.ring && floating {
            return self.ring_arith(root, ty, RingFlags { sat: flags.sat, relu, xorsign }, ops);
        }
        match ty {
            Ty::F32 => {
                let relu_unused = !relu;
                if !relu_unused {
                    return self.unknown();
                }
                self.arith_f32(root, flags, approx, full, (nan, xorsign), ops)
            }
            Ty::F64 => self.arith_f64(root, flags, approx, ops),
            Ty::F16 | Ty::Bf16 | Ty::F16x2 | Ty::Bf16x2 => self.arith_half(root, ty, flags, (nan, xorsign, relu), approx, ops),
            Ty::U16x2 | Ty::S16x2 => self.arith_16x2(root, ty, relu, ops),
            _ if ty.is_int() => self.arith_int(root, ty, width, carry_out, flags.sat, relu, ops),
            _ => self.unknown(),
        }
    }

    fn arith_f32(
        &mut self,
        root: &str,
        flags: Flags,
        approx: bool,
        full: bool,
        (nan, xorsign): (bool, bool),
        ops: &[Operand],
    ) -> Result<Op> {
        let ty = Ty::F32;
        let needs_approx = matches!(root, "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh");
        let may_approx = needs_approx || matches!(root, "div" | "rcp" | "sqrt");
        if (needs_approx && !approx) || (approx && !may_approx) || (full && root != "div") {
            return self.unknown();
        }
        match (root, flags.plain(), flags.ftz) {
            ("add", true, false) => return self.bin32(Bin32::FAdd, ops, ty),
            ("sub", true, false) => return self.bin32(Bin32::FSub, ops, ty),
            ("mul", true, false) => return self.bin32(Bin32::FMul, ops, ty),
            ("add", true, true) => return self.bin32(Bin32::FAddFtz, ops, ty),
            ("sub", true, true) => return self.bin32(Bin32::FSubFtz, ops, ty),
            ("mul", true, true) => return self.bin32(Bin32::FMulFtz, ops, ty),
            ("fma" | "mad", true, false) => return self.tri32(Tri32::Fma, ops, ty),
            ("fma" | "mad", true, true) => return self.tri32(Tri32::FmaFtz, ops, ty),
            ("div", true, false) if !approx => return self.bin32(Bin32::FDiv, ops, ty),
            ("rcp", true, false) => return self.un32(Un32::Rcp, ops, ty),
            ("ex2", true, false) => return self.un32(Un32::Ex2, ops, ty),
            ("ex2", true, true) => return self.un32(Un32::Ex2Ftz, ops, ty),
            ("neg", _, false) => return self.un32(Un32::NegF, ops, ty),
            ("abs", _, false) => return self.un32(Un32::AbsF, ops, ty),
            ("min", _, false) if !nan && !xorsign => return self.bin32(Bin32::FMin, ops, ty),
            ("max", _, false) if !nan && !xorsign => return self.bin32(Bin32::FMax, ops, ty),
            _ => {}
        }
        match root {
            "add" => self.lane2(modal!(float::add, flags), ops, ty),
            "sub" => self.lane2(modal!(float::sub, flags), ops, ty),
            "mul" => self.lane2(modal!(float::mul, flags), ops, ty),
            "div" if approx => self.lane2(ftz_only!(approx::div, flags), ops, ty),
            "div" => self.lane2(modal!(float::div, flags), ops, ty),
            "fma" | "mad" => self.lane3(modal!(float::fma, flags), ops, ty),
            "rcp" => self.lane1(modal!(float::rcp, flags), ops, ty),
            "sqrt" if approx => self.lane1(ftz_only!(approx::sqrt_approx, flags), ops, ty),
            "sqrt" => self.lane1(modal!(float::sqrt, flags), ops, ty),
            "neg" => self.lane1(float::neg_ftz, ops, ty),
            "abs" => self.lane1(float::abs_ftz, ops, ty),
            "rsqrt" => self.lane1(ftz_only!(approx::rsqrt, flags), ops, ty),
            "sin" => self.lane1(ftz_only!(approx::sin, flags), ops, ty),
            "cos" => self.lane1(ftz_only!(approx::cos, flags), ops, ty),
            "lg2" => self.lane1(ftz_only!(approx::lg2, flags), ops, ty),
            "tanh" if !flags.ftz => self.lane1(approx::tanh, ops, ty),
            "copysign" if !flags.ftz => self.lane2(float::copysign, ops, ty),
            "min" | "max" => {
                let f: F2 = match (root == "max", flags.ftz, nan, xorsign) {
                    (false, false, false, true) => float::min::<false, false, true>,
                    (false, false, true, false) => float::min::<false, true, false>,
                    (false, false, true, true) => float::min::<false, true, true>,
                    (false, true, false, false) => float::min::<true, false, false>,
                    (false, true, false, true) => float::min::<true, false, true>,
                    (false, true, true, false) => float::min::<true, true, false>,
                    (false, true, true, true) => float::min::<true, true, true>,
                    (true, false, false, true) => float::max::<false, false, true>,
                    (true, false, true, false) => float::max::<false, true, false>,
                    (true, false, true, true) => float::max::<false, true, true>,
                    (true, true, false, false) => float::max::<true, false, false>,
                    (true, true, false, true) => float::max::<true, false, true>,
                    (true, true, true, false) => float::max::<true, true, false>,
                    (true, true, true, true) => float::max::<true, true, true>,
                    (false, false, false, false) => float::min::<false, false, false>,
                    (true, false, false, false) => float::max::<false, false, false>,
                };
                self.lane2(f, ops, ty)
            }
            _ => self.unknown(),
        }
    }

    fn arith_f64(&mut self, root: &str, flags: Flags, approx: bool, ops: &[Operand]) -> Result<Op> {
        if flags.sat {
            return self.unknown();
        }
        if approx || flags.ftz {
            return match root {
                "rcp" if approx && flags.ftz => self.quad1(approx::rcp64_high, ops),
                "rsqrt" if approx && flags.ftz => self.quad1(approx::rsqrt64_high, ops),
                "rsqrt" if approx => self.quad1(approx::rsqrt64, ops),
                _ => self.unknown(),
            };
        }
        match root {
            "add" if flags.plain() => self.bin64(Bin64::FAdd, ops),
            "sub" if flags.plain() => self.bin64(Bin64::FSub, ops),
            "mul" if flags.plain() => self.bin64(Bin64::FMul, ops),
            "add" => self.quad2(rounded!(float::add64, flags), ops),
            "sub" => self.quad2(rounded!(float::sub64, flags), ops),
            "mul" => self.quad2(rounded!(float::mul64, flags), ops),
            "div" => self.quad2(rounded!(float::div64, flags), ops),
            "rcp" => self.quad1(rounded!(float::rcp64, flags), ops),
            "sqrt" => self.quad1(rounded!(float::sqrt64, flags), ops),
            "fma" | "mad" => {
                self.expect_operands(ops, 4)?;
                let [a, b, c] = [&ops[1], &ops[2], &ops[3]].map(|o| self.src64(o));
                let (d, a, b, c) = (self.dst64(&ops[0])?, a?, b?, c?);
                Ok(if flags.plain() { Op::Fma64(d, a, b, c) } else { Op::Q3(rounded!(float::fma64, flags), d, a, b, c) })
            }
            "neg" => self.quad1(|a| a ^ (1 << 63), ops),
            "abs" => self.quad1(|a| a & !(1 << 63), ops),
            "min" => self.quad2(float::min64, ops),
            "max" => self.quad2(float::max64, ops),
            "copysign" => self.quad2(float::copysign64, ops),
            _ => self.unknown(),
        }
    }

    fn arith_half(
        &mut self,
        root: &str,
        ty: Ty,
        flags: Flags,
        (nan, xorsign, relu): (bool, bool, bool),
        approx: bool,
        ops: &[Operand],
    ) -> Result<Op> {
        if flags.rounding != round::RN || (relu && root != "fma") || ((nan || xorsign) && !matches!(root, "min" | "max")) {
            return self.unknown();
        }
        if approx != matches!(root, "ex2" | "tanh") {
            return self.unknown();
        }
        let packed = matches!(ty, Ty::F16x2 | Ty::Bf16x2);
        let is_f16 = matches!(ty, Ty::F16 | Ty::F16x2);
        // neg and abs only touch signs.
        match (root, packed) {
            ("neg", false) if flags.ftz && is_f16 => return self.lane1(|a| half::flushed(a) ^ 0x8000, ops, ty),
            ("neg", true) if flags.ftz && is_f16 => return self.lane1(|a| half::flushed(a) ^ 0x8000_8000, ops, ty),
            ("abs", false) if flags.ftz && is_f16 => return self.lane1(|a| half::flushed(a) & 0x7fff, ops, ty),
            ("abs", true) if flags.ftz && is_f16 => return self.lane1(|a| half::flushed(a) & 0x7fff_7fff, ops, ty),
            ("neg", false) if !flags.ftz => return self.lane1(|a| a ^ 0x8000, ops, ty),
            ("neg", true) if !flags.ftz => return self.lane1(|a| a ^ 0x8000_8000, ops, ty),
            ("abs", false) if !flags.ftz => return self.lane1(|a| a & 0x7fff, ops, ty),
            ("abs", true) if !flags.ftz => return self.lane1(|a| a & 0x7fff_7fff, ops, ty),
            _ => {}
        }
        match root {
            "add" | "sub" | "mul" => match super::packed::binary(root, is_f16, packed, flags.ftz, flags.sat) {
                Some(f) => self.lane2(f, ops, ty),
                None => self.unknown(),
            },
            "fma" => match super::packed::fused(is_f16, packed, flags.ftz, flags.sat, relu) {
                Some(f) => self.lane3(f, ops, ty),
                None => self.unknown(),
            },
            "min" | "max" => match super::packed::pick(root == "max", is_f16, packed, flags.ftz, nan, xorsign) {
                Some(f) => self.lane2(f, ops, ty),
                None => self.unknown(),
            },
            "ex2" | "tanh" => match super::packed::unary(root, is_f16, packed, flags.ftz) {
                Some(f) => self.lane1(f, ops, ty),
                None => self.unknown(),
            },
            _ => self.unknown(),
        }
    }

    fn arith_16x2(&mut self, root: &str, ty: Ty, relu: bool, ops: &[Operand]) -> Result<Op> {
        let f: F2 = match (root, ty.signed(), relu) {
            ("add", _, false) => |a, b| int::halves(a, b, u16::wrapping_add),
            ("min", false, false) => |a, b| int::halves(a, b, u16::min),
            ("max", false, false) => |a, b| int::halves(a, b, u16::max),
            ("min", true, false) => |a, b| int::halves(a, b, |x, y| (x as i16).min(y as i16) as u16),
            ("max", true, false) => |a, b| int::halves(a, b, |x, y| (x as i16).max(y as i16) as u16),
            ("min", true, true) => |a, b| int::halves(a, b, |x, y| (x as i16).min(y as i16).max(0) as u16),
            ("max", true, true) => |a, b| int::halves(a, b, |x, y| (x as i16).max(y as i16).max(0) as u16),
            _ => return self.unknown(),
        };
        self.lane2(f, ops, ty)
    }
}

/// Keeps the half formats' trait in scope for the tables of [`super::packed`].
pub(super) use half::{Bf16, F16};
