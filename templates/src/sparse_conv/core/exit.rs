//! Where sums go once all taps of a tile are multiplied.

use super::class::{CoreClass, Exit};
use super::epilogue::Epilogue;
use super::source::{Feed, Work};
use tilewright_ir::DType;
use tilewright_ir::tile::{Dim, KernelBuilder, Operand, RoleBuilder, Scalar, TensorRef, TileRef};

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
}
