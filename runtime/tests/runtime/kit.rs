//! The GPU kit's script, as far as it goes without torch and a GPU.

use std::path::Path;
use std::process::{Command, Output};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/gpu/run.py");

/// The script's output, with modules for Python in `modules`; None, with a word, where there is no Python.
fn run(modules: &Path, arguments: &[&str]) -> Option<Output> {
    let output = Command::new("python3").args(["-B", SCRIPT]).args(arguments).env("PYTHONPATH", modules).output();
    match output {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: no python3: {error}");
            None
        }
    }
}

/// The one line with which the script refused.
fn refusal(modules: &Path, arguments: &[&str]) -> Option<String> {
    let output = run(modules, arguments)?;
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
    Some(words.trim_end().to_owned())
}

#[test]
fn help_needs_nothing_installed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(output) = run(folder.path(), &["--help"]) else { return };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for word in ["--budget-s", "--out", "--pack", "--lib", "gpu-report.json"] {
        assert!(text.contains(word), "{word} is missing from\n{text}");
    }
}

#[test]
fn what_is_missing_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let Some(line) = refusal(folder.path(), &["--lib", "/nowhere/lib.so"]) else { return };
    assert!(line.starts_with("run.py: /nowhere/lib.so is missing: build it with `cargo build"), "{line}");

    let phase = refusal(folder.path(), &["--phases", "check,measure"]).unwrap();
    assert_eq!(phase, "run.py: no phase measure: there are check, sweep, plans");

    // A torch that finds no GPU, whether or not the machine has the real one.
    let library = folder.path().join("lib.so");
    std::fs::write(&library, "").unwrap();
    let library = library.to_str().unwrap();
    let torch = |text: &str| std::fs::write(folder.path().join("torch.py"), text).unwrap();
    torch("class version:\n    cuda = None\n__version__ = '2.11.0+cpu'\n");
    let line = refusal(folder.path(), &["--lib", library]).unwrap();
    assert_eq!(line, "run.py: torch 2.11.0+cpu is built without CUDA: install a CUDA build");
    torch("class version:\n    cuda = '13.0'\nclass cuda:\n    is_available = lambda: False\n");
    let line = refusal(folder.path(), &["--lib", library]).unwrap();
    assert_eq!(line, "run.py: torch finds no CUDA device: run this on a machine with an NVIDIA GPU and driver");
}
