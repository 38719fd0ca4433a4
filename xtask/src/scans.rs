//! `cargo xtask scans`.

use crate::{Usage, shell};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

pub const HELP: &str = "\
Usage: cargo xtask scans

Gets two real LiDAR scans of 69 000 points each, source.ply and target.ply, into .tools/scans, which is not tracked. They are of the
source distribution of small-gicp 1.0.1 on PyPI (MIT licence), which is checked by its sha256; nothing of it is built or run.
For `gen scene --scan .tools/scans/source.ply`, and for timing on a GPU. Prints the files' names to stdout.

Without a network: bring small_gicp-1.0.1.tar.gz from elsewhere into .tools/scans and run this again, or do without:
`gen scene --sensor hdl64` simulates a scan.

Does nothing when the scans are there.
";

const PACKAGE: [&str; 3] = ["small-gicp", "1.0.1", "e0b1a03a87da154b53b489cce7079b5be02ba17723f89c4161f8311b564ca0b1"];

/// Files of the distribution, and their bytes.
const SCANS: [(&str, u64); 2] = [("data/source.ply", 1_116_940), ("data/target.ply", 1_105_676)];

/// Downloads a source distribution, checks its hash and takes files out of it.
const FETCH: &str = concat!(include_str!("index.py"), include_str!("fetch_scans.py"));

pub fn run(args: &[String]) -> Result<ExitCode> {
    if let Some(arg) = args.first() {
        return Err(Usage(format!("unexpected `{arg}`\n\n{HELP}")).into());
    }
    let folder = shell::root().join(".tools/scans");
    if there(&folder) {
        eprintln!("xtask: the scans are there");
    } else {
        fetch(&folder)?;
    }
    SCANS.iter().for_each(|(member, _)| println!("{}", folder.join(name(member)).display()));
    Ok(ExitCode::SUCCESS)
}

/// Whether every scan is there, whole.
pub fn there(folder: &Path) -> bool {
    let whole = |(member, bytes): &(&str, u64)| fs::metadata(folder.join(name(member))).is_ok_and(|m| m.len() == *bytes);
    SCANS.iter().all(whole)
}

fn fetch(folder: &Path) -> Result<()> {
    if shell::on_path("python3").is_none() {
        bail!("python3 is missing, and is needed to fetch the scans");
    }
    let [package, version, _] = PACKAGE;
    eprintln!("xtask: fetching the source distribution of {package} {version} for its scans, to {}", folder.display());
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let mut python = Command::new("python3");
    python.args(["-c", FETCH]).args(PACKAGE).arg(folder).args(SCANS.iter().map(|s| s.0));
    let status = shell::status(python.stdin(Stdio::null()).stdout(std::io::stderr()))?;
    if !status.success() {
        bail!(
            "no scans: with a network, try again; without, bring small_gicp-{version}.tar.gz into {} and try again, or simulate \
             one with `gen scene --sensor hdl64`",
            folder.display()
        );
    }
    if !there(folder) {
        bail!("{package} {version} held scans of other sizes than expected");
    }
    Ok(())
}

/// The name of a file of the distribution here.
fn name(member: &str) -> &str {
    member.rsplit('/').next().unwrap_or(member)
}
