//! What supervisor and worker say to each other: a line of JSON each, questions on the worker's stdin, answers on its stdout.

use crate::device::DeviceName;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tilewright_autotune::search::{Failure, Sample};
use tilewright_autotune::space::Point;
use tilewright_autotune::task::Task;

/// Version of the words below; both sides are one program, so another is a mistake of whoever copied files.
pub const VERSION: u32 = 1;
/// Longest answer that is read: what is longer is no answer.
pub const LINE_BYTES: u64 = 16 << 20;

/// A question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The first: what to work on.
    Open(Open),
    /// One more tuning pack; answered with `Right`.
    Add(PathBuf),
    /// The numeric gate.
    Check {
        /// Problem.
        task: Task,
        /// Candidate.
        point: Point,
    },
    /// Times of runs `from..from + count`.
    Time {
        /// Problem.
        task: Task,
        /// Candidate.
        point: Point,
        /// Number of the first run.
        from: u32,
        /// Runs.
        count: u32,
    },
    /// The time of a finalist's turn; answered with one.
    Turn {
        /// Problem.
        task: Task,
        /// Candidate.
        point: Point,
        /// Which round.
        round: u32,
    },
}

/// What a worker works on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// [`VERSION`].
    pub version: u32,
    /// Where kernels run.
    pub device: DeviceName,
    /// Folders of tuning packs.
    pub packs: Vec<PathBuf>,
    /// Which random data.
    pub seed: u64,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// The device is there.
    Ready(Ready),
    /// It is not, or the pack is not: nothing can be measured.
    Refused(String),
    /// The candidate passed the gate.
    Right,
    /// Times, in order.
    Times(Vec<Sample>),
    /// The candidate is none.
    Failed(Failure),
}

/// What a worker has opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// Name of the device.
    pub name: String,
    /// What the driver says it is; `None` where there is no driver.
    pub capabilities: Option<tilewright_autotune::Capabilities>,
    /// What it lacks or assumes, in words.
    pub notes: Vec<String>,
}
