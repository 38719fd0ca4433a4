//! What a search asks of a device.

use super::candidate::Candidate;
use serde::{Deserialize, Serialize};

/// Why a candidate is never chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Its numbers are wrong.
    #[error("wrong: {0}")]
    Wrong(String),
    /// It could not be run.
    #[error("crashed: {0}")]
    Crashed(String),
    /// It did not end in time.
    #[error("hung: {0}")]
    Hung(String),
}

/// A run that did not come to its end, and whose launch was the cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("group {group}: {failure}")]
pub struct Broken {
    /// Position of the group.
    pub group: usize,
    /// What happened.
    pub failure: Failure,
}

/// Whether a candidate's numbers can be believed.
pub type Verdict = Result<(), Failure>;

/// A device that plans run on.
///
/// Whoever implements it keeps what goes wrong away from the search: a kernel that crashes or hangs runs in a process of its own,
/// or on a context that is thrown away.
pub trait Measure {
    /// The numeric gate: the layers of a group, done by a candidate, against the reference. Called once before the candidate's
    /// time counts.
    fn check(&mut self, group: usize, candidate: &Candidate) -> Verdict;

    /// Seconds of one run of the whole network, from points to features: maps made, rows sorted, a candidate for each group.
    /// `sample` counts the runs of this choice. Of a run that breaks it is found out, launch by launch, which group broke it.
    fn time(&mut self, choice: &[Candidate], sample: u32) -> Result<f64, Broken>;
}
