//! Sparse convolution: kernel maps, and the dataflows that multiply through them.
//!
//! | file | holds |
//! |---|---|
//! | `geometry` | kernel, stride, dilation, padding; the relation between fine and coarse voxels |
//! | `problem` | classes of convolutions, dataflows, row orders |
//! | `host` | maps on the host, entry by entry: the witness of every kernel that makes one |
//! | `lists` | prefix sums, pairs, sorted rows and tiles, on the device |
//! | `pieces` | launches that plans are put together from, and the tensors they hand to each other |

mod geometry;
mod host;
mod lists;
mod pieces;
mod problem;

pub use geometry::{Geometry, GeometryError, Mode};
pub use host::{Coord, KernelMap, MapError, Points};
pub use lists::{Grouping, ListError, PairLists, TileConfig, pair_tiles, pair_tiles_grouped, pairs, scan, tiles, transpose};
pub use pieces::{CoordSet, MapSet, PairTiles, Pairs, PlanBuilder, Sets, Tiles};
pub use problem::{ConvProblem, Dataflow, RowOrder};
