//! The relation `fine = stride * coarse - padding + dilation * tap` on the device, exact for every 32-bit coordinate.
//!
//! Sums may need more than 32 bits. Both directions are written so that what could leave them is found by its sign: a coordinate
//! that leaves 32 bits is told as outside and never wraps around into another voxel.

use super::divisor::Divisor;
use super::lanes::{Four, Lanes};
use tilewright_ir::DType;
use tilewright_ir::tile::{CmpPred, KernelBuilder, RegTile, RoleBuilder, Scalar, TileRef};

/// Scalars of every kernel that knows a geometry, as `Geometry::scalars` names them.
const AXES: [&str; 3] = ["x", "y", "z"];
/// Taps are below this many: 7 along each axis.
pub(super) const MOST_TAPS: u32 = 343;
/// `i * ceil(2^16 / d) >> 16` is `i / d` as long as `i * d < 2^16`: taps of a kernel, and `d` at most 49 of them.
const TAP_SHIFT: u32 = 16;

/// Which side of the relation is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From a coarse voxel to the fine one of a tap.
    Fine,
    /// From a fine voxel to the coarse one of a tap, where there is one.
    Coarse,
}

impl Side {
    /// Its name in ids.
    pub fn name(self) -> &'static str {
        if self == Side::Fine { "fine" } else { "coarse" }
    }
}

/// Numbers of an axis that all threads share.
struct Axis {
    stride: Scalar,
    dilation: Scalar,
    padding: Scalar,
    /// From the first tap to the last.
    reach: Scalar,
    divisor: Divisor,
    /// Fine: voxels nearer to 0 than this lead to voxels of 32 bits by every tap.
    near: Scalar,
    /// Fine: the least and the largest voxel whose product with the stride has 32 bits.
    bounds: [Scalar; 2],
    /// Fine: how far voxels from 0 on, and those below 0, move towards 0 before they are multiplied, and what is added for it: the
    /// addend of the first is not negative for any tap, that of the second not positive.
    moves: [[Scalar; 2]; 2],
    /// Coarse: strides that are added to keep remainders from being negative, and how much that is with the padding.
    lift: [Scalar; 2],
}

/// The geometry of a launch.
pub(super) struct Relation {
    lanes: Lanes,
    side: Side,
    axes: Vec<Axis>,
    /// `ky * kz`, `kz`, and the factors that divide by them.
    planes: [[Scalar; 2]; 2],
    /// Fine: the least of what is near along each axis.
    near: Scalar,
    pub taps: Scalar,
}

/// What a relation leads to.
pub(super) struct Found {
    pub at: Four,
    /// There is such a voxel, of any size, of those that were asked for.
    pub exists: TileRef,
    /// It fits 32 bits; where it does not `at` means nothing.
    pub fits: TileRef,
}

/// Declares the geometry's scalars.
pub(super) fn declare(k: &mut KernelBuilder) {
    for name in ["k", "s", "d", "p"] {
        AXES.iter().for_each(|a| drop(k.shape(&format!("{name}{a}"))));
    }
    k.shape("taps");
}

impl Relation {
    /// Reads the geometry and works out what all elements share.
    pub fn new(r: &mut RoleBuilder, lanes: &Lanes, side: Side) -> Self {
        let axes: Vec<Axis> = AXES.iter().map(|a| Axis::new(r, a)).collect();
        let near = axes.iter().map(|a| a.near).reduce(|a, b| r.min(a, b)).expect("there are three axes");
        let [ky, kz] = ["ky", "kz"].map(|n| r.param(n));
        let plane = r.mul(ky, kz);
        let planes = [plane, kz].map(|d| [d, reciprocal(r, d, TAP_SHIFT)]);
        let taps = r.param("taps");
        Relation { lanes: lanes.clone(), side, axes, planes, near, taps }
    }

    /// Tap `k` along each axis.
    fn offset(&self, r: &mut RoleBuilder, k: TileRef) -> [TileRef; 3] {
        let l = &self.lanes;
        let mut rest = k;
        let mut parts = Vec::with_capacity(3);
        for [d, factor] in self.planes {
            let q = l.with(r, "mul", rest, factor);
            let q = l.by(r, "ushr", q, TAP_SHIFT.into());
            let whole = l.with(r, "mul", q, d);
            rest = r.binary("sub", rest, whole);
            parts.push(q);
        }
        [parts[0], parts[1], rest]
    }

    /// 1 where every tap has a mirror image: from a voxel to another leads tap `k` if and only if back leads tap `taps - 1 - k`.
    pub fn is_symmetric(&self, r: &mut RoleBuilder) -> Scalar {
        let mut all = r.int(1);
        for axis in &self.axes {
            let twice = r.add(axis.padding, axis.padding);
            let middle = r.cmp(CmpPred::Eq, twice, axis.reach);
            let unmoved = r.cmp(CmpPred::Eq, axis.stride, 1);
            all = r.select(middle, all, 0);
            all = r.select(unmoved, all, 0);
        }
        all
    }

