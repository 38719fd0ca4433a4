//! `kernels.pack`: a whole pack as one file.
//!
//! | file | part |
//! |---|---|
//! | `format.rs` | the header and the index as bytes, and every limit |
//! | `read.rs` | opening a file or bytes of the program; one file's contents at a time |
//! | `write.rs` | files to the bytes of an archive, the same ones each time |
//! | `error.rs` | why an archive is refused |
//!
//! Little-endian throughout:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | [`MAGIC`] |
//! | 4 | [`FORMAT`] |
//! | 4 | number of files |
//! | 8 | bytes of the index |
//! | 8 | bytes of the whole file |
//! | 32 | BLAKE3 of the 32 bytes above and the index |
//! | index | for each file, by ascending path: offset (8), stored bytes (8), bytes (8), BLAKE3 of what is stored (32), bytes of the path (2), path |
//! | rest | for each file in the order of the index, without gaps: one zstd frame |
//!
//! The header's hash covers the index and the index each frame, so no bit of an archive can change unnoticed, and no
//! byte reaches the decoder before its hash was checked. What a file contains is checked against the manifest after it.
//!
//! **Read, not mapped.** Pages of a mapped file that somebody shortens raise SIGBUS, which no program can turn into an
//! error. Here the header and the index are read when the archive is opened, a frame when its file is asked for, into
//! as many bytes as the index says; a file that was shortened or changed meanwhile is refused in one line. `gen` replaces
//! an archive by rename, so one that is open stays the one that was opened.

mod error;
mod format;
mod read;
mod write;

pub use error::ArchiveError;
pub use format::{Entry, FORMAT, MAGIC, MAX_FILE_BYTES, MAX_FILES, MAX_PATH_BYTES, MAX_RATIO, check_path};
pub use read::Archive;
pub use write::{LEVEL, write};

/// The archive's name in a pack's folder.
pub const ARCHIVE: &str = "kernels.pack";
