//! Copies of features and weights whose rows 16-byte accesses can address, and memory set to zero.

use super::class::{CoreError, vec_of};
use super::kernel::TEMPLATE;
use super::rows::{COLS, ROWS, WARPS, matrix};
use crate::plan::TemplateKernel;
use tilewright_ir::layout::blocked;
use tilewright_ir::tile::{Dim, KernelBuilder, RegTile, Unit};
use tilewright_ir::{Arch, DType};

/// Zeros that a CTA writes.
const ZEROS: u32 = 4096;

/// The kernel: `x [matrices, rows, cols]` -> `y [matrices, to_rows, to_cols]`, zeros outside x.
///
/// Scalars: `matrices`, `rows`, `cols`, `to_rows`, `to_cols`, which is a multiple of a 16-byte access.
pub fn pad_kernel(arch: Arch, dtype: DType) -> Result<TemplateKernel, CoreError> {
    let id = pad_id(dtype);
    let mut k = KernelBuilder::new(&id, arch);
    for name in ["matrices", "rows", "cols", "to_rows", "to_cols"] {
        k.shape(name);
    }
    let dims = |rows: &str, cols: &str| [Dim::param("matrices"), Dim::param(rows), Dim::param(cols)];
    let x = k.tensor("x", dtype, dims("rows", "cols"));
    let y = k.tensor("y", dtype, dims("to_rows", "to_cols"));
    let vec = vec_of(dtype);
    k.require(format!("to_cols % {vec} == 0"));
    k.grid([format!("ceil_div(to_rows,{ROWS})"), format!("ceil_div(to_cols,{COLS})"), "matrices".into()]);
    // Rows of x begin anywhere: neighbouring lanes copy neighbours, one by one.
    let like = matrix(dtype, 1)?;
    k.role("main", WARPS, None, Unit::Role, |r| {
        let (row, col, which) = (r.cta_id(0), r.cta_id(1), r.cta_id(2));
        let at = [which, r.mul(row, ROWS), r.mul(col, COLS)];
        let tile = r.load_tile(&x, like, &at, &[0, 1], 1);
        r.store_tile(&y, tile, &at, 1);
    });
    Ok(TemplateKernel::plain(id, TEMPLATE, [("kind", "pad".to_string())], "none", k))
}

/// The id of [`pad_kernel`].
pub(super) fn pad_id(dtype: DType) -> String {
    format!("sparse_pad_{dtype}")
}

/// The kernel: `y` f32 `[rows, cols]` is 0.
///
/// Scalars: `rows`, `cols`; `rows * cols` fits 31 bits and, with `wide`, is a multiple of 4.
pub fn zero_kernel(arch: Arch, wide: bool) -> Result<TemplateKernel, CoreError> {
    let id = zero_id(wide);
    let mut k = KernelBuilder::new(&id, arch);
    let y = k.tensor("y", DType::F32, [Dim::param("rows*cols")]);
    k.grid([format!("ceil_div(rows*cols,{ZEROS})"), "1".into(), "1".into()]);
    // The last CTA counts past the end.
    k.require(format!("rows * cols <= {}", i32::MAX as u32 - ZEROS));
    if wide {
        k.require("rows * cols % 4 == 0");
    }
    let shape = [1, ZEROS];
    let like = RegTile { dtype: DType::F32, shape, layout: blocked(WARPS * 32, shape, 4)? };
    k.role("main", WARPS, None, Unit::Role, |r| {
        let cta = r.cta_id(0);
        let at = r.mul(cta, ZEROS);
        let zero = r.float(0.0);
        let zeros = r.splat(zero, like);
        r.store_tile(&y, zeros, &[at], if wide { 4 } else { 1 });
    });
    let axes = [("kind", "zero".to_string()), ("wide", u8::from(wide).to_string())];
    Ok(TemplateKernel::plain(id, TEMPLATE, axes, "none", k))
}

/// The id of [`zero_kernel`].
pub(super) fn zero_id(wide: bool) -> String {
    format!("sparse_zero{}", if wide { "" } else { "_narrow" })
}
