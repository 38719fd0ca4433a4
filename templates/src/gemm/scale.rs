//! The scale rule of 8-bit operands: which factors meet which sums, and where.
//!
//! Factors of a tensor, of rows of a and of columns of d wait for the epilogue ([`EpilogueScales`]). Factors of blocks change
//! along k: the sums of each 128 are multiplied by theirs before they are added to the others ([`BlockScales`]).
//!
//! | scale | `a_scale` | `b_scale` |
//! |---|---|---|
//! | tensor | `[1]` | `[1]` |
//! | row | `[batch, m, 1]` | `[batch, wide]`, wide = n, 2n for swiglu |
//! | block | `[batch, m, ceil(k/128)]` | `[batch, ceil(wide/128), ceil(k/128)]` |
//!
//! With groups the leading extents are those of a and b.

use super::epilogue::EpilogueAt;
use super::problem::{GemmProblem, Scale};
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, wgmma_acc};
use tilewright_ir::tile::{Cell, CmpPred, Dim, KernelBuilder, RegTile, RoleBuilder, Scalar, TensorRef, TileRef};

/// Elements along k, and columns of b, that share a factor of a block.
pub const BLOCK: u32 = 128;

/// Factors of the epilogue.
#[derive(Clone, Debug)]
pub(super) struct EpilogueScales {
    a: Option<(TensorRef, Scale)>,
    b: Option<(TensorRef, Scale)>,
}

impl EpilogueScales {
    /// Declares the factors of tensors, rows and columns that the class has.
    pub fn declare(k: &mut KernelBuilder, p: &GemmProblem) -> Self {
        let one = || Dim { param: None, factor: 1 };
        let [lead, rows] = p.groups.rows();
        let wide = Dim { param: Some("n".into()), factor: p.gates() };
        let mut tensor = |name: &str, scale, row: Vec<Dim>| match scale {
            Scale::None | Scale::Block => None,
            Scale::Tensor => Some((k.tensor(name, DType::F32, [one()]), scale)),
            Scale::Row => Some((k.tensor(name, DType::F32, row), scale)),
        };
        let a = tensor("a_scale", p.a_scale, vec![lead, rows, one()]);
        let b = tensor("b_scale", p.b_scale, vec![p.groups.matrices(), wide]);
        EpilogueScales { a, b }
    }

    /// `alpha * sums`, times the factors, in f32. `gate` is 1 for the second half of swiglu's columns.
    pub fn apply(&self, r: &mut RoleBuilder, sums: TileRef, gate: usize, at: EpilogueAt, alpha: Scalar) -> TileRef {
        let sums = r.cast(sums, DType::F32);
        let like = r.tile_type(sums);
        let mut y = match &self.a {
            Some((scale, Scale::Row)) => {
                let zero = r.int(0);
                let column = r.row_vec(&like, DType::F32);
                let factor = r.load_tile(scale, column, &[at.batch, at.row, zero], &[0, 1], 1);
                let factor = r.scale(factor, alpha);
                let factor = r.broadcast(factor, like.clone());
                r.binary("mul", sums, factor)
            }
            Some((scale, _)) => {
                let factor = tensor_factor(r, scale);
                let both = r.splat(factor, like.clone());
                let x = r.scale(sums, alpha);
                r.binary("mul", x, both)
            }
            None => r.scale(sums, alpha),
        };
        match &self.b {
            Some((scale, Scale::Row)) => {
                let n = r.param("n");
                let col = if gate == 0 { at.col } else { r.add(at.col, n) };
                let row = r.col_vec(&like, DType::F32);
                let factor = r.load_tile(scale, row, &[at.weight, col], &[0, 1], 1);
                let factor = r.broadcast(factor, like);
                y = r.binary("mul", y, factor);
            }
            Some((scale, _)) => {
                let factor = tensor_factor(r, scale);
                y = r.scale(y, factor);
            }
            None => {}
        }
        y
    }
}

fn tensor_factor(r: &mut RoleBuilder, scale: &TensorRef) -> Scalar {
    let zero = r.int(0);
    r.load_scalar(scale, &[zero])
}

/// Factors of blocks, of a kernel of warpgroups.
#[derive(Clone, Debug)]
pub(super) struct BlockScales {
    a: Option<TensorRef>,
    b: Option<TensorRef>,
}

/// A warpgroup's part of a tile: matrices of a and b, first row, first column of each gate, columns.
#[derive(Clone, Debug)]
pub(super) struct BlockAt {
    pub a: Scalar,
    pub b: Scalar,
    pub row: Scalar,
    pub cols: Vec<Scalar>,
    /// Rows and columns.
    pub shape: [u32; 2],
}

/// The factors of one stage, held while its products are under way.
pub(super) struct StageFactors {
    /// For each row of a.
    a: Option<Cell>,
    /// For each gate, the factor of its block of columns and of the next one.
    b: Vec<[Cell; 2]>,
}

impl BlockScales {
    /// Declares the factors of blocks that the class has.
    pub fn declare(k: &mut KernelBuilder, p: &GemmProblem) -> Self {
        let [lead, rows] = p.groups.rows();
        let blocks_k = || Dim::param(&format!("ceil_div(k,{BLOCK})"));
        let wide = if p.gates() == 2 { "2*n" } else { "n" };
        let blocks_n = Dim::param(&format!("ceil_div({wide},{BLOCK})"));
        let a = (p.a_scale == Scale::Block).then(|| k.tensor("a_scale", DType::F32, [lead, rows, blocks_k()]));
        let dims = [p.groups.matrices(), blocks_n, blocks_k()];
        let b = (p.b_scale == Scale::Block).then(|| k.tensor("b_scale", DType::F32, dims));
        BlockScales { a, b }
    }

