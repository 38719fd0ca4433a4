//! The voxels that strided and generative layers make: every distinct one, in the order in which inputs, and taps of an input, first
//! lead to it.
//!
//! Candidate `row * taps + tap` stands for the voxel that an input row reaches by a tap; nothing of candidates is stored but their
//! numbers in slots of the hash table, of equal voxels the least. What is left in the slots are the outputs; a bit for each candidate
//! and sums of their counts tell how many come before each. Then slots take the numbers of output rows, which makes the table that of
//! the outputs.

use super::divisor::Divisor;
use super::insert::{STATUS, TOO_MANY, literal, rows_of_cta, tell, tell_lost};
use super::lanes::{Four, Lanes, WARPS};
use super::relation::{self, MOST_TAPS, Relation, Side, reciprocal};
use super::table::Table;
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, RoleBuilder, Scalar, TensorRef, TileRef, Unit};

/// Rows of a CTA, all taps of each.
pub(super) const ROWS: u32 = 64;
/// Pairs of row and tap a thread works on at once.
const EACH: u32 = 2;
/// Slots or words a thread looks at.
const SLOTS: u32 = 4;
/// Candidates of a word of bits.
pub(super) const WORD: u32 = 32;
/// `i * ceil(2^24 / taps) >> 24` is `i / taps` for the pairs of a CTA, which are at most 64 * 343.
const PAIR_SHIFT: u32 = 24;
/// The element of the status that tells of voxels outside 32 bits.
pub(super) const OUTSIDE: i64 = 2;

const _: () = assert!((ROWS * MOST_TAPS) as u64 * (MOST_TAPS as u64) < 1 << PAIR_SHIFT && ROWS << PAIR_SHIFT <= 1 << 30);

/// Runs `body` for each pair of a row of the CTA and a tap, so many pairs a thread at once: number of the pair in the CTA, row in the
/// CTA, tap, and which pairs there are. Neighbouring threads have neighbouring taps.
pub(super) fn each_pair(
    r: &mut RoleBuilder,
    l: &Lanes,
    taps: Scalar,
    body: impl FnOnce(&mut RoleBuilder, TileRef, TileRef, TileRef, TileRef),
) {
    let pairs = r.mul(taps, ROWS);
    let some = r.max(taps, 1);
    let factor = reciprocal(r, some, PAIR_SHIFT);
    r.for_range(0, pairs, l.count(), |r, first| {
        let pair = l.numbers(r, first);
        let there = l.than(r, CmpPred::Lt, pair, pairs);
        let row = l.with(r, "mul", pair, factor);
        let row = l.by(r, "ushr", row, PAIR_SHIFT.into());
        let before = l.with(r, "mul", row, taps);
        let tap = r.binary("sub", pair, before);
        body(r, pair, row, tap, there);
    });
}

