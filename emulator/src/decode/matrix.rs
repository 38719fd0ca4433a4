//! Matrix loads and stores, mma, wgmma.

use super::decoder::{Decoder, Result};
use super::modifiers::Modifiers;
use super::moves::take_space;
use super::ty::Ty;
use crate::parse::ast::{Operand, Space};
use crate::program::memory_op::{LdMatrix, Regs, StMatrix};
use crate::program::sync_op::{Mma, Sparsity, Wgmma, WgmmaA};
use crate::program::{Op, P, Reg};
use crate::tensor::{mma::MmaKind, sparse::SparseKind, wgmma::WgmmaKind};

/// 32-bit words in a set of registers.
pub(super) fn words(regs: &Regs) -> usize {
    regs.iter().map(|reg| if matches!(reg, Reg::D(_)) { 2 } else { 1 }).sum()
}

impl Decoder<'_> {
    pub(super) fn matrix(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        match root {
            "ldmatrix" | "stmatrix" => self.move_matrix(root == "ldmatrix", m, ops),
            "movmatrix" => {
                if !(m.take("sync") && m.take("aligned") && m.take("m8n8") && m.take("trans") && m.take("b16")) {
                    return self.unknown();
                }
                self.expect_operands(ops, 2)?;
                Ok(Op::MovMatrix(self.dst32(&ops[0])?, self.src32(&ops[1], Ty::B(32))?))
            }
            "mma" => self.mma(m, ops),
            "wmma" => self.wmma(m, ops),
            _ => self.wgmma(m, ops),
        }
    }

    fn move_matrix(&mut self, load: bool, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        if !(m.take("sync") && m.take("aligned")) {
            return self.unknown();
        }
        if !m.take("m8n8") {
            return self.error("only 8x8 matrices of b16 are supported");
        }
        let Some(count) = m.choose(&[("x1", 1), ("x2", 2), ("x4", 4)]) else { return self.unknown() };
        let trans = m.take("trans");
        let space = take_space(m).unwrap_or(Space::Generic);
        if self.ty(m)? != Ty::B(16) {
            return self.error("only 8x8 matrices of b16 are supported");
        }
        self.expect_operands(ops, 2)?;
        let (regs, address) = if load { (&ops[0], &ops[1]) } else { (&ops[1], &ops[0]) };
        let regs = self.any_regs(regs, 32, !load)?;
        if regs.len() != count || regs.iter().any(|reg| !matches!(reg, Reg::R(_))) {
            return self.error(format!("takes {count} registers of 32 bits"));
        }
        let addr = self.addr(address)?;
        Ok(if load {
            Op::LdMatrix(Box::new(LdMatrix { space, addr, trans, dst: regs }))
        } else {
            Op::StMatrix(Box::new(StMatrix { space, addr, trans, src: regs }))
        })
    }

    fn mma(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let is_sparse = m.all().first().is_some_and(|first| first.starts_with("sp"));
        let parsed = if is_sparse {
            SparseKind::parse(m.all()).map(|kind| (kind.half, Some(kind)))
        } else {
            MmaKind::parse(m.all()).map(|kind| (kind, None))
        };
        let (kind, sparse_kind) = match parsed {
            Ok(kinds) => kinds,
            Err(error) => return self.error(error),
        };
        m.take_all();
        self.expect_operands(ops, if is_sparse { 6 } else { 4 })?;
        let sparse = match sparse_kind {
            Some(kind) => {
                let metadata = self.src32(&ops[4], Ty::B(32))?;
                let selector = self.constant(ops, 5)?;
                if selector >= kind.selectors() {
                    return self.error(format!("the sparsity selector must be below {}", kind.selectors()));
                }
                Some(Sparsity { kind, metadata, selector })
            }
            None => None,
        };
        let f64_bits = if kind.d_regs() != 0 && matches!(self.first_register(&ops[0]), Some(Reg::D(_))) { 64 } else { 32 };
        let d = self.any_regs(&ops[0], f64_bits, false)?;
        let a = self.any_regs(&ops[1], f64_bits, true)?;
        let b = self.any_regs(&ops[2], f64_bits, true)?;
        let c = self.any_regs(&ops[3], f64_bits, true)?;
        let b_words = sparse_kind.map_or(kind.b_regs(), |kind| kind.b_regs());
        let expected = [kind.d_regs(), kind.a_regs(), b_words, kind.c_regs()];
        let found = [words(&d), words(&a), words(&b), words(&c)];
        if expected != found {
            return self.error(format!("takes {expected:?} registers for d, a, b, c, has {found:?}"));
        }
        Ok(Op::Mma(Box::new(Mma { kind, sparse, a, b, c, d })))
    }

    fn first_register(&self, operand: &Operand) -> Option<Reg> {
        match operand {
            Operand::Vector(items) => self.reg(items.first()?),
            single => self.reg(single),
        }
    }

    fn wgmma(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        if m.take("fence") {
            m.take_any(&["sync", "aligned"]);
            return Ok(Op::WgmmaFence);
        }
        if m.take("commit_group") {
            m.take_any(&["sync", "aligned"]);
            return Ok(Op::WgmmaCommit);
        }
        if m.take("wait_group") {
            m.take_any(&["sync", "aligned"]);
            return Ok(Op::WgmmaWait(self.constant(ops, 0)?));
        }
        if m.all().first().is_none_or(|part| *part != "mma_async") {
            return self.unknown();
        }
        let kind = match WgmmaKind::parse(m.all()) {
            Ok(kind) => kind,
            Err(error) => return self.error(error),
        };
        m.take_all();
        let float = ops.len() >= 6;
        if !matches!(ops.len(), 4 | 6 | 7 | 8) {
            return self.error(format!("has {} operands", ops.len()));
        }
        let d = self.any_regs(&ops[0], 32, false)?;
        let d: Vec<u32> = d.iter().filter_map(|reg| if let Reg::R(r) = reg { Some(u32::from(r.0)) } else { None }).collect();
        if d.len() != kind.d_regs() {
            return self.error(format!("takes {} accumulator registers, has {}", kind.d_regs(), d.len()));
        }
        let a = match &ops[1] {
            Operand::Vector(items) => {
                let regs = items.iter().map(|item| self.src32(item, Ty::B(32))).collect::<Result<smallvec::SmallVec<_>>>()?;
                if regs.len() != kind.a_regs() {
                    return self.error(format!("takes {} registers for a, has {}", kind.a_regs(), regs.len()));
                }
                WgmmaA::Registers(regs)
            }
            descriptor => WgmmaA::Descriptor(self.src64(descriptor)?),
        };
        let b = self.src64(&ops[2])?;
        let scale_d = match &ops[3] {
            Operand::Int(value) => (P::TRUE, *value == 0),
            operand => self.src_pred(operand)?,
        };
        let imm = |at: usize| -> Result<i64> {
            match ops.get(at) {
                Some(Operand::Int(value)) => Ok(*value),
                None => Ok(0),
                _ => self.error("expected an integer constant"),
            }
        };
        let (scale_a, scale_b) = if float { (imm(4)?, imm(5)?) } else { (1, 1) };
        if !matches!((scale_a, scale_b), (1 | -1, 1 | -1)) {
            return self.error("scales of a and b must be 1 or -1");
        }
        // With a in registers only b can be transposed.
        let in_registers = matches!(a, WgmmaA::Registers(_));
        let (trans_a, trans_b) = if in_registers { (0, imm(6)?) } else { (imm(6)?, imm(7)?) };
        Ok(Op::Wgmma(Box::new(Wgmma {
            kind,
            d,
            a,
            b,
            scale_d,
            negate_a: scale_a == -1,
            negate_b: scale_b == -1,
            trans_a: trans_a == 1,
            trans_b: trans_b == 1,
        })))
    }
}
