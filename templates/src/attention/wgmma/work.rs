//! Resources of the Hopper kernel: which CTA computes which tile of queries, what it loads, where the result goes.

use super::Layouts;
use crate::attention::config::WgmmaAttentionConfig;
use crate::attention::problem::AttentionProblem;
use crate::attention::score::{Mods, Rows, Scores, Sparsity};
use crate::attention::softmax::Softmax;
use crate::attention::span::{BlockLists, Blocks, Visibility};
use tilewright_ir::DType;
use tilewright_ir::tile::{
    Cell, CmpPred, Dim, KernelBuilder, Operand, Pipe, ProbeAxis, RegTile, RoleBuilder, Scalar, TensorRef, TileRef,
};

/// Keys and values that heads walked together may hold in the L2 cache, bytes: half of an H100's.
const L2_BYTES: i64 = 24 << 20;

/// The kernel's resources.
pub(super) struct Ctx<'a> {
    pub p: &'a AttentionProblem,
    pub c: &'a WgmmaAttentionConfig,
    pub q_pipe: Pipe,
    pub k_pipe: Pipe,
    pub v_pipe: Pipe,
    pub scores: Scores,
    pub visibility: Visibility,
    pub sparsity: Option<Sparsity>,
    pub lists: Option<BlockLists>,
    /// A user's mask is asked about every block.
    pub masks_all: bool,
    q: TensorRef,
    k: TensorRef,
    v: TensorRef,
    o: TensorRef,
    lse: TensorRef,
    sink: Option<TensorRef>,
    cu: Option<[TensorRef; 2]>,
}

/// A CTA's tile: `bm` queries of one head.
pub(super) struct Tile {
    pub batch: Scalar,
    pub head: Scalar,
    kv_head: Scalar,
    /// First query, in its sequence.
    first: Scalar,
    /// Index of the tile in its head.
    index: Scalar,
    /// Queries and keys of the sequence.
    pub len: [Scalar; 2],
    /// Where the sequence starts in q and k.
    start: [Scalar; 2],
}

/// A warpgroup's rows.
#[derive(Clone, Copy)]
pub(super) struct TileRows {
    pub rows: Rows,
    /// First and last visible key.
    pub interval: [TileRef; 2],
    /// ALiBi slopes.
    pub slopes: Option<TileRef>,
}