    /// Loads the factors of stage `kt`: what [`Self::fetch`] then replaces.
    pub fn first(&self, r: &mut RoleBuilder, at: &BlockAt, kt: Scalar) -> Result<StageFactors, LayoutError> {
        let a = match &self.a {
            None => None,
            Some(scale) => {
                let tile = self.load_a(r, scale, at, kt)?;
                Some(r.tile_cell(tile))
            }
        };
        let b = self.load_b(r, at, kt).into_iter().map(|pair| pair.map(|s| r.scalar_cell(s))).collect();
        Ok(StageFactors { a, b })
    }

    /// Loads the factors of stage `kt`. They are put in place by [`StageFactors::set`].
    pub fn fetch(&self, r: &mut RoleBuilder, at: &BlockAt, kt: Scalar) -> Result<Fetched, LayoutError> {
        let a = self.a.as_ref().map(|scale| self.load_a(r, scale, at, kt)).transpose()?;
        Ok(Fetched { a, b: self.load_b(r, at, kt) })
    }

    fn load_a(&self, r: &mut RoleBuilder, scale: &TensorRef, at: &BlockAt, kt: Scalar) -> Result<TileRef, LayoutError> {
        let like = RegTile { dtype: DType::F32, shape: at.shape, layout: wgmma_acc(at.shape[0], at.shape[1], 1)? };
        let column = r.row_vec(&like, DType::F32);
        Ok(r.load_tile(scale, column, &[at.a, at.row, kt], &[0, 1], 1))
    }

    /// A tile of the first gate lies in one block of columns. The second gate's columns start anywhere: they may lie in two.
    fn load_b(&self, r: &mut RoleBuilder, at: &BlockAt, kt: Scalar) -> Vec<[Scalar; 2]> {
        let Some(scale) = &self.b else { return Vec::new() };
        let (n, k) = (r.param("n"), r.param("k"));
        let wide = r.mul(n, at.cols.len() as u32);
        let (blocks, stages) = (r.ceil_div(wide, BLOCK), r.ceil_div(k, BLOCK));
        // Tiles may lie past n and the stage after the last past k: such factors meet nothing, but must be there.
        let (last, last_k) = (r.sub(blocks, 1), r.sub(stages, 1));
        let kt = r.min(kt, last_k);
        let gates = at.cols.iter().enumerate();
        gates
            .map(|(gate, col)| {
                let block = r.div(*col, BLOCK);
                let block = r.min(block, last);
                let factor = r.load_scalar(scale, &[at.b, block, kt]);
                if gate == 0 {
                    return [factor, factor];
                }
                let next = r.add(block, 1);
                let next = r.min(next, last);
                [factor, r.load_scalar(scale, &[at.b, next, kt])]
            })
            .collect()
    }

    /// `total + sums * factors` for one gate.
    pub fn add(
        &self,
        r: &mut RoleBuilder,
        factors: &StageFactors,
        at: &BlockAt,
        gate: usize,
        sums: TileRef,
        total: TileRef,
    ) -> TileRef {
        let sums = r.cast(sums, DType::F32);
        let like = r.tile_type(sums);
        let a = factors.a.map(|cell| r.get_tile(cell));
        let b = factors.b.get(gate).map(|pair| pair.map(|cell| r.get(cell)));
        let column = match (a, b) {
            (None, None) => return r.binary("add", total, sums),
            // One factor for all columns of the tile: with those of the rows a column of factors.
            (Some(a), Some([b, _])) if gate == 0 => r.scale(a, b),
            (None, Some([b, _])) if gate == 0 => {
                let factor = r.splat(b, like);
                return r.fma(sums, factor, total);
            }
            (Some(a), None) => a,
            (a, Some(pair)) => {
                let factor = self.column_factors(r, at, gate, &like, pair);
                let factor = r.broadcast(factor, like.clone());
                let x = r.binary("mul", sums, factor);
                let Some(a) = a else { return r.binary("add", total, x) };
                let a = r.broadcast(a, like);
                return r.fma(x, a, total);
            }
        };
        let factor = r.broadcast(column, like);
        r.fma(sums, factor, total)
    }

    /// `[1, cols]`: the factor of each column, the second where the next block of columns has begun.
    fn column_factors(&self, r: &mut RoleBuilder, at: &BlockAt, gate: usize, like: &RegTile, pair: [Scalar; 2]) -> TileRef {
        let (ints, floats) = (r.col_vec(like, DType::I32), r.col_vec(like, DType::F32));
        let [low, high] = pair.map(|s| r.splat(s, floats.clone()));
        let first = at.cols[gate];
        let in_block = r.rem(first, BLOCK);
        let left = r.sub(BLOCK, in_block);
        let left = r.splat(left, ints.clone());
        let col = r.iota(1, ints);
        let below = r.compare(CmpPred::Lt, col, left);
        r.choose(below, low, high)
    }
}

/// Factors on their way.
pub(super) struct Fetched {
    a: Option<TileRef>,
    b: Vec<[Scalar; 2]>,
}

impl StageFactors {
    /// Replaces the factors by others.
    pub fn set(&self, r: &mut RoleBuilder, fetched: &Fetched) {
        if let (Some(cell), Some(tile)) = (self.a, fetched.a) {
            r.set_tile(cell, tile);
        }
        for (cells, values) in self.b.iter().zip(&fetched.b) {
            for (cell, value) in cells.iter().zip(values) {
                r.set(*cell, *value);
            }
        }
    }
}
