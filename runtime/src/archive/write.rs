//! Files to the bytes of an archive.

use std::collections::BTreeMap;

use super::ArchiveError;
use super::format::{Entry, HEADER_BYTES, Header, MAX_FILE_BYTES, MAX_FILES, MAX_RATIO, check_path, entry_bytes, put_entry};

/// zstd's level for what ships: level 19 saves 6 % more of a library's bytes and takes 12 times as long.
pub const LEVEL: i32 = 9;

/// The archive of `files`, by path: the same bytes each time for the same files, level and version of zstd.
///
/// # Errors
/// [`ArchiveError::Unfit`] for a path or a length that the reader would refuse.
pub fn write(files: &BTreeMap<String, Vec<u8>>, level: i32) -> Result<Vec<u8>, ArchiveError> {
    if files.len() > MAX_FILES as usize {
        let why = format!("{} files, at most {MAX_FILES}: make packs of parts", files.len());
        return Err(ArchiveError::Unfit { path: super::ARCHIVE.to_owned(), why });
    }
    let mut frames = Vec::new();
    let mut entries = Vec::new();
    let mut offset = HEADER_BYTES as u64 + files.keys().map(|path| entry_bytes(path)).sum::<u64>();
    for (path, contents) in files {
        let unfit = |why: String| ArchiveError::Unfit { path: path.clone(), why };
        check_path(path).map_err(unfit)?;
        let bytes = contents.len() as u64;
        if bytes > MAX_FILE_BYTES {
            return Err(unfit(format!("{bytes} bytes, at most {MAX_FILE_BYTES}")));
        }
        let frame = zstd::bulk::compress(contents, level).map_err(|error| unfit(error.to_string()))?;
        let stored = frame.len() as u64;
        if bytes > stored * MAX_RATIO {
            return Err(unfit(format!("{bytes} bytes shrink to {stored}, more than {MAX_RATIO} times: no kernel does")));
        }
        entries.push(Entry { path: path.clone(), offset, stored, bytes, blake3: *blake3::hash(&frame).as_bytes() });
        offset += stored;
        frames.push(frame);
    }
    let mut index = Vec::new();
    for entry in &entries {
        put_entry(&mut index, entry);
    }
    let mut archive = Header::bytes(entries.len() as u32, offset, &index).to_vec();
    archive.append(&mut index);
    for frame in &frames {
        archive.extend_from_slice(frame);
    }
    Ok(archive)
}
