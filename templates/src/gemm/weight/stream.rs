//! Stream-K: CTAs share the blocks of all tiles evenly, so that few tiles keep every SM busy from the first byte to the last
//! (Osama et al., "Stream-K", PPoPP 2023).
//!
//! All blocks of all tiles stand in a row, tile after tile; each CTA takes as many as any other, give or take one. A tile
//! that lies in one CTA's run is finished there. Of one that does not, each CTA leaves its sums in a slot (its first tile in
//! slot `2 cta`, its last in `2 cta + 1`), and a second launch adds them up in the order of the CTAs, which is that of k: the
//! same bits in every run on a device with as many SMs.

use super::config::WeightWgmmaConfig;
use crate::gemm::epilogue::{EpilogueAt, EpilogueFn};
use crate::gemm::problem::GemmProblem;
use crate::gemm::tiles::Raster;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, RegTile, RoleBuilder, Scalar, TensorRef, Unit};

/// Warps that add up one tile.
const WARPS: u32 = 4;

/// CTAs of the kernel, as the runtime's expression.
pub fn ctas(p: &GemmProblem, c: &WeightWgmmaConfig) -> String {
    let blocks = if c.stream { "*ceil_div(k,128)" } else { "" };
    format!("min({}{blocks},sms)", p.groups.grid_tiles([c.bm, c.bn]))
}

/// Declares the slots: f32 `[2 * ctas * gates, bm, bn]`.
pub fn partial(k: &mut KernelBuilder, p: &GemmProblem, c: &WeightWgmmaConfig) -> TensorRef {
    let tile = [c.bm, c.bn].map(|factor| Dim { param: None, factor });
    let slots = Dim { param: Some("ctas".into()), factor: 2 * p.gates() };
    k.tensor("partial", DType::F32, [slots].into_iter().chain(tile))
}

/// How the blocks of all tiles are shared: `more` CTAs take one more than the others.
pub struct Share {
    blocks: Scalar,
    each: Scalar,
    more: Scalar,
}

/// A CTA's part of a tile.
pub struct Part {
    /// Blocks of the tile that are others'.
    pub missing: Scalar,
    /// Where its sums go otherwise.
    pub slot: Scalar,
}

impl Share {
    /// `tiles` of `blocks` each, among `ctas`.
    pub fn of(r: &mut RoleBuilder, tiles: Scalar, blocks: Scalar, ctas: Scalar) -> Self {
        let all = r.mul(tiles, blocks);
        Share { blocks, each: r.div(all, ctas), more: r.rem(all, ctas) }
    }

    /// The first block of a CTA.
    fn first(&self, r: &mut RoleBuilder, cta: Scalar) -> Scalar {
        let before = r.mul(cta, self.each);
        let extra = r.min(cta, self.more);
        r.add(before, extra)
    }

    /// The CTA of a block.
    fn owner(&self, r: &mut RoleBuilder, block: Scalar) -> Scalar {
        let longer = r.add(self.each, 1);
        let in_longer = r.div(block, longer);
        let so_far = r.mul(self.more, longer);
        let rest = r.sub(block, so_far);
        let rest = r.max(rest, 0);
        // Where every CTA has the one more, none is left to divide among.
        let each = r.max(self.each, 1);
        let rest = r.div(rest, each);
        let in_shorter = r.add(self.more, rest);
        let early = r.cmp(CmpPred::Lt, block, so_far);
        r.select(early, in_longer, in_shorter)
    }

    /// Calls `f` with each tile of a CTA, what of it is its part, and the blocks of that.
    pub fn each_tile(&self, r: &mut RoleBuilder, cta: Scalar, f: impl FnOnce(&mut RoleBuilder, Scalar, Part, [Scalar; 2])) {
        let first = self.first(r, cta);
        let next = r.add(cta, 1);
        let end = self.first(r, next);
        let first_tile = r.div(first, self.blocks);
        let up = r.add(end, self.blocks);
        let up = r.sub(up, 1);
        let end_tile = r.div(up, self.blocks);
        r.for_range(first_tile, end_tile, 1, |r, t| {
            let start = r.mul(t, self.blocks);
            let from = r.sub(first, start);
            let from = r.max(from, 0);
            let to = r.sub(end, start);
            let to = r.min(to, self.blocks);
            let count = r.sub(to, from);
            let missing = r.sub(self.blocks, count);
            let later = r.cmp(CmpPred::Gt, t, first_tile);
            let later = r.select(later, 1, 0);
            let slot = r.mul(cta, 2);
            let slot = r.add(slot, later);
            f(r, t, Part { missing, slot }, [from, to]);
        });
    }

