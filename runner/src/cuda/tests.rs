//! The protocol against a stand-in driver, whose log says in which order things are done.

use super::*;
use crate::pack::{Candidate, SearchPlan, TaskPlan, TuningPlan};
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;
use std::{cell::Cell, env, fs};
use tilewright_autotune::search::Settings;
use tilewright_runtime::manifest::{File, Manifest};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/tests/runtime/fixtures");
const CLASS: &str = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";
const LOG: &str = "STAND_IN_LOG";
const MODE: &str = "STAND_IN_MODE";

#[test]
fn the_protocol_is_kept_call_by_call() {
    if let (Some(log), Some(mode)) = (env::var_os(LOG), env::var_os(MODE)) {
        return with_stand_in(Path::new(&log), Path::new(&mode));
    }
    // The loader reads its path once, when a process starts, so the test runs itself again.
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libcuda.so");
    let source = format!("{FIXTURES}/libcuda.c");
    let built = Command::new("cc").args(["-std=gnu11", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).output();
    let built = match built {
        Ok(output) => output,
        Err(error) => return eprintln!("skipped: no C compiler: {error}"),
    };
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "cuda::tests::the_protocol_is_kept_call_by_call", "--nocapture"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env(LOG, folder.path().join("log"))
        .env(MODE, folder.path().join("mode"))
        .output()
        .unwrap();
    let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && words.contains("1 passed"), "{words}");
}

/// A clock that rises for some readings.
struct Rising(Rc<Cell<u32>>);

impl Sensors for Rising {
    fn read(&self) -> Reading {
        self.0.set(self.0.get() + 1);
        Reading { sm_clock_mhz: Some(1000 + 100 * self.0.get().min(9)), temperature_c: Some(40), ..Reading::default() }
    }
}

fn task(m: i64) -> Task {
    let sizes = [("m", m), ("n", 64), ("k", 64)].map(|(name, size)| (name.to_string(), size)).into();
    Task { op: "gemm".into(), class: CLASS.into(), sizes }
}

fn point(text: &str) -> Point {
    text.parse().unwrap()
}

/// The runtime's fixture as a tuning pack: one kernel under two points.
fn pack(folder: &Path) -> TuningPack {
    let mut manifest: Manifest = serde_json::from_slice(&fs::read(format!("{FIXTURES}/manifest.json")).unwrap()).unwrap();
    let fill = |file: &mut File| {
        file.blake3 = blake3::hash(file.path.as_bytes()).to_string();
        file.bytes = file.path.len() as u64;
        fs::write(folder.join(&file.path), &file.path).unwrap();
    };
    for kernel in &mut manifest.kernels {
        fill(&mut kernel.ptx);
        kernel.cubin.iter_mut().for_each(fill);
    }
    fs::write(folder.join("manifest.json"), manifest.to_json().unwrap()).unwrap();
    let mut plan = TuningPlan::new("sm90", "none".into(), "H200", SearchPlan::from(&Settings::default()));
    for m in [64, 640] {
        let candidate = |p: &str| Candidate::new(point(p), "gemm_128x256".into(), 1e-5);
        plan.tasks.push(TaskPlan { task: task(m), candidates: vec![candidate("bm=128"), candidate("bm=64")] });
    }
    fs::write(folder.join(crate::pack::FILE), plan.to_json()).unwrap();
    TuningPack::open(folder).unwrap()
}

