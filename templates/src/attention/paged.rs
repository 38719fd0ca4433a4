//! What the decode kernels share: the tensors and parameters of a class, which rows and tokens a CTA has, and where its
//! result goes.
//!
//! Heads of a group share keys, so their rows share a tile: row `i * group + g` is query `i` of head `g` of the group.

use super::decode_problem::{DecodeProblem, Select};
use super::operands::Outcome;
use super::score::{Mods, Rows, Scores};
use super::span::{Blocks, Visibility};
use tilewright_ir::DType;
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, ProbeAxis, RegTile, RoleBuilder, Scalar, TensorRef, TileRef};

/// Query tokens of a sequence, at most.
pub const MAX_QUERIES: u32 = 8;

/// The tensors and parameters of a decode, for tiles of `bm` rows and blocks of `bn` tokens.
pub(super) struct Paged<'a> {
    pub p: &'a DecodeProblem,
    bm: u32,
    bn: u32,
    pub scores: Scores,
    pub visibility: Visibility,
    pub q: TensorRef,
    pub k: TensorRef,
    pub v: TensorRef,
    pub table: TensorRef,
    pub select: Option<TensorRef>,
    kv_len: TensorRef,
    sink: Option<TensorRef>,
    o: TensorRef,
    lse: TensorRef,
}

/// A CTA's work: some rows of the heads that have the same pages, against some tokens.
pub(super) struct Work {
    pub batch: Scalar,
    /// Which of the heads, or groups of heads, that have pages of their own.
    pub unit: Scalar,
    pub kv_head: Scalar,
    split: Scalar,
    /// Heads whose rows share tiles.
    group: Scalar,
    /// First row.
    first: Scalar,
    /// Tokens of the sequence.
    pub kv_len: Scalar,
    /// First token of the split, one past the last; where pages are selected, in the order of the list.
    pub start: Scalar,
    pub end: Scalar,
}

/// What a CTA's rows are, in the layout of some tile.
pub(super) struct PagedRows {
    pub rows: Rows,
    /// The row is one: tiles may be longer than there are rows.
    exists: TileRef,
    /// `(batch * sq + i) * hq + head`, and the same or -1.
    token_head: TileRef,
    pub index: TileRef,
}

impl<'a> Paged<'a> {
    /// Declares them, and the conditions and probes that go with them.
    pub fn declare(k: &mut KernelBuilder, p: &'a DecodeProblem, [bm, bn]: [u32; 2]) -> Self {
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
            k.probe("n_select", bn, ProbeAxis::Trips);
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
        k.grid([format!("ceil_div({rows},{bm})*{units}"), splits.into(), "batch".into()]);
        k.require("hq % hkv == 0");
        k.require(format!("sq <= {MAX_QUERIES}"));
        // Rows of the cache are numbered in 32 bits.
        k.require(format!("pages*page*hkv <= {}", i32::MAX));
        // A sequence may be as long as its row of the table: both make the trip count.
        k.probe("kv_len", bn, ProbeAxis::Trips);
        k.probe("max_pages", bn, ProbeAxis::Trips);
        Paged { p, bm, bn, scores, visibility, q, k: keys, v, table, select, kv_len, sink, o, lse }
    }

    /// The work that a CTA's place in the grid `[tiles of heads, splits, batch]` names.
    pub fn work(&self, r: &mut RoleBuilder) -> Work {
        let [x, split, batch] = [0, 1, 2].map(|axis| r.cta_id(axis));
        let (sq, hq, hkv) = (r.param("sq"), r.param("hq"), r.param("hkv"));
        let shared = r.div(hq, hkv);
        let each = self.p.select == Select::Heads;
        let group = if each { r.int(1) } else { shared };
        let rows = r.mul(sq, group);
        let tiles = r.ceil_div(rows, self.bm);
        let (unit, tile) = (r.div(x, tiles), r.rem(x, tiles));
        let kv_head = if each { r.div(unit, shared) } else { unit };
        let first = r.mul(tile, self.bm);
        let length = r.load_scalar(&self.kv_len, &[batch]);
        let (page, max_pages) = (r.param("page"), r.param("max_pages"));
        // A length the table has no room for would read what is not there.
        let room = r.mul(page, max_pages);
        let length = r.min(length, room);
        let kv_len = r.max(length, 0);
        let (mut start, mut end) = (r.int(0), kv_len);
        if self.select.is_some() {
            let n = r.param("n_select");
            end = r.mul(n, page);
        }
        if self.p.partial() {
            [start, end] = self.split(r, split, end);
        }
        Work { batch, unit, kv_head, split, group, first, kv_len, start, end }
    }

