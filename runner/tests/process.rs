//! The runner as a process that is killed, split and lied to. The device is the simulated one, whose candidates crash and hang as
//! processes do.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tilewright_autotune::DeviceProfile;
use tilewright_autotune::log::{Outcome, TrialLog};
use tilewright_autotune::search::{Failure, Hidden, Measure, Ranking, Sample, Search, Settings, Simulated};
use tilewright_autotune::space::{self, Point};
use tilewright_autotune::task::Task;
use tilewright_ir::Arch;
use tilewright_runner::device::DeviceName;
use tilewright_runner::pack::{Candidate, FILE, SearchPlan, TaskPlan, TuningPlan};
use tilewright_runner::supervise::{Deadlines, DeviceLost, Supervisor, WorkerCommand};
use tilewright_runner::wire::{Open, VERSION};
use tilewright_runtime::manifest::{File, Manifest};

const RUNNER: &str = env!("CARGO_BIN_EXE_tilewright-runner");
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/tests/runtime/fixtures/manifest.json");
const CLASS: &str = "a=f16,b=nk,out=f16,act=none,bias=0,residual=0";
/// Trials of a task: enough for several heats.
const BUDGET: &str = "40";
/// A simulated candidate that hangs costs this.
const DEADLINE_MS: &str = "100";

fn task(m: i64) -> Task {
    let sizes = [("m", m), ("n", 1024), ("k", 512)].map(|(name, size)| (name.to_string(), size)).into();
    Task { op: "gemm".into(), class: CLASS.into(), sizes }
}

/// A pack of the model's best dozen of each task. The kernels are the runtime's fixture: nothing launches them here.
fn pack() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest: Manifest = serde_json::from_slice(&fs::read(FIXTURE).unwrap()).unwrap();
    let fill = |file: &mut File| {
        file.blake3 = blake3::hash(file.path.as_bytes()).to_string();
        file.bytes = file.path.len() as u64;
        fs::write(folder.path().join(&file.path), &file.path).unwrap();
    };
    for kernel in &mut manifest.kernels {
        fill(&mut kernel.ptx);
        kernel.cubin.iter_mut().for_each(fill);
    }
    fs::write(folder.path().join("manifest.json"), manifest.to_json().unwrap()).unwrap();
    let device = DeviceProfile::typical(Arch::Sm80);
    let space = space::of(Arch::Sm80, "gemm", CLASS).unwrap();
    let search = SearchPlan::from(&Settings { seed: 5, ..Settings::default() });
    let mut plan = TuningPlan::new("sm80", "none".into(), &device.name, search);
    for m in [16, 64, 256] {
        let task = task(m);
        let ranking = Ranking::new(&*space, device, &task).unwrap();
        let legal = ranking.points.iter().filter(|(p, _)| space.check(&task, p).is_ok()).take(12);
        let mut candidates: Vec<_> = legal.map(|(p, s)| Candidate::new(p.clone(), "gemm_any".into(), *s)).collect();
        candidates.sort_by_cached_key(|c| c.point.to_string());
        plan.tasks.push(TaskPlan { task, candidates });
    }
    fs::write(folder.path().join(FILE), plan.to_json()).unwrap();
    folder
}

fn tune(pack: &Path, log: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(RUNNER);
    command.args(["tune", "--device", "simulated:3", "--budget", BUDGET, "--deadline-ms", DEADLINE_MS]).args(more);
    command.arg("--pack").arg(pack).arg("--log").arg(log).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{words}");
    words
}

/// The records of logs, by path below their folder.
fn records(logs: &[&Path]) -> BTreeMap<PathBuf, String> {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(RUNNER);
    done(command.arg("merge").args(logs).arg("--out").arg(out.path()).stderr(Stdio::piped()));
    let mut found = BTreeMap::new();
    for folder in fs::read_dir(out.path()).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            found.insert(path.strip_prefix(out.path()).unwrap().to_path_buf(), fs::read_to_string(path).unwrap());
        }
    }
    found
}

