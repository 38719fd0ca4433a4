//! Register tiles: accumulators, fragments, element-wise arithmetic. Epilogues are written with these.

use super::role::RoleBuilder;
use super::{Cell, Scalar, SmemRef, TileRef};
use crate::attr::Attrs;
use crate::dtype::DType;
use crate::layout::{self, LayoutError};
use crate::tile::table::OpKind;
use crate::tile::types::{RegTile, Ty};

impl RoleBuilder<'_> {
    /// An f32 accumulator of one warpgroup for wgmma, without a value until the first MMA.
    #[track_caller]
    pub fn wgmma_acc(&mut self, shape: [u32; 2]) -> Result<Cell, LayoutError> {
        let layout = layout::wgmma_acc(shape[0], shape[1], 1)?;
        Ok(self.cell(Ty::Reg(RegTile { dtype: DType::F32, shape, layout })))
    }

    /// A place for register tiles of a type, without a value: an accumulator before its first MMA.
    #[track_caller]
    pub fn tile_place(&mut self, ty: RegTile) -> Cell {
        self.cell(Ty::Reg(ty))
    }

    /// An f32 accumulator spread over `grid[0] x grid[1]` warps for mma.sync, zero.
    #[track_caller]
    pub fn mma_acc(&mut self, shape: [u32; 2], grid: [u32; 2]) -> Result<Cell, LayoutError> {
        let layout = layout::mma_acc(shape[0], shape[1], grid[0], grid[1])?;
        let tile = RegTile { dtype: DType::F32, shape, layout };
        let cell = self.cell(Ty::Reg(tile.clone()));
        let zero = self.float(0.0);
        let zero = self.splat(zero, tile);
        self.set_tile(cell, zero);
        Ok(cell)
    }

    /// `acc += a * b` with mma.sync over all fragments.
    #[track_caller]
    pub fn mma_sync(&mut self, acc: Cell, a: TileRef, b: TileRef) {
        self.emit(OpKind::MmaSync, &[acc.0, a.0, b.0], &[], Attrs::none());
    }

    /// The A fragment of k16 step `k` of a `[m, k]` tile, for a grid of warps.
    #[track_caller]
    pub fn load_a(&mut self, tile: SmemRef, k: u32, grid: [u32; 2]) -> Result<TileRef, LayoutError> {
        let s = self.smem_type(tile);
        let layout = layout::mma_a(s.shape[0], 16, grid[0], grid[1])?;
        Ok(self.load_matrix(tile, "a", k, RegTile { dtype: s.dtype, shape: [s.shape[0], 16], layout }))
    }

    /// The B fragment of k16 step `k`, of a `[n, k]` tile or, transposed, of a `[k, n]` tile.
    #[track_caller]
    pub fn load_b(&mut self, tile: SmemRef, k: u32, grid: [u32; 2], trans: bool) -> Result<TileRef, LayoutError> {
        let s = self.smem_type(tile);
        let n = if trans { s.shape[1] } else { s.shape[0] };
        let layout = layout::mma_b(n, 16, grid[0], grid[1])?;
        let operand = if trans { "bt" } else { "b" };
        Ok(self.load_matrix(tile, operand, k, RegTile { dtype: s.dtype, shape: [16, n], layout }))
    }

    #[track_caller]
    fn load_matrix(&mut self, tile: SmemRef, operand: &str, k: u32, ty: RegTile) -> TileRef {
        let attrs = Attrs::none().sym("operand", operand).int("k", i64::from(k));
        TileRef(self.emit(OpKind::LdMatrix, &[tile.0], &[Ty::Reg(ty)], attrs)[0])
    }

    /// The type of a register tile.
    pub fn tile_type(&self, t: TileRef) -> RegTile {
        match self.ty(t.0) {
            Ty::Reg(t) => t.clone(),
            other => unreachable!("a TileRef is a register tile, not {other}"),
        }
    }

    /// `scalar` everywhere, in the shape and layout of `like`.
    #[track_caller]
    pub fn splat(&mut self, scalar: Scalar, like: RegTile) -> TileRef {
        TileRef(self.emit(OpKind::Splat, &[scalar.0], &[Ty::Reg(like)], Attrs::none())[0])
    }

    /// The literal `v` everywhere, in the shape and layout of `like`.
    #[track_caller]
    pub fn splat_f32(&mut self, v: f32, like: TileRef) -> TileRef {
        let scalar = self.float(v);
        let like = RegTile { dtype: DType::F32, ..self.tile_type(like) };
        self.splat(scalar, like)
    }

    /// `neg`, `exp2` or `rcp` of each element (f32).
    #[track_caller]
    pub fn unary(&mut self, f: &str, a: TileRef) -> TileRef {
        let ty = Ty::Reg(self.tile_type(a));
        TileRef(self.emit(OpKind::Unary, &[a.0], &[ty], Attrs::none().sym("f", f))[0])
    }

    /// `2^x` of each element (f32), `fma_share` sixteenths of them by a polynomial on the FMA pipe instead of the special
    /// function unit: relative error 8e-5, for exponents from -126.
    #[track_caller]
    pub fn exp2(&mut self, a: TileRef, fma_share: u32) -> TileRef {
        let ty = Ty::Reg(self.tile_type(a));
        let attrs = Attrs::none().sym("f", "exp2");
        let attrs = if fma_share == 0 { attrs } else { attrs.int("fma_share", i64::from(fma_share)) };
        TileRef(self.emit(OpKind::Unary, &[a.0], &[ty], attrs)[0])
    }

    /// `add`, `sub`, `mul`, `min` or `max` of each pair (f32, same layout).
    #[track_caller]
    pub fn binary(&mut self, f: &str, a: TileRef, b: TileRef) -> TileRef {
        let ty = Ty::Reg(self.tile_type(a));
        TileRef(self.emit(OpKind::Binary, &[a.0, b.0], &[ty], Attrs::none().sym("f", f))[0])
    }

    /// Each element times a number.
    #[track_caller]
    pub fn scale(&mut self, a: TileRef, by: Scalar) -> TileRef {
        let by = self.splat(by, self.tile_type(a));
        self.binary("mul", a, by)
    }

    /// Each element as another dtype, to nearest even.
    #[track_caller]
    pub fn cast(&mut self, a: TileRef, dtype: DType) -> TileRef {
        let from = self.tile_type(a);
        if from.dtype == dtype {
            return a;
        }
        TileRef(self.emit(OpKind::Cast, &[a.0], &[Ty::Reg(RegTile { dtype, ..from })], Attrs::none())[0])
    }

    /// Part of an accumulator of one warpgroup: `shape` at `[row, col]`, whole 64-row and 8-column fragments.
    #[track_caller]
    pub fn slice(&mut self, a: TileRef, at: [u32; 2], shape: [u32; 2]) -> Result<TileRef, LayoutError> {
        let from = self.tile_type(a);
        if at == [0, 0] && shape == from.shape {
            return Ok(a);
        }
        let layout = layout::wgmma_acc(shape[0], shape[1], 1)?;
        Ok(self.part(a, at, RegTile { dtype: from.dtype, shape, layout }))
    }

    /// Part of a tile, with the layout given; the verifier checks that registers line up.
    #[track_caller]
    pub fn part(&mut self, a: TileRef, at: [u32; 2], to: RegTile) -> TileRef {
        let attrs = Attrs::none().int("row", i64::from(at[0])).int("col", i64::from(at[1]));
        TileRef(self.emit(OpKind::Slice, &[a.0], &[Ty::Reg(to)], attrs)[0])
    }
}
