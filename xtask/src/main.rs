//! Chores: `cargo xtask setup | gen | test | scans | install-c | gpu-pack | binary-size`. Links no LLVM, so that it can install it.

mod binary_size;
mod generate;
mod gpu_pack;
mod gpu_scenes;
mod install_c;
mod scans;
mod setup;
mod shell;
mod test;

use std::process::ExitCode;

/// Exit status for wrong usage, and for something that only the user can put right.
const USAGE: u8 = 2;

/// One command of xtask.
struct Chore {
    name: &'static str,
    summary: &'static str,
    help: &'static str,
    run: fn(&[String]) -> anyhow::Result<ExitCode>,
}

const CHORES: &[Chore] = &[
    Chore { name: "setup", summary: "find or install LLVM 22 and the CUDA tools", help: setup::HELP, run: setup::run },
    Chore { name: "gen", summary: "run the gen command, set up first", help: generate::HELP, run: generate::run },
    Chore { name: "test", summary: "run every test of the workspace, set up first", help: test::HELP, run: test::run },
    Chore { name: "scans", summary: "get two real LiDAR scans", help: scans::HELP, run: scans::run },
    Chore { name: "install-c", summary: "build and install the C library", help: install_c::HELP, run: install_c::run },
    Chore { name: "gpu-pack", summary: "gather what a machine with a GPU needs", help: gpu_pack::HELP, run: gpu_pack::run },
    Chore { name: "binary-size", summary: "what the runtime adds to a program", help: binary_size::HELP, run: binary_size::run },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = args.split_first() else {
        eprint!("{}", overview());
        return USAGE.into();
    };
    if is_help(name) || name == "help" {
        print!("{}", rest.first().and_then(|n| chore(n)).map_or_else(overview, |c| c.help.to_owned()));
        return ExitCode::SUCCESS;
    }
    let Some(chore) = chore(name) else {
        eprint!("xtask: there is no `{name}`\n\n{}", overview());
        return USAGE.into();
    };
    if rest.first().is_some_and(|arg| is_help(arg)) {
        print!("{}", chore.help);
        return ExitCode::SUCCESS;
    }
    (chore.run)(rest).unwrap_or_else(|error| {
        eprintln!("xtask {name}: {error:#}");
        if error.is::<Usage>() { USAGE.into() } else { ExitCode::FAILURE }
    })
}

/// An error that exits with [`USAGE`].
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn chore(name: &str) -> Option<&'static Chore> {
    CHORES.iter().find(|chore| chore.name == name)
}

fn is_help(arg: &str) -> bool {
    matches!(arg, "-h" | "--help")
}

fn overview() -> String {
    let lines: Vec<String> = CHORES.iter().map(|c| format!("  {:<12}{}\n", c.name, c.summary)).collect();
    format!(
        "Usage: cargo xtask <command> [arguments]\n\nCommands:\n{}\n`cargo xtask <command> --help` says more.\n",
        lines.concat()
    )
}
