//! The weight-only kernel with mma.sync: few tokens against packed weights, `d^T = W x^T`.
//!
//! Weights are the 16-row A operand of m16n8k16 and tokens the 8 columns, so that 8 tokens fill it. A block lies in memory in
//! the order of A fragments: each lane loads 16 bytes of codes at once, from global memory into registers, and decodes them
//! there. What a warpgroup loads next is under way while it multiplies; a goes through a small ring in shared memory.
//!
//! The warpgroups of a CTA share k: warpgroup w takes blocks w, w + wgs, ... of 128 columns and has accumulators and a ring of
//! its own, so they meet once, at the end, where the first adds up all sums in the order of warpgroups. Further parts of k
//! are other CTAs' (`split`).
//!
//! Where n is so small that blocks of 64 rows are too few for all SMs, a CTA takes half of one: two warps stand on the same 16
//! rows and share the columns of a block. To the tensor cores it is `[32, 2 bm]`: a's second half of columns lies below the
//! first as further tokens, which only the warps multiply that hold those columns of the weight.

use super::block::{CHUNK, COLS, RUN, code_words, scale_words, words};
use super::config::WeightMmaConfig;
use super::decode::Span;
use super::format::Format;
use crate::gemm::epilogue::{EpilogueAt, EpilogueFn};
use crate::gemm::grouped::{TileList, store_some_rows};
use crate::gemm::problem::{GemmProblem, Groups, Packed};
use tilewright_ir::DType;
use tilewright_ir::layout::Dim::{Col, Lane, Reg, Row, Warp};
use tilewright_ir::layout::{Layout, LayoutError, blocked, mma_a, row_group_words};
use tilewright_ir::tile::{
    Cell, CmpPred, Dim, KernelBuilder, ProbeAxis, RegTile, RoleBuilder, Scalar, Staging, TensorRef, TileRef, Unit,
};

/// The barrier at which all warpgroups meet: the last, since eight warpgroups take the first for themselves.
const MEETING: i64 = 7;
/// Threads of a warpgroup.
const THREADS: u32 = 128;
/// Columns of a block.
const BLOCK_K: u32 = COLS as u32;

/// Records the kernel. `epilogue` turns accumulators into the output; partial sums of a split k skip it.
pub fn mma(
    k: &mut KernelBuilder,
    p: &GemmProblem,
    packed: Packed,
    c: &WeightMmaConfig,
    epilogue: &EpilogueFn,
) -> Result<(), LayoutError> {
    let x = Ctx::declare(k, p, packed, c)?;
    let mut result = Ok(());
    k.role("main", 4 * c.wgs, None, Unit::Warpgroup, |r| result = x.main(r, epilogue));
    result
}

struct Ctx<'a> {
    p: &'a GemmProblem,
    c: &'a WeightMmaConfig,
    packed: Packed,
    a: TensorRef,
    weight: TensorRef,
    d: TensorRef,
    ring: Staging,
    /// A copy for each warpgroup, but none for the first where its warps share nothing.
    sums: Vec<Staging>,
    /// What is decoded at once: a chunk.
    chunk: Span,
    lay: Lay,
    /// A warpgroup's sums as vectors of four registers.
    flat: RegTile,
    /// The tiles of a grouped GEMM.
    list: Option<TileList>,
}

/// How a warpgroup stands on a block.
struct Lay {
    /// Warps on rows, and on parts of the columns.
    grid: [u32; 2],
    /// Rows of the weight.
    rows: u32,
    /// Chunks that a warp takes of a block.
    chunks: u32,
    /// Words of a warp's first chunk, from the first word of the rows.
    codes: RegTile,
    /// Words of its scales or zeros.
    factors: RegTile,
    /// The same as if it had a block of its own: I32 `[groups, 32]`.
    own: RegTile,
}

