//! The quantising kernels.

use super::codes::{codes, factors, magnitudes, store_factors};
use super::problem::{QuantBlock, QuantizeProblem};
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{Dim, KernelBuilder, RegTile, RoleBuilder, TensorRef, Unit};

/// Columns that share a factor.
const BLOCK: u32 = 128;
/// Rows of a CTA where blocks of columns have factors.
const ROWS: u32 = 16;
/// Columns a warp holds of its row at a time.
const COLS: u32 = 1024;

/// Records the kernel: `x [m, k]` -> `q [m, k]`, `scale` F32 `[m]` or `[m, ceil(k/128)]`. Scalars: `m`, `k`.
///
/// # Errors
/// Tiles without a layout: a mistake in the template.
pub fn quantize(k: &mut KernelBuilder, p: &QuantizeProblem) -> Result<(), LayoutError> {
    for name in ["m", "k"] {
        k.shape(name);
    }
    let matrix = || [Dim::param("m"), Dim::param("k")];
    let (x, q) = (k.tensor("x", p.input, matrix()), k.tensor("q", p.to, matrix()));
    let blocks = match p.block {
        QuantBlock::Row => Dim { param: None, factor: 1 },
        QuantBlock::Columns => Dim::param(&format!("ceil_div(k,{BLOCK})")),
    };
    let scale = k.tensor("scale", DType::F32, [Dim::param("m"), blocks]);
    if p.align > 1 {
        k.require(format!("k % {} == 0", p.align));
    }
    let x = Tensors { x, q, scale };
    match p.block {
        QuantBlock::Row => rows(k, p, &x),
        QuantBlock::Columns => blocks_of_columns(k, p, &x),
    }
}

struct Tensors {
    x: TensorRef,
    q: TensorRef,
    scale: TensorRef,
}

/// A tile whose rows lie in one warp each: fewer than four neighbours a lane would spread a row over several.
fn tile(p: &QuantizeProblem, warps: u32, shape: [u32; 2]) -> Result<RegTile, LayoutError> {
    Ok(RegTile { dtype: p.input, shape, layout: blocked(32 * warps, shape, p.align.max(4))? })
}

/// x is read once: 16 rows of 128 columns a CTA.
fn blocks_of_columns(k: &mut KernelBuilder, p: &QuantizeProblem, t: &Tensors) -> Result<(), LayoutError> {
    const WARPS: u32 = 4;
    k.grid([format!("ceil_div(k,{BLOCK})*ceil_div(m,{ROWS})"), "1".into(), "1".into()]);
    let like = tile(p, WARPS, [ROWS, BLOCK])?;
    k.role("main", WARPS, None, Unit::Role, |r| {
        let (cta, cols) = (r.cta_id(0), r.param("k"));
        let blocks = r.ceil_div(cols, BLOCK);
        let (block, row) = (r.rem(cta, blocks), r.div(cta, blocks));
        let (row, col) = (r.mul(row, ROWS), r.mul(block, BLOCK));
        let x = r.load_tile(&t.x, like, &[row, col], &[0, 1], p.align);
        let x = r.cast(x, DType::F32);
        let amax = magnitudes(r, x);
        let amax = r.reduce_lanes("max", amax);
        let factor = factors(r, amax, p.to);
        let q = codes(r, x, factor, p.to);
        r.store_tile(&t.q, q, &[row, col], p.align);
        let rows = r.param("m");
        store_factors(r, &t.scale, factor, row, rows, block);
    });
    Ok(())
}

/// A warp for each row, which it reads twice: the second time from a cache.
fn rows(k: &mut KernelBuilder, p: &QuantizeProblem, t: &Tensors) -> Result<(), LayoutError> {
    k.grid(["m".into(), "1".into(), "1".into()]);
    let like = tile(p, 1, [1, COLS])?;
    k.role("main", 1, None, Unit::Role, |r| {
        let (row, cols) = (r.cta_id(0), r.param("k"));
        let load = |r: &mut RoleBuilder, col| {
            let x = r.load_tile(&t.x, like.clone(), &[row, col], &[0, 1], p.align);
            r.cast(x, DType::F32)
        };
        let column = r.row_vec(&like, DType::F32);
        let zero = r.float(0.0);
        let zero = r.splat(zero, column);
        let most = r.tile_cell(zero);
        r.for_range(0, cols, COLS, |r, col| {
            let x = load(r, col);
            let (here, before) = (magnitudes(r, x), r.get_tile(most));
            let all = r.binary("max", here, before);
            r.set_tile(most, all);
        });
        let amax = r.get_tile(most);
        let amax = r.reduce_lanes("max", amax);
        let factor = factors(r, amax, p.to);
        let end = r.param("m");
        store_factors(r, &t.scale, factor, row, end, 0);
        r.for_range(0, cols, COLS, |r, col| {
            let x = load(r, col);
            let q = codes(r, x, factor, p.to);
            r.store_tile(&t.q, q, &[row, col], p.align);
        });
    });
    Ok(())
}
