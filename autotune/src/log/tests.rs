use super::*;
use crate::search::{Failure, Sample};
use crate::space::Point;
use crate::task::Task;
use std::path::Path;
use std::time::Duration;

fn identity(toolchain: &str) -> Identity {
    let device = DeviceId { profile: "h200".into(), capabilities: [("sms".to_string(), 132)].into() };
    Identity::new(Source::Simulated, "sm90a", device, toolchain.into(), 1, "seed 0".into())
}

fn task(m: i64) -> Task {
    Task { op: "gemm".into(), class: "a=bf16".into(), sizes: [("m".to_string(), m)].into() }
}

fn point(bm: u32) -> Point {
    Point::new([("bm", bm.to_string())])
}

fn times(m: i64, bm: u32, ps: &[f64]) -> Entry {
    let trial = Trial::Times { task: task(m), point: point(bm), from: 0, count: ps.len() as u32 };
    Entry { trial, outcome: Outcome::Samples(ps.iter().map(|t| Sample::of(t * 1e-12)).collect()) }
}

fn gate(m: i64, bm: u32, outcome: Outcome) -> Entry {
    Entry { trial: Trial::Gate { task: task(m), point: point(bm) }, outcome }
}

fn right() -> Outcome {
    Outcome::Right { artifact: None }
}

fn all_kinds() -> Vec<Entry> {
    let turns = vec![Ok(vec![Sample { sm_clock_mhz: Some(1980), ..Sample::of(3e-6) }]), Err(Failure::Crashed("\"\n".into()))];
    let trial = Trial::Interleaved { task: task(1), points: vec![point(1), point(2)], from: 3, rounds: 1 };
    vec![
        gate(1, 64, Outcome::Right { artifact: Some("b3:00".into()) }),
        times(1, 64, &[4.7e6, 1.0, 9e15]),
        gate(1, 128, Outcome::Failed(Failure::Hung(Duration::from_millis(1500)))),
        Entry { trial, outcome: Outcome::Turns(turns) },
    ]
}

fn write(path: &Path, entries: &[Entry]) {
    let mut log = TrialLog::open(path, &identity("t")).unwrap();
    entries.iter().for_each(|e| log.push(e.trial.clone(), e.outcome.clone()).unwrap());
}

#[test]
fn every_prefix_of_a_log_is_a_log_with_the_trials_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let entries = all_kinds();
    write(&path, &entries);
    TrialLog::open(&path, &identity("t")).unwrap().sync().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for end in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..end]).unwrap();
        let log = TrialLog::open(&path, &identity("t")).unwrap();
        let whole = bytes[..end].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let lines = bytes[..end].iter().filter(|b| **b == b'\n').count();
        assert_eq!((log.len(), log.torn()), (lines.saturating_sub(1), end - whole), "after {end} bytes");
        for (i, e) in entries.iter().enumerate() {
            assert_eq!(log.get(&e.trial), (i < log.len()).then_some(&e.outcome), "after {end} bytes");
        }
        drop(log);
        // What was cut is written again, on a line of its own.
        let missing = &entries[lines.saturating_sub(1)..];
        write(&path, missing);
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "after {end} bytes");
    }
}

#[test]
fn a_flipped_bit_is_refused_by_its_line_or_leaves_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    write(&path, &all_kinds());
    let bytes = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(&path, &damaged).unwrap();
        if let Err(e) = TrialLog::open(&path, &identity("t")) {
            refused += 1;
            assert_eq!(std::fs::read(&path).unwrap(), damaged, "a refused file is left as it is");
            let (line, e) = (bytes[..at].iter().filter(|b| **b == b'\n').count() + 1, e.to_string());
            assert!(e.contains(&format!("line {line} is")) || line == 1 && e.contains("another"), "byte {at}: {e}");
        }
    }
    // What remains are digits of times and letters of names.
    assert!(refused > bytes.len() * 2 / 3, "{refused} of {}", bytes.len());
}

#[test]
fn foreign_files_are_refused_with_what_differs_and_left_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = TrialLog::open(&path, &identity("t")).unwrap();
    let error = |i: &Identity| TrialLog::open(&path, i).unwrap_err().to_string();
    assert!(error(&identity("t")).contains("another search is writing"));
    assert!(TrialLog::read(&path).unwrap_err().to_string().contains("another search is writing"));
    drop(log);
    type Change = fn(&mut Identity);
    let changes: [(Change, &str); 7] = [
        (|i| i.toolchain = "u".into(), "of another toolchain: t, not u"),
        (|i| i.source = Source::Measured, "of another source of times: simulated, not measured"),
        (|i| i.target = "sm80".into(), "of another target: sm90a, not sm80"),
        (|i| i.device.profile = "h100".into(), "of another device profile: h200, not h100"),
        (|i| i.device.capabilities.extend([("sms".to_string(), 78)]), "of another device: h200 sms=132, not h200 sms=78"),
        (|i| i.protocol = 2, "of another protocol: 1, not 2"),
        (|i| i.search = "seed 1".into(), "of another search: seed 0, not seed 1"),
    ];
    for (change, why) in changes {
        let mut other = identity("t");
        change(&mut other);
        assert!(error(&other).contains(why), "{}", error(&other));
    }
    for text in ["# notes\n", "# notes", "{}\n"] {
        std::fs::write(&path, text).unwrap();
        let e = error(&identity("t"));
        assert!(e.contains("line 1 is no trial"), "{text}: {e}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn merging_is_the_union_whatever_the_order() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("whole"), &[gate(1, 64, right()), times(1, 64, &[5.0]), gate(16, 64, right()), times(16, 64, &[7.0])]);
    write(&at("a"), &[gate(16, 64, right()), times(16, 64, &[7.0])]);
    write(&at("b"), &[gate(1, 64, right()), times(1, 64, &[5.0])]);
    let merged = merge(&[at("a"), at("b")]).unwrap();
    assert_eq!((merge(&[at("b"), at("a")]).unwrap(), merged.repeated), (merged.clone(), 0));
    merged.write(&at("merged")).unwrap();
    assert_eq!(std::fs::read(at("merged")).unwrap(), std::fs::read(at("whole")).unwrap());
    // Measured twice: the log that knows more of the task counts, and the other adds nothing.
    write(&at("twice"), &[gate(16, 64, right()), times(16, 64, &[6.0]), times(16, 32, &[6.0])]);
    for order in [["a", "b", "twice"], ["twice", "a", "b"]] {
        let merged = merge(&order.map(at)).unwrap();
        assert_eq!(merged.repeated, 2);
        assert_eq!(TrialLog::of(merged.entries).get(&times(16, 64, &[]).trial), None);
    }
    let merged = merge(&["a", "b", "twice"].map(at)).unwrap();
    let first = times(16, 64, &[6.0]);
    assert_eq!(TrialLog::of(merged.entries).get(&first.trial), Some(&first.outcome));
    // A gate that says both is no result.
    write(&at("wrong"), &[gate(16, 64, Outcome::Failed(Failure::Wrong("nan".into())))]);
    let error = merge(&["a", "wrong"].map(at)).unwrap_err().to_string();
    assert!(error.contains("gate of bm=64: works in") && error.contains("wrong; leave one"), "{error}");
    let nothing: [&str; 0] = [];
    assert!(matches!(merge(&nothing), Err(MergeError::Empty)));
}
