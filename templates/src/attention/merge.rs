//! Joins partial attentions: the parts of a split cache, or a shared prefix and what follows it.
//!
//! With `M` the largest of a row's log denominators, part s weighs `exp(lse[s] - M)`, and
//! `o = sum_s weight * o[s] / sum_s weight`, `lse = M + log(sum_s weight)` (FlashAttention-2, section 3.1). Parts are
//! taken in ascending order, so the bits do not depend on the grid.

use super::class::{Fields, flag};
use std::f32::consts::{LN_2, LOG2_E};
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{Cell, CmpPred, Dim, KernelBuilder, RegTile, RoleBuilder, Scalar, TensorRef, TileRef, Unit};

/// The class of a merge: what is fixed when its kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MergeProblem {
    /// Dtype of the parts: F32, BF16 or F16.
    pub input: DType,
    /// Dtype of the result: F32, BF16 or F16.
    pub output: DType,
    /// `partial_lse` is `[parts, batch, sq, hq]`, as the forward and the decode leave it, instead of `[parts, batch, hq, sq]`.
    pub token_major: bool,
    /// Adds `exp(sink[h])` to the denominator; the LSE does not count it.
    pub sink: bool,
    /// What divides `dv`: 4, or 1 for any.
    pub align: u32,
}

/// A merge that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Another dtype.
    #[error("{what} of a merge is f32, bf16 or f16, not {dtype}")]
    Type {
        /// The parts, or the result.
        what: &'static str,
        /// Dtype asked for.
        dtype: DType,
    },
    /// Another alignment.
    #[error("align = {0}: 4 where dv is a multiple of 4, else 1")]
    Align(u32),
    /// A class text that is not one.
    #[error("`{0}` is no merge class: expected in=..,out=..,token_major=..,sink=..,align=..")]
    Class(String),
}

/// Rows of a tile: one row is one head of one token.
const ROWS: u32 = 16;
/// Columns of a tile.
const COLS: u32 = 64;
const WARPS: u32 = 4;
/// Parts under way at once.
const AT_ONCE: u32 = 4;

impl MergeProblem {
    /// The merge of f32 parts that a kernel of this family left.
    pub fn of_partials(output: DType, dv: u32, sink: bool) -> Self {
        MergeProblem { input: DType::F32, output, token_major: true, sink, align: if dv.is_multiple_of(4) { 4 } else { 1 } }
    }

    /// Checks dtypes and alignment.
    pub fn check(&self) -> Result<(), MergeError> {
        for (what, dtype) in [("the input", self.input), ("the output", self.output)] {
            if !matches!(dtype, DType::F32 | DType::BF16 | DType::F16) {
                return Err(MergeError::Type { what, dtype });
            }
        }
        if matches!(self.align, 1 | 4) { Ok(()) } else { Err(MergeError::Align(self.align)) }
    }

    /// The class key of manifests and tuning records.
    pub fn class(&self) -> String {
        let MergeProblem { input, output, token_major, sink, align } = self;
        format!("in={input},out={output},token_major={},sink={},align={align}", u8::from(*token_major), u8::from(*sink))
    }

    /// The class behind a key.
    pub fn from_class(text: &str) -> Result<Self, MergeError> {
        let read = || {
            let mut f = Fields::new(text);
            let problem = MergeProblem {
                input: f.take("in")?.parse().ok()?,
                output: f.take("out")?.parse().ok()?,
                token_major: flag(f.take("token_major")?)?,
                sink: flag(f.take("sink")?)?,
                align: f.take("align")?.parse().ok()?,
            };
            f.end().then_some(problem)
        };
        let problem = read().ok_or_else(|| MergeError::Class(text.to_string()))?;
        problem.check()?;
        Ok(problem)
    }

    /// A short name for entries and files: `f32_bf16_tokens_sink_a4`.
    pub fn slug(&self) -> String {
        let [tokens, sink] = [(self.token_major, "_tokens"), (self.sink, "_sink")].map(|(on, name)| if on { name } else { "" });
        format!("{}_{}{tokens}{sink}_a{}", self.input, self.output, self.align)
    }
}

