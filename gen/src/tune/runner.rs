//! The program that goes with a pack.

use std::path::PathBuf;
use std::process::Command;
use tilewright_ops::error::{Res, failed, failure};
use tilewright_ops::library;

/// Its name.
pub const NAME: &str = "tilewright-runner";

/// The runner beside this program, or the workspace's release build, which is brought up to date first.
///
/// # Errors
/// Neither is there, and it cannot be built.
pub fn find() -> Res<PathBuf> {
    let own = std::env::current_exe().map_err(failure)?;
    if let Some(beside) = own.parent().map(|p| p.join(NAME)).filter(|p| p.is_file()) {
        return Ok(beside);
    }
    let root = library::root()?;
    eprintln!("building {NAME}");
    let build = Command::new("cargo").args(["build", "--release", "--quiet", "-p", NAME]).current_dir(&root).status();
    let built = root.join("target").join("release").join(NAME);
    match build {
        Ok(status) if status.success() && built.is_file() => Ok(built),
        _ => failed(format!("{NAME} is not beside {}; build it: cargo build --release -p {NAME}", own.display())),
    }
}
