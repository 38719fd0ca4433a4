//! What the forward kernels share: the tensors and parameters of a class, a tile of queries, its rows, the blocks of keys it
//! visits, and where its result goes.

use super::problem::AttentionProblem;
use super::score::{Mods, Rows, Scores, Sparsity};
use super::softmax::Softmax;
use super::span::{BlockLists, Blocks, Visibility};
use tilewright_ir::DType;
use tilewright_ir::tile::{Cell, CmpPred, Dim, KernelBuilder, ProbeAxis, RegTile, RoleBuilder, Scalar, TensorRef, TileRef};

/// The tensors and parameters of a forward, for tiles of `bm` queries and blocks of `bn` keys.
pub(super) struct Operands<'a> {
    pub p: &'a AttentionProblem,
    bm: u32,
    bn: u32,
    pub scores: Scores,
    pub visibility: Visibility,
    pub sparsity: Option<Sparsity>,
    pub lists: Option<BlockLists>,
    /// A user's mask is asked about every block.
    pub masks_all: bool,
    pub q: TensorRef,
    pub k: TensorRef,
    pub v: TensorRef,
    o: TensorRef,
    lse: TensorRef,
    sink: Option<TensorRef>,
    cu: Option<[TensorRef; 2]>,
}

/// `bm` queries of one head.
pub(super) struct Tile {
    pub batch: Scalar,
    pub head: Scalar,
    pub kv_head: Scalar,
    /// First query, in its sequence.
    pub first: Scalar,
    /// Index of the tile in its head.
    index: Scalar,
    /// Queries and keys of the sequence.
    pub len: [Scalar; 2],
    /// Where the sequence starts among all queries and keys of a varlen class; else 0.
    pub start: [Scalar; 2],
}

/// Rows of a tile, in the layout of scores.
#[derive(Clone, Copy)]
pub(super) struct TileRows {
    pub rows: Rows,
    /// First and last visible key.
    pub interval: [TileRef; 2],
    /// ALiBi slopes.
    pub slopes: Option<TileRef>,
}

/// What the loop over blocks leaves for the end.
pub(super) struct Outcome<'o> {
    pub softmax: &'o Softmax,
    /// Unnormalised output; without a value where no block was visited.
    pub out: Cell,
    /// F32 types of the scores and of the output.
    pub types: [&'o RegTile; 2],
}

impl Outcome<'_> {
    /// The output in its dtype, and the log of the sums F32 `[rows, 1]`. `log2_scale` and `sink` as in [`Softmax::finish`].
    pub fn normalised(
        &self,
        r: &mut RoleBuilder,
        log2_scale: TileRef,
        sink: Option<TileRef>,
        output: DType,
    ) -> (TileRef, TileRef) {
        let done = self.softmax.finish(r, log2_scale, sink);
        let o = r.get_tile(self.out);
        let factor = r.broadcast(done.inverse, self.types[1].clone());
        let o = r.binary("mul", o, factor);
        // Where no block was visited O was never written; the factor alone would not make that zero.
        let none = r.splat_f32(0.0, factor);
        let empty = r.compare(CmpPred::Le, factor, none);
        let o = r.choose(empty, none, o);
        (r.cast(o, output), done.lse)
    }
}

impl<'a> Operands<'a> {
    /// Declares them, and the conditions and probes that go with them.
    pub fn declare(k: &mut KernelBuilder, p: &'a AttentionProblem, [bm, bn]: [u32; 2], mods: &Mods) -> Self {
        for name in ["batch", "sq", "sk", "hq", "hkv"] {
            k.shape(name);
        }
        let visibility = Visibility { causal: p.causal, window: p.window, chunk: p.chunk };
        visibility.declare(k);
        let scores = Scores::declare(k, p);
        let sparsity = p.sparse.map(|s| Sparsity::declare(k, s.mask, s.heads));
        let lists = p.sparse.map(|_| BlockLists::declare(k, bm, bn));
        if p.varlen {
            k.shape("total_q");
            k.shape("total_k");
        }
        if p.partial() {
            k.shape("part");
            k.shape("parts");
        }
        let tensor = |k: &mut KernelBuilder, name: &str, dtype, [lead, len, total]: [&str; 3], heads: &str, last: u32| {
            let mut dims = if p.varlen { vec![Dim::param(total)] } else { vec![Dim::param(lead), Dim::param(len)] };
            dims.extend([Dim::param(heads), Dim { param: None, factor: last }]);
            k.tensor(name, dtype, dims)
        };
        let q = tensor(k, "q", p.dtype, ["batch", "sq", "total_q"], "hq", p.d);
        let keys = tensor(k, "k", p.dtype, ["batch", "sk", "total_k"], "hkv", p.d);
        let v = tensor(k, "v", p.dtype, ["batch", "sk", "total_k"], "hkv", p.dv);
        let [lead, total] = if p.partial() { ["parts*batch", "parts*total_q"] } else { ["batch", "total_q"] };
        let o = tensor(k, "o", p.output, [lead, "sq", total], "hq", p.dv);
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
        k.require("hq % hkv == 0");
        // Rows of the tensors are numbered in 32 bits.
        let [queries, keys_of] = if p.varlen { ["total_q", "total_k"] } else { ["batch*sq", "batch*sk"] };
        for (tokens, heads) in [(queries, "hq"), (keys_of, "hkv")] {
            k.require(format!("{tokens}*{heads} <= {}", i32::MAX));
        }
        k.probe("sk", bn, ProbeAxis::Trips);
        if p.varlen {
            k.probe("cu_q", bm, ProbeAxis::Tiles);
            k.probe("cu_k", bn, ProbeAxis::Trips);
        }
        let masks_all = mods.mask.is_some();
        Operands { p, bm, bn, scores, visibility, sparsity, lists, masks_all, q, k: keys, v, o, lse, sink, cu }
    }

