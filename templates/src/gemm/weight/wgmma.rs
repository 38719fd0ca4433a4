//! The Hopper kernel for packed weights: `d^T = W a^T`, so that a few tokens are a few columns of wgmma and not 64 rows.
//!
//! A producer thread brings, for each 128 columns of k, the blocks of packed weights (one bulk copy each) and the tokens (two TMA
//! boxes). Each math warpgroup owns 64 rows of W: it decodes half a block into the registers of an A operand while the
//! wgmmas of the half before run. The accumulator is transposed on its way out.

use super::block::{CHUNK, code_words, scale_words, words};
use super::config::WeightWgmmaConfig;
use super::decode::Span;
use super::stream::{self, Part, Share};
use crate::gemm::epilogue::{EpilogueAt, EpilogueFn};
use crate::gemm::grouped::TileList;
use crate::gemm::leave::Leave;
use crate::gemm::problem::{GemmProblem, Groups, Packed};
use crate::gemm::tiles::Raster;
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{
    Cell, CmpPred, Dim, KernelBuilder, Pipe, ProbeAxis, RoleBuilder, Scalar, SlotDecl, SmemTile, Staging, TensorRef, TileRef,
    Unit,
};

/// Columns of k that are decoded and multiplied at once: one swizzled box of tokens.
const HALF: u32 = 64;

/// Records the kernel. `epilogue` turns accumulators into the output; sums of a part of k skip it.
pub fn wgmma(
    k: &mut KernelBuilder,
    p: &GemmProblem,
    packed: Packed,
    c: &WeightWgmmaConfig,
    epilogue: &EpilogueFn,
) -> Result<(), LayoutError> {
    let x = Ctx::declare(k, p, packed, c)?;
    let (producer_regs, math_regs) = c.registers();
    k.role("load", 4, Some(producer_regs), Unit::Thread, |r| x.load(r));
    let mut result = Ok(());
    k.role("math", 4 * c.math_wgs(), Some(math_regs), Unit::Warpgroup, |r| result = x.math(r, epilogue));
    result
}

struct Ctx<'a> {
    p: &'a GemmProblem,
    packed: Packed,
    c: &'a WeightWgmmaConfig,
    half: Span,
    a: TensorRef,
    b: TensorRef,
    d: TensorRef,
    /// Sums of parts of k.
    partial: Option<TensorRef>,
    ring: Pipe,
    staging: Option<Staging>,
    /// The tiles of a grouped GEMM.
    list: Option<TileList>,
}

/// A CTA's tile: matrices, first token, first column of d, and its range of k blocks.
struct Work {
    /// Matrix of d.
    matrix: Scalar,
    /// Matrix of a.
    a: Scalar,
    /// Matrix of weights.
    b: Scalar,
    row: Scalar,
    col: Scalar,
    /// Tokens from the first on that are the tile's; `None` where only the end of the matrix limits them.
    rows: Option<Scalar>,
    k: [Scalar; 2],
    /// Of a tile that CTAs share: where this one's sums go, and whether they are all of it.
    part: Option<Part>,
}