/// Waits for a log to have so many lines; false where the process ended before.
fn grown(child: &mut Child, log: &Path, lines: usize) -> bool {
    loop {
        let text = fs::read(log).unwrap_or_default();
        if text.iter().filter(|b| **b == b'\n').count() >= lines {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Processes whose parent is this.
fn children(parent: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}

fn kill(id: u32) {
    let id = rustix::process::Pid::from_raw(id as i32).unwrap();
    let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
}

#[test]
fn kills_lose_no_finished_trial_and_shards_are_one_run() {
    let pack = pack();
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let words = done(&mut tune(pack.path(), &whole, &[]));
    assert!(words.contains("3 of 3 tasks tuned"), "{words}");
    let expected = records(&[&whole]);
    assert_eq!(expected.keys().collect::<Vec<_>>(), [Path::new("simulated-a100/gemm.json")]);
    let all = fs::read(&whole).unwrap();
    let lines = all.iter().filter(|b| **b == b'\n').count();
    // What the simulated device is for: some of its candidates end their process, some never end.
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(text.contains("ended by signal 6") && text.contains("hung"), "{text}");

    // Killed at moments that follow from a seed, the supervisor with SIGKILL. Its worker must not outlive it.
    let log = folder.path().join("killed");
    let mut at = 2;
    for n in 0u64.. {
        at += 3 + (n * n * 7919) as usize % (lines / 4);
        let mut child = tune(pack.path(), &log, &[]).spawn().unwrap();
        if !grown(&mut child, &log, at) {
            break;
        }
        let workers = children(child.id());
        kill(child.id());
        child.wait().unwrap();
        let before = fs::read(&log).unwrap();
        let begun = Instant::now();
        while workers.iter().any(|w| Path::new(&format!("/proc/{w}/fd")).read_dir().is_ok_and(|mut fds| fds.next().is_some())) {
            assert!(begun.elapsed() < Duration::from_secs(10), "a worker outlived its supervisor");
            std::thread::sleep(Duration::from_millis(1));
        }
        let whole_lines = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        // A killed search is a beginning of one that was not: the same trials in the same order.
        assert_eq!(before[..whole_lines], all[..whole_lines]);
    }
    assert_eq!(fs::read(&log).unwrap(), all);
    assert_eq!(records(&[&log]), expected);

    // Shards, in any order.
    let [one, two] = [1, 2].map(|i| {
        let path = folder.path().join(format!("shard{i}"));
        done(&mut tune(pack.path(), &path, &["--shard", &format!("{i}/2")]));
        path
    });
    assert!(fs::metadata(&one).unwrap().len() < all.len() as u64);
    assert_eq!(records(&[&two, &one]), expected);
}

#[test]
fn a_worker_that_is_killed_costs_its_candidate_and_nothing_else() {
    let pack = pack();
    let mut s = supervisor(pack.path(), DeviceName::Simulated(0), Duration::from_secs(20)).unwrap();
    let plan: TuningPlan = serde_json::from_slice(&fs::read(pack.path().join(FILE)).unwrap()).unwrap();
    let t = &plan.tasks[0];
    let right = |s: &mut Supervisor, p: &Point| s.check(&t.task, p).is_ok();
    let good: Vec<&Point> = t.candidates.iter().map(|c| &c.point).take(6).filter(|p| right(&mut s, p)).collect();
    let before = s.time(&t.task, good[0], 0, 2).unwrap();
    let started = s.started();
    children(std::process::id()).into_iter().filter(|id| runs_worker(*id)).for_each(kill);
    // Gone while nobody asked: that is found out by the next question, whose answer it costs.
    let Err(Failure::Crashed(why)) = s.time(&t.task, good[0], 2, 1) else { panic!("a dead worker answered") };
    assert!(why.contains("ended by signal 9"), "{why}");
    assert_eq!(s.time(&t.task, good[0], 0, 2).unwrap(), before);
    assert_eq!(s.started(), started + 1);
}

fn runs_worker(id: u32) -> bool {
    fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.ends_with(b"worker\0"))
}

fn supervisor(pack: &Path, device: DeviceName, deadline: Duration) -> Result<Supervisor, DeviceLost> {
    let command = WorkerCommand { program: RUNNER.into(), args: vec!["worker".into()] };
    let open = Open { version: VERSION, device, packs: vec![pack.into()], seed: 0 };
    Supervisor::start(command, open, Deadlines { check: deadline, time: deadline, ..Deadlines::default() })
}

/// A worker that is a script: it comes up, and then does what it is told to.
fn script(folder: &Path, then: &str) -> Supervisor {
    let path = folder.join("worker.sh");
    let ready = r#"{"ready":{"name":"x","capabilities":null,"notes":[]}}"#;
    let mut file = fs::File::create(&path).unwrap();
    write!(file, "#!/bin/sh\nread line\necho '{ready}'\nread line\n{then}\n").unwrap();
    drop(file);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    // Through the shell, as a file that was just written may still be busy.
    let command = WorkerCommand { program: "/bin/sh".into(), args: vec![path.into()] };
    let open = Open { version: VERSION, device: DeviceName::Emulator, packs: Vec::new(), seed: 0 };
    let ms = Duration::from_millis;
    Supervisor::start(command, open, Deadlines { open: ms(20_000), check: ms(200), time: ms(200) }).unwrap()
}

#[test]
fn what_is_no_answer_is_a_failure_of_the_candidate() {
    let folder = tempfile::tempdir().unwrap();
    let point: Point = "bm=16".parse().unwrap();
    let check = |then: &str| script(folder.path(), then).check(&task(16), &point).unwrap_err();
    for (then, says) in [
        ("echo '{\"times\":[]}'; read x", "answered something else: Times([])"),
        ("echo 'Segmentation fault'; read x", "what is no answer"),
        ("head -c 100000 /dev/zero; echo; read x", "what is no answer"),
        ("echo words >&2; exit 3", "ended with status 3: words"),
        ("kill -11 $$", "ended by signal 11"),
    ] {
        let Failure::Crashed(why) = check(then) else { panic!("{then}: no crash") };
        assert!(why.contains(says), "{then}: {why}");
    }
    // A hang is killed when its time is up, whatever holds the pipe open.
    assert_eq!(check("read x; read x"), Failure::Hung(Duration::from_millis(200)));
    assert_eq!(check("trap '' TERM; while :; do read x; done < /dev/zero"), Failure::Hung(Duration::from_millis(200)));
}

#[test]
fn a_device_or_a_pack_that_is_not_there_is_said_in_one_line() {
    let pack = pack();
    let log = pack.path().join("log");
    let refused = |more: &[&str]| {
        let mut command = Command::new(RUNNER);
        command.arg("tune").arg("--pack").arg(pack.path()).arg("--log").arg(&log).args(more).env_remove("LD_LIBRARY_PATH");
        let output = command.output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(words.lines().count(), 1, "{words}");
        (output.status.code(), words)
    };
    let (code, words) = refused(&["--device", "cuda:0"]);
    match words.contains("no NVIDIA driver") {
        true => assert_eq!(code, Some(1), "{words}"),
        false => eprintln!("skipped: this machine has a driver: {words}"),
    }
    let (code, words) = refused(&["--device", "simulated", "--shard", "3/2"]);
    assert!(code == Some(2) && words.contains("--shard 3/2: expected i/n"), "{words}");
    let path = pack.path().join(FILE);
    let text = fs::read_to_string(&path).unwrap();
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    fs::write(&path, text.replace(&version, "\"version\": \"99.0.0\"")).unwrap();
    let (code, words) = refused(&["--device", "simulated"]);
    assert!(code == Some(2) && words.contains("made by tilewright 99.0.0, this is"), "{words}");
    fs::write(&path, text.replace("gemm_any", "gemm_none")).unwrap();
    let (code, words) = refused(&["--device", "simulated"]);
    assert!(code == Some(2) && words.contains("is plan `gemm_none`, which the manifest does not have"), "{words}");
    fs::remove_file(&path).unwrap();
    let (_, words) = refused(&["--device", "simulated"]);
    assert!(words.contains("expected a folder that `gen tune --pack` made"), "{words}");
    assert!(!log.exists());
}

/// Nothing that the simulated device says is lost or changed on its way through the worker.
#[test]
fn a_process_says_what_the_device_in_it_says() {
    let pack = pack();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    done(&mut tune(pack.path(), &log, &["--shard", "1/1"]));
    let plan: TuningPlan = serde_json::from_slice(&fs::read(pack.path().join(FILE)).unwrap()).unwrap();
    let (_, entries) = TrialLog::read(&log).unwrap();
    let space = space::of(Arch::Sm80, "gemm", CLASS).unwrap();
    let t = &plan.tasks[0];
    let model = |_: &Task, p: &Point| t.candidates.iter().find(|c| c.point == *p).map_or(f64::NAN, |c| c.model_ps as f64 / 1e12);
    let ranking = Ranking::new(&*space, DeviceProfile::typical(Arch::Sm80), &t.task).unwrap();
    let settings = Settings { trials: BUDGET.parse().unwrap(), ..plan.search.into() };
    struct Some12<M>(M, Vec<Point>);
    impl<M: Measure> Measure for Some12<M> {
        fn check(&mut self, t: &Task, p: &Point) -> Result<(), Failure> {
            self.0.check(t, p)
        }
        fn time(&mut self, t: &Task, p: &Point, from: u32, n: u32) -> Result<Vec<Sample>, Failure> {
            self.0.time(t, p, from, n)
        }
        fn interleaved(&mut self, t: &Task, p: &[Point], from: u32, n: u32) -> Vec<Result<Vec<Sample>, Failure>> {
            self.0.interleaved(t, p, from, n)
        }
        fn available(&self, _: &Task, p: &Point) -> bool {
            self.1.contains(p)
        }
    }
    let points = t.candidates.iter().map(|c| c.point.clone()).collect();
    let mut device = Some12(Simulated::new(3, Hidden::default(), model), points);
    let mut mine = TrialLog::in_memory();
    let found = Search { space: &*space, ranking: &ranking, settings }.run(&mut device, &mut mine).unwrap();
    assert!(found.best.1.median > 0.0);
    let mut same = 0;
    for e in entries.iter().filter(|e| *e.trial.task() == t.task) {
        let here = mine.get(&e.trial).unwrap_or_else(|| panic!("{} was not made here", e.trial));
        if here.worked() && e.outcome.worked() && !matches!(e.outcome, Outcome::Right { .. }) {
            assert_eq!(*here, e.outcome, "{}", e.trial);
            same += 1;
        }
        assert_eq!(here.worked(), e.outcome.worked(), "{}", e.trial);
    }
    assert!(same > 10, "{same}");
}
