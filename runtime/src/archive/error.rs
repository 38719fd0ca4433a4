//! Why an archive is refused, in one line that names the file.

use super::format::FORMAT;

/// Why an archive cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// It is not there.
    #[error("{file}: no such file; copy the pack again")]
    Missing {
        /// The archive.
        file: String,
    },
    /// It cannot be read.
    #[error("{file}: {why}")]
    Io {
        /// The archive.
        file: String,
        /// The system's words.
        why: String,
    },
    /// It does not begin as an archive does.
    #[error("{file}: not a pack: its first bytes are not those of one")]
    Foreign {
        /// The archive.
        file: String,
    },
    /// Another version of the format.
    #[error("{file}: pack format {found}, but this runtime reads format {FORMAT}: use the runtime the pack came with")]
    Format {
        /// The archive.
        file: String,
        /// The version found.
        found: u32,
    },
    /// It is not what was written.
    #[error("{file}: {what}; copy the pack again")]
    Damaged {
        /// The archive.
        file: String,
        /// What does not hold.
        what: String,
    },
    /// One of its files is not what was written.
    #[error("{file}: {path}: {what}; copy the pack again")]
    Entry {
        /// The archive.
        file: String,
        /// The file in it.
        path: String,
        /// What does not hold.
        what: String,
    },
    /// A file that no archive may hold.
    #[error("{path}: {why}")]
    Unfit {
        /// The file.
        path: String,
        /// Why not.
        why: String,
    },
}
