//! Pipes, copies, matrix loads and stores, barriers.

use super::role::RoleBuilder;
use super::{Cell, Operand, Pipe, Scalar, SmemRef, Staging, TensorRef, TileRef};
use crate::attr::Attrs;
use crate::dtype::DType;
use crate::tile::kernel::Value;
use crate::tile::table::OpKind;
use crate::tile::types::{RegTile, SmemTile, Ty};

impl RoleBuilder<'_> {
    /// Producer: wait for a free stage.
    #[track_caller]
    pub fn acquire(&mut self, pipe: &Pipe) -> Scalar {
        self.int_op(OpKind::PipeAcquire, &[], Attrs::none().sym("pipe", &pipe.name))
    }

    /// Producer: every load of the stage has been issued.
    #[track_caller]
    pub fn commit(&mut self, pipe: &Pipe, stage: Scalar) {
        self.emit(OpKind::PipeCommit, &[stage.0], &[], Attrs::none().sym("pipe", &pipe.name));
    }

    /// Consumer: wait for the next full stage.
    #[track_caller]
    pub fn wait(&mut self, pipe: &Pipe) -> Scalar {
        self.int_op(OpKind::PipeWait, &[], Attrs::none().sym("pipe", &pipe.name))
    }

    /// Consumer: wait until the next stage is full, which the next [`Self::wait`] gives again.
    #[track_caller]
    pub fn peek(&mut self, pipe: &Pipe) -> Scalar {
        self.int_op(OpKind::PipePeek, &[], Attrs::none().sym("pipe", &pipe.name))
    }

    /// Consumer: hand back the oldest stage not yet released.
    #[track_caller]
    pub fn release(&mut self, pipe: &Pipe) {
        self.emit(OpKind::PipeRelease, &[], &[], Attrs::none().sym("pipe", &pipe.name));
    }

    /// Consumer: as [`Self::release`], if `cond` holds.
    #[track_caller]
    pub fn release_if(&mut self, pipe: &Pipe, cond: Scalar) {
        self.emit(OpKind::PipeRelease, &[cond.0], &[], Attrs::none().sym("pipe", &pipe.name));
    }

    /// Consumer: pass over `count` stages that another warpgroup consumes.
    #[track_caller]
    pub fn skip(&mut self, pipe: &Pipe, count: impl Into<Operand>) {
        let count = self.value(count);
        self.emit(OpKind::PipeSkip, &[count], &[], Attrs::none().sym("pipe", &pipe.name));
    }

    /// A tile of a stage.
    #[track_caller]
    pub fn slot(&mut self, pipe: &Pipe, stage: Scalar, slot: usize) -> SmemRef {
        let decl = self.kernel.pipe(&pipe.name).and_then(|p| p.slots.get(slot));
        let tile = decl.map(|s| s.tile.clone()).expect("a pipe handle comes from this kernel and the slot exists");
        let attrs = Attrs::none().sym("pipe", &pipe.name).int("slot", slot as i64);
        SmemRef(self.emit(OpKind::PipeSlot, &[stage.0], &[Ty::Smem(tile)], attrs)[0])
    }

    /// A copy of a buffer.
    #[track_caller]
    pub fn staging(&mut self, buffer: &Staging, copy: impl Into<Operand>) -> SmemRef {
        let copy = self.value(copy);
        let decl = self.kernel.buffers.iter().find(|b| b.name == buffer.name);
        let tile = decl.map(|b| b.tile.clone()).expect("a buffer handle comes from this kernel");
        let attrs = Attrs::none().sym("buffer", &buffer.name);
        SmemRef(self.emit(OpKind::BufferTile, &[copy], &[Ty::Smem(tile)], attrs)[0])
    }

    /// `rows` rows of a tile from row `from`, a multiple of eight where the tile is swizzled.
    #[track_caller]
    pub fn rows(&mut self, tile: SmemRef, from: impl Into<Operand>, rows: u32) -> SmemRef {
        let from = self.value(from);
        let whole = self.smem_type(tile);
        let part = SmemTile { shape: [rows, whole.shape[1]], ..whole };
        SmemRef(self.emit(OpKind::SmemRows, &[tile.0, from], &[Ty::Smem(part)], Attrs::none())[0])
    }

    /// Bytes of an unswizzled tile from `offset` on as an unswizzled `shape` tile of `dtype`: one field of a record.
    #[track_caller]
    pub fn view(&mut self, tile: SmemRef, offset: u32, dtype: DType, shape: [u32; 2]) -> SmemRef {
        let ty = Ty::Smem(SmemTile::packed(dtype, shape));
        SmemRef(self.emit(OpKind::SmemView, &[tile.0], &[ty], Attrs::none().int("offset", i64::from(offset)))[0])
    }

    /// The panels of a tile as rows below each other, which they are in memory: of `[rows, cols]` with panels of `c` columns,
    /// `[rows * cols / c, c]`.
    #[track_caller]
    pub fn panels(&mut self, tile: SmemRef) -> SmemRef {
        let ty = Ty::Smem(self.smem_type(tile).stacked());
        SmemRef(self.emit(OpKind::SmemPanels, &[tile.0], &[ty], Attrs::none())[0])
    }

    /// A shared tile in registers: `like` has its shape and dtype and says which thread holds what.
    #[track_caller]
    pub fn load_shared(&mut self, tile: SmemRef, like: RegTile) -> TileRef {
        TileRef(self.emit(OpKind::LoadShared, &[tile.0], &[Ty::Reg(like)], Attrs::none())[0])
    }

    /// A register tile into a shared tile of its shape and dtype. Other threads see it after a [`Self::sync`].
    #[track_caller]
    pub fn store_shared(&mut self, tile: SmemRef, value: TileRef) {
        self.emit(OpKind::StoreShared, &[tile.0, value.0], &[], Attrs::none());
    }

    /// Copy as many elements as the unswizzled slot `slot` of `stage` holds, in a row from the one that the leading
    /// coordinates `at` pick (an index into a list of records, say). The run lies inside the tensor; it starts and ends on a
    /// multiple of 16 bytes.
    #[track_caller]
    pub fn bulk_load(&mut self, tensor: &TensorRef, at: &[Scalar], pipe: &Pipe, stage: Scalar, slot: usize) {
        let tile = self.slot(pipe, stage, slot);
        self.bulk_load_part(tensor, at, pipe, stage, slot, tile);
    }

    /// As [`Self::bulk_load`] into `part` of the slot: some of its rows. Each stage must be filled whole.
    #[track_caller]
    pub fn bulk_load_part(&mut self, tensor: &TensorRef, at: &[Scalar], pipe: &Pipe, stage: Scalar, slot: usize, part: SmemRef) {
        let mut args = vec![part.0, stage.0];
        args.extend(at.iter().map(|s| s.0));
        let attrs = Attrs::none().sym("tensor", &tensor.name).sym("pipe", &pipe.name).int("slot", slot as i64);
        self.emit(OpKind::BulkLoad, &args, &[], attrs);
    }

    /// Clear the rows of a tile from row `from` on, by ordinary stores of the unit's threads: what a copy brought that is no
    /// part of the problem. Other threads see it after a [`Self::sync`].
    #[track_caller]
    pub fn zero_rows(&mut self, tile: SmemRef, from: impl Into<Operand>) {
        let from = self.value(from);
        self.emit(OpKind::ZeroRows, &[tile.0, from], &[], Attrs::none());
    }

    /// Copy a box of `tensor` at `coords` (outermost first) into slot `slot` of `stage`. Where CTAs share the slot each
    /// loads its part.
    #[track_caller]
    pub fn tma_load(&mut self, tensor: &TensorRef, coords: &[Scalar], pipe: &Pipe, stage: Scalar, slot: usize) {
        self.require_tma_rows(tensor);
        let tile = self.slot(pipe, stage, slot);
        let mut args = vec![tile.0, stage.0];
        args.extend(coords.iter().map(|s| s.0));
        let attrs = Attrs::none().sym("tensor", &tensor.name).sym("pipe", &pipe.name).int("slot", slot as i64);
        self.emit(OpKind::TmaLoad, &args, &[], attrs);
    }

    /// As [`Self::tma_load`] where the tile's rows run along extent `row_dim` (counted from the outermost) and every other
    /// extent but the last has one coordinate: rows of one head of `[batch, seq, heads, dim]`. `part` is the slot's tile or
    /// some rows of it; each stage must be filled whole.
    #[track_caller]
    pub fn tma_load_rows(
        &mut self,
        tensor: &TensorRef,
        coords: &[Scalar],
        row_dim: usize,
        pipe: &Pipe,
        stage: Scalar,
        slot: usize,
        part: SmemRef,
    ) {
        self.require_tma_rows(tensor);
        let mut args = vec![part.0, stage.0];
        args.extend(coords.iter().map(|s| s.0));
        let attrs = Attrs::none().sym("tensor", &tensor.name).sym("pipe", &pipe.name).int("slot", slot as i64);
        self.emit(OpKind::TmaLoad, &args, &[], attrs.int("row_dim", row_dim as i64));
    }

    /// Copy a shared tile to `tensor` at `coords`; what lies outside is dropped. One thread of the unit issues it.
    #[track_caller]
    pub fn tma_store(&mut self, tensor: &TensorRef, tile: SmemRef, coords: &[Scalar]) {
        self.require_tma_rows(tensor);
        let mut args = vec![tile.0];
        args.extend(coords.iter().map(|s| s.0));
        self.emit(OpKind::TmaStore, &args, &[], Attrs::none().sym("tensor", &tensor.name));
    }

    /// Wait until at most `pending` stores of this unit still read shared memory.
    #[track_caller]
    pub fn tma_store_wait(&mut self, pending: i64) {
        self.emit(OpKind::TmaStoreWait, &[], &[], Attrs::none().int("n", pending));
    }

    /// `cp.async` of a whole tile at `coords` (outermost first), `vec` elements at a time, zeros outside the tensor.
    /// With `vec = 1` ordinary loads and stores do it.
    #[track_caller]
    pub fn copy_async(&mut self, tensor: &TensorRef, tile: SmemRef, coords: &[Scalar], vec: u32) {
        let mut args = vec![tile.0];
        args.extend(coords.iter().map(|s| s.0));
        let attrs = Attrs::none().sym("tensor", &tensor.name).int("vec", i64::from(vec));
        self.emit(OpKind::CopyAsync, &args, &[], attrs);
    }

    /// Close the group of copies.
    #[track_caller]
    pub fn copy_commit(&mut self) {
        self.emit(OpKind::CopyCommit, &[], &[], Attrs::none());
    }

    /// Wait until at most `pending` groups of copies are under way.
    #[track_caller]
    pub fn copy_wait(&mut self, pending: i64) {
        self.emit(OpKind::CopyWait, &[], &[], Attrs::none().int("n", pending));
    }

    /// Load a tile of the given type from global memory, zeros outside. `axes` names the tile axes that are the
    /// tensor's last ones: `[0, 1]` for a matrix, `[1]` for a row vector repeated over the rows, of a vector or, with two
    /// coordinates, a row of a matrix. `coords` are outermost first; `vec` is how many neighbours along the last axis may be loaded at once.
    #[track_caller]
    pub fn load_tile(&mut self, tensor: &TensorRef, like: RegTile, coords: &[Scalar], axes: &[i64], vec: u32) -> TileRef {
        let ty = Ty::Reg(RegTile { dtype: tensor.dtype, ..like });
        let args: Vec<Value> = coords.iter().map(|s| s.0).collect();
        let attrs = Attrs::none().sym("tensor", &tensor.name).ints("axes", axes.to_vec()).int("vec", i64::from(vec));
        TileRef(self.emit(OpKind::LdTile, &args, &[ty], attrs)[0])
    }

    /// As [`Self::load_tile`] with the coalesced layout of element-wise kernels.
    #[track_caller]
    pub fn load_blocked(&mut self, tensor: &TensorRef, shape: [u32; 2], coords: &[Scalar], axes: &[i64], vec: u32) -> TileRef {
        let layout = crate::layout::blocked(self.unit_threads(), shape, vec);
        let layout = layout.expect("a blocked tile has at least one vector for each thread");
        self.load_tile(tensor, RegTile { dtype: tensor.dtype, shape, layout }, coords, axes, vec)
    }

    /// Store a register tile to global memory, nothing outside the tensor.
    #[track_caller]
    pub fn store_tile(&mut self, tensor: &TensorRef, tile: TileRef, coords: &[Scalar], vec: u32) {
        let mut args = vec![tile.0];
        args.extend(coords.iter().map(|s| s.0));
        let attrs = Attrs::none().sym("tensor", &tensor.name).int("vec", i64::from(vec));
        self.emit(OpKind::StTile, &args, &[], attrs);
    }

    /// `stmatrix` of a 16-bit accumulator tile, or of a transposed one.
    #[track_caller]
    pub fn store_matrix(&mut self, to: SmemRef, tile: TileRef) {
        self.emit(OpKind::StMatrix, &[to.0, tile.0], &[], Attrs::none());
    }

    /// wgmma over a whole stage, committed as one group: `acc (+)= a * b^T`; `zero` starts from nothing. `trans_b`
    /// takes b as `[k, n]`.
    #[track_caller]
    pub fn mma_async(&mut self, acc: Cell, a: SmemRef, b: SmemRef, zero: Scalar, trans_b: bool) {
        let attrs = Attrs::none().int("trans_b", i64::from(trans_b));
        self.emit(OpKind::MmaAsync, &[acc.0, a.0, b.0, zero.0], &[], attrs);
    }

    /// As [`Self::mma_async`] with A in registers, in the layout of `wgmma_a`: it must not change before the group is done.
    #[track_caller]
    pub fn mma_async_reg(&mut self, acc: Cell, a: TileRef, b: SmemRef, zero: Scalar, trans_b: bool) {
        let attrs = Attrs::none().int("trans_b", i64::from(trans_b));
        self.emit(OpKind::MmaAsync, &[acc.0, a.0, b.0, zero.0], &[], attrs);
    }

    /// Wait until at most `pending` groups are under way, younger ones than the accumulator's, which becomes readable.
    #[track_caller]
    pub fn mma_ready(&mut self, acc: Cell, pending: i64) {
        self.emit(OpKind::MmaReady, &[acc.0], &[], Attrs::none().int("n", pending));
    }

    /// Wait until at most `pending` groups are under way; 0 makes the accumulator readable.
    #[track_caller]
    pub fn mma_wait(&mut self, acc: Cell, pending: i64) {
        self.emit(OpKind::MmaWait, &[acc.0], &[], Attrs::none().int("n", pending));
    }

    /// All threads of the unit meet.
    #[track_caller]
    pub fn sync(&mut self) {
        self.emit(OpKind::UnitSync, &[], &[], Attrs::none());
    }

    /// Meet `threads` threads at a named barrier (ids 1 to 15; 0 and those of `sync` are taken: see `passes::expand`).
    #[track_caller]
    pub fn barrier_sync(&mut self, id: impl Into<Operand>, threads: u32) {
        let id = self.value(id);
        self.emit(OpKind::BarSync, &[id], &[], Attrs::none().int("threads", i64::from(threads)));
    }

    /// Arrive at a named barrier without waiting.
    #[track_caller]
    pub fn barrier_arrive(&mut self, id: impl Into<Operand>, threads: u32) {
        let id = self.value(id);
        self.emit(OpKind::BarArrive, &[id], &[], Attrs::none().int("threads", i64::from(threads)));
    }

    /// A tensor map's strides are multiples of 16 bytes (CUDA driver API, cuTensorMapEncodeTiled): so are its rows.
    fn require_tma_rows(&mut self, tensor: &TensorRef) {
        let inner = self.kernel.tensor(&tensor.name).and_then(|t| t.dims.last()).filter(|d| d.param.is_some()).map(|d| d.expr());
        let condition = inner.map(|d| format!("{d} % {} == 0", 16 / tensor.dtype.bytes()));
        if let Some(c) = condition.filter(|c| !self.kernel.requires.contains(c)) {
            self.kernel.requires.push(c);
        }
    }

    pub(super) fn smem_type(&self, tile: SmemRef) -> SmemTile {
        match self.ty(tile.0) {
            Ty::Smem(t) => t.clone(),
            other => unreachable!("a SmemRef is a shared tile, not {other}"),
        }
    }
}
