//! Which keys a query sees, and which blocks of keys a tile of queries visits.
//!
//! Query `i` of a sequence stands at position `p = i + sk - sq`: the last query on the last key. Causal masks, windows and
//! chunks let it see one interval of keys `lo(p)..=hi(p)`, and both ends grow with `p`. So a tile of queries visits one
//! range of key blocks, and the blocks inside every row's interval need no mask.

use tilewright_ir::DType;
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, Operand, ProbeAxis, RoleBuilder, Scalar, TensorRef, TileRef};

/// A window's side without a limit.
pub const UNLIMITED: i64 = 1 << 30;

/// The interval masks of a class. Parameters: `window_left`, `window_right` ([`UNLIMITED`] for none), `chunk`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visibility {
    /// Keys up to the query's own position.
    pub causal: bool,
    /// Keys from `window_left` before the position to `window_right` after it.
    pub window: bool,
    /// Keys of the position's chunk of `chunk` tokens.
    pub chunk: bool,
}

impl Visibility {
    /// Declares the parameters.
    pub fn declare(&self, k: &mut KernelBuilder) {
        if self.window {
            k.shape("window_left");
            k.shape("window_right");
        }
        if self.chunk {
            k.shape("chunk");
        }
    }

    /// First and last key that a query at position `p` of `sk` keys sees; the last is below the first where it sees none.
    pub fn interval(&self, r: &mut RoleBuilder, p: Scalar, sk: Scalar) -> [Scalar; 2] {
        let mut lo = r.int(0);
        let mut hi = r.sub(sk, 1);
        if self.causal {
            hi = r.min(hi, p);
        }
        if self.window {
            let (left, right) = (r.param("window_left"), r.param("window_right"));
            let (from, to) = (r.sub(p, left), r.add(p, right));
            lo = r.max(lo, from);
            hi = r.min(hi, to);
        }
        if self.chunk {
            let chunk = r.param("chunk");
            let inside = r.max(p, 0);
            let index = r.div(inside, chunk);
            // No key has a negative position, so before the first key there is nothing to see.
            let before = r.cmp(CmpPred::Lt, p, 0);
            let index = r.select(before, -1, index);
            let first = r.mul(index, chunk);
            let after = r.add(first, chunk);
            let last = r.sub(after, 1);
            lo = r.max(lo, first);
            hi = r.min(hi, last);
        }
        [lo, hi]
    }

    /// As [`Self::interval`] for a column of positions, I32 `[rows, 1]`.
    pub fn intervals(&self, r: &mut RoleBuilder, p: TileRef, sk: Scalar) -> [TileRef; 2] {
        let like = r.tile_type(p);
        let splat = |r: &mut RoleBuilder, s: Scalar| r.splat(s, like.clone());
        let zero = r.int(0);
        let last = r.sub(sk, 1);
        let (mut lo, mut hi) = (splat(r, zero), splat(r, last));
        if self.causal {
            hi = r.binary("min", hi, p);
        }
        if self.window {
            let (left, right) = (r.param("window_left"), r.param("window_right"));
            let (left, right) = (splat(r, left), splat(r, right));
            let (from, to) = (r.binary("sub", p, left), r.binary("add", p, right));
            lo = r.binary("max", lo, from);
            hi = r.binary("min", hi, to);
        }
        if self.chunk {
            let (chunk, none) = (r.param("chunk"), r.int(-1));
            let (chunk, none, zero) = (splat(r, chunk), splat(r, none), splat(r, zero));
            let inside = r.binary("max", p, zero);
            let index = r.binary("div", inside, chunk);
            let before = r.compare(CmpPred::Lt, p, zero);
            let index = r.choose(before, none, index);
            let first = r.binary("mul", index, chunk);
            let after = r.binary("add", first, chunk);
            let last = r.binary("add", after, none);
            lo = r.binary("max", lo, first);
            hi = r.binary("min", hi, last);
        }
        [lo, hi]
    }
}

/// The blocks a tile of queries visits, from the last to the first, in three runs: some that need a mask, some that every
/// row sees whole, and some that need a mask again. A branch around the mask would do with one loop, but ptxas then waits
/// for products in flight before the softmax instead of after it.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    /// How many there are.
    pub count: Scalar,
    /// Those before this number need a mask.
    pub masked: Scalar,
    /// Those from here on need one again; between the two none does.
    pub full: Scalar,
    at: At,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// Number 0 is the block before this one.
    Range(Scalar),
    /// Number 0 is the entry before this one.
    List(Scalar),
}

impl Blocks {
    /// The range of blocks of `bn` keys for queries at positions `first..=last` of a sequence with `sk` keys. `rows` is
    /// the part of them whose masks are asked about: a warpgroup has fewer rows than the tile.
    pub fn range(r: &mut RoleBuilder, v: &Visibility, tile: [Scalar; 2], rows: [Scalar; 2], sk: Scalar, bn: u32) -> Self {
        let bn = i64::from(bn);
        let block = |r: &mut RoleBuilder, key: Scalar, up: i64| {
            let key = r.add(key, up);
            let key = r.max(key, 0);
            r.div(key, bn)
        };
        let [first, _] = v.interval(r, tile[0], sk);
        let [_, last] = v.interval(r, tile[1], sk);
        let (from, end) = (block(r, first, 0), block(r, last, bn));
        let end = r.max(end, from);
        let [_, first_last] = v.interval(r, rows[0], sk);
        let [last_first, _] = v.interval(r, rows[1], sk);
        let (full_from, full_to) = (block(r, last_first, bn - 1), block(r, first_last, 1));
        Self::between(r, [from, end], [full_from, full_to])
    }