impl<'a> Ctx<'a> {
    /// Declares tensors, pipes, grid and conditions.
    pub fn declare(k: &mut KernelBuilder, p: &'a AttentionProblem, c: &'a WgmmaAttentionConfig, mods: &Mods) -> Self {
        for name in ["batch", "sq", "sk", "hq", "hkv"] {
            k.shape(name);
        }
        let partial = p.output == DType::F32;
        let visibility = Visibility { causal: p.causal, window: p.window, chunk: p.chunk };
        visibility.declare(k);
        let scores = Scores::declare(k, p);
        let sparsity = p.sparse.map(|s| Sparsity::declare(k, s.mask, s.heads));
        let lists = p.sparse.map(|_| BlockLists::declare(k, c.bm, c.bn));
        let fixed = |n: u32| Dim { param: None, factor: n };
        let tokens = |lead: &str, len: &str, total: &str| {
            if p.varlen { vec![Dim::param(total)] } else { vec![Dim::param(lead), Dim::param(len)] }
        };
        let tensor = |k: &mut KernelBuilder, name: &str, dtype, mut dims: Vec<Dim>, heads: &str, last: Option<u32>| {
            dims.push(Dim::param(heads));
            dims.extend(last.map(fixed));
            k.tensor(name, dtype, dims)
        };
        if p.varlen {
            k.shape("total_q");
            k.shape("total_k");
        }
        let q = tensor(k, "q", p.dtype, tokens("batch", "sq", "total_q"), "hq", Some(p.d));
        let key = tensor(k, "k", p.dtype, tokens("batch", "sk", "total_k"), "hkv", Some(p.d));
        let v = tensor(k, "v", p.dtype, tokens("batch", "sk", "total_k"), "hkv", Some(p.dv));
        let lead = if partial { "parts*batch" } else { "batch" };
        if partial {
            k.shape("part");
            k.shape("parts");
        }
        let o = tensor(k, "o", p.output, tokens(lead, "sq", "total_q"), "hq", Some(p.dv));
        // Of a part: token by token, as its rows are. Of the op: head by head.
        let lse = match (partial, p.varlen) {
            (true, _) => vec![Dim::param("parts*batch"), Dim::param("sq"), Dim::param("hq")],
            (false, true) => vec![Dim::param("hq"), Dim::param("total_q")],
            (false, false) => vec![Dim::param("batch"), Dim::param("hq"), Dim::param("sq")],
        };
        let lse = k.tensor("lse", DType::F32, lse);
        let sink = p.sink.then(|| k.tensor("sink", DType::F32, [Dim::param("hq")]));
        let cu = p.varlen.then(|| ["cu_q", "cu_k"].map(|n| k.tensor(n, DType::I32, [Dim::param("batch+1")])));
        let q_pipe = k.pipe("q", 1, &[(p.dtype, [c.bm, p.d], 1)]);
        let k_pipe = k.pipe("k", c.stages, &[(p.dtype, [c.bn, p.d], 1)]);
        let v_pipe = k.pipe("v", c.stages, &[(p.dtype, [c.bn, p.dv], 1)]);
        let tiles = format!("ceil_div(sq,{})", c.bm);
        k.grid(if c.persistent {
            [format!("min({tiles}*hq*batch,sms)"), "1".into(), "1".into()]
        } else {
            [tiles, "hq".into(), "batch".into()]
        });
        k.require("hq % hkv == 0");
        k.probe("sk", c.bn, ProbeAxis::Trips);
        if p.varlen {
            k.probe("cu_q", c.bm, ProbeAxis::Tiles);
            k.probe("cu_k", c.bn, ProbeAxis::Trips);
        }
        if c.persistent {
            k.probe("sq", c.bm, ProbeAxis::Tiles);
        }
        Ctx {
            p,
            c,
            q_pipe,
            k_pipe,
            v_pipe,
            scores,
            visibility,
            sparsity,
            lists,
            masks_all: mods.mask.is_some(),
            q,
            k: key,
            v,
            o,
            lse,
            sink,
            cu,
        }
    }

    /// Runs `body` for every tile of this CTA: the one its place in the grid names, or in a persistent kernel those that
    /// [`Self::walk`] gives.
    pub fn each_tile(&self, r: &mut RoleBuilder, body: impl FnOnce(&mut RoleBuilder, &Self, &Tile)) {
        if self.c.persistent {
            return self.walk(r, body);
        }
        let [row, head, batch] = [0, 1, 2].map(|axis| r.cta_id(axis));
        let (hq, hkv, sq) = (r.param("hq"), r.param("hkv"), r.param("sq"));
        let per_head = r.ceil_div(sq, self.c.bm);
        let group = r.div(hq, hkv);
        let tile = self.tile(r, batch, head, group, row, per_head);
        body(r, self, &tile);
    }

    /// Tiles `cta`, `cta + ctas`, ... in an order that makes the time even and the cache useful: heads are walked in groups
    /// whose keys and values fit the L2 cache; in a group all heads' last tiles come first when the mask is causal, since
    /// those have the most keys.
    fn walk(&self, r: &mut RoleBuilder, body: impl FnOnce(&mut RoleBuilder, &Self, &Tile)) {
        let (batch, sq, sk, hq, hkv) = (r.param("batch"), r.param("sq"), r.param("sk"), r.param("hq"), r.param("hkv"));
        let per_head = r.ceil_div(sq, self.c.bm);
        let heads = r.mul(hq, batch);
        let tiles = r.mul(heads, per_head);
        let token = i64::from((self.p.d + self.p.dv) * self.p.dtype.bytes());
        let kv_bytes = r.mul(sk, token);
        let kv_bytes = r.max(kv_bytes, 1);
        let l2 = r.int(L2_BYTES);
        let kv_heads = r.div(l2, kv_bytes);
        let kv_heads = r.max(kv_heads, 1);
        let kv_heads_all = r.mul(hkv, batch);
        let kv_heads = r.min(kv_heads, kv_heads_all);
        let group = r.div(hq, hkv);
        let together = r.mul(kv_heads, group);
        let (cta, step) = (r.cta_id(0), r.n_ctas());
        r.for_range(cta, tiles, step, |r, t| {
            let [together, per_head, hq, group] = [together, per_head, hq, group].map(|s| r.uniform(s));
            let section_tiles = r.mul(together, per_head);
            let section = r.div(t, section_tiles);
            let inside = r.rem(t, section_tiles);
            let first = r.mul(section, together);
            let left = r.sub(heads, first);
            let here = r.min(left, together);
            let (row, column) = (r.div(inside, here), r.rem(inside, here));
            let head = r.add(first, column);
            let (batch, head) = (r.div(head, hq), r.rem(head, hq));
            let tile = self.tile(r, batch, head, group, row, per_head);
            body(r, self, &tile);
        });
    }

