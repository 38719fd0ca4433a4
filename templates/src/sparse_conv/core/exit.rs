//! Where sums go once all taps of a tile are multiplied.

use super::class::{CoreClass, Exit};
use super::epilogue::Epilogue;
use super::source::{Feed, Work};
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{Dim, KernelBuilder, Operand, RegTile, RoleBuilder, Scalar, SmemRef, TensorRef, TileRef};

/// The output of a kernel.
#[derive(Clone, Debug)]
pub(super) struct Leave {
    exit: Exit,
    y: TensorRef,
    epilogue: Epilogue,
    /// Neighbours along cout that may be stored at once.
    vec: u32,
}

impl Leave {
    /// Declares `y` and what the epilogue reads.
    pub fn declare(k: &mut KernelBuilder, class: &CoreClass) -> Self {
        let cout = || Dim::param("cout");
        let dtype = if class.exit == Exit::Store { class.dtype } else { DType::F32 };
        let dims = match class.exit {
            Exit::Store | Exit::AddAtomic | Exit::AddPlain => vec![Dim::param("m"), cout()],
            Exit::Slab => vec![Dim::param("splits"), Dim::param("m"), cout()],
            Exit::PairRows => vec![Dim::param("pairs"), cout()],
        };
        if class.exit == Exit::Slab {
            // Rows of all slabs are numbered together.
            k.require("splits * m <= 2147483647");
        }
        let y = k.tensor("y", dtype, dims);
        let epilogue = Epilogue::declare(k, class.epilogue, class.dtype, class.n_align);
        Leave { exit: class.exit, y, epilogue, vec: class.n_align.min(16 / dtype.bytes()) }
    }

    /// Writes f32 sums: rows from row `from` of the tile, columns from column `col` of the output.
    pub fn write(&self, r: &mut RoleBuilder, feed: &Feed, w: &Work, sums: TileRef, from: impl Into<Operand>, col: Scalar) {
        let like = r.tile_type(sums);
        let ty = r.row_vec(&like, DType::I32);
        let rows = feed.out_rows(r, w, from, ty, self.exit);
        let tile = match self.exit {
            Exit::Store => {
                let y = self.epilogue.emit(r, sums, rows, col);
                r.cast(y, self.y.dtype)
            }
            Exit::AddPlain => {
                let before = r.load_rows(&self.y, like, rows, col, self.vec);
                r.binary("add", before, sums)
            }
            Exit::AddAtomic => return r.add_rows(&self.y, sums, rows, col, self.vec),
            Exit::Slab | Exit::PairRows => sums,
        };
        r.store_rows(&self.y, tile, rows, col, self.vec);
    }

    /// Whether rows can leave through a shared tile in 16-byte pieces.
    pub fn is_wide(&self) -> bool {
        self.exit == Exit::Store && self.y.dtype.bytes() == 2 && self.vec == 8
    }

    /// As [`Self::write`] of a warpgroup's sums by way of a shared tile of their shape: a thread holds pairs of neighbours, and
    /// stored as they are they would fill half a sector at a time.
    pub fn write_wide(
        &self,
        r: &mut RoleBuilder,
        feed: &Feed,
        w: &Work,
        sums: TileRef,
        [from, col]: [Scalar; 2],
        staging: SmemRef,
    ) -> Result<(), LayoutError> {
        let like = r.tile_type(sums);
        let ty = r.row_vec(&like, DType::I32);
        let rows = feed.out_rows(r, w, from, ty, self.exit);
        let y = self.epilogue.emit(r, sums, rows, col);
        let y = r.cast(y, self.y.dtype);
        r.store_matrix(staging, y);
        r.sync();
        let wide = RegTile { dtype: self.y.dtype, shape: like.shape, layout: blocked(r.unit_threads(), like.shape, self.vec)? };
        let ty = r.row_vec(&wide, DType::I32);
        let rows = feed.out_rows(r, w, from, ty, self.exit);
        let y = r.load_shared(staging, wide);
        r.store_rows(&self.y, y, rows, col, self.vec);
        // The tile is written again for the next columns.
        r.sync();
        Ok(())
    }
}
