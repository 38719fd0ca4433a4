//! Paged decode on Hopper where pages are boxes TMA can bring: a producer thread looks up the pages of the next keys and
//! starts one copy for each, a warpgroup multiplies with wgmma. Queries, 64 rows of (token, head of the group), stay in
//! registers as the A operand. It is bound by memory: several CTAs share an SM, so that copies of one run while another
//! multiplies.

use super::decode_config::WgmmaDecodeConfig;
use crate::attention::decode_problem::DecodeProblem;
use crate::attention::score::{Mods, Rows, ScoreAt, Scores, masked};
use crate::attention::softmax::Softmax;
use crate::attention::span::{Blocks, Visibility};
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, wgmma_a, wgmma_acc};
use tilewright_ir::tile::{
    Cell, CmpPred, Dim, KernelBuilder, Pipe, ProbeAxis, RegTile, RoleBuilder, Scalar, TensorRef, TileRef, Unit,
};

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
    p: &'a DecodeProblem,
    c: &'a WgmmaDecodeConfig,
    visibility: Visibility,
    scores: Scores,
    q: TensorRef,
    k: TensorRef,
    v: TensorRef,
    page_table: TensorRef,
    kv_len: TensorRef,
    sink: Option<TensorRef>,
    o: TensorRef,
    lse: TensorRef,
    k_pipe: Pipe,
    v_pipe: Pipe,
    /// Q as the A operand, scores, output.
    q_tile: RegTile,
    s_tile: RegTile,
    o_tile: RegTile,
}

/// A CTA's work: rows of one kv head of one sequence, and a part of its keys.
struct Work {
    batch: Scalar,
    split: Scalar,
    kv_head: Scalar,
    /// First row.
    first: Scalar,
    /// Heads of a group.
    group: Scalar,
    /// Tokens of the sequence.
    len: Scalar,
    /// First token of the part.
    start: Scalar,
    blocks: Blocks,
}

impl<'a> Ctx<'a> {
    fn declare(k: &mut KernelBuilder, p: &'a DecodeProblem, c: &'a WgmmaDecodeConfig) -> Result<Self, LayoutError> {
        for name in ["batch", "sq", "hq", "hkv", "pages", "page", "max_pages", "splits", "split_size"] {
            k.shape(name);
        }
        let visibility = Visibility { causal: p.causal, window: p.window, chunk: p.chunk };
        visibility.declare(k);
        let scores = Scores::without_bias(k, p.softcap, p.alibi);
        let (param, fixed) = (Dim::param, |n: u32| Dim { param: None, factor: n });
        let q = k.tensor("q", p.dtype, [param("batch"), param("sq"), param("hq"), fixed(p.d)]);
        let key = k.tensor("k_pages", p.dtype, [param("pages"), param("page"), param("hkv"), fixed(p.d)]);
        let v = k.tensor("v_pages", p.dtype, [param("pages"), param("page"), param("hkv"), fixed(p.dv)]);
        let page_table = k.tensor("page_table", DType::I32, [param("batch"), param("max_pages")]);
        let kv_len = k.tensor("kv_len", DType::I32, [param("batch")]);
        let sink = p.sink.then(|| k.tensor("sink", DType::F32, [param("hq")]));
        let lead = if p.partial() { "splits*batch" } else { "batch" };
        let o = k.tensor("o", p.output, [param(lead), param("sq"), param("hq"), fixed(p.dv)]);
        let [rows, heads] = if p.partial() { ["sq", "hq"] } else { ["hq", "sq"] };
        let lse = k.tensor("lse", DType::F32, [param(lead), param(rows), param(heads)]);
        let k_pipe = k.pipe("k", c.stages, &[(p.dtype, [c.bn, p.d], 1)]);
        let v_pipe = k.pipe("v", c.stages, &[(p.dtype, [c.bn, p.dv], 1)]);
        let heads = format!("ceil_div(sq*(hq/hkv),{ROWS})*hkv");
        k.grid([heads, "splits".into(), "batch".into()]);
        for condition in
            ["hq % hkv == 0".to_string(), format!("page % {} == 0", c.box_rows), format!("split_size % {} == 0", c.bn)]
        {
            k.require(condition);
        }
        if !p.partial() {
            k.require("splits == 1");
        }
        k.probe("kv_len", c.bn, ProbeAxis::Trips);
        k.probe("page", c.box_rows, ProbeAxis::Tiles);
        let q_tile = RegTile { dtype: p.dtype, shape: [ROWS, p.d], layout: wgmma_a(ROWS, p.d, 1)? };
        let f32_tile = |cols| -> Result<RegTile, LayoutError> {
            Ok(RegTile { dtype: DType::F32, shape: [ROWS, cols], layout: wgmma_acc(ROWS, cols, 1)? })
        };
        let (s_tile, o_tile) = (f32_tile(c.bn)?, f32_tile(p.dv)?);
        Ok(Ctx {
            p,
            c,
            visibility,
            scores,
            q,
            k: key,
            v,
            page_table,
            kv_len,
            sink,
            o,
            lse,
            k_pipe,
            v_pipe,
            q_tile,
            s_tile,
            o_tile,
        })
    }