    /// The tile in place `row` of a head: the last comes first when the mask is causal.
    fn tile(&self, r: &mut RoleBuilder, batch: Scalar, head: Scalar, group: Scalar, row: Scalar, per_head: Scalar) -> Tile {
        let index = if self.p.causal {
            let last = r.sub(per_head, 1);
            r.sub(last, row)
        } else {
            row
        };
        let kv_head = r.div(head, group);
        let (sq, sk, zero) = (r.param("sq"), r.param("sk"), r.int(0));
        let (mut len, mut start) = ([sq, sk], [zero, zero]);
        if let Some(cu) = &self.cu {
            for ((cu, len), start) in cu.iter().zip(&mut len).zip(&mut start) {
                let next = r.add(batch, 1);
                *start = r.load_scalar(cu, &[batch]);
                let end = r.load_scalar(cu, &[next]);
                *len = r.sub(end, *start);
            }
        }
        Tile { batch, head, kv_head, first: r.mul(index, self.c.bm), index, len, start }
    }

    /// The blocks a tile visits; masks are asked about for one warpgroup's rows, or for all of the tile's.
    pub fn blocks(&self, r: &mut RoleBuilder, tile: &Tile, wg: Option<Scalar>) -> Blocks {
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
        let positions = |r: &mut RoleBuilder, from: Scalar, count: u32| {
            let end = r.add(from, count);
            let end = r.min(end, sq);
            let last = r.sub(end, 1);
            let last = r.max(last, from);
            [r.add(from, shift), r.add(last, shift)]
        };
        let whole = positions(r, tile.first, self.c.bm);
        let rows = match wg {
            None => whole,
            Some(wg) => {
                let offset = r.mul(wg, 64);
                let from = r.add(tile.first, offset);
                positions(r, from, 64)
            }
        };
        let mut blocks = Blocks::range(r, &self.visibility, whole, rows, sk, self.c.bn);
        if self.p.varlen {
            // A tile past the end of a short sequence has no rows.
            let exists = r.cmp(CmpPred::Lt, tile.first, sq);
            for n in [&mut blocks.count, &mut blocks.masked, &mut blocks.full] {
                *n = r.select(exists, *n, 0);
            }
        }
        blocks
    }

    pub fn load_q(&self, r: &mut RoleBuilder, tile: &Tile) {
        let s = r.acquire(&self.q_pipe);
        self.load_rows(r, &self.q, tile, 0, tile.first, tile.head, &self.q_pipe, s);
        r.commit(&self.q_pipe, s);
    }

    pub fn load_k(&self, r: &mut RoleBuilder, tile: &Tile, blocks: &Blocks, t: impl Into<Operand>) {
        self.load_block(r, tile, blocks, t, &self.k, &self.k_pipe);
    }

    pub fn load_v(&self, r: &mut RoleBuilder, tile: &Tile, blocks: &Blocks, t: impl Into<Operand>) {
        self.load_block(r, tile, blocks, t, &self.v, &self.v_pipe);
    }

    fn load_block(
        &self,
        r: &mut RoleBuilder,
        tile: &Tile,
        blocks: &Blocks,
        t: impl Into<Operand>,
        from: &TensorRef,
        pipe: &Pipe,
    ) {
        let block = blocks.index(r, self.lists.as_ref(), t);
        let first = r.mul(block, self.c.bn);
        let s = r.acquire(pipe);
        self.load_rows(r, from, tile, 1, first, tile.kv_head, pipe, s);
        r.commit(pipe, s);
    }

