//! The Ampere kernel: a ring of shared-memory tiles filled by cp.async, ldmatrix, mma.sync. One tile a CTA. With
//! `load_align = 1` ordinary loads fill the ring, so any n and k work; Hopper uses it for rows TMA cannot address.

use super::config::MmaConfig;
use super::epilogue::{EpilogueAt, EpilogueFn};
use super::grouped::{TileList, store_some_rows};
use super::problem::{BLayout, GemmProblem, Groups};
use super::tiles::Raster;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{Cell, CmpPred, Dim, KernelBuilder, ProbeAxis, RoleBuilder, Scalar, Staging, TensorRef, Unit};

/// Records the kernel. `epilogue` turns accumulators into the output; partial sums of a split k skip it.
pub fn mma(k: &mut KernelBuilder, p: &GemmProblem, c: &MmaConfig, epilogue: &EpilogueFn) -> Result<(), LayoutError> {
    let x = Ctx::declare(k, p, c);
    let mut result = Ok(());
    k.role("main", c.warps_m * c.warps_n, None, Unit::Role, |r| result = x.main(r, epilogue));
    result
}

struct Ctx<'a> {
    p: &'a GemmProblem,
    c: &'a MmaConfig,
    a: TensorRef,
    b: TensorRef,
    d: TensorRef,
    ring_a: Staging,
    ring_b: Vec<Staging>,
    /// The tiles of a grouped GEMM.
    list: Option<TileList>,
}

/// Where the CTA's operands start: matrices of a and b, row and column.
struct Operands {
    a: Scalar,
    b: Scalar,
    row: Scalar,
    col: Scalar,
}

impl<'a> Ctx<'a> {
    fn declare(k: &mut KernelBuilder, p: &'a GemmProblem, c: &'a MmaConfig) -> Self {
        p.groups.declare(k);
        let (bm, bk, gates) = (c.bm, c.bk, p.gates());
        let cols = c.bn / gates;
        let n = Dim { param: Some("n".into()), factor: gates };
        let ([lead, rows], matrices) = (p.groups.rows(), p.groups.matrices());
        let a = k.tensor("a", p.input, [lead.clone(), rows.clone(), Dim::param("k")]);
        let (dims, tile) = match p.b {
            BLayout::Nk => ([matrices, n, Dim::param("k")], [cols, bk]),
            BLayout::Kn => ([matrices, Dim::param("k"), n], [bk, cols]),
        };
        let b = k.tensor("b", p.input, dims);
        let output = if c.split { p.sums() } else { p.output };
        let lead = if c.split { Dim::param("splits*batch") } else { lead };
        let d = k.tensor("d", output, [lead, rows, Dim::param("n")]);
        let list = (p.groups != Groups::Batch).then(|| TileList::walked(k, p.groups, bm));
        let ring_a = k.buffer("ring_a", p.input, [bm, bk], c.stages);
        let ring_b = (0..gates).map(|g| k.buffer(&format!("ring_b{g}"), p.input, tile, c.stages)).collect();
        let splits = if c.split { "*splits" } else { "" };
        k.grid([p.groups.grid_tiles([bm, cols]) + splits, "1".into(), "1".into()]);
        if c.split {
            k.shape("splits");
            k.require(format!("splits <= ceil_div(k,{bk})"));
        }
        if c.load_align > 1 {
            k.require(format!("k % {} == 0", c.load_align));
            if p.b == BLayout::Kn {
                k.require(format!("n % {} == 0", c.load_align));
            }
        }
        if c.n_align > 1 {
            k.require(format!("n % {} == 0", c.n_align));
        }
        k.probe("k", bk, ProbeAxis::Trips);
        Ctx { p, c, a, b, d, ring_a, ring_b, list }
    }

    fn main(&self, r: &mut RoleBuilder, epilogue: &EpilogueFn) -> Result<(), LayoutError> {
        let Some(list) = &self.list else { return self.dense(r, epilogue) };
        let cols = self.c.bn / self.p.gates();
        let rows = list.count(r);
        let raster = Raster::of_rows(r, rows, cols, self.c.raster);
        let cta = r.cta_id(0);
        // There are CTAs for as many tiles as there can be.
        let some = r.cmp(CmpPred::Lt, cta, raster.per_matrix);
        let mut result = Ok(());
        r.if_then(some, |r| {
            let at = raster.at(r, cta);
            let t = list.entry(r, self.p.groups, at.m);
            let col = r.mul(at.n, cols);
            let kdim = r.param("k");
            let (from, to) = (r.int(0), r.ceil_div(kdim, self.c.bk));
            let o = Operands { a: t.matrix, b: t.expert, row: t.row, col };
            result = self.main_loop(r, &o, from, to).map(|acc| {
                let tiles: Vec<_> = acc.iter().map(|a| r.get_tile(*a)).collect();
                let at = EpilogueAt { batch: t.matrix, weight: t.expert, row: t.row, col };
                let y = epilogue(r, &tiles, at);
                let y = r.cast(y, self.p.output);
                store_some_rows(r, self.p.groups, &self.d, y, at, t.rows, self.c.n_align);
            });
        });
        result
    }

