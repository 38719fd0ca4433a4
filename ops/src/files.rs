//! Files that appear whole or not at all.

use crate::error::{Res, failure, usage};
use std::fs;
use std::path::Path;

/// Refuses a place for a file whose folder does not exist, before work is spent on it.
pub fn check_folder(path: &Path) -> Res<()> {
    if path.is_dir() {
        return usage(format!("{}: it is a folder, expected the name of a file", path.display()));
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            usage(format!("{}: there is no folder {}", path.display(), folder.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a file by rename, so that nobody sees half of it.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Res<()> {
    let at = |e: std::io::Error| failure(format!("{}: {e}", path.display()));
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = tempfile::NamedTempFile::new_in(folder).map_err(at)?;
    fs::write(draft.path(), bytes).map_err(at)?;
    // A temporary file is its owner's alone; what is written here is for everyone, as files usually are.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(draft.path(), fs::Permissions::from_mode(0o644)).map_err(at)?;
    }
    draft.persist(path).map_err(|e| at(e.error))?;
    Ok(())
}
