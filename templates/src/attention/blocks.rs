//! Lists of the blocks of keys that each tile of queries visits, from block masks and head types. The forward walks them.

use super::problem::{AttentionProblem, ProblemError};
use super::span::Visibility;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{Cell, CmpPred, Dim, KernelBuilder, RegTile, RoleBuilder, Scalar, TensorRef, TileRef, Unit};

/// The class of a block-list kernel: what is fixed when it is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockListProblem {
    /// The interval masks that hold besides.
    pub visibility: Visibility,
    /// `block_mask` is given.
    pub mask: bool,
    /// `head_type` is given.
    pub heads: bool,
    /// `cu_q` and `cu_k` are given.
    pub varlen: bool,
}

/// Lists of a CTA, one for each thread.
const ROWS: u32 = 128;

impl BlockListProblem {
    /// The lists of a block-sparse forward; none where the forward is not block-sparse.
    pub fn of(p: &AttentionProblem) -> Option<Self> {
        let visibility = Visibility { causal: p.causal, window: p.window, chunk: p.chunk };
        p.sparse.map(|s| BlockListProblem { visibility, mask: s.mask, heads: s.heads, varlen: p.varlen })
    }

    /// Checks that there is something to make lists of.
    pub fn check(&self) -> Result<(), ProblemError> {
        if self.mask || self.heads { Ok(()) } else { Err(ProblemError::SparseByNothing) }
    }

    /// A short name for entries and files: `causal_mask_heads_varlen`.
    pub fn slug(&self) -> String {
        let v = self.visibility;
        let parts = [
            (v.causal, "causal"),
            (v.window, "window"),
            (v.chunk, "chunk"),
            (self.mask, "mask"),
            (self.heads, "heads"),
            (self.varlen, "varlen"),
        ];
        parts.into_iter().filter(|p| p.0).map(|p| p.1).collect::<Vec<_>>().join("_")
    }
}

/// Records the kernel: for each of `batch * hq * ceil(sq / tile_m)` rows, `(b * hq + h) * n_q_tiles + q_tile`,
/// `blocks` I32 `[rows * ceil(sk / tile_n)]` gets the indices of the blocks of keys with a visible pair, first those whose
/// pairs are all visible, then the others, each ascending; `block_count` I32 `[rows, 2]` how many there are in all, and how
/// many are of the second kind. What lies behind a list is not written.
///
/// A pair of query i (position `p = i + sk - sq`) and key j is visible where the interval masks let it be and, by
/// `head_type[h]`: 0, always; -1, if `j < sink_tokens` or `p - j < recent_tokens`; t > 0, if
/// `block_mask[b, t - 1, i / block_m, j / block_n]` is not 0. Without `head_type` the head's own row of the mask decides; a
/// mask of one sequence or one head serves all. A positive type without a mask counts as 0, one past the mask's heads as the
/// last: the caller refuses them.
///
/// Scalars: `batch`, `hq`, `sq`, `sk` (with `cu_q`, `cu_k` I32 `[batch + 1]`: the longest), `tile_m`, `tile_n`; for
/// `block_mask` U8 `[mask_b, mask_h, mask_q, mask_k]` these and `block_m`, `block_n`, any sizes; for `head_type` I32 `[hq]`
/// `sink_tokens`, `recent_tokens`; those of the interval masks.
pub fn block_lists(k: &mut KernelBuilder, p: &BlockListProblem) -> Result<(), LayoutError> {
    for name in ["batch", "hq", "sq", "sk", "tile_m", "tile_n"] {
        k.shape(name);
    }
    p.visibility.declare(k);
    if p.mask {
        for name in ["mask_b", "mask_h", "mask_q", "mask_k", "block_m", "block_n"] {
            k.shape(name);
        }
    }
    if p.heads {
        for name in ["sink_tokens", "recent_tokens"] {
            k.shape(name);
        }
    }
    let rows = "batch*hq*ceil_div(sq,tile_m)";
    let cu = |k: &mut KernelBuilder, name: &str| p.varlen.then(|| k.tensor(name, DType::I32, [Dim::param("batch+1")]));
    let x = Ctx {
        p,
        mask: p.mask.then(|| k.tensor("block_mask", DType::U8, ["mask_b", "mask_h", "mask_q", "mask_k"].map(Dim::param))),
        head_type: p.heads.then(|| k.tensor("head_type", DType::I32, [Dim::param("hq")])),
        cu_q: cu(k, "cu_q"),
        cu_k: cu(k, "cu_k"),
        blocks: k.tensor("blocks", DType::I32, [Dim::param(&format!("{rows}*ceil_div(sk,tile_n)"))]),
        counts: k.tensor("block_count", DType::I32, [Dim::param(rows), Dim { param: None, factor: 2 }]),
        ty: RegTile { dtype: DType::I32, shape: [ROWS, 1], layout: blocked(ROWS, [ROWS, 1], 1)? },
    };
    k.grid([format!("ceil_div({rows},{ROWS})"), "1".into(), "1".into()]);
    k.role("main", ROWS / 32, None, Unit::Role, |r| x.main(r));
    Ok(())
}

