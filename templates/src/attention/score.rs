//! What happens to a tile of scores between `q k^T` and the softmax: scale, softcap, ALiBi, bias, a user's own score mod; and
//! which of them are masked. All of it is closures over register tiles.
//!
//! A user's mod is a closure of type [`ScoreFn`] or [`MaskFn`]: `docs/how-to/add-a-score-mod.md`.

use super::problem::AttentionProblem;
use super::span::Visibility;
use tilewright_ir::DType;
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, RegTile, RoleBuilder, Scalar, TensorRef, TileRef};

/// The rows of a tile of queries, each an I32 tile `[rows, 1]`.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// Sequence of the batch.
    pub batch: Scalar,
    /// Query heads.
    pub head: TileRef,
    /// Indices of the queries in their sequence.
    pub query: TileRef,
    /// Their positions among the keys.
    pub pos: TileRef,
}

/// Where a tile of scores lies.
#[derive(Clone, Debug)]
pub struct ScoreAt {
    /// Its rows.
    pub rows: Rows,
    /// The head, where all rows have the same.
    pub head: Option<Scalar>,
    /// Its keys' positions, I32 `[1, cols]`.
    pub key: TileRef,
    /// The first key and the numbers of the columns, where keys follow one another.
    pub run: Option<(Scalar, TileRef)>,
    /// Queries and keys of the sequence.
    pub len: [Scalar; 2],
    /// The scores' shape and layout, as I32.
    pub like: RegTile,
}

impl ScoreAt {
    /// `[rows, 1]` or `[1, cols]` as wide as the scores.
    pub fn wide(&self, r: &mut RoleBuilder, v: TileRef) -> TileRef {
        let dtype = r.tile_type(v).dtype;
        r.broadcast(v, RegTile { dtype, ..self.like.clone() })
    }

    /// A number everywhere, I32.
    pub fn int(&self, r: &mut RoleBuilder, v: i64) -> TileRef {
        let v = r.int(v);
        r.splat(v, self.like.clone())
    }

    /// A number everywhere, F32.
    pub fn float(&self, r: &mut RoleBuilder, v: f32) -> TileRef {
        let v = r.float(v);
        r.splat(v, RegTile { dtype: DType::F32, ..self.like.clone() })
    }

    /// A parameter everywhere.
    pub fn param(&self, r: &mut RoleBuilder, name: &str, dtype: DType) -> TileRef {
        let v = r.param(name);
        r.splat(v, RegTile { dtype, ..self.like.clone() })
    }
}

/// From scaled scores (natural units, f32) to scores of the same layout.
pub type ScoreFn<'a> = dyn Fn(&mut RoleBuilder, TileRef, &ScoreAt) -> TileRef + 'a;

/// True (I1) where a query sees a key; asked for every element of every block visited.
pub type MaskFn<'a> = dyn Fn(&mut RoleBuilder, &ScoreAt) -> TileRef + 'a;

/// A user's own mods.
#[derive(Clone, Copy, Default)]
pub struct Mods<'a> {
    /// Applied after the standard ones.
    pub score: Option<&'a ScoreFn<'a>>,
    /// On top of the standard masks.
    pub mask: Option<&'a MaskFn<'a>>,
}

/// Scores ready for the softmax.
#[derive(Clone, Copy, Debug)]
pub struct Scored {
    /// The scores.
    pub tile: TileRef,
    /// What makes them exponents of two: F32 `[rows, 1]`, positive.
    pub log2_scale: TileRef,
}

/// The standard score mods of a class: `softcap(scale * s) - slope * |p - j| + bias`.
#[derive(Clone, Debug)]
pub struct Scores {
    softcap: bool,
    alibi: Option<TensorRef>,
    bias: Option<TensorRef>,
}