    /// The voxel on the other side of tap `k`, where the mask holds.
    pub fn find(&self, r: &mut RoleBuilder, from: Four, k: TileRef, mask: TileRef) -> Found {
        let offset = self.offset(r, k);
        match self.side {
            Side::Fine => self.fine(r, from, offset, mask),
            Side::Coarse => self.coarse(r, from, offset, mask),
        }
    }

    /// Sums of 32 bits are the voxels where these fit; whether they do is looked into by warps that have a voxel far out.
    fn fine(&self, r: &mut RoleBuilder, from: Four, offset: [TileRef; 3], mask: TileRef) -> Found {
        let l = &self.lanes;
        let mut at = from;
        let mut sizes = Vec::with_capacity(3);
        for (i, axis) in self.axes.iter().enumerate() {
            at[i + 1] = axis.wrapped(r, l, from[i + 1], offset[i]);
            let sign = l.by(r, "shr", from[i + 1], 31);
            sizes.push(r.binary("xor", from[i + 1], sign));
        }
        let size = sizes.into_iter().reduce(|a, b| r.binary("or", a, b)).expect("there are three axes");
        let near = l.than(r, CmpPred::Lt, size, self.near);
        let far = r.unary("not", near);
        let far = r.binary("and", far, mask);
        let (fits, unknown) = (r.tile_cell(near), r.tile_cell(far));
        r.while_any(unknown, |r| {
            // What follows from a number of the loop stays in it: LLVM would work all of this out before. Voxel 0 leads nowhere far.
            let (zero, far) = (l.lit(r, 0), r.get_tile(unknown));
            let from = from.map(|c| r.choose(far, c, zero));
            let parts: Vec<TileRef> =
                self.axes.iter().enumerate().map(|(i, axis)| axis.fits(r, l, from[i + 1], offset[i])).collect();
            let all = parts.into_iter().reduce(|a, b| r.binary("and", a, b)).expect("there are three axes");
            r.set_tile(fits, all);
            let known = r.bool(false);
            let known = r.splat(known, RegTile { dtype: DType::I1, ..l.one() });
            r.set_tile(unknown, known);
        });
        Found { at, exists: mask, fits: r.get_tile(fits) }
    }

    fn coarse(&self, r: &mut RoleBuilder, from: Four, offset: [TileRef; 3], mask: TileRef) -> Found {
        let mut found = Found { at: from, exists: mask, fits: mask };
        for (i, axis) in self.axes.iter().enumerate() {
            let (at, exists, fits) = axis.coarse(r, &self.lanes, from[i + 1], offset[i]);
            found.at[i + 1] = at;
            found.exists = r.binary("and", found.exists, exists);
            found.fits = r.binary("and", found.fits, fits);
        }
        found
    }

    /// Whether tap `k` leads from `from` to `to`, of which it is known that `from` leads by this tap to some voxel that fits, and
    /// some other voxel by some tap to `to`. That takes no division and no search for overflows.
    pub fn leads(&self, r: &mut RoleBuilder, from: Four, k: TileRef, to: Four) -> TileRef {
        let offset = self.offset(r, k);
        let mut all = r.compare(CmpPred::Eq, from[0], to[0]);
        let mut far = Vec::with_capacity(3);
        for (i, axis) in self.axes.iter().enumerate() {
            let l = &self.lanes;
            let (coarse, fine) = if self.side == Side::Fine { (from[i + 1], to[i + 1]) } else { (to[i + 1], from[i + 1]) };
            let there = axis.wrapped(r, l, coarse, offset[i]);
            let same = r.compare(CmpPred::Eq, there, fine);
            all = r.binary("and", all, same);
            let differs = r.binary("xor", coarse, fine);
            let twice = l.by(r, "shl", fine, 1);
            let large = r.binary("xor", fine, twice);
            far.push(r.binary("and", differs, large));
        }
        if self.side == Side::Coarse {
            // Both coarse voxels times the stride are within 2^21 of 32 bits, so that products that are equal in their lower 32 bits are
            // equal, or 2^32 apart. Then they have different signs, and the fine voxel is large and has the sign of its own.
            let far = far.into_iter().reduce(|a, b| r.binary("or", a, b)).expect("there are three axes");
            let near = self.lanes.is(r, CmpPred::Ge, far, 0);
            all = r.binary("and", all, near);
        }
        all
    }
}

