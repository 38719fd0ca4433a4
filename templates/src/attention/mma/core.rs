//! The loop both kernels of this folder share: a tile of queries against blocks of keys, with cp.async rings of K and V
//! and mma.sync (FlashAttention-2, arXiv 2307.08691).
//!
//! K and V have rings of `stages` tiles each and are copied in turns: V of a block lands while its scores are multiplied,
//! K of a later block while P V is. A copy goes into the tile that was read last, so two meetings of the CTA a block
//! keep readers and writers apart.

use super::config::MmaAttentionConfig;
use crate::attention::softmax::Weights;
use crate::attention::span::{Blocks, Visibility};
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, mma_a, mma_acc};
use tilewright_ir::tile::{Cell, CmpPred, KernelBuilder, RegTile, RoleBuilder, Scalar, SmemRef, Staging, TensorRef, TileRef};

/// Elements of a 16-byte copy.
const VEC: u32 = 8;

/// Registers and shared memory of the loop.
pub(super) struct Core<'a> {
    c: &'a MmaAttentionConfig,
    dtype: DType,
    d: u32,
    /// F32 scores `[bm, bn]`.
    pub scores: RegTile,
    /// F32 output `[bm, dv]`.
    pub out: RegTile,
    /// A k16 step of P.
    weights: RegTile,
    q: Staging,
    k: Staging,
    v: Staging,
}

/// Where the rows of K and V come from.
pub(super) struct Feed<'f> {
    /// K, rows of `d`.
    pub k: &'f TensorRef,
    /// V, rows of `dv`; a key's row has the same number as in K.
    pub v: &'f TensorRef,
    /// Rows of block number `t` (below the count) for tiles of an I32 type `[bn, 1]`; negative where there is no key.
    pub rows: &'f dyn Fn(&mut RoleBuilder, Scalar, RegTile) -> TileRef,
    /// Row numbers are looked up in memory: half an iteration before they are needed, once for K and V.
    pub ahead: bool,
}

/// From raw scores of block number `t` to exponentials and what they do to earlier results; the flag says whether the block
/// needs a mask.
pub(super) type Weigh<'w> = dyn Fn(&mut RoleBuilder, Scalar, TileRef, bool) -> Weights + 'w;

/// Blocks in the order of their visits.
pub(super) struct Runs {
    /// How many there are.
    pub count: Scalar,
    /// Blocks from a number up to another, and whether they need a mask; they follow one another up to the count.
    pub parts: Vec<(Scalar, Scalar, bool)>,
}

/// Which tiles of the rings an iteration uses.
struct Turn {
    /// Tile of this block.
    slot: Cell,
    /// Tile of the block before.
    before: Cell,
    /// Row numbers of the next copies.
    rows: Option<Cell>,
}

impl Runs {
    /// The runs of a tile's blocks; `all` where each needs a mask.
    pub fn of(r: &mut RoleBuilder, blocks: &Blocks, v: &Visibility, all: bool) -> Self {
        let zero = r.int(0);
        let Blocks { count, masked, full, .. } = *blocks;
        let parts = if all {
            vec![(zero, count, true)]
        } else if v.window || v.chunk {
            vec![(zero, masked, true), (masked, full, false), (full, count, true)]
        } else {
            vec![(zero, masked, true), (masked, count, false)]
        };
        Runs { count, parts }
    }
}

impl<'a> Core<'a> {
    /// Declares the shared memory.
    pub fn declare(
        k: &mut KernelBuilder,
        dtype: DType,
        [d, dv]: [u32; 2],
        c: &'a MmaAttentionConfig,
    ) -> Result<Self, LayoutError> {
        let f32_tile = |cols| -> Result<RegTile, LayoutError> {
            Ok(RegTile { dtype: DType::F32, shape: [c.bm, cols], layout: mma_acc(c.bm, cols, c.warps, 1)? })
        };
        Ok(Core {
            c,
            dtype,
            d,
            scores: f32_tile(c.bn)?,
            out: f32_tile(dv)?,
            weights: RegTile { dtype, shape: [c.bm, 16], layout: mma_a(c.bm, 16, c.warps, 1)? },
            q: k.buffer("q_tile", dtype, [c.bm, d], 1),
            k: k.buffer("k_ring", dtype, [c.bn, d], c.stages),
            v: k.buffer("v_ring", dtype, [c.bn, dv], c.stages),
        })
    }

    /// Starts the copy of Q; `rows` gives the rows of `q` for an I32 type `[bm, 1]`, negative ones for padding.
    pub fn load_q(&self, r: &mut RoleBuilder, q: &TensorRef, rows: impl FnOnce(&mut RoleBuilder, RegTile) -> TileRef) {
        let tile = r.staging(&self.q, 0);
        let ty = r.copy_rows_index(tile, VEC);
        let rows = rows(r, ty);
        r.copy_rows(q, tile, rows, 0, VEC);
        r.copy_commit();
    }

