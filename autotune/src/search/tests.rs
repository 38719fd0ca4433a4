use super::*;
use crate::device::{Capabilities, DeviceProfile};
use crate::log::{DeviceId, Identity, Source, TrialLog, merge};
use crate::random::hash;
use crate::record::{Expected, Record, RecordError};
use crate::space::{self, Point, Space};
use crate::task::Task;
use std::collections::HashMap;
use std::path::Path;
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::GemmProblem;

/// A small space that is real, with what the model says of each point that the compiler takes.
struct Bench {
    space: Box<dyn Space>,
    ranking: Ranking,
    legal: Vec<Point>,
    model: HashMap<Point, f64>,
}

fn task(m: i64, n: i64, k: i64) -> Task {
    let sizes = [("m", m), ("n", n), ("k", k)].map(|(k, v)| (k.to_string(), v)).into();
    Task { op: "gemm".into(), class: GemmProblem::plain(DType::F16).class(), sizes }
}

fn bench(task: &Task) -> Bench {
    let space = space::of(Arch::Sm80, &task.op, &task.class).unwrap();
    let ranking = Ranking::new(&*space, DeviceProfile::typical(Arch::Sm80), task).unwrap();
    let legal = ranking.points.iter().map(|p| &p.0).filter(|p| space.check(task, p).is_ok()).cloned().collect();
    let model = ranking.points.iter().cloned().collect();
    Bench { space, ranking, legal, model }
}

impl Bench {
    fn device(&self, seed: u64, hidden: Hidden) -> Simulated<impl Fn(&Task, &Point) -> f64> {
        Simulated::new(seed, hidden, |_, p| self.model.get(p).copied().unwrap_or(f64::NAN))
    }

    fn search(&self, settings: Settings) -> Search<'_> {
        Search { space: &*self.space, ranking: &self.ranking, settings }
    }

    /// How much slower than the best of all the found one is.
    fn regret(&self, seed: u64, hidden: Hidden, settings: Settings) -> f64 {
        let mut device = self.device(seed, hidden);
        let search = self.search(Settings { seed, ..settings });
        let found = search.run(&mut device, &mut TrialLog::in_memory()).unwrap();
        let task = &self.ranking.task;
        assert_eq!(device.fault(task, &found.best.0), None, "seed {seed}");
        let right: Vec<_> = self.legal.iter().filter(|p| device.fault(task, p).is_none()).collect();
        let best = right.into_iter().map(|p| device.seconds(task, p)).fold(f64::INFINITY, f64::min);
        device.seconds(task, &found.best.0) / best - 1.0
    }
}

fn identity(settings: &Settings) -> Identity {
    let profile = DeviceProfile::typical(Arch::Sm80);
    let device = DeviceId::new(&profile.name, &Capabilities::of(profile));
    Identity::new(Source::Simulated, "sm80", device, "gen 0".into(), PROTOCOL, settings.fingerprint())
}

fn run(b: &Bench, settings: Settings, path: &Path) -> (Found, u64) {
    let mut log = TrialLog::open(path, &identity(&settings)).unwrap();
    let mut device = b.device(5, Hidden::default());
    let found = b.search(settings).run(&mut device, &mut log).unwrap();
    (found, device.asked)
}

#[test]
fn the_best_is_found_within_two_percent_for_190_of_200_seeds() {
    // Few rows: the model sees little between points, which are all bound by memory.
    for m in [16, 512] {
        let b = bench(&task(m, 4096, 4096));
        let near = (0..200).filter(|seed| b.regret(*seed, Hidden::default(), Settings::default()) <= 0.02).count();
        assert!(near >= 190, "m = {m}: {near} of 200");
    }
}

