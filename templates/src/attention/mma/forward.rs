//! The Ampere forward kernel: one CTA a tile of queries of one head.

use super::config::MmaAttentionConfig;
use super::core::{Core, Feed, Runs};
use crate::attention::problem::AttentionProblem;
use crate::attention::score::{Mods, Rows, ScoreAt, Scores, Sparsity, masked};
use crate::attention::softmax::{Softmax, Weights};
use crate::attention::span::{BlockLists, Blocks, Visibility};
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{Cell, CmpPred, Dim, KernelBuilder, ProbeAxis, RegTile, RoleBuilder, Scalar, TensorRef, TileRef, Unit};

/// Records the kernel. Tensors, parameters and masks are those of the class; the grid is one CTA for each `bm` queries of a
/// head, longest first where the mask is causal.
///
/// # Errors
/// Tiles that have no fragment layout; [`MmaAttentionConfig::check`] refuses their configs.
pub fn forward(k: &mut KernelBuilder, p: &AttentionProblem, c: &MmaAttentionConfig, mods: &Mods) -> Result<(), LayoutError> {
    let core = Core::declare(k, p.dtype, [p.d, p.dv], c)?;
    let x = Ctx::declare(k, p, c, core);
    let mut result = Ok(());
    k.role("main", c.warps, None, Unit::Role, |r| result = x.main(r, mods));
    result
}

struct Ctx<'a> {
    p: &'a AttentionProblem,
    c: &'a MmaAttentionConfig,
    core: Core<'a>,
    scores: Scores,
    visibility: Visibility,
    sparsity: Option<Sparsity>,
    lists: Option<BlockLists>,
    q: TensorRef,
    k: TensorRef,
    v: TensorRef,
    o: TensorRef,
    lse: TensorRef,
    sink: Option<TensorRef>,
    cu: Option<[TensorRef; 2]>,
}

/// A CTA's tile: `bm` queries of one head.
struct Tile {
    batch: Scalar,
    head: Scalar,
    kv_head: Scalar,
    /// Index of the tile in its head.
    index: Scalar,
    /// First query, in its sequence.
    first: Scalar,
    /// Queries and keys of the sequence.
    len: [Scalar; 2],
    /// Where the sequence starts in q and k, in tokens.
    start: [Scalar; 2],
}

impl<'a> Ctx<'a> {
    fn declare(k: &mut KernelBuilder, p: &'a AttentionProblem, c: &'a MmaAttentionConfig, core: Core<'a>) -> Self {
        for name in ["batch", "sq", "sk", "hq", "hkv"] {
            k.shape(name);
        }
        let visibility = Visibility { causal: p.causal, window: p.window, chunk: p.chunk };
        visibility.declare(k);
        let scores = Scores::declare(k, p);
        let sparsity = p.sparse.map(|s| Sparsity::declare(k, s.mask, s.heads));
        let lists = p.sparse.map(|_| BlockLists::declare(k, c.bm, c.bn));
        if p.varlen {
            k.shape("total_q");
            k.shape("total_k");
        }
        if p.partial() {
            k.shape("part");
            k.shape("parts");
        }
        let tensor = |k: &mut KernelBuilder, name: &str, dtype, tokens: [&str; 3], heads: &str, last: u32| {
            let [lead, len, total] = tokens;
            let mut dims = if p.varlen { vec![Dim::param(total)] } else { vec![Dim::param(lead), Dim::param(len)] };
            dims.extend([Dim::param(heads), Dim { param: None, factor: last }]);
            k.tensor(name, dtype, dims)
        };
        let q = tensor(k, "q", p.dtype, ["batch", "sq", "total_q"], "hq", p.d);
        let keys = tensor(k, "k", p.dtype, ["batch", "sk", "total_k"], "hkv", p.d);
        let v = tensor(k, "v", p.dtype, ["batch", "sk", "total_k"], "hkv", p.dv);
        let lead = if p.partial() { "parts*batch" } else { "batch" };
        let o = tensor(k, "o", p.output, [lead, "sq", "total_q"], "hq", p.dv);
        // Of a part: token by token, as its rows are. Of the op: head by head.
        let dims: &[&str] = match (p.partial(), p.varlen) {
            (true, true) => &["parts*total_q", "hq"],
            (true, false) => &["parts*batch", "sq", "hq"],
            (false, true) => &["hq", "total_q"],
            (false, false) => &["batch", "hq", "sq"],
        };
        let lse = k.tensor("lse", DType::F32, dims.iter().map(|d| Dim::param(d)));
        let sink = p.sink.then(|| k.tensor("sink", DType::F32, [Dim::param("hq")]));
        let cu = p.varlen.then(|| ["cu_q", "cu_k"].map(|n| k.tensor(n, DType::I32, [Dim::param("batch+1")])));
        k.grid([format!("ceil_div(sq,{})", c.bm), "hq".into(), "batch".into()]);
        k.require("hq % hkv == 0");
        // Rows of the tensors are numbered in 32 bits.
        for (tokens, heads) in
            if p.varlen { [("total_q", "hq"), ("total_k", "hkv")] } else { [("batch*sq", "hq"), ("batch*sk", "hkv")] }
        {
            k.require(format!("{tokens}*{heads} <= {}", i32::MAX));
        }
        k.probe("sk", c.bn, ProbeAxis::Trips);
        if p.varlen {
            k.probe("cu_q", 1, ProbeAxis::Trips);
            k.probe("cu_k", c.bn, ProbeAxis::Trips);
        }
        Ctx { p, c, core, scores, visibility, sparsity, lists, q, k: keys, v, o, lse, sink, cu }
    }

