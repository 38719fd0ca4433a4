//! Choosing a plan for a problem.
//!
//! | file | holds |
//! |---|---|
//! | `table`, `tree` | the data: entries of known problems, a small decision tree for the rest, cells they share |
//! | `check` | what is refused when a manifest is read |
//! | `build` | tables made from known problems and a ranking on a grid |
//! | `policy` | what may be asked for, why nothing was chosen |
//! | `candidate`, `select` | conditions of plans; the choice itself |

mod build;
mod candidate;
mod check;
mod policy;
mod select;
mod table;
mod tree;

pub use build::{BuildError, Known, TableBuilder};
pub(crate) use candidate::{scope, sets};
pub use check::MAX_AXES;
pub use policy::{Policy, SelectError};
pub use select::{ClassId, Dispatcher};
pub use table::{CellIndex, ChosenBy, Dispatch, Exact, PlanIndex};
pub use tree::{MAX_DEPTH, MAX_NODES, Node, Tree};
