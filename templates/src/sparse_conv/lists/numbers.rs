//! Rows of I32 numbers that a CTA's threads hold, and the entries of a map: what the kernels of lists are written with.

use super::error::ListError;
use crate::plan::TemplateKernel;
use crate::sparse_conv::pieces::{MapSet, Sets};
use tilewright_ir::layout::{Dim as LayoutDim, LayoutError, blocked};
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, Operand, RegTile, RoleBuilder, Scalar, TensorRef, TileRef, Unit};
use tilewright_ir::{Arch, DType};

/// Which threads hold which numbers of a row, a column or a table.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    /// I32 `[1, n]`, `[n, 1]` or `[n, m]`.
    pub ty: RegTile,
}

/// Taps of a [`Panel`].
pub(super) const TAPS: u32 = 8;

/// Some rows of a map at [`TAPS`] neighbouring taps, held by one warp: in a map rows follow each other, so that eight lanes read 32
/// bytes of a row together.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    /// `[rows, 8]`.
    pub all: Numbers,
    /// `[rows, 1]`.
    pub rows: Numbers,
    /// `[1, 8]`.
    pub taps: Numbers,
}

/// A kernel map as kernels see it.
#[derive(Clone, Debug)]
pub(super) struct Map {
    map: TensorRef,
    count: TensorRef,
}

/// Records a kernel of one role of `warps` warps.
pub(super) fn kernel(
    arch: Arch,
    id: &str,
    record: impl FnOnce(&mut KernelBuilder) -> Result<(), LayoutError>,
) -> Result<TemplateKernel, ListError> {
    let mut k = KernelBuilder::new(id, arch);
    record(&mut k)?;
    Ok(TemplateKernel::plain(id.into(), "sparse_lists", [("kernel", id.to_string())], "none", k))
}

/// The one role of a kernel.
pub(super) fn role(k: &mut KernelBuilder, warps: u32, body: impl FnOnce(&mut RoleBuilder)) {
    k.role("main", warps, None, Unit::Role, body);
}

/// A size as a kernel's expression.
pub(super) fn extent(e: &str) -> Dim {
    Dim::param(e)
}

/// A fixed extent.
pub(super) fn fixed(n: u32) -> Dim {
    Dim { param: None, factor: n }
}

/// `sets` of a launch.
pub(super) fn sets<const N: usize>(list: [(&str, &str); N]) -> Sets {
    list.into_iter().map(|(n, e)| (n.to_string(), e.to_string())).collect()
}

impl Numbers {
    /// `n` numbers over `threads` threads, each `run` neighbours at a time.
    pub fn new(threads: u32, n: u32, run: u32) -> Result<Self, LayoutError> {
        let shape = [1, n];
        Ok(Numbers { ty: RegTile { dtype: DType::I32, shape, layout: blocked(threads, shape, run)? } })
    }

    /// The one number beside a row that a reduction leaves, in all threads.
    pub fn one(&self, r: &RoleBuilder) -> Numbers {
        Numbers { ty: r.row_vec(&self.ty, DType::I32) }
    }

    /// The same literal everywhere.
    pub fn int(&self, r: &mut RoleBuilder, v: i64) -> TileRef {
        let v = r.int(v);
        r.splat(v, self.ty.clone())
    }

    /// The same number everywhere.
    pub fn all(&self, r: &mut RoleBuilder, v: Scalar) -> TileRef {
        r.splat(v, self.ty.clone())
    }

    /// `first` and the numbers that follow, along a row or a column.
    pub fn from(&self, r: &mut RoleBuilder, first: Scalar) -> TileRef {
        let n = r.iota(usize::from(self.ty.shape[0] == 1), self.ty.clone());
        let first = self.all(r, first);
        r.binary("add", n, first)
    }

    /// A binary operation with a number.
    pub fn with(&self, r: &mut RoleBuilder, f: &str, a: TileRef, b: impl Into<Operand>) -> TileRef {
        let b = r.add(b, 0);
        let b = self.all(r, b);
        r.binary(f, a, b)
    }

