//! Logic, shifts, bit fields, byte permutes and dot products of bytes.

use super::arith::{F1, F2, F3};
use super::decoder::{Decoder, Result};
use super::modifiers::Modifiers;
use super::ty::Ty;
use crate::lane::int;
use crate::parse::ast::Operand;
use crate::program::Op;
use crate::program::op::{Bin32, Bin64, Logic, Lop3P, Shift, Un32};

impl Decoder<'_> {
    pub(super) fn bits(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        match root {
            "and" | "or" | "xor" => self.logic(root, m, ops),
            "not" | "cnot" => self.complement(root, m, ops),
            "lop3" => self.lop3(m, ops),
            "shl" | "shr" => self.shift(root, m, ops),
            "shf" => self.funnel(m, ops),
            "prmt" => self.permute(m, ops),
            "bfe" | "bfi" => self.bit_field(root, m, ops),
            "popc" | "clz" | "bfind" | "brev" => self.bit_count(root, m, ops),
            "fns" => {
                if self.ty(m)? != Ty::B(32) {
                    return self.unknown();
                }
                self.lane3(int::fns, ops, Ty::B(32))
            }
            "bmsk" => {
                let wrap = m.choose(&[("clamp", false), ("wrap", true)]);
                let ty = self.ty(m)?;
                match wrap {
                    Some(false) => self.lane2(int::bmsk_clamp, ops, ty),
                    Some(true) => self.lane2(int::bmsk_wrap, ops, ty),
                    None => self.unknown(),
                }
            }
            "szext" => {
                let wrap = m.choose(&[("clamp", false), ("wrap", true)]);
                let ty = self.ty(m)?;
                let f: F2 = match (wrap, ty) {
                    (Some(false), Ty::U(32)) => int::szext_clamp_u,
                    (Some(false), Ty::S(32)) => int::szext_clamp_s,
                    (Some(true), Ty::U(32)) => int::szext_wrap_u,
                    (Some(true), Ty::S(32)) => int::szext_wrap_s,
                    _ => return self.unknown(),
                };
                self.lane2(f, ops, ty)
            }
            _ => self.dot_bytes(root, m, ops),
        }
    }

    fn logic(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let ty = self.ty(m)?;
        let (narrow, wide, pred) = match root {
            "and" => (Bin32::And, Bin64::And, Logic::And),
            "or" => (Bin32::Or, Bin64::Or, Logic::Or),
            _ => (Bin32::Xor, Bin64::Xor, Logic::Xor),
        };
        match ty {
            Ty::Pred => {
                self.expect_operands(ops, 3)?;
                let (a, b) = (self.src_pred(&ops[1])?, self.src_pred(&ops[2])?);
                Ok(Op::PredLogic { op: pred, d: self.dst_pred(&ops[0])?, a, b })
            }
            Ty::B(16 | 32) => self.bin32(narrow, ops, ty),
            Ty::B(64) => self.bin64(wide, ops),
            _ => self.unknown(),
        }
    }

    fn complement(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let ty = self.ty(m)?;
        self.expect_operands(ops, 2)?;
        match (root, ty) {
            ("not", Ty::Pred) => {
                let (a, negated) = self.src_pred(&ops[1])?;
                Ok(Op::MovP { d: self.dst_pred(&ops[0])?, a, negated: !negated })
            }
            ("not", Ty::B(16)) => self.lane1(|a| !a & 0xffff, ops, ty),
            ("not", Ty::B(32)) => self.un32(Un32::Not, ops, ty),
            ("not", Ty::B(64)) => Ok(Op::Q1(|a| !a, self.dst64(&ops[0])?, self.src64(&ops[1])?)),
            ("cnot", Ty::B(16 | 32)) => self.lane1(|a| u32::from(a == 0), ops, ty),
            ("cnot", Ty::B(64)) => Ok(Op::Q1(|a| u64::from(a == 0), self.dst64(&ops[0])?, self.src64(&ops[1])?)),
            _ => self.unknown(),
        }
    }

    fn lop3(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let logic = m.choose(&[("or", Logic::Or), ("and", Logic::And)]);
        if self.ty(m)? != Ty::B(32) {
            return self.unknown();
        }
        self.expect_operands(ops, if logic.is_some() { 6 } else { 5 })?;
        let Operand::Int(lut @ 0..=255) = ops[4] else {
            return self.error("the table must be a constant of 8 bits");
        };
        let [a, b, c] = [&ops[1], &ops[2], &ops[3]].map(|o| self.src32(o, Ty::B(32)));
        if let Some(op) = logic {
            let (d, p) = self.pair(&ops[0]);
            let (d, p) = (self.dst32(d)?, self.dst_pred(p)?);
            let q = self.src_pred(&ops[5])?;
            return Ok(Op::Lop3P(Box::new(Lop3P { lut: lut as u8, d, p, sources: [a?, b?, c?], op, q })));
        }
        Ok(Op::Lop3 { lut: lut as u8, d: self.dst32(&ops[0])?, a: a?, b: b?, c: c? })
    }

    fn shift(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let ty = self.ty(m)?;
        self.expect_operands(ops, 3)?;
        let amount = self.src32(&ops[2], Ty::U(32))?;
        let arithmetic = ty.signed();
        match ty.bits() {
            64 => {
                let op = match (root, arithmetic) {
                    ("shl", _) => Shift::Left,
                    (_, false) => Shift::RightU,
                    (_, true) => Shift::RightS,
                };
                Ok(Op::Shift64(op, self.dst64(&ops[0])?, self.src64(&ops[1])?, amount))
            }
            32 => {
                let op = match (root, arithmetic) {
                    ("shl", _) => Bin32::Shl,
                    (_, false) => Bin32::ShrU,
                    (_, true) => Bin32::ShrS,
                };
                Ok(Op::B32(op, self.dst32(&ops[0])?, self.src32(&ops[1], ty)?, amount))
            }
            16 => {
                let f: F2 = match (root, arithmetic) {
                    ("shl", _) => |a, b| int::shl32(a, b) & 0xffff,
                    (_, false) => int::shr_u32,
                    (_, true) => |a, b| int::shr_s32(int::sx16(a) as u32, b) & 0xffff,
                };
                Ok(Op::L2(f, self.dst32(&ops[0])?, self.src32(&ops[1], ty)?, amount))
            }
            _ => self.unknown(),
        }
    }

    fn funnel(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let left = m.choose(&[("l", true), ("r", false)]);
        let wrap = m.choose(&[("wrap", true), ("clamp", false)]);
        let ty = self.ty(m)?;
        let f: F3 = match (left, wrap) {
            (Some(true), Some(true)) => int::shf_l_wrap,
            (Some(true), Some(false)) => int::shf_l_clamp,
            (Some(false), Some(true)) => int::shf_r_wrap,
            (Some(false), Some(false)) => int::shf_r_clamp,
            _ => return self.unknown(),
        };
        self.lane3(f, ops, ty)
    }

    fn permute(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let ty = self.ty(m)?;
        let modes: [(&str, F3); 6] = [
            ("f4e", int::prmt_f4e),
            ("b4e", int::prmt_b4e),
            ("rc8", int::prmt_rc8),
            ("ecl", int::prmt_ecl),
            ("ecr", int::prmt_ecr),
            ("rc16", int::prmt_rc16),
        ];
        let f = m.choose(&modes).unwrap_or(int::prmt);
        self.lane3(f, ops, ty)
    }

    fn bit_field(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let ty = self.ty(m)?;
        let u32_ = Ty::U(32);
        if root == "bfi" {
            self.expect_operands(ops, 5)?;
            let (c, d) = (self.src32(&ops[3], u32_)?, self.src32(&ops[4], u32_)?);
            return match ty {
                Ty::B(32) => {
                    let (a, b) = (self.src32(&ops[1], ty)?, self.src32(&ops[2], ty)?);
                    Ok(Op::L4(int::bfi32, self.dst32(&ops[0])?, [a, b, c, d]))
                }
                Ty::B(64) => {
                    let (a, b) = (self.src64(&ops[1])?, self.src64(&ops[2])?);
                    Ok(Op::Mixed(int::bfi64, self.dst64(&ops[0])?, a, b, c, d))
                }
                _ => self.unknown(),
            };
        }
        self.expect_operands(ops, 4)?;
        match ty {
            Ty::U(32) => self.lane3(int::bfe_u32, ops, ty),
            Ty::S(32) => self.lane3(int::bfe_s32, ops, ty),
            Ty::U(64) | Ty::S(64) => {
                let f: fn(u64, u64, u32, u32) -> u64 =
                    if ty.signed() { |a, _, b, c| int::bfe_s64(a, b, c) } else { |a, _, b, c| int::bfe_u64(a, b, c) };
                let a = self.src64(&ops[1])?;
                let (b, c) = (self.src32(&ops[2], u32_)?, self.src32(&ops[3], u32_)?);
                Ok(Op::Mixed(f, self.dst64(&ops[0])?, a, a, b, c))
            }
            _ => self.unknown(),
        }
    }

    fn bit_count(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let shift_amount = m.take("shiftamt");
        let ty = self.ty(m)?;
        self.expect_operands(ops, 2)?;
        if ty.bits() == 32 {
            let f: F1 = match (root, ty.signed(), shift_amount) {
                ("popc", _, false) => u32::count_ones,
                ("clz", _, false) => u32::leading_zeros,
                ("brev", _, false) => u32::reverse_bits,
                ("bfind", false, false) => int::bfind_u32,
                ("bfind", true, false) => int::bfind_s32,
                ("bfind", false, true) => int::bfind_shift_u32,
                ("bfind", true, true) => int::bfind_shift_s32,
                _ => return self.unknown(),
            };
            return self.lane1(f, ops, ty);
        }
        if ty.bits() != 64 {
            return self.unknown();
        }
        if root == "brev" {
            return Ok(Op::Q1(u64::reverse_bits, self.dst64(&ops[0])?, self.src64(&ops[1])?));
        }
        let f: fn(u64) -> u32 = match (root, ty.signed(), shift_amount) {
            ("popc", _, false) => u64::count_ones,
            ("clz", _, false) => u64::leading_zeros,
            ("bfind", false, false) => int::bfind_u64,
            ("bfind", true, false) => int::bfind_s64,
            ("bfind", false, true) => int::bfind_shift_u64,
            ("bfind", true, true) => int::bfind_shift_s64,
            _ => return self.unknown(),
        };
        Ok(Op::Narrow(f, self.dst32(&ops[0])?, self.src64(&ops[1])?))
    }

    fn dot_bytes(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let half = m.choose(&[("lo", false), ("hi", true)]);
        let (a, b) = (self.ty(m)?, self.ty(m)?);
        if a.bits() != 32 || b.bits() != 32 || (root == "dp2a") != half.is_some() {
            return self.unknown();
        }
        let f: F3 = match (half, a.signed(), b.signed()) {
            (None, false, false) => int::dp4a::<false, false>,
            (None, false, true) => int::dp4a::<false, true>,
            (None, true, false) => int::dp4a::<true, false>,
            (None, true, true) => int::dp4a::<true, true>,
            (Some(false), false, false) => int::dp2a::<false, false, false>,
            (Some(false), false, true) => int::dp2a::<false, true, false>,
            (Some(false), true, false) => int::dp2a::<true, false, false>,
            (Some(false), true, true) => int::dp2a::<true, true, false>,
            (Some(true), false, false) => int::dp2a::<false, false, true>,
            (Some(true), false, true) => int::dp2a::<false, true, true>,
            (Some(true), true, false) => int::dp2a::<true, false, true>,
            (Some(true), true, true) => int::dp2a::<true, true, true>,
        };
        self.lane3(f, ops, Ty::B(32))
    }
}
