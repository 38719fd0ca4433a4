//! Decode over a paged cache: 1 to 8 new tokens of a sequence against the tokens its row of the page table names.
//!
//! The heads of a group share keys, so their rows share a tile: row `i * group + g` is query `i` of head `g` of the group.
//! Each row of K and V is gathered by number, so pages may have any size. Lengths are read on the device: a captured
//! launch serves growing sequences. Tokens are split along the grid's z; a partial kernel leaves each split's result to
//! `attention_merge`. Slots and table entries past the length are never read.

use super::config::MmaAttentionConfig;
use super::core::{Core, Feed, Runs};
use crate::attention::decode_problem::{DecodeProblem, Select};
use crate::attention::score::{Mods, Rows, ScoreAt, Scores, masked};
use crate::attention::softmax::{Softmax, Weights};
use crate::attention::span::Visibility;
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{Cell, CmpPred, Dim, KernelBuilder, ProbeAxis, RegTile, RoleBuilder, Scalar, TensorRef, TileRef, Unit};

/// Query tokens of a sequence, at most.
pub const MAX_QUERIES: u32 = 8;

/// Records the kernel. A class with F32 output writes a result for each of `splits` parts of the tokens, of `split_size`
/// tokens each or, where that is 0, of as many as make them equal; the last takes what is left.
///
/// Page numbers below the lengths must be below `pages`, selected pages below `max_pages`.
///
/// # Errors
/// Tiles that have no fragment layout; [`MmaAttentionConfig::check`] refuses their configs.
pub fn decode(k: &mut KernelBuilder, p: &DecodeProblem, c: &MmaAttentionConfig, mods: &Mods) -> Result<(), LayoutError> {
    let core = Core::declare(k, p.dtype, [p.d, p.dv], c)?;
    let x = Ctx::declare(k, p, c, core);
    let mut result = Ok(());
    k.role("main", c.warps, None, Unit::Role, |r| result = x.main(r, mods));
    result
}

struct Ctx<'a> {
    p: &'a DecodeProblem,
    c: &'a MmaAttentionConfig,
    core: Core<'a>,
    scores: Scores,
    visibility: Visibility,
    q: TensorRef,
    k: TensorRef,
    v: TensorRef,
    table: TensorRef,
    kv_len: TensorRef,
    select: Option<TensorRef>,
    sink: Option<TensorRef>,
    o: TensorRef,
    lse: TensorRef,
}

/// A CTA's work: some rows of the heads that share a list of pages, against some tokens.
struct Work {
    batch: Scalar,
    /// Which of the heads, or groups of heads, that have a list of pages of their own.
    unit: Scalar,
    kv_head: Scalar,
    split: Scalar,
    /// Heads whose rows the tile holds.
    group: Scalar,
    /// First row.
    first: Scalar,
    /// Tokens of the sequence.
    kv_len: Scalar,
}

/// The tokens of a CTA, in the order of the list where there is one: block `t` starts `(count - 1 - t) * bn` after `start`.
struct Span {
    start: Scalar,
    end: Scalar,
    runs: Runs,
}

/// What a CTA's rows are.
struct RowTiles {
    rows: Rows,
    /// The row is one.
    exists: TileRef,
    /// `(batch * sq + i) * hq + head`.
    token_head: TileRef,
    /// `head * sq + i`.
    head_token: TileRef,
}

/// Tokens of a block: I32 tiles, and an I1 tile that says which are there.
struct Tokens {
    /// Position in the sequence.
    token: TileRef,
    /// Index into the sequence's row of the page table.
    entry: TileRef,
    /// Place in the page.
    slot: TileRef,
    exists: TileRef,
}