impl Scores {
    /// Declares parameters (`scale`, `softcap`, `bias_b`, `bias_h`, `bias_q`, `bias_k`) and tensors (`alibi [hq]`,
    /// `bias [bias_b*bias_h, bias_q*bias_k]`) that the class needs.
    pub fn declare(k: &mut KernelBuilder, p: &AttentionProblem) -> Self {
        let bias = p.bias.map(|dtype| {
            for name in ["bias_b", "bias_h", "bias_q", "bias_k"] {
                k.shape(name);
            }
            k.tensor("bias", dtype, [Dim::param("bias_b*bias_h"), Dim::param("bias_q*bias_k")])
        });
        Scores { bias, ..Self::without_bias(k, p.softcap, p.alibi) }
    }

    /// As [`Self::declare`] for a class that has no bias.
    pub fn without_bias(k: &mut KernelBuilder, softcap: bool, alibi: bool) -> Self {
        k.scalar("scale", DType::F32);
        if softcap {
            k.scalar("softcap", DType::F32);
        }
        let alibi = alibi.then(|| k.tensor("alibi", DType::F32, [Dim::param("hq")]));
        Scores { softcap, alibi, bias: None }
    }

    /// The slopes of the rows' heads, F32 `[rows, 1]`; asked for once a tile of queries.
    pub fn slopes(&self, r: &mut RoleBuilder, rows: &Rows) -> Option<TileRef> {
        let alibi = self.alibi.as_ref()?;
        let like = r.tile_type(rows.head);
        let heads = r.param("hq");
        let heads = r.splat(heads, like);
        let exists = r.compare(CmpPred::Lt, rows.head, heads);
        Some(r.load_elems(alibi, &[], rows.head, Some(exists)))
    }

    /// True if the class does nothing but scale: the scale is then left to the exponential, which multiplies anyway.
    fn plain(&self, mods: &Mods) -> bool {
        !self.softcap && self.alibi.is_none() && self.bias.is_none() && mods.score.is_none()
    }

    /// What makes the scores of [`Self::apply`] exponents of two: F32, of the type `column`.
    pub fn log2_scale(&self, r: &mut RoleBuilder, column: &RegTile, mods: &Mods) -> TileRef {
        let log2_e = r.float(std::f32::consts::LOG2_E);
        let log2_e = r.splat(log2_e, column.clone());
        if !self.plain(mods) {
            return log2_e;
        }
        let scale = r.param("scale");
        let scale = r.splat(scale, column.clone());
        r.binary("mul", scale, log2_e)
    }

    /// Applies them to raw products.
    pub fn apply(&self, r: &mut RoleBuilder, raw: TileRef, at: &ScoreAt, slopes: Option<TileRef>, mods: &Mods) -> Scored {
        let column = r.row_vec(&at.like, DType::F32);
        let log2_scale = self.log2_scale(r, &column, mods);
        if self.plain(mods) {
            return Scored { tile: raw, log2_scale };
        }
        let scale = at.param(r, "scale", DType::F32);
        let mut x = r.binary("mul", raw, scale);
        if self.softcap {
            x = softcap(r, x, at);
        }
        if let Some(slopes) = slopes {
            let (p, j) = (at.wide(r, at.rows.pos), at.wide(r, at.key));
            let (ahead, behind) = (r.binary("sub", j, p), r.binary("sub", p, j));
            let distance = r.binary("max", ahead, behind);
            let distance = r.cast(distance, DType::F32);
            let fall = r.unary("neg", slopes);
            let fall = at.wide(r, fall);
            x = r.fma(distance, fall, x);
        }
        if let (Some(bias), Some(head)) = (&self.bias, at.head) {
            let b = load_bias(r, bias, at, head);
            x = r.binary("add", x, b);
        }
        if let Some(score) = mods.score {
            x = score(r, x, at);
        }
        Scored { tile: x, log2_scale }
    }
}

