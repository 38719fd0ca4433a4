//! `wmma.load`, `wmma.store` and `wmma.mma`.

use super::decoder::{Decoder, Result};
use super::matrix::words;
use super::modifiers::Modifiers;
use super::moves::take_space;
use super::ty::Ty;
use crate::parse::ast::{Operand, Space};
use crate::program::Op;
use crate::program::sync_op::{Wmma, WmmaMemory};
use crate::tensor::wmma::{Layout, WmmaKind, WmmaMatrix};

impl Decoder<'_> {
    pub(super) fn wmma(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        if m.all().first() == Some(&"mma") {
            return self.wmma_mma(m, ops);
        }
        let load = m.take("load");
        let part = if load {
            ["a", "b", "c"].into_iter().find(|part| m.take(part))
        } else {
            (m.take("store") && m.take("d")).then_some("d")
        };
        let Some(part) = part else { return self.unknown() };
        if !(m.take("sync") && m.take("aligned")) {
            return self.unknown();
        }
        let space = take_space(m).unwrap_or(Space::Generic);
        if !matches!(space, Space::Generic | Space::Global | Space::Shared) {
            return self.unknown();
        }
        let Some(layout) = m.choose(&[("row", Layout::Row), ("col", Layout::Column)]) else { return self.unknown() };
        let [shape, ty] = {
            let shape = m.all().iter().find(|name| name.starts_with('m') && name.contains('n')).copied();
            let ty = m.all().last().copied();
            let (Some(shape), Some(ty)) = (shape, ty) else { return self.unknown() };
            [shape, ty]
        };
        let Some(matrix) = WmmaMatrix::parse(part, layout, shape, ty) else {
            return self.error("wmma has no such combination of matrix, layout, shape and type");
        };
        m.take(shape);
        m.take(ty);
        if !(2..=3).contains(&ops.len()) {
            return self.error(format!("takes 2 or 3 operands, has {}", ops.len()));
        }
        let (regs, address) = if load { (&ops[0], &ops[1]) } else { (&ops[1], &ops[0]) };
        let bits = if matrix.bits == 64 { 64 } else { 32 };
        let regs = self.any_regs(regs, bits, !load)?;
        if words(&regs) != matrix.words {
            return self.error(format!("takes {} registers of 32 bits, has {}", matrix.words, words(&regs)));
        }
        let addr = self.addr(address)?;
        let stride = match ops.get(2) {
            Some(operand) => Some(self.src32(operand, Ty::U(32))?),
            None => None,
        };
        Ok(Op::WmmaMemory(Box::new(WmmaMemory { load, matrix, space, addr, stride, regs })))
    }

    fn wmma_mma(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let kind = match WmmaKind::parse(m.all()) {
            Ok(kind) => kind,
            Err(error) => return self.error(error),
        };
        m.take_all();
        self.expect_operands(ops, 4)?;
        let sizes = [kind.d(), kind.a(), kind.b(), kind.c()];
        let mut regs = Vec::new();
        for (at, (operand, matrix)) in ops.iter().zip(sizes).enumerate() {
            let bits = if matrix.bits == 64 { 64 } else { 32 };
            let list = self.any_regs(operand, bits, at != 0)?;
            if words(&list) != matrix.words {
                let name = ["d", "a", "b", "c"][at];
                return self.error(format!("takes {} words for {name}, has {}", matrix.words, words(&list)));
            }
            regs.push(list);
        }
        let Ok([d, a, b, c]) = <[_; 4]>::try_from(regs) else { return self.unknown() };
        Ok(Op::Wmma(Box::new(Wmma { kind, a, b, c, d })))
    }
}
