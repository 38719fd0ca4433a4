//! Two-level accumulation: the tensor cores sum one stage, the sums of stages are added in f32, times the factors of their
//! block where the class has some.
//!
//! The warpgroup waits for its own products before it adds them; meanwhile the other warpgroups' run. The factors of the next
//! stage are loaded before that wait.

use super::work::{Ctx, Work};
use crate::gemm::config::Schedule;
use crate::gemm::scale::BlockAt;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, wgmma_acc};
use tilewright_ir::tile::{Cell, RegTile, RoleBuilder, Scalar};

impl Ctx<'_> {
    /// Multiplies all k tiles; a stage is free again as soon as its products are there.
    pub(super) fn promoted_loop(&self, r: &mut RoleBuilder, w: &Work, wg: Scalar) -> Result<Vec<Cell>, LayoutError> {
        let gates = self.p.gates();
        let (rows, cols) = (self.c.warpgroup_rows(), self.c.bn / gates);
        let from = if self.c.schedule == Schedule::PingPong { r.int(0) } else { r.mul(wg, rows) };
        let mut first_cols = vec![w.col];
        if gates == 2 {
            let n = r.param("n");
            first_cols.push(r.add(w.col, n));
        }
        let at = BlockAt { a: w.a, b: w.b, row: r.add(w.row, from), cols: first_cols, shape: [rows, cols] };
        let zero = r.float(0.0);
        let like = RegTile { dtype: DType::F32, shape: [rows, cols], layout: wgmma_acc(rows, cols, 1)? };
        let zero = r.splat(zero, like);
        let totals: Vec<Cell> = (0..gates).map(|_| r.tile_cell(zero)).collect();
        let acc: Result<Vec<Cell>, LayoutError> = (0..gates).map(|_| r.wgmma_acc_for(self.p.input, [rows, cols])).collect();
        let acc = acc?;
        let factors = self.blocks.first(r, &at, w.k[0])?;
        let mut result = Ok(());
        r.for_range(w.k[0], w.k[1], 1, |r, kt| {
            let s = r.wait(&self.ring);
            let a = r.slot(&self.ring, s, 0);
            let a = r.rows(a, from, rows);
            let anew = r.bool(true);
            for (gate, acc) in acc.iter().enumerate() {
                let b = r.slot(&self.ring, s, 1 + gate);
                r.mma_async(*acc, a, b, anew, false);
            }
            let next = r.add(kt, 1);
            let fetched = match self.blocks.fetch(r, &at, next) {
                Ok(fetched) => fetched,
                Err(e) => {
                    result = Err(e);
                    return;
                }
            };
            for acc in &acc {
                r.mma_wait(*acc, 0);
            }
            r.release(&self.ring);
            for (gate, (acc, total)) in acc.iter().zip(&totals).enumerate() {
                let (sums, before) = (r.get_tile(*acc), r.get_tile(*total));
                let after = self.blocks.add(r, &factors, &at, gate, sums, before);
                r.set_tile(*total, after);
            }
            factors.set(r, &fetched);
        });
        result.map(|()| totals)
    }
}
