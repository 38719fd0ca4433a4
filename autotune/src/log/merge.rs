//! Logs of shards made one.

use super::identity::Identity;
use super::lines::{self, LogError};
use super::trial::{Entry, Trial};
use crate::task::Task;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Logs that are not one.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No log was given.
    #[error("there is no log to merge")]
    Empty,
    /// A trial worked in one log and failed in another.
    #[error("{trial}: works in {} and fails in {}; leave one of the two out", works.display(), fails.display())]
    Disagree {
        /// What was tried.
        trial: String,
        /// Where it works.
        works: PathBuf,
        /// Where it fails.
        fails: PathBuf,
    },
    /// The merged log could not be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Several logs as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// Of all of them.
    pub identity: Identity,
    /// Their lines: tasks by ascending id, those of a task in the order they were made. One search over all tasks writes the
    /// same.
    pub entries: Vec<Entry>,
    /// Trials that stood in more than one log.
    pub repeated: usize,
}

struct Line<'a> {
    path: &'a Path,
    entry: Entry,
}

/// Merges logs of the same identity. Where a task is in several of them, the log with most trials of it counts, of equal ones the
/// one whose first differing line is smaller; the others add the trials it lacks. So the order of `paths` does not matter.
pub fn merge(paths: &[impl AsRef<Path>]) -> Result<Merged, MergeError> {
    let mut identity: Option<Identity> = None;
    let mut tasks: BTreeMap<String, Vec<Vec<Line>>> = BTreeMap::new();
    for path in paths.iter().map(AsRef::as_ref) {
        let (found, entries, _) = lines::read::<Identity, Entry>(path)?;
        lines::refuse_foreign(path, identity.get_or_insert_with(|| found.clone()), &found)?;
        let mut own: BTreeMap<Task, Vec<Line>> = BTreeMap::new();
        entries.into_iter().for_each(|entry| own.entry(entry.trial.task().clone()).or_default().push(Line { path, entry }));
        own.into_iter().for_each(|(task, lines)| tasks.entry(task.to_string()).or_default().push(lines));
    }
    let mut merged = Merged { identity: identity.ok_or(MergeError::Empty)?, entries: Vec::new(), repeated: 0 };
    for mut logs in tasks.into_values() {
        logs.sort_by_cached_key(|log| {
            let texts = log.iter().map(|l| lines::line(l.path, &l.entry).unwrap_or_default());
            (Reverse(log.len()), texts.collect::<Vec<_>>())
        });
        let mut seen: BTreeMap<Trial, (bool, &Path)> = BTreeMap::new();
        for line in logs.into_iter().flatten() {
            let works = line.entry.outcome.worked();
            match seen.get(&line.entry.trial) {
                Some((known, _)) if *known == works => merged.repeated += 1,
                Some((_, other)) => {
                    let (works, fails) = if works { (line.path, *other) } else { (*other, line.path) };
                    let trial = line.entry.trial.to_string();
                    return Err(MergeError::Disagree { trial, works: works.into(), fails: fails.into() });
                }
                None => {
                    seen.insert(line.entry.trial.clone(), (works, line.path));
                    merged.entries.push(line.entry);
                }
            }
        }
    }
    Ok(merged)
}

impl Merged {
    /// Writes it as a log, which appears whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), MergeError> {
        let mut bytes = lines::line(path, &self.identity)?;
        for entry in &self.entries {
            bytes.extend(lines::line(path, entry)?);
        }
        crate::files::write(path, &bytes).map_err(|source| MergeError::Write { path: path.into(), source })
    }
}
