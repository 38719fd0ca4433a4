//! tensormap.replace and tensormap.cp_fenceproxy (PTX ISA 9.7.9.28 and 9.7.13.8).

use super::decoder::{Decoder, Result};
use super::memory::take_order;
use super::modifiers::Modifiers;
use super::moves::take_space;
use super::ty::Ty;
use crate::parse::ast::{Operand, Space};
use crate::program::memory_op::{MapCopy, MapField, MapReplace, Order};
use crate::program::{Op, Reg};
use crate::tensor_map::element_code;

impl Decoder<'_> {
    pub(super) fn tensormap(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        if m.take("replace") { self.replace_in_map(m, ops) } else { self.copy_map(m, ops) }
    }

    fn replace_in_map(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        if !m.take("tile") {
            return self.unknown();
        }
        let fields = [
            "global_address",
            "rank",
            "box_dim",
            "global_dim",
            "global_stride",
            "element_stride",
            "elemtype",
            "interleave_layout",
            "swizzle_mode",
            "fill_mode",
        ];
        let Some(name) = fields.into_iter().find(|name| m.take(name)) else { return self.unknown() };
        let space = take_space(m).unwrap_or(Space::Generic);
        let wide = matches!(name, "global_address" | "global_stride");
        if !m.take("b1024") || !m.take(if wide { "b64" } else { "b32" }) {
            return self.unknown();
        }
        if !matches!(space, Space::Generic | Space::Global | Space::Shared) {
            return self.unknown();
        }
        let has_ordinal = matches!(name, "box_dim" | "global_dim" | "global_stride" | "element_stride");
        self.expect_operands(ops, if has_ordinal { 3 } else { 2 })?;
        let ordinal = if has_ordinal { self.constant(ops, 1)? } else { 0 };
        if ordinal > if name == "global_stride" { 3 } else { 4 } {
            return self.error(format!("a tensor map has no {name} {ordinal}"));
        }
        // Those that say how bytes are arranged are constants.
        let arranged = |decoder: &Self, what: &str, known: u32| match decoder.constant(ops, 1)? {
            value if value < known => Ok(value),
            value => decoder.error(format!("{what} {value} is not emulated")),
        };
        let (field, constant) = match name {
            "global_address" => (MapField::GlobalAddress, None),
            "rank" => (MapField::Rank, None),
            "box_dim" => (MapField::BoxDim(ordinal), None),
            "global_dim" => (MapField::GlobalDim(ordinal), None),
            "global_stride" => (MapField::GlobalStride(ordinal), None),
            "element_stride" => (MapField::ElementStride(ordinal), None),
            "elemtype" => match element_code(self.constant(ops, 1)?) {
                Some(code) => (MapField::ElementType, Some(code)),
                None => return self.error("element types that change values on the way, or are packed, are not emulated"),
            },
            "interleave_layout" => (MapField::Interleave, Some(arranged(self, "interleave layout", 3)?)),
            "swizzle_mode" => (MapField::Swizzle, Some(arranged(self, "swizzle mode", 4)?)),
            _ => (MapField::Fill, Some(arranged(self, "fill mode", 2)?)),
        };
        let last = &ops[ops.len() - 1];
        let value = match constant {
            Some(bits) => Reg::R(self.imm32(bits)),
            None if wide => Reg::D(self.src64(last)?),
            None => Reg::R(self.src32(last, Ty::B(32))?),
        };
        Ok(Op::MapReplace(Box::new(MapReplace { space, addr: self.addr(&ops[0])?, field, value })))
    }

    fn copy_map(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let spelt = ["cp_fenceproxy", "global", "shared::cta", "tensormap::generic"];
        if !spelt.into_iter().all(|part| m.take(part)) {
            return self.unknown();
        }
        let (Some(Order::Release), Some(scope)) = take_order(m) else { return self.unknown() };
        if !(m.take("sync") && m.take("aligned")) {
            return self.unknown();
        }
        self.expect_operands(ops, 3)?;
        if self.constant(ops, 2)? != 128 {
            return self.error("copies 128 bytes, no other size");
        }
        Ok(Op::MapCopy(Box::new(MapCopy { dst: self.addr(&ops[0])?, src: self.addr(&ops[1])?, scope })))
    }
}