impl Lay {
    fn new(packed: Packed, parts: u32) -> Result<Self, LayoutError> {
        let all = BLOCK_K / Format::of(packed.bits).chunk_k as u32;
        let chunks = all / parts;
        // A group longer than a part serves all parts.
        let groups = (BLOCK_K / packed.group / parts).max(1);
        let further = if packed.group * parts > BLOCK_K { 0 } else { groups };
        let on_rows = 4 / parts;
        let int = |shape, layout| RegTile { dtype: DType::I32, shape, layout };
        let own = int([groups, RUN as u32], row_group_words(groups)?);
        let out = [Row, Col];
        let codes = Layout::from_fn(&[(Reg, 4), (Lane, 32), (Warp, 4)], &out, |i, at| {
            at[0] = i[1] + 32 * (i[2] % on_rows) + THREADS * chunks * (i[2] / on_rows);
            at[1] = i[0];
        })?;
        let factors = Layout::from_fn(&[(Reg, groups), (Lane, 32), (Warp, 4)], &out, |i, at| {
            at[0] = i[0] + further * (i[2] / on_rows);
            at[1] = i[1] / 4 + 8 * (i[2] % on_rows);
        })?;
        let codes = int([THREADS * chunks * (parts - 1) + 32 * on_rows, 4], codes);
        let factors = int([further * (parts - 1) + groups, RUN as u32], factors);
        Ok(Lay { grid: [on_rows, parts], rows: 64 / parts, chunks, codes, factors, own })
    }

    fn parts(&self) -> u32 {
        self.grid[1]
    }
}

/// Which blocks a warpgroup multiplies.
struct Work {
    /// Matrix of a.
    batch: Scalar,
    /// Matrix of weights.
    weight: Scalar,
    /// First row of d.
    row: Scalar,
    /// Rows from the first on that are the tile's; `None` where only the end of the matrix limits them.
    rows: Option<Scalar>,
    /// First block of weight rows of the CTA.
    block_n: Scalar,
    /// Which part of it.
    strip: Scalar,
    /// The warpgroup's first block along k.
    first: Scalar,
    /// The end of the CTA's blocks along k.
    to: Scalar,
}

/// A block of weights on its way: codes by chunk, and factors.
struct Held {
    codes: Vec<Cell>,
    scales: Cell,
    zeros: Option<Cell>,
}

/// Where a warpgroup stands in its ring.
struct Turn {
    /// The stage of this block.
    slot: Cell,
    /// That of the block before.
    before: Cell,
}

/// Which blocks have successors to load.
#[derive(Clone, Copy, PartialEq)]
enum Loads {
    All,
    Some,
    None,
}

impl<'a> Ctx<'a> {
    fn declare(k: &mut KernelBuilder, p: &'a GemmProblem, packed: Packed, c: &'a WeightMmaConfig) -> Result<Self, LayoutError> {
        p.groups.declare(k);
        let [lead, rows] = p.groups.rows();
        let gates = p.gates();
        let fixed = |factor| Dim { param: None, factor };
        let a = k.tensor("a", p.input, [lead.clone(), rows.clone(), Dim::param("k")]);
        let blocks_n = Dim { param: Some("ceil_div(n,64)".into()), factor: gates };
        let dims = [p.groups.matrices(), blocks_n, Dim::param("ceil_div(k,128)"), fixed(words(packed))];
        let weight = k.tensor("packed", DType::I32, dims);
        let d = if c.split {
            // Gate and up of a row lie side by side: columns end at n in each.
            k.tensor("d", DType::F32, [Dim::param("splits*batch"), Dim::param("m"), fixed(gates), Dim::param("n")])
        } else {
            k.tensor("d", p.output, [lead, rows, Dim::param("n")])
        };
        let list = (p.groups != Groups::Batch).then(|| TileList::walked(k, p.groups, c.bm));
        let ring = k.buffer("ring", p.input, [c.bm, BLOCK_K], c.wgs * c.stages);
        let lay = Lay::new(packed, c.parts(p))?;
        // An accumulator of 64 x bm is bm / 2 registers a thread.
        let shape = [THREADS * c.bm / 8, 4];
        let flat = RegTile { dtype: DType::F32, shape, layout: blocked(THREADS, shape, 4)? };
        let (shape, copies) = if lay.parts() > 1 { ([lay.parts() * c.bm, lay.rows], c.wgs) } else { (shape, c.wgs - 1) };
        let places = if copies > 0 { c.row_blocks(p) } else { 0 };
        let sums = (0..places).map(|i| k.scratch(&format!("sums{i}"), DType::F32, shape, copies)).collect();
        let splits = if c.split { "splits*batch" } else { "batch" };
        let columns = format!("ceil_div(n,{})", c.out_cols(p));
        k.grid(match list {
            None => [format!("ceil_div(m,{})", c.bm), columns, splits.into()],
            Some(_) => [p.groups.most_tiles(c.bm), columns, "1".into()],
        });
        k.require("k >= 1");
        if c.split {
            k.shape("splits");
            k.require(format!("splits <= ceil_div(k,{BLOCK_K})"));
        }
        if c.load_align > 1 {
            k.require(format!("k % {} == 0", c.load_align));
        }
        k.min_ctas(c.ctas);
        k.probe("k", BLOCK_K, ProbeAxis::Trips);
        let chunk = Span::new(packed, p.input, Format::of(packed.bits).chunk_k as u32)?;
        Ok(Ctx { p, c, packed, a, weight, d, ring, sums, chunk, lay, flat, list })
    }

