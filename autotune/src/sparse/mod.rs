//! The tuner of sparse convolutions: which dataflow and tile the layers of a network take that share a kernel map.
//!
//! | file | holds |
//! |---|---|
//! | `work` | what there is to tune: layers, groups, statistics of their maps |
//! | `exact` | that work, counted from a network's maps of one scene |
//! | `candidate`, `space` | ways to do a group, their ids, why a point is none |
//! | `cost/` | the model: a time for each launch and what bounds it |
//! | `measure` | what a search asks of a device: a verdict, a time |
//! | `search`, `log` | group after group by the time of the whole network; trials that survive the process |
//! | `record` | what was chosen, as a file to commit; why one does not serve |
//! | `explain` | why a group does what it does |
//! | `simulate` | a device without hardware, which tests the search |

mod candidate;
mod cost;
mod exact;
mod explain;
mod log;
mod measure;
mod record;
#[cfg(test)]
mod samples;
mod search;
mod simulate;
mod space;
mod work;

pub use candidate::{Candidate, Core, Flow, Tile};
pub use cost::{Bound, COEFFICIENTS, Coefficient, GroupCost, LaunchCost, Model};
pub use exact::ExactError;
pub use explain::{Explanation, GroupExplanation, LaunchSum, Parts, PassedOver, Waste};
pub use log::{Header, LogError, Outcome, Trial, TrialLog};
pub use measure::{Broken, Failure, Measure, Verdict};
pub use record::{Fit, GroupRecord, Record, RecordError, RunnerUp, Source};
pub use search::{Found, GroupFound, Search, SearchError, Settings};
pub use simulate::{Hidden, Simulated};
pub use space::{Illegal, Space};
pub use work::{CopyShape, GroupStats, LayerShape, MapWork, NetworkWork, Precision, Rows, TileStats, ViewStats, Way, WorkError};
