//! Which pages of a cache a query should look at: bounds of the keys of each page, and the pages whose bounds promise the
//! largest scores.
//!
//! Bounds are elementwise: with `min <= k <= max` for every key k of a page, `q . k <= sum_d max(q_d min_d, q_d max_d)`
//! (Quest, arXiv 2406.10774). A physical page may hold several logical ones of fewer tokens, each with its own bounds, and
//! counts as its best one (LServe, arXiv 2502.14866).

use super::problem::HEAD_DIMS;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, RegTile, RoleBuilder, Scalar, TensorRef, TileRef, Unit};

/// The class of the page kernels: what is fixed when they are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageProblem {
    /// Dtype of queries and keys: BF16 or F16.
    pub dtype: DType,
    /// Dtype of the bounds: `dtype`, or F32.
    pub bounds: DType,
    /// Elements of a head: 64, 96, 128, 192 or 256.
    pub d: u32,
    /// A page holds `sub` logical pages.
    pub logical: bool,
}

/// Page kernels that do not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Another dtype.
    #[error("pages hold bf16 or f16, not {0}")]
    Type(DType),
    /// Bounds of another dtype.
    #[error("bounds of {dtype} keys are {dtype} or f32, not {bounds}")]
    Bounds {
        /// Dtype of the keys.
        dtype: DType,
        /// Dtype asked for.
        bounds: DType,
    },
    /// A head dim no kernel has.
    #[error("d = {0}: head dims are 64, 96, 128, 192 and 256")]
    HeadDim(u32),
    /// A class text that is not one.
    #[error("`{0}` is no class of pages: expected dtype=..,bounds=..,d=..,logical=0|1")]
    Class(String),
}

const WARPS: u32 = 4;
/// Neighbours of one thread; with it every head dim leaves a row in one warp.
const VEC: u32 = 8;
/// Tokens under way at once.
const AT_ONCE: u32 = 4;
/// Pages that a CTA ranks, one a thread.
const RANKED: u32 = WARPS * 32;
/// Pages they are compared with at once.
const AGAINST: u32 = 16;

impl PageProblem {
    /// Pages of `dtype` with bounds of the same, no logical pages.
    pub fn plain(dtype: DType, d: u32) -> Self {
        PageProblem { dtype, bounds: dtype, d, logical: false }
    }

    /// Checks dtypes and the head dim.
    pub fn check(&self) -> Result<(), PageError> {
        if !matches!(self.dtype, DType::BF16 | DType::F16) {
            return Err(PageError::Type(self.dtype));
        }
        if self.bounds != self.dtype && self.bounds != DType::F32 {
            return Err(PageError::Bounds { dtype: self.dtype, bounds: self.bounds });
        }
        if HEAD_DIMS.contains(&self.d) { Ok(()) } else { Err(PageError::HeadDim(self.d)) }
    }

    /// The class key of manifests and tuning records.
    pub fn class(&self) -> String {
        format!("dtype={},bounds={},d={},logical={}", self.dtype, self.bounds, self.d, u8::from(self.logical))
    }

    /// The class behind a key.
    pub fn from_class(text: &str) -> Result<Self, PageError> {
        let read = || {
            let mut f = super::class::Fields::new(text);
            let p = PageProblem {
                dtype: f.take("dtype")?.parse().ok()?,
                bounds: f.take("bounds")?.parse().ok()?,
                d: f.take("d")?.parse().ok()?,
                logical: super::class::flag(f.take("logical")?)?,
            };
            f.end().then_some(p)
        };
        let p = read().ok_or_else(|| PageError::Class(text.to_string()))?;
        p.check()?;
        Ok(p)
    }

    /// A short name for entries and files: `bf16_d128_f32_logical`.
    pub fn slug(&self) -> String {
        let bounds = if self.bounds == self.dtype { String::new() } else { format!("_{}", self.bounds) };
        format!("{}_d{}{bounds}{}", self.dtype, self.d, if self.logical { "_logical" } else { "" })
    }

    /// Declares the bounds: `[pages, sub, hkv, d]`.
    fn bounds(&self, k: &mut KernelBuilder) -> [TensorRef; 2] {
        let d = Dim { param: None, factor: self.d };
        let dims = if self.logical {
            vec![Dim::param("pages"), Dim::param("sub"), Dim::param("hkv"), d]
        } else {
            vec![Dim::param("pages"), Dim::param("hkv"), d]
        };
        ["page_min", "page_max"].map(|name| k.tensor(name, self.bounds, dims.clone()))
    }

    fn declare(&self, k: &mut KernelBuilder, names: &[&str]) {
        names.iter().for_each(|n| drop(k.shape(n)));
        if self.logical {
            k.shape("sub");
        }
    }

