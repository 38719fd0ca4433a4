//! `cargo xtask gen`.

use crate::{setup, shell};
use anyhow::Result;
use std::process::ExitCode;

pub const HELP: &str = "\
Usage: cargo xtask gen [arguments of gen]

Does `cargo xtask setup`, builds gen in release mode and runs it in the workspace root with all the arguments.
Its exit status is gen's. For gen's own help: cargo xtask gen -- --help

  cargo xtask gen --target sm90            write kernels-generated/sm90
  cargo xtask gen --target sm90 --check    fail if what is there differs from what gen would write
";

pub fn run(args: &[String]) -> Result<ExitCode> {
    if let Some(code) = setup::ensure()? {
        return Ok(code);
    }
    let args = args.strip_prefix(&["--".to_owned()][..]).unwrap_or(args);
    let mut gen_command = shell::cargo();
    gen_command.args(["run", "--quiet", "--release", "-p", "tilewright-gen", "--bin", "gen", "--"]).args(args);
    Ok(shell::exit_code(shell::status(&mut gen_command)?))
}
