//! LLVM 22.

use crate::shell;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What llvm-sys 221 accepts.
const RELEASE: &str = "22.1.";

/// The variable llvm-sys 221 reads.
const PREFIX_VARIABLE: &str = "LLVM_SYS_221_PREFIX";

const DEBIAN_PREFIX: &str = "/usr/lib/llvm-22";

const PACKAGES: &[&str] = &["llvm-22-dev", "libpolly-22-dev", "libzstd-dev", "zlib1g-dev"];

/// Finds LLVM or installs it. False, and words on stderr, where only the user can.
pub fn ensure() -> Result<bool> {
    if is_llvm(&prefix()) {
        return Ok(true);
    }
    // Where someone keeps an LLVM elsewhere, a second one is not for this program to install.
    if prefix() == Path::new(DEBIAN_PREFIX) && shell::can_apt() && shell::apt_install(PACKAGES)? && is_llvm(&prefix()) {
        eprintln!("xtask: installed LLVM in {DEBIAN_PREFIX}");
        return Ok(true);
    }
    eprintln!("{}", steps(&codename().unwrap_or_else(|| "bookworm".into())));
    Ok(false)
}

fn prefix() -> PathBuf {
    std::env::var_os(PREFIX_VARIABLE).map_or_else(|| DEBIAN_PREFIX.into(), PathBuf::from)
}

/// Whether there is an LLVM to link with: llvm-config of the right release, and a library.
fn is_llvm(prefix: &Path) -> bool {
    let version = shell::stdout_of(Command::new(prefix.join("bin/llvm-config")).arg("--version"));
    let is_library = |name: &str| name.starts_with("libLLVM") && (name.contains(".so") || name.contains(".dylib"));
    let mut files = std::fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten();
    version.is_some_and(|v| v.starts_with(RELEASE)) && files.any(|file| is_library(&file.file_name().to_string_lossy()))
}

fn codename() -> Option<String> {
    let release = std::fs::read_to_string("/etc/os-release").ok()?;
    release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).map(|name| name.trim_matches('"').to_owned())
}

fn steps(codename: &str) -> String {
    let packages = PACKAGES.join(" ");
    format!(
        "xtask: LLVM {RELEASE}x is missing: looked for bin/llvm-config and lib/libLLVM*.so in {}.

On Debian or Ubuntu, where apt knows llvm-22-dev:
  sudo apt-get update && sudo apt-get install -y {packages}
Where it does not, first:
  wget -qO- https://apt.llvm.org/llvm-snapshot.gpg.key | sudo tee /etc/apt/trusted.gpg.d/apt.llvm.org.asc
  echo 'deb http://apt.llvm.org/{codename}/ llvm-toolchain-{codename}-22 main' | sudo tee /etc/apt/sources.list.d/llvm-22.list
Anywhere else, install LLVM 22 with its shared library and the NVPTX target, and then:
  export {PREFIX_VARIABLE}=<where bin/llvm-config is, without the bin>",
        prefix().display()
    )
}
