//! Files of JSON lines: a header that says what they are of, then a line each.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A log that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file.
    #[error("{}: {source}", path.display())]
    Io {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another search writes to it.
    #[error("{}: another search is writing to it", .0.display())]
    Busy(PathBuf),
    /// The file is something else, of another version, or damaged.
    #[error("{}: line {line} is no trial ({why}); move the file away to begin anew", path.display())]
    Line {
        /// Its path.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Why.
        why: String,
    },
    /// The trials are of something else.
    #[error("{}: its trials are of another {what}: {found}, not {expected}; move the file away to begin anew", path.display())]
    Foreign {
        /// Its path.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// In the file.
        found: String,
        /// Now.
        expected: String,
    },
}

/// What the first line of a log is: it is continued for the same only.
pub(crate) trait Header: Serialize + DeserializeOwned {
    /// What differs from a header that was found: its name, what was found, what is expected.
    fn differs(&self, found: &Self) -> Option<(&'static str, String, String)>;
}

/// The open file of a log; nobody else can open it for writing meanwhile.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    file: File,
}

/// A log as it was found.
#[derive(Debug)]
pub(crate) struct Opened<L> {
    /// To append to.
    pub lines: Lines,
    /// What it holds.
    pub entries: Vec<L>,
    /// Bytes of a last line without an end, as a kill leaves it, that were cut off: its trial was not finished either.
    pub torn: usize,
}

/// Opens a log, or begins one.
pub(crate) fn open<H: Header, L: DeserializeOwned>(path: &Path, header: &H) -> Result<Opened<L>, LogError> {
    let io = |source| LogError::Io { path: path.into(), source };
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
    lock(path, file.try_lock())?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io)?;
    let (whole, found, entries) = parse(path, &bytes)?;
    match found {
        Some(found) => refuse_foreign(path, header, &found)?,
        None => {
            // Only a header that a kill cut short is overwritten; whatever else has one line without an end is somebody's.
            let begun = line(path, header)?.starts_with(&bytes);
            begun.then_some(()).ok_or_else(|| bad(path, 1, "a file of something else"))?;
        }
    }
    file.set_len(whole as u64).map_err(io)?;
    file.seek(SeekFrom::Start(whole as u64)).map_err(io)?;
    let mut lines = Lines { path: path.into(), file };
    if whole == 0 {
        lines.append(header)?;
    }
    Ok(Opened { lines, entries, torn: bytes.len() - whole })
}

/// Reads a log that nobody is writing to: its header, its lines, and the bytes of a torn last line, which are left in the file.
pub(crate) fn read<H: Header, L: DeserializeOwned>(path: &Path) -> Result<(H, Vec<L>, usize), LogError> {
    let io = |source| LogError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(io)?;
    lock(path, file.try_lock_shared())?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io)?;
    let (whole, found, entries) = parse(path, &bytes)?;
    let header = found.ok_or_else(|| bad(path, 1, "there is no header"))?;
    Ok((header, entries, bytes.len() - whole))
}

/// One line as it is written.
pub(crate) fn line(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, LogError> {
    let mut text = serde_json::to_vec(value).map_err(|e| LogError::Io { path: path.into(), source: e.into() })?;
    text.push(b'\n');
    Ok(text)
}

impl Lines {
    /// Appends a line. When this returns, it survives the end of the process; [`Lines::sync`] has it survive the machine's.
    pub fn append(&mut self, value: &impl Serialize) -> Result<(), LogError> {
        let text = line(&self.path, value)?;
        // One write a line: a kill leaves a prefix of it at worst.
        self.file.write_all(&text).map_err(|source| LogError::Io { path: self.path.clone(), source })
    }

    /// Waits until all lines are on the disk.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.file.sync_data().map_err(|source| LogError::Io { path: self.path.clone(), source })
    }
}

type Parsed<H, L> = (usize, Option<H>, Vec<L>);

/// Bytes up to the end of the last whole line, the header and the lines.
fn parse<H: Header, L: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<Parsed<H, L>, LogError> {
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let mut texts = bytes[..whole].split_inclusive(|b| *b == b'\n').enumerate();
    let header = texts.next().map(|(_, first)| serde_json::from_slice(first).map_err(|e| bad(path, 1, e))).transpose()?;
    let entries =
        texts.map(|(i, text)| serde_json::from_slice(text).map_err(|e| bad(path, i + 1, e))).collect::<Result<_, _>>()?;
    Ok((whole, header, entries))
}

pub(crate) fn refuse_foreign<H: Header>(path: &Path, expected: &H, found: &H) -> Result<(), LogError> {
    let differs = expected.differs(found);
    differs.map_or(Ok(()), |(what, found, expected)| Err(LogError::Foreign { path: path.into(), what, found, expected }))
}

fn lock(path: &Path, locked: Result<(), TryLockError>) -> Result<(), LogError> {
    locked.map_err(|e| match e {
        TryLockError::WouldBlock => LogError::Busy(path.into()),
        TryLockError::Error(source) => LogError::Io { path: path.into(), source },
    })
}

fn bad(path: &Path, line: usize, why: impl ToString) -> LogError {
    LogError::Line { path: path.into(), line, why: why.to_string() }
}
