//! `tilewright-runner`: measures the candidates of a tuning pack on this machine.
//!
//! Words go to stderr. Exit status: 0 done; 1 the device failed; 2 wrong usage, or a pack or log that is not one.

use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tilewright_autotune::DeviceProfile;
use tilewright_autotune::log::TrialLog;
use tilewright_autotune::search::{SearchError, Settings};
use tilewright_autotune::task::Task;
use tilewright_ir::Arch;
use tilewright_runner::device::DeviceName;
use tilewright_runner::pack::{self, TuningPack};
use tilewright_runner::report;
use tilewright_runner::supervise::{Deadlines, DeviceLost, Supervisor, WorkerCommand};
use tilewright_runner::tune::{self, Packed, TuneError};
use tilewright_runner::wire::{Open, VERSION};

/// Measures the candidates of a tuning pack.
#[derive(Debug, Parser)]
#[command(name = "tilewright-runner", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Search the best candidate of each task of a pack; trials go to a log, and a search that was killed goes on from it.
    Tune(TuneArgs),
    /// Turn logs into records, as `gen tune --merge` does.
    Merge(MergeArgs),
    /// The process that measures.
    #[command(hide = true)]
    Worker,
}

#[derive(Debug, Args)]
struct TuneArgs {
    /// The tuning pack; the folder this program lies in where not given.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// cuda:N, emulator, or simulated:SEED.
    #[arg(long, default_value = "cuda:0")]
    device: DeviceName,
    /// Only the tasks of part i of n, from 1; merging the logs of all parts gives what one run gives.
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
    /// Most trials of a task.
    #[arg(long, value_name = "N")]
    budget: Option<usize>,
    /// The log; `trials.jsonl` beside the pack's files where not given, with the shard in its name.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Most milliseconds for an answer of the worker, the first one excepted.
    #[arg(long, value_name = "N", hide = true)]
    deadline_ms: Option<u64>,
}

#[derive(Debug, Args)]
struct MergeArgs {
    /// Logs of one search, or of its shards.
    #[arg(required = true)]
    logs: Vec<PathBuf>,
    /// Where records go, in a folder for each device profile.
    #[arg(long, value_name = "DIR", default_value = "records")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Worker => return tilewright_runner::worker::worker_main(),
        Command::Tune(args) => tune(&args),
        Command::Merge(args) => merge(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("tilewright-runner: {}", e.to_string().split_whitespace().collect::<Vec<_>>().join(" "));
            let failed = e.is::<DeviceLost>() || matches!(e.downcast_ref(), Some(TuneError::Search(SearchError::Lost(_))));
            ExitCode::from(if failed { 1 } else { 2 })
        }
    }
}

type Done = Result<(), Box<dyn std::error::Error>>;

fn tune(args: &TuneArgs) -> Done {
    let own = std::env::current_exe()?;
    let folder = args.pack.clone().unwrap_or_else(|| own.parent().unwrap_or(Path::new(".")).to_path_buf());
    let pack = TuningPack::open(&folder)?;
    let plan = pack.plan().clone();
    let arch: Arch = plan.target.parse().map_err(|e| format!("{}: target: {e}", folder.join(pack::FILE).display()))?;
    let made_for = DeviceProfile::named(&plan.profile).unwrap_or_else(|| DeviceProfile::typical(arch));
    let mut tasks: Vec<Task> = plan.tasks.iter().map(|t| t.task.clone()).collect();
    if let Some(shard) = &args.shard {
        tasks = tune::shard(&tasks, shard)?;
    }
    let settings = Settings::from(plan.search.clone());
    let settings = Settings { trials: args.budget.unwrap_or(settings.trials), ..settings };
    let mut deadlines = Deadlines::of(args.device);
    if let Some(ms) = args.deadline_ms.map(Duration::from_millis) {
        deadlines = Deadlines { check: ms, time: ms, ..deadlines };
    }
    let open = Open { version: VERSION, device: args.device, packs: vec![folder.clone()], seed: plan.search.seed };
    let worker = WorkerCommand { program: own, args: vec!["worker".into()] };
    let device = Supervisor::start(worker, open, deadlines)?;
    eprintln!("{}: {}", args.device, device.ready().name);
    device.ready().notes.iter().for_each(|note| eprintln!("note: {note}"));
    let identity = tune::identity(args.device, device.ready(), arch, made_for, &plan.toolchain, &settings)?;
    let path = args.log.clone().unwrap_or_else(|| {
        let part = args.shard.as_ref().map_or_else(String::new, |s| format!("-{}", s.replace('/', "-of-")));
        folder.join(format!("trials{part}.jsonl"))
    });
    let mut log = TrialLog::open(&path, &identity)?;
    if log.torn() > 0 {
        eprintln!("{}: a trial that was not finished is made again", path.display());
    }
    let mut packed = Packed { device, packs: vec![pack] };
    let found = tune::run(&identity, &tasks, settings, &mut packed, &mut log, &mut |t, r| eprintln!("{}", report::line(t, r)))?;
    eprintln!("{} of {} tasks tuned, {} trials in {}", found.len(), tasks.len(), log.len(), path.display());
    Ok(())
}

fn merge(args: &MergeArgs) -> Done {
    let (identity, log, found) = tune::replay(&args.logs, &mut |t, r| eprintln!("{}", report::line(t, r)))?;
    for path in tune::write_records(&args.out, &identity, &log, &found)? {
        eprintln!("{}", path.display());
    }
    Ok(())
}
