//! A stable radix sort of row numbers, from the lowest digit up.
//!
//! One pass of 7 bits is three launches: a kernel of 27 taps takes four passes, of its halves two. With `below(t, b)` the number of block b's elements whose digit is less than t, `S(t, b)` its sum
//! over earlier blocks and `L` how many elements of an element's own block come before it in sorted order, an element of digit d
//! in block b goes to
//!
//! ```text
//! S(d, all) + (S(d+1, b) - S(d, b)) + (L - below(d, b))  =  S(d, all) + S(d+1, b) - S(d, b+1) + L
//! ```
//! smaller digits anywhere, the same digit in earlier blocks, the same digit earlier in this block. Counting elements below a
//! number serves both `below` and `L`, so there is one way to count, against all elements of a block.

use super::error::ListError;
use super::numbers::{Numbers, extent, fixed, kernel, role, rows_that_exist};
use super::scan::{self, Summed};
use crate::sparse_conv::pieces::{MapSet, PlanBuilder};
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{CmpPred, KernelBuilder, RegTile, RoleBuilder, Scalar, Staging, TensorRef, TileRef};
use tilewright_runtime::dtype::Dtype;

/// Bits of a digit.
const BITS: u32 = 7;
/// Bits of a word of keys: whole digits.
pub(super) const WORD_BITS: u32 = 4 * BITS;
/// Digits, and elements of a block: a thread each.
const BLOCK: u32 = 1 << BITS;
/// Elements compared with at once.
const AGAINST: u32 = 16;
/// Blocks that a CTA counts: its digits' numbers lie apart, those of neighbouring blocks are stored together.
const COUNTED: u32 = 2;
const BLOCKS: &str = "ceil_div(max(rows,1),128)";
/// Numbers of a digit: a block each, whole vectors of them, and what is behind all blocks.
const STRIDE: &str = "2*ceil_div(max(rows,1),256)+2";

/// Adds the launches that make I32 `[splits, rows]`, for each range of taps the row numbers below the count by ascending `bits`-bit keys
/// `keys` I32 `[splits*words, rows]`, the lowest word first, equal ones by number. What follows the count is undefined. Gives its
/// name.
pub(super) fn sort(
    pb: &mut PlanBuilder,
    name: &str,
    map: &MapSet,
    keys: &str,
    splits: u32,
    words: u32,
    bits: u32,
) -> Result<String, ListError> {
    let passes = bits.div_ceil(BITS).max(1);
    let s = splits.to_string();
    let stride = format!("2*ceil_div(max({},1),{})+2", map.rows, COUNTED * BLOCK);
    let below = pb.workspace(&format!("{name}_below"), Dtype::I32, &[&s, &BLOCK.to_string(), &stride])?;
    let places: Vec<String> = (0..passes.min(2))
        .map(|i| pb.workspace(&format!("{name}_order{i}"), Dtype::I32, &[&s, &map.rows]))
        .collect::<Result<_, _>>()?;
    for pass in 0..passes {
        let (word, shift) = (pass * BITS / WORD_BITS, pass * BITS % WORD_BITS);
        let numbers = [("splits", splits), ("words", words), ("word", word), ("shift", shift)];
        let mut sets: Vec<(String, String)> = numbers.map(|(n, v)| (n.into(), v.to_string())).into();
        sets.push(("rows".into(), map.rows.clone()));
        let from = &places[(pass as usize + 1) % places.len()];
        let to = &places[pass as usize % places.len()];
        let binds = [("keys", keys), ("count", &map.count), ("below", &below), ("order", from), ("place", to)];
        let later = pass > 0;
        let id = |what: &str| format!("sparse_sort_{what}{}", if later { "" } else { "_first" });
        let (counting, placing) = (id("count"), id("place"));
        pb.launch(&counting, |a| kernel(a, &counting, |k| count_below(k, later)), &binds, &sets)?;
        pb.launch("sparse_sort_sums", |a| kernel(a, "sparse_sort_sums", sums), &binds, &sets)?;
        pb.launch(&placing, |a| kernel(a, &placing, |k| place(k, later)), &binds, &sets)?;
    }
    Ok(places[(passes as usize - 1) % places.len()].clone())
}

/// What the kernels over elements share.
struct Elements {
    /// Blocks of a CTA.
    each: u32,
    keys: TensorRef,
    count: TensorRef,
    /// The order that earlier passes left; rows in their own order before the first.
    order: Option<TensorRef>,
    /// A block's elements as seen by all of its threads.
    shared: Staging,
    /// A thread's element, `[1, 128]`.
    n: Numbers,
    /// The same element as a column `[128, 1]`, compared with 16 columns.
    wide: RegTile,
}

