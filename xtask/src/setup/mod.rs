//! `cargo xtask setup`.

mod cuda;
mod llvm;

use crate::{USAGE, Usage, shell};
use anyhow::Result;
use std::process::ExitCode;

pub const HELP: &str = "\
Usage: cargo xtask setup

Finds what the build needs beside Rust, and installs what is missing:

  LLVM 22.1    at LLVM_SYS_221_PREFIX or /usr/lib/llvm-22; on Debian, as root, by apt. Required: exits 2 without it.
  CUDA tools   ptxas, nvdisasm and cuobjdump, from pinned PyPI wheels into .tools/cuda-13/bin, without root.
               Without them gen still writes PTX, and says what it leaves out.

Does nothing when everything is there.
";

pub fn run(args: &[String]) -> Result<ExitCode> {
    if let Some(arg) = args.first() {
        return Err(Usage(format!("unexpected `{arg}`\n\n{HELP}")).into());
    }
    Ok(ensure()?.unwrap_or(ExitCode::SUCCESS))
}

/// Sets up; the exit status if something is missing that only the user can install.
pub fn ensure() -> Result<Option<ExitCode>> {
    if !llvm::ensure()? {
        return Ok(Some(USAGE.into()));
    }
    if let Err(why) = cuda::ensure() {
        eprintln!("xtask: no CUDA tools installed: {why:#}");
        match shell::on_path("ptxas") {
            Some(path) => eprintln!("xtask: there is {}, which serves if it is of release 13.0", path.display()),
            None => {
                eprintln!("xtask: skipped: cubins, and every check of machine code; PTX is generated and tested all the same")
            }
        }
    }
    Ok(None)
}
