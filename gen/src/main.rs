//! The `gen` command: builds the kernel library, runs ops and PTX files, shows what became of a template.
//!
//! Words go to stderr, JSON to stdout. Exit status: 0 done; 1 a kernel failed to build, verify or run; 2 wrong usage or bad
//! input.

mod build;
mod cli;
mod emulate;
mod emulate_args;
mod emulate_memory;
mod explain;
mod generate;
mod launch_file;
mod list;
mod promises;
mod run;
mod rung;
mod scene;
mod show;
mod tune;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    // A mistake of ours is one line too, not a backtrace in the user's face.
    std::panic::set_hook(Box::new(|info| {
        let at = info.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        let what = info.payload_as_str().unwrap_or("no message");
        eprintln!("gen: internal error at {at}: {}", what.lines().next().unwrap_or_default());
    }));
    let work = || {
        let cli = Cli::parse();
        match cli.command {
            None => generate::generate(&cli.generate),
            Some(Command::List(args)) => list::list(&args),
            Some(Command::Run(args)) => run::run(&args),
            Some(Command::Emulate(args)) => emulate::emulate(&args),
            Some(Command::Scene(args)) => scene::scene(&args),
            Some(Command::Explain(args)) => explain::explain(&args),
            Some(Command::Show(args)) => show::show(&args),
            Some(Command::Tune(args)) => tune::tune(&args),
            Some(Command::CodegenWorker) => return tilewright_codegen::worker::worker_main(),
            Some(Command::TuneWorker) => return tune::worker(),
        }
        .map_or_else(
            |e| {
                eprintln!("gen: {e}");
                e.code()
            },
            |()| ExitCode::SUCCESS,
        )
    };
    std::panic::catch_unwind(work).unwrap_or(ExitCode::FAILURE)
}