impl<'a> Ctx<'a> {
    fn declare(k: &mut KernelBuilder, p: &'a GemmProblem, packed: Packed, c: &'a WeightWgmmaConfig) -> Result<Self, LayoutError> {
        p.groups.declare(k);
        let [lead, rows] = p.groups.rows();
        let extent = |param: &str, factor| Dim { param: Some(param.into()), factor };
        let words = words(packed);
        let a = k.tensor("a", p.input, [lead.clone(), rows.clone(), Dim::param("k")]);
        let blocks = [p.groups.matrices(), extent("ceil_div(n,64)", p.gates()), Dim::param("ceil_div(k,128)")];
        let b = k.tensor("packed", DType::I32, blocks.into_iter().chain([Dim { param: None, factor: words }]));
        let d = k.tensor("d", p.output, [lead, rows, Dim::param("n")]);
        let partial = c.stream.then(|| stream::partial(k, p, c));
        let list = (p.groups != Groups::Batch).then(|| TileList::walked(k, p.groups, c.bm));
        let slot = |tile| SlotDecl { tile, multicast: 1 };
        let tokens = || slot(SmemTile::new(p.input, [c.bm, HALF]));
        let blocks = slot(SmemTile::packed(DType::I32, [c.math_wgs() * p.gates(), words]));
        let ring = k.pipe_of("wx", c.stages, vec![blocks, tokens(), tokens()]);
        k.require("k >= 1");
        let staging = c.tma_store(p).then(|| k.buffer("out", p.output, [c.chunk(), 64], 2 * c.math_wgs()));
        k.grid([stream::ctas(p, c), "1".into(), "1".into()]);
        if c.n_align > 1 {
            k.require(format!("n % {} == 0", c.n_align));
        }
        k.probe("k", WeightWgmmaConfig::BK, ProbeAxis::Trips);
        if list.is_none() {
            k.probe("m", c.bm, ProbeAxis::Tiles);
        }
        Ok(Ctx { p, packed, c, half: Span::new(packed, p.input, HALF)?, a, b, d, partial, ring, staging, list })
    }

    /// Calls `f` for each tile of this CTA, or part of one.
    fn each_tile(&self, r: &mut RoleBuilder, mut f: impl FnMut(&mut RoleBuilder, Work)) {
        let (raster, total) = match &self.list {
            Some(list) => {
                let rows = list.count(r);
                let raster = Raster::of_rows(r, rows, self.c.bn, self.c.raster);
                (raster, raster.per_matrix)
            }
            None => {
                let raster = Raster::new(r, [self.c.bm, self.c.bn], self.c.raster);
                let batch = r.param("batch");
                (raster, r.mul(raster.per_matrix, batch))
            }
        };
        let (cta, ctas) = (r.cta_id(0), r.n_ctas());
        if self.c.stream {
            let blocks = self.blocks(r);
            let share = Share::of(r, total, blocks, ctas);
            share.each_tile(r, cta, |r, t, part, k| {
                let at = raster.at(r, t);
                let (row, col) = (r.mul(at.m, self.c.bm), r.mul(at.n, self.c.bn));
                f(r, Work { matrix: at.matrix, a: at.matrix, b: at.matrix, row, col, rows: None, k, part: Some(part) });
            });
            return;
        }
        r.for_range(cta, total, ctas, |r, t| {
            let at = raster.at(r, t);
            let col = r.mul(at.n, self.c.bn);
            let k = [r.int(0), self.blocks(r)];
            let part = None;
            if let Some(list) = &self.list {
                let t = list.entry(r, self.p.groups, at.m);
                return f(r, Work { matrix: t.matrix, a: t.matrix, b: t.expert, row: t.row, col, rows: Some(t.rows), k, part });
            }
            let row = r.mul(at.m, self.c.bm);
            f(r, Work { matrix: at.matrix, a: at.matrix, b: at.matrix, row, col, rows: None, k, part });
        });
    }

    /// Blocks of 128 columns of k. The math warpgroups decode their first before they look how many there are.
    fn blocks(&self, r: &mut RoleBuilder) -> Scalar {
        let k = r.param("k");
        let blocks = r.ceil_div(k, WeightWgmmaConfig::BK);
        r.max(blocks, 1)
    }

    fn load(&self, r: &mut RoleBuilder) {
        self.each_tile(r, |r, w| {
            let n = r.param("n");
            let last = r.ceil_div(n, 64);
            let last = r.sub(last, 1);
            let first = r.div(w.col, 64);
            let gates = self.p.gates();
            // A warpgroup whose rows all lie past n gets the last block again: it has nothing to store.
            let blocks: Vec<Scalar> = (0..self.c.math_wgs() * gates)
                .map(|i| {
                    let block = r.add(first, i / gates);
                    let block = r.min(block, last);
                    let block = r.mul(block, gates);
                    r.add(block, i % gates)
                })
                .collect();
            r.for_range(w.k[0], w.k[1], 1, |r, kb| {
                let s = r.acquire(&self.ring);
                let slot = r.slot(&self.ring, s, 0);
                for (i, block) in blocks.iter().enumerate() {
                    let part = r.rows(slot, i as u32, 1);
                    r.bulk_load_part(&self.b, &[w.b, *block, kb], &self.ring, s, 0, part);
                }
                let at = r.mul(kb, WeightWgmmaConfig::BK);
                for half in 0..2 {
                    let at = r.add(at, half * HALF);
                    r.tma_load(&self.a, &[w.a, w.row, at], &self.ring, s, 1 + half as usize);
                }
                r.commit(&self.ring, s);
            });
        });
    }

