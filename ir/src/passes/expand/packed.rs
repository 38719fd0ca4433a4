//! Elements that share registers: arithmetic on pairs of 16-bit floats, repetition of them, and the same bits as
//! something else.

use super::control::{packing, reg_count, reg_ty};
use super::{Expander, Low};
use crate::arch::Arch;
use crate::attr::Attrs;
use crate::dtype::DType;
use crate::lane::{self, Op as L};
use crate::layout::Dim;
use crate::passes::PassError;
use crate::tile::{Op, OpKind, RegTile};
use rustc_hash::FxHashMap;

impl Expander<'_> {
    pub(super) fn bits_op(&mut self, op: &Op) -> Result<(), PassError> {
        let regs = match op.kind {
            OpKind::Transpose => self.regs(op.args[0]),
            OpKind::Reinterpret => {
                let parts: Vec<_> = op.args.iter().map(|a| self.regs(*a)).collect();
                let turns: Vec<lane::Value> = (0..parts[0].len()).flat_map(|i| parts.iter().map(move |p| p[i])).collect();
                let to = reg_ty(self.reg_tile(op.outs[0]).dtype);
                let as_it_is = |x: &mut Self, v| if x.b.func.ty(v) == to { v } else { x.b.cast(L::Bitcast, v, to) };
                turns.into_iter().map(|v| as_it_is(self, v)).collect()
            }
            OpKind::Bitwise => {
                let [a, b, c] = [0, 1, 2].map(|i| self.regs(op.args[i]));
                let each = a.into_iter().zip(b).zip(c);
                each.map(|((a, b), c)| self.b.inst(L::Lop3, &[a, b, c], &[lane::Ty::I32], op.attrs.clone())[0]).collect()
            }
            _ => {
                let (a, b) = (self.regs(op.args[0]), self.regs(op.args[1]));
                let selector = op.attrs.get_int("selector");
                a.into_iter().zip(b).map(|(a, b)| self.prmt(a, b, selector)).collect()
            }
        };
        self.env.insert(op.outs[0], Low::Regs(regs));
        Ok(())
    }

    fn prmt(&mut self, a: lane::Value, b: lane::Value, selector: i64) -> lane::Value {
        self.b.inst(L::Prmt, &[a, b], &[lane::Ty::I32], Attrs::none().int("selector", selector))[0]
    }

    /// Four 8-bit floats a register; a last register may hold fewer.
    pub(super) fn pack_fp8(&mut self, regs: &[lane::Value], to: DType) -> Vec<lane::Value> {
        let kind = if to == DType::E4M3 { L::PackE4M3 } else { L::PackE5M2 };
        let pairs: Vec<lane::Value> = regs
            .chunks(2)
            .map(|p| {
                let pair = self.b.op(kind, &[p[0], *p.last().expect("a chunk is not empty")]);
                self.b.cast(L::ZExt, pair, lane::Ty::I32)
            })
            .collect();
        pairs.chunks(2).map(|p| if p.len() == 2 { self.prmt(p[0], p[1], 0x5410) } else { p[0] }).collect()
    }

    /// The inverse of [`Self::pack_fp8`], exact: `count` elements.
    pub(super) fn unpack_fp8(&mut self, regs: &[lane::Value], from: DType, count: usize) -> Vec<lane::Value> {
        let kind = if from == DType::E4M3 { L::UnpackE4M3 } else { L::UnpackE5M2 };
        let mut out = Vec::with_capacity(count);
        for pair in 0..count.div_ceil(2) {
            let word = self.b.imm(L::LShr, regs[pair / 2], 16 * (pair % 2) as i64);
            let word = self.b.cast(L::Trunc, word, lane::Ty::I16);
            let halves = self.b.op(kind, &[word]);
            let high = self.b.imm(L::LShr, halves, 16);
            for v in [halves, high] {
                let half = self.b.cast(L::Trunc, v, lane::Ty::I16);
                let half = self.b.cast(L::Bitcast, half, lane::Ty::F16);
                out.push(self.b.cast(L::FPExt, half, lane::Ty::F32));
            }
        }
        out.truncate(count);
        out
    }

    /// The low bytes of 32-bit numbers, four a register; a last register may hold fewer.
    pub(super) fn pack_bytes(&mut self, regs: &[lane::Value]) -> Vec<lane::Value> {
        regs.chunks(4)
            .map(|p| match p {
                [a, b, c, d] => {
                    let (low, high) = (self.prmt(*a, *b, 0x0040), self.prmt(*c, *d, 0x0040));
                    self.prmt(low, high, 0x5410)
                }
                [a, b, ..] => self.prmt(*a, *b, 0x0040),
                _ => p[0],
            })
            .collect()
    }

    /// Sign-extended bytes: `count` of them.
    pub(super) fn unpack_bytes(&mut self, regs: &[lane::Value], count: usize) -> Vec<lane::Value> {
        (0..count)
            .map(|i| {
                let up = self.b.imm(L::Shl, regs[i / 4], 24 - 8 * (i % 4) as i64);
                self.b.imm(L::AShr, up, 24)
            })
            .collect()
    }

    /// `f` of pairs of 16-bit floats. Before sm_90 bf16 has only the fused form, which rounds the same.
    pub(super) fn pairs(&mut self, f: &str, dtype: DType, a: lane::Value, b: lane::Value) -> Option<lane::Value> {
        let kind = match f {
            "add" => L::AddX2,
            "sub" => L::SubX2,
            "mul" => L::MulX2,
            _ => return None,
        };
        if dtype == DType::F16 || self.k.arch >= Arch::Sm90a {
            return Some(self.b.inst(kind, &[a, b], &[lane::Ty::I32], named(dtype))[0]);
        }
        let both = |x: &mut Self, bits: i64| x.b.i32((bits << 16 | bits) as u32 as i32 as i64);
        let (one, minus_one, minus_zero) = (0x3F80, 0xBF80, 0x8000);
        Some(match kind {
            L::AddX2 => {
                let c = both(self, one);
                self.fma_pairs(dtype, [a, c, b])
            }
            L::SubX2 => {
                let c = both(self, minus_one);
                self.fma_pairs(dtype, [b, c, a])
            }
            _ => {
                let c = both(self, minus_zero);
                self.fma_pairs(dtype, [a, b, c])
            }
        })
    }

    pub(super) fn fma_pairs(&mut self, dtype: DType, args: [lane::Value; 3]) -> lane::Value {
        self.b.inst(L::FmaX2, &args, &[lane::Ty::I32], named(dtype))[0]
    }

    /// A number in both halves of a register.
    pub(super) fn pair_of(&mut self, v: lane::Value, dtype: DType) -> lane::Value {
        self.b.op(if dtype == DType::BF16 { L::PackBF16 } else { L::PackF16 }, &[v, v])
    }

    /// Repeats 16-bit elements: each register of the result takes its two elements from wherever the thread holds them.
    pub(super) fn broadcast_pairs(
        &mut self,
        from: &RegTile,
        to: &RegTile,
        source: impl Fn([u32; 2]) -> [u32; 2],
        regs: &[lane::Value],
    ) -> Result<Vec<lane::Value>, PassError> {
        let index: FxHashMap<[u32; 2], usize> =
            (0..from.layout.in_size(Dim::Reg) as usize).map(|r| (self.reg_coords(&from.layout, r), r)).collect();
        let mut known: FxHashMap<[usize; 2], lane::Value> = FxHashMap::default();
        let mut out = Vec::with_capacity(reg_count(to));
        for r in (0..to.layout.in_size(Dim::Reg) as usize).step_by(packing(to.dtype)) {
            let halves = [r, r + 1].map(|r| index.get(&source(self.reg_coords(&to.layout, r))).copied());
            let [Some(lo), Some(hi)] = halves else {
                return self.unsupported(format!("an element of {} is in another thread of {}", to.layout, from.layout));
            };
            let v = match known.get(&[lo, hi]) {
                Some(v) => *v,
                None if hi == lo + 1 && lo % 2 == 0 => regs[lo / 2],
                None => {
                    let (low, high) = ([0x10, 0x32][lo % 2], [0x54, 0x76][hi % 2]);
                    self.prmt(regs[lo / 2], regs[hi / 2], high << 8 | low)
                }
            };
            known.insert([lo, hi], v);
            out.push(v);
        }
        Ok(out)
    }
}

fn named(dtype: DType) -> Attrs {
    Attrs::none().sym("dtype", dtype.name())
}
