//! Element-wise arithmetic on register tiles, and reductions of rows.

use super::control::{packing, reg_count};
use super::{Expander, Low};
use crate::dtype::DType;
use crate::lane::{self, Op as L, Ty};
use crate::layout::{Dim, Layout};
use crate::passes::PassError;
use crate::tile::{Op, OpKind, RegTile};
use rustc_hash::FxHashMap;

impl Expander<'_> {
    pub(super) fn tile_op(&mut self, op: &Op) -> Result<(), PassError> {
        let out = op.outs[0];
        let regs = match op.kind {
            OpKind::Splat => {
                let mut v = self.scalar(op.args[0]);
                let t = self.reg_tile(out);
                if packing(t.dtype) == 4 {
                    return self.unsupported(format!("{} everywhere: cast a tile of f32", t.dtype));
                }
                if packing(t.dtype) == 2 {
                    v = self.pair_of(v, t.dtype);
                }
                vec![v; reg_count(&t)]
            }
            OpKind::Unary => self.unary(op)?,
            OpKind::Exp2 => {
                let share = op.attrs.get_int("fma_share") as usize;
                let regs = self.regs(op.args[0]).into_iter().enumerate();
                regs.map(|(i, v)| if spread(i, share) { self.exp2_fma(v) } else { self.b.op(L::Ex2, &[v]) }).collect()
            }
            OpKind::Binary => self.binary(op)?,
            OpKind::Fma => {
                let [a, b, c] = [0, 1, 2].map(|i| self.regs(op.args[i]));
                let dtype = self.reg_tile(out).dtype;
                let each = a.into_iter().zip(b).zip(c);
                if packing(dtype) == 2 {
                    each.map(|((a, b), c)| self.fma_pairs(dtype, [a, b, c])).collect()
                } else {
                    each.map(|((a, b), c)| self.b.op(L::Fma, &[a, b, c])).collect()
                }
            }
            OpKind::CmpTile => self.compare_tiles(op),
            OpKind::Choose => self.choose(op)?,
            OpKind::Iota => self.iota(op)?,
            OpKind::Broadcast => self.broadcast(op)?,
            OpKind::Reduce => {
                let parts = self.reduce_thread(op)?;
                let layout = self.reg_tile(op.args[0]).layout;
                self.reduce_lanes(op, parts, &layout, |b| b[1] != 0)?
            }
            OpKind::ReduceThread => self.reduce_thread(op)?,
            OpKind::ReduceLanes => {
                let layout = self.reg_tile(op.args[0]).layout;
                let parts = self.regs(op.args[0]);
                self.reduce_lanes(op, parts, &layout, |b| b.iter().all(|v| *v == 0))?
            }
            OpKind::Cast => self.cast_tile(op)?,
            OpKind::Scan => self.scan(op)?,
            _ => self.slice_tile(op)?,
        };
        self.env.insert(out, Low::Regs(regs));
        Ok(())
    }

    fn unary(&mut self, op: &Op) -> Result<Vec<lane::Value>, PassError> {
        let (f, dtype) = (op.attrs.get_sym("f"), self.reg_tile(op.args[0]).dtype);
        let regs = self.regs(op.args[0]);
        let kind = match (f, dtype) {
            ("not", DType::I1) => {
                return Ok(regs
                    .into_iter()
                    .map(|v| {
                        let truth = self.b.constant(Ty::I1, 1);
                        self.b.op(L::Xor, &[v, truth])
                    })
                    .collect());
            }
            ("abs", DType::F32) => {
                return Ok(regs
                    .into_iter()
                    .map(|v| {
                        let bits = self.b.cast(L::Bitcast, v, Ty::I32);
                        let bits = self.b.imm(L::And, bits, 0x7FFF_FFFF);
                        self.b.cast(L::Bitcast, bits, Ty::F32)
                    })
                    .collect());
            }
            ("tf32", DType::F32) => {
                return Ok(regs
                    .into_iter()
                    .map(|v| {
                        let bits = self.b.op(L::RoundTF32, &[v]);
                        self.b.cast(L::Bitcast, bits, Ty::F32)
                    })
                    .collect());
            }
            ("neg", DType::F32) => L::FNeg,
            ("exp2", DType::F32) => L::Ex2,
            ("log2", DType::F32) => L::Lg2,
            ("rcp", DType::F32) => L::Rcp,
            _ => return self.unsupported(format!("unary `{f}` of {dtype}: neg, abs, exp2, log2, rcp, tf32 of f32, not of i1")),
        };
        Ok(regs.into_iter().map(|v| self.b.op(kind, &[v])).collect())
    }

    /// `2^x` without the special function unit: `x = n + f` with n the integer below, a cubic for `2^f`, n added to the
    /// exponent (Cody and Waite's reduction; FlashAttention-4 does part of its exponentials so).
    fn exp2_fma(&mut self, x: lane::Value) -> lane::Value {
        // At -127 the cubic is exactly 1 and its exponent becomes 0: what is masked weighs nothing.
        let low = self.b.f32(-127.0);
        let x = self.b.op(L::FMax, &[x, low]);
        // Adding 1.5 * 2^23 leaves the integer in the low bits.
        let magic = self.b.f32(12_582_912.0);
        let shifted = self.b.op(L::FAddDown, &[x, magic]);
        let n = self.b.op(L::FSub, &[shifted, magic]);
        let f = self.b.op(L::FSub, &[x, n]);
        let c = EXP2_CUBIC.map(|c| self.b.f32(c));
        let p = self.b.op(L::Fma, &[f, c[3], c[2]]);
        let p = self.b.op(L::Fma, &[f, p, c[1]]);
        let p = self.b.op(L::Fma, &[f, p, c[0]]);
        let bits = self.b.cast(L::Bitcast, shifted, Ty::I32);
        let exponent = self.b.imm(L::Shl, bits, 23);
        let p = self.b.cast(L::Bitcast, p, Ty::I32);
        let sum = self.b.op(L::IAdd, &[p, exponent]);
        self.b.cast(L::Bitcast, sum, Ty::F32)
    }

    fn binary(&mut self, op: &Op) -> Result<Vec<lane::Value>, PassError> {
        let (f, dtype) = (op.attrs.get_sym("f"), self.reg_tile(op.args[0]).dtype);
        let (a, b) = (self.regs(op.args[0]), self.regs(op.args[1]));
        let pairs = if packing(dtype) == 2 {
            a.iter().zip(&b).map(|(a, b)| self.pairs(f, dtype, *a, *b)).collect::<Option<Vec<_>>>()
        } else {
            None
        };
        if let Some(pairs) = pairs {
            return Ok(pairs);
        }
        if (f, dtype) == ("mulhi", DType::I32) {
            return Ok(a.into_iter().zip(b).map(|(a, b)| self.high_product(a, b)).collect());
        }
        let Some(kind) = binary_op(f, dtype) else {
            return self.unsupported(format!(
                "binary `{f}` of {dtype}: add, sub, mul of f16 and bf16; those, min, max of f32; those, mulhi, div, rem, and, or, xor, shl, shr, ushr of i32; and, or, xor of i1; cast others first"
            ));
        };
        Ok(a.into_iter().zip(b).map(|(a, b)| self.b.op(kind, &[a, b])).collect())
    }

    /// The upper half of an unsigned product: one instruction in the end.
    fn high_product(&mut self, a: lane::Value, b: lane::Value) -> lane::Value {
        let wide = [a, b].map(|v| self.b.cast(L::ZExt, v, Ty::I64));
        let product = self.b.op(L::IMul, &wide);
        let high = self.b.imm(L::LShr, product, 32);
        self.b.cast(L::Trunc, high, Ty::I32)
    }

    fn compare_tiles(&mut self, op: &Op) -> Vec<lane::Value> {
        let (a, b) = (self.regs(op.args[0]), self.regs(op.args[1]));
        let pred = op.attrs.get_sym("pred");
        if let Some((thread, consts)) = self.iotas.get(&op.args[0]).cloned() {
            // Numbers `thread + constant` are not worked out, since LLVM would hold one in a register for each column
            // around every loop: the other side gives up the thread's part instead.
            return consts
                .into_iter()
                .zip(b)
                .map(|(c, b)| {
                    // Below every number of the tile is below by 1: the difference then cannot wrap.
                    let below = self.b.i32(-1);
                    let b = self.b.op(L::SMax, &[b, below]);
                    let rest = self.b.op(L::ISub, &[b, thread]);
                    let c = self.b.i32(i64::from(c));
                    self.icmp(pred, c, rest)
                })
                .collect();
        }
        let float = self.reg_tile(op.args[0]).dtype == DType::F32;
        a.into_iter().zip(b).map(|(a, b)| if float { self.fcmp(pred, a, b) } else { self.icmp(pred, a, b) }).collect()
    }

    fn fcmp(&mut self, pred: &str, a: lane::Value, b: lane::Value) -> lane::Value {
        self.b.inst(L::FCmp, &[a, b], &[Ty::I1], crate::attr::Attrs::none().sym("pred", pred))[0]
    }

    fn choose(&mut self, op: &Op) -> Result<Vec<lane::Value>, PassError> {
        let dtype = self.reg_tile(op.args[1]).dtype;
        if packing(dtype) != 1 {
            return self.unsupported(format!("choosing between {dtype} elements, which share registers: cast to f32 first"));
        }
        let [mask, a, b] = [0, 1, 2].map(|i| self.regs(op.args[i]));
        let ty = super::control::reg_ty(dtype);
        let pick = |((m, a), b)| self.b.inst(L::Select, &[m, a, b], &[ty], crate::attr::Attrs::none())[0];
        Ok(mask.into_iter().zip(a).zip(b).map(pick).collect())
    }

    fn iota(&mut self, op: &Op) -> Result<Vec<lane::Value>, PassError> {
        let t = self.reg_tile(op.outs[0]);
        let axis = op.attrs.get_int("axis").clamp(0, 1) as usize;
        let start = self.thread_coords(&t.layout)?[axis];
        let mut known: FxHashMap<u32, lane::Value> = FxHashMap::default();
        let count = t.layout.in_size(Dim::Reg) as usize;
        let consts = (0..count).map(|r| self.reg_coords(&t.layout, r)[axis]).collect();
        self.iotas.insert(op.outs[0], (start, consts));
        Ok((0..count)
            .map(|r| {
                let at = self.reg_coords(&t.layout, r)[axis];
                *known.entry(at).or_insert_with(|| self.b.imm(L::IAdd, start, i64::from(at)))
            })
            .collect())
    }

    /// Names the vector's registers anew; a thread must hold the elements its part of the tile needs.
    fn broadcast(&mut self, op: &Op) -> Result<Vec<lane::Value>, PassError> {
        let (from, to) = (self.reg_tile(op.args[0]), self.reg_tile(op.outs[0]));
        // Columns repeat in runs: one of `[rows, 1]` is a run of all.
        let run = to.shape[1] / from.shape[1];
        let keep = |at: [u32; 2]| [if from.shape[0] == 1 { 0 } else { at[0] }, at[1] / run];
        let ends = |l: &Layout| [Dim::Lane, Dim::Warp].map(|d| l.in_size(d));
        let threads = ends(&to.layout);
        let same = |l, w| {
            let (a, b) = (from.layout.apply(&[0, l, w]), to.layout.apply(&[0, l, w]));
            [a[0], a[1]] == keep([b[0], b[1]])
        };
        if threads != ends(&from.layout) || !(0..threads[0]).all(|l| (0..threads[1]).all(|w| same(l, w))) {
            return self.unsupported(format!("threads of {} do not hold what those of {} need", from.layout, to.layout));
        }
        let regs = self.regs(op.args[0]);
        if packing(from.dtype) == 2 {
            return self.broadcast_pairs(&from, &to, keep, &regs);
        }
        let index: FxHashMap<[u32; 2], usize> = (0..regs.len()).map(|r| (self.reg_coords(&from.layout, r), r)).collect();
        if let Some((thread, consts)) = self.iotas.get(&op.args[0]).cloned() {
            let at = |r| index.get(&keep(self.reg_coords(&to.layout, r))).map(|i| consts[*i]);
            let wide: Option<Vec<u32>> = (0..to.layout.in_size(Dim::Reg) as usize).map(at).collect();
            if let Some(wide) = wide {
                self.iotas.insert(op.outs[0], (thread, wide));
            }
        }
        (0..to.layout.in_size(Dim::Reg) as usize)
            .map(|r| match index.get(&keep(self.reg_coords(&to.layout, r))) {
                Some(i) => Ok(regs[*i]),
                None => self.unsupported(format!("an element of {} is in another thread of {}", to.layout, from.layout)),
            })
            .collect()
    }

    /// Each row's registers in four chains, which are joined at the end: one chain would wait for itself.
    fn reduce_thread(&mut self, op: &Op) -> Result<Vec<lane::Value>, PassError> {
        let (t, out) = (self.reg_tile(op.args[0]), self.reg_tile(op.outs[0]));
        let kind = self.reduction(op, t.dtype)?;
        let regs = self.regs(op.args[0]);
        let mut rows: FxHashMap<u32, Vec<lane::Value>> = FxHashMap::default();
        for (r, v) in regs.iter().enumerate() {
            rows.entry(self.reg_coords(&t.layout, r)[0]).or_default().push(*v);
        }
        Ok((0..reg_count(&out))
            .map(|r| {
                let list = &rows[&self.reg_coords(&out.layout, r)[0]];
                let mut chains: Vec<lane::Value> = list.iter().take(CHAINS).copied().collect();
                for (i, v) in list.iter().enumerate().skip(CHAINS) {
                    chains[i % CHAINS] = self.b.op(kind, &[chains[i % CHAINS], *v]);
                }
                while chains.len() > 1 {
                    chains = chains.chunks(2).map(|c| if c.len() == 2 { self.b.op(kind, c) } else { c[0] }).collect();
                }
                chains[0]
            })
            .collect())
    }

    /// Butterflies over the lane bits that `joins` picks by their (row, col).
    fn reduce_lanes(
        &mut self,
        op: &Op,
        mut parts: Vec<lane::Value>,
        layout: &Layout,
        joins: impl Fn(&[u32]) -> bool,
    ) -> Result<Vec<lane::Value>, PassError> {
        let dtype = self.reg_tile(op.args[0]).dtype;
        let kind = self.reduction(op, dtype)?;
        let apart = |d: Dim| layout.outers(d).iter().map(|o| o.stride.values()).any(|s| s[1] != 0);
        if apart(Dim::Lane) || apart(Dim::Warp) || layout.bases(Dim::Warp).iter().any(|b| b.values()[1] != 0) {
            return self.unsupported(format!("rows of {layout} lie in several warps: a row is reduced inside one"));
        }
        let bits: Vec<usize> =
            layout.bases(Dim::Lane).iter().enumerate().filter(|(_, b)| joins(b.values())).map(|b| b.0).collect();
        for bit in bits {
            let other_lane = self.b.i32(1 << bit);
            for part in &mut parts {
                let bits = if dtype == DType::F32 { self.b.cast(L::Bitcast, *part, Ty::I32) } else { *part };
                let other = self.b.op(L::ShflBfly, &[bits, other_lane]);
                let other = if dtype == DType::F32 { self.b.cast(L::Bitcast, other, Ty::F32) } else { other };
                *part = self.b.op(kind, &[*part, other]);
            }
        }
        Ok(parts)
    }

    fn reduction(&self, op: &Op, dtype: DType) -> Result<L, PassError> {
        let f = op.attrs.get_sym("f");
        match binary_op(f, dtype).filter(|_| matches!(f, "add" | "min" | "max")) {
            Some(kind) => Ok(kind),
            None => self.unsupported(format!("reduction `{f}` of {dtype}: add, min, max of f32 or i32")),
        }
    }

    fn cast_tile(&mut self, op: &Op) -> Result<Vec<lane::Value>, PassError> {
        let (from, to) = (self.reg_tile(op.args[0]).dtype, self.reg_tile(op.outs[0]).dtype);
        let regs = self.regs(op.args[0]);
        let count = self.reg_tile(op.outs[0]).layout.in_size(Dim::Reg) as usize;
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
            (DType::I32, DType::F32) => Ok(regs.into_iter().map(|v| self.b.cast(L::SIToFP, v, Ty::F32)).collect()),
            (DType::F32, DType::E4M3 | DType::E5M2) => Ok(self.pack_fp8(&regs, to)),
            (DType::E4M3 | DType::E5M2, DType::F32) => Ok(self.unpack_fp8(&regs, from, count)),
            (DType::F32, DType::I8) => {
                let bytes: Vec<_> = regs.into_iter().map(|v| self.b.op(L::FPToS8, &[v])).collect();
                Ok(self.pack_bytes(&bytes))
            }
            (DType::I8, DType::F32 | DType::I32) => {
                let numbers = self.unpack_bytes(&regs, count);
                let float = |v| if to == DType::F32 { self.b.cast(L::SIToFP, v, Ty::F32) } else { v };
                Ok(numbers.into_iter().map(float).collect())
            }
            (DType::I1, DType::I32) => Ok(regs.into_iter().map(|v| self.b.cast(L::ZExt, v, Ty::I32)).collect()),
            _ => self.unsupported(format!("no conversion from {from} to {to}")),
        }
    }

    /// The registers whose elements lie in the part; every thread must find them under the same numbers.
    fn slice_tile(&mut self, op: &Op) -> Result<Vec<lane::Value>, PassError> {
        let (from, to) = (self.reg_tile(op.args[0]), self.reg_tile(op.outs[0]));
        let at = [op.attrs.get_int("row") as u32, op.attrs.get_int("col") as u32];
        let regs = self.regs(op.args[0]);
        if !same_threads(&from, &to) {
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

/// Chains a thread's reduction runs in.
const CHAINS: usize = 4;

/// `2^f` for 0 <= f < 1, from the constant up: 1 at 0 exactly, the rest fitted to the smallest relative error, 8.6e-5.
const EXP2_CUBIC: [f32; 4] = [1.0, 0.695_116_8, 0.227_644_98, 0.077_067_05];

/// True for `share` of each sixteen, evenly spread.
fn spread(i: usize, share: usize) -> bool {
    (i + 1) * share / 16 > i * share / 16
}

fn same_threads(from: &RegTile, to: &RegTile) -> bool {
    let ends = |l: &Layout| [Dim::Lane, Dim::Warp].map(|d| l.in_size(d));
    let threads = ends(&from.layout);
    threads == ends(&to.layout)
        && (0..threads[0]).all(|l| (0..threads[1]).all(|w| from.layout.apply(&[0, l, w]) == to.layout.apply(&[0, l, w])))
}

fn binary_op(f: &str, dtype: DType) -> Option<L> {
    Some(match (dtype, f) {
        (DType::F32, "add") => L::FAdd,
        (DType::F32, "sub") => L::FSub,
        (DType::F32, "mul") => L::FMul,
        (DType::F32, "min") => L::FMin,
        (DType::F32, "max") => L::FMax,
        (DType::I32, "add") => L::IAdd,
        (DType::I32, "sub") => L::ISub,
        (DType::I32, "mul") => L::IMul,
        (DType::I32, "div") => L::UDiv,
        (DType::I32, "rem") => L::URem,
        (DType::I32, "min") => L::SMin,
        (DType::I32, "max") => L::SMax,
        (DType::I32, "shl") => L::Shl,
        (DType::I32, "shr") => L::AShr,
        (DType::I32, "ushr") => L::LShr,
        (DType::I32 | DType::I1, "and") => L::And,
        (DType::I32 | DType::I1, "or") => L::Or,
        (DType::I32 | DType::I1, "xor") => L::Xor,
        _ => return None,
    })
}
