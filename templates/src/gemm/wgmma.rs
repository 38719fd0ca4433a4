//! The Hopper kernel: a producer warp fills a ring of stages by TMA, one to three warpgroups multiply with wgmma.
//!
//! Cooperative: the warpgroups split the rows of one tile. Ping-pong: they take turns at tiles, and one's epilogue runs
//! under the other's main loop (CUTLASS, "efficient_gemm" notes). Persistent: as many CTAs as fit, each walks tiles.

use super::config::{Cluster, Schedule, WgmmaConfig};
use super::epilogue::{EpilogueAt, EpilogueFn};
use super::problem::{BLayout, GemmProblem};
use super::tiles::{Raster, TileAt};
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{Cell, CmpPred, Dim, KernelBuilder, Pipe, ProbeAxis, RoleBuilder, Scalar, Staging, TensorRef, Unit};

/// Records the kernel. `epilogue` turns accumulators into the output; partial sums of a split k skip it.
pub fn wgmma(k: &mut KernelBuilder, p: &GemmProblem, c: &WgmmaConfig, epilogue: &EpilogueFn) -> Result<(), LayoutError> {
    let x = Ctx::declare(k, p, c);
    let (producer_regs, math_regs) = c.registers();
    k.role("load", 4, Some(producer_regs), Unit::Thread, |r| x.load(r));
    let mut result = Ok(());
    k.role("math", 4 * c.math_wgs, Some(math_regs), Unit::Warpgroup, |r| result = x.math(r, epilogue));
    result
}

struct Ctx<'a> {
    p: &'a GemmProblem,
    c: &'a WgmmaConfig,
    a: TensorRef,
    b: TensorRef,
    d: TensorRef,
    ring: Pipe,
    staging: Option<Staging>,
}

/// A CTA's tile: matrix, first row and column, and its range of k tiles.
struct Work {
    matrix: Scalar,
    row: Scalar,
    col: Scalar,
    k: [Scalar; 2],
}

impl<'a> Ctx<'a> {
    fn declare(k: &mut KernelBuilder, p: &'a GemmProblem, c: &'a WgmmaConfig) -> Self {
        for name in ["m", "n", "k", "batch"] {
            k.shape(name);
        }
        let (bm, bn, bk, gates) = (c.bm, c.bn, c.bk, p.gates());
        let n = Dim { param: Some("n".into()), factor: gates };
        let a = k.tensor("a", p.input, [Dim::param("batch"), Dim::param("m"), Dim::param("k")]);
        let (dims, tile) = match p.b {
            BLayout::Nk => ([Dim::param("batch"), n, Dim::param("k")], [bn / gates, bk]),
            BLayout::Kn => ([Dim::param("batch"), Dim::param("k"), n], [bk, bn / gates]),
        };
        let b = k.tensor("b", p.input, dims);
        let output = if c.split { DType::F32 } else { p.output };
        let lead = if c.split { "splits*batch" } else { "batch" };
        let d = k.tensor("d", output, [Dim::param(lead), Dim::param("m"), Dim::param("n")]);
        let (share_a, share_b) = (c.cluster.sharing_a(), c.cluster.sharing_b());
        let mut slots = vec![(p.input, [bm, bk], share_a)];
        slots.extend((0..gates).map(|_| (p.input, tile, share_b)));
        let ring = k.pipe("ab", c.stages, &slots);
        let staging = c.tma_store(p).then(|| k.buffer("out", p.output, [64, c.chunk(p)], 2 * c.math_wgs));
        k.cluster(c.cluster.ctas());
        let [cm, cn] = c.cluster_tile(p);
        let splits = if c.split { "*splits" } else { "" };
        let (tiles, ctas) = (format!("ceil_div(m,{cm})*ceil_div(n,{cn})*batch{splits}"), c.cluster.ctas());
        k.grid([format!("min({tiles},sms/{ctas})*{ctas}"), "1".into(), "1".into()]);
        if c.split {
            k.shape("splits");
            k.require(format!("splits <= ceil_div(k,{bk})"));
        }
        if c.n_align > 1 {
            k.require(format!("n % {} == 0", c.n_align));
        }
        k.probe("k", bk, ProbeAxis::Trips);
        k.probe("m", cm, ProbeAxis::Tiles);
        Ctx { p, c, a, b, d, ring, staging }
    }

    /// Tiles this cluster walks: first, end, step, and the raster that places them.
    fn walk(&self, r: &mut RoleBuilder) -> (Scalar, Scalar, Scalar, Raster) {
        let ctas = self.c.cluster.ctas();
        let raster = Raster::new(r, self.c.cluster_tile(self.p), self.c.raster);
        let matrices = self.matrices(r);
        let total = r.mul(raster.per_matrix, matrices);
        let (cta, n) = (r.cta_id(0), r.n_ctas());
        let (first, step) = (r.div(cta, ctas), r.div(n, ctas));
        (first, total, step, raster)
    }

