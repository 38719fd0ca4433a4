//! Extended-precision arithmetic through the carry flag (PTX ISA 9.7.2).

use super::decoder::{Decoder, Result};
use super::modifiers::Modifiers;
use super::ty::Ty;
use crate::parse::ast::Operand;
use crate::program::Op;
use crate::program::op::{Carry, MadCarry64};

impl Decoder<'_> {
    /// `addc`, `subc`, `madc`: these read the carry.
    pub(super) fn carry(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let width = m.choose(&[("lo", 'l'), ("hi", 'h')]);
        let writes = m.take("cc");
        let ty = self.ty(m)?;
        let carry = Carry { reads: true, writes, subtracts: root == "subc" };
        let root = if root == "madc" { "mad" } else { "add" };
        if (root == "mad") != width.is_some() {
            return self.unknown();
        }
        self.carry_op(root, carry, width == Some('h'), ty, ops)
    }

    pub(super) fn carry_op(&mut self, root: &str, carry: Carry, high: bool, ty: Ty, ops: &[Operand]) -> Result<Op> {
        match (root, ty.bits()) {
            ("add" | "sub", 32) => {
                self.expect_operands(ops, 3)?;
                let (a, b) = (self.src32(&ops[1], ty)?, self.src32(&ops[2], ty)?);
                Ok(Op::AddCarry32(carry, self.dst32(&ops[0])?, a, b))
            }
            ("add" | "sub", 64) => {
                self.expect_operands(ops, 3)?;
                Ok(Op::AddCarry64(carry, self.dst64(&ops[0])?, self.src64(&ops[1])?, self.src64(&ops[2])?))
            }
            ("mad", 32) => {
                self.expect_operands(ops, 4)?;
                let [a, b, c] = [&ops[1], &ops[2], &ops[3]].map(|o| self.src32(o, ty));
                Ok(Op::MadCarry32 { carry, high, signed: ty.signed(), d: self.dst32(&ops[0])?, a: a?, b: b?, c: c? })
            }
            ("mad", 64) => {
                self.expect_operands(ops, 4)?;
                let [a, b, c] = [&ops[1], &ops[2], &ops[3]].map(|o| self.src64(o));
                let (d, a, b, c) = (self.dst64(&ops[0])?, a?, b?, c?);
                Ok(Op::MadCarry64(Box::new(MadCarry64 { carry, high, signed: ty.signed(), d, a, b, c })))
            }
            _ => self.unknown(),
        }
    }
}
