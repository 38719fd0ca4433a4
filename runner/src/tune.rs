//! A tuning from its tasks to its records: searched on a device, or replayed from logs.

use crate::device::DeviceName;
use crate::pack::{SearchPlan, TuningPack};
use crate::supervise::Supervisor;
use crate::wire::Ready;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tilewright_autotune::log::{self, DeviceId, Identity, LogError, MergeError, Source, Trial, TrialLog};
use tilewright_autotune::record::{Record, RecordError};
use tilewright_autotune::search::{Failure, Found, Measure, PROTOCOL, Ranking, Sample, Search, SearchError, Settings};
use tilewright_autotune::space::{self, Point, Space, SpaceError};
use tilewright_autotune::task::Task;
use tilewright_autotune::{Capabilities, DeviceProfile, Match};
use tilewright_ir::Arch;

/// What sets the name of a profile that is like a device's apart from what is not the same about the device.
const LIKE: &str = "-like-";

/// What came of a task: a result, or why there is none.
pub type Told<'a> = &'a mut dyn FnMut(&Task, Result<&Found, &str>);

/// A tuning that ends without records.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field is
pub enum TuneError {
    #[error(transparent)]
    Space(#[from] SpaceError),
    #[error(transparent)]
    Search(#[from] SearchError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Merge(#[from] MergeError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("target {target} of the log: {why}")]
    Target { target: String, why: String },
    #[error("{why}: write a profile first, docs/how-to/add-a-gpu.md says how")]
    NoProfile { why: String },
    #[error("the log is of device profile {name}, which this version does not know")]
    UnknownProfile { name: String },
    #[error("--shard {text}: expected i/n with 1 <= i <= n")]
    Shard { text: String },
}

/// The identity of trials on a device. `made_for` is the profile that stands for it where no driver says what it is.
///
/// # Errors
/// No profile is like the device.
pub fn identity(
    device: DeviceName,
    ready: &Ready,
    arch: Arch,
    made_for: &DeviceProfile,
    toolchain: &str,
    settings: &Settings,
) -> Result<Identity, TuneError> {
    let (profile, caps) = match ready.capabilities {
        None => (made_for.name.clone(), Capabilities::of(made_for)),
        Some(caps) => match DeviceProfile::matching(&caps) {
            Match::Exact(p) => (p.name.clone(), caps),
            Match::Near { profile, .. } => (format!("{}{LIKE}{}sms", profile.name, caps.sms), caps),
            Match::None { why } => return Err(TuneError::NoProfile { why }),
        },
    };
    let source = match device {
        DeviceName::Cuda(_) => Source::Measured,
        DeviceName::Emulator => Source::Emulated,
        DeviceName::Simulated(_) => Source::Simulated,
    };
    let mut capabilities = BTreeMap::from([
        ("compute".to_string(), u64::from(caps.compute[0] * 10 + caps.compute[1])),
        ("sms".to_string(), caps.sms.into()),
        ("smem_per_sm_bytes".to_string(), caps.smem_per_sm_bytes.into()),
        ("l2_bytes".to_string(), caps.l2_bytes),
        ("memory_bytes_per_second".to_string(), caps.memory_bytes_per_second as u64),
        ("clock_hz".to_string(), caps.clock_hz as u64),
    ]);
    if let DeviceName::Simulated(seed) = device {
        capabilities.insert("seed".into(), seed);
    }
    let id = DeviceId { profile, capabilities };
    Ok(Identity::new(source, arch.caps().name, id, toolchain.into(), PROTOCOL, settings.fingerprint()))
}

/// The profile whose model ranks candidates for an identity.
pub fn profile(identity: &Identity) -> Result<&'static DeviceProfile, TuneError> {
    let name = identity.device.profile.split(LIKE).next().unwrap_or_default();
    DeviceProfile::named(name).ok_or_else(|| TuneError::UnknownProfile { name: name.into() })
}

/// Tasks of `i/n`.
pub fn shard(tasks: &[Task], text: &str) -> Result<Vec<Task>, TuneError> {
    let parsed = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parsed.filter(|(i, n)| (1..=*n).contains(i)) {
        Some((i, n)) => Ok(tilewright_autotune::search::shard(tasks, i, n)),
        None => Err(TuneError::Shard { text: text.into() }),
    }
}

/// Searches every task. One without a result is told and leaves the others theirs; a log that cannot be used or a device that is
/// gone ends it.
pub fn run(
    identity: &Identity,
    tasks: &[Task],
    settings: Settings,
    measure: &mut dyn Measure,
    log: &mut TrialLog,
    told: Told<'_>,
) -> Result<Vec<Found>, TuneError> {
    let (arch, profile) = (arch(identity)?, profile(identity)?);
    let mut spaces = Spaces::new(arch);
    let mut list = Vec::new();
    for task in tasks {
        let space = spaces.of(task)?;
        let result = Ranking::new(space, profile, task)
            .and_then(|ranking| Search { space, ranking: &ranking, settings }.run(&mut *measure, &mut *log));
        match result {
            Ok(found) => {
                told(task, Ok(&found));
                list.push(found);
            }
            Err(e @ (SearchError::Lost(_) | SearchError::Log(_) | SearchError::Changed { .. })) => return Err(e.into()),
            Err(e) => told(task, Err(&e.to_string())),
        }
    }
    Ok(list)
}

/// What the searches behind logs found, without a device: a search is a function of its log. A task whose log ends early is told
/// with what it had by then.
pub fn replay(paths: &[PathBuf], told: Told<'_>) -> Result<(Identity, TrialLog, Vec<Found>), TuneError> {
    let merged = log::merge(paths)?;
    let tasks: BTreeSet<Task> = merged.entries.iter().map(|e| e.trial.task().clone()).collect();
    let mut log = TrialLog::of(merged.entries);
    // What decides which trials are made stands in the identity; the budget is what was made.
    let settings = serde_json::from_str::<SearchPlan>(&merged.identity.search).map(Settings::from).unwrap_or_default();
    let mut found = Vec::new();
    for task in tasks {
        let trials = log.of_task(&task).count();
        let known = log.of_task(&task).map(|(t, _)| t.clone()).collect();
        let mut device = Logged { known };
        let one = run(&merged.identity, &[task], Settings { trials, ..settings }, &mut device, &mut log, told)?;
        found.extend(one);
    }
    Ok((merged.identity, log, found))
}

/// Writes a record for each op that something was found for, into `folder/<profile>/<op>.json`. Entries of other tasks in a record
/// of the same identity stay.
pub fn write_records(folder: &Path, identity: &Identity, log: &TrialLog, found: &[Found]) -> Result<Vec<PathBuf>, TuneError> {
    let mut spaces = Spaces::new(arch(identity)?);
    for f in found {
        spaces.of(&f.task)?;
    }
    let pairs: Vec<(&dyn Space, &Found)> = found.iter().filter_map(|f| Some((spaces.get(&f.task)?, f))).collect();
    let mut ops: Vec<&str> = found.iter().map(|f| f.task.op.as_str()).collect();
    ops.sort_unstable();
    ops.dedup();
    let mut paths = Vec::new();
    for op in ops {
        let mut record = Record::from_log(identity, op, log, &pairs)?;
        let path = folder.join(record_folder(identity)).join(format!("{op}.json"));
        if let Ok(before) = Record::load(&path) {
            join(&mut record, before);
        }
        record.write(&path)?;
        paths.push(path);
    }
    Ok(paths)
}

/// The folder of a device's records: its profile's name; apart where times mean nothing for it.
pub fn record_folder(identity: &Identity) -> String {
    let profile = identity.device.profile.to_lowercase().replace(' ', "-");
    match identity.source {
        Source::Measured => profile,
        other => format!("{other}-{profile}"),
    }
}

/// Takes over entries of a record that is of the same, but for the tasks.
fn join(record: &mut Record, before: Record) {
    let same = |a: &Record, b: &Record| {
        let of =
            |r: &Record| (r.schema, r.op.clone(), r.target.clone(), r.source, r.toolchain.clone(), r.protocol, r.search.clone());
        of(a) == of(b)
            && a.device == b.device
            && b.spaces.iter().all(|(class, hash)| a.spaces.get(class).is_none_or(|h| h == hash))
    };
    if !same(record, &before) {
        return;
    }
    let new: Vec<String> = record.entries.iter().map(|e| e.task.to_string()).collect();
    record.entries.extend(before.entries.into_iter().filter(|e| !new.contains(&e.task.to_string())));
    record.entries.sort_by_cached_key(|e| e.task.to_string());
    record.spaces.extend(before.spaces);
}

fn arch(identity: &Identity) -> Result<Arch, TuneError> {
    identity
        .target
        .parse()
        .map_err(|e: <Arch as std::str::FromStr>::Err| TuneError::Target { target: identity.target.clone(), why: e.to_string() })
}

/// Spaces by op and class, each made once.
pub struct Spaces {
    arch: Arch,
    made: BTreeMap<(String, String), Box<dyn Space>>,
}

impl Spaces {
    /// None yet.
    pub fn new(arch: Arch) -> Self {
        Spaces { arch, made: BTreeMap::new() }
    }

