//! The Hopper forward kernel (FlashAttention-3, arXiv 2407.08608): a producer warp brings Q, K and V by TMA; one to three
//! warpgroups of 64 query rows each multiply with wgmma, keep the scores and P in registers and do the softmax there.
//!
//! Overlap: the scores of the next block are multiplied, and P V of the last one too, while the softmax of this one runs.
//! Ping-pong: two warpgroups take turns at the tensor cores, so that one's softmax runs under the other's products.
//! Persistent: as many CTAs as fit walk the tiles, longest first, heads whose keys share the L2 cache together.

mod decode;
mod decode_config;
mod work;

pub use decode::decode;
pub use decode_config::WgmmaDecodeConfig;

use super::config::WgmmaAttentionConfig;
use super::operands::{Outcome, Tile, TileRows};
use super::problem::AttentionProblem;
use super::score::{Mods, ScoreAt, masked};
use super::softmax::Softmax;
use super::span::Blocks;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, wgmma_a, wgmma_acc};
use tilewright_ir::tile::{Cell, CmpPred, KernelBuilder, RegTile, RoleBuilder, Scalar, SmemRef, TileRef, Unit};
use work::Ctx;

/// Records the kernel.
pub fn forward(k: &mut KernelBuilder, p: &AttentionProblem, c: &WgmmaAttentionConfig, mods: &Mods) -> Result<(), LayoutError> {
    let x = Ctx::declare(k, p, c, mods);
    let layouts = Layouts::new(p, c)?;
    let (producer_regs, math_regs) = c.registers(p);
    k.role("load", 4, Some(producer_regs), Unit::Thread, |r| x.load(r));
    k.role("math", 4 * c.warpgroups, Some(math_regs), Unit::Warpgroup, |r| x.math(r, &layouts, mods));
    Ok(())
}

/// Register tiles of one warpgroup.
struct Layouts {
    scores: RegTile,
    /// P as the A operand.
    weights: RegTile,
    out: RegTile,
}

impl Layouts {
    fn new(p: &AttentionProblem, c: &WgmmaAttentionConfig) -> Result<Self, LayoutError> {
        let f32_tile =
            |cols| Ok::<_, LayoutError>(RegTile { dtype: DType::F32, shape: [64, cols], layout: wgmma_acc(64, cols, 1)? });
        let weights = RegTile { dtype: p.dtype, shape: [64, c.bn], layout: wgmma_a(64, c.bn, 1)? };
        Ok(Layouts { scores: f32_tile(c.bn)?, weights, out: f32_tile(p.dv)? })
    }
}

/// What a warpgroup carries through one tile of queries.
struct State<'a> {
    layouts: &'a Layouts,
    mods: &'a Mods<'a>,
    rows: TileRows,
    softmax: Softmax,
    q: SmemRef,
    out: Cell,
}

