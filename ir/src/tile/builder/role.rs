//! Scalars, structure and cells of a role.

use super::{Cell, Operand, Scalar, TileRef, here, scalar_ty};
use crate::attr::Attrs;
use crate::dtype::DType;
use crate::tile::kernel::{Kernel, Op, Region, Unit, Value};
use crate::tile::table::OpKind;
use crate::tile::types::Ty;
use std::panic::Location;

/// A signed comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmpPred {
    /// Equal.
    Eq,
    /// Different.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
}

impl CmpPred {
    /// The name in the text form.
    pub fn name(self) -> &'static str {
        ["eq", "ne", "lt", "le", "gt", "ge"][self as usize]
    }
}

/// Records one role's code.
pub struct RoleBuilder<'k> {
    pub(super) kernel: &'k mut Kernel,
    warps: u32,
    unit: Unit,
    lists: Vec<Vec<Op>>,
}

impl<'k> RoleBuilder<'k> {
    pub(super) fn new(kernel: &'k mut Kernel, warps: u32, unit: Unit) -> Self {
        RoleBuilder { kernel, warps, unit, lists: vec![Vec::new()] }
    }

    pub(super) fn finish(mut self) -> Vec<Op> {
        self.lists.pop().unwrap_or_default()
    }

    /// Threads that execute the code together.
    pub fn unit_threads(&self) -> u32 {
        match self.unit {
            Unit::Thread => 1,
            Unit::Warpgroup => 128,
            Unit::Role => self.warps * 32,
        }
    }

    /// The type of a value.
    pub fn ty(&self, v: Value) -> &Ty {
        self.kernel.ty(v)
    }

    #[track_caller]
    pub(super) fn emit(&mut self, kind: OpKind, args: &[Value], outs: &[Ty], attrs: Attrs) -> Vec<Value> {
        let loc = here(self.kernel, Location::caller());
        let outs: Vec<Value> = outs.iter().map(|t| self.kernel.new_value(t.clone())).collect();
        let op = Op { kind, args: args.to_vec(), outs: outs.clone(), attrs, regions: Vec::new(), loc };
        self.lists.last_mut().expect("a role always has an open list").push(op);
        outs
    }

    #[track_caller]
    pub(super) fn int_op(&mut self, kind: OpKind, args: &[Value], attrs: Attrs) -> Scalar {
        Scalar(self.emit(kind, args, &[Ty::I32], attrs)[0])
    }

    #[track_caller]
    pub(super) fn value(&mut self, v: impl Into<Operand>) -> Value {
        match v.into() {
            Operand::Value(s) => s.0,
            Operand::Literal(n) => self.int_op(OpKind::Const, &[], Attrs::none().int("value", n)).0,
        }
    }

    #[track_caller]
    fn two(&mut self, kind: OpKind, a: impl Into<Operand>, b: impl Into<Operand>) -> Scalar {
        let args = [self.value(a), self.value(b)];
        self.int_op(kind, &args, Attrs::none())
    }

    /// A literal.
    #[track_caller]
    pub fn int(&mut self, v: i64) -> Scalar {
        Scalar(self.value(v))
    }

    /// An `f32` literal.
    #[track_caller]
    pub fn float(&mut self, v: f32) -> Scalar {
        let attrs = Attrs::none().int("value", i64::from(v.to_bits()));
        Scalar(self.emit(OpKind::Const, &[], &[Ty::F32], attrs)[0])
    }

    /// A truth value.
    #[track_caller]
    pub fn bool(&mut self, v: bool) -> Scalar {
        let attrs = Attrs::none().int("value", i64::from(v));
        Scalar(self.emit(OpKind::Const, &[], &[Ty::I1], attrs)[0])
    }

    /// A scalar parameter.
    #[track_caller]
    pub fn param(&mut self, name: &str) -> Scalar {
        let dtype = self.kernel.scalars.iter().find(|s| s.name == name).map_or(DType::I32, |s| s.dtype);
        Scalar(self.emit(OpKind::Param, &[], &[scalar_ty(dtype)], Attrs::none().sym("name", name))[0])
    }

    /// The CTA's index along an axis (0 = x).
    #[track_caller]
    pub fn cta_id(&mut self, axis: i64) -> Scalar {
        self.int_op(OpKind::CtaId, &[], Attrs::none().int("axis", axis))
    }

    /// CTAs of the grid along x.
    #[track_caller]
    pub fn n_ctas(&mut self) -> Scalar {
        self.int_op(OpKind::NCtas, &[], Attrs::none())
    }

    /// The CTA's rank in its cluster.
    #[track_caller]
    pub fn cluster_rank(&mut self) -> Scalar {
        self.int_op(OpKind::ClusterRank, &[], Attrs::none())
    }

    /// The warpgroup's index in its role.
    #[track_caller]
    pub fn wg_index(&mut self) -> Scalar {
        self.int_op(OpKind::WgIndex, &[], Attrs::none())
    }

