//! The Ampere forward kernel: one CTA a tile of queries of one head.

use super::config::MmaAttentionConfig;
use super::core::{Core, Feed, Runs};
use crate::attention::operands::{Operands, Outcome, Tile};
use crate::attention::problem::AttentionProblem;
use crate::attention::score::{Mods, ScoreAt, masked};
use crate::attention::softmax::{Softmax, Weights};
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, KernelBuilder, RegTile, RoleBuilder, Scalar, TileRef, Unit};

/// Records the kernel. Tensors, parameters and masks are those of the class; the grid is one CTA for each `bm` queries of a
/// head, longest first where the mask is causal.
///
/// # Errors
/// Tiles that have no fragment layout; [`MmaAttentionConfig::check`] refuses their configs.
pub fn forward(k: &mut KernelBuilder, p: &AttentionProblem, c: &MmaAttentionConfig, mods: &Mods) -> Result<(), LayoutError> {
    let x = Ctx { ops: Operands::declare(k, p, [c.bm, c.bn], mods), core: Core::declare(k, p.dtype, [p.d, p.dv], c)?, c };
    k.grid([format!("ceil_div(sq,{})", c.bm), "hq".into(), "batch".into()]);
    let mut result = Ok(());
    k.role("main", c.warps, None, Unit::Role, |r| result = x.main(r, mods));
    result
}

struct Ctx<'a> {
    ops: Operands<'a>,
    core: Core<'a>,
    c: &'a MmaAttentionConfig,
}

impl Ctx<'_> {
    fn main(&self, r: &mut RoleBuilder, mods: &Mods) -> Result<(), LayoutError> {
        let tile = self.ops.tile_of_cta(r);
        self.core.load_q(r, &self.ops.q, |r, ty| self.token_rows(r, &tile, 0, tile.first, ty));
        let none = r.int(0);
        let rows = self.ops.rows(r, &tile, none, &self.core.scores);
        let column = r.row_vec(&self.core.scores, DType::F32);
        let softmax = Softmax::start(r, &column);
        let blocks = self.ops.blocks(r, &tile, None);
        let lists = self.ops.lists.as_ref();
        let key_rows = |r: &mut RoleBuilder, t: Scalar, ty: RegTile| {
            let block = blocks.index(r, lists, t);
            let first = r.mul(block, self.c.bn);
            self.token_rows(r, &tile, 1, first, ty)
        };
        let weigh = |r: &mut RoleBuilder, t: Scalar, raw: TileRef, masks: bool| -> Weights {
            let block = blocks.index(r, lists, t);
            let like = RegTile { dtype: DType::I32, ..self.core.scores.clone() };
            let line = r.col_vec(&like, DType::I32);
            let start = r.mul(block, self.c.bn);
            let columns = r.iota(1, line.clone());
            let first = r.splat(start, line);
            let key = r.binary("add", first, columns);
            let at = ScoreAt { rows: rows.rows, head: Some(tile.head), key, run: Some((start, columns)), len: tile.len, like };
            let mut scored = self.ops.scores.apply(r, raw, &at, rows.slopes, mods);
            if masks {
                let sparsity = self.ops.sparsity.as_ref();
                scored.tile = masked(r, scored.tile, &at, &self.ops.visibility, rows.interval, sparsity, mods);
            }
            softmax.update(r, scored, 0)
        };
        let feed = Feed { k: &self.ops.k, v: &self.ops.v, rows: &key_rows, ahead: false };
        let runs = Runs::of(r, &blocks, &self.ops.visibility, self.ops.masks_all);
        let out = self.core.run(r, &feed, &runs, &weigh)?;
        let end = Outcome { softmax: &softmax, out, types: [&self.core.scores, &self.core.out] };
        self.ops.finish(r, &tile, &rows, &end, mods);
        Ok(())
    }

    /// Rows `token * heads + head` of the tile's head for queries (`side` 0) or keys (1) from `first` on, -1 past the last.
    fn token_rows(&self, r: &mut RoleBuilder, tile: &Tile, side: usize, first: Scalar, ty: RegTile) -> TileRef {
        let (heads, head) = [("hq", tile.head), ("hkv", tile.kv_head)][side];
        let heads = r.param(heads);
        // What does not depend on the row is worked out once.
        let row0 = self.ops.sequence_start(r, tile, side);
        let row0 = r.add(row0, first);
        let row0 = r.mul(row0, heads);
        let row0 = r.add(row0, head);
        let left = r.sub(tile.len[side], first);
        let i = r.iota(0, ty.clone());
        let [row0, heads, left] = [row0, heads, left].map(|s| r.splat(s, ty.clone()));
        let row = r.binary("mul", i, heads);
        let row = r.binary("add", row, row0);
        let exists = r.compare(CmpPred::Lt, i, left);
        let none = r.int(-1);
        let none = r.splat(none, ty);
        r.choose(exists, row, none)
    }
}
