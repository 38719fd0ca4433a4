//! The header and the index as bytes, and every limit. Nothing here allocates by a number that was not checked.

use std::ops::Range;

/// First bytes of an archive. The line ends show a transfer that meant to help with text.
pub const MAGIC: [u8; 8] = *b"\x89TWP\r\n\x1a\n";
/// The only format this runtime reads and writes.
pub const FORMAT: u32 = 1;
/// Most files; a library has some hundreds.
pub const MAX_FILES: u32 = 1 << 16;
/// Longest path of a file.
pub const MAX_PATH_BYTES: usize = 240;
/// Longest file once unpacked.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// How many times its frame's length a file may have; PTX comes to 8, manifests to 20.
pub const MAX_RATIO: u64 = 256;

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 64;
/// What of the header its hash covers.
pub(super) const HASHED_HEADER: Range<usize> = 0..32;
/// Bytes of an entry of the index without its path.
const ENTRY_BYTES: usize = 58;

/// A file in an archive. Only archives make them, so their numbers are within the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Relative, with `/`, never leaving the pack.
    pub path: String,
    /// Where its frame begins.
    pub offset: u64,
    /// Length of the frame.
    pub stored: u64,
    /// Length of the file.
    pub bytes: u64,
    /// BLAKE3 of the frame.
    pub blake3: [u8; 32],
}

/// The header's numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub files: u32,
    pub index_bytes: u64,
    pub total_bytes: u64,
    pub blake3: [u8; 32],
}

/// Why bytes are no header.
pub(super) enum HeaderFault {
    Foreign,
    Format(u32),
    Damaged(String),
}

impl Header {
    /// The header with its hash taken over `index`.
    pub(super) fn bytes(files: u32, total_bytes: u64, index: &[u8]) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..16].copy_from_slice(&files.to_le_bytes());
        bytes[16..24].copy_from_slice(&(index.len() as u64).to_le_bytes());
        bytes[24..32].copy_from_slice(&total_bytes.to_le_bytes());
        let blake3 = hash(&bytes, index);
        bytes[32..].copy_from_slice(&blake3);
        bytes
    }

    /// Reads the header of an archive of `length` bytes. On success the index fits the file, so as much may be allocated.
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES], length: u64) -> Result<Self, HeaderFault> {
        if bytes[..8] != MAGIC {
            return Err(HeaderFault::Foreign);
        }
        let format = u32::from_le_bytes(array(&bytes[8..12]));
        if format != FORMAT {
            return Err(HeaderFault::Format(format));
        }
        let header = Header {
            files: u32::from_le_bytes(array(&bytes[12..16])),
            index_bytes: u64::from_le_bytes(array(&bytes[16..24])),
            total_bytes: u64::from_le_bytes(array(&bytes[24..32])),
            blake3: array(&bytes[32..64]),
        };
        let damaged = |what: String| Err(HeaderFault::Damaged(what));
        if header.total_bytes != length {
            return damaged(format!("{length} bytes long, but its header says {}", header.total_bytes));
        }
        if header.files > MAX_FILES {
            return damaged(format!("{} files, at most {MAX_FILES}", header.files));
        }
        let most = u64::from(header.files) * (ENTRY_BYTES + MAX_PATH_BYTES) as u64;
        if header.index_bytes > most || header.index_bytes > length - HEADER_BYTES as u64 {
            return damaged(format!("an index of {} bytes for {} files in {length} bytes", header.index_bytes, header.files));
        }
        Ok(header)
    }

    /// Whether this is the index it was written with.
    pub(super) fn vouches_for(&self, bytes: &[u8; HEADER_BYTES], index: &[u8]) -> bool {
        hash(bytes, index) == self.blake3
    }

    /// Where the first frame begins.
    pub(super) fn data(&self) -> u64 {
        HEADER_BYTES as u64 + self.index_bytes
    }
}