#[test]
fn a_search_killed_anywhere_goes_on_and_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let b = bench(&task(512, 4096, 4096));
    let settings = Settings::default();
    let (whole, asked) = run(&b, settings, &path);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(whole.trials + 1, bytes.iter().filter(|b| **b == b'\n').count(), "a line each, and the header");
    assert_eq!((asked, whole.end, whole.runner_up.is_some()), (whole.trials as u64, End::Settled, true));
    assert_eq!(run(&b, settings, &path), (whole.clone(), 0), "nothing is left to measure");
    for kill in 0..40 {
        // Anywhere: in the header, in a line, between two.
        let end = hash(kill, &["kill"]) as usize % bytes.len();
        std::fs::write(&path, &bytes[..end]).unwrap();
        let (resumed, again) = run(&b, settings, &path);
        assert_eq!(resumed, whole, "killed after {end} bytes");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "killed after {end} bytes");
        let finished = bytes[..end].iter().filter(|b| **b == b'\n').count().saturating_sub(1);
        assert_eq!(again, asked - finished as u64, "no finished trial is made again");
    }
    // Another seed is another search; another budget is not.
    let other = TrialLog::open(&path, &identity(&Settings { seed: 1, ..settings })).unwrap_err().to_string();
    assert!(other.contains("of another search"), "{other}");
    std::fs::remove_file(&path).unwrap();
    let (cut, _) = run(&b, Settings { trials: 30, ..settings }, &path);
    assert_eq!((cut.trials, cut.end), (30, End::Budget));
    assert_eq!(run(&b, settings, &path), (whole, asked - 30));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn shards_merged_are_one_run_and_make_the_same_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut tasks: Vec<Task> = [16, 64, 512, 4096].map(|m| task(m, 4096, 4096)).to_vec();
    tasks.sort_by_key(Task::to_string);
    let benches: HashMap<Task, Bench> = tasks.iter().map(|t| (t.clone(), bench(t))).collect();
    let settings = Settings { shortlist: 8, widest: 16, ..Settings::default() };
    let search = |tasks: &[Task], name: &str| {
        let path = folder.path().join(name);
        let mut found: Vec<Found> = tasks.iter().map(|t| run(&benches[t], settings, &path).0).collect();
        found.sort_by_key(|f| f.task.to_string());
        (path, found)
    };
    let (whole, found) = search(&tasks, "whole");
    let mut sharded = Vec::new();
    let paths: Vec<_> = (1..=2)
        .map(|i| {
            let own = shard(&tasks, i, 2);
            assert!(!own.is_empty() && own.len() < tasks.len());
            let (path, found) = search(&own, &format!("shard{i}"));
            sharded.extend(found);
            path
        })
        .collect();
    sharded.sort_by_key(|f| f.task.to_string());
    assert_eq!(sharded, found);
    let merged = merge(&paths).unwrap();
    let path = folder.path().join("merged");
    merged.write(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&whole).unwrap());
    // What the merged log says needs no device.
    let again: Vec<Found> = tasks
        .iter()
        .map(|t| run(&benches[t], settings, &path))
        .map(|(f, asked)| {
            assert_eq!(asked, 0);
            f
        })
        .collect();
    let record = |found: &[Found], path: &Path| {
        let (identity, entries) = TrialLog::read(path).unwrap();
        let list: Vec<(&dyn Space, &Found)> = found.iter().map(|f| (&*benches[&f.task].space, f)).collect();
        Record::from_log(&identity, "gemm", &TrialLog::of(entries), &list).unwrap()
    };
    let one = record(&found, &whole);
    assert_eq!(one.to_json(), record(&again, &path).to_json());
    assert_eq!(Record::from_json(&one.to_json()).unwrap(), one);
    assert!(
        one.entries.len() == 4
            && one.entries.iter().all(|e| e.next_best().count() == 7 && e.next_best().all(|r| r.point != e.best))
            && one.entries.iter().all(|e| e.p20_ns <= e.median_ns && e.median_ns <= e.p80_ns)
    );
    refusals(&one, &*benches[&tasks[0]].space, folder.path());
}

/// A record serves what it was made for and nothing else.
fn refusals(record: &Record, space: &dyn Space, folder: &Path) {
    let class = &record.entries[0].task.class;
    let spaces = [(class.clone(), space::space_hash(space))].into();
    let expected = Expected { op: "gemm".into(), identity: identity(&Settings::default()), spaces };
    let path = folder.join("records/a100/gemm.json");
    record.write(&path).unwrap();
    assert_eq!(Record::load_verified(&path, &expected).unwrap(), *record);
    let refused = |change: &dyn Fn(&mut Expected), why: &str| {
        let mut e = expected.clone();
        change(&mut e);
        let error = Record::load_verified(&path, &e).unwrap_err().to_string();
        assert!(error.contains(why), "{error}, expected {why}");
    };
    refused(&|e| e.op = "attention".into(), "of another op: gemm, not attention");
    refused(&|e| e.identity.target = "sm90a".into(), "of another target: sm80, not sm90a");
    refused(&|e| e.identity.device.profile = "h200".into(), "of another device: A100, not h200");
    refused(&|e| e.identity.source = Source::Measured, "are simulated, not measured");
    refused(&|e| e.identity.toolchain = "gen 1".into(), "stale: its toolchain is gen 0, now it is gen 1");
    refused(&|e| e.identity.protocol += 1, "stale: its protocol is 1, now it is 2");
    refused(&|e| e.spaces.values_mut().for_each(|h| *h = "b3:0".into()), "now it is b3:0; tune again");
    let mut known = record.clone();
    known.entries[1].artifact = Some("b3:1".into());
    assert!(known.verify_artifacts(|_, _| None).is_ok() && known.verify_artifacts(|_, _| Some("b3:1".into())).is_ok());
    let error = known.verify_artifacts(|_, _| Some("b3:2".into())).unwrap_err().to_string();
    assert!(error.contains("stale: its artifact of") && error.contains("is b3:1, now it is b3:2"), "{error}");
    let text = record.to_json();
    assert!(matches!(Record::from_json("[]"), Err(RecordError::Form(_))));
    assert!(matches!(Record::from_json(&text.replace("\"schema\": 1", "\"schema\": 9")), Err(RecordError::Version { found: 9 })));
    assert!(
        Record::from_json(&text.replace("\"toolchain\"", "\"tools\"")).unwrap_err().to_string().contains("unknown field `tools`")
    );
}