    /// The space of a task.
    pub fn of(&mut self, task: &Task) -> Result<&dyn Space, SpaceError> {
        Ok(match self.made.entry((task.op.clone(), task.class.clone())) {
            Entry::Occupied(known) => &**known.into_mut(),
            Entry::Vacant(place) => &**place.insert(space::of(self.arch, &task.op, &task.class)?),
        })
    }

    /// One that was made before.
    pub fn get(&self, task: &Task) -> Option<&dyn Space> {
        self.made.get(&(task.op.clone(), task.class.clone())).map(|s| &**s)
    }
}

/// A log in the place of a device: what it does not know cannot be run.
struct Logged {
    known: BTreeSet<Trial>,
}

fn no_device<T>() -> Result<T, Failure> {
    Err(Failure::Refused("there is no device, only a log".into()))
}

impl Measure for Logged {
    fn check(&mut self, _: &Task, _: &Point) -> Result<(), Failure> {
        no_device()
    }

    fn time(&mut self, _: &Task, _: &Point, _: u32, _: u32) -> Result<Vec<Sample>, Failure> {
        no_device()
    }

    fn interleaved(&mut self, _: &Task, points: &[Point], _: u32, _: u32) -> Vec<Result<Vec<Sample>, Failure>> {
        points.iter().map(|_| no_device()).collect()
    }

