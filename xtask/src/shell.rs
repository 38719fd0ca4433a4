//! Other programs, and where things are.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

/// The workspace root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Cargo, the one that runs this, in the workspace root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command to its end, its output passed through.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("cannot start `{}`", command.get_program().to_string_lossy()))
}

/// Runs a command quietly: its stdout if it succeeds, None if it fails or is not there.
pub fn stdout_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The exit status of a child as one's own.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    match status.code() {
        Some(code) => u8::try_from(code).unwrap_or(1).into(),
        None => ExitCode::FAILURE,
    }
}

/// The program's path, where the PATH has it.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Whether packages can be installed with apt: Debian or a child of it, and root.
pub fn can_apt() -> bool {
    on_path("apt-get").is_some() && stdout_of(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0")
}

/// `apt-get update` and `apt-get install`, without questions. False if apt does not know a package or fails.
pub fn apt_install(packages: &[&str]) -> Result<bool> {
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(args);
        // Words go to stderr: stdout belongs to the command that needed the package.
        command.stdin(std::process::Stdio::null()).stdout(std::io::stderr());
        status(&mut command).map(|s| s.success())
    };
    eprintln!("xtask: apt-get install {}", packages.join(" "));
    let known = |package: &&str| stdout_of(Command::new("apt-cache").args(["show", package])).is_some_and(|s| !s.is_empty());
    // An update that fails for one source may still have brought the list that matters.
    let _ = apt(&["update"])?;
    if !packages.iter().all(known) {
        return Ok(false);
    }
    apt(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}
