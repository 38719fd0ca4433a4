//! `cargo xtask binary-size`.

use crate::{Usage, shell};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

pub const HELP: &str = "\
Usage: cargo xtask binary-size

Builds two small programs for release, one that uses the runtime as a server does and one without it, strips both and prints
how many bytes the runtime adds. Exits 1 above 2 MB.
";

/// The most the runtime may add to a program, kernels not counted.
const LIMIT_BYTES: u64 = 2_000_000;

/// Examples of the runtime: without it, and with it.
const PROGRAMS: [&str; 2] = ["size_base", "size_runtime"];

pub fn run(args: &[String]) -> Result<ExitCode> {
    if let Some(arg) = args.first() {
        return Err(Usage(format!("unexpected `{arg}`\n\n{HELP}")).into());
    }
    let mut command = shell::cargo();
    command.args(["build", "--release", "-p", "tilewright-runtime", "--message-format", "json-render-diagnostics"]);
    command.args(PROGRAMS.into_iter().flat_map(|name| ["--example", name])).stderr(Stdio::inherit());
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the runtime does not build");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut bytes = [0; 2];
    for (bytes, name) in bytes.iter_mut().zip(PROGRAMS) {
        let built = messages.split('"').rfind(|word| word.ends_with(&format!("/examples/{name}")));
        *bytes = stripped(Path::new(built.with_context(|| format!("cargo built no `{name}`"))?))?;
    }
    let [without, with] = bytes;
    let added = with.saturating_sub(without);
    println!("{added} bytes: {with} with the runtime, {without} without, both stripped; at most {LIMIT_BYTES}");
    if added > LIMIT_BYTES {
        bail!(
            "the runtime adds more than it may: `cargo bloat --release -p tilewright-runtime --example size_runtime` says what"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The size of a program without symbols and debug information, as it is shipped.
fn stripped(program: &Path) -> Result<u64> {
    let copy = PathBuf::from(format!("{}.stripped", program.display()));
    let status = shell::status(Command::new("strip").arg("-o").arg(&copy).arg(program))?;
    if !status.success() {
        bail!("strip refuses `{}`", program.display());
    }
    Ok(fs::metadata(&copy).with_context(|| format!("cannot read `{}`", copy.display()))?.len())
}