/// A device on which all points take the same within noise, and some cannot be had.
struct Flat {
    right: fn(&Point) -> bool,
    artifact: &'static str,
}

impl Measure for Flat {
    fn check(&mut self, _: &Task, p: &Point) -> Result<(), Failure> {
        if (self.right)(p) { Ok(()) } else { Err(Failure::Wrong("nan".into())) }
    }

    fn time(&mut self, _: &Task, _: &Point, from: u32, count: u32) -> Result<Vec<Sample>, Failure> {
        // Within half a percent: noise that must not decide.
        Ok((from..from + count).map(|i| Sample::of(1e-3 * (1.0 + 1e-3 * f64::from(i % 5)))).collect())
    }

    fn interleaved(&mut self, t: &Task, points: &[Point], from: u32, rounds: u32) -> Vec<Result<Vec<Sample>, Failure>> {
        points.iter().map(|p| self.time(t, p, from, rounds)).collect()
    }

    fn available(&self, _: &Task, p: &Point) -> bool {
        p.get("stages") != Some("2")
    }

    fn artifact(&mut self, _: &Task, _: &Point) -> Option<String> {
        Some(self.artifact.into())
    }
}

#[test]
fn ties_go_to_the_smaller_id_among_what_is_there() {
    let b = bench(&task(512, 4096, 4096));
    let search = b.search(Settings::default());
    let mut log = TrialLog::in_memory();
    let found = search.run(&mut Flat { right: |_| true, artifact: "b3:0" }, &mut log).unwrap();
    let finalists = Settings::default().finalists;
    let smallest: Vec<&Point> = found.timed.iter().take(finalists).map(|t| &t.0).collect();
    assert_eq!(Some(&&found.best.0), smallest.iter().min());
    assert!(found.timed.iter().all(|t| t.0.get("stages") != Some("2")));
    // Kernels that have changed since are not mixed with those of the log.
    let error = search.run(&mut Flat { right: |_| true, artifact: "b3:1" }, &mut log).unwrap_err().to_string();
    assert!(error.contains("as b3:0, it is b3:1 now"), "{error}");
    let none = search.run(&mut Flat { right: |_| false, artifact: "" }, &mut TrialLog::in_memory()).unwrap_err().to_string();
    assert!(none.contains("none of the") && none.contains("wrong: nan"), "{none}");
    let short = b.search(Settings { trials: 1, ..Settings::default() });
    let error = short.run(&mut Flat { right: |_| true, artifact: "" }, &mut TrialLog::in_memory()).unwrap_err().to_string();
    assert!(error.contains("1 trials end before a candidate is timed"), "{error}");
}

#[test]
fn kinds_the_model_ranks_last_are_tried_too() {
    let b = bench(&task(16, 4096, 4096));
    let list = b.ranking.shortlist(&Settings { shortlist: 1, widest: 1, ..Settings::default() }, |_| true);
    assert!(list.iter().any(|p| p.get("splits") == Some("1")) && list.iter().any(|p| p.get("splits") != Some("1")));
    assert_eq!(list.len(), 2 + Settings::default().drawn);
    let other = b.ranking.shortlist(&Settings { shortlist: 1, widest: 1, seed: 1, ..Settings::default() }, |_| true);
    assert!(list[..2] == other[..2] && list[2..] != other[2..], "what is drawn follows from the seed");
}

#[test]
fn a_task_that_the_space_has_nothing_for_says_why() {
    let t = task(512, 4096, 4096);
    let space = space::of(Arch::Sm80, &t.op, &t.class).unwrap();
    let odd = Task { sizes: [("m".to_string(), 4)].into(), ..t };
    let error = Ranking::new(&*space, DeviceProfile::typical(Arch::Sm80), &odd).unwrap_err().to_string();
    assert!(error.contains("has no candidate") && error.contains("sizes: a gemm has sizes m, n and k"), "{error}");
}
