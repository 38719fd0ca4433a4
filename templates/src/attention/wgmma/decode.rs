//! Paged decode on Hopper where pages are boxes TMA can bring: a producer thread looks up the pages of the next keys and
//! starts one copy for each, a warpgroup multiplies with wgmma. Queries, 64 rows of (token, head of the group), stay in
//! registers as the A operand. It is bound by memory: several CTAs share an SM, so that copies of one run while another
//! multiplies.

use super::decode_config::WgmmaDecodeConfig;
use crate::attention::decode_problem::DecodeProblem;
use crate::attention::operands::Outcome;
use crate::attention::paged::{Paged, PagedRows, Work};
use crate::attention::score::{Mods, ScoreAt, masked};
use crate::attention::softmax::Softmax;
use crate::attention::span::Blocks;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, wgmma_a, wgmma_acc};
use tilewright_ir::tile::{CmpPred, KernelBuilder, Pipe, ProbeAxis, RegTile, RoleBuilder, Scalar, Unit};

/// Rows of a tile.
const ROWS: u32 = 64;

/// Records the kernel.
pub fn decode(k: &mut KernelBuilder, p: &DecodeProblem, c: &WgmmaDecodeConfig, mods: &Mods) -> Result<(), LayoutError> {
    let x = Ctx::declare(k, p, c)?;
    let (producer_regs, math_regs) = c.registers();
    k.min_ctas(c.ctas);
    k.role("load", 4, Some(producer_regs), Unit::Thread, |r| x.load(r));
    k.role("math", 4, Some(math_regs), Unit::Warpgroup, |r| x.math(r, mods));
    Ok(())
}

struct Ctx<'a> {
    ops: Paged<'a>,
    c: &'a WgmmaDecodeConfig,
    k_pipe: Pipe,
    v_pipe: Pipe,
    /// Q as the A operand, scores, output.
    q_tile: RegTile,
    s_tile: RegTile,
    o_tile: RegTile,
}

impl<'a> Ctx<'a> {
    fn declare(k: &mut KernelBuilder, p: &'a DecodeProblem, c: &'a WgmmaDecodeConfig) -> Result<Self, LayoutError> {
        let ops = Paged::declare(k, p, [ROWS, c.bn]);
        let k_pipe = k.pipe("k", c.stages, &[(p.dtype, [c.bn, p.d], 1)]);
        let v_pipe = k.pipe("v", c.stages, &[(p.dtype, [c.bn, p.dv], 1)]);
        k.require(format!("page % {} == 0", c.box_rows));
        if p.partial() {
            k.require(format!("split_size % {} == 0", c.bn));
        }
        k.probe("page", c.box_rows, ProbeAxis::Tiles);
        let q_tile = RegTile { dtype: p.dtype, shape: [ROWS, p.d], layout: wgmma_a(ROWS, p.d, 1)? };
        let f32_tile = |cols| -> Result<RegTile, LayoutError> {
            Ok(RegTile { dtype: DType::F32, shape: [ROWS, cols], layout: wgmma_acc(ROWS, cols, 1)? })
        };
        let (s_tile, o_tile) = (f32_tile(c.bn)?, f32_tile(p.dv)?);
        Ok(Ctx { ops, c, k_pipe, v_pipe, q_tile, s_tile, o_tile })
    }

    /// One copy a box of `box_rows` tokens, K and V of a block after one another. Past the last token the box is one that
    /// does not exist, which TMA fills with zeros: no table entry past the length is read.
    fn load(&self, r: &mut RoleBuilder) {
        let w = self.ops.work(r);
        let blocks = self.ops.blocks(r, &w);
        let (page, pages) = (r.param("page"), r.param("pages"));
        r.for_range(0, blocks.count, 1, |r, t| {
            let first = self.first_token(r, &w, &blocks, t);
            let boxes: Vec<[Scalar; 2]> = (0..self.c.bn / self.c.box_rows)
                .map(|i| {
                    let token = r.add(first, i * self.c.box_rows);
                    let slot = r.rem(token, page);
                    [self.page_of(r, &w, token, pages), slot]
                })
                .collect();
            for (tensor, pipe) in [(&self.ops.k, &self.k_pipe), (&self.ops.v, &self.v_pipe)] {
                let s = r.acquire(pipe);
                for (i, [page, slot]) in boxes.iter().enumerate() {
                    let tile = r.slot(pipe, s, 0);
                    let part = r.rows(tile, i as i64 * i64::from(self.c.box_rows), self.c.box_rows);
                    let zero = r.int(0);
                    r.tma_load_rows(tensor, &[*page, *slot, w.kv_head, zero], 1, pipe, s, 0, part);
                }
                r.commit(pipe, s);
            }
        });
    }