impl Ctx<'_> {
    /// K runs one block ahead of V, as the products want them.
    fn load(&self, r: &mut RoleBuilder) {
        self.each_tile(r, |r, x, tile| {
            let blocks = x.ops.blocks(r, tile, None);
            let some = r.cmp(CmpPred::Gt, blocks.count, 0);
            r.if_then(some, |r| {
                x.load_k(r, tile, &blocks, 0);
                x.load_q(r, tile);
                r.for_range(1, blocks.count, 1, |r, t| {
                    x.load_k(r, tile, &blocks, t);
                    let before = r.sub(t, 1);
                    x.load_v(r, tile, &blocks, before);
                });
                let last = r.sub(blocks.count, 1);
                x.load_v(r, tile, &blocks, last);
            });
        });
    }

    fn math(&self, r: &mut RoleBuilder, layouts: &Layouts, mods: &Mods) {
        let wg = r.wg_index();
        if self.c.ping_pong {
            // The first warpgroup's first turn: its neighbour lets it go.
            let second = r.cmp(CmpPred::Eq, wg, self.c.warpgroups - 1);
            r.if_then(second, |r| r.barrier_arrive(0, 256));
        }
        self.each_tile(r, |r, x, tile| {
            let column = r.row_vec(&layouts.scores, DType::F32);
            let softmax = Softmax::start(r, &column);
            let offset = r.mul(wg, 64);
            let rows = x.ops.rows(r, tile, offset, &layouts.scores);
            let blocks = x.ops.blocks(r, tile, Some((offset, 64)));
            let out = r.tile_place(layouts.out.clone());
            let some = r.cmp(CmpPred::Gt, blocks.count, 0);
            r.if_then(some, |r| {
                let s = r.wait(&x.q_pipe);
                let q = r.slot(&x.q_pipe, s, 0);
                let first = r.mul(wg, 64);
                let q = r.rows(q, first, 64);
                let state = State { layouts, mods, rows, softmax, q, out };
                if x.c.overlap { x.overlapped(r, tile, &state, &blocks, wg) } else { x.in_turn(r, tile, &state, &blocks, wg) }
            });
            let end = Outcome { softmax: &softmax, out, types: [&layouts.scores, &layouts.out] };
            x.ops.finish(r, tile, &rows, &end, mods);
        });
        if self.c.ping_pong {
            // One turn more was given than taken.
            let first = r.cmp(CmpPred::Eq, wg, 0);
            r.if_then(first, |r| r.barrier_sync(0, 256));
        }
    }

    /// Scores, softmax and P V of each block one after the other.
    fn in_turn(&self, r: &mut RoleBuilder, tile: &Tile, state: &State, blocks: &Blocks, wg: Scalar) {
        self.clear_strangers(r, tile, blocks, wg);
        self.each_run(r, blocks, 0, |r, t, masks| {
            let scores = r.tile_place(state.layouts.scores.clone());
            self.take_turn(r, wg);
            self.multiply_scores(r, state, scores);
            r.mma_wait(scores, 0);
            r.release(&self.k_pipe);
            self.give_turn(r, wg);
            let (weights, rescale) = self.weigh(r, tile, state, blocks, t, scores, masks);
            let (first, later) = (r.cmp(CmpPred::Eq, t, 0), r.cmp(CmpPred::Gt, t, 0));
            r.if_then(later, |r| rescale_out(r, state, rescale));
            let weights = self.operand(r, state, weights);
            self.multiply_values(r, state, weights, first);
            r.mma_wait(state.out, 0);
            r.release(&self.v_pipe);
        });
        r.release(&self.q_pipe);
    }

    /// The products of scores run one block ahead of P V, so that each softmax has products to hide under.
    fn overlapped(&self, r: &mut RoleBuilder, tile: &Tile, state: &State, blocks: &Blocks, wg: Scalar) {
        let scores = r.tile_place(state.layouts.scores.clone());
        self.multiply_scores(r, state, scores);
        r.mma_wait(scores, 0);
        r.release(&self.k_pipe);
        let zero = r.int(0);
        let (weights, _) = self.weigh(r, tile, state, blocks, zero, scores, true);
        let weights = self.operand(r, state, weights);
        let operand = r.tile_cell(weights);
        self.clear_strangers(r, tile, blocks, wg);
        self.each_run(r, blocks, 1, |r, t, masks| {
            let scores = r.tile_place(state.layouts.scores.clone());
            self.take_turn(r, wg);
            self.multiply_scores(r, state, scores);
            let first = r.cmp(CmpPred::Eq, t, 1);
            let weights = r.get_tile(operand);
            self.multiply_values(r, state, weights, first);
            self.give_turn(r, wg);
            r.mma_ready(scores, 1);
            r.release(&self.k_pipe);
            let (weights, rescale) = self.weigh(r, tile, state, blocks, t, scores, masks);
            r.mma_wait(state.out, 0);
            r.release(&self.v_pipe);
            let weights = self.operand(r, state, weights);
            r.set_tile(operand, weights);
            rescale_out(r, state, rescale);
        });
        r.release(&self.q_pipe);
        let only = r.cmp(CmpPred::Eq, blocks.count, 1);
        let weights = r.get_tile(operand);
        self.multiply_values(r, state, weights, only);
        r.mma_wait(state.out, 0);
        r.release(&self.v_pipe);
    }

    /// Behind the keys of a sequence lie the next one's: their weights are nothing, but nothing times infinity is not, so
    /// their values in the first block visited, the last of the sequence, are cleared.
    fn clear_strangers(&self, r: &mut RoleBuilder, tile: &Tile, blocks: &Blocks, wg: Scalar) {
        if !self.ops.p.varlen {
            return;
        }
        let block = blocks.index(r, self.ops.lists.as_ref(), 0);
        let first = r.mul(block, self.c.bn);
        let own = r.sub(tile.len[1], first);
        let ragged = r.cmp(CmpPred::Lt, own, self.c.bn);
        r.if_then(ragged, |r| {
            let s = r.peek(&self.v_pipe);
            let v = r.slot(&self.v_pipe, s, 0);
            let threads = 128 * self.c.warpgroups;
            let (one, others) = (r.cmp(CmpPred::Eq, wg, 0), r.cmp(CmpPred::Ne, wg, 0));
            r.if_then(one, |r| {
                r.zero_rows(v, own);
                r.barrier_sync(CLEARED, threads);
            });
            r.if_then(others, |r| r.barrier_sync(CLEARED, threads));
        });
    }

    /// Runs `body` for blocks from number `from` on; its last argument says whether they need a mask.
    fn each_run(&self, r: &mut RoleBuilder, blocks: &Blocks, from: i64, body: impl Fn(&mut RoleBuilder, Scalar, bool)) {
        if self.ops.masks_all {
            return r.for_range(from, blocks.count, 1, |r, t| body(r, t, true));
        }
        let masked = r.max(blocks.masked, from);
        let full = r.max(blocks.full, masked);
        r.for_range(from, masked, 1, |r, t| body(r, t, true));
        r.for_range(masked, full, 1, |r, t| body(r, t, false));
        if self.ops.visibility.window || self.ops.visibility.chunk {
            r.for_range(full, blocks.count, 1, |r, t| body(r, t, true));
        }
    }

    fn take_turn(&self, r: &mut RoleBuilder, wg: Scalar) {
        if self.c.ping_pong {
            r.barrier_sync(wg, 256);
        }
    }

    fn give_turn(&self, r: &mut RoleBuilder, wg: Scalar) {
        if self.c.ping_pong {
            let next = r.add(wg, 1);
            let wraps = r.cmp(CmpPred::Eq, next, self.c.warpgroups);
            let next = r.select(wraps, 0, next);
            r.barrier_arrive(next, 256);
        }
    }

    /// `S = q k^T` of the next K, as one group.
    fn multiply_scores(&self, r: &mut RoleBuilder, state: &State, scores: Cell) {
        let s = r.wait(&self.k_pipe);
        let k = r.slot(&self.k_pipe, s, 0);
        let fresh = r.bool(true);
        r.mma_async(scores, state.q, k, fresh, false);
    }

    /// `O (+)= P v` of the next V, as one group.
    fn multiply_values(&self, r: &mut RoleBuilder, state: &State, weights: TileRef, first: Scalar) {
        let s = r.wait(&self.v_pipe);
        let v = r.slot(&self.v_pipe, s, 0);
        r.mma_async_reg(state.out, weights, v, first, true);
    }

    /// P as wgmma takes it from registers: the accumulator's pairs, rounded.
    fn operand(&self, r: &mut RoleBuilder, state: &State, weights: TileRef) -> TileRef {
        let rounded = r.cast(weights, self.ops.p.dtype);
        r.part(rounded, [0, 0], state.layouts.weights.clone())
    }

    /// Mods, masks and softmax of block number `t`.
    fn weigh(
        &self,
        r: &mut RoleBuilder,
        tile: &Tile,
        state: &State,
        blocks: &Blocks,
        t: Scalar,
        scores: Cell,
        masks: bool,
    ) -> (TileRef, TileRef) {
        let block = blocks.index(r, self.ops.lists.as_ref(), t);
        let raw = r.get_tile(scores);
        let like = RegTile { dtype: DType::I32, ..state.layouts.scores.clone() };
        let column = r.col_vec(&like, DType::I32);
        let start = r.mul(block, self.c.bn);
        let columns = r.iota(1, column.clone());
        let first = r.splat(start, column);
        let key = r.binary("add", first, columns);
        let at = ScoreAt { rows: state.rows.rows, head: Some(tile.head), key, run: Some((start, columns)), len: tile.len, like };
        let mut scored = self.ops.scores.apply(r, raw, &at, state.rows.slopes, state.mods);
        if masks {
            let sparsity = self.ops.sparsity.as_ref();
            scored.tile = masked(r, scored.tile, &at, &self.ops.visibility, state.rows.interval, sparsity, state.mods);
        }
        let w = state.softmax.update(r, scored, self.c.exp_fma);
        (w.tile, w.rescale)
    }
}

/// The named barrier where the warpgroups meet after clearing; turns take 0 and 1.
const CLEARED: i64 = 7;

fn rescale_out(r: &mut RoleBuilder, state: &State, rescale: TileRef) {
    let out = r.get_tile(state.out);
    let factor = r.broadcast(rescale, state.layouts.out.clone());
    let out = r.binary("mul", out, factor);
    r.set_tile(state.out, out);
}