/// `c tanh(x / c)` as `c - 2 c / (1 + 2^(2 x log2(e) / c))`: right at both ends, and absolute error of an ulp of c.
fn softcap(r: &mut RoleBuilder, x: TileRef, at: &ScoreAt) -> TileRef {
    let c = at.param(r, "softcap", DType::F32);
    let one = at.float(r, 1.0);
    let inverse = r.unary("rcp", c);
    let two_log2_e = at.float(r, 2.0 * std::f32::consts::LOG2_E);
    let rate = r.binary("mul", inverse, two_log2_e);
    let e = r.binary("mul", x, rate);
    let e = r.unary("exp2", e);
    let e = r.binary("add", e, one);
    let part = r.unary("rcp", e);
    let minus_two = at.float(r, -2.0);
    let twice = r.binary("mul", c, minus_two);
    r.fma(part, twice, c)
}

/// The bias of each element; extents of 1 are repeated.
fn load_bias(r: &mut RoleBuilder, bias: &TensorRef, at: &ScoreAt, head: Scalar) -> TileRef {
    let [b, h, q, k] = ["bias_b", "bias_h", "bias_q", "bias_k"].map(|name| r.param(name));
    // The step along an extent, none where it is repeated.
    let step = |r: &mut RoleBuilder, extent: Scalar, by: Scalar| {
        let single = r.cmp(CmpPred::Eq, extent, 1);
        r.select(single, 0, by)
    };
    let batch = step(r, b, at.rows.batch);
    let head = step(r, h, head);
    let matrix = r.mul(batch, h);
    let matrix = r.add(matrix, head);
    let one = r.int(1);
    let steps = [step(r, q, k), step(r, k, one)].map(|s| r.splat(s, at.like.clone()));
    let (query, key) = (at.wide(r, at.rows.query), at.wide(r, at.key));
    let exists = inside(r, at);
    let row = r.binary("mul", query, steps[0]);
    let col = r.binary("mul", key, steps[1]);
    let index = r.binary("add", row, col);
    r.load_elems(bias, &[matrix], index, Some(exists))
}

/// True where query and key exist.
fn inside(r: &mut RoleBuilder, at: &ScoreAt) -> TileRef {
    let [sq, sk] = at.len.map(|n| r.splat(n, at.like.clone()));
    let (query, key) = (at.wide(r, at.rows.query), at.wide(r, at.key));
    let (row, col) = (r.compare(CmpPred::Lt, query, sq), r.compare(CmpPred::Lt, key, sk));
    r.binary("and", row, col)
}

/// Sparsity a class has at run time: a mask over blocks, kinds of heads.
#[derive(Clone, Debug)]
pub struct Sparsity {
    mask: Option<TensorRef>,
    head_type: Option<TensorRef>,
}

impl Sparsity {
    /// Declares `block_mask` U8 `[mask_b*mask_h, mask_q*mask_k]` with `block_m`, `block_n`, and `head_type` I32 `[hq]` with
    /// `sink_tokens`, `recent_tokens`.
    pub fn declare(k: &mut KernelBuilder, mask: bool, heads: bool) -> Self {
        let mask = mask.then(|| {
            for name in ["mask_b", "mask_h", "mask_q", "mask_k", "block_m", "block_n"] {
                k.shape(name);
            }
            k.tensor("block_mask", DType::U8, [Dim::param("mask_b*mask_h"), Dim::param("mask_q*mask_k")])
        });
        let head_type = heads.then(|| {
            k.shape("sink_tokens");
            k.shape("recent_tokens");
            k.tensor("head_type", DType::I32, [Dim::param("hq")])
        });
        Sparsity { mask, head_type }
    }