    fn work(&self, r: &mut RoleBuilder) -> Work {
        let [x, split, batch] = [0, 1, 2].map(|axis| r.cta_id(axis));
        let (sq, hq, hkv) = (r.param("sq"), r.param("hq"), r.param("hkv"));
        let group = r.div(hq, hkv);
        let rows = r.mul(sq, group);
        let tiles = r.ceil_div(rows, ROWS);
        let (kv_head, tile) = (r.div(x, tiles), r.rem(x, tiles));
        let first = r.mul(tile, ROWS);
        let len = r.load_scalar(&self.kv_len, &[batch]);
        let len = r.max(len, 0);
        let (splits, split_size) = (r.param("splits"), r.param("split_size"));
        let up = r.add(len, splits);
        let up = r.sub(up, 1);
        let even = r.div(up, splits);
        let even = r.ceil_div(even, self.c.bn);
        let even = r.mul(even, self.c.bn);
        let chosen = r.cmp(CmpPred::Gt, split_size, 0);
        let size = r.select(chosen, split_size, even);
        let start = r.mul(split, size);
        let end = r.add(start, size);
        // The last part takes what is left, however few parts there are.
        let next = r.add(split, 1);
        let is_last = r.cmp(CmpPred::Ge, next, splits);
        let end = r.select(is_last, len, end);
        let end = r.min(end, len);
        let shift = r.sub(len, sq);
        let last = r.sub(len, 1);
        let blocks = Blocks::part(r, &self.visibility, [shift, last], len, [start, end], self.c.bn);
        Work { batch, split, kv_head, first, group, len, start, blocks }
    }

