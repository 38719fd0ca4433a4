//! cvt

use super::decoder::{Decoder, Result};
use super::modifiers::Modifiers;
use super::ring;
use super::ty::Ty;
use crate::parse::ast::Operand;
use crate::program::convert_op::{Convert, ConvertPack, ConvertUnpack, Number};
use crate::program::op::{Bin32, Un32};
use crate::program::{Op, R, Reg};
use crate::tensor::convert::{FloatFormat, IntType, Options, Rounding};

fn number(ty: Ty) -> Option<Number> {
    Some(match ty {
        Ty::F16 => Number::Float(FloatFormat::F16),
        Ty::Bf16 => Number::Float(FloatFormat::Bf16),
        Ty::Tf32 => Number::Float(FloatFormat::Tf32),
        Ty::F32 => Number::Float(FloatFormat::F32),
        Ty::F64 => Number::F64,
        Ty::U(bits) | Ty::S(bits) => Number::Int(IntType { bits, signed: ty.signed() }),
        _ => return None,
    })
}

/// Element format of a packed pair.
fn pair_format(ty: Ty) -> Option<FloatFormat> {
    Some(match ty {
        Ty::F16x2 => FloatFormat::F16,
        Ty::Bf16x2 => FloatFormat::Bf16,
        Ty::Pair(format) => format,
        _ => return None,
    })
}

fn clamp_bits(value: u32, low: i32, high: i32) -> u32 {
    (value as i32).clamp(low, high) as u32
}

