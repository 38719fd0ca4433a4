//! Why a layout could not be made.

use std::fmt;

use super::{Dim, MAX_POINTS};

/// Coordinates with their names; prints as `reg=4 lane=0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point(pub Vec<(Dim, u32)>);

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (dim, value)) in self.0.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{dim}={value}")?;
        }
        Ok(())
    }
}

/// Errors of the layout algebra.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A dim is listed twice on one side.
    #[error("dim `{dim}` appears twice among the {side}s of one layout: rename one of them")]
    DuplicateDim {
        /// The dim.
        dim: Dim,
        /// `input` or `output`.
        side: &'static str,
    },
    /// A dim that this layout does not have.
    #[error("no {side} `{dim}` in this layout: it has ({})", names(.have))]
    UnknownDim {
        /// The dim asked for.
        dim: Dim,
        /// `input` or `output`.
        side: &'static str,
        /// The dims there are.
        have: Vec<Dim>,
    },
    /// Text that names no dim.
    #[error("`{name}` is not a dim: use one of ({})", names(&Dim::all().collect::<Vec<_>>()))]
    UnknownName {
        /// The text.
        name: String,
    },
    /// A factor with no index.
    #[error("a factor of `{dim}` has extent 0: every extent is at least 1")]
    ZeroExtent {
        /// The input dim.
        dim: Dim,
    },
    /// More input points than [`MAX_POINTS`].
    #[error("layout of {points} points: a layout describes a tile, of at most {MAX_POINTS} points")]
    TooLarge {
        /// Product of the input sizes (saturating).
        points: u64,
    },
    /// An output does not fit 32 bits.
    #[error("output `{dim}` would reach {max}, past 32 bits: address a smaller tile")]
    Overflow {
        /// The output dim.
        dim: Dim,
        /// The value.
        max: u64,
    },
    /// Two layouts whose dims must agree do not.
    #[error("{op}: expected dims ({}), found ({})", names(.expected), names(.found))]
    DimMismatch {
        /// The operation.
        op: &'static str,
        /// The dims needed.
        expected: Vec<Dim>,
        /// The dims given.
        found: Vec<Dim>,
    },
    /// Two layouts whose sizes must agree do not.
    #[error("{op}: `{dim}` reaches {found} values where {expected} are defined")]
    SizeMismatch {
        /// The operation.
        op: &'static str,
        /// The dim.
        dim: Dim,
        /// Size of the one side.
        expected: u32,
        /// Size of the other.
        found: u32,
    },
    /// The result exists as a function, but no layout equals it.
    #[error(
        "{op} gives no layout: at ({at}) the value is {value:?}, but its factors alone add or xor to {linear:?}; \
         split the tile where the two disagree, or evaluate one layout after the other"
    )]
    NotRepresentable {
        /// The operation.
        op: &'static str,
        /// An input at which every candidate fails.
        at: Point,
        /// The function there.
        value: Vec<u32>,
        /// What the factors make of it.
        linear: Vec<u32>,
    },
    /// Not one-to-one onto the box of its output extents.
    #[error("not a bijection: {points} inputs onto a box of {cells} outputs{}", if *.injective { "" } else { ", some hit twice" })]
    NotBijective {
        /// Input points.
        points: u64,
        /// Product of the output extents.
        cells: u64,
        /// Whether distinct inputs have distinct outputs.
        injective: bool,
    },
    /// The inputs whose output falls in a range are not a box, or there are none.
    #[error("slice {start}..{end} of `{dim}`: {points} inputs fall there, which are not a product of index sets")]
    NotABox {
        /// The output dim.
        dim: Dim,
        /// First value kept.
        start: u32,
        /// One past the last value kept.
        end: u32,
        /// Inputs that fall there.
        points: u64,
    },
    /// A size that an atom cannot serve.
    #[error("{what} = {value} {rule}")]
    Shape {
        /// The parameter.
        what: &'static str,
        /// Its value.
        value: u32,
        /// What it must satisfy.
        rule: String,
    },
    /// A warp access that the hardware does not define.
    #[error("lane {lane} accesses byte {byte}, which is not a multiple of {width}: shared-memory accesses are naturally aligned")]
    Misaligned {
        /// The lane.
        lane: u32,
        /// Its byte address.
        byte: u32,
        /// Bytes per lane.
        width: u32,
    },
    /// Text that is not a layout.
    #[error("layout text, column {column}: expected {expected}, found `{found}`")]
    Parse {
        /// 1-based column.
        column: usize,
        /// What the grammar asks for.
        expected: &'static str,
        /// The rest of the text, shortened.
        found: String,
    },
}

fn names(dims: &[Dim]) -> String {
    dims.iter().map(|d| d.name()).collect::<Vec<_>>().join(" ")
}
