//! Register tiles from elements in a row: records that lie in memory as threads want them. Nothing is guarded, so that a
//! load is one instruction and several are under way at once.

use super::control::{packing, reg_ty};
use super::{Expander, Low};
use crate::attr::Attrs;
use crate::lane::{self, Op as L};
use crate::layout::Dim;
use crate::passes::PassError;
use crate::tile::Op;
use rustc_hash::FxHashMap;

impl Expander<'_> {
    pub(super) fn load_run(&mut self, op: &Op) -> Result<(), PassError> {
        let t = self.reg_tile(op.outs[0]);
        let (view, base) = self.element_base(op, &op.args);
        let (pitch, bytes) = (t.shape[1], t.dtype.bytes());
        // Rows follow each other: a vector is aligned where a row's length is a multiple of it.
        let aligned = 1 << pitch.trailing_zeros().min(4);
        let vec = t.layout.contiguous_run(Dim::Reg, Dim::Col).min(16 / bytes).min(aligned) as usize;
        let (pack, ty) = (packing(t.dtype), reg_ty(t.dtype));
        if vec < pack {
            return self.unsupported(format!("{} elements of {} that are no neighbours in a row", t.dtype, t.layout));
        }
        let [row, col] = self.thread_coords(&t.layout)?;
        let start = self.b.imm(L::IMul, row, i64::from(pitch));
        let start = self.b.op(L::IAdd, &[start, col]);
        let start = self.b.cast(L::ZExt, start, lane::Ty::I64);
        let start = self.b.imm(L::IMul, start, i64::from(bytes));
        let base = self.b.op(L::PtrAdd, &[base, start]);
        let first = op.attrs.get_int("offset") as u32;
        let attrs = || Attrs::none().int("align", vec as i64 * i64::from(bytes)).int("readonly", 0);
        let mut seen: FxHashMap<u32, Vec<lane::Value>> = FxHashMap::default();
        let mut regs = Vec::new();
        for r in (0..t.layout.in_size(Dim::Reg) as usize).step_by(vec) {
            let [row, col] = self.reg_coords(&t.layout, r);
            let at = first + row * pitch + col;
            let outs = match seen.get(&at) {
                Some(outs) => outs.clone(),
                None => {
                    let ptr = self.b.ptr_offset(base, i64::from(at * bytes));
                    let types = vec![ty; vec / pack];
                    if view.written {
                        self.b.inst(L::Load, &[ptr], &types, attrs()).to_vec()
                    } else {
                        self.b.inst(L::LoadOnce, &[ptr], &types, Attrs::none()).to_vec()
                    }
                }
            };
            regs.extend(&outs);
            seen.insert(at, outs);
        }
        self.env.insert(op.outs[0], Low::Regs(regs));
        Ok(())
    }
}
