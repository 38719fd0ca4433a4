//! Lists that no kernel makes.

use tilewright_ir::layout::LayoutError;
use tilewright_runtime::expr::ParseError;

/// Why a piece of a plan cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// A tile of another height.
    #[error("tiles of {0} rows: 32, 64, 128 and 256 are listed")]
    TileRows(u32),
    /// Ranges of taps that are none.
    #[error("{splits} splits of {taps} taps: 1 to {taps}")]
    Splits {
        /// Ranges asked for.
        splits: u32,
        /// Most taps of the map.
        taps: u32,
    },
    /// Rows in the map's order, in several ranges of taps.
    #[error("splits = {0} without an order: only sorted rows are split")]
    Unsorted(u32),
    /// Taps no kernel has.
    #[error("{0} taps: 1 to 343")]
    Taps(u32),
    /// Two heights that are no two.
    #[error("pair tiles of {tall} and {short} rows: the short ones are shorter, and both at least 1")]
    Grouping {
        /// The taller.
        tall: u32,
        /// The shorter.
        short: u32,
    },
    /// Threads and numbers without a common layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A size that is no expression.
    #[error(transparent)]
    Expr(#[from] ParseError),
}
