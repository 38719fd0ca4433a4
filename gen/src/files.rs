//! Files that appear whole or not at all.

use crate::error::{Res, failure};
use std::fs;
use std::path::Path;

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