    fn math(&self, r: &mut RoleBuilder, epilogue: &EpilogueFn) -> Result<(), LayoutError> {
        let wg = r.wg_index();
        let mut result = Ok(());
        self.each_tile(r, |r, w| {
            result = self.main_loop(r, &w, wg).and_then(|acc| self.finish_whole_or_part(r, &w, &acc, wg, epilogue));
        });
        if self.staging.is_some() {
            r.tma_store_wait(0);
        }
        result
    }

    /// Half a block is decoded while the wgmmas of the half before run: the second half of a stage under the first's,
    /// the first half of the next stage under the second's, which is why that group is waited for only once another has been
    /// started. ptxas moves the decoding behind any wait that does not need it.
    fn main_loop(&self, r: &mut RoleBuilder, w: &Work, wg: Scalar) -> Result<Vec<Cell>, LayoutError> {
        let gates = self.p.gates();
        let acc: Result<Vec<Cell>, LayoutError> = (0..gates).map(|_| r.wgmma_acc([64, self.c.bm])).collect();
        let acc = acc?;
        let stage = r.wait(&self.ring);
        let ahead: Vec<Cell> = self.decode(r, stage, wg, 0).into_iter().map(|half| r.tile_cell(half)).collect();
        let stage = r.scalar_cell(stage);
        let last = r.sub(w.k[1], 1);
        r.for_range(w.k[0], last, 1, |r, kb| {
            self.multiply(r, &acc, &ahead, stage, wg, [kb, w.k[0]]);
            // The first half's groups are done: their registers are free.
            r.mma_wait(acc[0], i64::from(gates));
            let next = r.wait(&self.ring);
            for (cell, half) in ahead.iter().zip(self.decode(r, next, wg, 0)) {
                r.set_tile(*cell, half);
            }
            r.set(stage, next);
        });
        self.multiply(r, &acc, &ahead, stage, wg, [last, w.k[0]]);
        acc.iter().for_each(|a| r.mma_wait(*a, 0));
        r.release(&self.ring);
        Ok(acc)
    }

    /// Starts the groups of one stage (block `at` of those from `from` on), whose first half is decoded already, and hands back
    /// the stage before.
    fn multiply(&self, r: &mut RoleBuilder, acc: &[Cell], ahead: &[Cell], stage: Cell, wg: Scalar, [at, from]: [Scalar; 2]) {
        let s = r.get(stage);
        let first: Vec<TileRef> = ahead.iter().map(|c| r.get_tile(*c)).collect();
        let tokens = r.slot(&self.ring, s, 1);
        let fresh = r.cmp(CmpPred::Eq, at, from);
        for (acc, w) in acc.iter().zip(first) {
            r.mma_async_reg(*acc, w, tokens, fresh, false);
        }
        r.mma_wait(acc[0], acc.len() as i64);
        let started = r.cmp(CmpPred::Gt, at, from);
        r.release_if(&self.ring, started);
        let second = self.decode(r, s, wg, 1);
        let tokens = r.slot(&self.ring, s, 2);
        let no = r.bool(false);
        for (acc, w) in acc.iter().zip(second) {
            r.mma_async_reg(*acc, w, tokens, no, false);
        }
    }