    fn main(&self, r: &mut RoleBuilder, epilogue: &EpilogueFn) -> Result<(), LayoutError> {
        let Some(list) = &self.list else { return self.dense(r, epilogue) };
        let (x, y) = (r.cta_id(0), r.cta_id(1));
        let count = list.count(r);
        // There are CTAs for as many tiles as there can be.
        let some = r.cmp(CmpPred::Lt, x, count);
        let mut result = Ok(());
        r.if_then(some, |r| {
            let t = list.entry(r, self.p.groups, x);
            let (block_n, strip) = self.columns(r, y);
            let kdim = r.param("k");
            let to = r.ceil_div(kdim, BLOCK_K);
            let first = r.wg_index();
            let (batch, weight, row, rows) = (t.matrix, t.expert, t.row, Some(t.rows));
            let work = Work { batch, weight, row, rows, block_n, strip, first, to };
            result = self.tile(r, epilogue, &work, t.matrix);
        });
        result
    }

    /// First block of weight rows of CTA `y` of a row of tiles, and which part of it.
    fn columns(&self, r: &mut RoleBuilder, y: Scalar) -> (Scalar, Scalar) {
        let parts = self.lay.parts();
        let block = r.div(y, parts);
        (r.mul(block, self.c.row_blocks(self.p)), r.rem(y, parts))
    }

    fn dense(&self, r: &mut RoleBuilder, epilogue: &EpilogueFn) -> Result<(), LayoutError> {
        let c = self.c;
        let (x, y, z) = (r.cta_id(0), r.cta_id(1), r.cta_id(2));
        let row = r.mul(x, c.bm);
        let (block_n, strip) = self.columns(r, y);
        let kdim = r.param("k");
        let count = r.ceil_div(kdim, BLOCK_K);
        let (batch, from, to) = if c.split {
            // Part s of S takes blocks s*T/S to (s+1)*T/S: never none, since S <= T.
            let (n, splits) = (r.param("batch"), r.param("splits"));
            let part = r.div(z, n);
            let next = r.add(part, 1);
            let [from, to] = [part, next].map(|s| {
                let s = r.mul(s, count);
                r.div(s, splits)
            });
            (r.rem(z, n), from, to)
        } else {
            (z, r.int(0), count)
        };
        let wg = r.wg_index();
        let first = r.add(from, wg);
        let work = Work { batch, weight: batch, row, rows: None, block_n, strip, first, to };
        self.tile(r, epilogue, &work, z)
    }