    /// First token of block number `t`, last first.
    fn first_token(&self, r: &mut RoleBuilder, w: &Work, blocks: &Blocks, t: Scalar) -> Scalar {
        let index = blocks.index(r, None, t);
        let offset = r.mul(index, self.c.bn);
        r.add(w.start, offset)
    }

    /// The page that holds a token, or `none` where there is no such token.
    fn page_of(&self, r: &mut RoleBuilder, w: &Work, token: Scalar, none: Scalar) -> Scalar {
        let page = r.param("page");
        let last = r.sub(w.kv_len, 1);
        let inside = r.min(token, last);
        let entry = r.div(inside, page);
        let found = r.load_scalar(&self.ops.table, &[w.batch, entry]);
        let exists = r.cmp(CmpPred::Lt, token, w.kv_len);
        r.select(exists, found, none)
    }

    fn math(&self, r: &mut RoleBuilder, mods: &Mods) {
        let w = self.ops.work(r);
        let blocks = self.ops.blocks(r, &w);
        let column = r.row_vec(&self.s_tile, DType::F32);
        let rows = self.ops.rows(r, &w, RegTile { dtype: DType::I32, ..column.clone() });
        let softmax = Softmax::start(r, &column);
        let interval = self.ops.interval(r, &w, &rows);
        let slopes = self.ops.scores.slopes(r, &rows.rows);
        let q = r.load_rows(&self.ops.q, self.q_tile.clone(), rows.index, 0, 2);
        let out = r.tile_place(self.o_tile.clone());
        let block = |r: &mut RoleBuilder, t: Scalar, masks: bool| {
            let scores = r.tile_place(self.s_tile.clone());
            let s = r.wait(&self.k_pipe);
            let k = r.slot(&self.k_pipe, s, 0);
            let fresh = r.bool(true);
            r.mma_async_reg(scores, q, k, fresh, false);
            r.mma_wait(scores, 0);
            r.release(&self.k_pipe);
            let raw = r.get_tile(scores);
            let at = self.score_at(r, &w, &blocks, &rows, t);
            let mut scored = self.ops.scores.apply(r, raw, &at, slopes, mods);
            if masks {
                scored.tile = masked(r, scored.tile, &at, &self.ops.visibility, interval, None, mods);
            }
            let weights = softmax.update(r, scored, 0);
            let (first, later) = (r.cmp(CmpPred::Eq, t, 0), r.cmp(CmpPred::Gt, t, 0));
            r.if_then(later, |r| {
                let before = r.get_tile(out);
                let factor = r.broadcast(weights.rescale, self.o_tile.clone());
                let after = r.binary("mul", before, factor);
                r.set_tile(out, after);
            });
            let p = r.cast(weights.tile, self.ops.p.dtype);
            let layout = wgmma_a(ROWS, self.c.bn, 1).expect("the config's check allows blocks of whole k16 steps only");
            let p = r.part(p, [0, 0], RegTile { dtype: self.ops.p.dtype, shape: [ROWS, self.c.bn], layout });
            let s = r.wait(&self.v_pipe);
            let v = r.slot(&self.v_pipe, s, 0);
            if masks {
                // The last page's rest may hold anything, and nothing times infinity is not nothing.
                let last = r.cmp(CmpPred::Eq, t, 0);
                r.if_then(last, |r| {
                    let first = self.first_token(r, &w, &blocks, t);
                    let tokens = r.sub(w.kv_len, first);
                    r.zero_rows(v, tokens);
                    r.sync();
                });
            }
            r.mma_async_reg(out, p, v, first, true);
            r.mma_wait(out, 0);
            r.release(&self.v_pipe);
        };
        let b = &blocks;
        if mods.mask.is_some() {
            r.for_range(0, b.count, 1, |r, t| block(r, t, true));
        } else {
            r.for_range(0, b.masked, 1, |r, t| block(r, t, true));
            r.for_range(b.masked, b.full, 1, |r, t| block(r, t, false));
            if self.ops.visibility.window || self.ops.visibility.chunk {
                r.for_range(b.full, b.count, 1, |r, t| block(r, t, true));
            }
        }
        let end = Outcome { softmax: &softmax, out, types: [&self.s_tile, &self.o_tile] };
        self.ops.finish(r, &w, &rows, &end, mods);
    }

    fn score_at(&self, r: &mut RoleBuilder, w: &Work, blocks: &Blocks, rows: &PagedRows, t: Scalar) -> ScoreAt {
        let like = RegTile { dtype: DType::I32, ..self.s_tile.clone() };
        let line = r.col_vec(&like, DType::I32);
        let first = self.first_token(r, w, blocks, t);
        let columns = r.iota(1, line.clone());
        let start = r.splat(first, line);
        let (key, sq) = (r.binary("add", columns, start), r.param("sq"));
        ScoreAt { rows: rows.rows, head: None, key, run: Some((first, columns)), len: [sq, w.kv_len], like }
    }
}
