//! What was tried, and what came of it.

use crate::search::{Failure, Sample};
use crate::space::Point;
use crate::task::Task;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What was tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Trial {
    /// The numbers of a candidate.
    Gate {
        /// Task.
        task: Task,
        /// Candidate.
        point: Point,
    },
    /// Its time.
    Times {
        /// Task.
        task: Task,
        /// Candidate.
        point: Point,
        /// First of its runs, counted from 0.
        from: u32,
        /// How many.
        count: u32,
    },
    /// The times of finalists in turns: one trial, since half of it is worth nothing.
    Interleaved {
        /// Task.
        task: Task,
        /// Candidates by ascending id.
        points: Vec<Point>,
        /// First round, counted from 0.
        from: u32,
        /// How many.
        rounds: u32,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The numbers are right.
    Right {
        /// Identity of the kernels, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        artifact: Option<String>,
    },
    /// A sample a run.
    Samples(Vec<Sample>),
    /// For each of the points its samples, or why it has none.
    Turns(Vec<Result<Vec<Sample>, Failure>>),
    /// The candidate is none.
    Failed(Failure),
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What was tried.
    pub trial: Trial,
    /// What came of it.
    pub outcome: Outcome,
}

impl Trial {
    /// The task it is of.
    pub fn task(&self) -> &Task {
        match self {
            Trial::Gate { task, .. } | Trial::Times { task, .. } | Trial::Interleaved { task, .. } => task,
        }
    }
}

impl Outcome {
    /// Whether the trial brought what it was made for.
    pub fn worked(&self) -> bool {
        !matches!(self, Outcome::Failed(_))
    }

    /// Seconds of runs that it took, without what was around them.
    pub fn seconds(&self) -> f64 {
        let sum = |list: &[Sample]| list.iter().map(|s| s.seconds).sum::<f64>();
        match self {
            Outcome::Samples(list) => sum(list),
            Outcome::Turns(lists) => lists.iter().flatten().map(|l| sum(l)).sum(),
            Outcome::Failed(Failure::Hung(time)) => time.as_secs_f64(),
            Outcome::Failed(_) | Outcome::Right { .. } => 0.0,
        }
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trial::Gate { task, point } => write!(f, "{task}: gate of {point}"),
            Trial::Times { task, point, from, count } => write!(f, "{task}: runs {from} to {} of {point}", from + count),
            Trial::Interleaved { task, points, from, rounds } => {
                write!(f, "{task}: rounds {from} to {} of {} finalists", from + rounds, points.len())
            }
        }
    }
}
