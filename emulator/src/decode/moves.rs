//! mov in all its forms, address conversions, mapa.

use super::decoder::{Decoder, Result};
use super::modifiers::Modifiers;
use super::special::SpecialKind;
use super::ty::Ty;
use crate::memory::space::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, in_window};
use crate::parse::ast::{Operand, Space};
use crate::program::op::{Bin64, Parts};
use crate::program::{Const, Op, Reg};

/// A state space modifier.
pub(super) fn take_space(m: &mut Modifiers) -> Option<Space> {
    m.choose(&[
        ("global", Space::Global),
        ("const", Space::Const),
        ("shared", Space::Shared),
        ("shared::cta", Space::Shared),
        ("shared::cluster", Space::SharedCluster),
        ("local", Space::Local),
        ("param", Space::Param),
        ("param::entry", Space::Param),
        ("param::func", Space::Param),
    ])
}

fn window(space: Space) -> u64 {
    match space {
        Space::Shared | Space::SharedCluster => SHARED_WINDOW,
        Space::Local => LOCAL_WINDOW,
        Space::Param => PARAM_WINDOW,
        Space::Global | Space::Const | Space::Generic => 0,
    }
}

impl Decoder<'_> {
    pub(super) fn moves(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        match root {
            "mov" => self.mov(m, ops),
            "cvta" => self.cvta(m, ops),
            "mapa" => self.mapa(m, ops),
            "getctarank" => {
                take_space(m);
                let ty = self.ty(m)?;
                self.expect_operands(ops, 2)?;
                let d = self.dst32(&ops[0])?;
                Ok(match ty.bits() {
                    64 => Op::Narrow(|a| (a >> 24) as u32 & 0xff, d, self.src64(&ops[1])?),
                    _ => Op::L1(|a| a >> 24, d, self.src32(&ops[1], ty)?),
                })
            }
            "isspacep" => {
                let Some(space) = take_space(m) else { return self.unknown() };
                self.expect_operands(ops, 2)?;
                let f: fn(u64) -> bool = match space {
                    Space::Shared | Space::SharedCluster => |a| in_window(a, SHARED_WINDOW),
                    Space::Local => |a| in_window(a, LOCAL_WINDOW),
                    Space::Param => |a| in_window(a, PARAM_WINDOW),
                    Space::Global => |a| matches!(crate::memory::space::classify(a), crate::memory::space::Target::Global(_)),
                    _ => return self.unknown(),
                };
                Ok(Op::PredOf64 { f, d: self.dst_pred(&ops[0])?, a: self.src64(&ops[1])? })
            }
            _ => {
                if self.ty(m)? != Ty::B(32) {
                    return self.unknown();
                }
                self.expect_operands(ops, 1)?;
                Ok(Op::ActiveMask(self.dst32(&ops[0])?))
            }
        }
    }

    fn mov(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let ty = self.ty(m)?;
        self.expect_operands(ops, 2)?;
        match (&ops[0], &ops[1]) {
            (Operand::Vector(parts), whole) => return self.parts(parts, whole, ty, false),
            (whole, Operand::Vector(parts)) => return self.parts(parts, whole, ty, true),
            _ => {}
        }
        if ty == Ty::Pred && !matches!(ops[1], Operand::Special(_)) {
            let (a, negated) = self.src_pred(&ops[1])?;
            return Ok(Op::MovP { d: self.dst_pred(&ops[0])?, a, negated });
        }
        if let Operand::Special(name) = &ops[1] {
            match (self.special(name)?, self.reg(&ops[0])) {
                (SpecialKind::Clock32(clock), Some(Reg::R(d))) => return Ok(Op::Clock32(clock, d)),
                (SpecialKind::Clock64(clock), Some(Reg::D(d))) => return Ok(Op::Clock64(clock, d)),
                (SpecialKind::Fixed(crate::program::Special::IsExplicitCluster), Some(Reg::P(d))) => {
                    let row = self.const32(Const::Special(crate::program::Special::IsExplicitCluster));
                    return Ok(Op::PredOf { f: |a| a != 0, d, a: row });
                }
                _ => {}
            }
        }
        match ty.bits() {
            1 => self.unknown(),
            64 => Ok(Op::Mov64(self.dst64(&ops[0])?, self.src64(&ops[1])?)),
            128 => match (self.reg(&ops[0]), self.reg(&ops[1])) {
                (Some(d @ Reg::Q(..)), Some(Reg::Q(low, high))) => {
                    Ok(Op::Gather(Box::new(Parts { whole: d, parts: vec![Reg::D(low), Reg::D(high)], part_bits: 64 })))
                }
                _ => self.error("operands are not 128-bit registers"),
            },
            _ => Ok(Op::Mov32(self.dst32(&ops[0])?, self.src32(&ops[1], ty)?)),
        }
    }

    fn parts(&mut self, parts: &[Operand], whole: &Operand, ty: Ty, gather: bool) -> Result<Op> {
        let count = parts.len() as u32;
        let part_bits = ty.bits() / count.max(1);
        if !matches!(count, 2 | 4) || part_bits < 8 {
            return self.error(format!("{count} parts do not make up {} bits", ty.bits()));
        }
        match (ty.bits(), count, gather) {
            (32, 2, true) => {
                let (low, high) = (self.src32(&parts[0], Ty::B(16))?, self.src32(&parts[1], Ty::B(16))?);
                return Ok(Op::Pack32 { d: self.dst32(whole)?, low, high });
            }
            (32, 2, false) => {
                let (low, high) = (self.dst32(&parts[0])?, self.dst32(&parts[1])?);
                return Ok(Op::Unpack32 { low, high, a: self.src32(whole, ty)? });
            }
            (64, 2, true) => {
                let (low, high) = (self.src32(&parts[0], Ty::B(32))?, self.src32(&parts[1], Ty::B(32))?);
                return Ok(Op::Pack64 { d: self.dst64(whole)?, low, high });
            }
            (64, 2, false) => {
                let (low, high) = (self.dst32(&parts[0])?, self.dst32(&parts[1])?);
                return Ok(Op::Unpack64 { low, high, a: self.src64(whole)? });
            }
            _ => {}
        }
        let whole = self.any_reg(whole, ty.bits(), !gather)?;
        let parts = parts.iter().map(|part| self.any_reg(part, part_bits, gather)).collect::<Result<Vec<_>>>()?;
        let parts = Box::new(Parts { whole, parts, part_bits });
        Ok(if gather { Op::Gather(parts) } else { Op::Scatter(parts) })
    }

    fn cvta(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let to = m.take("to");
        let Some(space) = take_space(m) else { return self.unknown() };
        let ty = self.ty(m)?;
        self.expect_operands(ops, 2)?;
        if ty.bits() != 64 {
            return self.error("only 64-bit addresses are supported");
        }
        let (d, a) = (self.dst64(&ops[0])?, self.src64(&ops[1])?);
        match window(space) {
            0 => Ok(Op::Mov64(d, a)),
            base => {
                let base = self.const64(Const::Bits(base));
                Ok(Op::B64(if to { Bin64::Sub } else { Bin64::Add }, d, a, base))
            }
        }
    }

    fn mapa(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        take_space(m);
        let ty = self.ty(m)?;
        self.expect_operands(ops, 3)?;
        let rank = self.src32(&ops[2], Ty::U(32))?;
        // Shared addresses carry the block's rank above the offset; a generic one has the window above that.
        match ty.bits() {
            32 => {
                let a = self.src32(&ops[1], ty)?;
                Ok(Op::L2(|a, rank| (a & 0xff_ffff) | (rank << 24), self.dst32(&ops[0])?, a, rank))
            }
            64 => {
                let a = self.src64(&ops[1])?;
                let f: fn(u64, u64, u32, u32) -> u64 = |a, _, rank, _| (a & !0xff00_0000) | u64::from(rank << 24);
                Ok(Op::Mixed(f, self.dst64(&ops[0])?, a, a, rank, rank))
            }
            _ => self.unknown(),
        }
    }
}