    fn dense(&self, r: &mut RoleBuilder, epilogue: &EpilogueFn) -> Result<(), LayoutError> {
        let (c, gates) = (self.c, self.p.gates());
        let cols = c.bn / gates;
        let raster = Raster::new(r, [c.bm, cols], c.raster);
        let cta = r.cta_id(0);
        let at = raster.at(r, cta);
        let (row, col) = (r.mul(at.m, c.bm), r.mul(at.n, cols));
        let kdim = r.param("k");
        let kt = r.ceil_div(kdim, c.bk);
        let (batch, from, to) = if c.split {
            // Part s of S takes tiles s*T/S to (s+1)*T/S: never none, since S <= T.
            let (n, splits) = (r.param("batch"), r.param("splits"));
            let part = r.div(at.matrix, n);
            let next = r.add(part, 1);
            let [from, to] = [part, next].map(|s| {
                let s = r.mul(s, kt);
                r.div(s, splits)
            });
            (r.rem(at.matrix, n), from, to)
        } else {
            (at.matrix, r.int(0), kt)
        };
        let o = Operands { a: batch, b: batch, row, col };
        let acc = self.main_loop(r, &o, from, to)?;
        let tiles: Vec<_> = acc.iter().map(|a| r.get_tile(*a)).collect();
        let at = EpilogueAt { batch: at.matrix, weight: batch, row, col };
        let y = if c.split { tiles[0] } else { epilogue(r, &tiles, at) };
        let y = r.cast(y, if c.split { self.p.sums() } else { self.p.output });
        r.store_tile(&self.d, y, &[at.batch, at.row, at.col], c.n_align);
        Ok(())
    }

    /// `stages - 1` copies are under way while one stage is multiplied.
    fn main_loop(&self, r: &mut RoleBuilder, o: &Operands, from: Scalar, to: Scalar) -> Result<Vec<Cell>, LayoutError> {
        let (c, gates) = (self.c, self.p.gates());
        let grid = [c.warps_m, c.warps_n];
        let acc: Result<Vec<Cell>, LayoutError> =
            (0..gates).map(|_| r.mma_acc_for(self.p.input, [c.bm, c.bn / gates], grid)).collect();
        let acc = acc?;
        for s in 0..c.stages - 1 {
            let kt = r.add(from, s);
            let stage = r.int(i64::from(s));
            self.load(r, o, kt, stage);
        }
        let (read, write) = (r.scalar_cell(0), r.scalar_cell(c.stages - 1));
        let mut result = Ok(());
        r.for_range(from, to, 1, |r, kt| {
            r.copy_wait(i64::from(c.stages) - 2);
            r.sync();
            let ahead = r.add(kt, c.stages - 1);
            let stage = r.get(write);
            self.load(r, o, ahead, stage);
            let stage = r.get(read);
            result = self.multiply(r, stage, &acc);
            for cell in [read, write] {
                let s = r.get(cell);
                let next = r.add(s, 1);
                let wrap = r.cmp(CmpPred::Eq, next, c.stages);
                let next = r.select(wrap, 0, next);
                r.set(cell, next);
            }
        });
        r.copy_wait(0);
        result.map(|()| acc)
    }

    /// Copies k tile `kt` into a stage. Past the end of k everything is zero.
    fn load(&self, r: &mut RoleBuilder, o: &Operands, kt: Scalar, stage: Scalar) {
        let at = r.mul(kt, self.c.bk);
        let tile = r.staging(&self.ring_a, stage);
        r.copy_async(&self.a, tile, &[o.a, o.row, at], self.c.load_align);
        for (gate, ring) in self.ring_b.iter().enumerate() {
            let n = r.param("n");
            let col = if gate == 0 { o.col } else { r.add(o.col, n) };
            let tile = r.staging(ring, stage);
            let coords = if self.p.b == BLayout::Nk { [o.b, col, at] } else { [o.b, at, col] };
            r.copy_async(&self.b, tile, &coords, self.c.load_align);
        }
        r.copy_commit();
    }

    fn multiply(&self, r: &mut RoleBuilder, stage: Scalar, acc: &[Cell]) -> Result<(), LayoutError> {
        let grid = [self.c.warps_m, self.c.warps_n];
        let a_tile = r.staging(&self.ring_a, stage);
        let b_tiles: Vec<_> = self.ring_b.iter().map(|ring| r.staging(ring, stage)).collect();
        for k in 0..self.c.bk * self.p.input.bytes() / 32 {
            let a = r.load_a(a_tile, k, grid)?;
            for (b_tile, acc) in b_tiles.iter().zip(acc) {
                let b = r.load_b(*b_tile, k, grid, self.p.b == BLayout::Kn)?;
                r.mma_sync(*acc, a, b);
            }
        }
        Ok(())
    }
}
