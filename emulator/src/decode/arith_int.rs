//! Integer arithmetic by width.

use super::arith::{F2, F3};
use super::decoder::{Decoder, Result};
use super::ty::Ty;
use crate::lane::int;
use crate::parse::ast::Operand;
use crate::program::Op;
use crate::program::op::{Bin32, Bin64, Carry, Tri32, Un32};

impl Decoder<'_> {
    pub(super) fn arith_int(
        &mut self,
        root: &str,
        ty: Ty,
        width: Option<char>,
        carry_out: bool,
        sat: bool,
        relu: bool,
        ops: &[Operand],
    ) -> Result<Op> {
        let takes_width = matches!(root, "mul" | "mad" | "mul24" | "mad24");
        if takes_width != width.is_some() || (sat && !matches!(root, "add" | "sub" | "mad" | "mad24")) {
            return self.unknown();
        }
        if (relu && !matches!((root, ty), ("min" | "max", Ty::S(32)))) || (carry_out && sat) {
            return self.unknown();
        }
        if carry_out {
            let carry = Carry { reads: false, writes: true, subtracts: root == "sub" };
            return self.carry_op(root, carry, width == Some('h'), ty, ops);
        }
        let bits = ty.bits();
        if width == Some('w') {
            return self.wide(root, ty, ops);
        }
        match bits {
            16 => self.arith_int16(root, ty, width, ops),
            32 => self.arith_int32(root, ty, width, sat, relu, ops),
            64 => self.arith_int64(root, ty, width, ops),
            _ => self.unknown(),
        }
    }

    /// `mul.wide` and `mad.wide`
    fn wide(&mut self, root: &str, ty: Ty, ops: &[Operand]) -> Result<Op> {
        let signed = ty.signed();
        match (root, ty.bits()) {
            ("mul", 16) => {
                let f: F2 = if signed {
                    |a, b| int::sx16(a).wrapping_mul(int::sx16(b)) as u32
                } else {
                    |a, b| (a & 0xffff).wrapping_mul(b & 0xffff)
                };
                self.lane2(f, ops, ty)
            }
            ("mad", 16) => {
                self.expect_operands(ops, 4)?;
                let f: F3 = if signed {
                    |a, b, c| (int::sx16(a).wrapping_mul(int::sx16(b)) as u32).wrapping_add(c)
                } else {
                    |a, b, c| (a & 0xffff).wrapping_mul(b & 0xffff).wrapping_add(c)
                };
                let (a, b) = (self.src32(&ops[1], ty)?, self.src32(&ops[2], ty)?);
                Ok(Op::L3(f, self.dst32(&ops[0])?, a, b, self.src32(&ops[3], Ty::B(32))?))
            }
            ("mul", 32) => {
                self.expect_operands(ops, 3)?;
                let (a, b) = (self.src32(&ops[1], ty)?, self.src32(&ops[2], ty)?);
                Ok(Op::MulWide { signed, d: self.dst64(&ops[0])?, a, b })
            }
            ("mad", 32) => {
                self.expect_operands(ops, 4)?;
                let (a, b) = (self.src32(&ops[1], ty)?, self.src32(&ops[2], ty)?);
                Ok(Op::MadWide { signed, d: self.dst64(&ops[0])?, a, b, c: self.src64(&ops[3])? })
            }
            _ => self.unknown(),
        }
    }

    fn arith_int16(&mut self, root: &str, ty: Ty, width: Option<char>, ops: &[Operand]) -> Result<Op> {
        let signed = ty.signed();
        let f: F2 = match (root, width, signed) {
            ("add", ..) => |a, b| a.wrapping_add(b) & 0xffff,
            ("sub", ..) => |a, b| a.wrapping_sub(b) & 0xffff,
            ("mul", Some('l'), _) => |a, b| a.wrapping_mul(b) & 0xffff,
            ("mul", Some('h'), false) => |a, b| (a.wrapping_mul(b) >> 16) & 0xffff,
            ("mul", Some('h'), true) => |a, b| (int::sx16(a).wrapping_mul(int::sx16(b)) as u32) >> 16,
            ("div", _, false) => |a, b| int::div_u32(a, b) & 0xffff,
            ("div", _, true) => |a, b| int::div_s32(int::sx16(a) as u32, int::sx16(b) as u32) & 0xffff,
            ("rem", _, false) => |a, b| int::rem_u32(a, b) & 0xffff,
            ("rem", _, true) => |a, b| int::rem_s32(int::sx16(a) as u32, int::sx16(b) as u32) & 0xffff,
            ("min", _, false) => |a, b| a.min(b),
            ("max", _, false) => |a, b| a.max(b),
            ("min", _, true) => |a, b| int::sx16(a).min(int::sx16(b)) as u32 & 0xffff,
            ("max", _, true) => |a, b| int::sx16(a).max(int::sx16(b)) as u32 & 0xffff,
            ("neg", ..) => return self.lane1(|a| a.wrapping_neg() & 0xffff, ops, ty),
            ("abs", ..) => return self.lane1(|a| int::sx16(a).wrapping_abs() as u32 & 0xffff, ops, ty),
            ("mad", Some('l'), _) => {
                return self.lane3(|a, b, c| a.wrapping_mul(b).wrapping_add(c) & 0xffff, ops, ty);
            }
            ("mad", Some('h'), false) => {
                return self.lane3(|a, b, c| (a.wrapping_mul(b) >> 16).wrapping_add(c) & 0xffff, ops, ty);
            }
            ("mad", Some('h'), true) => {
                let f: F3 = |a, b, c| ((int::sx16(a).wrapping_mul(int::sx16(b)) >> 16) as u32).wrapping_add(c) & 0xffff;
                return self.lane3(f, ops, ty);
            }
            ("sad", _, false) => {
                return self.lane3(|a, b, c| int::sad_u32(a, b, c) & 0xffff, ops, ty);
            }
            ("sad", _, true) => {
                let f: F3 = |a, b, c| int::sad_s32(int::sx16(a) as u32, int::sx16(b) as u32, c) & 0xffff;
                return self.lane3(f, ops, ty);
            }
            _ => return self.unknown(),
        };
        self.lane2(f, ops, ty)
    }

    fn arith_int32(&mut self, root: &str, ty: Ty, width: Option<char>, sat: bool, relu: bool, ops: &[Operand]) -> Result<Op> {
        let signed = ty.signed();
        if sat {
            return match (root, width, signed) {
                ("add", _, true) => self.lane2(|a, b| (a as i32).saturating_add(b as i32) as u32, ops, ty),
                ("sub", _, true) => self.lane2(|a, b| (a as i32).saturating_sub(b as i32) as u32, ops, ty),
                ("mad", Some('h'), true) => {
                    self.lane3(|a, b, c| (int::mul_hi_s32(a, b) as i32).saturating_add(c as i32) as u32, ops, ty)
                }
                ("mad24", Some('h'), true) => {
                    self.lane3(|a, b, c| (int::mul24_hi_s(a, b) as i32).saturating_add(c as i32) as u32, ops, ty)
                }
                _ => self.unknown(),
            };
        }
        match (root, width, signed) {
            ("add", ..) => self.bin32(Bin32::Add, ops, ty),
            ("sub", ..) => self.bin32(Bin32::Sub, ops, ty),
            ("mul", Some('l'), _) => self.bin32(Bin32::MulLo, ops, ty),
            ("mul", Some('h'), false) => self.lane2(int::mul_hi_u32, ops, ty),
            ("mul", Some('h'), true) => self.lane2(int::mul_hi_s32, ops, ty),
            ("mad", Some('l'), _) => self.tri32(Tri32::MadLo, ops, ty),
            ("mad", Some('h'), false) => self.lane3(|a, b, c| int::mul_hi_u32(a, b).wrapping_add(c), ops, ty),
            ("mad", Some('h'), true) => self.lane3(|a, b, c| int::mul_hi_s32(a, b).wrapping_add(c), ops, ty),
            ("mul24", Some('l'), false) => self.lane2(int::mul24_lo_u, ops, ty),
            ("mul24", Some('l'), true) => self.lane2(int::mul24_lo_s, ops, ty),
            ("mul24", _, false) => self.lane2(int::mul24_hi_u, ops, ty),
            ("mul24", _, true) => self.lane2(int::mul24_hi_s, ops, ty),
            ("mad24", Some('l'), false) => self.lane3(|a, b, c| int::mul24_lo_u(a, b).wrapping_add(c), ops, ty),
            ("mad24", Some('l'), true) => self.lane3(|a, b, c| int::mul24_lo_s(a, b).wrapping_add(c), ops, ty),
            ("mad24", _, false) => self.lane3(|a, b, c| int::mul24_hi_u(a, b).wrapping_add(c), ops, ty),
            ("mad24", _, true) => self.lane3(|a, b, c| int::mul24_hi_s(a, b).wrapping_add(c), ops, ty),
            ("sad", _, false) => self.lane3(int::sad_u32, ops, ty),
            ("sad", _, true) => self.lane3(int::sad_s32, ops, ty),
            ("div", _, false) => self.lane2(int::div_u32, ops, ty),
            ("div", _, true) => self.lane2(int::div_s32, ops, ty),
            ("rem", _, false) => self.lane2(int::rem_u32, ops, ty),
            ("rem", _, true) => self.lane2(int::rem_s32, ops, ty),
            ("min", _, true) if relu => self.lane2(|a, b| (a as i32).min(b as i32).max(0) as u32, ops, ty),
            ("max", _, true) if relu => self.lane2(|a, b| (a as i32).max(b as i32).max(0) as u32, ops, ty),
            ("min", _, false) => self.bin32(Bin32::MinU, ops, ty),
            ("max", _, false) => self.bin32(Bin32::MaxU, ops, ty),
            ("min", _, true) => self.bin32(Bin32::MinS, ops, ty),
            ("max", _, true) => self.bin32(Bin32::MaxS, ops, ty),
            ("neg", ..) => self.un32(Un32::NegI, ops, ty),
            ("abs", ..) => self.lane1(|a| (a as i32).wrapping_abs() as u32, ops, ty),
            _ => self.unknown(),
        }
    }

    fn arith_int64(&mut self, root: &str, ty: Ty, width: Option<char>, ops: &[Operand]) -> Result<Op> {
        let signed = ty.signed();
        match (root, width, signed) {
            ("add", ..) => self.bin64(Bin64::Add, ops),
            ("sub", ..) => self.bin64(Bin64::Sub, ops),
            ("mul", Some('l'), _) => self.bin64(Bin64::MulLo, ops),
            ("mul", Some('h'), false) => self.quad2(int::mul_hi_u64, ops),
            ("mul", Some('h'), true) => self.quad2(int::mul_hi_s64, ops),
            ("mad", Some(part), _) => {
                self.expect_operands(ops, 4)?;
                let d = self.dst64(&ops[0])?;
                let (a, b, c) = (self.src64(&ops[1])?, self.src64(&ops[2])?, self.src64(&ops[3])?);
                Ok(match (part, signed) {
                    ('l', _) => Op::MadLo64(d, a, b, c),
                    (_, false) => Op::Q3(|a, b, c| int::mul_hi_u64(a, b).wrapping_add(c), d, a, b, c),
                    (_, true) => Op::Q3(|a, b, c| int::mul_hi_s64(a, b).wrapping_add(c), d, a, b, c),
                })
            }
            ("sad", ..) => {
                self.expect_operands(ops, 4)?;
                let d = self.dst64(&ops[0])?;
                let (a, b, c) = (self.src64(&ops[1])?, self.src64(&ops[2])?, self.src64(&ops[3])?);
                Ok(if signed {
                    Op::Q3(|a, b, c| c.wrapping_add((a as i64).abs_diff(b as i64)), d, a, b, c)
                } else {
                    Op::Q3(|a, b, c| c.wrapping_add(a.abs_diff(b)), d, a, b, c)
                })
            }
            ("div", _, false) => self.quad2(int::div_u64, ops),
            ("div", _, true) => self.quad2(int::div_s64, ops),
            ("rem", _, false) => self.quad2(int::rem_u64, ops),
            ("rem", _, true) => self.quad2(int::rem_s64, ops),
            ("min", _, false) => self.quad2(u64::min, ops),
            ("max", _, false) => self.quad2(u64::max, ops),
            ("min", _, true) => self.quad2(|a, b| (a as i64).min(b as i64) as u64, ops),
            ("max", _, true) => self.quad2(|a, b| (a as i64).max(b as i64) as u64, ops),
            ("neg", ..) => self.quad1(u64::wrapping_neg, ops),
            ("abs", ..) => self.quad1(|a| (a as i64).wrapping_abs() as u64, ops),
            _ => self.unknown(),
        }
    }
}