impl<'a> Ctx<'a> {
    fn declare(k: &mut KernelBuilder, p: &'a DecodeProblem, c: &'a MmaAttentionConfig, core: Core<'a>) -> Self {
        for name in ["batch", "sq", "hq", "hkv", "pages", "page", "max_pages"] {
            k.shape(name);
        }
        let visibility = Visibility { causal: p.causal, window: p.window, chunk: p.chunk };
        visibility.declare(k);
        let scores = Scores::without_bias(k, p.softcap, p.alibi);
        let dims = |names: &[&str], last: Option<u32>| -> Vec<Dim> {
            names.iter().map(|n| Dim::param(n)).chain(last.map(|n| Dim { param: None, factor: n })).collect()
        };
        let q = k.tensor("q", p.dtype, dims(&["batch", "sq", "hq"], Some(p.d)));
        let keys = k.tensor("k_pages", p.dtype, dims(&["pages", "page", "hkv"], Some(p.d)));
        let v = k.tensor("v_pages", p.dtype, dims(&["pages", "page", "hkv"], Some(p.dv)));
        let table = k.tensor("page_table", DType::I32, dims(&["batch", "max_pages"], None));
        let kv_len = k.tensor("kv_len", DType::I32, dims(&["batch"], None));
        let units = if p.select == Select::Heads { "hq" } else { "hkv" };
        let select = (p.select != Select::None).then(|| {
            k.shape("n_select");
            k.probe("n_select", c.bn, ProbeAxis::Trips);
            k.tensor("select", DType::I32, dims(&["batch", units, "n_select"], None))
        });
        let sink = p.sink.then(|| k.tensor("sink", DType::F32, dims(&["hq"], None)));
        if p.partial() {
            k.shape("splits");
            k.shape("split_size");
        }
        let lead = if p.partial() { "splits*batch" } else { "batch" };
        let o = k.tensor("o", p.output, dims(&[lead, "sq", "hq"], Some(p.dv)));
        let lse = if p.partial() { [lead, "sq", "hq"] } else { ["batch", "hq", "sq"] };
        let lse = k.tensor("lse", DType::F32, dims(&lse, None));
        let rows = if p.select == Select::Heads { "sq" } else { "sq*(hq/hkv)" };
        let splits = if p.partial() { "splits" } else { "1" };
        k.grid([format!("ceil_div({rows},{})*{units}", c.bm), "batch".into(), splits.into()]);
        k.require("hq % hkv == 0");
        k.require(format!("sq <= {MAX_QUERIES}"));
        // Rows of the cache are numbered in 32 bits.
        k.require(format!("pages*page*hkv <= {}", i32::MAX));
        // A sequence may be as long as its row of the table: both make the trip count.
        k.probe("kv_len", c.bn, ProbeAxis::Trips);
        k.probe("max_pages", c.bn, ProbeAxis::Trips);
        Ctx { p, c, core, scores, visibility, q, k: keys, v, table, kv_len, select, sink, o, lse }
    }

    fn main(&self, r: &mut RoleBuilder, mods: &Mods) -> Result<(), LayoutError> {
        let work = self.work(r);
        self.core.load_q(r, &self.q, |r, ty| {
            let rows = self.rows(r, &work, ty.clone());
            let none = r.int(-1);
            let none = r.splat(none, ty);
            r.choose(rows.exists, rows.token_head, none)
        });
        let column = r.row_vec(&self.core.scores, DType::I32);
        let rows = self.rows(r, &work, column.clone());
        let span = self.span(r, &work, mods);
        let mut interval = self.visibility.intervals(r, rows.rows.pos, work.kv_len);
        if self.select.is_none() {
            // Keys from the end on are those of the next split.
            let last = r.sub(span.end, 1);
            let last = r.splat(last, column.clone());
            interval[1] = r.binary("min", interval[1], last);
        }
        let slopes = self.scores.slopes(r, &rows.rows);
        let softmax = Softmax::start(r, &RegTile { dtype: DType::F32, ..column });
        let key_rows = |r: &mut RoleBuilder, t: Scalar, ty: RegTile| self.key_rows(r, &work, &span, t, ty);
        let weigh = |r: &mut RoleBuilder, t: Scalar, raw: TileRef, masks: bool| -> Weights {
            let like = RegTile { dtype: DType::I32, ..self.core.scores.clone() };
            let line = r.col_vec(&like, DType::I32);
            let (key, run) = if self.select.is_some() {
                // A column without a key lies behind every query.
                let Tokens { token, exists, .. } = self.tokens(r, &work, &span, t, line.clone());
                let none = r.int(i64::from(i32::MAX));
                let none = r.splat(none, line);
                (r.choose(exists, token, none), None)
            } else {
                let start = self.block_start(r, &span, t);
                let columns = r.iota(1, line.clone());
                let first = r.splat(start, line);
                (r.binary("add", first, columns), Some((start, columns)))
            };
            let sq = r.param("sq");
            let head = (self.p.select == Select::Heads).then_some(work.unit);
            let at = ScoreAt { rows: rows.rows, head, key, run, len: [sq, work.kv_len], like };
            let mut scored = self.scores.apply(r, raw, &at, slopes, mods);
            if masks {
                scored.tile = masked(r, scored.tile, &at, &self.visibility, interval, None, mods);
            }
            softmax.update(r, scored, 0)
        };
        let feed = Feed { k: &self.k, v: &self.v, rows: &key_rows, ahead: true };
        let out = self.core.run(r, &feed, &span.runs, &weigh)?;
        self.finish(r, &work, &rows, &softmax, out, mods);
        Ok(())
    }