impl Elements {
    /// For CTAs of so many blocks.
    fn declare(k: &mut KernelBuilder, later: bool, each: u32) -> Result<Self, LayoutError> {
        ["rows", "splits", "words", "word", "shift"].into_iter().for_each(|n| drop(k.shape(n)));
        let keys = k.tensor("keys", DType::I32, [extent("splits*words"), extent("rows")]);
        let count = k.tensor("count", DType::I32, [fixed(1)]);
        let order = later.then(|| k.tensor("order", DType::I32, [extent("splits"), extent("rows")]));
        let shared = k.scratch("elements", DType::I32, [BLOCK / AGAINST, AGAINST], each);
        k.grid([format!("ceil_div({BLOCKS},{each})"), "splits".into(), "1".into()]);
        let shape = [BLOCK, AGAINST];
        let wide = RegTile { dtype: DType::I32, shape, layout: blocked(BLOCK, shape, AGAINST)? };
        Ok(Elements { each, keys, count, order, shared, n: Numbers::new(BLOCK, BLOCK, 1)?, wide })
    }

    /// Records `body` for the CTAs that have rows; the others have nothing to do.
    fn where_rows_are(
        &self,
        r: &mut RoleBuilder,
        body: impl FnOnce(&mut RoleBuilder) -> Result<(), LayoutError>,
    ) -> Result<(), LayoutError> {
        let cta = r.cta_id(0);
        let first = r.mul(cta, self.each * BLOCK);
        let rows = rows_that_exist(r, &self.count);
        let some = r.cmp(CmpPred::Lt, first, rows);
        let mut result = Ok(());
        r.if_then(some, |r| result = body(r));
        result
    }

    /// The elements of the CTA's block `i`: row numbers, digits, `digit * 128 + place`, which is beyond every digit where there is no row, and
    /// where there is one. The third is in shared memory, for all after a `sync`.
    fn load(&self, r: &mut RoleBuilder, i: u32) -> Result<[TileRef; 4], LayoutError> {
        let n = &self.n;
        let (x, range) = (r.cta_id(0), r.cta_id(1));
        let first = r.mul(x, self.each * BLOCK);
        let first = r.add(first, i * BLOCK);
        let at = n.from(r, first);
        let rows = rows_that_exist(r, &self.count);
        let there = n.is(r, at, CmpPred::Lt, rows);
        let row = match &self.order {
            Some(order) => r.load_elems(order, &[range], at, Some(there)),
            None => at,
        };
        let [words, word, shift] = ["words", "word", "shift"].map(|p| r.param(p));
        let plane = r.mul(range, words);
        let plane = r.add(plane, word);
        let key = r.load_elems(&self.keys, &[plane], row, Some(there));
        let digit = n.with(r, "shr", key, shift);
        let digit = n.with(r, "and", digit, BLOCK - 1);
        let zero = r.int(0);
        let place = n.from(r, zero);
        let element = n.with(r, "shl", digit, BITS);
        let element = r.binary("add", element, place);
        let beyond = n.int(r, i64::from(i32::MAX));
        let element = r.choose(there, element, beyond);
        let shared = r.staging(&self.shared, i);
        let shape = [BLOCK / AGAINST, AGAINST];
        let square = RegTile { dtype: DType::I32, shape, layout: blocked(BLOCK, shape, 1)? };
        let value = r.reinterpret(&[element], square);
        r.store_shared(shared, value);
        Ok([row, digit, element, there])
    }

    /// Of each thread: how many elements of block `i` are below its number, as a column.
    fn below(&self, r: &mut RoleBuilder, i: u32, number: TileRef) -> TileRef {
        let column = r.row_vec(&self.wide, DType::I32);
        let row = r.col_vec(&self.wide, DType::I32);
        let number = r.reinterpret(&[number], column.clone());
        let number = r.broadcast(number, self.wide.clone());
        let zero = r.int(0);
        let mut sum = r.splat(zero, column);
        let shared = r.staging(&self.shared, i);
        for i in 0..BLOCK / AGAINST {
            let part = r.rows(shared, i, 1);
            let others = r.load_shared(part, row.clone());
            let others = r.broadcast(others, self.wide.clone());
            let less = r.compare(CmpPred::Lt, others, number);
            let ones = r.cast(less, DType::I32);
            let part = r.reduce_thread("add", ones);
            sum = r.binary("add", sum, part);
        }
        sum
    }
}

/// `below` I32 `[splits, 128, stride]`: at digit t - 1 and a block, its elements with a digit less than t.
fn declare_below(k: &mut KernelBuilder) -> TensorRef {
    k.tensor("below", DType::I32, [extent("splits"), fixed(BLOCK), extent(STRIDE)])
}