    /// Logical pages of a page.
    fn sub(&self, r: &mut RoleBuilder) -> Scalar {
        if self.logical { r.param("sub") } else { r.int(1) }
    }

    /// Rows of a tile of keys or bounds: whole vectors for every thread.
    fn rows(&self) -> u32 {
        if self.d.is_multiple_of(64) { 16 } else { 32 }
    }

    /// A tile of f32 rows of `d`.
    fn tile(&self) -> Result<RegTile, LayoutError> {
        let shape = [self.rows(), self.d];
        Ok(RegTile { dtype: DType::F32, shape, layout: blocked(WARPS * 32, shape, VEC)? })
    }
}

/// Records the statistics kernel: `k_pages [pages, page, hkv, d]` -> `page_min`, `page_max` `[pages, hkv, d]`, with logical pages
/// `[pages, sub, hkv, d]`, of `page / sub` tokens each. Every slot of a page counts.
///
/// Scalars: `pages`, `page`, `hkv`, with logical pages `sub`, which divides `page`.
pub fn page_stats(k: &mut KernelBuilder, p: &PageProblem) -> Result<(), LayoutError> {
    p.declare(k, &["pages", "page", "hkv"]);
    let d = Dim { param: None, factor: p.d };
    let keys = k.tensor("k_pages", p.dtype, [Dim::param("pages"), Dim::param("page"), Dim::param("hkv"), d]);
    let bounds = p.bounds(k);
    let rows = if p.logical { "pages*sub*hkv" } else { "pages*hkv" };
    k.grid([format!("ceil_div({rows},{})", p.rows()), "1".into(), "1".into()]);
    if p.logical {
        k.require("page % sub == 0");
    }
    let like = p.tile()?;
    k.role("main", WARPS, None, Unit::Role, |r| {
        let ty = r.row_vec(&like, DType::I32);
        let [pages, page, hkv] = ["pages", "page", "hkv"].map(|n| r.param(n));
        let sub = p.sub(r);
        let (tokens, logical) = (r.div(page, sub), r.mul(pages, sub));
        let count = r.mul(logical, hkv);
        let (number, inside) = rows_of_cta(r, &ty, 0, p.rows(), count);
        // Row (n, h) of the bounds has tokens n * tokens and on; tokens of a page follow each other, pages too.
        let hkv = r.splat(hkv, ty.clone());
        let (n, head) = (r.binary("div", number, hkv), r.binary("rem", number, hkv));
        let every = r.splat(tokens, ty.clone());
        let first = r.binary("mul", n, every);
        let limits = [f32::INFINITY, f32::NEG_INFINITY].map(|v| {
            let v = r.float(v);
            let v = r.splat(v, like.clone());
            r.tile_cell(v)
        });
        r.for_range(0, tokens, AT_ONCE, |r, t| {
            let loaded: Vec<TileRef> = (0..AT_ONCE)
                .map(|i| {
                    // Past the last token the last one again: it changes no limit.
                    let last = r.sub(tokens, 1);
                    let t = r.add(t, i);
                    let t = r.min(t, last);
                    let t = r.splat(t, ty.clone());
                    let row = r.binary("add", first, t);
                    let row = r.binary("mul", row, hkv);
                    let row = r.binary("add", row, head);
                    let row = or_none(r, inside, row);
                    let like = RegTile { dtype: p.dtype, ..like.clone() };
                    let keys = r.load_rows(&keys, like, row, 0, VEC);
                    r.cast(keys, DType::F32)
                })
                .collect();
            for keys in loaded {
                for (cell, f) in limits.into_iter().zip(["min", "max"]) {
                    let before = r.get_tile(cell);
                    let after = r.binary(f, before, keys);
                    r.set_tile(cell, after);
                }
            }
        });
        let number = or_none(r, inside, number);
        for (cell, to) in limits.into_iter().zip(&bounds) {
            let tile = r.get_tile(cell);
            let tile = r.cast(tile, p.bounds);
            r.store_rows(to, tile, number, 0, VEC.min(16 / p.bounds.bytes()));
        }
    });
    Ok(())
}

