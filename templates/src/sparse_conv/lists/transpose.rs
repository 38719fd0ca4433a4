//! The map from inputs to outputs: what transposed convolutions and gradients walk.

use super::error::ListError;
use super::numbers::{Map, Numbers, extent, kernel, role, sets};
use crate::sparse_conv::pieces::{MapSet, PlanBuilder};
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, KernelBuilder};
use tilewright_runtime::dtype::Dtype;

/// Entries of a CTA.
const ENTRIES: u32 = 1024;
const THREADS: u32 = 128;

/// Adds the launches that make `name` I32 `[rows, taps]`: for each input row and tap the output row that meets it there, or -1. An
/// input meets one output at a tap, since the tap and the input fix where it lies. `rows` is the inputs' capacity and `count` I32 `[1]`
/// how many exist.
///
/// # Errors
/// [`ListError::Expr`] where `rows` is no expression.
pub fn transpose(pb: &mut PlanBuilder, name: &str, map: &MapSet, rows: &str, count: &str) -> Result<MapSet, ListError> {
    let out = pb.workspace(name, Dtype::I32, &[rows, &map.taps])?;
    let len = format!("({rows})*({})", map.taps);
    pb.launch("sparse_none", |a| kernel(a, "sparse_none", none), &[("list", &out)], &sets([("len", &len)]))?;
    let (binds, mut sets) = Map::launch(map);
    sets.push(("inputs".into(), rows.into()));
    let binds = [binds[0], binds[1], ("inverse", &out)];
    pb.launch("sparse_transpose", |a| kernel(a, "sparse_transpose", invert), &binds, &sets)?;
    Ok(MapSet { map: out, count: count.into(), rows: rows.into(), taps: map.taps.clone() })
}

/// `list` I32 `[len]`: -1 everywhere.
fn none(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    k.shape("len");
    let list = k.tensor("list", DType::I32, [extent("len")]);
    k.grid([format!("ceil_div(max(len,1),{ENTRIES})"), "1".into(), "1".into()]);
    let n = Numbers::new(THREADS, ENTRIES, 1)?;
    role(k, THREADS / 32, |r| {
        let cta = r.cta_id(0);
        let first = r.mul(cta, ENTRIES);
        let at = n.from(r, first);
        let len = r.param("len");
        let there = n.is(r, at, CmpPred::Lt, len);
        let none = n.int(r, -1);
        r.store_elems(&list, &[], at, none, Some(there));
    });
    Ok(())
}

/// `map`, `count` -> what it has of `inverse`.
fn invert(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    let map = Map::declare(k);
    k.shape("inputs");
    k.require("inputs*taps <= 2147483647");
    let inverse = k.tensor("inverse", DType::I32, [extent("inputs"), extent("taps")]);
    k.grid([format!("ceil_div(max(rows*taps,1),{ENTRIES})"), "1".into(), "1".into()]);
    let n = Numbers::new(THREADS, ENTRIES, 1)?;
    role(k, THREADS / 32, |r| {
        let cta = r.cta_id(0);
        let first = r.mul(cta, ENTRIES);
        let at = n.from(r, first);
        let (rows, taps) = (map.rows(r), r.param("taps"));
        let row = n.with(r, "div", at, taps);
        let tap = n.with(r, "rem", at, taps);
        let there = n.is(r, row, CmpPred::Lt, rows);
        let input = map.at(r, &n, at, there);
        let some = n.is(r, input, CmpPred::Ge, 0);
        let to = n.with(r, "mul", input, taps);
        let to = r.binary("add", to, tap);
        r.store_elems(&inverse, &[], to, row, Some(some));
    });
    Ok(())
}
