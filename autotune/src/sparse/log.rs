//! The log of trials: JSON lines, only ever appended to. What stands in it need not be measured again.

use super::measure::Failure;
pub use crate::log::LogError;
use crate::log::lines::{self, Lines};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the form.
const SCHEMA: u32 = 1;

/// What trials are of: a log is continued for the same only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of the form.
    pub schema: u32,
    /// Network.
    pub network: String,
    /// Fingerprint of its layers.
    pub shape: String,
    /// Fingerprint of the scene's statistics.
    pub stats: String,
    /// Device profile.
    pub device: String,
    /// Fingerprint of the candidates and of how they are searched, the seed with it.
    pub search: String,
}

/// What was tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Trial {
    /// The numbers of a candidate.
    Check {
        /// Group.
        group: String,
        /// Candidate.
        candidate: String,
    },
    /// The time of a choice in which no group is tried.
    Whole {
        /// Fingerprint of the candidates of all groups.
        choice: String,
        /// First of its runs, counted from 0.
        from: u32,
    },
    /// The time of a choice.
    Time {
        /// Group whose candidate is tried.
        group: String,
        /// Candidate.
        candidate: String,
        /// Fingerprint of the candidates of all groups.
        choice: String,
        /// First of its runs, counted from 0.
        from: u32,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The numbers are right.
    Right,
    /// Nanoseconds of each run: whole numbers, so that they come back as they were.
    Nanoseconds(Vec<u64>),
    /// The candidate is none, or did not run with the others.
    Failed {
        /// The group whose launch was the cause.
        group: String,
        /// What happened.
        failure: Failure,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    trial: Trial,
    outcome: Outcome,
}

/// Trials, by what was tried.
#[derive(Debug, Default)]
pub struct TrialLog {
    file: Option<Lines>,
    trials: BTreeMap<Trial, Outcome>,
}

impl Header {
    /// The header of a search.
    pub fn new(network: &str, shape: String, stats: String, device: &str, search: String) -> Self {
        Header { schema: SCHEMA, network: network.into(), shape, stats, device: device.into(), search }
    }
}

impl lines::Header for Header {
    fn differs(&self, found: &Header) -> Option<(&'static str, String, String)> {
        let fields = |h: &Header| {
            let schema = h.schema.to_string();
            [schema, h.network.clone(), h.shape.clone(), h.stats.clone(), h.device.clone(), h.search.clone()]
        };
        let names = ["version", "network", "network shape", "scene", "device", "search"];
        let pairs = names.into_iter().zip(fields(found).into_iter().zip(fields(self)));
        pairs.map(|(name, (found, expected))| (name, found, expected)).find(|(_, found, expected)| found != expected)
    }
}

impl TrialLog {
    /// A log that nobody keeps.
    pub fn in_memory() -> Self {
        TrialLog::default()
    }

    /// Opens a log, or begins one. A last line that was not finished, as a kill leaves it, is cut off: its trial was not either.
    pub fn open(path: &Path, header: &Header) -> Result<Self, LogError> {
        let opened = lines::open::<_, Line>(path, header)?;
        let mut trials = BTreeMap::new();
        for line in opened.entries {
            trials.entry(line.trial).or_insert(line.outcome);
        }
        Ok(TrialLog { file: Some(opened.lines), trials })
    }

    /// What came of a trial, if it was made.
    pub fn get(&self, trial: &Trial) -> Option<&Outcome> {
        self.trials.get(trial)
    }

    /// Trials made.
    pub fn len(&self) -> usize {
        self.trials.len()
    }

    /// Whether none was made.
    pub fn is_empty(&self) -> bool {
        self.trials.is_empty()
    }

    /// Notes a trial: when this returns, it survives the end of the process.
    pub fn push(&mut self, trial: Trial, outcome: Outcome) -> Result<(), LogError> {
        let line = Line { trial, outcome };
        if let Some(file) = &mut self.file {
            file.append(&line)?;
        }
        self.trials.insert(line.trial, line.outcome);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(device: &str) -> Header {
        Header::new("net", "s".into(), "t".into(), device, "u".into())
    }

    fn trial(n: u32) -> Trial {
        Trial::Time { group: "g".into(), candidate: "c".into(), choice: "x".into(), from: n }
    }

    #[test]
    fn every_prefix_of_a_log_is_a_log_with_the_trials_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = TrialLog::open(&path, &header("d")).unwrap();
        let outcomes = [
            Outcome::Nanoseconds(vec![651_385, 1, u64::MAX]),
            Outcome::Right,
            Outcome::Failed { group: "g".into(), failure: Failure::Hung("10 s\nand more".into()) },
        ];
        for (n, o) in outcomes.iter().enumerate() {
            log.push(trial(n as u32), o.clone()).unwrap();
        }
        drop(log);
        let bytes = std::fs::read(&path).unwrap();
        for end in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let mut log = TrialLog::open(&path, &header("d")).unwrap();
            let lines = bytes[..end].iter().filter(|b| **b == b'\n').count();
            assert_eq!(log.len(), lines.saturating_sub(1), "after {end} bytes");
            for (n, outcome) in outcomes.iter().enumerate().take(log.len()) {
                assert_eq!(log.get(&trial(n as u32)), Some(outcome));
            }
            // What is written next stands on a line of its own.
            log.push(trial(9), Outcome::Right).unwrap();
            drop(log);
            assert_eq!(TrialLog::open(&path, &header("d")).unwrap().get(&trial(9)), Some(&Outcome::Right));
        }
    }

    #[test]
    fn foreign_logs_other_files_and_busy_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = TrialLog::open(&path, &header("d")).unwrap();
        let error = |h: &Header| TrialLog::open(&path, h).unwrap_err().to_string();
        assert!(error(&header("d")).contains("another search is writing"));
        drop(log);
        assert!(error(&header("e")).contains("of another device: d, not e"));
        std::fs::write(&path, "# notes\n").unwrap();
        assert!(error(&header("d")).contains("line 1 is no trial"));
        drop(std::fs::remove_file(&path));
        drop(TrialLog::open(&path, &header("d")).unwrap());
        let mut text = std::fs::read_to_string(&path).unwrap();
        text += "{\"trial\":1}\n";
        std::fs::write(&path, &text).unwrap();
        assert!(error(&header("d")).contains("line 2 is no trial"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "a refused file is left as it is");
    }
}