    fn work(&self, r: &mut RoleBuilder) -> Work {
        let (x, batch, split) = (r.cta_id(0), r.cta_id(1), r.cta_id(2));
        let (sq, hq, hkv) = (r.param("sq"), r.param("hq"), r.param("hkv"));
        let shared = r.div(hq, hkv);
        let each = self.p.select == Select::Heads;
        let group = if each { r.int(1) } else { shared };
        let rows = r.mul(sq, group);
        let tiles = r.ceil_div(rows, self.c.bm);
        let (unit, tile) = (r.div(x, tiles), r.rem(x, tiles));
        let kv_head = if each { r.div(unit, shared) } else { unit };
        let first = r.mul(tile, self.c.bm);
        let length = r.load_scalar(&self.kv_len, &[batch]);
        let (page, max_pages) = (r.param("page"), r.param("max_pages"));
        // A length the table has no room for would read what is not there.
        let room = r.mul(page, max_pages);
        let length = r.min(length, room);
        let kv_len = r.max(length, 0);
        Work { batch, unit, kv_head, split, group, first, kv_len }
    }

    fn rows(&self, r: &mut RoleBuilder, w: &Work, ty: RegTile) -> RowTiles {
        let (sq, hq) = (r.param("sq"), r.param("hq"));
        let first_head = r.mul(w.unit, w.group);
        let shift = r.sub(w.kv_len, sq);
        let before = r.mul(w.batch, sq);
        let [first, group, first_head, shift, before, sq, hq] =
            [w.first, w.group, first_head, shift, before, sq, hq].map(|s| r.splat(s, ty.clone()));
        let index = r.iota(0, ty);
        let index = r.binary("add", index, first);
        let (query, in_group) = (r.binary("div", index, group), r.binary("rem", index, group));
        let head = r.binary("add", first_head, in_group);
        let exists = r.compare(CmpPred::Lt, query, sq);
        let pos = r.binary("add", query, shift);
        let token = r.binary("add", query, before);
        let token_head = r.binary("mul", token, hq);
        let token_head = r.binary("add", token_head, head);
        let head_token = r.binary("mul", head, sq);
        let head_token = r.binary("add", head_token, query);
        RowTiles { rows: Rows { batch: w.batch, head, query, pos }, exists, token_head, head_token }
    }

    /// The tokens of this split that a row of the tile sees, in blocks.
    fn span(&self, r: &mut RoleBuilder, w: &Work, mods: &Mods) -> Span {
        let bn = i64::from(self.c.bn);
        let zero = r.int(0);
        let mut end = match &self.select {
            Some(_) => {
                let (n, page) = (r.param("n_select"), r.param("page"));
                r.mul(n, page)
            }
            None => w.kv_len,
        };
        let mut start = zero;
        if self.p.partial() {
            let (splits, fixed) = (r.param("splits"), r.param("split_size"));
            let even = r.add(end, splits);
            let even = r.sub(even, 1);
            let even = r.div(even, splits);
            let even = r.ceil_div(even, self.c.bn);
            let even = r.mul(even, bn);
            let given = r.cmp(CmpPred::Gt, fixed, 0);
            let size = r.select(given, fixed, even);
            let from = r.mul(w.split, size);
            start = r.min(from, end);
            let next = r.add(w.split, 1);
            let last = r.cmp(CmpPred::Eq, next, splits);
            let to = r.add(start, size);
            let to = r.min(to, end);
            end = r.select(last, end, to);
        }
        if self.select.is_some() {
            let count = self.blocks_between(r, start, end);
            return Span { start, end, runs: Runs { count, parts: vec![(zero, count, true)] } };
        }
        // Positions of the tile's first and last query.
        let sq = r.param("sq");
        let shift = r.sub(w.kv_len, sq);
        let first = r.div(w.first, w.group);
        let last = r.add(w.first, self.c.bm - 1);
        let last = r.div(last, w.group);
        let most = r.sub(sq, 1);
        let last = r.min(last, most);
        let (first, last) = (r.add(first, shift), r.add(last, shift));
        let [lo, first_hi] = self.visibility.interval(r, first, w.kv_len);
        let [last_lo, hi] = self.visibility.interval(r, last, w.kv_len);
        // Blocks stay where they are in the split, so that what a window leaves out does not change the order of sums.
        let skipped = r.sub(lo, start);
        let skipped = r.max(skipped, 0);
        let skipped = r.div(skipped, bn);
        let skipped = r.mul(skipped, bn);
        let start = r.add(start, skipped);
        let seen = r.add(hi, 1);
        let end = r.min(end, seen);
        let end = r.max(end, start);
        let count = self.blocks_between(r, start, end);
        if mods.mask.is_some() {
            return Span { start, end, runs: Runs { count, parts: vec![(zero, count, true)] } };
        }
        // Whole blocks below what every row sees; they come after the others.
        let whole = r.add(first_hi, 1);
        let whole = r.min(whole, end);
        let whole = r.sub(whole, start);
        let whole = r.max(whole, 0);
        let whole = r.div(whole, bn);
        let masked = r.sub(count, whole);
        let mut parts = vec![(zero, masked, true)];
        if self.visibility.window || self.visibility.chunk {
            let hidden = r.sub(last_lo, start);
            let hidden = r.max(hidden, 0);
            let hidden = r.ceil_div(hidden, self.c.bn);
            let full = r.sub(count, hidden);
            let full = r.max(full, masked);
            parts.extend([(masked, full, false), (full, count, true)]);
        } else {
            parts.push((masked, count, false));
        }
        Span { start, end, runs: Runs { count, parts } }
    }

