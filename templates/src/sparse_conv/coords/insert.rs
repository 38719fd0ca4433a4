//! The hash table of voxels that are given.

use super::lanes::{Lanes, WARPS};
use super::table::Table;
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, RoleBuilder, Scalar, TensorRef, TileRef, Unit};

/// Rows a thread inserts at once.
const EACH: u32 = 2;
/// Numbers of a status.
pub(super) const STATUS: u32 = 4;
/// The one that tells of voxels without room.
pub(super) const TOO_MANY: i64 = 3;

/// Records the kernel: the rows of `coords` I32 `[rows, 4]` below `count` I32 `[1]` go into `table` I32 `[slots]`, which is -1
/// everywhere before. `status` I32 `[4]`: element `status_at` falls to the least row that equals an earlier one, element 3 to
/// `-i32::MAX` where a row finds no slot.
///
/// Scalars: `rows`, `slots`, `status_at`.
///
/// # Errors
/// A tile without a layout: a mistake in the template.
pub fn insert(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    for name in ["rows", "slots", "status_at"] {
        k.shape(name);
    }
    let coords = k.tensor("coords", DType::I32, [Dim::param("rows"), literal(4)]);
    let count = k.tensor("count", DType::I32, [literal(1)]);
    let table = k.tensor("table", DType::I32, [Dim::param("slots")]);
    let status = k.tensor("status", DType::I32, [literal(STATUS)]);
    let lanes = Lanes::new(EACH)?;
    k.grid([format!("ceil_div(rows,{})", lanes.count()), "1".into(), "1".into()]);
    k.role("main", WARPS, None, Unit::Role, |r| {
        let (first, count) = rows_of_cta(r, &count, "rows", lanes.count());
        let some = r.cmp(CmpPred::Lt, first, count);
        r.if_then(some, |r| {
            let l = &lanes;
            let number = l.numbers(r, first);
            let there = l.than(r, CmpPred::Lt, number, count);
            let row = l.or_none(r, there, number);
            let key = l.load(r, &coords, row);
            let table = Table { tensor: table.clone(), slots: r.param("slots") };
            let status_at = r.param("status_at");
            let lost = table.insert(
                r,
                l,
                key,
                number,
                there,
                |r, other| {
                    let other = l.load(r, &coords, other);
                    l.same(r, key, other)
                },
                |r, twice, mask| tell(r, l, &status, status_at, twice, mask),
            );
            tell_lost(r, l, &status, lost);
        });
    });
    Ok(())
}

/// An extent that is a number.
pub(super) fn literal(factor: u32) -> Dim {
    Dim { param: None, factor }
}

/// The first row of the CTA, and how many rows there are: no more than there is room for.
pub(super) fn rows_of_cta(r: &mut RoleBuilder, count: &TensorRef, rows: &str, each: u32) -> (Scalar, Scalar) {
    let zero = r.int(0);
    let count = r.load_scalar(count, &[zero]);
    let rows = r.param(rows);
    let count = r.min(count, rows);
    let cta = r.cta_id(0);
    (r.mul(cta, each), count)
}

/// An element of the status falls to the least of the numbers where the mask holds.
pub(super) fn tell(r: &mut RoleBuilder, l: &Lanes, status: &TensorRef, at: Scalar, number: TileRef, mask: TileRef) {
    let at = l.all(r, at);
    r.atomic("min", status, &[], at, number, Some(mask));
}

/// Elements that found no slot leave what no number of outputs comes near.
pub(super) fn tell_lost(r: &mut RoleBuilder, l: &Lanes, status: &TensorRef, lost: TileRef) {
    let at = r.int(TOO_MANY);
    let all = l.lit(r, -i64::from(i32::MAX));
    tell(r, l, status, at, all, lost);
}