/// Records the kernel that finds candidates: of the rows of `coords` I32 `[rows, 4]` below `count` I32 `[1]`, by every tap, into
/// `table` I32 `[slots]`, -1 everywhere before. Rows of a negative batch are no voxels. `status` I32 `[4]`: element 2 falls to the
/// least row that leads to a voxel outside 32 bits, element 3 to `-i32::MAX` where a candidate finds no slot.
///
/// Scalars: `rows`, `slots` and the geometry's; `rows * taps` is below 2^31.
///
/// # Errors
/// A tile without a layout: a mistake in the template.
pub fn candidates(k: &mut KernelBuilder, side: Side) -> Result<(), LayoutError> {
    for name in ["rows", "slots"] {
        k.shape(name);
    }
    relation::declare(k);
    let coords = k.tensor("coords", DType::I32, [Dim::param("rows"), literal(4)]);
    let count = k.tensor("count", DType::I32, [literal(1)]);
    let table = k.tensor("table", DType::I32, [Dim::param("slots")]);
    let status = k.tensor("status", DType::I32, [literal(STATUS)]);
    k.require("rows*taps < 2147483648");
    k.grid([format!("ceil_div(rows,{ROWS})"), "1".into(), "1".into()]);
    let lanes = Lanes::new(EACH)?;
    k.role("main", WARPS, None, Unit::Role, |r| {
        let l = &lanes;
        let (first, count) = rows_of_cta(r, &count, "rows", ROWS);
        let some = r.cmp(CmpPred::Lt, first, count);
        r.if_then(some, |r| {
            let relation = Relation::new(r, l, side);
            let taps = relation.taps;
            let candidate = r.mul(first, taps);
            let by_taps = Divisor::new(r, taps);
            let table = Table { tensor: table.clone(), slots: r.param("slots") };
            let outside = r.int(OUTSIDE);
            each_pair(r, l, taps, |r, pair, row, tap, there| {
                let row = l.with(r, "add", row, first);
                let exists = l.than(r, CmpPred::Lt, row, count);
                let there = r.binary("and", there, exists);
                let from = l.or_none(r, there, row);
                let from = l.load(r, &coords, from);
                let voxel = l.is(r, CmpPred::Ge, from[0], 0);
                let there = r.binary("and", there, voxel);
                let to = relation.find(r, from, tap, there);
                let misfit = r.unary("not", to.fits);
                let misfit = r.binary("and", to.exists, misfit);
                tell(r, l, &status, outside, row, misfit);
                let there = r.binary("and", to.exists, to.fits);
                let number = l.with(r, "add", pair, candidate);
                let lost = table.insert(
                    r,
                    l,
                    to.at,
                    number,
                    there,
                    |r, other| {
                        let (row, tap) = row_and_tap(r, l, other, &by_taps);
                        let from = l.load(r, &coords, row);
                        relation.leads(r, from, tap, to.at)
                    },
                    |_, _, _| (),
                );
                tell_lost(r, l, &status, lost);
            });
        });
    });
    Ok(())
}

/// Input row and tap of a candidate; of -1 row -1.
fn row_and_tap(r: &mut RoleBuilder, l: &Lanes, candidate: TileRef, taps: &Divisor) -> (TileRef, TileRef) {
    let [row, tap] = taps.divide(r, l, candidate);
    let some = l.is(r, CmpPred::Ge, candidate, 0);
    (l.or_none(r, some, row), tap)
}

/// Records the kernel that marks what slots hold: the bit of each number in `table` I32 `[slots]` is set in `bits` I32 `[words]`, 0
/// everywhere before.
///
/// Scalars: `slots`, `words`.
///
/// # Errors
/// A tile without a layout: a mistake in the template.
pub fn mark(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    for name in ["slots", "words"] {
        k.shape(name);
    }
    let table = k.tensor("table", DType::I32, [Dim::param("slots")]);
    let bits = k.tensor("bits", DType::I32, [Dim::param("words")]);
    let lanes = Lanes::new(SLOTS)?;
    k.grid([format!("ceil_div(slots,{})", lanes.count()), "1".into(), "1".into()]);
    k.role("main", WARPS, None, Unit::Role, |r| {
        let l = &lanes;
        let (_, number) = slot_of_cta(r, l, &table);
        let taken = l.is(r, CmpPred::Ge, number, 0);
        let (word, bit) = word_and_bit(r, l, number);
        r.atomic("or", &bits, &[], word, bit, Some(taken));
    });
    Ok(())
}

/// Each thread's slots and what they hold, -1 past the last.
fn slot_of_cta(r: &mut RoleBuilder, l: &Lanes, table: &TensorRef) -> (TileRef, TileRef) {
    let cta = r.cta_id(0);
    let first = r.mul(cta, l.count());
    let slot = l.numbers(r, first);
    let slots = r.param("slots");
    let there = l.than(r, CmpPred::Lt, slot, slots);
    let number = r.load_elems(table, &[], slot, Some(there));
    (slot, l.or_none(r, there, number))
}

/// The word of a candidate's bit, and the bit in it.
fn word_and_bit(r: &mut RoleBuilder, l: &Lanes, number: TileRef) -> (TileRef, TileRef) {
    let word = l.by(r, "ushr", number, WORD.trailing_zeros().into());
    let at = l.by(r, "and", number, i64::from(WORD - 1));
    let one = l.lit(r, 1);
    (word, r.binary("shl", one, at))
}

