//! Published times of other people's kernels beside what the model says of the best config of ours.
//!
//! | file | holds |
//! |---|---|
//! | `points` | the points, from `published/*.toml`, each with its source |
//! | `best` | the best config of a problem in the model's eyes |
//! | `table` | the comparison, as `docs/model.md` has it |

mod best;
mod points;
mod table;

pub use best::{Best, BestError, best};
pub use points::{Group, Published, Unit, groups};
pub use table::{Compared, Summary, compare, table};
