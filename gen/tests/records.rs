//! Tuning records of a workspace: what becomes of them in a library, in a run and in an explanation.

use crate::common::*;
use serde_json::{Value, json};
use std::path::Path;
use tilewright_autotune::space::{self, space_hash};

const CLASS: &str = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";
/// What the library ships.
const SHIPPED: &str = "kind=mma,bm=64,bn=64,bk=32,stages=3,warps=2x2,raster=8,load_align=1,n_align=1,split=0";
/// What was measured best.
const BEST: &str = "bk=32,bm=16,bn=64,kind=mma,load_align=8,n_align=2,raster=8,splits=1,stages=4,warps=1x4";

/// A workspace of one plan and a record of another.
fn workspace(at: &Path) {
    let library = format!("[[gemm]]\ntargets = [\"sm80\"]\nclass = \"{CLASS}\"\nconfigs = [\"{SHIPPED}\"]\n");
    std::fs::write(at.join("library.toml"), library).unwrap();
    let arch = "sm80".parse().unwrap();
    let hash = space_hash(space::of(arch, "gemm", CLASS).unwrap().as_ref());
    let task = json!({"op": "gemm", "class": CLASS, "sizes": {"m": 16, "n": 256, "k": 256}});
    let record = json!({
        "schema": 1, "op": "gemm", "target": "sm80", "source": "measured", "device": {"profile": "A100", "capabilities": {}},
        "toolchain": "gen 0", "protocol": 1, "search": "b3:0", "spaces": {CLASS: hash},
        "entries": [{
            "task": task, "best": BEST, "numerics": "k16.seq", "median_ns": 4321, "p20_ns": 4300, "p80_ns": 4400, "samples": 30,
            "model_ns": 5000,
        }],
    });
    let folder = at.join("records/a100");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("gemm.json"), record.to_string()).unwrap();
}

#[test]
fn a_record_becomes_a_plan_a_table_entry_and_a_rung() {
    let dir = tempfile::tempdir().unwrap();
    workspace(dir.path());
    let out = gen_in(dir.path(), &["--target", "sm80", "--verify", "off"]);
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(0), "{words}");
    assert!(words.contains("records: used: records/a100/gemm.json: 1 problems"), "{words}");
    assert!(words.contains("1 tuned problems, 1 points became 1 plans, regret 0.00 %"), "{words}");
    let manifest = std::fs::read(dir.path().join("kernels-generated/sm80/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let entry = &manifest["dispatch"][0]["exact"][0];
    assert_eq!(
        (&entry["chosen_by"], &entry["key"], &entry["regret_percent"]),
        (&json!("tuned"), &json!([256, 256]), &json!(0.0))
    );
    let explain = |sizes: &[&str]| {
        let args = [&["explain", "gemm", "--target", "sm80", "--json", "--set"], sizes].concat();
        let out = gen_in(dir.path(), &args);
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice::<Value>(&out.stdout).unwrap()
    };
    let tuned = explain(&["m=16", "n=256", "k=256"]);
    assert_eq!((&tuned["point"], &tuned["measured_us"]), (&json!(BEST), &json!(4.321)));
    assert_eq!((&tuned["rung"], &tuned["plan"]["ranked_by"]), (&json!("library"), &json!("measurements")));
    // Sizes that nobody measured have no time, and those far from it the model's plan.
    let near = explain(&["m=12", "n=256", "k=256"]);
    assert_eq!((&near["point"], &near["measured_us"]), (&json!(BEST), &Value::Null));
    assert_eq!(explain(&["m=12", "n=256", "k=512"])["plan"]["ranked_by"], json!("the model"));
    // Without a library the record itself is the rung.
    std::fs::remove_dir_all(dir.path().join("kernels-generated")).unwrap();
    let recorded = explain(&["m=16", "n=256", "k=256"]);
    assert_eq!(
        (&recorded["rung"], &recorded["point"], &recorded["measured_us"]),
        (&json!("record"), &json!(BEST), &json!(4.321))
    );
    // What was simulated is never used, and that is said.
    let path = dir.path().join("records/a100/gemm.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"measured\"", "\"simulated\"");
    std::fs::write(&path, text).unwrap();
    let model = explain(&["m=16", "n=256", "k=256"]);
    let told = model["passed"].to_string();
    assert!(model["rung"] == "model" && told.contains("the times of the record are simulated, not measured"), "{told}");
}
