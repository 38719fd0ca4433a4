//! The LLVM worker process of the generation bench.

use std::process::ExitCode;

fn main() -> ExitCode {
    tilewright_codegen::worker::worker_main()
}