    fn main(&self, r: &mut RoleBuilder, mods: &Mods) -> Result<(), LayoutError> {
        let tile = self.tile(r);
        self.core.load_q(r, &self.q, |r, ty| self.query_rows(r, &tile, ty));
        let column = r.row_vec(&self.core.scores, DType::I32);
        let rows = self.rows(r, &tile, &column);
        let interval = self.visibility.intervals(r, rows.pos, tile.len[1]);
        let slopes = self.scores.slopes(r, &rows);
        let softmax = Softmax::start(r, &RegTile { dtype: DType::F32, ..column });
        let blocks = self.blocks(r, &tile);
        let lists = self.lists.as_ref();
        let key_rows = |r: &mut RoleBuilder, t: Scalar, ty: RegTile| {
            let block = blocks.index(r, lists, t);
            self.key_rows(r, &tile, block, ty)
        };
        let weigh = |r: &mut RoleBuilder, t: Scalar, raw: TileRef, masks: bool| -> Weights {
            let block = blocks.index(r, lists, t);
            let like = RegTile { dtype: DType::I32, ..self.core.scores.clone() };
            let line = r.col_vec(&like, DType::I32);
            let start = r.mul(block, self.c.bn);
            let columns = r.iota(1, line.clone());
            let first = r.splat(start, line);
            let key = r.binary("add", first, columns);
            let at = ScoreAt { rows, head: Some(tile.head), key, run: Some((start, columns)), len: tile.len, like };
            let mut scored = self.scores.apply(r, raw, &at, slopes, mods);
            if masks {
                scored.tile = masked(r, scored.tile, &at, &self.visibility, interval, self.sparsity.as_ref(), mods);
            }
            softmax.update(r, scored, 0)
        };
        let feed = Feed { k: &self.k, v: &self.v, rows: &key_rows, ahead: false };
        let runs = self.runs(r, &blocks, mods);
        let out = self.core.run(r, &feed, &runs, &weigh)?;
        self.finish(r, &tile, &rows, &softmax, out, mods);
        Ok(())
    }

    fn tile(&self, r: &mut RoleBuilder) -> Tile {
        let (x, head, batch) = (r.cta_id(0), r.cta_id(1), r.cta_id(2));
        let (sq, sk, hq, hkv) = (r.param("sq"), r.param("sk"), r.param("hq"), r.param("hkv"));
        let index = if self.p.causal {
            // The last queries see the most keys: they start first.
            let tiles = r.ceil_div(sq, self.c.bm);
            let last = r.sub(tiles, 1);
            r.sub(last, x)
        } else {
            x
        };
        let group = r.div(hq, hkv);
        let kv_head = r.div(head, group);
        let (mut len, mut start) = ([sq, sk], [sq, sk].map(|n| r.mul(batch, n)));
        if let Some(cu) = &self.cu {
            for (i, cu) in cu.iter().enumerate() {
                let next = r.add(batch, 1);
                start[i] = r.load_scalar(cu, &[batch]);
                let end = r.load_scalar(cu, &[next]);
                len[i] = r.sub(end, start[i]);
            }
        }
        Tile { batch, head, kv_head, index, first: r.mul(index, self.c.bm), len, start }
    }

    /// Row `(start + i) * heads + head` for the queries or keys `i` from `first` on, -1 from `len` on.
    fn token_rows(
        &self,
        r: &mut RoleBuilder,
        first: Scalar,
        len: Scalar,
        heads: &str,
        base: [Scalar; 2],
        ty: RegTile,
    ) -> TileRef {
        let [start, head] = base;
        let heads = r.param(heads);
        // What does not depend on the row is worked out once.
        let row0 = r.add(start, first);
        let row0 = r.mul(row0, heads);
        let row0 = r.add(row0, head);
        let left = r.sub(len, first);
        let i = r.iota(0, ty.clone());
        let [row0, heads, left] = [row0, heads, left].map(|s| r.splat(s, ty.clone()));
        let row = r.binary("mul", i, heads);
        let row = r.binary("add", row, row0);
        let exists = r.compare(CmpPred::Lt, i, left);
        let none = r.int(-1);
        let none = r.splat(none, ty);
        r.choose(exists, row, none)
    }