/// Records the kernel that counts bits: `counts` I32 `[words]` of `bits` I32 `[words]`.
///
/// Scalars: `words`.
///
/// # Errors
/// A tile without a layout: a mistake in the template.
pub fn count_bits(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    k.shape("words");
    let bits = k.tensor("bits", DType::I32, [Dim::param("words")]);
    let counts = k.tensor("counts", DType::I32, [Dim::param("words")]);
    let lanes = Lanes::new(SLOTS)?;
    k.grid([format!("ceil_div(words,{})", lanes.count()), "1".into(), "1".into()]);
    k.role("main", WARPS, None, Unit::Role, |r| {
        let l = &lanes;
        let cta = r.cta_id(0);
        let first = r.mul(cta, l.count());
        let word = l.numbers(r, first);
        let words = r.param("words");
        let there = l.than(r, CmpPred::Lt, word, words);
        let v = r.load_elems(&bits, &[], word, Some(there));
        let v = ones(r, l, v);
        r.store_elems(&counts, &[], word, v, Some(there));
    });
    Ok(())
}

/// How many bits are set: of pairs, of fours, of bytes, and the bytes added up by a product (Warren, "Hacker's delight", 5-1).
fn ones(r: &mut RoleBuilder, l: &Lanes, v: TileRef) -> TileRef {
    let half = l.by(r, "ushr", v, 1);
    let half = l.by(r, "and", half, 0x5555_5555);
    let pairs = r.binary("sub", v, half);
    let high = l.by(r, "ushr", pairs, 2);
    let (low, high) = (l.by(r, "and", pairs, 0x3333_3333), l.by(r, "and", high, 0x3333_3333));
    let fours = r.binary("add", low, high);
    let high = l.by(r, "ushr", fours, 4);
    let bytes = r.binary("add", fours, high);
    let bytes = l.by(r, "and", bytes, 0x0f0f_0f0f);
    let sum = l.by(r, "mul", bytes, 0x0101_0101);
    l.by(r, "ushr", sum, 24)
}

/// Records the kernel that numbers outputs: candidates in `table` I32 `[slots]` become rows, in the order of candidates, with `bits` I32
/// `[words]` and `pos` I32 `[words]`, how many bits come before each word; `origin` I32 `[rows_out]` is the candidate of each row.
/// `count_out` I32 `[1]` is `total` I32 `[1]`, or `rows_out` where that is less; then element 3 of `status` I32 `[4]` falls to
/// `-total`, and outputs past the room leave the table.
///
/// Scalars: `rows_out`, `slots`, `words`.
///
/// # Errors
/// A tile without a layout: a mistake in the template.
pub fn number(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    for name in ["rows_out", "slots", "words"] {
        k.shape(name);
    }
    let x = Number {
        table: ints(k, "table", &[Dim::param("slots")]),
        bits: ints(k, "bits", &[Dim::param("words")]),
        pos: ints(k, "pos", &[Dim::param("words")]),
        total: ints(k, "total", &[literal(1)]),
        origin: ints(k, "origin", &[Dim::param("rows_out")]),
        count_out: ints(k, "count_out", &[literal(1)]),
        status: ints(k, "status", &[literal(STATUS)]),
    };
    let lanes = Lanes::new(SLOTS)?;
    k.grid([format!("max(1,ceil_div(slots,{}))", lanes.count()), "1".into(), "1".into()]);
    k.role("main", WARPS, None, Unit::Role, |r| {
        x.count(r, &lanes);
        x.rows(r, &lanes);
    });
    Ok(())
}

fn ints(k: &mut KernelBuilder, name: &str, dims: &[Dim]) -> TensorRef {
    k.tensor(name, DType::I32, dims.iter().cloned())
}

struct Number {
    table: TensorRef,
    bits: TensorRef,
    pos: TensorRef,
    total: TensorRef,
    origin: TensorRef,
    count_out: TensorRef,
    status: TensorRef,
}