/// Records the kernel: `partial_o [parts*batch, sq, hq, dv]` and `partial_lse` f32 -> `o [batch, sq, hq, dv]` and
/// `lse [batch, hq, sq]` f32, natural log.
///
/// A part whose LSE is -inf weighs nothing and its o is not read. Where all are -inf, `o` is 0 and `lse` -inf. Scalars:
/// `parts`, `batch`, `sq`, `hq`, `dv`.
pub fn merge(k: &mut KernelBuilder, p: &MergeProblem) -> Result<(), LayoutError> {
    for name in ["parts", "batch", "sq", "hq", "dv"] {
        k.shape(name);
    }
    let [batch, sq, hq, dv] = ["batch", "sq", "hq", "dv"].map(Dim::param);
    let parts = Dim::param("parts*batch");
    let x = Ctx {
        p,
        partial_o: k.tensor("partial_o", p.input, [parts.clone(), sq.clone(), hq.clone(), dv.clone()]),
        partial_lse: k.tensor(
            "partial_lse",
            DType::F32,
            if p.token_major { [parts, sq.clone(), hq.clone()] } else { [parts, hq.clone(), sq.clone()] },
        ),
        sink: p.sink.then(|| k.tensor("sink", DType::F32, [hq.clone()])),
        o: k.tensor("o", p.output, [batch.clone(), sq.clone(), hq.clone(), dv]),
        lse: k.tensor("lse", DType::F32, [batch, hq, sq]),
    };
    k.grid([format!("ceil_div(batch*sq*hq,{ROWS})"), format!("ceil_div(dv,{COLS})"), "1".into()]);
    if p.align > 1 {
        k.require(format!("dv % {} == 0", p.align));
    }
    let shape = [ROWS, COLS];
    let like = RegTile { dtype: DType::F32, shape, layout: blocked(WARPS * 32, shape, 4)? };
    k.role("main", WARPS, None, Unit::Role, |r| x.main(r, like));
    Ok(())
}

struct Ctx<'a> {
    p: &'a MergeProblem,
    partial_o: TensorRef,
    partial_lse: TensorRef,
    sink: Option<TensorRef>,
    o: TensorRef,
    lse: TensorRef,
}

/// The rows of this CTA, I32 and I1 `[rows, 1]`.
struct Rows {
    /// Number of the row: token-major, head fastest.
    number: TileRef,
    /// Below the number of rows.
    inside: TileRef,
    /// Head.
    head: TileRef,
    /// Where the row's LSE is in `lse`.
    lse: TileRef,
    /// Rows in all.
    count: Scalar,
}

impl Ctx<'_> {
    fn main(&self, r: &mut RoleBuilder, like: RegTile) {
        let (x, y) = (r.cta_id(0), r.cta_id(1));
        let (first, col) = (r.mul(x, ROWS), r.mul(y, COLS));
        let float = r.row_vec(&like, DType::F32);
        let rows = Rows::new(r, first, r.row_vec(&like, DType::I32));
        let parts = r.param("parts");

        let none = r.float(f32::NEG_INFINITY);
        let none = r.splat(none, float.clone());
        let most = r.tile_cell(none);
        r.for_range(0, parts, AT_ONCE, |r, s| {
            for lse in self.lse_of_parts(r, &rows, s, parts) {
                let before = r.get_tile(most);
                let after = r.binary("max", before, lse);
                r.set_tile(most, after);
            }
        });
        // Where nothing is visible any finite number does: all weights are exp(-inf).
        let zero = r.splat_f32(0.0, none);
        let most = r.get_tile(most);
        let nothing = r.compare(CmpPred::Eq, most, none);
        let scale = r.choose(nothing, zero, most);

        let wide_zero = r.float(0.0);
        let wide_zero = r.splat(wide_zero, like.clone());
        let (sum, acc) = (r.tile_cell(zero), r.tile_cell(wide_zero));
        r.for_range(0, parts, AT_ONCE, |r, s| {
            let lse = self.lse_of_parts(r, &rows, s, parts);
            let loaded: Vec<_> =
                (0..AT_ONCE).zip(lse).map(|(i, lse)| (self.load(r, &rows, &like, (s, i), lse, col), lse)).collect();
            for (o, lse) in loaded {
                accumulate(r, &like, (sum, acc), o, lse, scale);
            }
        });
        self.finish(r, &rows, &like, col, (scale, sum, acc));
    }

    /// The LSEs of parts `s` to `s + AT_ONCE`; -inf past the last part and the last row.
    fn lse_of_parts(&self, r: &mut RoleBuilder, rows: &Rows, s: Scalar, parts: Scalar) -> Vec<TileRef> {
        (0..AT_ONCE)
            .map(|i| {
                let s = r.add(s, i);
                let here = r.cmp(CmpPred::Lt, s, parts);
                let here = r.splat(here, r.tile_type(rows.inside));
                let here = r.binary("and", here, rows.inside);
                let batch = r.param("batch");
                let first = r.mul(s, batch);
                let at = if self.p.token_major { rows.number } else { rows.lse };
                let lse = r.load_elems(&self.partial_lse, &[first], at, Some(here));
                let none = r.splat_f32(f32::NEG_INFINITY, lse);
                r.choose(here, lse, none)
            })
            .collect()
    }

    /// Part `s + i` of o as f32: zeros where it weighs nothing, whatever is stored there.
    fn load(
        &self,
        r: &mut RoleBuilder,
        rows: &Rows,
        like: &RegTile,
        (s, i): (Scalar, u32),
        lse: TileRef,
        col: Scalar,
    ) -> TileRef {
        let s = r.add(s, i);
        let first = r.mul(s, rows.count);
        let first = r.splat(first, r.tile_type(rows.number));
        let number = r.binary("add", rows.number, first);
        let none = r.splat_f32(f32::NEG_INFINITY, lse);
        // Also false for NaN, whose weight makes the row NaN.
        let weighs = r.compare(CmpPred::Gt, lse, none);
        let number = or_none(r, weighs, number);
        let like = RegTile { dtype: self.p.input, ..like.clone() };
        let o = r.load_rows(&self.partial_o, like, number, col, self.p.align);
        r.cast(o, DType::F32)
    }

    fn finish(&self, r: &mut RoleBuilder, rows: &Rows, like: &RegTile, col: Scalar, (scale, sum, acc): (TileRef, Cell, Cell)) {
        let (sum, acc) = (r.get_tile(sum), r.get_tile(acc));
        let zero = r.splat_f32(0.0, sum);
        let nothing = r.compare(CmpPred::Eq, sum, zero);
        let denominator = match &self.sink {
            Some(sink) => {
                let logit = r.load_elems(sink, &[], rows.head, Some(rows.inside));
                let more = exp_of_difference(r, logit, scale);
                r.binary("add", sum, more)
            }
            None => sum,
        };
        let inverse = r.unary("rcp", denominator);
        let inverse = r.choose(nothing, zero, inverse);
        let inverse = r.broadcast(inverse, like.clone());
        let o = r.binary("mul", acc, inverse);
        let o = r.cast(o, self.p.output);
        let number = or_none(r, rows.inside, rows.number);
        r.store_rows(&self.o, o, number, col, self.p.align);
        let first = r.cmp(CmpPred::Eq, col, 0);
        r.if_then(first, |r| {
            let log = r.unary("log2", sum);
            let ln2 = r.splat_f32(LN_2, log);
            let lse = r.fma(log, ln2, scale);
            let none = r.splat_f32(f32::NEG_INFINITY, lse);
            let lse = r.choose(nothing, none, lse);
            r.store_elems(&self.lse, &[], rows.lse, lse, Some(rows.inside));
        });
    }
}

