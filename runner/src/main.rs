//! `tilewright-runner`: measures the candidates of a tuning pack on this machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    tilewright_runner::worker::worker_main()
}
