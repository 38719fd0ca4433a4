//! A quantised output: each row of a tile of 128 columns has a factor, as the quantiser of blocks gives it
//! ([`crate::quantize`]). What lies past n is zero in the tile, so it counts for nothing.

use super::epilogue::EpilogueAt;
use super::problem::GemmProblem;
use super::reference::Reference;
use super::scale::BLOCK;
use crate::quantize::FLOOR;
use crate::quantize::codes::{codes, factors, largest, magnitudes, store_factors};
use tilewright_ir::DType;
use tilewright_ir::tile::{Dim, KernelBuilder, RoleBuilder, Scalar, TensorRef, TileRef};

/// Declares `d_scale [batch, m, ceil(n/128)]`, with groups the leading extents of d.
pub(super) fn declare(k: &mut KernelBuilder, p: &GemmProblem) -> Option<TensorRef> {
    let [lead, rows] = p.groups.rows();
    let blocks = Dim::param(&format!("ceil_div(n,{BLOCK})"));
    p.quant.then(|| k.tensor("d_scale", DType::F32, [lead, rows, blocks]))
}

/// The codes of `parts`, side by side 128 columns of f32 from `at` on; stores the factors of their rows, of the first `left` where
/// only those are the tile's.
pub(super) fn quantise(
    r: &mut RoleBuilder,
    p: &GemmProblem,
    scale: &TensorRef,
    parts: &[TileRef],
    at: EpilogueAt,
    left: Option<Scalar>,
) -> Vec<TileRef> {
    let sizes: Vec<TileRef> = parts.iter().map(|y| magnitudes(r, *y)).collect();
    let amax = sizes[1..].iter().fold(sizes[0], |all, size| r.binary("max", all, *size));
    let amax = r.reduce_lanes("max", amax);
    let factor = factors(r, amax, p.output);
    let [_, rows] = p.groups.rows();
    let extent = r.param(rows.param.as_deref().unwrap_or("m"));
    let before = r.mul(at.batch, extent);
    let first = r.add(before, at.row);
    let end = match left {
        Some(left) => r.add(first, left),
        None => r.add(before, extent),
    };
    let block = r.div(at.col, BLOCK);
    store_factors(r, scale, factor, first, end, block);
    parts.iter().map(|y| codes(r, *y, factor, p.output)).collect()
}

/// What is wrong with the codes `d` and the factors of a quantised output, in words; `exact` is the reference of the same class
/// with f32 output.
pub fn quant_miss(exact: &Reference, n: usize, d: &[f64], d_scale: &[f64]) -> Option<String> {
    let block = BLOCK as usize;
    let per_row = n.div_ceil(block);
    let top = f64::from(largest(DType::E4M3));
    for (i, scale) in d_scale.iter().enumerate() {
        let (row, first) = (i / per_row, i % per_row * block);
        let cells = row * n + first..row * n + (first + block).min(n);
        let amax = cells.clone().fold(f64::from(FLOOR), |a, c| a.max(exact.value[c].abs()));
        let slack = cells.clone().map(|c| exact.bound(c)).fold(0.0, f64::max);
        if (scale * top - amax).abs() > slack + amax * 2f64.powi(-22) {
            return Some(format!("factor {i} is {scale:e}, the reference {:e} within {:e}", amax / top, slack / top));
        }
        for c in cells {
            // Neighbours of codes are 2^-3 apart, of the smallest ones 2^-9.
            let rounding = (exact.value[c].abs() * 2f64.powi(-4)).max(scale * 2f64.powi(-10));
            let bound = exact.bound(c) * 1.125 + rounding * (1.0 + 2f64.powi(-20));
            if (d[c] * scale - exact.value[c]).abs() > bound {
                return Some(format!("element {c} of d is {} * {scale:e}, the reference {}", d[c], exact.value[c]));
            }
        }
    }
    None
}
