//! Voxels of points: the voxel of each point, and what the first point of each voxel carries.

use super::insert::{STATUS, literal, rows_of_cta, tell};
use super::lanes::{Four, Lanes, WARPS};
use super::unique::OUTSIDE;
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, RegTile, RoleBuilder, Scalar, TileRef, Unit};

/// Points, or features, a thread takes at once.
const EACH: u32 = 2;
/// Of a sum with it, a number below 2^22 leaves the nearest integer in the low bits: 1.5 * 2^23.
const ROUNDER: f32 = 12_582_912.0;
/// What the sum's bits are without the integer.
const ROUNDER_BITS: i64 = 0x4b40_0000;

/// Records the kernel: `voxels` I32 `[rows, 4]` of the first `count` I32 `[1]` rows of `points` F32 `[rows, width]`, which begin with
/// x, y, z: the batch (`batch` I32 `[rows]` where `batched`, else 0), then `floor(x / voxel_x)` with the quotient rounded to f32, and so
/// for y and z. Where one is no number or does not fit 32 bits, the batch is -1, and element 2 of `status` I32 `[4]` falls to the row.
///
/// Scalars: `rows`, `width`; F32 `voxel_x`, `voxel_y`, `voxel_z`, above 0.
///
/// # Errors
/// A tile without a layout: a mistake in the template.
pub fn quantise(k: &mut KernelBuilder, batched: bool) -> Result<(), LayoutError> {
    for name in ["rows", "width"] {
        k.shape(name);
    }
    let sizes = ["voxel_x", "voxel_y", "voxel_z"].map(|n| k.scalar(n, DType::F32));
    let points = k.tensor("points", DType::F32, [Dim::param("rows"), Dim::param("width")]);
    let batch = batched.then(|| k.tensor("batch", DType::I32, [Dim::param("rows")]));
    let count = k.tensor("count", DType::I32, [literal(1)]);
    let voxels = k.tensor("voxels", DType::I32, [Dim::param("rows"), literal(4)]);
    let status = k.tensor("status", DType::I32, [literal(STATUS)]);
    k.require("width >= 3");
    let lanes = Lanes::new(EACH)?;
    k.grid([format!("ceil_div(rows,{})", lanes.count()), "1".into(), "1".into()]);
    k.role("main", WARPS, None, Unit::Role, |r| {
        let l = &lanes;
        let (first, count) = rows_of_cta(r, &count, "rows", l.count());
        let row = l.numbers(r, first);
        let there = l.than(r, CmpPred::Lt, row, count);
        let row = l.or_none(r, there, row);
        let number = match &batch {
            Some(batch) => r.load_elems(batch, &[], row, Some(there)),
            None => l.lit(r, 0),
        };
        let mut voxel: Four = [number; 4];
        let mut fits = there;
        for (axis, size) in sizes.iter().enumerate() {
            let like = RegTile { dtype: DType::F32, ..l.one() };
            let x = r.load_rows(&points, like, row, axis as i64, 1);
            let size = r.param(size);
            let (v, ok) = floor_of_quotient(r, l, x, size);
            voxel[axis + 1] = v;
            fits = r.binary("and", fits, ok);
        }
        voxel[0] = l.or_none(r, fits, number);
        l.store(r, &voxels, row, voxel);
        let misfit = r.unary("not", fits);
        let misfit = r.binary("and", misfit, there);
        let outside = r.int(OUTSIDE);
        tell(r, l, &status, outside, row, misfit);
    });
    Ok(())
}