impl Rows {
    fn new(r: &mut RoleBuilder, first: Scalar, ty: RegTile) -> Self {
        let param = |r: &mut RoleBuilder, name| {
            let v = r.param(name);
            r.splat(v, ty.clone())
        };
        let (batch, sq, hq) = (r.param("batch"), r.param("sq"), r.param("hq"));
        let tokens = r.mul(batch, sq);
        let count = r.mul(tokens, hq);
        let number = r.iota(0, ty.clone());
        let first = r.splat(first, ty.clone());
        let number = r.binary("add", number, first);
        let end = r.splat(count, ty.clone());
        let inside = r.compare(CmpPred::Lt, number, end);
        let (sq, hq) = (param(r, "sq"), param(r, "hq"));
        let token = r.binary("div", number, hq);
        let head = r.binary("rem", number, hq);
        let (sequence, i) = (r.binary("div", token, sq), r.binary("rem", token, sq));
        let lse = r.binary("mul", sequence, hq);
        let lse = r.binary("add", lse, head);
        let lse = r.binary("mul", lse, sq);
        let lse = r.binary("add", lse, i);
        Rows { number, inside, head, lse, count }
    }
}

/// `sum += w`, `acc += w * o` with `w = exp(lse - scale)`.
fn accumulate(r: &mut RoleBuilder, like: &RegTile, (sum, acc): (Cell, Cell), o: TileRef, lse: TileRef, scale: TileRef) {
    let weight = exp_of_difference(r, lse, scale);
    let before = r.get_tile(sum);
    let after = r.binary("add", before, weight);
    r.set_tile(sum, after);
    let weight = r.broadcast(weight, like.clone());
    let before = r.get_tile(acc);
    let after = r.fma(weight, o, before);
    r.set_tile(acc, after);
}

/// `exp(a - b)`; the difference first, so that the largest part weighs exactly 1.
fn exp_of_difference(r: &mut RoleBuilder, a: TileRef, b: TileRef) -> TileRef {
    let d = r.binary("sub", a, b);
    let log2_e = r.splat_f32(LOG2_E, d);
    let d = r.binary("mul", d, log2_e);
    r.unary("exp2", d)
}

/// The number where the mask holds, else -1: no row.
fn or_none(r: &mut RoleBuilder, mask: TileRef, number: TileRef) -> TileRef {
    let none = r.int(-1);
    let none = r.splat(none, r.tile_type(number));
    r.choose(mask, number, none)
}