    /// The slot of a CTA's sums of tile `t`.
    fn slot(&self, r: &mut RoleBuilder, cta: Scalar, t: Scalar) -> Scalar {
        let first = self.first(r, cta);
        let first_tile = r.div(first, self.blocks);
        let later = r.cmp(CmpPred::Gt, t, first_tile);
        let later = r.select(later, 1, 0);
        let slot = r.mul(cta, 2);
        r.add(slot, later)
    }
}

/// Records the kernel that adds up what CTAs share: `partial` -> `d`, tiles that one CTA finished left alone. `ctas` is the
/// number of CTAs that left sums.
pub fn add_up(k: &mut KernelBuilder, p: &GemmProblem, c: &WeightWgmmaConfig, epilogue: &EpilogueFn) -> Result<(), LayoutError> {
    for name in ["m", "n", "k", "batch", "ctas"] {
        k.shape(name);
    }
    let partial = partial(k, p, c);
    let d = k.tensor("d", p.output, [Dim::param("batch"), Dim::param("m"), Dim::param("n")]);
    // Some rows of a tile a CTA: a tile of many tokens would otherwise be added up by one SM.
    let rows = c.bm.min(8);
    let parts = c.bm / rows;
    k.grid([format!("{}*{parts}", p.groups.grid_tiles([c.bm, c.bn])), "1".into(), "1".into()]);
    if c.n_align > 1 {
        k.require(format!("n % {} == 0", c.n_align));
    }
    let shape = [rows, c.bn];
    let like = RegTile { dtype: DType::F32, shape, layout: blocked(WARPS * 32, shape, 4)? };
    k.role("main", WARPS, None, Unit::Role, |r| {
        let cta = r.cta_id(0);
        let (t, part) = (r.div(cta, parts), r.rem(cta, parts));
        let raster = Raster::new(r, [c.bm, c.bn], c.raster);
        let batch = r.param("batch");
        let tiles = r.mul(raster.per_matrix, batch);
        let (kdim, ctas) = (r.param("k"), r.param("ctas"));
        let blocks = r.ceil_div(kdim, WeightWgmmaConfig::BK);
        let share = Share::of(r, tiles, blocks, ctas);
        let start = r.mul(t, blocks);
        let end = r.add(start, blocks);
        let last = r.sub(end, 1);
        let (from, to) = (share.owner(r, start), share.owner(r, last));
        let several = r.cmp(CmpPred::Gt, to, from);
        r.if_then(several, |r| {
            let zero = r.float(0.0);
            let zero = r.splat(zero, like.clone());
            let sums: Vec<_> = (0..p.gates()).map(|_| r.tile_cell(zero)).collect();
            let first_row = r.mul(part, rows);
            let end = r.add(to, 1);
            r.for_range(from, end, 1, |r, owner| {
                let slot = share.slot(r, owner, t);
                let slot = r.mul(slot, p.gates());
                for (gate, sum) in sums.iter().enumerate() {
                    let slot = r.add(slot, gate as u32);
                    let col = r.int(0);
                    let tile = r.load_tile(&partial, like.clone(), &[slot, first_row, col], &[0, 1], 4);
                    let before = r.get_tile(*sum);
                    let after = r.binary("add", before, tile);
                    r.set_tile(*sum, after);
                }
            });
            let at = raster.at(r, t);
            let (row, col) = (r.mul(at.m, c.bm), r.mul(at.n, c.bn));
            let row = r.add(row, first_row);
            let tiles: Vec<_> = sums.iter().map(|s| r.get_tile(*s)).collect();
            let y = epilogue(r, &tiles, EpilogueAt { batch: at.matrix, weight: at.matrix, row, col });
            let y = r.cast(y, p.output);
            r.store_tile(&d, y, &[at.matrix, row, col], c.n_align.min(4));
        });
    });
    Ok(())
}