/// Records the score kernel: `q [batch, 1, hq, d]`, `page_min`, `page_max` (as [`page_stats`] leaves them), `page_table` I32
/// `[batch, max_pages]`, `kv_len` I32 `[batch]` -> `scores` f32 `[batch, hq, max_pages]`:
/// `sum_d max(q * min, q * max)`, the largest of a page's logical ones; -inf for pages past `ceil(kv_len / page)`, whose table
/// entries and bounds are not read. Query head h asks key head `h / (hq / hkv)`.
///
/// Scalars: `batch`, `hq`, `hkv`, `pages`, `page`, `max_pages`, with logical pages `sub`.
pub fn page_scores(k: &mut KernelBuilder, p: &PageProblem) -> Result<(), LayoutError> {
    p.declare(k, &["batch", "hq", "hkv", "pages", "page", "max_pages"]);
    let one = Dim { param: None, factor: 1 };
    let d = Dim { param: None, factor: p.d };
    let q = k.tensor("q", p.dtype, [Dim::param("batch"), one, Dim::param("hq"), d]);
    let bounds = p.bounds(k);
    let table = k.tensor("page_table", DType::I32, [Dim::param("batch"), Dim::param("max_pages")]);
    let kv_len = k.tensor("kv_len", DType::I32, [Dim::param("batch")]);
    let scores = k.tensor("scores", DType::F32, [Dim::param("batch"), Dim::param("hq"), Dim::param("max_pages")]);
    // Heads that share bounds run at the same time.
    k.grid(["batch*hq".into(), format!("ceil_div(max_pages,{})", p.rows()), "1".into()]);
    let like = p.tile()?;
    k.role("main", WARPS, None, Unit::Role, |r| {
        let ty = r.row_vec(&like, DType::I32);
        let x = r.cta_id(0);
        let [hq, hkv, max_pages] = ["hq", "hkv", "max_pages"].map(|n| r.param(n));
        let (b, h) = (r.div(x, hq), r.rem(x, hq));
        let group = r.div(hq, hkv);
        let head = r.div(h, group);
        let used = used_pages(r, &kv_len, b);
        let used = r.min(used, max_pages);
        let (number, visible) = rows_of_cta(r, &ty, 1, p.rows(), used);
        let page = r.load_elems(&table, &[b], number, Some(visible));
        let zero = r.int(0);
        let at = r.iota(1, r.col_vec(&like, DType::I32));
        let query = r.load_elems(&q, &[b, zero, h], at, None);
        let query = r.broadcast(query, like.clone());
        let none = r.float(f32::NEG_INFINITY);
        let none = r.splat(none, r.row_vec(&like, DType::F32));
        let best = r.tile_cell(none);
        let sub = p.sub(r);
        let first = r.splat(sub, ty.clone());
        let first = r.binary("mul", page, first);
        r.for_range(0, sub, 1, |r, s| {
            let s = r.splat(s, ty.clone());
            let row = r.binary("add", first, s);
            let (heads, head) = (r.splat(hkv, ty.clone()), r.splat(head, ty.clone()));
            let row = r.binary("mul", row, heads);
            let row = r.binary("add", row, head);
            let row = or_none(r, visible, row);
            let [low, high] = [0, 1].map(|i| {
                let like = RegTile { dtype: p.bounds, ..like.clone() };
                let tile = r.load_rows(&bounds[i], like, row, 0, VEC.min(16 / p.bounds.bytes()));
                let tile = r.cast(tile, DType::F32);
                r.binary("mul", query, tile)
            });
            let most = r.binary("max", low, high);
            let score = r.reduce("add", most);
            let before = r.get_tile(best);
            let after = r.binary("max", before, score);
            r.set_tile(best, after);
        });
        let best = r.get_tile(best);
        let best = r.choose(visible, best, none);
        let (_, inside) = rows_of_cta(r, &ty, 1, p.rows(), max_pages);
        r.store_elems(&scores, &[b, h], number, best, Some(inside));
    });
    Ok(())
}

