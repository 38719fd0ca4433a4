//! The house rules of ARCHITECTURE.md that a machine can check: which crate may use which.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Every crate each workspace crate can reach through normal dependencies.
fn reachable() -> BTreeMap<String, BTreeSet<String>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root)
        .output();
    let out = out.expect("cargo runs: it runs this test");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let meta: serde_json::Value = serde_json::from_slice(&out.stdout).expect("cargo metadata prints JSON");
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_string();
    let names: BTreeMap<String, String> =
        meta["packages"].as_array().unwrap().iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
    let edges: BTreeMap<String, Vec<String>> = meta["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| {
            let normal = |d: &&serde_json::Value| d["dep_kinds"].as_array().unwrap().iter().any(|k| k["kind"].is_null());
            let deps = n["deps"].as_array().unwrap().iter().filter(normal).map(|d| text(&d["pkg"])).collect();
            (text(&n["id"]), deps)
        })
        .collect();
    let members = meta["workspace_members"].as_array().unwrap().iter().map(text);
    members
        .map(|id| {
            let mut seen = BTreeSet::new();
            let mut todo = vec![id.clone()];
            while let Some(next) = todo.pop() {
                for dep in &edges[&next] {
                    if seen.insert(names[dep].clone()) {
                        todo.push(dep.clone());
                    }
                }
            }
            (names[&id].clone(), seen)
        })
        .collect()
}

#[test]
fn arrows_point_down() {
    let uses = reachable();
    let never = |name: &str, forbidden: &[&str]| {
        for f in forbidden {
            assert!(!uses[name].contains(*f), "{name} must not use {f}");
        }
    };
    let ours = [
        "tilewright-ir",
        "tilewright-codegen",
        "tilewright-templates",
        "tilewright-runtime",
        "tilewright-autotune",
        "tilewright-gen",
    ];
    never("tilewright-emulator", &ours);
    never("tilewright-ir", &["llvm-sys", "inkwell", "cudarc", "serde_json", "tilewright-emulator"]);
    never("tilewright-runtime", &["llvm-sys", "inkwell", "tilewright-ir", "tilewright-emulator", "tilewright-codegen"]);
    never("tilewright-templates", &["llvm-sys", "inkwell", "tilewright-codegen"]);
    never("tilewright-autotune", &["llvm-sys", "inkwell", "tilewright-codegen"]);
    never("tilewright-codegen", &["tilewright-templates", "tilewright-emulator", "tilewright-runtime"]);
    never("tilewright-kernels", &["llvm-sys", "inkwell", "tilewright-ir"]);
    never("tilewright-c", &["llvm-sys", "inkwell", "tilewright-ir", "tilewright-codegen"]);
    never("xtask", &["llvm-sys", "inkwell"]);
}
