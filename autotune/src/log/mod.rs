//! The log of trials: JSON lines, only ever appended to. What stands in it is not measured again.
//!
//! | file | holds |
//! |---|---|
//! | `lines` | the file: a header and a line each, whole or not there; locked while someone writes |
//! | `identity` | the header: what the trials are of |
//! | `trial` | a line: what was tried and what came of it |
//! | `trials` | the log as a search uses it |
//! | `merge` | logs of shards made one |

mod identity;
pub(crate) mod lines;
mod merge;
mod trial;
mod trials;

pub use identity::{DeviceId, Identity, Source};
pub use lines::LogError;
pub use merge::{MergeError, Merged, merge};
pub use trial::{Entry, Outcome, Trial};
pub use trials::TrialLog;

#[cfg(test)]
mod tests;