    fn matrices(&self, r: &mut RoleBuilder) -> Scalar {
        let batch = r.param("batch");
        if !self.c.split {
            return batch;
        }
        let splits = r.param("splits");
        r.mul(batch, splits)
    }

    /// This CTA's tile of the cluster's.
    fn work(&self, r: &mut RoleBuilder, raster: &Raster, t: Scalar) -> Work {
        let TileAt { m, n, matrix } = raster.at(r, t);
        let rank = r.cluster_rank();
        let (mut m, mut n) = (m, n);
        let ctas = self.c.cluster.ctas();
        match self.c.cluster {
            Cluster::One => {}
            Cluster::TwoM => m = pair(r, m, ctas, rank),
            Cluster::TwoN => n = pair(r, n, ctas, rank),
        }
        let row = r.mul(m, self.c.bm);
        let col = r.mul(n, self.c.bn / self.p.gates());
        let kdim = r.param("k");
        let kt = r.ceil_div(kdim, self.c.bk);
        let k = if self.c.split {
            // Part s of S takes tiles s*T/S to (s+1)*T/S: never none, since S <= T.
            let (batch, splits) = (r.param("batch"), r.param("splits"));
            let part = r.div(matrix, batch);
            let next = r.add(part, 1);
            [part, next].map(|s| {
                let s = r.mul(s, kt);
                r.div(s, splits)
            })
        } else {
            [r.int(0), kt]
        };
        Work { matrix, row, col, k }
    }

    fn load(&self, r: &mut RoleBuilder) {
        let (first, end, step, raster) = self.walk(r);
        r.for_range(first, end, step, |r, t| {
            let w = self.work(r, &raster, t);
            let batch = if self.c.split {
                let batch = r.param("batch");
                r.rem(w.matrix, batch)
            } else {
                w.matrix
            };
            r.for_range(w.k[0], w.k[1], 1, |r, kt| {
                let at = r.mul(kt, self.c.bk);
                let s = r.acquire(&self.ring);
                r.tma_load(&self.a, &[batch, w.row, at], &self.ring, s, 0);
                for gate in 0..self.p.gates() {
                    let n = r.param("n");
                    let col = if gate == 0 { w.col } else { r.add(w.col, n) };
                    let coords = if self.p.b == BLayout::Nk { [batch, col, at] } else { [batch, at, col] };
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

    /// Rows of a stage's A tile that one warpgroup multiplies.
    fn wg_rows(&self) -> u32 {
        if self.c.schedule == Schedule::PingPong { self.c.bm } else { self.c.bm / self.c.math_wgs }
    }

    /// Multiplies all k tiles; one stage stays in flight while the next is waited for.
    fn main_loop(&self, r: &mut RoleBuilder, w: &Work, wg: Scalar) -> Result<Vec<Cell>, LayoutError> {
        let gates = self.p.gates();
        let rows = self.wg_rows();
        let acc: Result<Vec<Cell>, LayoutError> = (0..gates).map(|_| r.wgmma_acc([rows, self.c.bn / gates])).collect();
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
        let rows = self.wg_rows();
        let chunk = self.c.chunk(self.p);
        let offset = if self.c.schedule == Schedule::PingPong { r.int(0) } else { r.mul(wg, rows) };
        let first_row = r.add(w.row, offset);
        let tiles: Vec<_> = acc.iter().map(|a| r.get_tile(*a)).collect();
        // Two buffers a warpgroup: one is written while the other is stored. The order starts anew with each tile, so an
        // odd number of chunks would meet its own last store.
        let chunks = rows / 64 * (self.c.bn / self.p.gates() / chunk);
        let in_flight = i64::from(chunks.is_multiple_of(2));
        let mut copy = 0;
        for row in (0..rows).step_by(64) {
            for col in (0..self.c.bn / self.p.gates()).step_by(chunk as usize) {
                let parts: Result<Vec<_>, _> = tiles.iter().map(|t| r.slice(*t, [row, col], [64, chunk])).collect();
                let at = EpilogueAt { batch: w.matrix, row: r.add(first_row, row), col: r.add(w.col, col) };
                let y = if self.c.split { parts?[0] } else { epilogue(r, &parts?, at) };
                let y = r.cast(y, if self.c.split { DType::F32 } else { self.p.output });
                match &self.staging {
                    None => r.store_tile(&self.d, y, &[at.batch, at.row, at.col], self.c.n_align),
                    Some(staging) => {
                        let index = r.mul(wg, 2);
                        let index = r.add(index, copy);
                        let buffer = r.staging(staging, index);
                        r.tma_store_wait(in_flight);
                        r.sync();
                        r.store_matrix(buffer, y);
                        r.sync();
                        r.tma_store(&self.d, buffer, &[at.batch, at.row, at.col]);
                        copy = 1 - copy;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Tile `2 i + rank` of a pair.
fn pair(r: &mut RoleBuilder, i: Scalar, ctas: u32, rank: Scalar) -> Scalar {
    let first = r.mul(i, ctas);
    r.add(first, rank)
}