    /// The blocks of `bn` keys from `part[0]` up to `part[1]`, a part of a sequence's keys, that queries at positions
    /// `rows[0]..=rows[1]` visit; blocks are counted from `part[0]`. Used where splits share a long sequence.
    pub fn part(r: &mut RoleBuilder, v: &Visibility, rows: [Scalar; 2], sk: Scalar, part: [Scalar; 2], bn: u32) -> Self {
        let bn = i64::from(bn);
        let [first, first_last] = v.interval(r, rows[0], sk);
        let [last_first, last] = v.interval(r, rows[1], sk);
        let after = |r: &mut RoleBuilder, key: Scalar| {
            let end = r.add(key, 1);
            r.min(end, part[1])
        };
        // Blocks before a key of the part, rounded down or up.
        let blocks = |r: &mut RoleBuilder, key: Scalar, up: i64| {
            let inside = r.sub(key, part[0]);
            let inside = r.add(inside, up);
            let inside = r.max(inside, 0);
            r.div(inside, bn)
        };
        let (end_key, full_key) = (after(r, last), after(r, first_last));
        let (from, end) = (blocks(r, first, 0), blocks(r, end_key, bn - 1));
        let end = r.max(end, from);
        let (full_from, full_to) = (blocks(r, last_first, bn - 1), blocks(r, full_key, 0));
        Self::between(r, [from, end], [full_from, full_to])
    }

    /// `count` blocks of which each needs a mask.
    pub fn all_masked(count: Scalar) -> Self {
        Blocks { count, masked: count, full: count, at: At::Range(count) }
    }

    /// Blocks `span[0]..span[1]`, of which those in `full` need no mask.
    fn between(r: &mut RoleBuilder, [from, end]: [Scalar; 2], full: [Scalar; 2]) -> Self {
        let full_from = r.max(full[0], from);
        let full_from = r.min(full_from, end);
        let full_to = r.max(full[1], full_from);
        let full_to = r.min(full_to, end);
        Blocks { count: r.sub(end, from), masked: r.sub(end, full_to), full: r.sub(end, full_from), at: At::Range(end) }
    }

    /// The index of block number `t`, below the count: its keys are `index * bn` and on. `lists` is what
    /// [`BlockLists::row`] came from.
    pub fn index(&self, r: &mut RoleBuilder, lists: Option<&BlockLists>, t: impl Into<Operand>) -> Scalar {
        let t = t.into();
        match (self.at, lists) {
            (At::List(end), Some(lists)) => {
                let last = r.sub(end, 1);
                let at = r.sub(last, t);
                r.load_scalar(&lists.blocks, &[at])
            }
            (At::Range(end) | At::List(end), _) => {
                let last = r.sub(end, 1);
                r.sub(last, t)
            }
        }
    }
}

/// Lists made by the block-list kernel, one for each tile of queries of each head: `blocks` I32 `[rows, n_k_tiles]`, first the
/// blocks every row sees whole, then those that need a mask, each ascending; `block_count` I32 `[rows, 2]`, how many in all
/// and how many of them need a mask.
#[derive(Clone, Debug)]
pub struct BlockLists {
    blocks: TensorRef,
    counts: TensorRef,
    /// Keys of a block.
    bn: u32,
}

impl BlockLists {
    /// Declares the tensors for tiles of `bm` queries and `bn` keys.
    pub fn declare(k: &mut KernelBuilder, bm: u32, bn: u32) -> Self {
        let rows = Dim::param(&format!("batch*hq*ceil_div(sq,{bm})"));
        let entries = format!("batch*hq*ceil_div(sq,{bm})*ceil_div(sk,{bn})");
        let blocks = k.tensor("blocks", DType::I32, [Dim::param(&entries)]);
        let counts = k.tensor("block_count", DType::I32, [rows, Dim { param: None, factor: 2 }]);
        k.probe("block_count", 1, ProbeAxis::Trips);
        BlockLists { blocks, counts, bn }
    }

    /// The list of a row; `max_sk` is the longest sequence's number of keys, which sets the width.
    pub fn row(&self, r: &mut RoleBuilder, row: Scalar, max_sk: Scalar) -> Blocks {
        let width = r.ceil_div(max_sk, self.bn);
        let [zero, one] = [0, 1].map(|i| r.int(i));
        let (count, masked) = (r.load_scalar(&self.counts, &[row, zero]), r.load_scalar(&self.counts, &[row, one]));
        let start = r.mul(row, width);
        Blocks { count, masked, full: count, at: At::List(r.add(start, count)) }
    }
}
