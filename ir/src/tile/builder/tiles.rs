//! Register tiles: accumulators, fragments, element-wise arithmetic. Epilogues are written with these.

use super::role::{CmpPred, RoleBuilder};
use super::{Cell, Scalar, SmemRef, TileRef};
use crate::attr::Attrs;
use crate::dtype::DType;
use crate::layout::{self, Dim, LayoutError};
use crate::tile::table::OpKind;
use crate::tile::types::{RegTile, Ty};

impl RoleBuilder<'_> {
    /// An f32 accumulator of one warpgroup for wgmma, without a value until the first MMA.
    #[track_caller]
    pub fn wgmma_acc(&mut self, shape: [u32; 2]) -> Result<Cell, LayoutError> {
        let layout = layout::wgmma_acc(shape[0], shape[1], 1)?;
        Ok(self.cell(Ty::Reg(RegTile { dtype: DType::F32, shape, layout })))
    }

    /// As [`Self::wgmma_acc`] for operands of a dtype: I32 for I8.
    #[track_caller]
    pub fn wgmma_acc_for(&mut self, operands: DType, shape: [u32; 2]) -> Result<Cell, LayoutError> {
        let layout = layout::wgmma_acc(shape[0], shape[1], 1)?;
        let dtype = if operands == DType::I8 { DType::I32 } else { DType::F32 };
        Ok(self.cell(Ty::Reg(RegTile { dtype, shape, layout })))
    }

    /// A place for register tiles of a type, without a value: an accumulator before its first MMA.
    #[track_caller]
    pub fn tile_place(&mut self, ty: RegTile) -> Cell {
        self.cell(Ty::Reg(ty))
    }

    /// An f32 accumulator spread over `grid[0] x grid[1]` warps for mma.sync, zero.
    #[track_caller]
    pub fn mma_acc(&mut self, shape: [u32; 2], grid: [u32; 2]) -> Result<Cell, LayoutError> {
        self.mma_acc_for(DType::F16, shape, grid)
    }

    /// As [`Self::mma_acc`] for operands of a dtype: I32 for I8, F32 in a layout of its own for F32.
    #[track_caller]
    pub fn mma_acc_for(&mut self, operands: DType, shape: [u32; 2], grid: [u32; 2]) -> Result<Cell, LayoutError> {
        let layout = match operands {
            DType::F32 => layout::mma_acc_words(shape[0], shape[1], grid[0], grid[1])?,
            _ => layout::mma_acc(shape[0], shape[1], grid[0], grid[1])?,
        };
        let dtype = if operands == DType::I8 { DType::I32 } else { DType::F32 };
        let tile = RegTile { dtype, shape, layout };
        let cell = self.cell(Ty::Reg(tile.clone()));
        let zero = if operands == DType::I8 { self.int(0) } else { self.float(0.0) };
        let zero = self.splat(zero, tile);
        self.set_tile(cell, zero);
        Ok(cell)
    }

    /// `acc += a * b` with mma.sync over all fragments. Of F32 operands the tensor cores take the upper 19 bits: round them first
    /// (`unary("tf32", ..)`).
    #[track_caller]
    pub fn mma_sync(&mut self, acc: Cell, a: TileRef, b: TileRef) {
        self.emit(OpKind::MmaSync, &[acc.0, a.0, b.0], &[], Attrs::none());
    }

    /// The A fragment of k step `k` of a `[m, k]` tile, for a grid of warps. A step is 32 bytes: 32 elements of 8 bits, 16
    /// of 16, 8 of 32.
    #[track_caller]
    pub fn load_a(&mut self, tile: SmemRef, k: u32, grid: [u32; 2]) -> Result<TileRef, LayoutError> {
        let s = self.smem_type(tile);
        let (step, layout) = match s.dtype.bytes() {
            1 => (32, layout::mma_a_bytes(s.shape[0], 32, grid[0], grid[1])?),
            4 => (8, layout::mma_a_words(s.shape[0], 8, grid[0], grid[1])?),
            _ => (16, layout::mma_a(s.shape[0], 16, grid[0], grid[1])?),
        };
        Ok(self.load_matrix(tile, "a", k, RegTile { dtype: s.dtype, shape: [s.shape[0], step], layout }))
    }

    /// The B fragment of k step `k`, of a `[n, k]` tile or, transposed, of a `[k, n]` tile. F32 comes by ordinary loads from
    /// `[k, n]` alone: ldmatrix turns 16-bit elements only, and the columns of its fragments lie apart.
    #[track_caller]
    pub fn load_b(&mut self, tile: SmemRef, k: u32, grid: [u32; 2], trans: bool) -> Result<TileRef, LayoutError> {
        let s = self.smem_type(tile);
        let n = if trans { s.shape[1] } else { s.shape[0] };
        if trans && s.dtype == DType::F32 {
            let layout = layout::mma_b_words(n, 8, grid[0], grid[1])?;
            let step = self.rows(tile, 8 * k, 8);
            return Ok(self.load_shared(step, RegTile { dtype: s.dtype, shape: [8, n], layout }));
        }
        let (step, layout) = match s.dtype.bytes() {
            1 => (32, layout::mma_b_bytes(n, 32, grid[0], grid[1])?),
            _ => (16, layout::mma_b(n, 16, grid[0], grid[1])?),
        };
        let operand = if trans { "bt" } else { "b" };
        Ok(self.load_matrix(tile, operand, k, RegTile { dtype: s.dtype, shape: [step, n], layout }))
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

    /// `scalar` everywhere, in the shape and layout of `like`, which has its dtype or, for an f32, a 16-bit one.
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

    /// The type of a column `[rows, 1]` beside tiles of a type.
    pub fn row_vec(&self, like: &RegTile, dtype: DType) -> RegTile {
        vector(like, Dim::Col, [like.shape[0], 1], dtype)
    }

    /// The type of a row `[1, cols]` beside tiles of a type.
    pub fn col_vec(&self, like: &RegTile, dtype: DType) -> RegTile {
        vector(like, Dim::Row, [1, like.shape[1]], dtype)
    }

    /// Each element's row (`axis` 0) or column (1) in the tile, I32.
    #[track_caller]
    pub fn iota(&mut self, axis: usize, like: RegTile) -> TileRef {
        let ty = Ty::Reg(RegTile { dtype: DType::I32, ..like });
        TileRef(self.emit(OpKind::Iota, &[], &[ty], Attrs::none().int("axis", axis as i64))[0])
    }

    /// A column `[rows, 1]`, a row `[1, cols]` or one element repeated to the shape and layout of `like`; `[rows, c]` where c
    /// divides the columns: each column is a run of them, as the scales of groups are.
    #[track_caller]
    pub fn broadcast(&mut self, v: TileRef, like: RegTile) -> TileRef {
        let ty = RegTile { dtype: self.tile_type(v).dtype, ..like };
        if ty == self.tile_type(v) {
            return v;
        }
        TileRef(self.emit(OpKind::Broadcast, &[v.0], &[Ty::Reg(ty)], Attrs::none())[0])
    }

    /// The 32-bit registers of tiles in turn (the first of each, then the second of each) as the registers of a tile of type
    /// `to`: for bits that mean something else from here on. 16-bit elements share registers in pairs, I32 have their own.
    #[track_caller]
    pub fn reinterpret(&mut self, tiles: &[TileRef], to: RegTile) -> TileRef {
        let args: Vec<_> = tiles.iter().map(|t| t.0).collect();
        TileRef(self.emit(OpKind::Reinterpret, &args, &[Ty::Reg(to)], Attrs::none())[0])
    }

    /// Rows and columns exchanged, in the same registers.
    #[track_caller]
    pub fn transpose(&mut self, a: TileRef) -> TileRef {
        let from = self.tile_type(a);
        let ty = RegTile { dtype: from.dtype, shape: [from.shape[1], from.shape[0]], layout: from.layout.transposed() };
        TileRef(self.emit(OpKind::Transpose, &[a.0], &[Ty::Reg(ty)], Attrs::none())[0])
    }

    /// A bitwise function of three I32 tiles in one instruction: `table` is the function of 0xF0, 0xCC and 0xAA, so `a & b | c` is
    /// `0xF0 & 0xCC | 0xAA` (PTX ISA 9.7.8.6, `lop3`).
    #[track_caller]
    pub fn bitwise(&mut self, a: TileRef, b: TileRef, c: TileRef, table: u8) -> TileRef {
        let ty = Ty::Reg(self.tile_type(a));
        TileRef(self.emit(OpKind::Bitwise, &[a.0, b.0, c.0], &[ty], Attrs::none().int("table", i64::from(table)))[0])
    }

    /// Of each pair of I32: four of their eight bytes, the lowest by the lowest nibble of `selector`; 0 to 3 are bytes of `a`,
    /// 4 to 7 of `b` (PTX ISA 9.7.9.7, `prmt`).
    #[track_caller]
    pub fn permute_bytes(&mut self, a: TileRef, b: TileRef, selector: u32) -> TileRef {
        let ty = Ty::Reg(self.tile_type(a));
        let attrs = Attrs::none().int("selector", i64::from(selector));
        TileRef(self.emit(OpKind::PermuteBytes, &[a.0, b.0], &[ty], attrs)[0])
    }

    /// The literal `v` everywhere (I32), in the shape and layout of `like`.
    #[track_caller]
    pub fn splat_int(&mut self, v: i64, like: TileRef) -> TileRef {
        let scalar = self.int(v);
        let like = RegTile { dtype: DType::I32, ..self.tile_type(like) };
        self.splat(scalar, like)
    }

    /// `a * b + c` of each element, one rounding (f32, f16, bf16).
    #[track_caller]
    pub fn fma(&mut self, a: TileRef, b: TileRef, c: TileRef) -> TileRef {
        let ty = Ty::Reg(self.tile_type(a));
        TileRef(self.emit(OpKind::Fma, &[a.0, b.0, c.0], &[ty], Attrs::none())[0])
    }

    /// Where the comparison holds: an I1 tile. Of f32 (false where either is NaN) or i32.
    #[track_caller]
    pub fn compare(&mut self, pred: CmpPred, a: TileRef, b: TileRef) -> TileRef {
        let ty = Ty::Reg(RegTile { dtype: DType::I1, ..self.tile_type(a) });
        TileRef(self.emit(OpKind::CmpTile, &[a.0, b.0], &[ty], Attrs::none().sym("pred", pred.name()))[0])
    }

    /// `a` where `mask` (I1) holds, else `b`.
    #[track_caller]
    pub fn choose(&mut self, mask: TileRef, a: TileRef, b: TileRef) -> TileRef {
        let ty = Ty::Reg(self.tile_type(a));
        TileRef(self.emit(OpKind::Choose, &[mask.0, a.0, b.0], &[ty], Attrs::none())[0])
    }

    /// `max`, `min` or `add` along each row (f32, i32): a column `[rows, 1]`, the same in all lanes of a row. A row must lie in
    /// one warp.
    #[track_caller]
    pub fn reduce(&mut self, f: &str, a: TileRef) -> TileRef {
        self.reduction(OpKind::Reduce, f, a)
    }

    /// As [`Self::reduce`] over each thread's own elements: lanes of a row hold different parts until
    /// [`Self::reduce_lanes`].
    #[track_caller]
    pub fn reduce_thread(&mut self, f: &str, a: TileRef) -> TileRef {
        self.reduction(OpKind::ReduceThread, f, a)
    }

    /// Joins what [`Self::reduce_thread`] left in the lanes of each row.
    #[track_caller]
    pub fn reduce_lanes(&mut self, f: &str, v: TileRef) -> TileRef {
        self.reduction(OpKind::ReduceLanes, f, v)
    }

    #[track_caller]
    fn reduction(&mut self, kind: OpKind, f: &str, a: TileRef) -> TileRef {
        let from = self.tile_type(a);
        let ty = self.row_vec(&from, from.dtype);
        TileRef(self.emit(kind, &[a.0], &[Ty::Reg(ty)], Attrs::none().sym("f", f))[0])
    }

    /// Inclusive prefix sums along an I32 tile `[1, n]` that one warp holds, each lane a run: `blocked(32, [1, n], n / 32)`.
    #[track_caller]
    pub fn scan(&mut self, a: TileRef) -> TileRef {
        let ty = Ty::Reg(self.tile_type(a));
        TileRef(self.emit(OpKind::Scan, &[a.0], &[ty], Attrs::none())[0])
    }

    /// 1 if an element of an I1 tile holds, else 0; for roles of one warp.
    #[track_caller]
    pub fn any(&mut self, mask: TileRef) -> Scalar {
        Scalar(self.emit(OpKind::Any, &[mask.0], &[Ty::I32], Attrs::none())[0])
    }

    /// The number that all threads hold in a tile `[1, 1]`, which [`Self::reduce`] leaves of a row.
    #[track_caller]
    pub fn scalar_of(&mut self, a: TileRef) -> Scalar {
        let ty = Ty::Scalar(self.tile_type(a).dtype);
        Scalar(self.emit(OpKind::ScalarOf, &[a.0], &[ty], Attrs::none())[0])
    }

    /// `neg`, `abs`, `exp2`, `log2`, `rcp` or `tf32` (the nearest number of 10 bits of mantissa, ties away from zero) of each element
    /// (f32), or `not` (i1).
    #[track_caller]
    pub fn unary(&mut self, f: &str, a: TileRef) -> TileRef {
        let ty = Ty::Reg(self.tile_type(a));
        TileRef(self.emit(OpKind::Unary, &[a.0], &[ty], Attrs::none().sym("f", f))[0])
    }

    /// `2^x` of each element (f32), `fma_share` sixteenths of them by a polynomial on the FMA pipe instead of the special
    /// function unit: relative error 9e-5, 0 from 2^-127 down.
    #[track_caller]
    pub fn exp2(&mut self, a: TileRef, fma_share: u32) -> TileRef {
        if fma_share == 0 {
            return self.unary("exp2", a);
        }
        let ty = Ty::Reg(self.tile_type(a));
        TileRef(self.emit(OpKind::Exp2, &[a.0], &[ty], Attrs::none().int("fma_share", i64::from(fma_share)))[0])
    }

    /// Of each pair, same dtype and layout: `add`, `sub`, `mul` (f32, f16, bf16, i32), `min`, `max` (f32, i32), `div`, `rem` of
    /// numbers that are not negative, `mulhi` (the upper half of an unsigned product), `shl`, `shr`, `ushr` (i32), `and`, `or`, `xor`
    /// (i32, i1).
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

    /// Each element as another dtype, to nearest even. To 8-bit floats and I8 what is out of range becomes the largest; a NaN stays
    /// one in a float and gives 0 in I8.
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

/// The type of a vector beside a tile. Layouts that have none are refused where the tile is used.
fn vector(like: &RegTile, gone: Dim, shape: [u32; 2], dtype: DType) -> RegTile {
    let layout = like.layout.collapsed(gone).unwrap_or_else(|_| like.layout.clone());
    RegTile { dtype, shape, layout }
}