    /// `a + b`.
    #[track_caller]
    pub fn add(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> Scalar {
        self.two(OpKind::Add, a, b)
    }

    /// `a - b`.
    #[track_caller]
    pub fn sub(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> Scalar {
        self.two(OpKind::Sub, a, b)
    }

    /// `a * b`.
    #[track_caller]
    pub fn mul(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> Scalar {
        self.two(OpKind::Mul, a, b)
    }

    /// `a / b` of numbers that are not negative.
    #[track_caller]
    pub fn div(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> Scalar {
        self.two(OpKind::Div, a, b)
    }

    /// `a % b` of numbers that are not negative.
    #[track_caller]
    pub fn rem(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> Scalar {
        self.two(OpKind::Rem, a, b)
    }

    /// The smaller.
    #[track_caller]
    pub fn min(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> Scalar {
        self.two(OpKind::Min, a, b)
    }

    /// The larger.
    #[track_caller]
    pub fn max(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> Scalar {
        self.two(OpKind::Max, a, b)
    }

    /// `ceil(a / b)`.
    #[track_caller]
    pub fn ceil_div(&mut self, a: impl Into<Operand>, b: u32) -> Scalar {
        let up = self.add(a, b - 1);
        self.div(up, b)
    }

    /// The same number, broadcast in each warp. What is computed from it stays where it is: a loop over tiles otherwise
    /// holds, for every division by a size, what ptxas can prepare of it outside the loop, at two registers a division.
    #[track_caller]
    pub fn uniform(&mut self, a: impl Into<Operand>) -> Scalar {
        let a = self.value(a);
        self.int_op(OpKind::Uniform, &[a], Attrs::none())
    }

    /// A comparison; the result is a truth value.
    #[track_caller]
    pub fn cmp(&mut self, pred: CmpPred, a: impl Into<Operand>, b: impl Into<Operand>) -> Scalar {
        let args = [self.value(a), self.value(b)];
        Scalar(self.emit(OpKind::Cmp, &args, &[Ty::I1], Attrs::none().sym("pred", pred.name()))[0])
    }

    /// `a` if `cond` holds, else `b`.
    #[track_caller]
    pub fn select(&mut self, cond: Scalar, a: impl Into<Operand>, b: impl Into<Operand>) -> Scalar {
        let args = [cond.0, self.value(a), self.value(b)];
        self.int_op(OpKind::Select, &args, Attrs::none())
    }

    /// A counted loop: `body` runs for `from`, `from + step`, ... below `to`. It is not unrolled: templates unroll on
    /// the host, where a loop's length is known.
    #[track_caller]
    pub fn for_range(
        &mut self,
        from: impl Into<Operand>,
        to: impl Into<Operand>,
        step: impl Into<Operand>,
        body: impl FnOnce(&mut Self, Scalar),
    ) {
        let args = [self.value(from), self.value(to), self.value(step)];
        let index = self.kernel.new_value(Ty::I32);
        let attrs = Attrs::none().int("unroll", 0);
        self.nested(OpKind::For, &args, attrs, vec![index], |r| body(r, Scalar(index)));
    }

    /// `body` runs if `cond` holds.
    #[track_caller]
    pub fn if_then(&mut self, cond: Scalar, body: impl FnOnce(&mut Self)) {
        self.nested(OpKind::If, &[cond.0], Attrs::none(), Vec::new(), body);
    }

    /// `body` runs again while an element of the cell's I1 tile holds in the warp; warps go their own ways, so it holds neither
    /// barriers nor shared memory.
    #[track_caller]
    pub fn while_any(&mut self, mask: Cell, body: impl FnOnce(&mut Self)) {
        self.nested(OpKind::WhileAny, &[mask.0], Attrs::none(), Vec::new(), body);
    }

    #[track_caller]
    fn nested(&mut self, kind: OpKind, args: &[Value], attrs: Attrs, region_args: Vec<Value>, body: impl FnOnce(&mut Self)) {
        let loc = here(self.kernel, Location::caller());
        self.lists.push(Vec::new());
        body(self);
        let ops = self.lists.pop().unwrap_or_default();
        let region = Region { args: region_args, ops };
        let op = Op { kind, args: args.to_vec(), outs: Vec::new(), attrs, regions: vec![region], loc };
        self.lists.last_mut().expect("a role always has an open list").push(op);
    }

    /// A place for a scalar, with its first value.
    #[track_caller]
    pub fn scalar_cell(&mut self, first: impl Into<Operand>) -> Cell {
        let first = self.value(first);
        let cell = self.cell(self.kernel.ty(first).clone());
        self.set_value(cell, first);
        cell
    }

    /// A place for a register tile, with its first value.
    #[track_caller]
    pub fn tile_cell(&mut self, first: TileRef) -> Cell {
        let cell = self.cell(self.kernel.ty(first.0).clone());
        self.set_tile(cell, first);
        cell
    }

    /// A place for values of a type, without a value.
    #[track_caller]
    pub(super) fn cell(&mut self, ty: Ty) -> Cell {
        Cell(self.emit(OpKind::CellNew, &[], &[Ty::Cell(Box::new(ty))], Attrs::none())[0])
    }

    /// The scalar a place holds.
    #[track_caller]
    pub fn get(&mut self, cell: Cell) -> Scalar {
        Scalar(self.get_value(cell))
    }

    /// The tile a place holds.
    #[track_caller]
    pub fn get_tile(&mut self, cell: Cell) -> TileRef {
        TileRef(self.get_value(cell))
    }

    /// Put a scalar in a place.
    #[track_caller]
    pub fn set(&mut self, cell: Cell, v: impl Into<Operand>) {
        let v = self.value(v);
        self.set_value(cell, v);
    }

    /// Put a tile in a place.
    #[track_caller]
    pub fn set_tile(&mut self, cell: Cell, tile: TileRef) {
        self.set_value(cell, tile.0);
    }

    #[track_caller]
    fn get_value(&mut self, cell: Cell) -> Value {
        let inner = match self.kernel.ty(cell.0) {
            Ty::Cell(t) => (**t).clone(),
            other => other.clone(),
        };
        self.emit(OpKind::CellGet, &[cell.0], &[inner], Attrs::none())[0]
    }

    #[track_caller]
    fn set_value(&mut self, cell: Cell, v: Value) {
        self.emit(OpKind::CellSet, &[cell.0, v], &[], Attrs::none());
    }
}
