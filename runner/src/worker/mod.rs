//! The process that may die: opens a device, checks and times candidates, one answer a question.
//!
//! | file | holds |
//! |---|---|
//! | `emulator` | the gate in the emulator; times are the model's |
//! | `simulated` | no device: times that follow from a seed, crashes that are crashes, hangs that hang |
//! | `gpu` | a GPU, by the protocol of `cuda/` |

mod emulator;
mod gpu;
mod simulated;

use crate::device::DeviceName;
use crate::pack::{Entry, TuningPack};
use crate::wire::{Open, Ready, Reply, Request, VERSION};
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use tilewright_autotune::search::{Failure, Sample};
use tilewright_autotune::space::Point;
use tilewright_autotune::task::Task;

/// A device as a worker has it.
trait Bench {
    /// What was opened.
    fn ready(&self) -> Ready;

    /// The numeric gate.
    fn check(&mut self, found: &Found<'_>) -> Result<(), Failure>;

    /// Times of runs `from..from + count`.
    fn time(&mut self, found: &Found<'_>, from: u32, count: u32) -> Result<Vec<Sample>, Failure>;

    /// The time of a finalist's turn.
    fn turn(&mut self, found: &Found<'_>, round: u32) -> Result<Vec<Sample>, Failure> {
        self.time(found, round, 1)
    }
}

/// A candidate that was asked for.
struct Found<'a> {
    pack: &'a TuningPack,
    task: &'a Task,
    point: &'a Point,
    entry: Entry,
}

/// A worker's whole life: questions from stdin, answers to stdout, until stdin ends.
pub fn worker_main() -> ExitCode {
    // Whoever started this is dead or has no more questions: nobody is left to kill what hangs.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let questions = questions();
    let mut opened = None;
    while let Ok(line) = questions.recv() {
        let reply = match serde_json::from_str::<Request>(&line) {
            Err(e) => Reply::Refused(format!("not a question: {e}")),
            Ok(Request::Open(open)) => match begin(&open) {
                Ok(o) => Reply::Ready(opened.insert(o).bench.ready()),
                Err(why) => Reply::Refused(why),
            },
            Ok(request) => opened.as_mut().map_or_else(
                || Reply::Refused("nothing is open yet".into()),
                |o| answer(o, &request).unwrap_or_else(Reply::Failed),
            ),
        };
        let Ok(mut text) = serde_json::to_vec(&reply) else { return ExitCode::FAILURE };
        text.push(b'\n');
        let mut out = std::io::stdout().lock();
        if out.write_all(&text).and_then(|()| out.flush()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Lines of stdin. They are read on a thread of their own, which ends the process with them: the other may hang in a driver.
fn questions() -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    });
    receive
}

struct Opened {
    packs: Vec<TuningPack>,
    bench: Box<dyn Bench>,
}

fn begin(open: &Open) -> Result<Opened, String> {
    if open.version != VERSION {
        return Err(format!("the question is of version {}, this worker speaks {VERSION}", open.version));
    }
    let packs = open.packs.iter().map(|p| TuningPack::open(p).map_err(|e| e.to_string())).collect::<Result<Vec<_>, _>>()?;
    let bench: Box<dyn Bench> = match open.device {
        DeviceName::Emulator => Box::new(emulator::Emulator),
        DeviceName::Simulated(seed) => Box::new(simulated::Simulated::new(seed)),
        DeviceName::Cuda(ordinal) => Box::new(gpu::Cuda::open(ordinal, open.seed)?),
    };
    Ok(Opened { packs, bench })
}

fn answer(o: &mut Opened, request: &Request) -> Result<Reply, Failure> {
    let Opened { packs, bench } = o;
    let found = |task, point| -> Result<Found<'_>, Failure> {
        let of = |pack: &'_ TuningPack| pack.entry(task, point);
        let (pack, entry) = packs
            .iter()
            .find_map(|pack| of(pack).map(|entry| (pack, entry)))
            .ok_or_else(|| Failure::Build(format!("no pack has {point} for {task}")))?;
        Ok(Found { pack, task, point, entry })
    };
    match request {
        Request::Open(_) => Ok(Reply::Refused("a device is open already".into())),
        Request::Check { task, point } => bench.check(&found(task, point)?).map(|()| Reply::Right),
        Request::Time { task, point, from, count } => bench.time(&found(task, point)?, *from, *count).map(Reply::Times),
        Request::Turn { task, point, round } => bench.turn(&found(task, point)?, *round).map(Reply::Times),
        Request::Add(folder) => match TuningPack::open(folder) {
            Ok(pack) => {
                packs.push(pack);
                Ok(Reply::Right)
            }
            Err(e) => Ok(Reply::Refused(e.to_string())),
        },
    }
}
