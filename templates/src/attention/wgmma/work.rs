//! Resources of the Hopper kernel: which CTA computes which tile of queries, and what it loads.

use crate::attention::config::WgmmaAttentionConfig;
use crate::attention::operands::{Operands, Tile};
use crate::attention::problem::AttentionProblem;
use crate::attention::score::Mods;
use crate::attention::span::Blocks;
use tilewright_ir::tile::{KernelBuilder, Operand, Pipe, ProbeAxis, RoleBuilder, Scalar, TensorRef};

/// Keys and values that heads walked together may hold in the L2 cache, bytes: half of an H100's.
const L2_BYTES: i64 = 24 << 20;

/// The kernel's resources.
pub(super) struct Ctx<'a> {
    pub ops: Operands<'a>,
    pub c: &'a WgmmaAttentionConfig,
    pub q_pipe: Pipe,
    pub k_pipe: Pipe,
    pub v_pipe: Pipe,
}

impl<'a> Ctx<'a> {
    /// Declares tensors, pipes and grid.
    pub fn declare(k: &mut KernelBuilder, p: &'a AttentionProblem, c: &'a WgmmaAttentionConfig, mods: &Mods) -> Self {
        let ops = Operands::declare(k, p, [c.bm, c.bn], mods);
        let q_pipe = k.pipe("q", 1, &[(p.dtype, [c.bm, p.d], 1)]);
        let k_pipe = k.pipe("k", c.stages, &[(p.dtype, [c.bn, p.d], 1)]);
        let v_pipe = k.pipe("v", c.stages, &[(p.dtype, [c.bn, p.dv], 1)]);
        let tiles = format!("ceil_div(sq,{})", c.bm);
        k.grid(if c.persistent {
            [format!("min({tiles}*hq*batch,sms)"), "1".into(), "1".into()]
        } else {
            [tiles, "hq".into(), "batch".into()]
        });
        if c.persistent {
            k.probe("sq", c.bm, ProbeAxis::Tiles);
        }
        Ctx { ops, c, q_pipe, k_pipe, v_pipe }
    }

    /// Runs `body` for every tile of this CTA: the one its place in the grid names, or in a persistent kernel those that
    /// [`Self::walk`] gives.
    pub fn each_tile(&self, r: &mut RoleBuilder, body: impl FnOnce(&mut RoleBuilder, &Self, &Tile)) {
        if self.c.persistent {
            return self.walk(r, body);
        }
        let tile = self.ops.tile_of_cta(r);
        body(r, self, &tile);
    }

    /// Tiles `cta`, `cta + ctas`, ... in an order that makes the time even and the cache useful: heads are walked in groups
    /// whose keys and values fit the L2 cache; in a group all heads' last tiles come first when the mask is causal, since
    /// those have the most keys.
    fn walk(&self, r: &mut RoleBuilder, body: impl FnOnce(&mut RoleBuilder, &Self, &Tile)) {
        let (batch, sq, sk, hq, hkv) = (r.param("batch"), r.param("sq"), r.param("sk"), r.param("hq"), r.param("hkv"));
        let per_head = r.ceil_div(sq, self.c.bm);
        let heads = r.mul(hq, batch);
        let tiles = r.mul(heads, per_head);
        let token = i64::from((self.ops.p.d + self.ops.p.dv) * self.ops.p.dtype.bytes());
        let kv_bytes = r.mul(sk, token);
        let kv_bytes = r.max(kv_bytes, 1);
        let l2 = r.int(L2_BYTES);
        let kv_heads = r.div(l2, kv_bytes);
        let kv_heads = r.max(kv_heads, 1);
        let kv_heads_all = r.mul(hkv, batch);
        let kv_heads = r.min(kv_heads, kv_heads_all);
        let group = r.div(hq, hkv);
        let together = r.mul(kv_heads, group);
        let (cta, step) = (r.cta_id(0), r.n_ctas());
        r.for_range(cta, tiles, step, |r, t| {
            let [together, per_head, hq, group] = [together, per_head, hq, group].map(|s| r.uniform(s));
            let section_tiles = r.mul(together, per_head);
            let section = r.div(t, section_tiles);
            let inside = r.rem(t, section_tiles);
            let first = r.mul(section, together);
            let left = r.sub(heads, first);
            let here = r.min(left, together);
            let (row, column) = (r.div(inside, here), r.rem(inside, here));
            let head = r.add(first, column);
            let (batch, head) = (r.div(head, hq), r.rem(head, hq));
            let tile = self.ops.tile(r, batch, head, group, row, per_head);
            body(r, self, &tile);
        });
    }

    pub fn load_q(&self, r: &mut RoleBuilder, tile: &Tile) {
        let s = r.acquire(&self.q_pipe);
        self.load_rows(r, &self.ops.q, tile, 0, tile.first, tile.head, &self.q_pipe, s);
        r.commit(&self.q_pipe, s);
    }

    pub fn load_k(&self, r: &mut RoleBuilder, tile: &Tile, blocks: &Blocks, t: impl Into<Operand>) {
        self.load_block(r, tile, blocks, t, &self.ops.k, &self.k_pipe);
    }

    pub fn load_v(&self, r: &mut RoleBuilder, tile: &Tile, blocks: &Blocks, t: impl Into<Operand>) {
        self.load_block(r, tile, blocks, t, &self.ops.v, &self.v_pipe);
    }

    fn load_block(
        &self,
        r: &mut RoleBuilder,
        tile: &Tile,
        blocks: &Blocks,
        t: impl Into<Operand>,
        from: &TensorRef,
        pipe: &Pipe,
    ) {
        let block = blocks.index(r, self.ops.lists.as_ref(), t);
        let first = r.mul(block, self.c.bn);
        let s = r.acquire(pipe);
        self.load_rows(r, from, tile, 1, first, tile.kv_head, pipe, s);
        r.commit(pipe, s);
    }

    /// One box: rows of one head. `side` 0 counts queries, 1 keys.
    fn load_rows(
        &self,
        r: &mut RoleBuilder,
        from: &TensorRef,
        tile: &Tile,
        side: usize,
        row: Scalar,
        head: Scalar,
        pipe: &Pipe,
        s: Scalar,
    ) {
        let zero = r.int(0);
        let slot = r.slot(pipe, s, 0);
        if self.ops.p.varlen {
            let row = r.add(row, tile.start[side]);
            r.tma_load_rows(from, &[row, head, zero], 0, pipe, s, 0, slot);
        } else {
            r.tma_load_rows(from, &[tile.batch, row, head, zero], 1, pipe, s, 0, slot);
        }
    }
}
