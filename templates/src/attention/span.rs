//! Which keys a query sees, and which blocks of keys a tile of queries visits.
//!
//! Query `i` of a sequence stands at position `p = i + sk - sq`: the last query on the last key. Causal masks, windows and
//! chunks let it see one interval of keys `lo(p)..=hi(p)`, and both ends grow with `p`. So a tile of queries visits one
//! range of key blocks, and the blocks inside every row's interval need no mask.

use tilewright_ir::DType;
use tilewright_ir::tile::{CmpPred, KernelBuilder, RoleBuilder, Scalar, TensorRef, TileRef};

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

/// A block of keys to visit.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Its index: keys `index * bn` and on.
    pub index: Scalar,
    /// True if some row does not see all of it.
    pub partial: Scalar,
}

/// The blocks a tile of queries visits, last first: masks cluster at the end, and what follows needs none.
#[derive(Clone, Copy, Debug)]
pub enum Blocks {
    /// All blocks of a range; those in `full` need no mask.
    Range {
        /// Number of blocks.
        count: Scalar,
        /// One past the last block.
        end: Scalar,
        /// First block without a mask, one past the last.
        full: [Scalar; 2],
    },
    /// A list made by the block-list kernel: entries `2 * index + partial`, ascending.
    List {
        /// Number of blocks.
        count: Scalar,
        /// Where the list starts in `blocks`.
        row: Scalar,
    },
}

impl Blocks {
    /// The range of blocks of `bn` keys for queries at positions `first..=last` of a sequence with `sk` keys. `rows` is
    /// the part of them whose masks are asked about: a warpgroup has fewer rows than the tile.
    pub fn range(r: &mut RoleBuilder, v: &Visibility, tile: [Scalar; 2], rows: [Scalar; 2], sk: Scalar, bn: u32) -> Self {
        let [lo, _] = v.interval(r, tile[0], sk);
        let [_, hi] = v.interval(r, tile[1], sk);
        let bn = i64::from(bn);
        let lo = r.max(lo, 0);
        let from = r.div(lo, bn);
        let end = r.add(hi, bn);
        let end = r.max(end, 0);
        let end = r.div(end, bn);
        let count = r.sub(end, from);
        let count = r.max(count, 0);
        let [_, first_hi] = v.interval(r, rows[0], sk);
        let [last_lo, _] = v.interval(r, rows[1], sk);
        let full_from = r.max(last_lo, 0);
        let full_from = r.add(full_from, bn - 1);
        let full_from = r.div(full_from, bn);
        let full_to = r.add(first_hi, 1);
        let full_to = r.max(full_to, 0);
        let full_to = r.div(full_to, bn);
        Blocks::Range { count, end, full: [full_from, full_to] }
    }

    /// How many there are.
    pub fn count(&self) -> Scalar {
        match self {
            Blocks::Range { count, .. } | Blocks::List { count, .. } => *count,
        }
    }

    /// The one visited as number `t`, below the count. `lists` is the tensor of [`Blocks::List`].
    pub fn at(&self, r: &mut RoleBuilder, lists: Option<&TensorRef>, t: impl Into<tilewright_ir::tile::Operand>) -> Block {
        let t = t.into();
        match (self, lists) {
            (Blocks::List { count, row }, Some(lists)) => {
                let last = r.add(*row, *count);
                let last = r.sub(last, 1);
                let at = r.sub(last, t);
                let entry = r.load_scalar(lists, &[at]);
                let (index, bit) = (r.div(entry, 2), r.rem(entry, 2));
                Block { index, partial: r.cmp(CmpPred::Ne, bit, 0) }
            }
            (Blocks::Range { end, full, .. }, _) => {
                let last = r.sub(*end, 1);
                let index = r.sub(last, t);
                let (before, after) = (r.cmp(CmpPred::Lt, index, full[0]), r.cmp(CmpPred::Ge, index, full[1]));
                let outside = r.select(after, 1, 0);
                let outside = r.select(before, 1, outside);
                Block { index, partial: r.cmp(CmpPred::Ne, outside, 0) }
            }
            (Blocks::List { .. }, None) => unreachable!("a kernel that walks lists declares them"),
        }
    }
}

/// The lists of the block-list kernel as a kernel reads them: `blocks` I32 `[rows, n_k_tiles]`, `block_count` I32 `[rows]`.
#[derive(Clone, Debug)]
pub struct BlockLists {
    /// Entries.
    pub blocks: TensorRef,
    /// Length of each list.
    pub counts: TensorRef,
    /// Keys of a block.
    bn: u32,
}

impl BlockLists {
    /// Declares the tensors for tiles of `bm` queries and `bn` keys.
    pub fn declare(k: &mut KernelBuilder, bm: u32, bn: u32) -> Self {
        use tilewright_ir::tile::Dim;
        let rows = Dim::param(&format!("batch*hq*ceil_div(sq,{bm})"));
        let blocks = k.tensor("blocks", DType::I32, [rows.clone(), Dim::param(&format!("ceil_div(sk,{bn})"))]);
        let counts = k.tensor("block_count", DType::I32, [rows]);
        BlockLists { blocks, counts, bn }
    }

    /// The list of a row; `max_sk` is the longest sequence's number of keys, which sets the width.
    pub fn row(&self, r: &mut RoleBuilder, row: Scalar, max_sk: Scalar) -> Blocks {
        let width = r.ceil_div(max_sk, self.bn);
        let count = r.load_scalar(&self.counts, &[row]);
        let row = r.mul(row, width);
        Blocks::List { count, row }
    }
}