impl Decoder<'_> {
    pub(super) fn convert(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        if m.take("pack") {
            return self.convert_pack_int(m, ops);
        }
        let integral = m.choose(&[("rni", Rounding::Rn), ("rzi", Rounding::Rz), ("rmi", Rounding::Rm), ("rpi", Rounding::Rp)]);
        let rounding = m.choose(&[
            ("rn", Rounding::Rn),
            ("rz", Rounding::Rz),
            ("rm", Rounding::Rm),
            ("rp", Rounding::Rp),
            ("rna", Rounding::Rna),
        ]);
        let (ftz, sat, relu, satfinite) = (m.take("ftz"), m.take("sat"), m.take("relu"), m.take("satfinite"));
        let (to, from) = (self.ty(m)?, self.ty(m)?);
        let options = Options { rounding: integral.or(rounding).unwrap_or_default(), satfinite, relu, ftz };
        if self.ring && (ring::is_float(to) || ring::is_float(from)) {
            return self.ring_convert(to, from, options, sat, ops);
        }
        if let Some(format) = pair_format(to) {
            return self.convert_pair(format, from, options, ops);
        }
        let (Some(to_number), Some(from_number)) = (number(to), number(from)) else { return self.unknown() };
        self.expect_operands(ops, 2)?;
        let (d, a) = (self.cvt_register(&ops[0], to, false)?, self.cvt_register(&ops[1], from, true)?);
        let plain = !ftz && !sat && !relu && !satfinite && options.rounding == Rounding::Rn;
        if let (Reg::R(d), Reg::R(a)) = (d, a) {
            let op = match (to, from) {
                (Ty::F32, Ty::F16) if !sat && integral.is_none() => Some(Un32::FromF16),
                (Ty::F32, Ty::Bf16) if !sat && !ftz && integral.is_none() => Some(Un32::FromBf16),
                (Ty::F16, Ty::F32) if plain => Some(Un32::ToF16),
                (Ty::Bf16, Ty::F32) if plain => Some(Un32::ToBf16),
                (Ty::F32, Ty::S(32)) if plain => Some(Un32::OfS32),
                (Ty::F32, Ty::U(32)) if plain => Some(Un32::OfU32),
                _ => None,
            };
            if let Some(op) = op {
                return Ok(Op::U32(op, d, a));
            }
            // Same bits, or a mask.
            if let (Ty::U(32) | Ty::S(32), Ty::U(32) | Ty::S(32), false) = (to, from, sat) {
                return Ok(Op::Mov32(d, a));
            }
            if let (Ty::U(32) | Ty::S(32), Ty::U(16), false) = (to, from, sat) {
                return Ok(Op::L1(|x| x & 0xffff, d, a));
            }
            if let (Ty::U(16), Ty::U(32) | Ty::S(32), false) = (to, from, sat) {
                return Ok(Op::L1(|x| x & 0xffff, d, a));
            }
        }
        match (d, a, to, from, sat) {
            (Reg::D(d), Reg::R(a), Ty::U(64) | Ty::S(64), Ty::U(32), false) => return Ok(Op::ExtU(d, a)),
            (Reg::D(d), Reg::R(a), Ty::U(64) | Ty::S(64), Ty::S(32), false) => return Ok(Op::ExtS(d, a)),
            (Reg::R(d), Reg::D(a), Ty::U(32) | Ty::S(32), Ty::U(64) | Ty::S(64), false) => return Ok(Op::Trunc(d, a)),
            _ => {}
        }
        let narrow_to_wide_float = matches!((to_number, from_number), (Number::Float(_) | Number::F64, Number::Float(_)));
        if rounding == Some(Rounding::Rna) && to != Ty::Tf32 {
            return self.unknown();
        }
        let convert = Convert {
            d,
            a,
            from: from_number,
            to: to_number,
            options,
            sat,
            integral: integral.is_some() && (narrow_to_wide_float || from_number == Number::F64),
            ring: false,
        };
        Ok(Op::Convert(Box::new(convert)))
    }

    /// A register or constant of a type; registers may be wider than the type.
    pub(super) fn cvt_register(&mut self, operand: &Operand, ty: Ty, is_source: bool) -> Result<Reg> {
        if !is_source {
            return self.any_reg(operand, ty.bits(), false);
        }
        match operand {
            Operand::Reg(_) => self.any_reg(operand, ty.bits(), true),
            _ if ty.bits() == 64 => Ok(Reg::D(self.src64(operand)?)),
            _ => Ok(Reg::R(self.src32(operand, ty)?)),
        }
    }

    fn convert_pair(&mut self, to: FloatFormat, from: Ty, options: Options, ops: &[Operand]) -> Result<Op> {
        if from == Ty::F32 {
            self.expect_operands(ops, 3)?;
            let (d, high, low) = (self.dst32(&ops[0])?, self.src32(&ops[1], Ty::F32)?, self.src32(&ops[2], Ty::F32)?);
            let hot = match to {
                FloatFormat::Bf16 => Some(Bin32::PackBf16),
                FloatFormat::F16 => Some(Bin32::PackF16),
                _ => None,
            };
            return Ok(match hot {
                Some(op) if options == Options::default() => Op::B32(op, d, high, low),
                _ => Op::ConvertPack(Box::new(ConvertPack { d, high, low, to, options })),
            });
        }
        let Some(from) = pair_format(from) else { return self.unknown() };
        self.expect_operands(ops, 2)?;
        let (d, a) = (self.dst32(&ops[0])?, self.src32(&ops[1], Ty::B(32))?);
        Ok(Op::ConvertUnpack(Box::new(ConvertUnpack { d, a, from, to, options })))
    }

    /// `cvt.pack.sat.{u16,s16}.s32 d, a, b` and `cvt.pack.sat.{u8,s8}.s32.b32 d, a, b, c`
    fn convert_pack_int(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        if !m.take("sat") {
            return self.unknown();
        }
        let tiny = m.choose(&[("u4", (4, false)), ("s4", (4, true)), ("u2", (2, false)), ("s2", (2, true))]);
        let (to, from) = match tiny {
            Some((bits, signed)) => (if signed { Ty::S(bits) } else { Ty::U(bits) }, self.ty(m)?),
            None => (self.ty(m)?, self.ty(m)?),
        };
        if from != Ty::S(32) {
            return self.unknown();
        }
        let third = m.take("b32");
        self.expect_operands(ops, if third { 4 } else { 3 })?;
        let d = self.dst32(&ops[0])?;
        let (a, b) = (self.src32(&ops[1], from)?, self.src32(&ops[2], from)?);
        let c: R = if third { self.src32(&ops[3], Ty::B(32))? } else { a };
        let f: fn(u32, u32, u32) -> u32 = match (to, third) {
            (Ty::U(16), false) => |a, b, _| {
                let x = |v: u32| (v as i32).clamp(0, 0xffff) as u32;
                (x(a) << 16) | x(b)
            },
            (Ty::S(16), false) => |a, b, _| {
                let x = |v: u32| (v as i32).clamp(-0x8000, 0x7fff) as u32 & 0xffff;
                (x(a) << 16) | x(b)
            },
            (Ty::U(8), true) => |a, b, c| {
                let x = |v: u32| (v as i32).clamp(0, 0xff) as u32;
                (c << 16) | (x(a) << 8) | x(b)
            },
            (Ty::S(8), true) => |a, b, c| {
                let x = |v: u32| (v as i32).clamp(-0x80, 0x7f) as u32 & 0xff;
                (c << 16) | (x(a) << 8) | x(b)
            },
            (Ty::U(4), true) => |a, b, c| (c << 8) | (clamp_bits(a, 0, 15) << 4) | clamp_bits(b, 0, 15),
            (Ty::S(4), true) => |a, b, c| (c << 8) | ((clamp_bits(a, -8, 7) & 15) << 4) | (clamp_bits(b, -8, 7) & 15),
            (Ty::U(2), true) => |a, b, c| (c << 4) | (clamp_bits(a, 0, 3) << 2) | clamp_bits(b, 0, 3),
            (Ty::S(2), true) => |a, b, c| (c << 4) | ((clamp_bits(a, -2, 1) & 3) << 2) | (clamp_bits(b, -2, 1) & 3),
            _ => return self.unknown(),
        };
        Ok(Op::L3(f, d, a, b, c))
    }
}
