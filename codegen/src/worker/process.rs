//! One child process.

use super::protocol::{Outcome, Request, Response};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How much of a worker's stderr an error repeats, bytes. LLVM dumps the whole selection graph before it aborts;
/// what matters comes first and last.
const STDERR_HEAD: usize = 2048;
const STDERR_TAIL: usize = 2048;

/// How long a worker whose pipes have closed may take to be gone.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// How to start a worker: a program that calls [`super::worker_main`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

/// How a worker ended.
pub(super) struct Death {
    pub status: String,
    pub stderr: String,
}

/// A running worker.
pub(super) struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    responses: Receiver<String>,
    stderr: Arc<Mutex<Excerpt>>,
    stderr_reader: Option<JoinHandle<()>>,
    next_id: u64,
}

impl Worker {
    pub fn start(command: &WorkerCommand) -> std::io::Result<Self> {
        let mut child = Command::new(&command.program)
            .args(&command.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let (send, responses) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines() {
                    let Ok(line) = line else { return };
                    if send.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let stderr = Arc::new(Mutex::new(Excerpt::default()));
        let stderr_reader = child.stderr.take().map(|mut pipe| {
            let sink = Arc::clone(&stderr);
            std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(n @ 1..) = pipe.read(&mut chunk) {
                    sink.lock().unwrap_or_else(PoisonError::into_inner).push(&chunk[..n]);
                }
            })
        });
        Ok(Worker { child, stdin, responses, stderr, stderr_reader, next_id: 0 })
    }

    /// One request, one answer; the worker is of no use after an `Err`.
    pub fn ask(&mut self, mut request: Request, timeout: Duration) -> Result<Outcome, Death> {
        request.id = self.next_id;
        self.next_id += 1;
        let Ok(mut line) = serde_json::to_string(&request) else {
            return Err(self.end("the request cannot be written as JSON".to_string()));
        };
        line.push('\n');
        let written = self.stdin.as_mut().is_some_and(|pipe| pipe.write_all(line.as_bytes()).and_then(|()| pipe.flush()).is_ok());
        if !written {
            return Err(self.died());
        }
        match self.responses.recv_timeout(timeout) {
            Ok(text) => match serde_json::from_str::<Response>(&text) {
                Ok(response) if response.id == request.id => Ok(response.outcome),
                Ok(response) => Err(self.end(format!("it answered request {} instead of {}", response.id, request.id))),
                Err(e) => Err(self.end(format!("its answer is not JSON: {e}"))),
            },
            Err(RecvTimeoutError::Timeout) => Err(self.end(format!("no answer within {} s", timeout.as_secs_f32()))),
            Err(RecvTimeoutError::Disconnected) => Err(self.died()),
        }
    }

    /// Its pipes closed: give it a moment to be gone, so that its own status is the one reported.
    fn died(&mut self) -> Death {
        self.stdin = None;
        let until = Instant::now() + EXIT_GRACE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return self.end(describe(status)),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
                Ok(None) => return self.end("it closed its pipes but goes on running".to_string()),
                Err(e) => return self.end(format!("its status cannot be read: {e}")),
            }
        }
    }

    fn end(&mut self, status: String) -> Death {
        self.stop();
        if let Some(reader) = self.stderr_reader.take() {
            // A panic in the reader costs the excerpt, nothing else.
            let _ = reader.join();
        }
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner).text();
        Death { status, stderr }
    }

    fn stop(&mut self) {
        self.stdin = None;
        // Both fail only when the process is already gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The first and the last bytes of a stream.
#[derive(Default)]
struct Excerpt {
    head: Vec<u8>,
    tail: Vec<u8>,
    cut: bool,
}

impl Excerpt {
    fn push(&mut self, bytes: &[u8]) {
        let room = STDERR_HEAD - self.head.len();
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(head);
        self.tail.extend_from_slice(rest);
        let over = self.tail.len().saturating_sub(STDERR_TAIL);
        self.tail.drain(..over);
        self.cut |= over > 0;
    }

    fn text(&self) -> String {
        let gap = if self.cut { "\n...\n" } else { "" };
        format!("{}{gap}{}", String::from_utf8_lossy(&self.head), String::from_utf8_lossy(&self.tail))
    }
}

#[cfg(unix)]
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(6) => "signal 6, abort".to_string(),
        Some(11) => "signal 11, segmentation fault".to_string(),
        Some(signal) => format!("signal {signal}"),
        None => status.to_string(),
    }
}

#[cfg(not(unix))]
fn describe(status: ExitStatus) -> String {
    status.to_string()
}
