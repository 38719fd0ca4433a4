//! Lists made on the device: prefix sums, pairs of a map, and the tiles that implicit GEMM walks, sorted by which taps rows have.
//!
//! | file | holds |
//! |---|---|
//! | `numbers` | rows of numbers and their arithmetic, entries of a map: what the kernels here are written with |
//! | `scan` | prefix sums of any length |
//! | `count` | pairs of each tap, and which bit of a mask each tap is |
//! | `pairs`, `pair_tiles` | the map as pairs tap by tap; these cut into tiles, of one height or two |
//! | `transpose` | the map from inputs to outputs |
//! | `keys`, `sort` | what rows are sorted by; the radix sort |
//! | `tiles` | taps, input rows and output rows of each tile |

mod count;
mod error;
mod keys;
mod numbers;
mod pair_tiles;
mod pairs;
mod scan;
mod sort;
mod tiles;
mod transpose;

pub use error::ListError;
pub use pair_tiles::{Grouping, pair_tiles, pair_tiles_grouped};
pub use pairs::{PairLists, pairs};
pub use scan::scan;
pub use tiles::{TileConfig, tiles};
pub use transpose::transpose;