    /// One copy a box of `box_rows` tokens, K and V of a block after one another. Past the last token the box is one that
    /// does not exist, which TMA fills with zeros: no table entry past the length is read.
    fn load(&self, r: &mut RoleBuilder) {
        let w = self.work(r);
        let (page, pages) = (r.param("page"), r.param("pages"));
        r.for_range(0, w.blocks.count, 1, |r, t| {
            let first = self.first_token(r, &w, t);
            let boxes: Vec<[Scalar; 2]> = (0..self.c.bn / self.c.box_rows)
                .map(|i| {
                    let token = r.add(first, i * self.c.box_rows);
                    let slot = r.rem(token, page);
                    [self.page_of(r, &w, token, pages), slot]
                })
                .collect();
            for (tensor, pipe) in [(&self.k, &self.k_pipe), (&self.v, &self.v_pipe)] {
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
    fn first_token(&self, r: &mut RoleBuilder, w: &Work, t: Scalar) -> Scalar {
        let index = w.blocks.index(r, None, t);
        let offset = r.mul(index, self.c.bn);
        r.add(w.start, offset)
    }

    /// The page that holds a token, or `none` where there is no such token.
    fn page_of(&self, r: &mut RoleBuilder, w: &Work, token: Scalar, none: Scalar) -> Scalar {
        let page = r.param("page");
        let last = r.sub(w.len, 1);
        let inside = r.min(token, last);
        let entry = r.div(inside, page);
        let found = r.load_scalar(&self.page_table, &[w.batch, entry]);
        let exists = r.cmp(CmpPred::Lt, token, w.len);
        r.select(exists, found, none)
    }

    fn math(&self, r: &mut RoleBuilder, mods: &Mods) {
        let w = self.work(r);
        let rows = self.rows(r, &w);
        let column = r.row_vec(&self.s_tile, DType::F32);
        let softmax = Softmax::start(r, &column);
        let interval = self.visibility.intervals(r, rows.rows.pos, w.len);
        let slopes = self.scores.slopes(r, &rows.rows);
        let q = r.load_rows(&self.q, self.q_tile.clone(), rows.index, 0, 2);
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
            let at = self.score_at(r, &w, &rows, t);
            let mut scored = self.scores.apply(r, raw, &at, slopes, mods);
            if masks {
                scored.tile = masked(r, scored.tile, &at, &self.visibility, interval, None, mods);
            }
            let weights = softmax.update(r, scored, 0);
            let (first, later) = (r.cmp(CmpPred::Eq, t, 0), r.cmp(CmpPred::Gt, t, 0));
            r.if_then(later, |r| {
                let before = r.get_tile(out);
                let factor = r.broadcast(weights.rescale, self.o_tile.clone());
                let after = r.binary("mul", before, factor);
                r.set_tile(out, after);
            });
            let p = r.cast(weights.tile, self.p.dtype);
            let layout = wgmma_a(ROWS, self.c.bn, 1).expect("the config's check allows blocks of whole k16 steps only");
            let p = r.part(p, [0, 0], RegTile { dtype: self.p.dtype, shape: [ROWS, self.c.bn], layout });
            let s = r.wait(&self.v_pipe);
            let v = r.slot(&self.v_pipe, s, 0);
            if masks {
                // The last page's rest may hold anything, and nothing times infinity is not nothing.
                let last = r.cmp(CmpPred::Eq, t, 0);
                r.if_then(last, |r| {
                    let first = self.first_token(r, &w, t);
                    let tokens = r.sub(w.len, first);
                    r.zero_rows(v, tokens);
                    r.sync();
                });
            }
            r.mma_async_reg(out, p, v, first, true);
            r.mma_wait(out, 0);
            r.release(&self.v_pipe);
        };
        let b = &w.blocks;
        if mods.mask.is_some() {
            r.for_range(0, b.count, 1, |r, t| block(r, t, true));
        } else {
            r.for_range(0, b.masked, 1, |r, t| block(r, t, true));
            r.for_range(b.masked, b.full, 1, |r, t| block(r, t, false));
            if self.visibility.window || self.visibility.chunk {
                r.for_range(b.full, b.count, 1, |r, t| block(r, t, true));
            }
        }
        self.finish(r, &w, &rows, &softmax, out, mods);
    }

    /// (token, head) of each row, and where its query lies; -1 past the last row.
    fn rows(&self, r: &mut RoleBuilder, w: &Work) -> DecodeRows {
        let column = r.row_vec(&self.s_tile, DType::I32);
        let (sq, hq) = (r.param("sq"), r.param("hq"));
        let index = r.iota(0, column.clone());
        let splat = |r: &mut RoleBuilder, s: Scalar| r.splat(s, column.clone());
        let first = splat(r, w.first);
        let row = r.binary("add", index, first);
        let group = splat(r, w.group);
        let first_head = r.mul(w.kv_head, w.group);
        let first_head = splat(r, first_head);
        let count = r.mul(sq, w.group);
        let (query, within, count) = (r.binary("div", row, group), r.binary("rem", row, group), splat(r, count));
        let head = r.binary("add", first_head, within);
        let exists = r.compare(CmpPred::Lt, row, count);
        let shift = r.sub(w.len, sq);
        let shift = splat(r, shift);
        let pos = r.binary("add", query, shift);
        let start = r.mul(w.batch, sq);
        let (start, heads, none) = (splat(r, start), splat(r, hq), r.int(-1));
        let token = r.binary("add", start, query);
        let flat = r.binary("mul", token, heads);
        let flat = r.binary("add", flat, head);
        let none = splat(r, none);
        let index = r.choose(exists, flat, none);
        DecodeRows { rows: Rows { batch: w.batch, head, query, pos }, exists, index }
    }

    fn score_at(&self, r: &mut RoleBuilder, w: &Work, rows: &DecodeRows, t: Scalar) -> ScoreAt {
        let like = RegTile { dtype: DType::I32, ..self.s_tile.clone() };
        let line = r.col_vec(&like, DType::I32);
        let first = self.first_token(r, w, t);
        let columns = r.iota(1, line.clone());
        let start = r.splat(first, line);
        let (key, sq) = (r.binary("add", columns, start), r.param("sq"));
        ScoreAt { rows: rows.rows, head: None, key, run: Some((first, columns)), len: [sq, w.len], like }
    }

    fn finish(&self, r: &mut RoleBuilder, w: &Work, rows: &DecodeRows, softmax: &Softmax, out: Cell, mods: &Mods) {
        let column = r.row_vec(&self.s_tile, DType::F32);
        let scale = self.scores.log2_scale(r, &column, mods);
        let sink = self.sink.as_ref().map(|sink| r.load_elems(sink, &[], rows.rows.head, Some(rows.exists)));
        let done = softmax.finish(r, scale, sink);
        let o = r.get_tile(out);
        let factor = r.broadcast(done.inverse, self.o_tile.clone());
        let o = r.binary("mul", o, factor);
        let zero = r.splat_f32(0.0, factor);
        let empty = r.compare(CmpPred::Le, factor, zero);
        let o = r.choose(empty, zero, o);
        let o = r.cast(o, self.p.output);
        if self.p.partial() {
            // Splits follow one another, each as large as q's rows.
            let (batch, sq, hq) = (r.param("batch"), r.param("sq"), r.param("hq"));
            let size = r.mul(batch, sq);
            let size = r.mul(size, hq);
            let before = r.mul(w.split, size);
            let like = r.tile_type(rows.index);
            let (before, none) = (r.splat(before, like.clone()), r.int(-1));
            let none = r.splat(none, like);
            let row = r.binary("add", rows.index, before);
            let row = r.choose(rows.exists, row, none);
            r.store_rows(&self.o, o, row, 0, 2);
            r.store_elems(&self.lse, &[], row, done.lse, Some(rows.exists));
        } else {
            r.store_rows(&self.o, o, rows.index, 0, 2);
            let like = r.tile_type(rows.index);
            let sq = r.param("sq");
            let sq = r.splat(sq, like);
            let at = r.binary("mul", rows.rows.head, sq);
            let at = r.binary("add", at, rows.rows.query);
            r.store_elems(&self.lse, &[w.batch], at, done.lse, Some(rows.exists));
        }
    }
}

struct DecodeRows {
    rows: Rows,
    exists: TileRef,
    /// The row's query in q, or -1.
    index: TileRef,
}
