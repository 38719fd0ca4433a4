//! The side that must not die: starts a worker, asks it, and kills it when it does not answer in time.

use crate::device::DeviceName;
use crate::wire::{LINE_BYTES, Open, Ready, Reply, Request};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tilewright_autotune::search::{Failure, Measure, Sample};
use tilewright_autotune::space::Point;
use tilewright_autotune::task::Task;

/// How often a device that was there is opened again before it counts as gone.
const OPENINGS: u32 = 3;
/// How much of what a worker said last is kept for the report of its end.
const LAST_WORDS_BYTES: usize = 2048;

/// The program that is a worker.
#[derive(Clone, Debug)]
pub struct WorkerCommand {
    /// Its path.
    pub program: PathBuf,
    /// Arguments before it reads its questions.
    pub args: Vec<OsString>,
}

/// How long a worker may take to answer before it counts as hung.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deadlines {
    /// To open a device and a pack: the driver may have to start.
    pub open: Duration,
    /// For the first question about a problem, whose data is made and whose kernels are loaded, and for the gate.
    pub check: Duration,
    /// For times.
    pub time: Duration,
}

/// What PTX compiled by a driver (minutes at worst), data of a few GiB and warming up need, with room: a deadline only ever costs
/// this much for a candidate that hangs.
impl Default for Deadlines {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Deadlines { open: seconds(120), check: seconds(300), time: seconds(60) }
    }
}

impl Deadlines {
    /// Those for a device: a simulated one needs no time for anything, and candidates that hang there are no rarity.
    pub fn of(device: DeviceName) -> Self {
        let short = Duration::from_secs(3);
        match device {
            DeviceName::Simulated(_) => Deadlines { check: short, time: short, ..Deadlines::default() },
            _ => Deadlines::default(),
        }
    }
}

/// The device cannot be used, so nothing that follows would be a fact about a candidate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceLost {
    /// The worker's program does not start.
    #[error("{}: {why}", program.display())]
    Program {
        /// Its path.
        program: PathBuf,
        /// Why.
        why: String,
    },
    /// The worker said why it cannot work.
    #[error("{0}")]
    Refused(String),
    /// The worker died or hung before it had a device.
    #[error("the worker did not come up: {0}")]
    Silent(Failure),
}

/// A device measured by worker processes.
pub struct Supervisor {
    command: WorkerCommand,
    open: Open,
    deadlines: Deadlines,
    worker: Option<Worker>,
    lost: Option<DeviceLost>,
    ready: Ready,
    started: u32,
}

struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Receiver<Vec<u8>>,
    last_words: Option<JoinHandle<Vec<u8>>>,
}

impl Supervisor {
    /// Starts a worker and has it open the device.
    ///
    /// # Errors
    /// Where it cannot: no such program, no device, no such pack.
    pub fn start(command: WorkerCommand, open: Open, deadlines: Deadlines) -> Result<Self, DeviceLost> {
        let nothing = Ready { name: String::new(), capabilities: None, notes: Vec::new() };
        let mut s = Supervisor { command, open, deadlines, worker: None, lost: None, ready: nothing, started: 0 };
        let (worker, ready) = s.begin()?;
        (s.worker, s.ready) = (Some(worker), ready);
        Ok(s)
    }

    /// What the worker opened.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Workers started so far: one, and one for each that died.
    pub fn started(&self) -> u32 {
        self.started
    }

    /// One more tuning pack, for this worker and those that follow.
    pub fn add(&mut self, folder: PathBuf) -> Result<(), Failure> {
        self.open.packs.push(folder.clone());
        // Without a worker, the next one opens it with the others.
        let Some(worker) = &mut self.worker else { return Ok(()) };
        match worker.ask(&Request::Add(folder), self.deadlines.open)? {
            Reply::Right => Ok(()),
            other => Err(unexpected(&mut self.worker, &other)),
        }
    }

    fn begin(&mut self) -> Result<(Worker, Ready), DeviceLost> {
        let mut worker = Worker::spawn(&self.command)
            .map_err(|e| DeviceLost::Program { program: self.command.program.clone(), why: e.to_string() })?;
        self.started += 1;
        match worker.ask(&Request::Open(self.open.clone()), self.deadlines.open) {
            Ok(Reply::Ready(ready)) => Ok((worker, ready)),
            Ok(Reply::Refused(why)) => Err(DeviceLost::Refused(why)),
            Ok(other) => Err(DeviceLost::Refused(format!("the worker answered {other:?}: is it another version?"))),
            Err(failure) => Err(DeviceLost::Silent(failure)),
        }
    }

    fn times(&mut self, request: &Request, count: u32) -> Result<Vec<Sample>, Failure> {
        // A fresh worker makes the data anew.
        let deadline = if self.worker.is_some() { self.deadlines.time } else { self.deadlines.check };
        match self.ask(request, deadline)? {
            Reply::Times(samples) if samples.len() == count as usize => Ok(samples),
            other => Err(unexpected(&mut self.worker, &other)),
        }
    }

