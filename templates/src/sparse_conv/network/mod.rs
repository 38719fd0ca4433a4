//! Networks of sparse convolutions: layer graphs in data files, and one plan for all layers of one.
//!
//! | file | holds |
//! |---|---|
//! | `graph` | layers, the resolutions they work at, and which of them share a kernel map |
//! | `file` | from a data file to a graph |
//! | `shipped` | the networks under `networks/` |

mod file;
mod graph;
mod shipped;

pub use graph::{Concat, Conv, Feed, GraphError, Group, GroupId, Kind, Layer, LayerId, Level, LevelId, Network};
pub use shipped::{SHIPPED, shipped};
