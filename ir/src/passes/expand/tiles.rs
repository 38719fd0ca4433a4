//! Element-wise arithmetic on register tiles.

use super::control::{packing, reg_count};
use super::{Expander, Low};
use crate::dtype::DType;
use crate::lane::{self, Op as L, Ty};
use crate::layout::Dim;
use crate::passes::PassError;
use crate::tile::{Op, OpKind};
use rustc_hash::FxHashMap;

impl Expander<'_> {
    pub(super) fn tile_op(&mut self, op: &Op) -> Result<(), PassError> {
        let out = op.outs[0];
        let regs = match op.kind {
            OpKind::Splat => {
                let v = self.scalar(op.args[0]);
                vec![v; reg_count(&self.reg_tile(out))]
            }
            OpKind::Unary => {
                let kind = match op.attrs.get_sym("f") {
                    "neg" => L::FNeg,
                    "exp2" => L::Ex2,
                    "rcp" => L::Rcp,
                    other => return self.unsupported(format!("unary function `{other}`: neg, exp2 or rcp")),
                };
                self.need_f32(op)?;
                self.regs(op.args[0]).into_iter().map(|v| self.b.op(kind, &[v])).collect()
            }
            OpKind::Binary => {
                let kind = match op.attrs.get_sym("f") {
                    "add" => L::FAdd,
                    "sub" => L::FSub,
                    "mul" => L::FMul,
                    "min" => L::FMin,
                    "max" => L::FMax,
                    other => return self.unsupported(format!("binary function `{other}`: add, sub, mul, min or max")),
                };
                self.need_f32(op)?;
                let (a, b) = (self.regs(op.args[0]), self.regs(op.args[1]));
                a.into_iter().zip(b).map(|(a, b)| self.b.op(kind, &[a, b])).collect()
            }
            OpKind::Cast => self.cast_tile(op)?,
            _ => self.slice_tile(op)?,
        };
        self.env.insert(out, Low::Regs(regs));
        Ok(())
    }

    fn need_f32(&self, op: &Op) -> Result<(), PassError> {
        let dtype = self.reg_tile(op.args[0]).dtype;
        if dtype == DType::F32 {
            return Ok(());
        }
        self.unsupported(format!("arithmetic on {dtype} tiles: cast to f32 first"))
    }

    fn cast_tile(&mut self, op: &Op) -> Result<Vec<lane::Value>, PassError> {
        let (from, to) = (self.reg_tile(op.args[0]).dtype, self.reg_tile(op.outs[0]).dtype);
        let regs = self.regs(op.args[0]);
        match (from, to) {
            (DType::F32, DType::BF16 | DType::F16) => {
                let kind = if to == DType::BF16 { L::PackBF16 } else { L::PackF16 };
                Ok(regs.chunks(2).map(|p| self.b.op(kind, &[p[0], p[1]])).collect())
            }
            (DType::BF16, DType::F32) => Ok(regs
                .into_iter()
                .flat_map(|w| {
                    // A bfloat16 is the upper half of a binary32.
                    let lo = self.b.imm(L::Shl, w, 16);
                    let hi = self.b.imm(L::And, w, 0xFFFF_0000u32 as i32 as i64);
                    [lo, hi].map(|v| self.b.cast(L::Bitcast, v, Ty::F32))
                })
                .collect()),
            (DType::F16, DType::F32) => Ok(regs
                .into_iter()
                .flat_map(|w| {
                    let hi = self.b.imm(L::LShr, w, 16);
                    [w, hi].map(|v| {
                        let half = self.b.cast(L::Trunc, v, Ty::I16);
                        let half = self.b.cast(L::Bitcast, half, Ty::F16);
                        self.b.cast(L::FPExt, half, Ty::F32)
                    })
                })
                .collect()),
            _ => self.unsupported(format!("no conversion from {from} to {to}")),
        }
    }

    /// The registers whose elements lie in the part; every thread must find them under the same numbers.
    fn slice_tile(&mut self, op: &Op) -> Result<Vec<lane::Value>, PassError> {
        let (from, to) = (self.reg_tile(op.args[0]), self.reg_tile(op.outs[0]));
        let at = [op.attrs.get_int("row") as u32, op.attrs.get_int("col") as u32];
        let regs = self.regs(op.args[0]);
        let ends = |l: &crate::layout::Layout| [Dim::Lane, Dim::Warp].map(|d| l.in_size(d));
        let threads = ends(&from.layout);
        let same_threads = threads == ends(&to.layout)
            && (0..threads[0]).all(|l| (0..threads[1]).all(|w| from.layout.apply(&[0, l, w]) == to.layout.apply(&[0, l, w])));
        if !same_threads {
            return self.unsupported(format!(
                "a part with layout {} of a tile with layout {}: threads hold other elements",
                to.layout, from.layout
            ));
        }
        let pack = packing(from.dtype);
        let index: FxHashMap<[u32; 2], usize> = (0..from.layout.in_size(Dim::Reg) as usize)
            .step_by(pack)
            .map(|r| (self.reg_coords(&from.layout, r), r / pack))
            .collect();
        let mut out = Vec::with_capacity(reg_count(&to));
        for r in (0..to.layout.in_size(Dim::Reg) as usize).step_by(pack) {
            let [row, col] = self.reg_coords(&to.layout, r);
            match index.get(&[row + at[0], col + at[1]]) {
                Some(i) => out.push(regs[*i]),
                None => {
                    return self.unsupported(format!(
                        "element ({row}, {col}) of the part is in another thread: cut at fragment borders"
                    ));
                }
            }
        }
        Ok(out)
    }
}
