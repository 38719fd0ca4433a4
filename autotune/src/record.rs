//! What was found for an op on a device: a JSON file to commit, the same text for the same log, and refused where it does not
//! serve.

use crate::log::{DeviceId, Identity, Outcome, Source, Trial, TrialLog};
use crate::search::{Found, Times};
use crate::space::{Illegal, Point, Space, space_hash};
use crate::task::Task;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of the form.
const SCHEMA: u32 = 1;
/// Points after the runner-up that are kept.
const KEPT: usize = 6;

/// The best points of an op's tasks on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of the form.
    pub schema: u32,
    /// The op.
    pub op: String,
    /// Target of the kernels.
    pub target: String,
    /// Where times come from.
    pub source: Source,
    /// What they ran on.
    pub device: DeviceId,
    /// What made the kernels.
    pub toolchain: String,
    /// Revision of how times were taken.
    pub protocol: u32,
    /// How candidates were searched.
    pub search: String,
    /// For each class the fingerprint of its space.
    pub spaces: BTreeMap<String, String>,
    /// By ascending id of the task.
    pub entries: Vec<Entry>,
}

/// What was found for a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The task.
    pub task: Task,
    /// The best point.
    pub best: Point,
    /// In which order it sums: the orders of its kernels.
    pub numerics: String,
    /// Identity of its kernels, where the device knew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// Nanoseconds.
    pub median_ns: u64,
    /// A fifth of the runs took less, nanoseconds.
    pub p20_ns: u64,
    /// Four fifths did.
    pub p80_ns: u64,
    /// Runs.
    pub samples: usize,
    /// What the model says, nanoseconds.
    pub model_ns: u64,
    /// The next best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_up: Option<RunnerUp>,
    /// What came after it, best first: with the best and the runner-up what another device of the target ranks anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<RunnerUp>,
}

/// A point that was not chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerUp {
    /// The point.
    pub point: Point,
    /// Nanoseconds.
    pub median_ns: u64,
}

/// What a record must be of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The op.
    pub op: String,
    /// Target, device profile, toolchain, protocol and source of times.
    pub identity: Identity,
    /// Fingerprints of the spaces as they are now, by class. Classes that are not named are not looked at.
    pub spaces: BTreeMap<String, String>,
}

/// A record that does not serve.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file.
    #[error("{}: {source}", path.display())]
    Io {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No record.
    #[error("not a tuning record: {0}")]
    Form(String),
    /// Of another version.
    #[error("a record of version {found}, this is version {SCHEMA}: tune again")]
    Version {
        /// In the file.
        found: u32,
    },
    /// Of something else.
    #[error("the record is of another {what}: {found}, not {expected}")]
    Foreign {
        /// What differs.
        what: &'static str,
        /// In the record.
        found: String,
        /// Now.
        expected: String,
    },
    /// Of the same thing as it was.
    #[error("the record is stale: its {what} is {found}, now it is {expected}; tune again")]
    Stale {
        /// What has changed.
        what: String,
        /// In the record.
        found: String,
        /// Now.
        expected: String,
    },
    /// A point that is none any more.
    #[error("the record is stale: {point} of {task}: {why}; tune again")]
    Illegal {
        /// The task.
        task: String,
        /// The point.
        point: String,
        /// Why.
        why: Illegal,
    },
    /// Times that are good for tests only.
    #[error("the times of the record are {found}, not {expected}: they choose nothing here")]
    Source {
        /// In the record.
        found: Source,
        /// Now.
        expected: Source,
    },
}

impl Record {
    /// The record of what was found, each with the space it was found in; artifacts come from the log.
    pub fn from_log(
        identity: &Identity,
        op: &str,
        log: &TrialLog,
        found: &[(&dyn Space, &Found)],
    ) -> Result<Record, RecordError> {
        let mut spaces = BTreeMap::new();
        let mut entries = BTreeMap::new();
        for (space, found) in found.iter().filter(|(_, f)| f.task.op == op) {
            spaces.entry(found.task.class.clone()).or_insert_with(|| space_hash(*space));
            let point = &found.best.0;
            let stale = |why| RecordError::Illegal { task: found.task.to_string(), point: point.to_string(), why };
            let plan = space.plan(point).map_err(stale)?;
            let orders: Vec<&str> = plan.kernels.iter().map(|k| &*k.numerics.order).filter(|o| *o != "none").collect();
            let gate = Trial::Gate { task: found.task.clone(), point: point.clone() };
            let artifact = match log.get(&gate) {
                Some(Outcome::Right { artifact }) => artifact.clone(),
                _ => None,
            };
            entries.insert(found.task.to_string(), Entry::new(found, orders.join(" "), artifact));
        }
        Ok(Record {
            schema: SCHEMA,
            op: op.into(),
            target: identity.target.clone(),
            source: identity.source,
            device: identity.device.clone(),
            toolchain: identity.toolchain.clone(),
            protocol: identity.protocol,
            search: identity.search.clone(),
            spaces,
            entries: entries.into_values().collect(),
        })
    }

