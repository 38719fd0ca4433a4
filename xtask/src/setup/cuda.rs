//! ptxas, nvdisasm and cuobjdump, from PyPI.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A wheel, and the programs wanted of it.
struct Wheel {
    package: &'static str,
    version: &'static str,
    /// Of `manylinux2014_x86_64`.
    sha256: &'static str,
    tools: &'static [&'static str],
}

/// ptxas stays 13.0: cubins of a later minor need a later driver. There is no nvdisasm or cuobjdump 13.0 on PyPI; these
/// are the oldest, and they read what ptxas 13.0 writes.
const WHEELS: &[Wheel] = &[
    Wheel {
        package: "nvidia-cuda-nvcc",
        version: "13.0.88",
        sha256: "56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03",
        tools: &["ptxas"],
    },
    Wheel {
        package: "nvidia-cuda-nvdisasm",
        version: "13.2.51",
        sha256: "5a7acf77c55d6d2911ed6155d4d5bc156ffadf9df7a68a89b0c1155f4b13688c",
        tools: &["nvdisasm"],
    },
    Wheel {
        package: "nvidia-cuda-cuobjdump",
        version: "13.2.51",
        sha256: "95c69d3ddf0c2c1f535ec44c3433a66aeee19f588d9d22f73356e20b25f12b50",
        tools: &["cuobjdump"],
    },
];

/// Downloads wheels, checks their hashes and takes programs out of them.
const FETCH: &str = concat!(include_str!("../index.py"), include_str!("fetch_wheels.py"));

/// Finds the tools or installs them.
///
/// # Errors
/// They are not there and cannot be had: no network, no python3, another platform.
pub fn ensure() -> Result<()> {
    let dir = shell::root().join(".tools/cuda-13");
    let (bin, stamp) = (dir.join("bin"), dir.join("stamp"));
    let tools = || WHEELS.iter().flat_map(|wheel| wheel.tools).map(|tool| bin.join(tool));
    // The stamp names the pinned versions and the size of each program, so a cut-off one is noticed.
    let current = || Some(format!("{}{}", pins(), sizes(tools())?));
    if current().is_some_and(|expected| fs::read_to_string(&stamp).is_ok_and(|found| found == expected)) {
        return Ok(());
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("the pinned wheels are for x86-64 Linux; put ptxas 13.0 and nvdisasm on the PATH");
    }
    if shell::on_path("python3").is_none() && !(shell::can_apt() && shell::apt_install(&["python3"])?) {
        bail!("python3 is missing, and is needed to fetch them");
    }
    eprintln!("xtask: fetching the CUDA tools to {}", dir.display());
    fetch(&dir, &bin)?;
    let text = current().context("a wheel held no such program")?;
    fs::write(&stamp, text).with_context(|| format!("cannot write `{}`", stamp.display()))
}

/// The wheels as a requirements file for pip.
fn pins() -> String {
    let line = |w: &Wheel| format!("{}=={} --hash=sha256:{}\n", w.package, w.version, w.sha256);
    WHEELS.iter().map(line).collect()
}

/// Name and bytes of each file; None if one is missing.
fn sizes(files: impl Iterator<Item = PathBuf>) -> Option<String> {
    let line = |file: PathBuf| Some(format!("{} {}\n", file.file_name()?.to_string_lossy(), fs::metadata(&file).ok()?.len()));
    files.map(line).collect()
}

fn fetch(dir: &Path, bin: &Path) -> Result<()> {
    fs::create_dir_all(bin).with_context(|| format!("cannot make `{}`", bin.display()))?;
    let requirements = dir.join("requirements.txt");
    fs::write(&requirements, pins()).with_context(|| format!("cannot write `{}`", requirements.display()))?;
    let mut python = Command::new("python3");
    python.args(["-c", FETCH]).arg(&requirements).arg(bin).args(WHEELS.iter().flat_map(|wheel| wheel.tools));
    let status = shell::status(python.stdin(Stdio::null()).stdout(std::io::stderr()))?;
    if !status.success() {
        bail!("the wheels could not be fetched; with a network, try `cargo xtask setup` again");
    }
    Ok(())
}
