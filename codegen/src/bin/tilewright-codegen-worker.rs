//! A program that is only a worker; `gen` is its own worker, tests and other tools use this one.

use std::process::ExitCode;

fn main() -> ExitCode {
    tilewright_codegen::worker::worker_main()
}