    /// The part of `tokens` that a split has: `split_size` of them or, where that is 0, as many as make splits equal. The last
    /// takes what is left, however few splits there are.
    fn split(&self, r: &mut RoleBuilder, split: Scalar, tokens: Scalar) -> [Scalar; 2] {
        let (splits, fixed) = (r.param("splits"), r.param("split_size"));
        let even = r.add(tokens, splits);
        let even = r.sub(even, 1);
        let even = r.div(even, splits);
        let even = r.ceil_div(even, self.bn);
        let even = r.mul(even, self.bn);
        let given = r.cmp(CmpPred::Gt, fixed, 0);
        let size = r.select(given, fixed, even);
        let from = r.mul(split, size);
        let start = r.min(from, tokens);
        let to = r.add(start, size);
        let to = r.min(to, tokens);
        let next = r.add(split, 1);
        let last = r.cmp(CmpPred::Ge, next, splits);
        [start, r.select(last, tokens, to)]
    }

    /// The blocks of the split that a row of the tile sees.
    pub fn blocks(&self, r: &mut RoleBuilder, w: &Work) -> Blocks {
        if self.select.is_some() {
            // Tokens come in any order, and some are none.
            let tokens = r.sub(w.end, w.start);
            let count = r.ceil_div(tokens, self.bn);
            return Blocks::all_masked(count);
        }
        let sq = r.param("sq");
        let shift = r.sub(w.kv_len, sq);
        let first = r.div(w.first, w.group);
        let last = r.add(w.first, self.bm - 1);
        let last = r.div(last, w.group);
        let most = r.sub(sq, 1);
        let last = r.min(last, most);
        let positions = [r.add(first, shift), r.add(last, shift)];
        Blocks::part(r, &self.visibility, positions, w.kv_len, [w.start, w.end], self.bn)
    }

    /// The tile's rows, in the layout of a type `[bm, 1]`.
    pub fn rows(&self, r: &mut RoleBuilder, w: &Work, ty: RegTile) -> PagedRows {
        let (sq, hq, none) = (r.param("sq"), r.param("hq"), r.int(-1));
        let first_head = r.mul(w.unit, w.group);
        let shift = r.sub(w.kv_len, sq);
        let before = r.mul(w.batch, sq);
        let [first, group, first_head, shift, before, sq, hq, none] =
            [w.first, w.group, first_head, shift, before, sq, hq, none].map(|s| r.splat(s, ty.clone()));
        let row = r.iota(0, ty);
        let row = r.binary("add", row, first);
        let (query, in_group) = (r.binary("div", row, group), r.binary("rem", row, group));
        let head = r.binary("add", first_head, in_group);
        let exists = r.compare(CmpPred::Lt, query, sq);
        let pos = r.binary("add", query, shift);
        let token = r.binary("add", query, before);
        let token_head = r.binary("mul", token, hq);
        let token_head = r.binary("add", token_head, head);
        let index = r.choose(exists, token_head, none);
        PagedRows { rows: Rows { batch: w.batch, head, query, pos }, exists, token_head, index }
    }

    /// First and last key that the rows see of the split.
    pub fn interval(&self, r: &mut RoleBuilder, w: &Work, rows: &PagedRows) -> [TileRef; 2] {
        let [first, mut last] = self.visibility.intervals(r, rows.rows.pos, w.kv_len);
        if self.p.partial() && self.select.is_none() {
            let like = r.tile_type(last);
            let end = r.sub(w.end, 1);
            let end = r.splat(end, like);
            last = r.binary("min", last, end);
        }
        [first, last]
    }

    /// Divides by the sums and stores O and the log of the sums.
    pub fn finish(&self, r: &mut RoleBuilder, w: &Work, rows: &PagedRows, end: &Outcome, mods: &Mods) {
        let column = r.row_vec(end.types[0], DType::F32);
        let scale = self.scores.log2_scale(r, &column, mods);
        let sink = self.sink.as_ref().map(|sink| r.load_elems(sink, &[], rows.rows.head, Some(rows.exists)));
        let (o, lse) = end.normalised(r, scale, sink, self.p.output);
        let like = r.tile_type(rows.index);
        if self.p.partial() {
            // Splits follow one another, each as large as q's rows.
            let (batch, sq, hq, none) = (r.param("batch"), r.param("sq"), r.param("hq"), r.int(-1));
            let size = r.mul(batch, sq);
            let size = r.mul(size, hq);
            let before = r.mul(w.split, size);
            let [before, none] = [before, none].map(|s| r.splat(s, like.clone()));
            let row = r.binary("add", rows.token_head, before);
            let stored = r.choose(rows.exists, row, none);
            r.store_rows(&self.o, o, stored, 0, 2);
            r.store_elems(&self.lse, &[], row, lse, Some(rows.exists));
        } else {
            r.store_rows(&self.o, o, rows.index, 0, 2);
            let sq = r.param("sq");
            let sq = r.splat(sq, like);
            let at = r.binary("mul", rows.rows.head, sq);
            let at = r.binary("add", at, rows.rows.query);
            r.store_elems(&self.lse, &[w.batch], at, lse, Some(rows.exists));
        }
    }
}
