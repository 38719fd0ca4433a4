//! Sets of voxels on the device: hash tables, the voxels a layer makes, kernel maps, voxels of points.
//!
//! | file | holds |
//! |---|---|
//! | `lanes` | numbers and rows of four coordinates in threads |
//! | `hash`, `divisor` | where a search begins; quotients by products |
//! | `relation` | fine and coarse voxels of a tap, exact for any 32-bit coordinate |
//! | `table` | walks along a hash table |
//! | `fill`, `insert` | one value everywhere; the table of given voxels |
//! | `unique` | the voxels that strided and generative layers make |
//! | `map` | kernel maps |
//! | `voxel` | voxels of points |
//! | `plan` | all of these as launches |

mod divisor;
mod fill;
mod hash;
mod insert;
mod lanes;
mod map;
mod plan;
mod relation;
mod table;
mod unique;
mod voxel;

pub use fill::fill;
pub use hash::first_slot;
pub use insert::insert;
pub use map::{build, build_own};
pub use plan::{
    CoordsError, PointFeatures, PointSet, build_map, downsample, fill_ints, insert_set, status, voxelise, zero_floats,
};
pub use relation::Side;
pub use unique::{candidates, count_bits, mark, number, outputs};
pub use voxel::{first_features, quantise};
