//! The codegen worker of the tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    tilewright_codegen::worker::worker_main()
}
