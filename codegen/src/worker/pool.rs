//! The parent's side: a fixed number of workers, used from any number of threads.

use super::process::{Worker, WorkerCommand};
use super::protocol::{Outcome, Request};
use crate::error::CodegenError;
use crate::ptx::{PtxOutput, Want};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest a kernel may take. The largest here take a third of a second.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Worker processes, started when first needed and replaced when they die.
///
/// ```no_run
/// use tilewright_codegen::{WorkerCommand, WorkerPool};
///
/// let command = WorkerCommand { program: std::env::current_exe()?, args: vec!["worker".into()] };
/// let pool = WorkerPool::new(8, command);
/// let ptx = pool.compile("lane @k target sm_90a ...")?.ptx;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WorkerPool {
    command: WorkerCommand,
    timeout: Duration,
    state: Mutex<State>,
    freed: Condvar,
}

struct State {
    idle: Vec<Worker>,
    /// Workers that may still be taken or started.
    free: usize,
}

impl WorkerPool {
    /// At most `size` workers, at least one.
    pub fn new(size: usize, command: WorkerCommand) -> Self {
        let state = State { idle: Vec::new(), free: size.max(1) };
        WorkerPool { command, timeout: TIMEOUT, state: Mutex::new(state), freed: Condvar::new() }
    }

    /// Gives each kernel this long instead of two minutes.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Lane IR text to PTX.
    ///
    /// # Errors
    /// [`CodegenError::Lane`] when the text is refused, [`CodegenError::WorkerDied`] when LLVM took the worker down.
    pub fn compile(&self, lane_text: &str) -> Result<PtxOutput, CodegenError> {
        self.request(lane_text, Want::PTX)
    }

    /// As [`WorkerPool::compile`], with a choice of texts.
    pub fn request(&self, lane_text: &str, want: Want) -> Result<PtxOutput, CodegenError> {
        let (worker, _place) = self.take();
        let mut worker = match worker {
            Some(worker) => worker,
            None => Worker::start(&self.command).map_err(|e| CodegenError::WorkerStart {
                command: self.command.program.display().to_string(),
                why: e.to_string(),
            })?,
        };
        let kernel = kernel_name(lane_text);
        match worker.ask(Request { id: 0, lane_text: lane_text.to_string(), want }, self.timeout) {
            Ok(outcome) => {
                self.lock().idle.push(worker);
                match outcome {
                    Outcome::Ok(output) => Ok(output),
                    Outcome::Error(e) => Err(CodegenError::Lane { kernel, stage: e.stage, at: e.at, what: e.what }),
                }
            }
            Err(death) => Err(CodegenError::WorkerDied { kernel, status: death.status, stderr: death.stderr }),
        }
    }

    /// Waits for a place; with it comes an idle worker if there is one.
    fn take(&self) -> (Option<Worker>, Place<'_>) {
        let mut state = self.lock();
        while state.free == 0 {
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.free -= 1;
        (state.idle.pop(), Place { pool: self })
    }

    /// A thread that panicked while it held the lock left only a count and a list, both still true.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to use one worker, given back when dropped.
struct Place<'a> {
    pool: &'a WorkerPool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pool.lock().free += 1;
        self.pool.freed.notify_one();
    }
}

/// The name in the first line, for errors about text that may not parse.
fn kernel_name(lane_text: &str) -> String {
    let name = lane_text.split_once('@').and_then(|(_, rest)| rest.split_whitespace().next());
    name.unwrap_or("?").to_string()
}