fn with_stand_in(log: &Path, mode: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let pack = pack(folder.path());
    // What was done since the last look: launches by their output's address, fills, events, graphs.
    let seen = Cell::new(0);
    let done = || -> Vec<String> {
        let text = fs::read_to_string(log).unwrap_or_default();
        let new = text[seen.replace(text.len())..].lines();
        let short = |l: &str| match l.split_once(" ptr ") {
            Some((_, rest)) => format!("launch {}", rest.split(' ').next().unwrap_or_default()),
            None => l.to_string(),
        };
        let words = ["launch", "fill", "event", "graph", "capture"];
        new.filter(|l| words.iter().any(|w| l.starts_with(w))).map(short).collect()
    };
    fs::write(mode, "").unwrap();
    let ms = Duration::from_millis;
    let protocol =
        Protocol { burst: ms(1), steady: ms(20), warm_limit: ms(10_000), still_warm: ms(1_000_000), ..Protocol::default() };
    let readings = Rc::new(Cell::new(0));
    let mut gpu = Gpu::open(0, 1, protocol, Some(Box::new(Rising(Rc::clone(&readings))))).unwrap();
    let caps = gpu.capabilities();
    assert_eq!((caps.sms, caps.compute, caps.l2_bytes), (132, [9, 0], 100_000));
    assert!((caps.memory_bytes_per_second / 4.9e12 - 1.0).abs() < 0.01, "{caps:?}");

    let [a, b] = [point("bm=128"), point("bm=64")];
    let entry = |m: i64, p: &Point| pack.entry(&task(m), p).unwrap();
    let small = task(64);
    gpu.check(&pack, &small, &a, entry(64, &a)).unwrap();
    let order = done();
    // Three tensors of nine sets, one ragged case, then the problem itself: poisoned on the stream, before its launch.
    let (sets, rest) = order.split_at(27);
    assert!(sets.iter().all(|l| l == "fill ff"), "{order:?}");
    assert_eq!(rest.len(), 3, "{order:?}");
    assert!(rest[0].starts_with("launch") && rest[1] == "fill ff" && rest[2].starts_with("launch"), "{order:?}");

    // 26 us a launch: a graph, of whole rounds of the sets. 200 kB in sets of 24 kB are nine.
    let first = gpu.time(&pack, &small, &a, entry(64, &a), 2).unwrap();
    assert!(first.iter().all(|s| (s.seconds - 26.2144e-6).abs() < 1e-11), "{first:?}");
    assert!(first[1].sm_clock_mhz == Some(1900) && first[1].temperature_c == Some(40), "{first:?}");
    assert!(readings.get() >= 10, "timed before the clock was steady: {} readings", readings.get());
    let order = done();
    let captured = order.iter().position(|l| l == "capture").unwrap();
    assert_eq!(order[captured - 1], "event", "{order:?}");
    let launches: Vec<&String> = order[captured + 1..].iter().take_while(|l| l.starts_with("launch")).collect();
    assert_eq!(launches.len(), 45, "{order:?}");
    let mut distinct = launches[..9].to_vec();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 9, "a set is used again before all were");
    assert!(launches.iter().zip(&launches[9..]).all(|(one, again)| one == again), "{launches:?}");
    let rest = &order[captured + 1 + launches.len() + 1..];
    assert!(rest.chunks(3).all(|c| c == ["event", "graph", "event"]), "{rest:?}");

    // Finalists in turns: nothing is made anew, one burst a turn.
    gpu.check(&pack, &small, &b, entry(64, &b)).unwrap();
    gpu.time(&pack, &small, &b, entry(64, &b), 1).unwrap();
    done();
    for p in [&a, &b, &a, &b] {
        gpu.time(&pack, &small, p, entry(64, p), 1).unwrap();
        assert_eq!(done(), ["event", "graph", "event"]);
    }

    // 262 us a launch: no graph, and the sets go on where the burst before ended.
    let large = task(640);
    gpu.check(&pack, &large, &a, entry(640, &a)).unwrap();
    let times = gpu.time(&pack, &large, &a, entry(640, &a), 2).unwrap();
    assert!((times[1].seconds - 262.144e-6).abs() < 1e-10, "{times:?}");
    let order = done();
    assert!(!order.iter().any(|l| l.contains("graph") || l.contains("capture")), "{order:?}");

    // What the gate is for: each of these is right in the small case.
    for (word, says) in
        [("unwritten", "2 bytes of d were never written"), ("past", "bytes before or after d"), ("value", "element 64 of d")]
    {
        fs::write(mode, word).unwrap();
        let Err(Failure::Wrong(why)) = gpu.check(&pack, &small, &a, entry(64, &a)) else { panic!("{word} passed") };
        assert!(why.contains(says) && why.starts_with("at batch 1 m 64"), "{why}");
    }
    fs::write(mode, "fault").unwrap();
    assert!(matches!(gpu.check(&pack, &small, &a, entry(64, &a)), Err(Failure::Crashed(why)) if why.contains("gemm_128x256")));
    let strange = gpu.check(&pack, &Task { op: "page_stats".into(), ..small }, &a, entry(64, &a));
    assert!(matches!(strange, Err(Failure::Refused(_))), "{strange:?}");
}
