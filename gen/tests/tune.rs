//! `gen tune`: candidates built, checked by a worker in the emulator, packed, and logs taken back.

use crate::common::{gen_in, outcome};
use serde_json::Value;
use std::fs;
use std::path::Path;

const CLASS: &str = "a=f16,b=nk,out=f16,act=none,bias=0,residual=0";

/// The one record below a folder.
fn record(folder: &Path) -> (String, Value) {
    let [profile] = &fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>()[..] else {
        panic!("one profile")
    };
    let text = fs::read_to_string(profile.join("gemm.json")).unwrap();
    let json = serde_json::from_str(&text).unwrap();
    (profile.file_name().unwrap().to_string_lossy().into_owned(), json)
}

/// The emulator's gate is real, its times are the model's and marked so; a log makes the same record without a device.
#[test]
fn a_task_is_tuned_on_the_emulator_and_its_log_gives_the_same_record() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["tune", "gemm", "--target", "sm80", "--class", CLASS, "--set", "m=16", "n=64", "k=64", "--device", "emulator"];
    let more = ["--shortlist", "1", "--budget", "2", "--log", "log", "--out", "records", "--json"];
    let run = gen_in(folder.path(), &[&args[..], &more].concat());
    assert_eq!(outcome(&run).0, 0, "{}", String::from_utf8_lossy(&run.stderr));
    let told: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(told["source"], "emulated");
    let (profile, first) = record(&folder.path().join("records"));
    assert_eq!((profile.as_str(), &first["source"]), ("emulated-a100", &Value::from("emulated")));
    let entry = &first["entries"][0];
    assert_eq!(entry["median_ns"], entry["model_ns"], "{entry}");
    assert!(entry["artifact"].as_str().is_some_and(|a| a.starts_with("b3:")), "{entry}");
    assert_eq!(told["tasks"][0]["best"], entry["best"]);
    let merged = gen_in(folder.path(), &["tune", "--merge", "log", "--out", "again"]);
    assert_eq!(outcome(&merged).0, 0, "{}", String::from_utf8_lossy(&merged.stderr));
    assert_eq!(record(&folder.path().join("again")).1, first);
}

#[test]
fn what_cannot_be_tuned_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let says = |args: &[&str], status: i32, what: &str| {
        let run = gen_in(folder.path(), &[&["tune"], args].concat());
        let (code, line) = outcome(&run);
        assert!(code == status && line.contains(what), "{args:?}: {code} {line}");
    };
    let sized = ["gemm", "--target", "sm90", "--set", "m=1,2", "n=64", "k=64"];
    says(&["gemm", "--target", "sm90", "--set", "m=1"], 2, "gemm: n: missing");
    says(&["gemm", "--target", "sm90", "--set", "m=x", "n=64", "k=64"], 2, "`x` is no number");
    says(&["gemm", "--target", "sm90", "--set", "m=1", "m=2"], 2, "--set m is given twice");
    says(&["gemm", "--target", "sm91", "--set", "m=1"], 2, "sm91");
    says(&["--target", "sm90"], 2, "what to tune is missing");
    says(&["--target", "sm90", "--workload", "none"], 2, "workload `none`");
    says(&[&sized[..], &["--device", "gpu"]].concat(), 2, "device `gpu`: expected cuda:N");
    says(&[&sized[..], &["--shard", "0/2"]].concat(), 2, "--shard 0/2: expected i/n");
    says(&["--merge", "nothing.jsonl"], 2, "nothing.jsonl");
    fs::create_dir(folder.path().join("there")).unwrap();
    says(&[&sized[..], &["--pack", "there"]].concat(), 2, "there: it is there already");
    // Without a driver, what else there is.
    let run = gen_in(folder.path(), &[&["tune"], &sized[..]].concat());
    let (code, line) = outcome(&run);
    if line.contains("no NVIDIA driver") {
        assert!(code == 1 && line.contains("--pack DIR") && line.contains("--device emulator"), "{line}");
    } else {
        eprintln!("skipped: this machine has a driver: {line}");
    }
}