/// `floor(x / size)`, and whether it fits 32 bits.
fn floor_of_quotient(r: &mut RoleBuilder, l: &Lanes, x: TileRef, size: Scalar) -> (TileRef, TileRef) {
    let size = r.splat(size, r.tile_type(x));
    // The division of IEEE 754 by two corrections, of the inverse and of the quotient (Markstein, "Computation of elementary functions
    // on the IBM RISC System/6000 processor").
    let (inverse, one, minus) = (r.unary("rcp", size), r.splat_f32(1.0, x), r.unary("neg", size));
    let rest = r.fma(minus, inverse, one);
    let inverse = r.fma(rest, inverse, inverse);
    let q = r.binary("mul", x, inverse);
    let rest = r.fma(minus, q, x);
    let q = r.fma(rest, inverse, q);
    // Comparisons with what is no number do not hold.
    let (least, end) = (r.splat_f32(-2_147_483_648.0, x), r.splat_f32(2_147_483_648.0, x));
    let (low, high) = (r.compare(CmpPred::Ge, q, least), r.compare(CmpPred::Lt, q, end));
    let fits = r.binary("and", low, high);
    // In two halves of 16 bits, each rounded by a sum that has no room for a fraction; both products and differences are exact.
    let (rounder, part, whole) = (r.splat_f32(ROUNDER, x), r.splat_f32(1.0 / 65536.0, x), r.splat_f32(-65536.0, x));
    let to_nearest = |r: &mut RoleBuilder, v: TileRef| {
        let sum = r.binary("add", v, rounder);
        let bits = r.reinterpret(&[sum], l.one());
        (r.binary("sub", sum, rounder), l.by(r, "sub", bits, ROUNDER_BITS))
    };
    let scaled = r.binary("mul", q, part);
    let (high_float, high) = to_nearest(r, scaled);
    let low = r.fma(high_float, whole, q);
    let (low_float, low_int) = to_nearest(r, low);
    let above = r.compare(CmpPred::Gt, low_float, low);
    let above = r.cast(above, DType::I32);
    let high = l.by(r, "shl", high, 16);
    let nearest = r.binary("add", high, low_int);
    (r.binary("sub", nearest, above), fits)
}

/// Records the kernel: `features [rows_out, channels]` of `dtype` from `points` F32 `[rows, width]`: row `origin[m]` of `origin` I32
/// `[rows_out]`, columns from `skip` on, for the `count` I32 `[1]` rows that exist.
///
/// Scalars: `rows`, `width`, `rows_out`, `channels`, `skip`.
///
/// # Errors
/// A tile without a layout: a mistake in the template.
pub fn first_features(k: &mut KernelBuilder, dtype: DType) -> Result<(), LayoutError> {
    for name in ["rows", "width", "rows_out", "channels", "skip"] {
        k.shape(name);
    }
    let points = k.tensor("points", DType::F32, [Dim::param("rows"), Dim::param("width")]);
    let origin = k.tensor("origin", DType::I32, [Dim::param("rows_out")]);
    let count = k.tensor("count", DType::I32, [literal(1)]);
    let features = k.tensor("features", dtype, [Dim::param("rows_out"), Dim::param("channels")]);
    k.require("skip + channels <= width");
    for elements in ["rows*width", "rows_out*channels"] {
        k.require(format!("{elements} < 2147483648"));
    }
    let lanes = Lanes::new(EACH)?;
    k.grid([format!("ceil_div(rows_out*channels,{})", lanes.count()), "1".into(), "1".into()]);
    k.role("main", WARPS, None, Unit::Role, |r| {
        let l = &lanes;
        let (first, count) = rows_of_cta(r, &count, "rows_out", l.count());
        let at = l.numbers(r, first);
        let channels = r.param("channels");
        let (row, channel) = (l.with(r, "div", at, channels), l.with(r, "rem", at, channels));
        let there = l.than(r, CmpPred::Lt, row, count);
        let from = r.load_elems(&origin, &[], row, Some(there));
        let (width, skip) = (r.param("width"), r.param("skip"));
        let from = l.with(r, "mul", from, width);
        let from = l.with(r, "add", from, skip);
        let from = r.binary("add", from, channel);
        let value = r.load_elems(&points, &[], from, Some(there));
        r.store_elems(&features, &[], at, value, Some(there));
    });
    Ok(())
}