    /// Multiplies and stores a tile; `z` counts matrices of d and parts of k.
    fn tile(&self, r: &mut RoleBuilder, epilogue: &EpilogueFn, work: &Work, z: Scalar) -> Result<(), LayoutError> {
        let c = self.c;
        let (wg, parts) = (r.wg_index(), self.lay.parts());
        let acc = self.main_loop(r, work, wg)?;
        let is_first = r.cmp(CmpPred::Eq, wg, 0);
        let mut result = Ok(());
        if parts > 1 {
            for (acc, sums) in acc.iter().zip(&self.sums) {
                let tile = r.get_tile(*acc);
                let tile = r.transpose(tile);
                let to = r.staging(sums, wg);
                r.store_shared(to, tile);
            }
            if c.wgs == 1 {
                r.sync()
            } else {
                r.barrier_sync(MEETING, c.wgs * THREADS)
            }
            r.if_then(is_first, |r| {
                let tiles = self.sums.iter().map(|sums| self.add_up_parts(r, sums)).collect::<Result<_, _>>();
                result = tiles.map(|tiles| self.finish(r, epilogue, tiles, z, work));
            });
        } else if c.wgs == 1 {
            let mut turned = |a: &Cell| {
                let tile = r.get_tile(*a);
                r.transpose(tile)
            };
            let tiles = acc.iter().map(&mut turned).collect();
            self.finish(r, epilogue, tiles, z, work);
        } else {
            let is_other = r.cmp(CmpPred::Gt, wg, 0);
            r.if_then(is_other, |r| {
                let copy = r.sub(wg, 1);
                for (acc, sums) in acc.iter().zip(&self.sums) {
                    let tile = r.get_tile(*acc);
                    let tile = r.reinterpret(&[tile], self.flat.clone());
                    let to = r.staging(sums, copy);
                    r.store_shared(to, tile);
                }
            });
            r.barrier_sync(MEETING, c.wgs * THREADS);
            r.if_then(is_first, |r| {
                let tiles = acc.iter().zip(&self.sums).map(|(acc, sums)| self.add_up(r, *acc, sums)).collect();
                self.finish(r, epilogue, tiles, z, work);
            });
        }
        result
    }

    /// The sums `[bm, rows]` of all warpgroups and parts of columns, in their order.
    fn add_up_parts(&self, r: &mut RoleBuilder, sums: &Staging) -> Result<TileRef, LayoutError> {
        let shape = [self.c.bm, self.lay.rows];
        let vec = (shape[0] * shape[1] / THREADS).min(4);
        let like = RegTile { dtype: DType::F32, shape, layout: blocked(THREADS, shape, vec)? };
        let mut sum = None;
        for copy in 0..self.c.wgs {
            let place = r.staging(sums, copy);
            for part in 0..self.lay.parts() {
                let from = r.rows(place, part * self.c.bm, self.c.bm);
                let tile = r.load_shared(from, like.clone());
                sum = Some(sum.map_or(tile, |s| r.binary("add", s, tile)));
            }
        }
        Ok(sum.expect("there is at least one warpgroup"))
    }

    /// The sums of all warpgroups, in their order.
    fn add_up(&self, r: &mut RoleBuilder, acc: Cell, sums: &Staging) -> TileRef {
        let own = r.get_tile(acc);
        let ty = r.tile_type(own);
        let mut sum = r.reinterpret(&[own], self.flat.clone());
        for copy in 0..self.c.wgs - 1 {
            let from = r.staging(sums, copy);
            let part = r.load_shared(from, self.flat.clone());
            sum = r.binary("add", sum, part);
        }
        let sum = r.reinterpret(&[sum], ty);
        r.transpose(sum)
    }