    /// True where the head `head` lets a query see a key.
    fn visible(&self, r: &mut RoleBuilder, at: &ScoreAt, head: Scalar) -> Option<TileRef> {
        let kind = self.head_type.as_ref().map(|t| r.load_scalar(t, &[head]));
        let masked = self.mask.as_ref().map(|mask| {
            // Head type t > 0 takes row t - 1 of the mask's heads; without types each head has its own, or all share one.
            let row = match kind {
                Some(kind) => {
                    let row = r.sub(kind, 1);
                    r.max(row, 0)
                }
                None => {
                    let heads = r.param("mask_h");
                    let shared = r.cmp(CmpPred::Eq, heads, 1);
                    r.select(shared, 0, head)
                }
            };
            let asked = match kind {
                Some(kind) => r.cmp(CmpPred::Gt, kind, 0),
                None => r.bool(true),
            };
            let (asked, loaded) = (asked, self.load_mask(r, mask, at, row, asked));
            (asked, loaded)
        });
        let streaming = kind.map(|kind| {
            let (sink, recent) = (at.param(r, "sink_tokens", DType::I32), at.param(r, "recent_tokens", DType::I32));
            let (p, j) = (at.wide(r, at.rows.pos), at.wide(r, at.key));
            let back = r.binary("sub", p, j);
            let (first, last) = (r.compare(CmpPred::Lt, j, sink), r.compare(CmpPred::Lt, back, recent));
            (r.cmp(CmpPred::Lt, kind, 0), r.binary("or", first, last))
        });
        let bits = RegTile { dtype: DType::I1, ..at.like.clone() };
        let mut all = None;
        for (applies, seen) in [masked, streaming].into_iter().flatten() {
            let applies = r.splat(applies, bits.clone());
            let exempt = r.unary("not", applies);
            let here = r.binary("or", exempt, seen);
            all = Some(match all {
                None => here,
                Some(before) => r.binary("and", before, here),
            });
        }
        all
    }

    fn load_mask(&self, r: &mut RoleBuilder, mask: &TensorRef, at: &ScoreAt, row: Scalar, asked: Scalar) -> TileRef {
        let (batches, heads) = (r.param("mask_b"), r.param("mask_h"));
        let shared = r.cmp(CmpPred::Eq, batches, 1);
        let batch = r.select(shared, 0, at.rows.batch);
        let matrix = r.mul(batch, heads);
        let matrix = r.add(matrix, row);
        let [bm, bn, width] = ["block_m", "block_n", "mask_k"].map(|n| at.param(r, n, DType::I32));
        let (query, key) = (at.wide(r, at.rows.query), at.wide(r, at.key));
        let (i, j) = (r.binary("div", query, bm), r.binary("div", key, bn));
        let start = r.binary("mul", i, width);
        let index = r.binary("add", start, j);
        let exists = inside(r, at);
        let asked = r.splat(asked, RegTile { dtype: DType::I1, ..at.like.clone() });
        let exists = r.binary("and", exists, asked);
        let bit = r.load_elems(mask, &[matrix], index, Some(exists));
        let zero = at.int(r, 0);
        r.compare(CmpPred::Ne, bit, zero)
    }
}

/// Scores with minus infinity where a query does not see a key. `interval` is [`Visibility::intervals`] of the rows.
pub fn masked(
    r: &mut RoleBuilder,
    scores: TileRef,
    at: &ScoreAt,
    v: &Visibility,
    interval: [TileRef; 2],
    sparsity: Option<&Sparsity>,
    mods: &Mods,
) -> TileRef {
    // Keys in a row are compared by the number of their column, which is a constant.
    let (key, interval) = match at.run {
        None => (at.key, interval),
        Some((start, columns)) => (
            columns,
            interval.map(|end| {
                let like = r.tile_type(end);
                let start = r.splat(start, like);
                r.binary("sub", end, start)
            }),
        ),
    };
    let key = at.wide(r, key);
    let last = at.wide(r, interval[1]);
    let mut seen = r.compare(CmpPred::Le, key, last);
    if v.window || v.chunk {
        let first = at.wide(r, interval[0]);
        let late = r.compare(CmpPred::Ge, key, first);
        seen = r.binary("and", seen, late);
    }
    if let (Some(sparsity), Some(head)) = (sparsity, at.head)
        && let Some(here) = sparsity.visible(r, at, head)
    {
        seen = r.binary("and", seen, here);
    }
    if let Some(mask) = mods.mask {
        let here = mask(r, at);
        seen = r.binary("and", seen, here);
    }
    let nothing = at.float(r, f32::NEG_INFINITY);
    r.choose(seen, scores, nothing)
}