impl Axis {
    fn new(r: &mut RoleBuilder, name: &str) -> Self {
        let [kernel, stride, dilation, padding] = ["k", "s", "d", "p"].map(|n| r.param(&format!("{n}{name}")));
        let most = r.int(i32::MAX.into());
        let upper = r.div(most, stride);
        // -2^31 is a multiple of the stride where 2^31 - 1 leaves the largest remainder.
        let rest = r.rem(most, stride);
        let next = r.add(rest, 1);
        let multiple = r.cmp(CmpPred::Eq, next, stride);
        let more = r.select(multiple, -1, 0);
        let lower = r.sub(more, upper);
        let last = r.sub(kernel, 1);
        let reach = r.mul(dilation, last);
        let beyond = r.sub(reach, padding);
        let beyond = r.max(beyond, 0);
        let strides = |r: &mut RoleBuilder, v: Scalar| {
            let up = r.add(v, stride);
            let up = r.sub(up, 1);
            r.div(up, stride)
        };
        let (down, up) = (strides(r, padding), strides(r, beyond));
        let up = r.sub(0, up);
        let moves = [down, up].map(|steps| {
            let far = r.mul(steps, stride);
            [steps, r.sub(far, padding)]
        });
        let lift = strides(r, reach);
        let far = r.mul(lift, stride);
        let far = r.add(far, padding);
        let near = r.sub(most, reach);
        let near = r.sub(near, padding);
        let near = r.div(near, stride);
        let divisor = Divisor::new(r, stride);
        Axis { stride, dilation, padding, reach, divisor, near, bounds: [lower, upper], moves, lift: [lift, far] }
    }

    /// `stride * q - padding + dilation * o` in 32 bits, whatever it would be in more.
    fn wrapped(&self, r: &mut RoleBuilder, l: &Lanes, q: TileRef, o: TileRef) -> TileRef {
        let far = l.with(r, "mul", q, self.stride);
        let far = l.with(r, "sub", far, self.padding);
        let along = l.with(r, "mul", o, self.dilation);
        r.binary("add", far, along)
    }

    /// Whether the fine voxel has 32 bits.
    ///
    /// A voxel from 0 on moves down by `g = ceil(padding / stride)` first: `s*q + t = s*(q - g) + (t + s*g)`, where the addend is
    /// not negative. So a product that does not fit means a sum that does not fit, and a product that does leaves one overflow, which
    /// signs show. Voxels below 0 are their mirror image.
    fn fits(&self, r: &mut RoleBuilder, l: &Lanes, q: TileRef, o: TileRef) -> TileRef {
        let below = l.is(r, CmpPred::Lt, q, 0);
        let choice = |r: &mut RoleBuilder, i: usize| {
            let [from_zero, below_zero] = [0, 1].map(|side| l.all(r, self.moves[side][i]));
            r.choose(below, below_zero, from_zero)
        };
        let (steps, addend) = (choice(r, 0), choice(r, 1));
        let base = r.binary("sub", q, steps);
        let (low, high) = (l.than(r, CmpPred::Ge, base, self.bounds[0]), l.than(r, CmpPred::Le, base, self.bounds[1]));
        let inside = r.binary("and", low, high);
        let product = l.with(r, "mul", base, self.stride);
        let along = l.with(r, "mul", o, self.dilation);
        let addend = r.binary("add", along, addend);
        let (_, fits) = sum(r, l, product, addend);
        r.binary("and", inside, fits)
    }

    /// The coarse voxel, whether it exists, and whether it fits.
    ///
    /// `(f + padding - dilation*o) / stride`, with the quotient of f, rounded down, apart from its remainder, which takes the small
    /// numbers.
    fn coarse(&self, r: &mut RoleBuilder, l: &Lanes, f: TileRef, o: TileRef) -> (TileRef, TileRef, TileRef) {
        let sign = l.by(r, "shr", f, 31);
        let size = r.binary("xor", f, sign);
        let [quotient, _] = self.divisor.divide(r, l, size);
        let quotient = r.binary("xor", quotient, sign);
        let whole = l.with(r, "mul", quotient, self.stride);
        let rest = r.binary("sub", f, whole);
        let rest = l.with(r, "add", rest, self.lift[1]);
        let along = l.with(r, "mul", o, self.dilation);
        let rest = r.binary("sub", rest, along);
        let [steps, rest] = self.divisor.divide(r, l, rest);
        let exists = l.is(r, CmpPred::Eq, rest, 0);
        let steps = l.with(r, "sub", steps, self.lift[0]);
        let (sum, fits) = sum(r, l, quotient, steps);
        (sum, exists, fits)
    }
}

/// `a + b`, and whether it fits: it does not where it has the other sign than both.
fn sum(r: &mut RoleBuilder, l: &Lanes, a: TileRef, b: TileRef) -> (TileRef, TileRef) {
    /// `(a ^ c) & (b ^ c)` of a, b and c.
    const OTHER_SIGN: u8 = (0xF0 ^ 0xAA) & (0xCC ^ 0xAA);
    let sum = r.binary("add", a, b);
    let other = r.bitwise(a, b, sum, OTHER_SIGN);
    (sum, l.is(r, CmpPred::Ge, other, 0))
}

/// `ceil(2^shift / d)`.
pub(super) fn reciprocal(r: &mut RoleBuilder, d: Scalar, shift: u32) -> Scalar {
    let up = r.add(d, (1i64 << shift) - 1);
    r.div(up, d)
}