    /// A comparison with a number.
    pub fn is(&self, r: &mut RoleBuilder, a: TileRef, pred: CmpPred, b: impl Into<Operand>) -> TileRef {
        let b = r.add(b, 0);
        let b = self.all(r, b);
        r.compare(pred, a, b)
    }

    /// A row, a column or one number in the whole table.
    pub fn wide(&self, r: &mut RoleBuilder, v: TileRef) -> TileRef {
        r.broadcast(v, self.ty.clone())
    }

    /// 1 where the mask holds, else 0.
    pub fn ones(&self, r: &mut RoleBuilder, mask: TileRef) -> TileRef {
        r.cast(mask, DType::I32)
    }
}

impl Map {
    /// Declares `map` I32 `[rows, taps]` and `count` I32 `[1]`, and their scalars.
    pub fn declare(k: &mut KernelBuilder) -> Self {
        k.shape("rows");
        k.shape("taps");
        // An entry's index is a 32-bit number.
        k.require("rows*taps <= 2147483647");
        let map = k.tensor("map", DType::I32, [extent("rows"), extent("taps")]);
        Map { map, count: k.tensor("count", DType::I32, [fixed(1)]) }
    }

    /// What a launch binds and sets.
    pub fn launch(map: &MapSet) -> ([(&str, &str); 2], Sets) {
        ([("map", &map.map), ("count", &map.count)], sets([("rows", &map.rows), ("taps", &map.taps)]))
    }

    /// How many rows exist.
    pub fn rows(&self, r: &mut RoleBuilder) -> Scalar {
        rows_that_exist(r, &self.count)
    }

    /// The entries of a panel's rows, which begin at `start` (row times taps) and exist where `there` is true, from tap `first` on and below
    /// tap `end`; -1 elsewhere.
    pub fn entries(&self, r: &mut RoleBuilder, p: &Panel, [start, there]: [TileRef; 2], first: Scalar, end: Scalar) -> TileRef {
        let tap = p.taps.from(r, first);
        let inside = p.taps.is(r, tap, CmpPred::Lt, end);
        let [tap, inside, start, there] = [tap, inside, start, there].map(|v| p.all.wide(r, v));
        let index = r.binary("add", start, tap);
        let some = r.binary("and", inside, there);
        self.at(r, &p.all, index, some)
    }

    /// The entries at each index of the map; -1 where `some` is false.
    pub fn at(&self, r: &mut RoleBuilder, n: &Numbers, index: TileRef, some: TileRef) -> TileRef {
        let j = r.load_elems(&self.map, &[], index, Some(some));
        let none = n.int(r, -1);
        r.choose(some, j, none)
    }
}

impl Panel {
    /// A panel of so many rows: a multiple of 4.
    pub fn new(rows: u32) -> Result<Self, LayoutError> {
        let shape = [rows, TAPS];
        let all = RegTile { dtype: DType::I32, shape, layout: blocked(32, shape, 1)? };
        let beside = |gone, shape| Ok(Numbers { ty: RegTile { dtype: DType::I32, shape, layout: all.layout.collapsed(gone)? } });
        let (rows, taps) = (beside(LayoutDim::Col, [rows, 1])?, beside(LayoutDim::Row, [1, TAPS])?);
        Ok(Panel { all: Numbers { ty: all }, rows, taps })
    }

    /// `f` over the rows of a panel, at each tap: `[1, 8]`.
    pub fn of_taps(&self, r: &mut RoleBuilder, f: &str, v: TileRef) -> TileRef {
        let v = r.transpose(v);
        let v = r.reduce(f, v);
        let v = r.transpose(v);
        r.broadcast(v, self.taps.ty.clone())
    }
}

/// `count`, as a number of rows that `rows` has room for.
pub(super) fn rows_that_exist(r: &mut RoleBuilder, count: &TensorRef) -> Scalar {
    let zero = r.int(0);
    let count = r.load_scalar(count, &[zero]);
    let rows = r.param("rows");
    let count = r.max(count, 0);
    r.min(count, rows)
}