    fn ask(&mut self, request: &Request, deadline: Duration) -> Result<Reply, Failure> {
        let mut tries = 0;
        while self.worker.is_none() {
            match self.begin() {
                Ok((worker, _)) => self.worker = Some(worker),
                Err(lost) => {
                    tries += 1;
                    if tries == OPENINGS {
                        let failure = Failure::Crashed(lost.to_string());
                        self.lost = Some(lost);
                        return Err(failure);
                    }
                }
            }
        }
        let Some(worker) = &mut self.worker else { return Err(Failure::Crashed("no worker".into())) };
        let answer = worker.ask(request, deadline);
        // After a fault the driver's context is gone, and who hung or raved is not asked again.
        if matches!(&answer, Err(_) | Ok(Reply::Failed(Failure::Crashed(_) | Failure::Hung(_)))) {
            self.worker = None;
        }
        match answer? {
            Reply::Failed(failure) => Err(failure),
            reply => Ok(reply),
        }
    }
}

impl Measure for Supervisor {
    fn lost(&self) -> Option<String> {
        self.lost.as_ref().map(DeviceLost::to_string)
    }

    fn check(&mut self, task: &Task, point: &Point) -> Result<(), Failure> {
        match self.ask(&Request::Check { task: task.clone(), point: point.clone() }, self.deadlines.check)? {
            Reply::Right => Ok(()),
            other => Err(unexpected(&mut self.worker, &other)),
        }
    }

    fn time(&mut self, task: &Task, point: &Point, from: u32, count: u32) -> Result<Vec<Sample>, Failure> {
        self.times(&Request::Time { task: task.clone(), point: point.clone(), from, count }, count)
    }

    /// One question a run, so that whoever crashes is known; the worker keeps what it has prepared.
    fn interleaved(&mut self, task: &Task, points: &[Point], from: u32, rounds: u32) -> Vec<Result<Vec<Sample>, Failure>> {
        let mut results: Vec<Result<Vec<Sample>, Failure>> = points.iter().map(|_| Ok(Vec::new())).collect();
        for round in from..from + rounds {
            for (point, result) in points.iter().zip(&mut results) {
                let Ok(samples) = result else { continue };
                match self.times(&Request::Turn { task: task.clone(), point: point.clone(), round }, 1) {
                    Ok(more) => samples.extend(more),
                    Err(failure) => *result = Err(failure),
                }
            }
        }
        results
    }
}

fn unexpected(worker: &mut Option<Worker>, reply: &Reply) -> Failure {
    *worker = None;
    Failure::Crashed(format!("the worker answered something else: {reply:?}"))
}

impl Worker {
    fn spawn(command: &WorkerCommand) -> std::io::Result<Self> {
        let mut child = Command::new(&command.program)
            .args(&command.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(std::io::Error::other("no pipes"));
        };
        // One answer waits at most: a worker that says more than it was asked blocks, and is killed at the next question.
        let (send, answers) = sync_channel(1);
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            loop {
                let mut line = Vec::new();
                match stdout.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) if send.send(line).is_err() => return,
                    Ok(_) => {}
                }
            }
        });
        let last_words = std::thread::spawn(move || tail(stderr));
        Ok(Worker { child, stdin, answers, last_words: Some(last_words) })
    }

    fn ask(&mut self, request: &Request, deadline: Duration) -> Result<Reply, Failure> {
        let mut line = serde_json::to_vec(request).map_err(|e| Failure::Crashed(e.to_string()))?;
        line.push(b'\n');
        // A question is far shorter than a pipe holds, so this does not block; a pipe that broke shows below as the worker's end.
        let _ = self.stdin.as_mut().map(|stdin| stdin.write_all(&line).and_then(|()| stdin.flush()));
        match self.answers.recv_timeout(deadline) {
            Ok(line) => serde_json::from_slice(&line).map_err(|e| {
                let start: String = String::from_utf8_lossy(&line).chars().take(60).collect();
                Failure::Crashed(format!("the worker said what is no answer ({e}): {}", start.trim_end()))
            }),
            Err(RecvTimeoutError::Timeout) => Err(Failure::Hung(deadline)),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.end();
                let words = self.last_words.take().and_then(|t| t.join().ok()).unwrap_or_default();
                let words = String::from_utf8_lossy(&words);
                let last = words.lines().map(str::trim).rfind(|l| !l.is_empty());
                Err(Failure::Crashed(last.map_or_else(|| status.clone(), |said| format!("{status}: {said}"))))
            }
        }
    }

    /// Kills it, whatever it does, and says how it ended.
    fn end(&mut self) -> String {
        // One that closed its pipe is about to end by itself; how is worth the short wait.
        for _ in 0..20 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return ended(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        self.child.wait().map_or_else(|e| e.to_string(), ended)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SIGKILL: a driver that waits for a hung kernel answers to nothing else.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("the worker ended with status {code}"),
        (None, Some(signal)) => format!("the worker was ended by signal {signal}"),
        (None, None) => "the worker ended".into(),
    }
}

/// Reads all of a stream and keeps its end.
fn tail(mut stream: impl Read) -> Vec<u8> {
    let (mut kept, mut chunk) = (Vec::new(), [0; 1024]);
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        kept.extend_from_slice(&chunk[..n]);
        kept.drain(..kept.len().saturating_sub(LAST_WORDS_BYTES));
    }
    kept
}
