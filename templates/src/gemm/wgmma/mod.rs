//! The Hopper kernel: a producer warp fills a ring of stages by TMA, one to three warpgroups multiply with wgmma.
//!
//! Cooperative: the warpgroups split the rows of one tile. Ping-pong: they take turns at tiles, and one's epilogue runs
//! under the other's main loop (CUTLASS, "efficient_gemm" notes). Persistent: as many CTAs as fit, each walks tiles.

mod promote;
mod work;

use super::config::{Schedule, WgmmaConfig};
use super::epilogue::{EpilogueAt, EpilogueFn};
use super::grouped::store_some_rows;
use super::leave::Leave;
use super::problem::{BLayout, GemmProblem};
use super::quant::quantise;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{Cell, CmpPred, KernelBuilder, RoleBuilder, Scalar, TensorRef, TileRef, Unit};
use work::{Ctx, Work};

/// Records the kernel. `epilogue` turns accumulators into the output; partial sums of a split k skip it.
pub fn wgmma(k: &mut KernelBuilder, p: &GemmProblem, c: &WgmmaConfig, epilogue: &EpilogueFn) -> Result<(), LayoutError> {
    let x = Ctx::declare(k, p, c);
    let (producer_regs, math_regs) = c.registers();
    k.role("load", 4, Some(producer_regs), Unit::Thread, |r| x.load(r));
    let mut result = Ok(());
    k.role("math", 4 * c.math_wgs, Some(math_regs), Unit::Warpgroup, |r| result = x.math(r, epilogue));
    result
}

