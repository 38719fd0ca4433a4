//! Opening an archive, and one file's contents at a time.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::ArchiveError;
use super::format::{Entry, HEADER_BYTES, Header, HeaderFault, parse_index};

/// An open archive: its index is in memory and checked, its frames are not.
#[derive(Debug)]
pub struct Archive {
    name: String,
    bytes: Bytes,
    /// By ascending path.
    entries: Vec<Entry>,
}

#[derive(Debug)]
enum Bytes {
    /// Locked while one frame is sought and read.
    File(Mutex<fs::File>),
    Program(&'static [u8]),
}

impl Archive {
    /// Opens the archive at `path`: reads its header and index, and checks them.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let name = path.display().to_string();
        let refuse = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => ArchiveError::Missing { file: name.clone() },
            _ => ArchiveError::Io { file: name.clone(), why: error.to_string() },
        };
        // Before opening: to open a pipe is to wait for whoever writes to it.
        if !fs::metadata(path).map_err(refuse)?.is_file() {
            return Err(ArchiveError::Io { file: name, why: "not a file".to_owned() });
        }
        let file = fs::File::open(path).map_err(refuse)?;
        let length = file.metadata().map_err(refuse)?.len();
        Self::new(name, Bytes::File(Mutex::new(file)), length)
    }

    /// Opens an archive built into the program; `name` is its name in errors.
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Result<Self, ArchiveError> {
        Self::new(name.to_owned(), Bytes::Program(bytes), bytes.len() as u64)
    }

    fn new(name: String, bytes: Bytes, length: u64) -> Result<Self, ArchiveError> {
        let damaged = |what: String| ArchiveError::Damaged { file: name.clone(), what };
        let read = |offset, length| bytes.read(offset, length).map_err(|why| damaged(why.to_string()));
        if length < HEADER_BYTES as u64 {
            return Err(damaged(format!("truncated: {length} bytes, and a header has {HEADER_BYTES}")));
        }
        let start = read(0, HEADER_BYTES as u64)?;
        let start: &[u8; HEADER_BYTES] = start.as_ref().try_into().map_err(|_| damaged("its header is short".to_owned()))?;
        let header = Header::parse(start, length).map_err(|fault| match fault {
            HeaderFault::Foreign => ArchiveError::Foreign { file: name.clone() },
            HeaderFault::Format(found) => ArchiveError::Format { file: name.clone(), found },
            HeaderFault::Damaged(what) => damaged(what),
        })?;
        let index = read(HEADER_BYTES as u64, header.index_bytes)?;
        if !header.vouches_for(start, &index) {
            return Err(damaged("the blake3 of its header and index is not the one it was written with".to_owned()));
        }
        let entries = parse_index(&header, &index).map_err(|(path, what)| match path {
            Some(path) => ArchiveError::Entry { file: name.clone(), path, what },
            None => damaged(what),
        })?;
        Ok(Archive { entries, name, bytes })
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its files, by ascending path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The file at `path`.
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        Some(&self.entries[at])
    }

    /// A file's contents: its frame is read, its hash checked, then it is unpacked into exactly the bytes the index says.
    pub fn read(&self, entry: &Entry) -> Result<Vec<u8>, ArchiveError> {
        let refuse = |what: String| ArchiveError::Entry { file: self.name.clone(), path: entry.path.clone(), what };
        let frame = self.bytes.read(entry.offset, entry.stored).map_err(|why| refuse(why.to_string()))?;
        if blake3::hash(&frame) != entry.blake3 {
            return Err(refuse("the blake3 of its frame is not the one in the index".to_owned()));
        }
        // The index's limits hold this below 64 MiB and 256 times what the file really has.
        let mut contents = vec![0; entry.bytes as usize];
        // The decoder refuses to write more than there is room for.
        let written = zstd::bulk::decompress_to_buffer(&frame, &mut contents)
            .map_err(|error| refuse(format!("its frame does not unpack into {} bytes: {error}", entry.bytes)))?;
        if written != contents.len() {
            return Err(refuse(format!("its frame unpacks into {written} bytes, but the index says {}", entry.bytes)));
        }
        Ok(contents)
    }
}

impl Bytes {
    /// `length` bytes from `offset` on, which the index says are there.
    fn read(&self, offset: u64, length: u64) -> io::Result<Cow<'static, [u8]>> {
        let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "truncated: the file became shorter than its index says");
        match self {
            Bytes::Program(bytes) => {
                let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
                let part = range.and_then(|(offset, length)| bytes.get(offset..)?.get(..length));
                part.map(Cow::Borrowed).ok_or_else(short)
            }
            Bytes::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(offset))?;
                let mut bytes = Vec::with_capacity(length as usize);
                (&mut *file).take(length).read_to_end(&mut bytes)?;
                if (bytes.len() as u64) < length { Err(short()) } else { Ok(Cow::Owned(bytes)) }
            }
        }
    }
}
