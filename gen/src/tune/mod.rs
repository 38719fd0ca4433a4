//! `gen tune`: candidates built, measured here or packed for a host with a GPU, and what was measured there taken back.
//!
//! | file | holds |
//! |---|---|
//! | `ask` | the tasks that are asked for |
//! | `candidates` | points as plans of a pack; those that cannot be built are data |
//! | `demand` | a device that has candidates built when they are first asked for |
//! | `fit` | `--fit`: the model's coefficients from logs |
//! | `pack` | `--pack`: the folder for another host |
//! | `runner` | the program that goes with it |

mod ask;
mod candidates;
mod demand;
mod fit;
mod pack;
mod runner;

use crate::build::compiler;
use crate::cli::TuneArgs;
use demand::OnDemand;
use serde_json::json;
use std::path::PathBuf;
use tilewright_autotune::DeviceProfile;
use tilewright_autotune::log::{Identity, TrialLog};
use tilewright_autotune::search::{Found, Settings};
use tilewright_autotune::task::Task;
use tilewright_codegen::{Compiler, Inspect};
use tilewright_ir::Arch;
use tilewright_ops::error::{Res, bad_input, failure, usage};
use tilewright_ops::library;
use tilewright_runner::device::DeviceName;
use tilewright_runner::supervise::{Deadlines, DeviceLost, Supervisor, WorkerCommand};
use tilewright_runner::tune::{self, TuneError};
use tilewright_runner::wire::{Open, VERSION};
use tilewright_runner::{report, worker};

/// Runs the command.
pub fn tune(args: &TuneArgs) -> Res<()> {
    if !args.merge.is_empty() {
        return merge(args);
    }
    if !args.fit.is_empty() {
        return fit::fit(&args.fit);
    }
    let Some(target) = &args.target else { return usage("--target is missing: one of sm80, sm86, sm89, sm90") };
    let arch: Arch = target.parse().map_err(bad_input)?;
    let device: DeviceName = args.device.parse().map_err(bad_input)?;
    let made_for = match &args.device_profile {
        None => DeviceProfile::typical(arch),
        Some(name) => DeviceProfile::named(name).ok_or_else(|| {
            let names: Vec<&str> = DeviceProfile::all().iter().map(|p| p.name.as_str()).collect();
            bad_input(format!("--device-profile {name}: expected one of {}", names.join(", ")))
        })?,
    };
    let mut tasks = ask::tasks(args)?;
    if let Some(shard) = &args.shard {
        tasks = tune::shard(&tasks, shard).map_err(bad_input)?;
        eprintln!("shard {shard}: {} tasks", tasks.len());
    }
    let settings = Settings { seed: args.seed, ..Settings::default() };
    let settings = match args.shortlist {
        None => settings,
        // Those drawn keep their share.
        Some(n) => Settings { shortlist: n, widest: n, drawn: n * settings.drawn / settings.shortlist, ..settings },
    };
    let settings = Settings { trials: args.budget.unwrap_or(settings.trials), ..settings };
    let what = What { arch, made_for, tasks, settings };
    match &args.pack {
        Some(folder) => pack::write(args, &what, folder),
        None => here(args, &what, device),
    }
}

/// What is tuned.
struct What {
    arch: Arch,
    /// The profile whose model chooses candidates where no driver says what the device is.
    made_for: &'static DeviceProfile,
    tasks: Vec<Task>,
    settings: Settings,
}

/// What makes kernels, for the identity of trials: without the compiler's own options, which kernels' hashes show.
fn toolchain(compiler: &Compiler) -> String {
    let ptxas = compiler.ptxas_version().map_or_else(|| "none".into(), |v| v.to_string());
    format!("tilewright {} llvm {} ptxas {ptxas}", env!("CARGO_PKG_VERSION"), tilewright_codegen::ptx::llvm_version())
}

/// The worker is this very program.
pub fn worker() -> std::process::ExitCode {
    worker::worker_main()
}