    fn query_rows(&self, r: &mut RoleBuilder, tile: &Tile, ty: RegTile) -> TileRef {
        self.token_rows(r, tile.first, tile.len[0], "hq", [tile.start[0], tile.head], ty)
    }

    fn key_rows(&self, r: &mut RoleBuilder, tile: &Tile, block: Scalar, ty: RegTile) -> TileRef {
        let first = r.mul(block, self.c.bn);
        self.token_rows(r, first, tile.len[1], "hkv", [tile.start[1], tile.kv_head], ty)
    }

    fn rows(&self, r: &mut RoleBuilder, tile: &Tile, column: &RegTile) -> Rows {
        let shift = r.sub(tile.len[1], tile.len[0]);
        let [first, shift, head] = [tile.first, shift, tile.head].map(|s| r.splat(s, column.clone()));
        let index = r.iota(0, column.clone());
        let query = r.binary("add", index, first);
        let pos = r.binary("add", query, shift);
        Rows { batch: tile.batch, head, query, pos }
    }

    /// The blocks the tile visits; none where it lies past its sequence.
    fn blocks(&self, r: &mut RoleBuilder, tile: &Tile) -> Blocks {
        let [sq, sk] = tile.len;
        if let Some(lists) = &self.lists {
            let (heads, longest, max_sk) = (r.param("hq"), r.param("sq"), r.param("sk"));
            let tiles = r.ceil_div(longest, self.c.bm);
            let head = r.mul(tile.batch, heads);
            let head = r.add(head, tile.head);
            let row = r.mul(head, tiles);
            let row = r.add(row, tile.index);
            return lists.row(r, row, max_sk);
        }
        let shift = r.sub(sk, sq);
        let end = r.add(tile.first, self.c.bm);
        let end = r.min(end, sq);
        let last = r.sub(end, 1);
        let last = r.max(last, tile.first);
        let positions = [r.add(tile.first, shift), r.add(last, shift)];
        let mut blocks = Blocks::range(r, &self.visibility, positions, positions, sk, self.c.bn);
        if self.p.varlen {
            let exists = r.cmp(CmpPred::Lt, tile.first, sq);
            for n in [&mut blocks.count, &mut blocks.masked, &mut blocks.full] {
                *n = r.select(exists, *n, 0);
            }
        }
        blocks
    }

    fn runs(&self, r: &mut RoleBuilder, blocks: &Blocks, mods: &Mods) -> Runs {
        let zero = r.int(0);
        let Blocks { count, masked, full, .. } = *blocks;
        let parts = if mods.mask.is_some() {
            vec![(zero, count, true)]
        } else if self.visibility.window || self.visibility.chunk {
            vec![(zero, masked, true), (masked, full, false), (full, count, true)]
        } else {
            vec![(zero, masked, true), (masked, count, false)]
        };
        Runs { count, parts }
    }

    /// Divides by the sums and stores O and the log of the sums. Rows past the end of the sequence are not stored.
    fn finish(&self, r: &mut RoleBuilder, tile: &Tile, rows: &Rows, softmax: &Softmax, out: Cell, mods: &Mods) {
        let column = r.row_vec(&self.core.scores, DType::F32);
        let scale = self.scores.log2_scale(r, &column, mods);
        let sink = self.sink.as_ref().map(|sink| {
            let at = r.load_scalar(sink, &[tile.head]);
            r.splat(at, column.clone())
        });
        let done = softmax.finish(r, scale, sink);
        let o = r.get_tile(out);
        let factor = r.broadcast(done.inverse, self.core.out.clone());
        let o = r.binary("mul", o, factor);
        let o = r.cast(o, self.p.output);
        let index = r.tile_type(rows.query);
        let mut start = tile.start[0];
        if self.p.partial() {
            let part = r.param("part");
            let tokens = if self.p.varlen {
                r.param("total_q")
            } else {
                let (batch, sq) = (r.param("batch"), r.param("sq"));
                r.mul(batch, sq)
            };
            let before = r.mul(part, tokens);
            start = r.add(start, before);
        }
        let row = self.token_rows(r, tile.first, tile.len[0], "hq", [start, tile.head], index.clone());
        r.store_rows(&self.o, o, row, 0, 2);
        let length = r.splat(tile.len[0], index.clone());
        let exists = r.compare(CmpPred::Lt, rows.query, length);
        if self.p.partial() {
            r.store_elems(&self.lse, &[], row, done.lse, Some(exists));
        } else if self.p.varlen {
            let start = r.splat(start, index);
            let token = r.binary("add", rows.query, start);
            r.store_elems(&self.lse, &[tile.head], token, done.lse, Some(exists));
        } else {
            r.store_elems(&self.lse, &[tile.batch, tile.head], rows.query, done.lse, Some(exists));
        }
    }
}