struct Ctx<'a> {
    p: &'a BlockListProblem,
    mask: Option<TensorRef>,
    head_type: Option<TensorRef>,
    cu_q: Option<TensorRef>,
    cu_k: Option<TensorRef>,
    blocks: TensorRef,
    counts: TensorRef,
    ty: RegTile,
}

/// Each thread's tile of queries.
struct Queries {
    /// First and last query, in the sequence.
    at: [TileRef; 2],
    /// Their positions less themselves: `sk - sq`.
    shift: TileRef,
    /// Keys of the sequence.
    sk: TileRef,
    /// There are such queries.
    some: TileRef,
    /// Streaming head; I1.
    streaming: Option<TileRef>,
    /// The mask decides; I1.
    masked: Option<TileRef>,
    /// Row of `block_mask` where the head's begin.
    mask_row: Option<TileRef>,
}

/// A rectangle of queries and keys, both ends inside.
#[derive(Clone, Copy)]
struct Rect {
    /// Positions.
    p: [TileRef; 2],
    /// Keys.
    j: [TileRef; 2],
}

impl Ctx<'_> {
    fn main(&self, r: &mut RoleBuilder) {
        let cta = r.cta_id(0);
        let [sq, sk, tile_m, tile_n] = ["sq", "sk", "tile_m", "tile_n"].map(|n| r.param(n));
        let n_q = self.up(r, sq, tile_m);
        let n_k = self.up(r, sk, tile_n);
        let first = r.mul(cta, ROWS);
        let number = r.iota(0, self.ty.clone());
        let first = self.all(r, first);
        let number = r.binary("add", number, first);
        let (batch, hq) = (r.param("batch"), r.param("hq"));
        let heads = r.mul(batch, hq);
        let rows = r.mul(heads, n_q);
        let end = self.all(r, rows);
        let inside = r.compare(CmpPred::Lt, number, end);
        let q = self.queries(r, number, inside, n_q);

        // Once to count the blocks without a mask, once to write both kinds.
        let zero = self.number(r, 0);
        let full = r.tile_cell(zero);
        r.for_range(0, n_k, 1, |r, kt| {
            let [_, whole] = self.kind(r, &q, kt);
            self.count(r, full, whole);
        });
        let n_full = r.get_tile(full);
        let (at_full, at_partial) = (r.tile_cell(zero), r.tile_cell(n_full));
        let width = self.all(r, n_k);
        let start = r.binary("mul", number, width);
        r.for_range(0, n_k, 1, |r, kt| {
            let [some, whole] = self.kind(r, &q, kt);
            let not_whole = r.unary("not", whole);
            let partial = r.binary("and", some, not_whole);
            let value = self.all(r, kt);
            for (cell, here) in [(at_full, whole), (at_partial, partial)] {
                let at = r.get_tile(cell);
                let at = r.binary("add", start, at);
                r.store_elems(&self.blocks, &[], at, value, Some(here));
                self.count(r, cell, here);
            }
        });
        let all = r.get_tile(at_partial);
        let partial = r.binary("sub", all, n_full);
        let two = self.number(r, 2);
        let one = self.number(r, 1);
        let at = r.binary("mul", number, two);
        r.store_elems(&self.counts, &[], at, all, Some(inside));
        let at = r.binary("add", at, one);
        r.store_elems(&self.counts, &[], at, partial, Some(inside));
    }

    fn queries(&self, r: &mut RoleBuilder, number: TileRef, inside: TileRef, n_q: Scalar) -> Queries {
        let (n_q, hq, tile_m) = (self.all(r, n_q), self.param(r, "hq"), self.param(r, "tile_m"));
        let one = self.number(r, 1);
        let (row, tile) = (r.binary("div", number, n_q), r.binary("rem", number, n_q));
        let (b, h) = (r.binary("div", row, hq), r.binary("rem", row, hq));
        let length = |r: &mut RoleBuilder, cu: &Option<TensorRef>, name| match cu {
            None => self.param(r, name),
            Some(cu) => {
                let from = r.load_elems(cu, &[], b, Some(inside));
                let next = r.binary("add", b, one);
                let to = r.load_elems(cu, &[], next, Some(inside));
                r.binary("sub", to, from)
            }
        };
        let (sq, sk) = (length(r, &self.cu_q, "sq"), length(r, &self.cu_k, "sk"));
        let from = r.binary("mul", tile, tile_m);
        let to = r.binary("add", from, tile_m);
        let to = r.binary("min", to, sq);
        let some = r.compare(CmpPred::Lt, from, to);
        let some = r.binary("and", some, inside);
        let kind = self.head_type.as_ref().map(|t| r.load_elems(t, &[], h, Some(inside)));
        let zero = self.number(r, 0);
        let streaming = kind.map(|kind| r.compare(CmpPred::Lt, kind, zero));
        let masked = self.mask.as_ref().map(|_| match kind {
            Some(kind) => r.compare(CmpPred::Gt, kind, zero),
            None => some,
        });
        let mask_row = self.mask.as_ref().map(|_| {
            let (mask_b, mask_h) = (self.param(r, "mask_b"), self.param(r, "mask_h"));
            let head = match kind {
                Some(kind) => r.binary("sub", kind, one),
                None => h,
            };
            let last = |r: &mut RoleBuilder, n, at| {
                let last = r.binary("sub", n, one);
                let at = r.binary("min", at, last);
                r.binary("max", at, zero)
            };
            let (b, head) = (last(r, mask_b, b), last(r, mask_h, head));
            let row = r.binary("mul", b, mask_h);
            let row = r.binary("add", row, head);
            let mask_q = self.param(r, "mask_q");
            r.binary("mul", row, mask_q)
        });
        Queries { at: [from, r.binary("sub", to, one)], shift: r.binary("sub", sk, sq), sk, some, streaming, masked, mask_row }
    }

    /// Whether block `kt` has a visible pair, and whether all its pairs are visible.
    fn kind(&self, r: &mut RoleBuilder, q: &Queries, kt: Scalar) -> [TileRef; 2] {
        let tile_n = r.param("tile_n");
        let from = r.mul(kt, tile_n);
        let to = r.add(from, tile_n);
        let to = r.sub(to, 1);
        let (from, to, one) = (self.all(r, from), self.all(r, to), self.number(r, 1));
        let last = r.binary("sub", q.sk, one);
        let rect = Rect { p: q.at.map(|i| r.binary("add", i, q.shift)), j: [from, r.binary("min", to, last)] };
        // Keys past the sequence are never visible.
        let whole = r.compare(CmpPred::Le, to, last);
        let (mut some, mut whole) = (self.touches(r, rect), {
            let covered = self.covered(r, rect);
            r.binary("and", whole, covered)
        });
        if let Some(streaming) = q.streaming {
            let [near, all_near] = self.streaming(r, rect);
            some = r.choose(streaming, near, some);
            let both = r.binary("and", whole, all_near);
            whole = r.choose(streaming, both, whole);
        }
        if let (Some(masked), Some(row)) = (q.masked, q.mask_row) {
            let [any, all] = self.masked(r, q, rect, masked, row);
            some = r.choose(masked, any, some);
            let both = r.binary("and", whole, all);
            whole = r.choose(masked, both, whole);
        }
        let some = r.binary("and", some, q.some);
        [some, r.binary("and", whole, some)]
    }

    /// True where the interval masks leave a pair of the rectangle: the positions that see something of `j` are an interval.
    fn touches(&self, r: &mut RoleBuilder, x: Rect) -> TileRef {
        let v = self.p.visibility;
        let [mut from, mut to] = x.p;
        if v.causal {
            from = r.binary("max", from, x.j[0]);
        }
        if v.window {
            let (left, right) = (self.param(r, "window_left"), self.param(r, "window_right"));
            let (first, last) = (r.binary("sub", x.j[0], right), r.binary("add", x.j[1], left));
            from = r.binary("max", from, first);
            to = r.binary("min", to, last);
        }
        if v.chunk {
            let chunk = self.param(r, "chunk");
            let index = r.binary("div", x.j[0], chunk);
            let first = r.binary("mul", index, chunk);
            from = r.binary("max", from, first);
            // Of no keys at all the last may be -1.
            let zero = self.number(r, 0);
            let last = r.binary("max", x.j[1], zero);
            let index = r.binary("div", last, chunk);
            let last = r.binary("mul", index, chunk);
            let last = r.binary("add", last, chunk);
            let one = self.number(r, 1);
            let last = r.binary("sub", last, one);
            to = r.binary("min", to, last);
        }
        let (keys, positions) = (r.compare(CmpPred::Le, x.j[0], x.j[1]), r.compare(CmpPred::Le, from, to));
        r.binary("and", keys, positions)
    }

    /// True where the interval masks leave every pair of the rectangle.
    fn covered(&self, r: &mut RoleBuilder, x: Rect) -> TileRef {
        let v = self.p.visibility;
        let mut all = r.compare(CmpPred::Le, x.j[0], x.j[1]);
        let mut need = |r: &mut RoleBuilder, a: TileRef, b: TileRef| {
            let holds = r.compare(CmpPred::Le, a, b);
            all = r.binary("and", all, holds);
        };
        if v.causal {
            need(r, x.j[1], x.p[0]);
        }
        if v.window {
            let (left, right) = (self.param(r, "window_left"), self.param(r, "window_right"));
            let (first, last) = (r.binary("sub", x.p[1], left), r.binary("add", x.p[0], right));
            need(r, first, x.j[0]);
            need(r, x.j[1], last);
        }
        if v.chunk {
            let (chunk, zero) = (self.param(r, "chunk"), self.number(r, 0));
            need(r, zero, x.p[0]);
            let index = |r: &mut RoleBuilder, at| {
                let at = r.binary("max", at, zero);
                r.binary("div", at, chunk)
            };
            let [a, b, c, d] = [x.p[1], x.j[0], x.j[1], x.p[0]].map(|at| index(r, at));
            need(r, a, b);
            need(r, c, d);
        }
        all
    }

    /// Whether a streaming head sees a pair of the rectangle, and whether it sees all that the interval masks leave.
    fn streaming(&self, r: &mut RoleBuilder, x: Rect) -> [TileRef; 2] {
        let (sink, recent, one) = (self.param(r, "sink_tokens"), self.param(r, "recent_tokens"), self.number(r, 1));
        let last_sink = r.binary("sub", sink, one);
        let sinks = Rect { j: [x.j[0], r.binary("min", x.j[1], last_sink)], ..x };
        let sinks = self.touches(r, sinks);
        // Key j1 is near enough to positions up to j1 + recent - 1.
        let reach = r.binary("add", x.j[1], recent);
        let reach = r.binary("sub", reach, one);
        let near = Rect { p: [x.p[0], r.binary("min", x.p[1], reach)], ..x };
        let near = self.touches(r, near);
        // The pair furthest apart that is no sink.
        let first = r.binary("max", x.j[0], sink);
        let none = r.compare(CmpPred::Gt, first, x.j[1]);
        let distance = r.binary("sub", x.p[1], first);
        let close = r.compare(CmpPred::Lt, distance, recent);
        [r.binary("or", sinks, near), r.binary("or", none, close)]
    }

    /// Whether the mask leaves a pair of the rectangle that the interval masks leave too, and whether it leaves every pair.
    fn masked(&self, r: &mut RoleBuilder, q: &Queries, x: Rect, masked: TileRef, row: TileRef) -> [TileRef; 2] {
        let Some(mask) = &self.mask else { unreachable!("only a class with a mask asks it") };
        let (no, yes) = (r.bool(false), r.bool(true));
        let truth = RegTile { dtype: DType::I1, ..self.ty.clone() };
        let (no, yes) = (r.splat(no, truth.clone()), r.splat(yes, truth));
        let (any, all) = (r.tile_cell(no), r.tile_cell(yes));
        let [n_m, n_n] = [("tile_m", "block_m"), ("tile_n", "block_n")].map(|(tile, block)| {
            let (tile, block) = (r.param(tile), r.param(block));
            // Blocks that a tile touches at most, wherever it begins.
            let n = r.add(tile, block);
            let n = r.sub(n, 2);
            let n = r.div(n, block);
            r.add(n, 1)
        });
        r.for_range(0, n_m, 1, |r, m| {
            let (index_m, i, some_m) = self.part(r, "block_m", q.at, m);
            let p = i.map(|i| r.binary("add", i, q.shift));
            r.for_range(0, n_n, 1, |r, n| {
                let (index_n, j, some_n) = self.part(r, "block_n", x.j, n);
                let here = r.binary("and", some_m, some_n);
                let here = r.binary("and", here, masked);
                let here = r.binary("and", here, q.some);
                let at = r.binary("add", row, index_m);
                let width = self.param(r, "mask_k");
                let at = r.binary("mul", at, width);
                let at = r.binary("add", at, index_n);
                let bit = r.load_elems(mask, &[], at, Some(here));
                let zero = self.number(r, 0);
                let on = r.compare(CmpPred::Ne, bit, zero);
                let touches = self.touches(r, Rect { p, j });
                let seen = r.binary("and", on, touches);
                let before = r.get_tile(any);
                let after = r.binary("or", before, seen);
                r.set_tile(any, after);
                let elsewhere = r.unary("not", here);
                let fine = r.binary("or", on, elsewhere);
                let before = r.get_tile(all);
                let after = r.binary("and", before, fine);
                r.set_tile(all, after);
            });
        });
        [r.get_tile(any), r.get_tile(all)]
    }

    /// Number `n` of the mask's blocks along a side that an interval touches: its index, the part of the interval in it, and
    /// whether there is one.
    fn part(&self, r: &mut RoleBuilder, block: &str, [from, to]: [TileRef; 2], n: Scalar) -> (TileRef, [TileRef; 2], TileRef) {
        let (block, one) = (self.param(r, block), self.number(r, 1));
        let index = r.binary("div", from, block);
        let n = self.all(r, n);
        let index = r.binary("add", index, n);
        let first = r.binary("mul", index, block);
        let last = r.binary("add", first, block);
        let last = r.binary("sub", last, one);
        let part = [r.binary("max", from, first), r.binary("min", to, last)];
        (index, part, r.compare(CmpPred::Le, part[0], part[1]))
    }

    /// Adds 1 where the mask holds.
    fn count(&self, r: &mut RoleBuilder, cell: Cell, mask: TileRef) {
        let one = r.cast(mask, DType::I32);
        let before = r.get_tile(cell);
        let after = r.binary("add", before, one);
        r.set_tile(cell, after);
    }

    /// `ceil(a / b)`.
    fn up(&self, r: &mut RoleBuilder, a: Scalar, b: Scalar) -> Scalar {
        let sum = r.add(a, b);
        let sum = r.sub(sum, 1);
        r.div(sum, b)
    }

    fn all(&self, r: &mut RoleBuilder, v: Scalar) -> TileRef {
        r.splat(v, self.ty.clone())
    }

    fn number(&self, r: &mut RoleBuilder, v: i64) -> TileRef {
        let v = r.int(v);
        self.all(r, v)
    }

    fn param(&self, r: &mut RoleBuilder, name: &str) -> TileRef {
        let v = r.param(name);
        self.all(r, v)
    }
}