fn hash(header: &[u8; HEADER_BYTES], index: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(&header[HASHED_HEADER]).update(index).finalize().as_bytes()
}

/// Appends an entry to an index.
pub(super) fn put_entry(index: &mut Vec<u8>, entry: &Entry) {
    for number in [entry.offset, entry.stored, entry.bytes] {
        index.extend_from_slice(&number.to_le_bytes());
    }
    index.extend_from_slice(&entry.blake3);
    // `check_path` holds paths below 2^16 bytes.
    index.extend_from_slice(&(entry.path.len() as u16).to_le_bytes());
    index.extend_from_slice(entry.path.as_bytes());
}

/// Bytes of an entry in the index.
pub(super) fn entry_bytes(path: &str) -> u64 {
    (ENTRY_BYTES + path.len()) as u64
}

/// Reads the index: paths ascend, frames lie one after the other and end with the file. The error names the file it is
/// about, where there is one.
pub(super) fn parse_index(header: &Header, mut index: &[u8]) -> Result<Vec<Entry>, (Option<String>, String)> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut next = header.data();
    for at in 0..header.files {
        let short = || (None, format!("its index ends in file {at} of {}", header.files));
        let (fixed, rest) = index.split_at_checked(ENTRY_BYTES).ok_or_else(short)?;
        let length = u16::from_le_bytes(array(&fixed[56..58]));
        let (path, rest) = rest.split_at_checked(usize::from(length)).ok_or_else(short)?;
        index = rest;
        let path = std::str::from_utf8(path).map_err(|_| (None, format!("the path of file {at} is no UTF-8")))?;
        let refuse = |what: String| Err((Some(path.escape_default().take(MAX_PATH_BYTES).collect()), what));
        if let Err(why) = check_path(path) {
            return refuse(why);
        }
        if entries.last().is_some_and(|last| last.path.as_str() >= path) {
            return refuse("its path does not come after the one before it".to_owned());
        }
        let [offset, stored, bytes] = [0, 8, 16].map(|from| u64::from_le_bytes(array(&fixed[from..from + 8])));
        if offset != next {
            return refuse(format!("begins at byte {offset}, not at {next} where the one before it ends"));
        }
        if bytes > MAX_FILE_BYTES {
            return refuse(format!("{bytes} bytes, at most {MAX_FILE_BYTES}"));
        }
        next = match offset.checked_add(stored) {
            Some(end) if end <= header.total_bytes => end,
            _ => return refuse(format!("{stored} bytes from byte {offset} on, in a file of {}", header.total_bytes)),
        };
        if bytes > stored * MAX_RATIO {
            return refuse(format!("{bytes} bytes in a frame of {stored}, more than {MAX_RATIO} times as much"));
        }
        entries.push(Entry { path: path.to_owned(), offset, stored, bytes, blake3: array(&fixed[24..56]) });
    }
    if !index.is_empty() {
        return Err((None, format!("{} bytes of its index belong to no file", index.len())));
    }
    if next != header.total_bytes {
        return Err((None, format!("{} bytes at its end belong to no file", header.total_bytes - next)));
    }
    Ok(entries)
}

/// Refuses a path that is not relative, could leave the folder it is joined to, or is no name on some system.
pub fn check_path(path: &str) -> Result<(), String> {
    let inside = |part: &str| !part.is_empty() && part != "." && part != "..";
    let plain = |c: char| !c.is_control() && !matches!(c, '\\' | ':');
    if path.len() > MAX_PATH_BYTES {
        return Err(format!("a path of {} bytes, at most {MAX_PATH_BYTES}", path.len()));
    }
    if !path.split('/').all(inside) || !path.chars().all(plain) {
        return Err(format!("path {path:?} must be relative and stay inside the pack's folder"));
    }
    Ok(())
}

/// `from` has exactly N bytes: every caller slices with constants.
fn array<const N: usize>(from: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(from);
    array
}
