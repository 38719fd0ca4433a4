//! What threads and warps tell each other: atomic operations on global memory, votes, prefix sums.

use super::{Expander, Low};
use crate::attr::Attrs;
use crate::dtype::DType;
use crate::lane::{self, Op as L, Ty};
use crate::layout::Dim;
use crate::passes::PassError;
use crate::tile::{Op, OpKind};
use rustc_hash::FxHashSet;

/// Lanes of a warp, as the layouts count them.
const LANES: u32 = 32;

impl Expander<'_> {
    pub(super) fn atomic_op(&mut self, op: &Op) -> Result<(), PassError> {
        if op.kind == OpKind::AddRows {
            return self.add_rows(op);
        }
        let (tiles, at) = self.tiles_and_coordinates(op);
        let (tiles, at) = (tiles.to_vec(), at.to_vec());
        let (view, base) = self.element_base(op, &at);
        let t = self.reg_tile(tiles[0]);
        let count = t.layout.in_size(Dim::Reg) as usize;
        let places: FxHashSet<[u32; 2]> = (0..count).map(|i| self.reg_coords(&t.layout, i)).collect();
        if places.len() != count || self.sole_holder(&t.layout).is_some() {
            return self.unsupported(format!("threads share elements of {}: each would do its atomic operation", t.layout));
        }
        let values = if op.kind == OpKind::Atomic { 1 } else { 2 };
        let index = self.regs(tiles[0]);
        let operands: Vec<Vec<lane::Value>> = tiles[1..=values].iter().map(|v| self.regs(*v)).collect();
        let mask = tiles.get(values + 1).map(|m| self.regs(*m));
        let mut old = Vec::with_capacity(index.len());
        for (i, index) in index.into_iter().enumerate() {
            let ptr = self.indexed(&view, base, index);
            let ok = mask.as_ref().map_or_else(|| self.b.constant(Ty::I1, 1), |m| m[i]);
            old.push(if op.kind == OpKind::Atomic {
                let attrs = Attrs::none().sym("f", op.attrs.get_sym("f"));
                let ty = self.b.func.ty(operands[0][i]);
                self.b.inst(L::Atom, &[ok, ptr, operands[0][i]], &[ty], attrs)[0]
            } else {
                self.b.op(L::AtomCas, &[ok, ptr, operands[0][i], operands[1][i]])
            });
        }
        self.env.insert(op.outs[0], Low::Regs(old));
        Ok(())
    }

    /// Vectors of floats where the target adds several at once, else one by one.
    fn add_rows(&mut self, op: &Op) -> Result<(), PassError> {
        let t = self.reg_tile(op.args[0]);
        let regs = self.regs(op.args[0]);
        let (rows, col) = (op.args[1], self.scalar(op.args[2]));
        if self.sole_holder(&t.layout).is_some() {
            return self.unsupported(format!("threads share elements of {}: each would add them", t.layout));
        }
        let wide = self.k.arch.sm() >= 90;
        self.each_row_vector(op, &t, rows, col, &mut |x, view, a| {
            let at_once = if wide { a.vec } else { 1 };
            for i in (0..a.vec).step_by(at_once) {
                let ptr = x.b.ptr_offset(a.ptr, (i as u32 * view.bytes).into());
                let mut args = vec![a.ok, ptr];
                args.extend(&regs[a.reg + i..a.reg + i + at_once]);
                x.b.effect(if at_once == 1 { L::RedAdd } else { L::RedAddVec }, &args, Attrs::none());
            }
        })
    }

    /// A number for control flow, the same in all lanes.
    pub(super) fn warp_scalar(&mut self, op: &Op) -> Result<(), PassError> {
        let regs = self.regs(op.args[0]);
        let v = if op.kind == OpKind::Any {
            let any = self.any_lane(&regs);
            self.b.cast(L::ZExt, any, Ty::I32)
        } else if self.reg_tile(op.args[0]).dtype == DType::F32 {
            let bits = self.b.cast(L::Bitcast, regs[0], Ty::I32);
            let bits = self.uniform(bits);
            self.b.cast(L::Bitcast, bits, Ty::F32)
        } else {
            self.uniform(regs[0])
        };
        self.env.insert(op.outs[0], Low::Scalar(v));
        Ok(())
    }

    /// True in all lanes if one of the predicates holds in one of them.
    pub(super) fn any_lane(&mut self, regs: &[lane::Value]) -> lane::Value {
        let mut some = regs[0];
        for v in &regs[1..] {
            some = self.b.op(L::Or, &[some, *v]);
        }
        self.b.op(L::VoteAny, &[some])
    }

    /// Each thread's run first, then the sums of runs over the lanes (Hillis and Steele).
    pub(super) fn scan(&mut self, op: &Op) -> Result<Vec<lane::Value>, PassError> {
        let t = self.reg_tile(op.args[0]);
        let count = t.layout.in_size(Dim::Reg);
        let runs = (0..LANES).all(|l| (0..count).all(|r| t.layout.apply(&[r, l, 0])[..2] == [0, l * count + r]));
        if t.layout.in_size(Dim::Warp) != 1 || !runs {
            return self.unsupported(format!("a scan of {}: one warp holds the row, each lane a run of it", t.layout));
        }
        let mut sums = self.regs(op.args[0]);
        for i in 1..sums.len() {
            sums[i] = self.b.op(L::IAdd, &[sums[i - 1], sums[i]]);
        }
        let own = sums[sums.len() - 1];
        let mut upto = own;
        for step in [1, 2, 4, 8, 16] {
            let distance = self.b.i32(step);
            let other = self.b.op(L::ShflUp, &[upto, distance]);
            let there = self.b.icmp("sge", self.at.lane, distance);
            let zero = self.b.i32(0);
            let other = self.b.inst(L::Select, &[there, other, zero], &[Ty::I32], Attrs::none())[0];
            upto = self.b.op(L::IAdd, &[upto, other]);
        }
        let before = self.b.op(L::ISub, &[upto, own]);
        Ok(sums.into_iter().map(|s| self.b.op(L::IAdd, &[before, s])).collect())
    }
}
