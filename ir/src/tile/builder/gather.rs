//! Memory by index: single elements, rows gathered or scattered, copies of gathered rows into shared memory.
//!
//! For the row operations a tensor is a matrix: its last extent is the columns, the product of the others the rows.

use super::role::RoleBuilder;
use super::{Operand, Scalar, SmemRef, TensorRef, TileRef};
use crate::attr::Attrs;
use crate::dtype::DType;
use crate::layout::{Dim, blocked};
use crate::tile::kernel::Value;
use crate::tile::table::OpKind;
use crate::tile::types::{RegTile, Ty};

impl RoleBuilder<'_> {
    /// One element, the same in every thread: I32 or F32 of a tensor of these, I32 of a U8 tensor. `at` has a coordinate
    /// for each extent and lies inside the tensor: an index that may not is guarded with [`RoleBuilder::if_then`].
    /// In the protocol check its value is what a probe of the tensor's name says, else 0; of a list, that many times the
    /// index plus one: lengths, or ends of sequences.
    #[track_caller]
    pub fn load_scalar(&mut self, tensor: &TensorRef, at: &[Scalar]) -> Scalar {
        let args: Vec<Value> = at.iter().map(|s| s.0).collect();
        let ty = Ty::Scalar(tensor.dtype.element());
        Scalar(self.emit(OpKind::LoadScalar, &args, &[ty], on(tensor))[0])
    }

    /// An element for each number of `index` (I32 tile): `at` fixes leading coordinates, `index` counts elements from
    /// there. Where `mask` (I1 tile) is false nothing is read and the element is 0. 16-bit elements come as F32, U8 as I32.
    #[track_caller]
    pub fn load_elems(&mut self, tensor: &TensorRef, at: &[Scalar], index: TileRef, mask: Option<TileRef>) -> TileRef {
        let ty = RegTile { dtype: tensor.dtype.element(), ..self.tile_type(index) };
        let args = indexed([index].into_iter().chain(mask), at);
        TileRef(self.emit(OpKind::LoadElems, &args, &[Ty::Reg(ty)], on(tensor))[0])
    }

    /// The inverse of [`Self::load_elems`]: where `mask` is false nothing is written. F32 is rounded to a 16-bit tensor's
    /// elements, of I32 the low byte goes to a U8 tensor. Of threads that hold the same element one writes it.
    #[track_caller]
    pub fn store_elems(&mut self, tensor: &TensorRef, at: &[Scalar], index: TileRef, value: TileRef, mask: Option<TileRef>) {
        let args = indexed([index, value].into_iter().chain(mask), at);
        self.emit(OpKind::StoreElems, &args, &[], on(tensor));
    }

    /// An atomic operation on an element for each number of `index` (as in [`Self::load_elems`]), which gives the old values:
    /// `f` is `add` (I32, F32), `min`, `max` or `or` (I32). Where `mask` is false nothing happens and the value is 0. Relaxed:
    /// other kernels see it, other accesses of this one are not ordered by it. No two threads may hold the same element.
    #[track_caller]
    pub fn atomic(
        &mut self,
        f: &str,
        tensor: &TensorRef,
        at: &[Scalar],
        index: TileRef,
        value: TileRef,
        mask: Option<TileRef>,
    ) -> TileRef {
        let ty = self.tile_type(value);
        let args = indexed([index, value].into_iter().chain(mask), at);
        TileRef(self.emit(OpKind::Atomic, &args, &[Ty::Reg(ty)], on(tensor).sym("f", f))[0])
    }

    /// As [`Self::atomic`], compare and swap of I32: `new` is stored where the element is `expected`; gives the old values.
    #[track_caller]
    pub fn atomic_cas(
        &mut self,
        tensor: &TensorRef,
        at: &[Scalar],
        index: TileRef,
        [expected, new]: [TileRef; 2],
        mask: Option<TileRef>,
    ) -> TileRef {
        let ty = self.tile_type(new);
        let args = indexed([index, expected, new].into_iter().chain(mask), at);
        TileRef(self.emit(OpKind::AtomicCas, &args, &[Ty::Reg(ty)], on(tensor))[0])
    }

    /// A register tile from as many elements in a row as it has, row-major: the first lies `offset` elements after the one that
    /// the leading coordinates `at` pick (a record of a list, say). No predicate guards it, so all of them lie inside the tensor;
    /// the first is on a multiple of 16 bytes, and a thread's neighbours along a row are loaded at once.
    #[track_caller]
    pub fn load_run(&mut self, tensor: &TensorRef, at: &[Scalar], offset: u32, like: RegTile) -> TileRef {
        let ty = Ty::Reg(RegTile { dtype: tensor.dtype, ..like });
        let args: Vec<Value> = at.iter().map(|s| s.0).collect();
        TileRef(self.emit(OpKind::LoadRun, &args, &[ty], on(tensor).int("offset", i64::from(offset)))[0])
    }

    /// A register tile whose row `i` is `[col, col + columns)` of the tensor's row `rows[i]`. `rows` is I32 `[rows, 1]` with
    /// the layout of `like` collapsed along the columns; each number is below the tensor's rows. A negative row is zeros,
    /// and so are columns outside. The tile has the tensor's dtype; `vec` neighbours may be loaded at once: it divides
    /// `col` and the tensor's columns.
    #[track_caller]
    pub fn load_rows(&mut self, tensor: &TensorRef, like: RegTile, rows: TileRef, col: impl Into<Operand>, vec: u32) -> TileRef {
        let col = self.value(col);
        let ty = Ty::Reg(RegTile { dtype: tensor.dtype, ..like });
        TileRef(self.emit(OpKind::LoadRows, &[rows.0, col], &[ty], on(tensor).int("vec", i64::from(vec)))[0])
    }

    /// The inverse of [`Self::load_rows`]: rows with a negative number and columns outside the tensor are not stored. The
    /// tile has the tensor's dtype; of threads that hold the same element one writes it.
    #[track_caller]
    pub fn store_rows(&mut self, tensor: &TensorRef, tile: TileRef, rows: TileRef, col: impl Into<Operand>, vec: u32) {
        let col = self.value(col);
        self.emit(OpKind::StoreRows, &[tile.0, rows.0, col], &[], on(tensor).int("vec", i64::from(vec)));
    }

    /// As [`Self::store_rows`], but adds the tile's f32 to an F32 tensor, each element atomically: in no fixed order where rows
    /// are met twice. No two threads may hold the same element.
    #[track_caller]
    pub fn add_rows(&mut self, tensor: &TensorRef, tile: TileRef, rows: TileRef, col: impl Into<Operand>, vec: u32) {
        let col = self.value(col);
        self.emit(OpKind::AddRows, &[tile.0, rows.0, col], &[], on(tensor).int("vec", i64::from(vec)));
    }

    /// `cp.async` of gathered rows into a shared tile, as [`Self::load_rows`] reads them; `rows` has the type
    /// [`Self::copy_rows_index`] gives. Copies of `vec` elements are 16, 8 or 4 bytes; of 2 bytes, ordinary loads and stores.
    #[track_caller]
    pub fn copy_rows(&mut self, tensor: &TensorRef, to: SmemRef, rows: TileRef, col: impl Into<Operand>, vec: u32) {
        let col = col.into();
        let attrs = on(tensor).int("vec", i64::from(vec));
        // Addresses that change with the column are worked out for each copy, in as few instructions as there can be.
        let attrs = if let Operand::Value(_) = col { attrs.int("moves", 1) } else { attrs };
        let col = self.value(col);
        self.emit(OpKind::CopyRows, &[to.0, rows.0, col], &[], attrs);
    }

    /// The type of [`Self::copy_rows`]' row numbers: I32 `[rows, 1]`, each thread the rows it copies parts of.
    ///
    /// # Panics
    /// If the shared tile is not at least one vector for each thread of the unit.
    #[track_caller]
    pub fn copy_rows_index(&self, to: SmemRef, vec: u32) -> RegTile {
        let shape = self.smem_type(to).shape;
        let layout = blocked(self.unit_threads(), shape, vec);
        let layout = layout.and_then(|l| l.collapsed(Dim::Col));
        let layout = layout.expect("a copied tile has whole vectors for every thread of the unit");
        RegTile { dtype: DType::I32, shape: [shape[0], 1], layout }
    }
}

fn on(tensor: &TensorRef) -> Attrs {
    Attrs::none().sym("tensor", &tensor.name)
}

/// Register tiles first, then coordinates.
fn indexed(tiles: impl Iterator<Item = TileRef>, at: &[Scalar]) -> Vec<Value> {
    tiles.map(|t| t.0).chain(at.iter().map(|s| s.0)).collect()
}
