//! Extents and numbers of tiles of each way to group rows.

use crate::gemm::problem::Groups;
use tilewright_ir::tile::{Dim, KernelBuilder};

impl Groups {
    /// Extents of a and d before the columns: matrices and their rows. Sorted rows are one matrix.
    pub(in crate::gemm) fn rows(self) -> [Dim; 2] {
        match self {
            Groups::Batch => [Dim::param("batch"), Dim::param("m")],
            Groups::Offsets => [Dim { param: None, factor: 1 }, Dim::param("tokens")],
            Groups::Counts => [Dim::param("e"), Dim::param("max_m")],
        }
    }

    /// Matrices of b.
    pub(in crate::gemm) fn matrices(self) -> Dim {
        Dim::param(if self == Groups::Batch { "batch" } else { "e" })
    }

    /// Declares the extents of a, b and d.
    pub(in crate::gemm) fn declare(self, k: &mut KernelBuilder) {
        let [lead, rows] = self.rows();
        let named = |d: Dim| d.param;
        let names = [named(rows), Some("n".into()), Some("k".into()), named(lead), named(self.matrices())];
        names.into_iter().flatten().for_each(|n| drop(k.shape(&n)));
    }

    /// Tiles of `bm` rows and `bn` columns that there are, or at most can be, as an expression.
    pub(in crate::gemm) fn grid_tiles(self, [bm, bn]: [u32; 2]) -> String {
        match self {
            Groups::Batch => format!("ceil_div(m,{bm})*ceil_div(n,{bn})*batch"),
            _ => format!("{}*ceil_div(n,{bn})", self.most_tiles(bm)),
        }
    }

    /// Most tiles of `bm` rows that there can be, as an expression: an expert's last tile may be a part of one.
    pub(in crate::gemm) fn most_tiles(self, bm: u32) -> String {
        match self {
            Groups::Batch => format!("batch*ceil_div(m,{bm})"),
            Groups::Offsets => format!("(tokens/{bm}+min(e,tokens))"),
            Groups::Counts => format!("e*ceil_div(max_m,{bm})"),
        }
    }
}
