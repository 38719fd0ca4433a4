//! Numbers that each thread has of its own, and rows of four coordinates: what all kernels here are written with.

use super::super::host::Coord;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{CmpPred, RegTile, RoleBuilder, Scalar, TensorRef, TileRef};

/// Warps of a CTA.
pub(super) const WARPS: u32 = 4;
const THREADS: u32 = 32 * WARPS;

/// Batch, x, y, z of each element.
pub(super) type Four = [TileRef; 4];

/// The types of tiles that hold so many elements a thread.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    /// `[n, 4]`, a row in one thread: 16 bytes at once.
    wide: RegTile,
    /// `[n, 1]`: neighbouring threads hold neighbours.
    one: RegTile,
}

impl Lanes {
    /// Tiles of `each` elements a thread.
    pub fn new(each: u32) -> Result<Self, LayoutError> {
        let shape = [THREADS * each, 4];
        let wide = RegTile { dtype: DType::I32, shape, layout: blocked(THREADS, shape, 4)? };
        let layout = wide.layout.collapsed(tilewright_ir::layout::Dim::Col)?;
        Ok(Lanes { one: RegTile { dtype: DType::I32, shape: [shape[0], 1], layout }, wide })
    }

    /// Elements of a tile.
    pub fn count(&self) -> u32 {
        self.one.shape[0]
    }

    /// The type of a number an element.
    pub fn one(&self) -> RegTile {
        self.one.clone()
    }

    /// `first`, `first + 1`, ..
    pub fn numbers(&self, r: &mut RoleBuilder, first: Scalar) -> TileRef {
        let i = r.iota(0, self.one());
        self.with(r, "add", i, first)
    }

    /// The same number everywhere.
    pub fn all(&self, r: &mut RoleBuilder, v: Scalar) -> TileRef {
        r.splat(v, self.one())
    }

    /// A literal everywhere.
    pub fn lit(&self, r: &mut RoleBuilder, v: i64) -> TileRef {
        let v = r.int(v);
        self.all(r, v)
    }

    /// `f` of each element and a number.
    pub fn with(&self, r: &mut RoleBuilder, f: &str, a: TileRef, b: Scalar) -> TileRef {
        let b = self.all(r, b);
        r.binary(f, a, b)
    }

    /// `f` of each element and a literal.
    pub fn by(&self, r: &mut RoleBuilder, f: &str, a: TileRef, b: i64) -> TileRef {
        let b = self.lit(r, b);
        r.binary(f, a, b)
    }

    /// A comparison of each element with a number.
    pub fn than(&self, r: &mut RoleBuilder, pred: CmpPred, a: TileRef, b: Scalar) -> TileRef {
        let b = self.all(r, b);
        r.compare(pred, a, b)
    }

    /// A comparison of each element with a literal.
    pub fn is(&self, r: &mut RoleBuilder, pred: CmpPred, a: TileRef, b: i64) -> TileRef {
        let b = self.lit(r, b);
        r.compare(pred, a, b)
    }

    /// The number where the mask holds, else -1: no row.
    pub fn or_none(&self, r: &mut RoleBuilder, mask: TileRef, v: TileRef) -> TileRef {
        let none = self.lit(r, -1);
        r.choose(mask, v, none)
    }

    /// Rows of a tensor `[rows, 4]`; a negative number is zeros.
    pub fn load(&self, r: &mut RoleBuilder, from: &TensorRef, rows: TileRef) -> Four {
        let tile = r.load_rows(from, self.wide.clone(), rows, 0, 4);
        [0, 1, 2, 3].map(|col| r.part(tile, [0, col], self.one()))
    }

    /// The inverse of [`Self::load`]; negative rows are not stored.
    pub fn store(&self, r: &mut RoleBuilder, to: &TensorRef, rows: TileRef, c: Four) {
        let tile = r.reinterpret(&c, self.wide.clone());
        r.store_rows(to, tile, rows, 0, 4);
    }

    /// Where all four are equal.
    pub fn same(&self, r: &mut RoleBuilder, a: Four, b: Four) -> TileRef {
        let parts = [0, 1, 2, 3].map(|i| r.compare(CmpPred::Eq, a[i], b[i]));
        let [b, x, y, z] = parts;
        let (bx, yz) = (r.binary("and", b, x), r.binary("and", y, z));
        r.binary("and", bx, yz)
    }
}

