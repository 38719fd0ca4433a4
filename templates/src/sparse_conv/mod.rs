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
//! | `recipe`, `choose` | how a convolution is done, as text; which way where nobody says |
//! | `executed` | rows that a recipe multiplies, counted on the host |
//! | `multiply`, `copy` | from a map to features; coordinates that are inputs or given |
//! | `plan` | plans of `sparse_conv` and `kernel_map` from pieces |

mod choose;
mod class;
pub mod coords;
mod copy;
pub mod core;
mod executed;
mod geometry;
mod host;
pub mod lists;
mod multiply;
pub mod network;
mod pieces;
mod plan;
mod problem;
mod recipe;
mod reference;
mod stats;

pub use choose::{recipe, recipes, tile_config};
pub use class::{ConvProblemError, act, from_map_class, map_class, map_slug};
pub use executed::executed_rows;
pub use geometry::{Geometry, GeometryError, Mode};
pub use host::{Coord, KernelMap, MapError, Points};
pub use pieces::{CoordSet, MapSet, PairTiles, Pairs, PlanBuilder, Sets, Tiles};
pub use plan::{ConvError, conv_plan, map_plan};
pub use problem::{ConvProblem, Dataflow, RowOrder};
pub use recipe::{Recipe, RecipeError};
pub use reference::{ConvMiss, ConvOperands, ConvReference, conv_reference};
pub use stats::{HostTiles, MapStats, TileStats};
