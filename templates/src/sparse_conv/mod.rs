//! Sparse convolution: kernel maps, and the dataflows that multiply through them.
//!
//! | file | holds |
//! |---|---|
//! | `geometry` | kernel, stride, dilation, padding; the relation between fine and coarse voxels |
//! | `problem` | classes of convolutions, dataflows, row orders |
//! | `class` | classes as text, names made of them |
//! | `host` | maps on the host, entry by entry: the witness of every kernel that makes one |
//! | `coords/` | sets of voxels and kernel maps on the device |
//! | `lists` | prefix sums, pairs, sorted rows and tiles, on the device |
//! | `coords` | sets of voxels and kernel maps on the device |
//! | `stats` | pairs, tiles and what they multiply and read, on the host |
//! | `pieces` | launches that plans are put together from, and the tensors they hand to each other |
//! | `lists/` | prefix sums, pairs, sorted rows and tiles, on the device |
//! | `core/` | the multiplication, and the small kernels around it |
//! | `reference` | f64 through a map, and the bound a kernel is held to |
//! | `network/` | layer graphs, and plans of whole networks |
//! | `pieces` | launches that plans are put together from, and the tensors they hand to each other |

mod class;
pub mod coords;
pub mod core;
mod geometry;
mod host;
pub mod lists;
pub mod network;
mod pieces;
mod problem;
mod reference;
mod stats;

pub use class::{ConvProblemError, MOST_SPLITS, act, from_map_class, map_class, map_slug};
pub use geometry::{Geometry, GeometryError, Mode};
pub use host::{Coord, KernelMap, MapError, Points};
pub use pieces::{CoordSet, MapSet, PairTiles, Pairs, PlanBuilder, Sets, Tiles};
pub use problem::{ConvProblem, Dataflow, RowOrder};
pub use reference::{ConvMiss, ConvOperands, ConvReference, conv_reference};
pub use stats::{HostTiles, MapStats, TileStats};