    /// Walks the blocks after [`Self::load_q`] and gives the unnormalised output.
    pub fn run(&self, r: &mut RoleBuilder, feed: &Feed, runs: &Runs, weigh: &Weigh) -> Result<Cell, LayoutError> {
        let grid = [self.c.warps, 1];
        let out = r.mma_acc(self.out.shape, grid)?;
        let stages = self.c.stages;
        let turn = self.start(r, feed, runs.count);
        let q = r.staging(&self.q, 0);
        // Q is the oldest group: the others may still be under way.
        r.copy_wait(2 * i64::from(stages) - 1);
        r.sync();
        let held = if self.c.holds_q(self.d) {
            (0..self.d / 16).map(|k| r.load_a(q, k, grid)).collect::<Result<Vec<_>, _>>()?
        } else {
            Vec::new()
        };
        let mut result = Ok(());
        for (from, to, masks) in &runs.parts {
            let weigh = |r: &mut RoleBuilder, t: Scalar, raw: TileRef| weigh(r, t, raw, *masks);
            r.for_range(*from, *to, 1, |r, t| {
                let done = self.block(r, feed, runs.count, &weigh, t, &turn, (q, &held), out);
                result = std::mem::replace(&mut result, Ok(())).and(done);
            });
        }
        r.copy_wait(0);
        result.map(|()| out)
    }

    /// Fills the rings: K of the first `stages` blocks, V of all of these but the last.
    fn start(&self, r: &mut RoleBuilder, feed: &Feed, count: Scalar) -> Turn {
        let stages = self.c.stages;
        let one_type = self.index(r, &self.k) == self.index(r, &self.v);
        let rows = (feed.ahead && one_type).then(|| {
            let none = r.int(-1);
            let ty = self.index(r, &self.k);
            let none = r.splat(none, ty);
            r.tile_cell(none)
        });
        for s in 0..stages {
            let exists = r.cmp(CmpPred::Gt, count, s);
            let t = r.int(i64::from(s));
            r.if_then(exists, |r| {
                self.look_up(r, feed, t, rows);
                self.copy(r, feed, t, t, rows, true);
            });
            r.copy_commit();
            if s + 1 < stages {
                r.if_then(exists, |r| self.copy(r, feed, t, t, rows, false));
                r.copy_commit();
            }
        }
        Turn { slot: r.scalar_cell(0), before: r.scalar_cell(stages - 1), rows }
    }

    fn block(
        &self,
        r: &mut RoleBuilder,
        feed: &Feed,
        count: Scalar,
        weigh: &dyn Fn(&mut RoleBuilder, Scalar, TileRef) -> Weights,
        t: Scalar,
        turn: &Turn,
        (q, held): (SmemRef, &[TileRef]),
        out: Cell,
    ) -> Result<(), LayoutError> {
        let (grid, stages) = ([self.c.warps, 1], self.c.stages);
        let pending = 2 * i64::from(stages) - 2;
        let (slot, before) = (r.get(turn.slot), r.get(turn.before));
        // K of this block is there, and everyone is past V of the block before.
        r.copy_wait(pending);
        r.sync();
        let later = r.add(t, stages - 1);
        let exists = r.cmp(CmpPred::Lt, later, count);
        r.if_then(exists, |r| self.copy(r, feed, later, before, turn.rows, false));
        r.copy_commit();
        let next = r.add(t, stages);
        let next_exists = r.cmp(CmpPred::Lt, next, count);
        if turn.rows.is_some() {
            r.if_then(next_exists, |r| self.look_up(r, feed, next, turn.rows));
        }
        let scores = r.mma_acc(self.scores.shape, grid)?;
        let k = r.staging(&self.k, slot);
        for step in 0..self.d / 16 {
            let a = match held.get(step as usize) {
                Some(a) => *a,
                None => r.load_a(q, step, grid)?,
            };
            let b = r.load_b(k, step, grid, false)?;
            r.mma_sync(scores, a, b);
        }
        let raw = r.get_tile(scores);
        let w = weigh(r, t, raw);
        let factor = r.broadcast(w.rescale, self.out.clone());
        let o = r.get_tile(out);
        let o = r.binary("mul", o, factor);
        r.set_tile(out, o);
        let p = r.cast(w.tile, self.dtype);
        // V of this block is there, and everyone is past its K.
        r.copy_wait(pending);
        r.sync();
        r.if_then(next_exists, |r| self.copy(r, feed, next, slot, turn.rows, true));
        r.copy_commit();
        let v = r.staging(&self.v, slot);
        for step in 0..self.c.bn / 16 {
            let a = r.part(p, [0, 16 * step], self.weights.clone());
            let b = r.load_b(v, step, grid, true)?;
            r.mma_sync(out, a, b);
        }
        let further = r.add(slot, 1);
        let wraps = r.cmp(CmpPred::Eq, further, stages);
        let further = r.select(wraps, 0, further);
        r.set(turn.before, slot);
        r.set(turn.slot, further);
        Ok(())
    }

    fn index(&self, r: &mut RoleBuilder, ring: &Staging) -> RegTile {
        let tile = r.staging(ring, 0);
        r.copy_rows_index(tile, VEC)
    }

    fn look_up(&self, r: &mut RoleBuilder, feed: &Feed, t: Scalar, rows: Option<Cell>) {
        if let Some(cell) = rows {
            let ty = self.index(r, &self.k);
            let rows = (feed.rows)(r, t, ty);
            r.set_tile(cell, rows);
        }
    }

    /// Copies K or V of block `t`; its rows are in the cell where there is one.
    fn copy(&self, r: &mut RoleBuilder, feed: &Feed, t: Scalar, slot: Scalar, rows: Option<Cell>, keys: bool) {
        let (ring, from) = if keys { (&self.k, feed.k) } else { (&self.v, feed.v) };
        let tile = r.staging(ring, slot);
        let rows = match rows {
            Some(cell) => r.get_tile(cell),
            None => {
                let ty = r.copy_rows_index(tile, VEC);
                (feed.rows)(r, t, ty)
            }
        };
        r.copy_rows(from, tile, rows, 0, VEC);
    }
}