/// Records the top-k kernel: `scores` f32 `[batch, hq, max_pages]`, `kv_len` I32 `[batch]` -> `select` I32 `[batch, hq, top]`: the `top`
/// pages of each sequence with the largest scores, as numbers in the sequence's row of the page table, best first; equal
/// scores by number, NaN counts as -inf. The last page, `ceil(kv_len / page) - 1`, is always the first. -1 where there are
/// fewer pages.
///
/// A page's place is the number of pages before it, counted against all n pages: n^2 comparisons a head, 16 at a time.
///
/// Scalars: `batch`, `hq`, `page`, `max_pages`, `top`.
pub fn page_top(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    for name in ["batch", "hq", "page", "max_pages", "top"] {
        k.shape(name);
    }
    let scores = k.tensor("scores", DType::F32, [Dim::param("batch"), Dim::param("hq"), Dim::param("max_pages")]);
    let kv_len = k.tensor("kv_len", DType::I32, [Dim::param("batch")]);
    let select = k.tensor("select", DType::I32, [Dim::param("batch"), Dim::param("hq"), Dim::param("top")]);
    k.grid(["batch*hq".into(), format!("ceil_div(max(max_pages,top),{RANKED})"), "1".into()]);
    let shape = [RANKED, AGAINST];
    let like = RegTile { dtype: DType::I32, shape, layout: blocked(RANKED, shape, AGAINST)? };
    k.role("main", WARPS, None, Unit::Role, |r| {
        let ty = r.row_vec(&like, DType::I32);
        let x = r.cta_id(0);
        let [hq, max_pages, top] = ["hq", "max_pages", "top"].map(|n| r.param(n));
        let at = [r.div(x, hq), r.rem(x, hq)];
        let used = used_pages(r, &kv_len, at[0]);
        let used = r.min(used, max_pages);
        let (mine, visible) = rows_of_cta(r, &ty, 1, RANKED, used);
        let zero = r.int(0);
        let zero = r.splat(zero, ty.clone());
        let place = r.tile_cell(zero);
        let score = number_or_least(r, &scores, &at, mine, visible);
        let score = r.broadcast(score, like.clone());
        let last = r.sub(used, 1);
        let mine_wide = r.broadcast(mine, like.clone());
        let last_wide = r.splat(last, like.clone());
        let is_last = r.compare(CmpPred::Eq, mine_wide, last_wide);
        let is_not_last = r.unary("not", is_last);
        r.for_range(0, used, AGAINST, |r, j| {
            let columns = r.col_vec(&like, DType::I32);
            let other = r.iota(1, columns.clone());
            let j = r.splat(j, columns.clone());
            let other = r.binary("add", other, j);
            let end = r.splat(used, columns);
            let there = r.compare(CmpPred::Lt, other, end);
            let theirs = number_or_least(r, &scores, &at, other, there);
            let theirs = r.broadcast(theirs, like.clone());
            let (other, there) = (r.broadcast(other, like.clone()), r.broadcast(there, like.clone()));
            let larger = r.compare(CmpPred::Gt, theirs, score);
            let equal = r.compare(CmpPred::Eq, theirs, score);
            let earlier = r.compare(CmpPred::Lt, other, mine_wide);
            let tie = r.binary("and", equal, earlier);
            let before = r.binary("or", larger, tie);
            let forced = r.compare(CmpPred::Eq, other, last_wide);
            let before = r.binary("or", before, forced);
            let before = r.binary("and", before, is_not_last);
            let before = r.binary("and", before, there);
            let before = r.cast(before, DType::I32);
            let more = r.reduce("add", before);
            let sum = r.get_tile(place);
            let sum = r.binary("add", sum, more);
            r.set_tile(place, sum);
        });
        let place = r.get_tile(place);
        let end = r.splat(top, ty.clone());
        let kept = r.compare(CmpPred::Lt, place, end);
        let kept = r.binary("and", kept, visible);
        r.store_elems(&select, &at, place, mine, Some(kept));
        // Places that no page has.
        let (slot, _) = rows_of_cta(r, &ty, 1, RANKED, top);
        let empty = r.unary("not", visible);
        let inside = r.compare(CmpPred::Lt, slot, end);
        let empty = r.binary("and", empty, inside);
        let none = r.int(-1);
        let none = r.splat(none, ty);
        r.store_elems(&select, &at, slot, none, Some(empty));
    });
    Ok(())
}

/// Numbers of the CTA's rows along a grid axis, and which are below `count`.
fn rows_of_cta(r: &mut RoleBuilder, ty: &RegTile, axis: i64, rows: u32, count: Scalar) -> (TileRef, TileRef) {
    let cta = r.cta_id(axis);
    let first = r.mul(cta, rows);
    let (number, first, end) = (r.iota(0, ty.clone()), r.splat(first, ty.clone()), r.splat(count, ty.clone()));
    let number = r.binary("add", number, first);
    (number, r.compare(CmpPred::Lt, number, end))
}

/// Pages that hold tokens: `ceil(kv_len / page)`.
fn used_pages(r: &mut RoleBuilder, kv_len: &TensorRef, b: Scalar) -> Scalar {
    let (len, page) = (r.load_scalar(kv_len, &[b]), r.param("page"));
    let len = r.max(len, 0);
    let up = r.add(len, page);
    let up = r.sub(up, 1);
    r.div(up, page)
}

/// Scores where the mask holds; -inf elsewhere and for NaN, which has no place in an order.
fn number_or_least(r: &mut RoleBuilder, scores: &TensorRef, at: &[Scalar], index: TileRef, mask: TileRef) -> TileRef {
    let score = r.load_elems(scores, at, index, Some(mask));
    let ordered = r.compare(CmpPred::Eq, score, score);
    let ordered = r.binary("and", ordered, mask);
    let least = r.splat_f32(f32::NEG_INFINITY, score);
    r.choose(ordered, score, least)
}

/// The number where the mask holds, else -1: no row.
fn or_none(r: &mut RoleBuilder, mask: TileRef, number: TileRef) -> TileRef {
    let none = r.int(-1);
    let none = r.splat(none, r.tile_type(number));
    r.choose(mask, number, none)
}
