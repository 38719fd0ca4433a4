//! Ordinary loads and stores of shared tiles, views of them, and bulk copies into a stage.

use super::address::SmemAddr;
use super::control::{packing, reg_ty};
use super::{Expander, Low};
use crate::attr::Attrs;
use crate::lane::{self, Op as L};
use crate::layout::{Dim, Swizzle};
use crate::passes::PassError;
use crate::tile::{Op, OpKind, RegTile, SmemTile};
use rustc_hash::FxHashMap;

impl Expander<'_> {
    pub(super) fn shared_op(&mut self, op: &Op) -> Result<(), PassError> {
        match op.kind {
            OpKind::SmemView => {
                let (at, _) = self.smem(op.args[0]);
                let at = SmemAddr { bytes: at.bytes + op.attrs.get_int("offset") as u32, ..at };
                self.env.insert(op.outs[0], Low::Smem(at));
                Ok(())
            }
            OpKind::SmemPanels => {
                let (at, _) = self.smem(op.args[0]);
                self.env.insert(op.outs[0], Low::Smem(at));
                Ok(())
            }
            OpKind::LoadShared => self.load_shared(op),
            OpKind::StoreShared => self.store_shared(op),
            _ => {
                self.bulk_load(op);
                Ok(())
            }
        }
    }

    fn load_shared(&mut self, op: &Op) -> Result<(), PassError> {
        let (at, tile) = self.smem(op.args[0]);
        let t = self.reg_tile(op.outs[0]);
        let vec = self.shared_vector(&t, &tile)?;
        let (pack, ty) = (packing(t.dtype), reg_ty(t.dtype));
        let mut regs = Vec::new();
        // Elements that a thread holds twice are loaded once.
        let mut seen: FxHashMap<[u32; 2], Vec<lane::Value>> = FxHashMap::default();
        for (place, ptr) in self.shared_vectors(&t, &tile, at, vec)? {
            let outs = match seen.get(&place) {
                Some(outs) => outs.clone(),
                None => {
                    let attrs = Attrs::none().int("align", vec as i64 * i64::from(t.dtype.bytes())).int("readonly", 0);
                    self.b.inst(L::Load, &[ptr], &vec![ty; vec / pack], attrs).to_vec()
                }
            };
            regs.extend(&outs);
            seen.insert(place, outs);
        }
        self.env.insert(op.outs[0], Low::Regs(regs));
        Ok(())
    }

    fn store_shared(&mut self, op: &Op) -> Result<(), PassError> {
        let (at, tile) = self.smem(op.args[0]);
        let t = self.reg_tile(op.args[1]);
        let regs = self.regs(op.args[1]);
        let vec = self.shared_vector(&t, &tile)?;
        let count = vec / packing(t.dtype);
        for (i, (_, ptr)) in self.shared_vectors(&t, &tile, at, vec)?.into_iter().enumerate() {
            let mut args = vec![ptr];
            args.extend(&regs[i * count..(i + 1) * count]);
            let align = vec as i64 * i64::from(t.dtype.bytes());
            self.b.effect(L::Store, &args, Attrs::none().int("align", align));
        }
        Ok(())
    }

    /// Elements of one access: neighbours in registers and in a row, at most 16 bytes, never across a swizzled chunk.
    fn shared_vector(&self, t: &RegTile, tile: &SmemTile) -> Result<usize, PassError> {
        let row = tile.pitch_bytes() / t.dtype.bytes();
        let aligned = 1 << row.trailing_zeros().min(4);
        let vec = t.layout.contiguous_run(Dim::Reg, Dim::Col).min(16 / t.dtype.bytes()).min(aligned) as usize;
        if vec < packing(t.dtype) {
            return self.unsupported(format!("{} elements of {} that are no neighbours in a row: cast first", t.dtype, t.layout));
        }
        Ok(vec)
    }

    /// The place and address of each vector, in register order.
    fn shared_vectors(
        &mut self,
        t: &RegTile,
        tile: &SmemTile,
        at: SmemAddr,
        vec: usize,
    ) -> Result<Vec<([u32; 2], lane::Value)>, PassError> {
        let [row, col] = self.thread_coords(&t.layout)?;
        let es = t.dtype.bytes();
        let col_bytes = self.b.imm(L::IMul, col, i64::from(es));
        // Without a swizzle what a register adds is a constant.
        let plain = (tile.swizzle == Swizzle::None).then(|| self.smem_offset(tile, row, col_bytes));
        let mut list = Vec::new();
        for r in (0..t.layout.in_size(Dim::Reg) as usize).step_by(vec) {
            let place = self.reg_coords(&t.layout, r);
            let [rc, cc] = place;
            let ptr = match plain {
                Some(offset) => {
                    let to = SmemAddr { bytes: at.bytes + rc * tile.pitch_bytes() + cc * es, ..at };
                    self.smem_ptr(to, Some(offset))
                }
                None => {
                    let (row, col) =
                        (self.b.imm(L::IAdd, row, i64::from(rc)), self.b.imm(L::IAdd, col_bytes, i64::from(cc * es)));
                    let offset = self.smem_offset(tile, row, col);
                    self.smem_ptr(at, Some(offset))
                }
            };
            list.push((place, ptr));
        }
        Ok(list)
    }

    fn bulk_load(&mut self, op: &Op) {
        let (at, tile) = self.smem(op.args[0]);
        let stage = self.scalar(op.args[1]);
        let (_, src) = self.element_base(op, &op.args[2..]);
        let p = self.pipe_index(op);
        let full = self.barrier(p, "full", stage);
        let dst = self.smem_ptr(at, None);
        let dst = self.b.op(L::ToCluster, &[dst]);
        let bytes = self.b.i32(i64::from(tile.bytes()));
        self.b.effect(L::BulkLoad, &[dst, full, src, bytes], Attrs::none());
    }
}