impl Number {
    /// The first CTA says how many there are.
    fn count(&self, r: &mut RoleBuilder, l: &Lanes) {
        let cta = r.cta_id(0);
        let first = r.cmp(CmpPred::Eq, cta, 0);
        r.if_then(first, |r| {
            let zero = r.int(0);
            let total = r.load_scalar(&self.total, &[zero]);
            let room = r.param("rows_out");
            let thread = l.numbers(r, zero);
            let one = l.is(r, CmpPred::Eq, thread, 0);
            let count = r.min(total, room);
            let count = l.all(r, count);
            let at = l.lit(r, 0);
            r.store_elems(&self.count_out, &[], at, count, Some(one));
            let total = l.all(r, total);
            let more = l.than(r, CmpPred::Gt, total, room);
            let more = r.binary("and", more, one);
            let minus = r.binary("sub", at, total);
            let too_many = r.int(TOO_MANY);
            tell(r, l, &self.status, too_many, minus, more);
        });
    }

    fn rows(&self, r: &mut RoleBuilder, l: &Lanes) {
        let (slot, candidate) = slot_of_cta(r, l, &self.table);
        let taken = l.is(r, CmpPred::Ge, candidate, 0);
        let (word, bit) = word_and_bit(r, l, candidate);
        let bits = r.load_elems(&self.bits, &[], word, Some(taken));
        let before = r.load_elems(&self.pos, &[], word, Some(taken));
        let below = l.by(r, "sub", bit, 1);
        let below = r.binary("and", bits, below);
        let in_word = ones(r, l, below);
        let row = r.binary("add", before, in_word);
        let room = r.param("rows_out");
        let fits = l.than(r, CmpPred::Lt, row, room);
        let fits = r.binary("and", fits, taken);
        r.store_elems(&self.origin, &[], row, candidate, Some(fits));
        let row = l.or_none(r, fits, row);
        r.store_elems(&self.table, &[], slot, row, Some(taken));
    }
}

/// Records the kernel that works out outputs: `coords_out` I32 `[rows_out, 4]` of the candidates `origin` I32 `[rows_out]`, which are of
/// the rows of `coords` I32 `[rows, 4]`. `count_out` I32 `[1]` of them exist.
///
/// Scalars: `rows`, `rows_out` and the geometry's.
///
/// # Errors
/// A tile without a layout: a mistake in the template.
pub fn outputs(k: &mut KernelBuilder, side: Side) -> Result<(), LayoutError> {
    for name in ["rows", "rows_out"] {
        k.shape(name);
    }
    relation::declare(k);
    let coords = ints(k, "coords", &[Dim::param("rows"), literal(4)]);
    let origin = ints(k, "origin", &[Dim::param("rows_out")]);
    let coords_out = ints(k, "coords_out", &[Dim::param("rows_out"), literal(4)]);
    let count_out = ints(k, "count_out", &[literal(1)]);
    let lanes = Lanes::new(EACH)?;
    k.grid([format!("ceil_div(rows_out,{})", lanes.count()), "1".into(), "1".into()]);
    k.role("main", WARPS, None, Unit::Role, |r| {
        let l = &lanes;
        let (first, count) = rows_of_cta(r, &count_out, "rows_out", l.count());
        let some = r.cmp(CmpPred::Lt, first, count);
        r.if_then(some, |r| {
            let relation = Relation::new(r, l, side);
            let by_taps = Divisor::new(r, relation.taps);
            let row = l.numbers(r, first);
            let there = l.than(r, CmpPred::Lt, row, count);
            let candidate = r.load_elems(&origin, &[], row, Some(there));
            let (input, tap) = row_and_tap(r, l, candidate, &by_taps);
            let input = l.or_none(r, there, input);
            let from: Four = l.load(r, &coords, input);
            let to = relation.find(r, from, tap, there);
            let row = l.or_none(r, there, row);
            l.store(r, &coords_out, row, to.at);
        });
    });
    Ok(())
}