    fn blocks_between(&self, r: &mut RoleBuilder, start: Scalar, end: Scalar) -> Scalar {
        let tokens = r.sub(end, start);
        r.ceil_div(tokens, self.c.bn)
    }

    /// The first token of block number `t`: the last block comes first.
    fn block_start(&self, r: &mut RoleBuilder, s: &Span, t: Scalar) -> Scalar {
        let last = r.sub(s.runs.count, 1);
        let index = r.sub(last, t);
        let first = r.mul(index, self.c.bn);
        r.add(first, s.start)
    }

    /// The tokens of block number `t`; `ty` is a row or a column of it.
    fn tokens(&self, r: &mut RoleBuilder, w: &Work, s: &Span, t: Scalar, ty: RegTile) -> Tokens {
        let first = self.block_start(r, s, t);
        let axis = usize::from(ty.shape[0] == 1);
        let index = r.iota(axis, ty.clone());
        let (page, zero) = (r.param("page"), r.int(0));
        let [first, end, page, kv_len, zero] = [first, s.end, page, w.kv_len, zero].map(|v| r.splat(v, ty.clone()));
        let index = r.binary("add", index, first);
        let exists = r.compare(CmpPred::Lt, index, end);
        let (entry, slot) = (r.binary("div", index, page), r.binary("rem", index, page));
        let Some(select) = &self.select else { return Tokens { token: index, entry, slot, exists } };
        let chosen = r.load_elems(select, &[w.batch, w.unit], entry, Some(exists));
        let used = r.compare(CmpPred::Ge, chosen, zero);
        let token = r.binary("mul", chosen, page);
        let token = r.binary("add", token, slot);
        let inside = r.compare(CmpPred::Lt, token, kv_len);
        let exists = r.binary("and", exists, used);
        Tokens { token, entry: chosen, slot, exists: r.binary("and", exists, inside) }
    }

    /// Rows of the cache: `(page_table[batch, entry] * page + slot) * hkv + kv_head`, -1 where there is no token.
    fn key_rows(&self, r: &mut RoleBuilder, w: &Work, s: &Span, t: Scalar, ty: RegTile) -> TileRef {
        let Tokens { entry, slot, exists, .. } = self.tokens(r, w, s, t, ty.clone());
        let (page, hkv, none) = (r.param("page"), r.param("hkv"), r.int(-1));
        let [page, hkv, none, head] = [page, hkv, none, w.kv_head].map(|v| r.splat(v, ty.clone()));
        let number = r.load_elems(&self.table, &[w.batch], entry, Some(exists));
        let row = r.binary("mul", number, page);
        let row = r.binary("add", row, slot);
        let row = r.binary("mul", row, hkv);
        let row = r.binary("add", row, head);
        r.choose(exists, row, none)
    }

    /// Divides by the sums and stores O and the log of the sums.
    fn finish(&self, r: &mut RoleBuilder, w: &Work, rows: &RowTiles, softmax: &Softmax, out: Cell, mods: &Mods) {
        let column = r.row_vec(&self.core.scores, DType::F32);
        let scale = self.scores.log2_scale(r, &column, mods);
        let sink = self.sink.as_ref().map(|sink| r.load_elems(sink, &[], rows.rows.head, Some(rows.exists)));
        let done = softmax.finish(r, scale, sink);
        let o = r.get_tile(out);
        let factor = r.broadcast(done.inverse, self.core.out.clone());
        let o = r.binary("mul", o, factor);
        let o = r.cast(o, self.p.output);
        let index = r.tile_type(rows.token_head);
        let mut row = rows.token_head;
        if self.p.partial() {
            let (batch, sq, hq) = (r.param("batch"), r.param("sq"), r.param("hq"));
            let of_split = r.mul(sq, hq);
            let of_split = r.mul(of_split, batch);
            let before = r.mul(of_split, w.split);
            let before = r.splat(before, index.clone());
            row = r.binary("add", row, before);
        }
        let none = r.int(-1);
        let none = r.splat(none, index);
        let stored = r.choose(rows.exists, row, none);
        r.store_rows(&self.o, o, stored, 0, 2);
        if self.p.partial() {
            r.store_elems(&self.lse, &[], row, done.lse, Some(rows.exists));
        } else {
            r.store_elems(&self.lse, &[w.batch], rows.head_token, done.lse, Some(rows.exists));
        }
    }
}
