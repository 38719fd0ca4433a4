//! Factors and codes of a tile in registers, f32.

use super::FLOOR;
use tilewright_ir::DType;
use tilewright_ir::tile::{CmpPred, Operand, RegTile, RoleBuilder, Scalar, TensorRef, TileRef};

/// The largest number of a dtype of codes.
pub(crate) fn largest(to: DType) -> f32 {
    if to == DType::I8 { 127.0 } else { 448.0 }
}

/// The largest magnitude of each row that this thread holds, a column; joined by `reduce_lanes`.
pub(crate) fn magnitudes(r: &mut RoleBuilder, x: TileRef) -> TileRef {
    let size = r.unary("abs", x);
    r.reduce_thread("max", size)
}

/// The factor for each magnitude: `max(amax, 1e-10) / largest`.
pub(crate) fn factors(r: &mut RoleBuilder, amax: TileRef, to: DType) -> TileRef {
    let floor = r.splat_f32(FLOOR, amax);
    let amax = r.binary("max", amax, floor);
    let (by, inverse) = (r.splat_f32(largest(to), amax), r.splat_f32(1.0 / largest(to), amax));
    quotient(r, amax, by, inverse)
}

/// Each element divided by its row's factor, as codes.
pub(crate) fn codes(r: &mut RoleBuilder, x: TileRef, factor: TileRef, to: DType) -> TileRef {
    let like = r.tile_type(x);
    let inverse = r.unary("rcp", factor);
    let (by, inverse) = (r.broadcast(factor, like.clone()), r.broadcast(inverse, like));
    let q = quotient(r, x, by, inverse);
    r.cast(q, to)
}

/// Stores a column of factors at column `col` of rows `first..` of a tensor, as far as they lie before row `end`.
pub(crate) fn store_factors(
    r: &mut RoleBuilder,
    to: &TensorRef,
    factor: TileRef,
    first: Scalar,
    end: impl Into<Operand>,
    col: impl Into<Operand>,
) {
    let ints = RegTile { dtype: DType::I32, ..r.tile_type(factor) };
    let number = r.iota(0, ints.clone());
    let left = r.sub(end, first);
    let [first, left, none] = [first, left, r.int(-1)].map(|s| r.splat(s, ints.clone()));
    let inside = r.compare(CmpPred::Lt, number, left);
    let row = r.binary("add", number, first);
    let row = r.choose(inside, row, none);
    r.store_rows(to, factor, row, col, 1);
}

/// `a / b` from an inverse of b within an ulp or so: the remainder of a first quotient is exact, and corrects it to the nearest
/// (Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor").
fn quotient(r: &mut RoleBuilder, a: TileRef, b: TileRef, inverse: TileRef) -> TileRef {
    let q = r.binary("mul", a, inverse);
    let minus = r.unary("neg", q);
    let rest = r.fma(minus, b, a);
    r.fma(rest, inverse, q)
}