    /// The tile in place `row` of a head's `per_head`: the last comes first when the mask is causal, since it sees the most
    /// keys. `group` heads share keys.
    pub fn tile(&self, r: &mut RoleBuilder, batch: Scalar, head: Scalar, group: Scalar, row: Scalar, per_head: Scalar) -> Tile {
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
        Tile { batch, head, kv_head, first: r.mul(index, self.bm), index, len, start }
    }

    /// The tile that a CTA's place in the grid `[tiles, heads, batch]` names.
    pub fn tile_of_cta(&self, r: &mut RoleBuilder) -> Tile {
        let [row, head, batch] = [0, 1, 2].map(|axis| r.cta_id(axis));
        let (hq, hkv, sq) = (r.param("hq"), r.param("hkv"), r.param("sq"));
        let per_head = r.ceil_div(sq, self.bm);
        let group = r.div(hq, hkv);
        self.tile(r, batch, head, group, row, per_head)
    }

    /// The blocks a tile visits. Masks are asked about for all of its rows, or for `part`: so many rows from one on.
    pub fn blocks(&self, r: &mut RoleBuilder, tile: &Tile, part: Option<(Scalar, u32)>) -> Blocks {
        let [sq, sk] = tile.len;
        if let Some(lists) = &self.lists {
            let (heads, longest, max_sk) = (r.param("hq"), r.param("sq"), r.param("sk"));
            let tiles = r.ceil_div(longest, self.bm);
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
        let whole = positions(r, tile.first, self.bm);
        let rows = match part {
            None => whole,
            Some((offset, count)) => {
                let from = r.add(tile.first, offset);
                positions(r, from, count)
            }
        };
        let mut blocks = Blocks::range(r, &self.visibility, whole, rows, sk, self.bn);
        if self.p.varlen {
            // A tile past the end of a short sequence has no rows.
            let exists = r.cmp(CmpPred::Lt, tile.first, sq);
            for n in [&mut blocks.count, &mut blocks.masked, &mut blocks.full] {
                *n = r.select(exists, *n, 0);
            }
        }
        blocks
    }

    /// The rows from `offset` on, for scores of a type.
    pub fn rows(&self, r: &mut RoleBuilder, tile: &Tile, offset: Scalar, scores: &RegTile) -> TileRows {
        let column = r.row_vec(scores, DType::I32);
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

    /// The first query (`side` 0) or key (1) of the tile's sequence, among those of all sequences.
    pub fn sequence_start(&self, r: &mut RoleBuilder, tile: &Tile, side: usize) -> Scalar {
        if self.p.varlen { tile.start[side] } else { r.mul(tile.batch, tile.len[side]) }
    }

    /// Divides by the sums and stores O and the log of the sums. Rows past the end of the sequence are not stored.
    pub fn finish(&self, r: &mut RoleBuilder, tile: &Tile, rows: &TileRows, end: &Outcome, mods: &Mods) {
        let column = r.row_vec(end.types[0], DType::F32);
        let scale = self.scores.log2_scale(r, &column, mods);
        let sink = self.sink.as_ref().map(|sink| r.load_elems(sink, &[], rows.rows.head, None));
        let (o, lse) = end.normalised(r, scale, sink, self.p.output);
        let index = r.tile_type(rows.rows.query);
        let hq = r.param("hq");
        let length = r.splat(tile.len[0], index.clone());
        let exists = r.compare(CmpPred::Lt, rows.rows.query, length);
        let mut lead = self.sequence_start(r, tile, 0);
        if self.p.partial() {
            let part = r.param("part");
            let queries = if self.p.varlen {
                r.param("total_q")
            } else {
                let (batch, sq) = (r.param("batch"), r.param("sq"));
                r.mul(batch, sq)
            };
            let before = r.mul(part, queries);
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
        if self.p.partial() {
            r.store_elems(&self.lse, &[], token_head, lse, Some(exists));
        } else if self.p.varlen {
            r.store_elems(&self.lse, &[tile.head], token, lse, Some(exists));
        } else {
            r.store_elems(&self.lse, &[tile.batch, tile.head], rows.rows.query, lse, Some(exists));
        }
    }
}
