//! Names of coordinates.

use std::fmt;
use std::str::FromStr;

use super::LayoutError;

/// A named coordinate of a layout, input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// Element held by one thread, in register order (two 16-bit elements share a 32-bit register).
    Reg,
    /// Lane of a warp, 0 to 31.
    Lane,
    /// Warp of the threads that share the tile.
    Warp,
    /// Thread of a CTA, where lane and warp are not told apart.
    Thread,
    /// CTA of a cluster.
    Block,
    /// Row of a tile.
    Row,
    /// Column of a tile.
    Col,
    /// Batch, or any coordinate in front of the row.
    Batch,
    /// 8x8 matrix of one `ldmatrix` or `stmatrix`.
    Matrix,
    /// Element offset in a buffer.
    Elem,
    /// Byte offset in a buffer.
    Byte,
}

// Names hold letters only: a basis is written as name then value, `row8`.
const NAMES: [(Dim, &str); 11] = [
    (Dim::Reg, "reg"),
    (Dim::Lane, "lane"),
    (Dim::Warp, "warp"),
    (Dim::Thread, "thread"),
    (Dim::Block, "block"),
    (Dim::Row, "row"),
    (Dim::Col, "col"),
    (Dim::Batch, "batch"),
    (Dim::Matrix, "matrix"),
    (Dim::Elem, "elem"),
    (Dim::Byte, "byte"),
];

impl Dim {
    /// Every dim, in declaration order.
    pub fn all() -> impl Iterator<Item = Dim> {
        NAMES.iter().map(|&(dim, _)| dim)
    }

    /// The name used in text.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dim {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Dim, LayoutError> {
        NAMES
            .iter()
            .find(|(_, name)| *name == text)
            .map(|&(dim, _)| dim)
            .ok_or_else(|| LayoutError::UnknownName { name: text.to_owned() })
    }
}
