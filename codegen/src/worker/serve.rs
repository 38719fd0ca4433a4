//! The worker's side.

use super::protocol::{Outcome, Refusal, Request, Response, Stage};
use crate::ptx::Backend;
use std::io::{BufRead, Write, stdin, stdout};
use std::process::ExitCode;
use tilewright_ir::lane;

/// Answers requests until stdin closes. A program that hands out work to [`super::WorkerPool`] calls this, and does
/// nothing else, when it is started as the worker.
pub fn worker_main() -> ExitCode {
    let mut backend = Backend::new();
    let mut out = stdout().lock();
    for line in stdin().lock().lines() {
        let Ok(line) = line else { return ExitCode::FAILURE };
        let request: Request = match serde_json::from_str(&line) {
            Ok(request) => request,
            Err(e) => {
                eprintln!("not a request: {e}");
                return ExitCode::FAILURE;
            }
        };
        let outcome = answer(&mut backend, &request);
        let Ok(text) = serde_json::to_string(&Response { id: request.id, outcome }) else { return ExitCode::FAILURE };
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn answer(backend: &mut Backend, request: &Request) -> Outcome {
    let refuse = |stage, at, what| Outcome::Error(Refusal { stage, at, what });
    let func = match lane::parse(&request.lane_text) {
        Ok(func) => func,
        Err(e) => return refuse(Stage::Parse, format!("line {} of the Lane IR", e.line), e.message),
    };
    if func.blocks.is_empty() {
        return refuse(Stage::Verify, "?".to_string(), "a kernel has at least one block".to_string());
    }
    if let Err(e) = lane::verify(&func) {
        return refuse(Stage::Verify, e.at, e.what);
    }
    match backend.compile(&func, request.want) {
        Ok(output) => Outcome::Ok(output),
        Err(e) => refuse(Stage::Llvm, e.at, e.what),
    }
}