    /// This warpgroup's weights of half a stage, for each gate.
    fn decode(&self, r: &mut RoleBuilder, stage: Scalar, wg: Scalar, half: u32) -> Vec<TileRef> {
        let gates = self.p.gates();
        let slot = r.slot(&self.ring, stage, 0);
        let first = r.mul(wg, gates);
        let [chunks, _] = self.half.words.shape.map(|s| s / 128);
        let groups = self.half.factor_words.shape[0];
        // A group as long as the block serves both halves.
        let run = half * HALF / self.packed.group;
        (0..gates)
            .map(|gate| {
                let row = r.add(first, gate);
                let block = r.rows(slot, row, 1);
                let codes = r.view(block, half * chunks * CHUNK as u32 * 4, DType::I32, self.half.words.shape);
                let codes = r.load_shared(codes, self.half.words.clone());
                let factors = |r: &mut RoleBuilder, from: u32| {
                    let words = r.view(block, (from + 32 * run) * 4, DType::I32, [groups, 32]);
                    r.load_shared(words, self.half.factor_words.clone())
                };
                let scales = factors(r, code_words(self.packed));
                let zeros = self.packed.zero.then(|| factors(r, code_words(self.packed) + scale_words(self.packed)));
                self.half.decode(r, codes, scales, zeros)
            })
            .collect()
    }

    /// The sums of a tile that is all this CTA's become its part of d, others go where they are added up.
    fn finish_whole_or_part(
        &self,
        r: &mut RoleBuilder,
        w: &Work,
        acc: &[Cell],
        wg: Scalar,
        epilogue: &EpilogueFn,
    ) -> Result<(), LayoutError> {
        let (Some(part), Some(partial)) = (&w.part, &self.partial) else { return self.finish(r, w, acc, wg, epilogue) };
        let mut result = Ok(());
        let whole = r.cmp(CmpPred::Eq, part.missing, 0);
        r.if_then(whole, |r| result = self.finish(r, w, acc, wg, epilogue));
        let shared = r.cmp(CmpPred::Gt, part.missing, 0);
        r.if_then(shared, |r| {
            let (gates, col, zero) = (self.p.gates(), r.mul(wg, 64), r.int(0));
            let first = r.mul(part.slot, gates);
            for (gate, acc) in acc.iter().enumerate() {
                let sums = r.get_tile(*acc);
                let sums = r.transpose(sums);
                let slot = r.add(first, gate as u32);
                r.store_tile(partial, sums, &[slot, zero, col], 1);
            }
        });
        result
    }

    /// Epilogue and store: 64 columns of d and some tokens at a time, transposed.
    fn finish(&self, r: &mut RoleBuilder, w: &Work, acc: &[Cell], wg: Scalar, epilogue: &EpilogueFn) -> Result<(), LayoutError> {
        let offset = r.mul(wg, 64);
        let col = r.add(w.col, offset);
        let tiles: Vec<_> = acc.iter().map(|a| r.get_tile(*a)).collect();
        let chunk = self.c.chunk();
        // Two buffers a warpgroup: one is written while the other is stored. The order starts anew with each tile, so an
        // odd number of chunks would meet its own last store; and so may any where some are left out.
        let in_flight = i64::from((self.c.bm / chunk).is_multiple_of(2) && w.rows.is_none());
        let (groups, staging) = (self.p.groups, self.staging.as_ref());
        let out = Leave { groups, d: &self.d, staging, wg, rows: chunk, vec: 1, in_flight };
        let mut copy = 0;
        for first in (0..self.c.bm).step_by(chunk as usize) {
            let parts: Result<Vec<_>, _> = tiles.iter().map(|t| r.slice(*t, [0, first], [64, chunk])).collect();
            let parts: Vec<TileRef> = parts?.into_iter().map(|t| r.transpose(t)).collect();
            let at = EpilogueAt { batch: w.matrix, weight: w.b, row: r.add(w.row, first), col };
            let y = epilogue(r, &parts, at);
            let y = r.cast(y, self.p.output);
            let left = w.rows.map(|rows| r.sub(rows, first));
            out.store(r, y, at, left, copy);
            copy = 1 - copy;
        }
        Ok(())
    }
}