/// `keys`, `count`, `order` -> `below`.
fn count_below(k: &mut KernelBuilder, later: bool) -> Result<(), LayoutError> {
    let e = Elements::declare(k, later, COUNTED)?;
    let below = declare_below(k);
    let shape = [BLOCK, COUNTED];
    let numbers = RegTile { dtype: DType::I32, shape, layout: blocked(BLOCK, shape, COUNTED)? };
    let mut result = Ok(());
    role(k, BLOCK / 32, |r| {
        result = e.where_rows_are(r, |r| {
            for i in 0..COUNTED {
                e.load(r, i)?;
            }
            r.sync();
            let n = &e.n;
            let one = r.int(1);
            let next = n.from(r, one);
            let limit = n.with(r, "shl", next, BITS);
            let sums: Vec<TileRef> = (0..COUNTED).map(|i| e.below(r, i, limit)).collect();
            let sums = r.reinterpret(&sums, numbers);
            let (cta, range) = (r.cta_id(0), r.cta_id(1));
            let first = r.mul(range, BLOCK);
            let digit = Numbers { ty: r.row_vec(&r.tile_type(sums), DType::I32) }.from(r, first);
            let col = r.mul(cta, COUNTED);
            r.store_rows(&below, sums, digit, col, COUNTED);
            Ok(())
        });
    });
    result
}

/// Blocks that have rows.
fn blocks(r: &mut RoleBuilder, count: &TensorRef) -> Scalar {
    let rows = rows_that_exist(r, count);
    r.ceil_div(rows, BLOCK)
}

/// [`STRIDE`] as a number.
fn stride(r: &mut RoleBuilder) -> Scalar {
    let rows = r.param("rows");
    let rows = r.max(rows, 1);
    let pairs = r.ceil_div(rows, COUNTED * BLOCK);
    let blocks = r.mul(pairs, COUNTED);
    r.add(blocks, COUNTED)
}

/// `below` in place -> sums over earlier blocks, over all of them behind the last that has rows.
fn sums(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    k.shape("rows");
    k.shape("splits");
    let count = k.tensor("count", DType::I32, [fixed(1)]);
    let below = declare_below(k);
    k.grid([BLOCK.to_string(), "splits".into(), "1".into()]);
    let sum = Summed::declare(k)?;
    role(k, 1, |r| {
        let (digit, range) = (r.cta_id(0), r.cta_id(1));
        let (stride, blocks) = (stride(r), blocks(r, &count));
        let first = r.mul(digit, stride);
        let one = sum.part.one(r);
        let none = one.int(r, 0);
        let before = r.tile_cell(none);
        r.for_range(0, blocks, scan::BLOCK, |r, b| {
            let b = sum.block.from(r, b);
            let there = sum.block.is(r, b, CmpPred::Lt, blocks);
            let at = sum.block.with(r, "add", b, first);
            let v = r.load_elems(&below, &[range], at, Some(there));
            let start = r.get_tile(before);
            let (value, end) = sum.before_each(r, v, start);
            r.store_elems(&below, &[range], at, value, Some(there));
            r.set_tile(before, end);
        });
        let all = r.get_tile(before);
        let last = r.add(first, blocks);
        let at = one.all(r, last);
        r.store_elems(&below, &[range], at, all, None);
    });
    Ok(())
}

/// `keys`, `count`, `order`, `below` -> `place`: the order of this pass.
fn place(k: &mut KernelBuilder, later: bool) -> Result<(), LayoutError> {
    let e = Elements::declare(k, later, 1)?;
    let below = declare_below(k);
    let place = k.tensor("place", DType::I32, [extent("splits"), extent("rows")]);
    let mut result = Ok(());
    role(k, BLOCK / 32, |r| {
        result = e.where_rows_are(r, |r| {
            let [row, digit, element, there] = e.load(r, 0)?;
            r.sync();
            let n = &e.n;
            let (block, range) = (r.cta_id(0), r.cta_id(1));
            let (stride, last) = (stride(r), blocks(r, &e.count));
            let next = r.add(block, 1);
            let this = n.with(r, "mul", digit, stride);
            let lower = n.with(r, "sub", this, stride);
            // There is nothing below digit 0.
            let some = n.is(r, digit, CmpPred::Gt, 0);
            let some = r.binary("and", some, there);
            let at = n.with(r, "add", lower, last);
            let smaller = r.load_elems(&below, &[range], at, Some(some));
            let at = n.with(r, "add", this, block);
            let with_mine = r.load_elems(&below, &[range], at, Some(there));
            let at = n.with(r, "add", lower, next);
            let without = r.load_elems(&below, &[range], at, Some(some));
            let mine = e.below(r, 0, element);
            let mine = r.reinterpret(&[mine], n.ty.clone());
            let to = r.binary("add", smaller, with_mine);
            let to = r.binary("sub", to, without);
            let to = r.binary("add", to, mine);
            r.store_elems(&place, &[range], to, row, Some(there));
            Ok(())
        });
    });
    result
}