    /// Sums `[bm, rows]` of all row blocks to d.
    fn finish(&self, r: &mut RoleBuilder, epilogue: &EpilogueFn, tiles: Vec<TileRef>, z: Scalar, work: &Work) {
        let gates = self.p.gates();
        let pair = r.div(work.block_n, gates);
        let within = r.mul(work.strip, self.lay.rows);
        for (i, parts) in tiles.chunks(gates as usize).enumerate() {
            let block = r.add(pair, i as u32);
            let col = r.mul(block, 64);
            let col = r.add(col, within);
            if self.c.split {
                parts.iter().zip(0..).for_each(|(t, gate)| self.store_part(r, *t, z, work.row, gate, col));
                continue;
            }
            let at = EpilogueAt { batch: work.batch, weight: work.weight, row: work.row, col };
            let out = epilogue(r, parts, at);
            let out = r.cast(out, self.p.output);
            match work.rows {
                None => r.store_tile(&self.d, out, &[at.batch, at.row, at.col], 1),
                Some(left) => store_some_rows(r, self.p.groups, &self.d, out, at, left, 1),
            }
        }
    }

    /// Partial sums `[bm, rows]` of a gate; `z` counts matrices and parts of k.
    fn store_part(&self, r: &mut RoleBuilder, tile: TileRef, z: Scalar, row: Scalar, gate: u32, col: Scalar) {
        let (m, gates) = (r.param("m"), self.p.gates());
        let like = r.row_vec(&r.tile_type(tile), DType::I32);
        let splat = |r: &mut RoleBuilder, s: Scalar| r.splat(s, like.clone());
        let lane = r.iota(0, like.clone());
        let row = splat(r, row);
        let row = r.binary("add", lane, row);
        let end = splat(r, m);
        let inside = r.compare(CmpPred::Lt, row, end);
        let first = r.mul(z, m);
        let first = splat(r, first);
        let number = r.binary("add", row, first);
        let factor = r.splat_int(i64::from(gates), number);
        let number = r.binary("mul", number, factor);
        let gate = r.splat_int(i64::from(gate), number);
        let number = r.binary("add", number, gate);
        let none = r.splat_int(-1, number);
        let number = r.choose(inside, number, none);
        r.store_rows(&self.d, tile, number, col, 1);
    }

    fn main_loop(&self, r: &mut RoleBuilder, work: &Work, wg: Scalar) -> Result<Vec<Cell>, LayoutError> {
        let c = self.c;
        let shape = [self.lay.rows, self.lay.parts() * c.bm];
        let row_blocks = c.row_blocks(self.p);
        let acc: Result<Vec<Cell>, LayoutError> = (0..row_blocks).map(|_| r.mma_acc(shape, self.lay.grid)).collect();
        let acc = acc?;
        let held: Vec<Vec<Held>> = (0..c.depth)
            .map(|d| {
                let block = r.add(work.first, d * c.wgs);
                (0..row_blocks).map(|i| self.start(r, work, i, block)).collect()
            })
            .collect();
        let ring = r.mul(wg, c.stages);
        for s in 0..c.stages - 1 {
            let block = r.add(work.first, s * c.wgs);
            let copy = r.add(ring, s);
            self.load_a(r, work, block, copy);
        }
        let turn = Turn { slot: r.scalar_cell(0), before: r.scalar_cell(c.stages - 1) };
        let mut result = Ok(());
        let mut blocks = |r: &mut RoleBuilder, block: Scalar, loads: Loads| {
            for (d, held) in held.iter().enumerate() {
                let mut one = |r: &mut RoleBuilder, block| {
                    let done = self.block(r, work, block, ring, &turn, held, &acc, loads);
                    result = std::mem::replace(&mut result, Ok(())).and(done);
                };
                let block = r.add(block, d as u32 * c.wgs);
                if d == 0 || loads == Loads::All {
                    one(r, block);
                } else {
                    let exists = r.cmp(CmpPred::Lt, block, work.to);
                    r.if_then(exists, |r| one(r, block));
                }
            }
        };
        // Blocks whose successors exist, then the last ones: the loop that counts asks nothing of its loads.
        let step = c.depth * c.wgs;
        let end = r.sub(work.to, (2 * c.depth - 1) * c.wgs);
        let next = r.scalar_cell(work.first);
        r.for_range(work.first, end, step, |r, block| {
            blocks(r, block, Loads::All);
            let further = r.add(block, step);
            r.set(next, further);
        });
        let rest = r.get(next);
        if c.depth == 1 {
            let exists = r.cmp(CmpPred::Lt, rest, work.to);
            r.if_then(exists, |r| blocks(r, rest, Loads::None));
        } else {
            r.for_range(rest, work.to, step, |r, block| blocks(r, block, Loads::Some));
        }
        r.copy_wait(0);
        result.map(|()| acc)
    }

