//! The tuner of sparse convolutions: which dataflow and tile the layers of a network take that share a kernel map.
//!
//! | file | holds |
//! |---|---|
//! | `work` | what there is to tune: layers, groups, statistics of their maps |
//! | `candidate`, `space` | ways to do a group, their ids, why a point is none |
//! | `cost/` | the model: a time for each launch and what bounds it |

mod candidate;
mod cost;
#[cfg(test)]
mod samples;
mod space;
mod work;

pub use candidate::{Candidate, Core, Flow, Tile};
pub use cost::{Bound, COEFFICIENTS, Coefficient, GroupCost, LaunchCost, Model};
pub use space::{Illegal, Space};
pub use work::{GroupStats, LayerShape, MapWork, NetworkWork, Precision, Rows, TileStats, ViewStats, Way, WorkError};
