//! What came of a search.

use super::measure::{Failure, Sample};
use crate::log::LogError;
use crate::space::Point;
use crate::task::Task;

/// Times of a candidate, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// Half of the samples are below it.
    pub median: f64,
    /// A fifth of them.
    pub p20: f64,
    /// Four fifths.
    pub p80: f64,
    /// How many there are.
    pub samples: usize,
}

/// How a search of a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Neighbours of the best bring no gain.
    Settled,
    /// The budget did.
    Budget,
}

/// What came of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The task.
    pub task: Task,
    /// The best point, its times as a finalist where it was one among several.
    pub best: (Point, Times),
    /// The next best.
    pub runner_up: Option<(Point, Times)>,
    /// Every point that was timed with its median, best first.
    pub timed: Vec<(Point, f64)>,
    /// Points that failed, and why, by ascending id.
    pub failed: Vec<(Point, Failure)>,
    /// What the model says of the best, seconds.
    pub modelled: f64,
    /// Trials, those of the log included.
    pub trials: usize,
    /// How it ended.
    pub end: End,
}

/// A task without a result.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The device. What was found so far is in the log.
    #[error("the device is lost: {0}")]
    Lost(String),
    /// A task that the space has nothing for.
    #[error("{task} has no candidate: {why}")]
    NoCandidate {
        /// The task.
        task: String,
        /// Why its first point is none.
        why: String,
    },
    /// A task of which no candidate works.
    #[error("{task}: none of the {tried} candidates that were tried works; the last, {point}: {last}")]
    NoneRight {
        /// The task.
        task: String,
        /// How many.
        tried: usize,
        /// The last.
        point: String,
        /// What was wrong with it.
        last: Failure,
    },
    /// The budget ended before anything was timed.
    #[error("{task}: {trials} trials end before a candidate is timed; allow more")]
    Budget {
        /// The task.
        task: String,
        /// How many were made.
        trials: usize,
    },
    /// The log knows a point by other kernels.
    #[error(
        "{task}: the log has {point} as {logged}, it is {now} now: its kernels have changed; move the log away to begin anew"
    )]
    Changed {
        /// The task.
        task: String,
        /// The point.
        point: String,
        /// Identity in the log.
        logged: String,
        /// Identity now.
        now: String,
    },
}

impl Times {
    /// Of samples; `None` of none.
    pub fn of(samples: &[Sample]) -> Option<Times> {
        let mut list: Vec<f64> = samples.iter().map(|s| s.seconds).collect();
        list.sort_by(f64::total_cmp);
        let at = |part: usize| list.get((list.len() * part / 10).min(list.len().saturating_sub(1))).copied();
        Some(Times { median: at(5)?, p20: at(2)?, p80: at(8)?, samples: list.len() })
    }
}