    /// Multiplies one block along k, and has the loads of later ones begin.
    fn block(
        &self,
        r: &mut RoleBuilder,
        work: &Work,
        block: Scalar,
        ring: Scalar,
        turn: &Turn,
        held: &[Held],
        acc: &[Cell],
        loads: Loads,
    ) -> Result<(), LayoutError> {
        let c = self.c;
        let (slot, before) = (r.get(turn.slot), r.get(turn.before));
        r.copy_wait(i64::from(c.stages) - 2);
        r.sync();
        // Every warp is past the block before: its stage is the next to fill.
        let ahead = r.add(block, (c.stages - 1) * c.wgs);
        let copy = r.add(ring, before);
        self.load_a(r, work, ahead, copy);
        let copy = r.add(ring, slot);
        let x = r.staging(&self.ring, copy);
        let x = if self.lay.parts() > 1 { r.panels(x) } else { x };
        let next = r.add(block, c.depth * c.wgs);
        let chunk_k = Format::of(self.packed.bits).chunk_k as u32;
        let (grid, rows) = (self.lay.grid, self.lay.rows);
        let operand = |cols| -> Result<RegTile, LayoutError> {
            Ok(RegTile { dtype: self.p.input, shape: [rows, cols], layout: mma_a(rows, cols, grid[0], grid[1])? })
        };
        let (whole, step) = (operand(chunk_k)?, operand(16)?);
        for chunk in 0..self.lay.chunks {
            // A chunk of a is fewer registers than one of decoded weights up to 16 tokens: the smaller waits for the other.
            let ahead = c.bm <= 16;
            let fragment = |r: &mut RoleBuilder, s| r.load_b(x, chunk * chunk_k / 16 + s, grid, false);
            let tokens = (0..if ahead { chunk_k / 16 } else { 0 }).map(|s| fragment(r, s)).collect::<Result<Vec<_>, _>>()?;
            let mut weights = Vec::new();
            for (i, h) in held.iter().enumerate() {
                let w = self.decode(r, h, chunk, chunk_k);
                let w = r.reinterpret(&[w], whole.clone());
                // The registers are free again: what comes next is loaded into them.
                match loads {
                    Loads::All => self.load_chunk(r, work, i as u32, next, h, chunk),
                    Loads::Some => {
                        let exists = r.cmp(CmpPred::Lt, next, work.to);
                        r.if_then(exists, |r| self.load_chunk(r, work, i as u32, next, h, chunk));
                    }
                    Loads::None => {}
                }
                for (b, s) in tokens.iter().zip(0..) {
                    let a = r.part(w, [0, 16 * s], step.clone());
                    r.mma_sync(acc[i], a, *b);
                }
                weights.push(w);
            }
            for s in tokens.len() as u32..chunk_k / 16 {
                let b = fragment(r, s)?;
                for (w, acc) in weights.iter().zip(acc) {
                    let a = r.part(*w, [0, 16 * s], step.clone());
                    r.mma_sync(*acc, a, b);
                }
            }
        }
        let further = r.add(slot, 1);
        let wraps = r.cmp(CmpPred::Eq, further, c.stages);
        let further = r.select(wraps, 0, further);
        r.set(turn.before, slot);
        r.set(turn.slot, further);
        Ok(())
    }