/// Measures on a device of this machine.
fn here(args: &TuneArgs, what: &What, device: DeviceName) -> Res<()> {
    let program = std::env::current_exe().map_err(failure)?;
    let command = WorkerCommand { program, args: vec!["tune-worker".into()] };
    let open = Open { version: VERSION, device, packs: Vec::new(), seed: what.settings.seed };
    let supervisor = Supervisor::start(command, open, Deadlines::of(device)).map_err(|e| match e {
        DeviceLost::Refused(why) if device.measures() => {
            failure(format!("{why}, or --device simulated, or --pack DIR for a host that has a GPU"))
        }
        other => failure(other),
    })?;
    eprintln!("{device}: {}", supervisor.ready().name);
    supervisor.ready().notes.iter().for_each(|note| eprintln!("note: {note}"));
    let compiler = compiler(args.jobs, Inspect::WhenPtxasComplains)?;
    let identity = tune::identity(device, supervisor.ready(), what.arch, what.made_for, &toolchain(&compiler), &what.settings)
        .map_err(told)?;
    let path = args.log.clone().map_or_else(|| default_log(device, &identity), Ok)?;
    let mut log = TrialLog::open(&path, &identity).map_err(bad_input)?;
    eprintln!("log: {} ({} trials)", path.display(), log.len());
    let profile = tune::profile(&identity).map_err(told)?;
    let mut device = OnDemand::new(supervisor, &compiler, what, profile)?;
    let say = &mut |t: &Task, r: Result<&Found, &str>| eprintln!("{}", report::line(t, r));
    let found = tune::run(&identity, &what.tasks, what.settings, &mut device, &mut log, say).map_err(told)?;
    finish(args, &identity, &log, &found, what.tasks.len())
}

/// Takes logs of other hosts and shards back.
fn merge(args: &TuneArgs) -> Res<()> {
    let mut untold = 0;
    let say = &mut |t: &Task, r: Result<&Found, &str>| {
        untold += usize::from(r.is_err());
        eprintln!("{}", report::line(t, r));
    };
    let (identity, log, found) = tune::replay(&args.merge, say).map_err(told)?;
    let tasks = found.len() + untold;
    finish(args, &identity, &log, &found, tasks)
}

/// Writes records and says so.
fn finish(args: &TuneArgs, identity: &Identity, log: &TrialLog, found: &[Found], tasks: usize) -> Res<()> {
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => library::root()?.join("records"),
    };
    let paths = tune::write_records(&folder, identity, log, found).map_err(told)?;
    paths.iter().for_each(|path| eprintln!("{}", path.display()));
    if args.json {
        let one = |f: &Found| {
            json!({
                "task": f.task.to_string(), "best": f.best.0, "seconds": f.best.1.median, "model_seconds": f.modelled,
                "runner_up": f.runner_up.as_ref().map(|(p, t)| json!({"point": p, "seconds": t.median})),
                "trials": f.trials, "failed": f.failed.len(),
            })
        };
        let list: Vec<_> = found.iter().map(one).collect();
        println!("{}", json!({"source": identity.source, "device": identity.device, "records": paths, "tasks": list}));
    }
    if found.len() < tasks {
        return Err(failure(format!("{} of {tasks} tasks have no result; the lines above say why", tasks - found.len())));
    }
    Ok(())
}

/// A log of its own for each identity, so that one that is found there is one to go on with.
fn default_log(device: DeviceName, identity: &Identity) -> Res<PathBuf> {
    let folder = library::root()?.join("target").join("tune");
    std::fs::create_dir_all(&folder).map_err(|e| failure(format!("{}: {e}", folder.display())))?;
    let text = serde_json::to_vec(identity).map_err(failure)?;
    let hash = blake3::hash(&text).to_hex();
    let device = device.to_string().replace(':', "-");
    Ok(folder.join(format!("{}-{device}-{}.jsonl", identity.target, &hash[..12])))
}

/// A failure of the device ends with status 1, what was given wrong with 2.
fn told(e: TuneError) -> tilewright_ops::error::Fail {
    match e {
        TuneError::Search(_) | TuneError::Record(_) => failure(e),
        other => bad_input(other),
    }
}