/// Odd numbers at `2^32 / g^i`, g the root of `g^5 = g + 1`: steps along the axes whose small multiples keep apart (Roberts, "The
/// unreasonable effectiveness of quasirandom sequences"). In a box of 900 voxels along x, y and z no two have the same sum.
const STEPS: [u32; 4] = [0xdb4f_0b91, 0xbbe0_5633, 0xa0f2_ec77, 0x89e1_8285];
/// Shifts and factors of lowbias32, which spreads every bit over all (Wellons, "Prospecting for hash functions").
const MIX: [(u32, u32); 2] = [(16, 0x7feb_352d), (15, 0x846c_a68b)];
const LAST_SHIFT: u32 = 16;

/// The slot, of so many, where the search for a voxel begins.
pub fn first_slot(c: Coord, slots: u32) -> u32 {
    ((u64::from(hash(c)) * u64::from(slots)) >> 32) as u32
}

fn hash(c: Coord) -> u32 {
    let mut h = c.into_iter().zip(STEPS).fold(0u32, |h, (c, step)| h.wrapping_add((c as u32).wrapping_mul(step)));
    for (shift, factor) in MIX {
        h = (h ^ (h >> shift)).wrapping_mul(factor);
    }
    h ^ (h >> LAST_SHIFT)
}

impl Lanes {
    /// [`first_slot`] of each element.
    pub fn first_slot(&self, r: &mut RoleBuilder, c: Four, slots: Scalar) -> TileRef {
        let literal = |v: u32| i64::from(v as i32);
        let parts = [0, 1, 2, 3].map(|i| self.by(r, "mul", c[i], literal(STEPS[i])));
        let mut h = parts.into_iter().reduce(|a, b| r.binary("add", a, b)).expect("there are four");
        for (shift, factor) in MIX {
            let high = self.by(r, "ushr", h, shift.into());
            h = r.binary("xor", h, high);
            h = self.by(r, "mul", h, literal(factor));
        }
        let high = self.by(r, "ushr", h, LAST_SHIFT.into());
        h = r.binary("xor", h, high);
        self.with(r, "mulhi", h, slots)
    }
}

/// A divisor that all threads share, above 0.
pub(super) struct Divisor {
    by: Scalar,
    /// `floor((2^32 - 1) / by)`.
    factor: Scalar,
}

impl Divisor {
    /// Works out the factor.
    pub fn new(r: &mut RoleBuilder, by: Scalar) -> Self {
        let most = r.int(i32::MAX.into());
        let (half, rest) = (r.div(most, by), r.rem(most, by));
        let (half, rest) = (r.add(half, half), r.add(rest, rest));
        let rest = r.add(rest, 1);
        let more = r.div(rest, by);
        Divisor { by, factor: r.add(half, more) }
    }

    /// Quotient and remainder of numbers that are not negative. The product with the factor is below n / by by at most a half and what
    /// is cut off, so that its upper half is the quotient or one less.
    pub fn divide(&self, r: &mut RoleBuilder, l: &Lanes, n: TileRef) -> [TileRef; 2] {
        let q = l.with(r, "mulhi", n, self.factor);
        let whole = l.with(r, "mul", q, self.by);
        let rest = r.binary("sub", n, whole);
        let less = l.than(r, CmpPred::Ge, rest, self.by);
        let one = r.cast(less, DType::I32);
        let over = l.with(r, "sub", rest, self.by);
        [r.binary("add", q, one), r.choose(less, over, rest)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustc_hash::FxHashSet;

    /// Distinct values and their low bits of a block, a plane, a line, and the same far out and spread.
    #[test]
    fn hashes_of_neighbours_spread() {
        let grid = |n: [i32; 3], step: i32, at: i32| {
            let axis = move |n: i32| (0..n).map(move |i| at.wrapping_add(i * step));
            let all = axis(n[0]).flat_map(move |x| axis(n[1]).flat_map(move |y| axis(n[2]).map(move |z| [0, x, y, z])));
            all.collect::<Vec<Coord>>()
        };
        for points in [
            grid([40, 40, 40], 1, -20),
            grid([1, 256, 256], 1, i32::MAX - 100),
            grid([60_000, 1, 1], 1, -7),
            grid([40, 40, 40], 1024, 5),
            grid([256, 1, 256], 1 << 16, i32::MIN),
        ] {
            let n = points.len();
            let whole: FxHashSet<u32> = points.iter().map(|c| hash(*c)).collect();
            assert!(n - whole.len() < 16, "{} of {n} hashes are met twice", n - whole.len());
            // Slots met by balls thrown at random: slots * (1 - exp(-n / slots)).
            let slots = 4 * n as u32;
            let met: FxHashSet<u32> = points.iter().map(|c| first_slot(*c, slots)).collect();
            let random = f64::from(slots) * (1.0 - (-0.25f64).exp());
            assert!((met.len() as f64) > 0.98 * random, "{} slots of {n} points, random ones meet {random}", met.len());
        }
    }
}