    /// A chunk's weights `[64, chunk_k]`.
    fn decode(&self, r: &mut RoleBuilder, h: &Held, chunk: u32, chunk_k: u32) -> TileRef {
        let factors = |r: &mut RoleBuilder, cell: Cell| {
            let words = r.get_tile(cell);
            // A group longer than a chunk serves several.
            r.part(words, [chunk * chunk_k / self.packed.group, 0], self.chunk.factor_words.clone())
        };
        let scales = factors(r, h.scales);
        let zeros = h.zeros.map(|z| factors(r, z));
        let codes = r.get_tile(h.codes[chunk as usize]);
        self.chunk.decode(r, codes, scales, zeros)
    }

    /// Begins the loads of a warpgroup's first blocks. Where there is none, the last is loaded: it is not used.
    fn start(&self, r: &mut RoleBuilder, work: &Work, row_block: u32, block: Scalar) -> Held {
        let last = r.sub(work.to, 1);
        let block = r.min(block, last);
        let codes = (0..self.lay.chunks).map(|_| r.tile_place(self.chunk.words.clone())).collect();
        let scales = r.tile_place(self.lay.own.clone());
        let zeros = self.packed.zero.then(|| r.tile_place(self.lay.own.clone()));
        let held = Held { codes, scales, zeros };
        (0..self.lay.chunks).for_each(|chunk| self.load_chunk(r, work, row_block, block, &held, chunk));
        held
    }

    /// Begins the load of a chunk of codes, with the last also that of scales and zeros.
    fn load_chunk(&self, r: &mut RoleBuilder, work: &Work, row_block: u32, block: Scalar, h: &Held, chunk: u32) {
        let place = self.place(r, work, row_block, block);
        let lane_words = CHUNK as u32 / 4;
        let at = self.within(r, work, place, lane_words * self.lay.grid[0]);
        let codes = r.load_run(&self.weight, &at, chunk * CHUNK as u32, self.lay.codes.clone());
        let codes = r.reinterpret(&[codes], self.chunk.words.clone());
        r.set_tile(h.codes[chunk as usize], codes);
        if (chunk + 1) as usize == h.codes.len() {
            let at = self.within(r, work, place, RUN as u32 / 4 * self.lay.grid[0]);
            let first = code_words(self.packed);
            let mut factors = |cell: Cell, first: u32| {
                let words = r.load_run(&self.weight, &at, first, self.lay.factors.clone());
                let words = r.reinterpret(&[words], self.lay.own.clone());
                r.set_tile(cell, words);
            };
            factors(h.scales, first);
            if let Some(cell) = h.zeros {
                factors(cell, first + scale_words(self.packed));
            }
        }
    }

    /// The coordinates of a block's first word, or of those `words` that each strip of rows has there.
    fn within(&self, r: &mut RoleBuilder, work: &Work, place: [Scalar; 3], words: u32) -> Vec<Scalar> {
        let mut at = place.to_vec();
        if self.lay.parts() > 1 {
            at.push(r.mul(work.strip, words));
        }
        at
    }

    /// The coordinates of a block. Past the last rows they are those of the last: nothing of it is stored.
    fn place(&self, r: &mut RoleBuilder, work: &Work, row_block: u32, block: Scalar) -> [Scalar; 3] {
        let mut row = r.add(work.block_n, row_block);
        if self.c.row_blocks(self.p) > self.p.gates() {
            let n = r.param("n");
            let rows = r.ceil_div(n, 64);
            let rows = r.mul(rows, self.p.gates());
            let last = r.sub(rows, 1);
            row = r.min(row, last);
        }
        [work.weight, row, block]
    }

    /// Copies a's columns of a block into the ring; zeros past k, and past the CTA's blocks.
    fn load_a(&self, r: &mut RoleBuilder, work: &Work, block: Scalar, copy: Scalar) {
        let mut at = r.mul(block, BLOCK_K);
        if self.c.split {
            let kdim = r.param("k");
            let exists = r.cmp(CmpPred::Lt, block, work.to);
            at = r.select(exists, at, kdim);
        }
        let to = r.staging(&self.ring, copy);
        r.copy_async(&self.a, to, &[work.batch, work.row, at], self.c.load_align);
        r.copy_commit();
    }
}
