//! Networks of sparse convolutions: layer graphs in data files, and one plan for all layers of one.
//!
//! | file | holds |
//! |---|---|
//! | `graph` | layers, the resolutions they work at, and which of them share a kernel map |
//! | `file` | from a data file to a graph |
//! | `shipped` | the networks under `networks/` |
//! | `maps` | maps of all layers on the host |
//! | `choice` | how the layers of a group are done |
//! | `reference` | what a network gives in f64 |
//! | `plan` | one plan for a network or a block of it |
//! | `concat` | features side by side |

mod choice;
mod concat;
mod file;
mod graph;
mod maps;
mod plan;
mod reference;
mod shipped;

pub use choice::{ChoiceError, GroupChoice, NetworkChoice, ShortTiles};
pub use graph::{Concat, Conv, Feed, GraphError, Group, GroupId, Kind, Layer, LayerId, Level, LevelId, Network};
pub use maps::NetworkMaps;
pub use plan::{NetworkError, network_plan};
pub use reference::{NetworkReference, network_reference};
pub use shipped::{SHIPPED, shipped};