impl Ctx<'_> {
    fn load(&self, r: &mut RoleBuilder) {
        let (first, end, step, raster) = self.walk(r);
        r.for_range(first, end, step, |r, t| {
            let w = self.work(r, &raster, t);
            r.for_range(w.k[0], w.k[1], 1, |r, kt| {
                let at = r.mul(kt, self.c.bk);
                let s = r.acquire(&self.ring);
                r.tma_load(&self.a, &[w.a, w.row, at], &self.ring, s, 0);
                for gate in 0..self.p.gates() {
                    let n = r.param("n");
                    let col = if gate == 0 { w.col } else { r.add(w.col, n) };
                    let coords = if self.p.b == BLayout::Nk { [w.b, col, at] } else { [w.b, at, col] };
                    r.tma_load(&self.b, &coords, &self.ring, s, 1 + gate as usize);
                }
                r.commit(&self.ring, s);
            });
        });
    }

    fn math(&self, r: &mut RoleBuilder, epilogue: &EpilogueFn) -> Result<(), LayoutError> {
        let ping_pong = self.c.schedule == Schedule::PingPong;
        let (first, end, step, raster) = self.walk(r);
        let wg = r.wg_index();
        let mut result = Ok(());
        if ping_pong {
            // Tiles alternate between the two warpgroups, so do uses of the ring: skip the other's.
            let k = r.param("k");
            let trips = r.ceil_div(k, self.c.bk);
            let before = r.mul(wg, trips);
            r.skip(&self.ring, before);
            let (second, some) = (r.cmp(CmpPred::Eq, wg, 1), r.cmp(CmpPred::Lt, first, end));
            r.if_then(second, |r| r.if_then(some, |r| r.barrier_arrive(0, 256)));
            let offset = r.mul(wg, step);
            let mine = r.add(first, offset);
            let stride = r.mul(step, 2);
            r.for_range(mine, end, stride, |r, t| {
                let w = self.work(r, &raster, t);
                let trips = r.sub(w.k[1], w.k[0]);
                r.barrier_sync(wg, 256);
                let acc = self.main_loop(r, &w, wg);
                // Its turn comes only if it has a tile left: an arrival nobody waits for would stay behind.
                let next = r.add(t, step);
                let more = r.cmp(CmpPred::Lt, next, end);
                let other = r.sub(1, wg);
                r.if_then(more, |r| r.barrier_arrive(other, 256));
                r.skip(&self.ring, trips);
                result = acc.and_then(|acc| self.finish(r, &w, &acc, wg, epilogue));
            });
        } else {
            r.for_range(first, end, step, |r, t| {
                let w = self.work(r, &raster, t);
                result = self.main_loop(r, &w, wg).and_then(|acc| self.finish(r, &w, &acc, wg, epilogue));
            });
        }
        if self.staging.is_some() {
            r.tma_store_wait(0);
        }
        result
    }

    /// Multiplies all k tiles; one stage stays in flight while the next is waited for.
    fn main_loop(&self, r: &mut RoleBuilder, w: &Work, wg: Scalar) -> Result<Vec<Cell>, LayoutError> {
        if self.c.promote {
            return self.promoted_loop(r, w, wg);
        }
        let gates = self.p.gates();
        let rows = self.c.warpgroup_rows();
        let acc: Result<Vec<Cell>, LayoutError> =
            (0..gates).map(|_| r.wgmma_acc_for(self.p.input, [rows, self.c.bn / gates])).collect();
        let acc = acc?;
        r.for_range(w.k[0], w.k[1], 1, |r, kt| {
            let s = r.wait(&self.ring);
            let a = r.slot(&self.ring, s, 0);
            let from = if self.c.schedule == Schedule::PingPong { r.int(0) } else { r.mul(wg, rows) };
            let a = r.rows(a, from, rows);
            let first = r.cmp(CmpPred::Eq, kt, w.k[0]);
            for (gate, acc) in acc.iter().enumerate() {
                let b = r.slot(&self.ring, s, 1 + gate);
                r.mma_async(*acc, a, b, first, self.p.b == BLayout::Kn);
            }
            r.mma_wait(acc[0], i64::from(gates));
            let later = r.cmp(CmpPred::Gt, kt, w.k[0]);
            r.release_if(&self.ring, later);
        });
        for a in &acc {
            r.mma_wait(*a, 0);
        }
        let some = r.cmp(CmpPred::Gt, w.k[1], w.k[0]);
        r.release_if(&self.ring, some);
        Ok(acc)
    }

    /// Epilogue and store, 64 rows and one chunk of columns at a time.
    fn finish(&self, r: &mut RoleBuilder, w: &Work, acc: &[Cell], wg: Scalar, epilogue: &EpilogueFn) -> Result<(), LayoutError> {
        let rows = self.c.warpgroup_rows();
        let chunk = self.c.chunk(self.p);
        let offset = if self.c.schedule == Schedule::PingPong { r.int(0) } else { r.mul(wg, rows) };
        let first_row = r.add(w.row, offset);
        let tiles: Vec<_> = acc.iter().map(|a| r.get_tile(*a)).collect();
        if let Some(scale) = &self.d_scale {
            return self.finish_quantised(r, w, &tiles, offset, scale, epilogue);
        }
        // Two buffers a warpgroup: one is written while the other is stored. The order starts anew with each tile, and where
        // rows may be left out with each 64 of them, so an odd number of chunks would meet its own last store.
        let blocks = if w.rows.is_some() { 1 } else { rows / 64 };
        let chunks = blocks * (self.c.bn / self.p.gates() / chunk);
        let in_flight = i64::from(chunks.is_multiple_of(2));
        let (groups, staging) = (self.p.groups, self.staging.as_ref());
        let out = Leave { groups, d: &self.d, staging, wg, rows: 64, vec: self.c.n_align, in_flight };
        let mut copy = 0;
        for row in (0..rows).step_by(64) {
            for col in (0..self.c.bn / self.p.gates()).step_by(chunk as usize) {
                let parts: Result<Vec<_>, _> = tiles.iter().map(|t| r.slice(*t, [row, col], [64, chunk])).collect();
                let at = EpilogueAt { batch: w.matrix, weight: w.b, row: r.add(first_row, row), col: r.add(w.col, col) };
                let y = if self.c.split { parts?[0] } else { epilogue(r, &parts?, at) };
                let left = w.rows.map(|rows| {
                    let before = r.add(offset, row);
                    r.sub(rows, before)
                });
                let y = r.cast(y, if self.c.split { self.p.sums() } else { self.p.output });
                out.store(r, y, at, left, copy);
                copy = 1 - copy;
            }
        }
        Ok(())
    }

    /// Epilogue of all columns of 64 rows, then their factors, then the codes, chunk by chunk: each holds fewer registers than the
    /// sums it came from.
    fn finish_quantised(
        &self,
        r: &mut RoleBuilder,
        w: &Work,
        tiles: &[TileRef],
        offset: Scalar,
        scale: &TensorRef,
        epilogue: &EpilogueFn,
    ) -> Result<(), LayoutError> {
        let first_row = r.add(w.row, offset);
        let chunk = self.c.chunk(self.p);
        for row in (0..self.c.warpgroup_rows()).step_by(64) {
            let (mut parts, mut places) = (Vec::new(), Vec::new());
            for col in (0..self.c.bn / self.p.gates()).step_by(chunk as usize) {
                let sums: Result<Vec<_>, _> = tiles.iter().map(|t| r.slice(*t, [row, col], [64, chunk])).collect();
                let at = EpilogueAt { batch: w.matrix, weight: w.b, row: r.add(first_row, row), col: r.add(w.col, col) };
                parts.push(epilogue(r, &sums?, at));
                places.push(at);
            }
            let left = w.rows.map(|rows| {
                let before = r.add(offset, row);
                r.sub(rows, before)
            });
            let codes = quantise(r, self.p, scale, &parts, places[0], left);
            for (codes, at) in codes.into_iter().zip(places) {
                match left {
                    None => r.store_tile(&self.d, codes, &[at.batch, at.row, at.col], self.c.n_align),
                    Some(left) => store_some_rows(r, self.p.groups, &self.d, codes, at, left, self.c.n_align),
                }
            }
        }
        Ok(())
    }
}