    fn available(&self, task: &Task, point: &Point) -> bool {
        self.known.contains(&Trial::Gate { task: task.clone(), point: point.clone() })
    }
}

/// A supervisor that runs what is in its packs, and nothing else.
pub struct Packed {
    /// The device.
    pub device: Supervisor,
    /// What there is.
    pub packs: Vec<TuningPack>,
}

impl Measure for Packed {
    fn lost(&self) -> Option<String> {
        self.device.lost()
    }

    fn check(&mut self, task: &Task, point: &Point) -> Result<(), Failure> {
        self.device.check(task, point)
    }

    fn time(&mut self, task: &Task, point: &Point, from: u32, count: u32) -> Result<Vec<Sample>, Failure> {
        self.device.time(task, point, from, count)
    }

    fn interleaved(&mut self, task: &Task, points: &[Point], from: u32, rounds: u32) -> Vec<Result<Vec<Sample>, Failure>> {
        self.device.interleaved(task, points, from, rounds)
    }

    fn available(&self, task: &Task, point: &Point) -> bool {
        self.packs.iter().any(|p| p.entry(task, point).is_some())
    }

    fn artifact(&mut self, task: &Task, point: &Point) -> Option<String> {
        self.packs.iter().find_map(|p| p.artifact(task, point)).map(String::from)
    }
}
