//! Online softmax over tiles of scores (Milakov and Gimelshein, arXiv 1805.02867; FlashAttention-2, arXiv 2307.08691).
//!
//! Scores arrive in any unit with the factor that makes them exponents of two, so an element costs one FMA and one `ex2`.
//! The row's maximum is complete in every lane; sums stay each lane's own until the end.

use super::score::Scored;
use tilewright_ir::DType;
use tilewright_ir::tile::{Cell, CmpPred, RegTile, RoleBuilder, TileRef};

/// Running maximum and sum of the rows.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    /// Largest score so far, in the scores' unit; minus infinity where nothing was visible.
    max: Cell,
    /// Each lane's part of the sum of exponentials.
    sum: Cell,
}

/// A tile's exponentials, and what its coming does to earlier results.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// `exp(s - max)`, f32, unnormalised.
    pub tile: TileRef,
    /// `exp(old max - new max)`, F32 `[rows, 1]`.
    pub rescale: TileRef,
}

/// What remains at the end of a row.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// One over the sum, 0 where nothing was visible: F32 `[rows, 1]`.
    pub inverse: TileRef,
    /// Natural log of the sum of exponentials of the visible scores, minus infinity where there are none: F32 `[rows, 1]`.
    pub lse: TileRef,
}

impl Softmax {
    /// Nothing seen yet; `column` is the F32 type of `[rows, 1]`.
    pub fn start(r: &mut RoleBuilder, column: &RegTile) -> Self {
        let (none, zero) = (r.float(f32::NEG_INFINITY), r.float(0.0));
        let (none, zero) = (r.splat(none, column.clone()), r.splat(zero, column.clone()));
        Softmax { max: r.tile_cell(none), sum: r.tile_cell(zero) }
    }

    /// Takes a tile of scores in. `fma_share` sixteenths of the exponentials are done on the FMA pipe.
    pub fn update(&self, r: &mut RoleBuilder, s: Scored, fma_share: u32) -> Weights {
        let like = r.tile_type(s.tile);
        let before = r.get_tile(self.max);
        let here = r.reduce("max", s.tile);
        let max = r.binary("max", before, here);
        r.set_tile(self.max, max);
        let finite = finite(r, max);
        // Minus infinity less the finite maximum is minus infinity, whose power of two is 0: no row is a special case.
        let fallen = r.binary("sub", before, finite);
        let fallen = r.binary("mul", fallen, s.log2_scale);
        let rescale = r.unary("exp2", fallen);
        let offset = r.binary("mul", finite, s.log2_scale);
        let offset = r.unary("neg", offset);
        let (scale, offset) = (r.broadcast(s.log2_scale, like.clone()), r.broadcast(offset, like));
        let exponent = r.fma(s.tile, scale, offset);
        let tile = r.exp2(exponent, fma_share);
        let sum = r.get_tile(self.sum);
        let part = r.reduce_thread("add", tile);
        let sum = r.fma(sum, rescale, part);
        r.set_tile(self.sum, sum);
        Weights { tile, rescale }
    }

    /// Ends the rows. `log2_scale` is that of the scores; `sink` is a logit (natural units, F32 `[rows, 1]`) that joins the
    /// sum but not the `lse`.
    pub fn finish(&self, r: &mut RoleBuilder, log2_scale: TileRef, sink: Option<TileRef>) -> Finished {
        let (max, sum) = (r.get_tile(self.max), r.get_tile(self.sum));
        let column = r.tile_type(max);
        let sum = r.reduce_lanes("add", sum);
        let finite = finite(r, max);
        let top = r.binary("mul", finite, log2_scale);
        let zero = r.splat_f32(0.0, max);
        let empty = r.compare(CmpPred::Le, sum, zero);
        let log2 = r.unary("log2", sum);
        let log2 = r.binary("add", top, log2);
        let ln2 = r.splat_f32(std::f32::consts::LN_2, max);
        let lse = r.binary("mul", log2, ln2);
        let none = r.float(f32::NEG_INFINITY);
        let none = r.splat(none, column);
        let lse = r.choose(empty, none, lse);
        let mut total = sum;
        if let Some(sink) = sink {
            let log2_e = r.splat_f32(std::f32::consts::LOG2_E, max);
            let top = r.unary("neg", top);
            let exponent = r.fma(sink, log2_e, top);
            let e = r.unary("exp2", exponent);
            total = r.binary("add", sum, e);
        }
        let inverse = r.unary("rcp", total);
        let inverse = r.choose(empty, zero, inverse);
        Finished { inverse, lse }
    }
}

/// The maximum, or 0 where nothing was visible: infinities must not meet in a difference.
fn finite(r: &mut RoleBuilder, max: TileRef) -> TileRef {
    let column: RegTile = r.tile_type(max);
    let none = r.float(f32::NEG_INFINITY);
    let none = r.splat(none, column.clone());
    let zero = r.float(0.0);
    let zero = r.splat(zero, RegTile { dtype: DType::F32, ..column });
    let nothing = r.compare(CmpPred::Eq, max, none);
    r.choose(nothing, zero, max)
}