    /// One box: rows of one head. `side` 0 counts queries, 1 keys.
    fn load_rows(
        &self,
        r: &mut RoleBuilder,
        from: &TensorRef,
        tile: &Tile,
        side: usize,
        row: Scalar,
        head: Scalar,
        pipe: &Pipe,
        s: Scalar,
    ) {
        let zero = r.int(0);
        let slot = r.slot(pipe, s, 0);
        if self.p.varlen {
            let row = r.add(row, tile.start[side]);
            r.tma_load_rows(from, &[row, head, zero], 0, pipe, s, 0, slot);
        } else {
            r.tma_load_rows(from, &[tile.batch, row, head, zero], 1, pipe, s, 0, slot);
        }
    }

    /// The rows of a warpgroup, in the layout of its scores.
    pub fn rows(&self, r: &mut RoleBuilder, tile: &Tile, wg: Scalar, scores: &RegTile) -> TileRows {
        let column = r.row_vec(scores, DType::I32);
        let offset = r.mul(wg, 64);
        let first = r.add(tile.first, offset);
        let shift = r.sub(tile.len[1], tile.len[0]);
        let [first, shift, head] = [first, shift, tile.head].map(|s| r.splat(s, column.clone()));
        let index = r.iota(0, column);
        let query = r.binary("add", index, first);
        let pos = r.binary("add", query, shift);
        let rows = Rows { batch: tile.batch, head, query, pos };
        let interval = self.visibility.intervals(r, pos, tile.len[1]);
        let slopes = self.scores.slopes(r, &rows);
        TileRows { rows, interval, slopes }
    }

    /// Divides by the sums and stores O and the log of the sums. Rows past the end of the sequence are not stored.
    pub fn finish(
        &self,
        r: &mut RoleBuilder,
        tile: &Tile,
        rows: &TileRows,
        softmax: &Softmax,
        out: Cell,
        layouts: &Layouts,
        mods: &Mods,
    ) {
        let column = r.row_vec(&layouts.scores, DType::F32);
        let scale = self.scores.log2_scale(r, &column, mods);
        let sink = self.sink.as_ref().map(|sink| r.load_elems(sink, &[], rows.rows.head, None));
        let done = softmax.finish(r, scale, sink);
        let o = r.get_tile(out);
        let factor = r.broadcast(done.inverse, layouts.out.clone());
        let o = r.binary("mul", o, factor);
        // Where no block was visited O was never written; the factor alone would not make that zero.
        let none = r.splat_f32(0.0, factor);
        let empty = r.compare(CmpPred::Le, factor, none);
        let o = r.choose(empty, none, o);
        let o = r.cast(o, self.p.output);
        let index = r.tile_type(rows.rows.query);
        let [sq, hq] = ["sq", "hq"].map(|n| r.param(n));
        let length = r.splat(tile.len[0], index.clone());
        let exists = r.compare(CmpPred::Lt, rows.rows.query, length);
        // Rows of the sequence's first query.
        let mut lead = tile.start[0];
        if !self.p.varlen {
            lead = r.mul(tile.batch, sq);
        }
        if self.p.output == DType::F32 {
            let (part, batch) = (r.param("part"), r.param("batch"));
            let before = r.mul(part, batch);
            let before = r.mul(before, sq);
            lead = r.add(lead, before);
        }
        let [lead, heads] = [lead, hq].map(|s| r.splat(s, index.clone()));
        let token = r.binary("add", rows.rows.query, lead);
        let token_head = r.binary("mul", token, heads);
        let token_head = r.binary("add", token_head, rows.rows.head);
        let none = r.int(-1);
        let none = r.splat(none, index);
        let row = r.choose(exists, token_head, none);
        r.store_rows(&self.o, o, row, 0, 2);
        if self.p.output == DType::F32 {
            r.store_elems(&self.lse, &[], token_head, done.lse, Some(exists));
        } else if self.p.varlen {
            r.store_elems(&self.lse, &[tile.head], token, done.lse, Some(exists));
        } else {
            r.store_elems(&self.lse, &[tile.batch, tile.head], rows.rows.query, done.lse, Some(exists));
        }
    }
}
