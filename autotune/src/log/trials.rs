//! The log as a search uses it.

use super::identity::Identity;
use super::lines::{self, Lines, LogError};
use super::trial::{Entry, Outcome, Trial};
use crate::task::Task;
use std::collections::BTreeMap;
use std::path::Path;

/// Trials, by what was tried.
#[derive(Debug, Default)]
pub struct TrialLog {
    lines: Option<Lines>,
    trials: BTreeMap<Trial, Outcome>,
    torn: usize,
}

impl TrialLog {
    /// A log that nobody keeps.
    pub fn in_memory() -> Self {
        TrialLog::default()
    }

    /// The trials of lines; the first of equal trials counts.
    pub fn of(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut log = TrialLog::default();
        entries.into_iter().for_each(|e| log.insert(e));
        log
    }

    /// Opens a log, or begins one; until it is dropped no other process can. A last line without an end is cut off, and
    /// [`TrialLog::torn`] says so; a line that is damaged, and a log of something else, are refused and left as they are.
    pub fn open(path: &Path, identity: &Identity) -> Result<Self, LogError> {
        let opened = lines::open(path, identity)?;
        let mut log = TrialLog { lines: Some(opened.lines), torn: opened.torn, ..TrialLog::default() };
        opened.entries.into_iter().for_each(|e| log.insert(e));
        Ok(log)
    }

    /// Reads a log that nobody is writing to.
    pub fn read(path: &Path) -> Result<(Identity, Vec<Entry>), LogError> {
        lines::read(path).map(|(identity, entries, _)| (identity, entries))
    }

    /// What came of a trial, if it was made.
    pub fn get(&self, trial: &Trial) -> Option<&Outcome> {
        self.trials.get(trial)
    }

    /// Trials of a task and what came of them: gates, then times, then turns, each by ascending id.
    pub fn of_task<'a>(&'a self, task: &'a Task) -> impl Iterator<Item = (&'a Trial, &'a Outcome)> {
        self.trials.iter().filter(move |(t, _)| t.task() == task)
    }

    /// Trials made.
    pub fn len(&self) -> usize {
        self.trials.len()
    }

    /// Whether none was made.
    pub fn is_empty(&self) -> bool {
        self.trials.is_empty()
    }

    /// Bytes of an unfinished last line that were cut off when it was opened.
    pub fn torn(&self) -> usize {
        self.torn
    }

    /// Notes a trial: when this returns, it survives the end of the process.
    pub fn push(&mut self, trial: Trial, outcome: Outcome) -> Result<(), LogError> {
        let entry = Entry { trial, outcome };
        if let Some(lines) = &mut self.lines {
            lines.append(&entry)?;
        }
        self.insert(entry);
        Ok(())
    }

    /// Waits until all trials are on the disk; a search does so at the end of each task.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.lines.as_mut().map_or(Ok(()), Lines::sync)
    }

    fn insert(&mut self, entry: Entry) {
        self.trials.entry(entry.trial).or_insert(entry.outcome);
    }
}
