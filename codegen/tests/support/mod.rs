//! Kernels and a worker pool that several test files share.

#![allow(dead_code, reason = "each test binary uses a part")]

pub mod ring;

use std::path::{Path, PathBuf};
use tilewright_codegen::{WorkerCommand, WorkerPool};

/// Workers that are the crate's own worker program.
pub fn worker_command() -> WorkerCommand {
    WorkerCommand { program: PathBuf::from(env!("CARGO_BIN_EXE_tilewright-codegen-worker")), args: Vec::new() }
}

pub fn pool() -> WorkerPool {
    WorkerPool::new(2, worker_command())
}

/// Every `.lane` file, by name.
pub fn lane_files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lane");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of test kernels")
        .map(|entry| entry.expect("a readable entry").path())
        .map(|path| (path.file_stem().expect("a name").to_string_lossy().into_owned(), path))
        .map(|(name, path)| (name, std::fs::read_to_string(path).expect("a readable file")))
        .collect();
    files.sort();
    files
}

pub fn lane_file(name: &str) -> String {
    lane_files().into_iter().find(|(n, _)| n == name).expect("a test kernel of this name").1
}
