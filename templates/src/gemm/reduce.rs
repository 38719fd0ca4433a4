//! Sums the partials of a split k in ascending order, then the epilogue: the same bits in every run.

use super::config::ReduceConfig;
use super::epilogue::{EpilogueAt, EpilogueFn};
use super::problem::GemmProblem;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{Dim, KernelBuilder, RegTile, Unit};

const WARPS: u32 = 8;

/// Records the kernel: `partial [splits*batch, m, gates*n]` f32 (i32 of i8) -> `d [batch, m, n]`.
pub fn reduce(k: &mut KernelBuilder, p: &GemmProblem, c: &ReduceConfig, epilogue: &EpilogueFn) -> Result<(), LayoutError> {
    for name in ["m", "n", "batch", "splits"] {
        k.shape(name);
    }
    let wide = Dim { param: Some("n".into()), factor: p.gates() };
    let partial = k.tensor("partial", p.sums(), [Dim::param("splits*batch"), Dim::param("m"), wide]);
    let d = k.tensor("d", p.output, [Dim::param("batch"), Dim::param("m"), Dim::param("n")]);
    k.grid([format!("ceil_div(n,{})", c.cols), format!("ceil_div(m,{})", c.rows), "batch".into()]);
    if c.n_align > 1 {
        k.require(format!("n % {} == 0", c.n_align));
    }
    let shape = [c.rows, c.cols];
    let like = RegTile { dtype: p.sums(), shape, layout: blocked(WARPS * 32, shape, 4)? };
    k.role("main", WARPS, None, Unit::Role, |r| {
        let (x, y, batch) = (r.cta_id(0), r.cta_id(1), r.cta_id(2));
        let (row, col) = (r.mul(y, c.rows), r.mul(x, c.cols));
        let zero = if p.sums() == DType::I32 { r.int(0) } else { r.float(0.0) };
        let zero = r.splat(zero, like.clone());
        let sums: Vec<_> = (0..p.gates()).map(|_| r.tile_cell(zero)).collect();
        let splits = r.param("splits");
        r.for_range(0, splits, 1, |r, s| {
            let n = r.param("n");
            let count = r.param("batch");
            let first = r.mul(s, count);
            let matrix = r.add(first, batch);
            for (gate, sum) in sums.iter().enumerate() {
                let col = if gate == 0 { col } else { r.add(col, n) };
                let part = r.load_tile(&partial, like.clone(), &[matrix, row, col], &[0, 1], c.n_align);
                let before = r.get_tile(*sum);
                let after = r.binary("add", before, part);
                r.set_tile(*sum, after);
            }
        });
        let tiles: Vec<_> = sums.iter().map(|s| r.get_tile(*s)).collect();
        let out = epilogue(r, &tiles, EpilogueAt { batch, weight: batch, row, col });
        let out = r.cast(out, p.output);
        r.store_tile(&d, out, &[batch, row, col], c.n_align);
    });
    Ok(())
}
