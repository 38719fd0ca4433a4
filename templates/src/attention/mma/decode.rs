//! Decode over a paged cache: 1 to 8 new tokens of a sequence against the tokens its row of the page table names.
//!
//! Each row of K and V is gathered by number, so pages may have any size. Lengths are read on the device: a captured
//! launch serves growing sequences. Slots and table entries past the length are never read.

use super::config::MmaAttentionConfig;
use super::core::{Core, Feed, Runs};
use crate::attention::decode_problem::{DecodeProblem, Select};
use crate::attention::operands::Outcome;
use crate::attention::paged::{Paged, Work};
use crate::attention::score::{Mods, ScoreAt, masked};
use crate::attention::softmax::{Softmax, Weights};
use crate::attention::span::Blocks;
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, KernelBuilder, RegTile, RoleBuilder, Scalar, TileRef, Unit};

/// Records the kernel. A class with F32 output writes a result for each of `splits` parts of the tokens, of `split_size`
/// tokens each or, where that is 0, of as many as make them equal; the last takes what is left.
///
/// Page numbers below the lengths must be below `pages`, selected pages below `max_pages`.
///
/// # Errors
/// Tiles that have no fragment layout; [`MmaAttentionConfig::check`] refuses their configs.
pub fn decode(k: &mut KernelBuilder, p: &DecodeProblem, c: &MmaAttentionConfig, mods: &Mods) -> Result<(), LayoutError> {
    let x = Ctx { ops: Paged::declare(k, p, [c.bm, c.bn]), core: Core::declare(k, p.dtype, [p.d, p.dv], c)?, c };
    let mut result = Ok(());
    k.role("main", c.warps, None, Unit::Role, |r| result = x.main(r, mods));
    result
}

struct Ctx<'a> {
    ops: Paged<'a>,
    core: Core<'a>,
    c: &'a MmaAttentionConfig,
}

/// Tokens of a block: I32 tiles, and an I1 tile that says which are there.
struct Tokens {
    /// Position in the sequence.
    token: TileRef,
    /// Index into the sequence's row of the page table.
    entry: TileRef,
    /// Place in the page.
    slot: TileRef,
    exists: TileRef,
}

impl Ctx<'_> {
    fn main(&self, r: &mut RoleBuilder, mods: &Mods) -> Result<(), LayoutError> {
        let ops = &self.ops;
        let work = ops.work(r);
        self.core.load_q(r, &ops.q, |r, ty| ops.rows(r, &work, ty).index);
        let column = r.row_vec(&self.core.scores, DType::I32);
        let rows = ops.rows(r, &work, column.clone());
        let blocks = ops.blocks(r, &work);
        let interval = ops.interval(r, &work, &rows);
        let slopes = ops.scores.slopes(r, &rows.rows);
        let softmax = Softmax::start(r, &RegTile { dtype: DType::F32, ..column });
        let key_rows = |r: &mut RoleBuilder, t: Scalar, ty: RegTile| self.key_rows(r, &work, &blocks, t, ty);
        let weigh = |r: &mut RoleBuilder, t: Scalar, raw: TileRef, masks: bool| -> Weights {
            let like = RegTile { dtype: DType::I32, ..self.core.scores.clone() };
            let line = r.col_vec(&like, DType::I32);
            let (key, run) = if ops.select.is_some() {
                // A column without a key lies behind every query.
                let Tokens { token, exists, .. } = self.tokens(r, &work, &blocks, t, line.clone());
                let none = r.int(i64::from(i32::MAX));
                let none = r.splat(none, line);
                (r.choose(exists, token, none), None)
            } else {
                let start = self.block_start(r, &work, &blocks, t);
                let columns = r.iota(1, line.clone());
                let first = r.splat(start, line);
                (r.binary("add", first, columns), Some((start, columns)))
            };
            let sq = r.param("sq");
            let head = (ops.p.select == Select::Heads).then_some(work.unit);
            let at = ScoreAt { rows: rows.rows, head, key, run, len: [sq, work.kv_len], like };
            let mut scored = ops.scores.apply(r, raw, &at, slopes, mods);
            if masks {
                scored.tile = masked(r, scored.tile, &at, &ops.visibility, interval, None, mods);
            }
            softmax.update(r, scored, 0)
        };
        let feed = Feed { k: &ops.k, v: &ops.v, rows: &key_rows, ahead: true };
        let runs = Runs::of(r, &blocks, &ops.visibility, mods.mask.is_some());
        let out = self.core.run(r, &feed, &runs, &weigh)?;
        let end = Outcome { softmax: &softmax, out, types: [&self.core.scores, &self.core.out] };
        ops.finish(r, &work, &rows, &end, mods);
        Ok(())
    }

    /// The first token of block number `t`.
    fn block_start(&self, r: &mut RoleBuilder, w: &Work, blocks: &Blocks, t: Scalar) -> Scalar {
        let index = blocks.index(r, None, t);
        let first = r.mul(index, self.c.bn);
        r.add(first, w.start)
    }

    /// The tokens of block number `t`; `ty` is a row or a column of it.
    fn tokens(&self, r: &mut RoleBuilder, w: &Work, blocks: &Blocks, t: Scalar, ty: RegTile) -> Tokens {
        let first = self.block_start(r, w, blocks, t);
        let axis = usize::from(ty.shape[0] == 1);
        let index = r.iota(axis, ty.clone());
        let (page, zero) = (r.param("page"), r.int(0));
        let [first, end, page, kv_len, zero] = [first, w.end, page, w.kv_len, zero].map(|v| r.splat(v, ty.clone()));
        let index = r.binary("add", index, first);
        let exists = r.compare(CmpPred::Lt, index, end);
        let (entry, slot) = (r.binary("div", index, page), r.binary("rem", index, page));
        let Some(select) = &self.ops.select else { return Tokens { token: index, entry, slot, exists } };
        let chosen = r.load_elems(select, &[w.batch, w.unit], entry, Some(exists));
        let used = r.compare(CmpPred::Ge, chosen, zero);
        let token = r.binary("mul", chosen, page);
        let token = r.binary("add", token, slot);
        let inside = r.compare(CmpPred::Lt, token, kv_len);
        let exists = r.binary("and", exists, used);
        Tokens { token, entry: chosen, slot, exists: r.binary("and", exists, inside) }
    }

    /// Rows of the cache: `(page_table[batch, entry] * page + slot) * hkv + kv_head`, -1 where there is no token.
    fn key_rows(&self, r: &mut RoleBuilder, w: &Work, blocks: &Blocks, t: Scalar, ty: RegTile) -> TileRef {
        let Tokens { entry, slot, exists, .. } = self.tokens(r, w, blocks, t, ty.clone());
        let (page, hkv, none) = (r.param("page"), r.param("hkv"), r.int(-1));
        let [page, hkv, none, head] = [page, hkv, none, w.kv_head].map(|v| r.splat(v, ty.clone()));
        let number = r.load_elems(&self.ops.table, &[w.batch], entry, Some(exists));
        let row = r.binary("mul", number, page);
        let row = r.binary("add", row, slot);
        let row = r.binary("mul", row, hkv);
        let row = r.binary("add", row, head);
        r.choose(exists, row, none)
    }
}
