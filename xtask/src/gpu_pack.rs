//! `cargo xtask gpu-pack`.

use crate::{Usage, gpu_scenes, install_c, shell};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub const HELP: &str = "\
Usage: cargo xtask gpu-pack [--target sm90] [--out DIR] [--tune WORKLOAD]

Gathers in DIR (.gpu-kit by default) what a machine with a GPU and a driver needs to check and time the kernels: the
C library, kernels-generated/<target>, random programs with the emulator's answers, scans as voxels (simulated, and
the real one where `cargo xtask scans` has been), networks/, and the scripts of benches/gpu. Needs no LLVM. Prints the folder's name to stdout.

--tune adds a tuning pack of the GEMMs of a workload (llama3_8b, ...), which phase `tune` of run.py measures. That compiles
its candidates, so it needs LLVM.
";

/// The most a kit may weigh, so that it goes anywhere in one piece.
const LIMIT_BYTES: u64 = 60 << 20;

const SCRIPTS: [&str; 11] = [
    "run.py",
    "attention.py",
    "attention_check.py",
    "gemm_mixed.py",
    "gemm_mixed_data.py",
    "gemm_mixed_peers.py",
    "gemm_mixed_small.py",
    "sparse.py",
    "sparse_data.py",
    "sparse_peers.py",
    "differential.py",
];

/// Programs for the comparison of the emulator with the GPU.
const RANDOM_PROGRAMS: &str = "300";

/// A pack: every kernel in one file, and the manifest, which the scripts read, beside it.
const PACK: [&str; 2] = ["kernels.pack", "manifest.json"];

/// As `run.py` calls it.
const LIBRARY: &str = "libtilewright.so";

struct Options {
    target: String,
    out: PathBuf,
    /// The workload whose candidates come along.
    tune: Option<String>,
}

pub fn run(args: &[String]) -> Result<ExitCode> {
    let options = parse(args)?;
    let kernels = shell::root().join("kernels-generated").join(&options.target);
    if let Some(missing) = PACK.into_iter().find(|name| !kernels.join(name).is_file()) {
        bail!("there is no `{0}/{missing}`: run `cargo xtask gen --target {1}` first", kernels.display(), options.target);
    }
    let library = install_c::build(&[])?;
    // What an earlier kit left would be taken for part of this one.
    if options.out.exists() {
        clear(&options.out)?;
    }
    fs::create_dir_all(&options.out).with_context(|| format!("cannot make `{}`", options.out.display()))?;
    let mut size = copy(&library, &options.out.join(LIBRARY))?;
    for script in SCRIPTS {
        size += copy(&shell::root().join("benches/gpu").join(script), &options.out.join(script))?;
    }
    size += gpu_scenes::write(&options.out.join("scenes"))?;
    size += copy_tree(&shell::root().join("networks"), &options.out.join("networks"))?;
    size += random_programs(&options.out.join("random"))?;
    let pack = options.out.join("kernels-generated").join(&options.target);
    fs::create_dir_all(&pack).with_context(|| format!("cannot make `{}`", pack.display()))?;
    for name in PACK {
        size += copy(&kernels.join(name), &pack.join(name))?;
    }
    if let Some(workload) = &options.tune {
        size += tuning_pack(&options, workload)?;
    }
    if size >= LIMIT_BYTES {
        bail!("the kit has {} MiB, more than {} MiB: ship fewer kernels", size >> 20, LIMIT_BYTES >> 20);
    }
    println!("{}", options.out.display());
    eprintln!(
        "{:.1} MiB. On a machine with a GPU:  cd {} && python3 run.py; python3 differential.py",
        size as f64 / 1048576.0,
        options.out.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { target: "sm90".into(), out: ".gpu-kit".into(), tune: None };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (flag, value) = match arg.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (arg.as_str(), args.next().cloned()),
        };
        match (flag, value) {
            ("--target", Some(value)) => options.target = value,
            ("--out", Some(value)) => options.out = value.into(),
            ("--tune", Some(value)) => options.tune = Some(value),
            _ => return Err(Usage(format!("unexpected `{arg}`, or no value for it\n\n{HELP}")).into()),
        }
    }
    Ok(options)
}

/// Has `gen` build the candidates of a workload's GEMMs; it brings the runner with them.
fn tuning_pack(options: &Options, workload: &str) -> Result<u64> {
    let status =
        shell::cargo().args(["build", "--release", "-q", "-p", "tilewright-runner"]).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the runner could not be built");
    }
    let folder = options.out.join("tuning");
    let mut command = shell::cargo();
    command.args(["run", "--release", "-q", "-p", "tilewright-gen", "--bin", "gen", "--", "tune", "gemm"]);
    let status = command.args(["--workload", workload, "--target", &options.target, "--pack"]).arg(&folder).status();
    if !status.context("cannot start cargo")?.success() {
        bail!("gen could not make the tuning pack of `{workload}`");
    }
    let mut size = 0;
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))? {
        size += entry?.metadata()?.len();
    }
    Ok(size)
}

/// Has the emulator write random programs and what they give.
fn random_programs(folder: &Path) -> Result<u64> {
    let mut command = shell::cargo();
    command.args(["run", "--release", "-q", "-p", "tilewright-emulator", "--example", "differential", "--"]);
    let status = command.arg(folder).arg(RANDOM_PROGRAMS).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the emulator could not write the random programs");
    }
    let mut size = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))? {
        size += entry?.metadata()?.len();
    }
    Ok(size)
}

/// Empties a folder, if it is a kit.
fn clear(dir: &Path) -> Result<()> {
    let empty = fs::read_dir(dir).with_context(|| format!("cannot read `{}`", dir.display()))?.next().is_none();
    if !empty && !dir.join(LIBRARY).is_file() {
        bail!("`{}` exists and is no kit: name another folder", dir.display());
    }
    fs::remove_dir_all(dir).with_context(|| format!("cannot remove `{}`", dir.display()))
}

fn copy(from: &Path, to: &Path) -> Result<u64> {
    fs::copy(from, to).with_context(|| format!("cannot copy `{}` to `{}`", from.display(), to.display()))
}

fn copy_tree(from: &Path, to: &Path) -> Result<u64> {
    fs::create_dir_all(to).with_context(|| format!("cannot make `{}`", to.display()))?;
    let mut size = 0;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read `{}`", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        size += if entry.file_type()?.is_dir() { copy_tree(&entry.path(), &target)? } else { copy(&entry.path(), &target)? };
    }
    Ok(size)
}