    /// Its text: JSON, a line for each number, always the same.
    pub fn to_json(&self) -> String {
        // Numbers, strings and lists: there is nothing that cannot be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Reads a record of this version; what it is of is looked at by [`Record::verify`].
    pub fn from_json(text: &str) -> Result<Record, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let form = |e: serde_json::Error| RecordError::Form(e.to_string());
        let Version { schema: found } = serde_json::from_str(text).map_err(form)?;
        if found != SCHEMA {
            return Err(RecordError::Version { found });
        }
        serde_json::from_str(text).map_err(form)
    }

    /// Reads a file; see [`Record::from_json`].
    pub fn load(path: &Path) -> Result<Record, RecordError> {
        let text = std::fs::read_to_string(path).map_err(|source| RecordError::Io { path: path.into(), source })?;
        Record::from_json(&text)
    }

    /// Reads a file and refuses it where it is of something else, or stale; see [`Record::verify`].
    pub fn load_verified(path: &Path, expected: &Expected) -> Result<Record, RecordError> {
        let record = Record::load(path)?;
        record.verify(expected)?;
        Ok(record)
    }

    /// Writes a file, which appears whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        let io = |source| RecordError::Io { path: path.into(), source };
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(io)?;
        crate::files::write(path, self.to_json().as_bytes()).map_err(io)
    }

    /// Whether it serves: foreign is another op, target or device; stale are another toolchain, protocol or space.
    pub fn verify(&self, expected: &Expected) -> Result<(), RecordError> {
        let (e, text) = (&expected.identity, |v: &dyn ToString| v.to_string());
        for (what, found, expected) in [
            ("op", &self.op, &expected.op),
            ("target", &self.target, &e.target),
            ("device", &self.device.profile, &e.device.profile),
        ] {
            if found != expected {
                return Err(RecordError::Foreign { what, found: found.clone(), expected: expected.clone() });
            }
        }
        if self.source != e.source {
            return Err(RecordError::Source { found: self.source, expected: e.source });
        }
        let mut pairs = vec![
            ("toolchain".to_string(), self.toolchain.clone(), e.toolchain.clone()),
            ("protocol".to_string(), text(&self.protocol), text(&e.protocol)),
        ];
        for (class, found) in &self.spaces {
            let now = expected.spaces.get(class).unwrap_or(found);
            pairs.push((format!("space of {} {class}", self.op), found.clone(), now.clone()));
        }
        for (what, found, expected) in pairs {
            if found != expected {
                return Err(RecordError::Stale { what, found, expected });
            }
        }
        Ok(())
    }

    /// Refuses entries whose kernels have changed: `now` gives the identity of a point's kernels where it is known.
    pub fn verify_artifacts(&self, mut now: impl FnMut(&Task, &Point) -> Option<String>) -> Result<(), RecordError> {
        for e in &self.entries {
            if let (Some(found), Some(expected)) = (e.artifact.clone(), now(&e.task, &e.best))
                && found != expected
            {
                return Err(RecordError::Stale { what: format!("artifact of {} for {}", e.best, e.task), found, expected });
            }
        }
        Ok(())
    }

    /// What was found for a task.
    pub fn entry(&self, task: &Task) -> Option<&Entry> {
        self.entries.iter().find(|e| e.task == *task)
    }
}

impl Entry {
    /// What came after the best, best first.
    pub fn next_best(&self) -> impl Iterator<Item = &RunnerUp> {
        self.runner_up.iter().chain(&self.others)
    }

    fn new(found: &Found, numerics: String, artifact: Option<String>) -> Self {
        let (best, Times { median, p20, p80, samples }) = &found.best;
        let runner_up = found.runner_up.as_ref().map(|(p, t)| RunnerUp { point: p.clone(), median_ns: nanoseconds(t.median) });
        let passed = |p: &Point| p != best && runner_up.as_ref().is_none_or(|r| r.point != *p);
        let after = found.timed.iter().filter(|t| passed(&t.0)).take(KEPT);
        let others = after.map(|(p, t)| RunnerUp { point: p.clone(), median_ns: nanoseconds(*t) }).collect();
        Entry {
            task: found.task.clone(),
            best: best.clone(),
            numerics,
            artifact,
            median_ns: nanoseconds(*median),
            p20_ns: nanoseconds(*p20),
            p80_ns: nanoseconds(*p80),
            samples: *samples,
            model_ns: nanoseconds(found.modelled),
            runner_up,
            others,
        }
    }
}

/// Whole: less is noise, and makes differences nobody reads.
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}
