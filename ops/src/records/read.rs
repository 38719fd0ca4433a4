//! Which records serve a target.

use crate::error::{Fail, Res};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tilewright_autotune::DeviceProfile;
use tilewright_autotune::ladder::Known;
use tilewright_autotune::log::{DeviceId, Identity, Source};
use tilewright_autotune::record::{Entry, Expected, Record};
use tilewright_autotune::search::PROTOCOL;
use tilewright_autotune::space::{self, space_hash};
use tilewright_ir::Arch;

/// The folder under the workspace.
const FOLDER: &str = "records";
/// What names of records of networks begin with: those are `autotune::sparse`'s, and of scenes.
const NETWORKS: &str = "sparse_";

/// What records say of a target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// What was measured.
    pub known: Vec<Known>,
    /// Records that serve, in words.
    pub used: Vec<String>,
    /// Records that do not, with the reason.
    pub refused: Vec<String>,
}

/// The records of a workspace for a target, in the order of their paths. Those of devices that run another target are passed over.
///
/// # Errors
/// A folder or file that cannot be read. What is wrong with a record refuses that record alone.
pub fn read(root: &Path, arch: Arch) -> Res<Records> {
    let mut records = Records::default();
    for folder in sorted(&root.join(FOLDER))? {
        let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some(device) = DeviceProfile::named(name) else {
            records.refused.push(format!("{FOLDER}/{name}: no device profile has this name"));
            continue;
        };
        if device.arch != arch {
            continue;
        }
        for path in sorted(&folder)? {
            let file = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let Some(op) = file.strip_suffix(".json").filter(|op| !op.starts_with(NETWORKS)) else { continue };
            let told = format!("{FOLDER}/{name}/{file}");
            match one(&path, op, device, arch) {
                Ok(known) => {
                    records.used.push(format!("{told}: {} problems", known.len()));
                    records.known.extend(known);
                }
                Err(why) => records.refused.push(format!("{told}: {why}")),
            }
        }
    }
    Ok(records)
}

fn one(path: &Path, op: &str, device: &DeviceProfile, arch: Arch) -> Result<Vec<Known>, String> {
    let record = Record::load(path).map_err(|e| e.to_string())?;
    let mut spaces = BTreeMap::new();
    for class in record.spaces.keys() {
        let space = space::of(arch, op, class).map_err(|e| e.to_string())?;
        spaces.insert(class.clone(), space_hash(space.as_ref()));
    }
    // What made its kernels is looked at where kernels are made: their identity is in each entry.
    let id = DeviceId { profile: device.name.clone(), ..record.device.clone() };
    let (toolchain, search) = (record.toolchain.clone(), record.search.clone());
    let identity = Identity::new(Source::Measured, arch.caps().name, id, toolchain, PROTOCOL, search);
    record.verify(&Expected { op: op.into(), identity, spaces }).map_err(|e| e.to_string())?;
    let seconds = |ns: u64| ns as f64 * 1e-9;
    let known = |e: &Entry| Known {
        profile: device.name.clone(),
        arch,
        task: e.task.clone(),
        best: (e.best.clone(), seconds(e.median_ns)),
        artifact: e.artifact.clone(),
        others: e.next_best().map(|r| (r.point.clone(), seconds(r.median_ns))).collect(),
    };
    Ok(record.entries.iter().map(known).collect())
}

/// What a folder holds by ascending name; nothing where there is none.
fn sorted(folder: &Path) -> Res<Vec<PathBuf>> {
    let told = |e: std::io::Error| Fail::Usage(format!("{}: {e}", folder.display()));
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.map_err(told)?,
    };
    let mut list = entries.map(|e| e.map(|e| e.path()).map_err(told)).collect::<Res<Vec<PathBuf>>>()?;
    list.retain(|p| p.is_dir() || p.extension().is_some_and(|e| e == "json"));
    list.sort();
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const CLASS: &str = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";

    /// A record of one problem.
    fn record() -> Value {
        let space = space::of(Arch::Sm90a, "gemm", CLASS).unwrap();
        let best = space.points()[0].to_string();
        let task = json!({"op": "gemm", "class": CLASS, "sizes": {"m": 16, "n": 4096, "k": 4096}});
        json!({
            "schema": 1, "op": "gemm", "target": "sm90", "source": "measured",
            "device": {"profile": "H200", "capabilities": {"sms": 132}},
            "toolchain": "gen 0", "protocol": PROTOCOL, "search": "b3:0", "spaces": {CLASS: space_hash(space.as_ref())},
            "entries": [{
                "task": task, "best": best, "numerics": "k64.seq", "artifact": "b3:1", "median_ns": 9000, "p20_ns": 8900,
                "p80_ns": 9100, "samples": 30, "model_ns": 8000, "runner_up": {"point": best, "median_ns": 9500},
            }],
        })
    }

    #[test]
    fn records_that_serve_are_read_and_each_other_is_refused_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: String| {
            let path = dir.path().join("records").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(read(dir.path(), Arch::Sm90a).unwrap(), Records::default());
        put("h200/gemm.json", record().to_string());
        put("h200/sparse_network_second.json", "not ours".into());
        put("a100/gemm.json", record().to_string());
        let found = read(dir.path(), Arch::Sm90a).unwrap();
        assert_eq!((found.used, found.refused), (vec!["records/h200/gemm.json: 1 problems".to_string()], vec![]));
        let k = &found.known[0];
        assert_eq!((k.profile.as_str(), k.best.1, k.others[0].1, k.artifact.as_deref()), ("H200", 9e-6, 9.5e-6, Some("b3:1")));
        // The same file is of no A100.
        let found = read(dir.path(), Arch::Sm80).unwrap();
        assert!(found.known.is_empty() && found.refused[0].contains("of another target: sm90, not sm80"), "{:?}", found.refused);
        let mut changed = record();
        let mut refused = |key: &str, value: Value, why: &str| {
            let before = changed[key].clone();
            changed[key] = value;
            put("h200/gemm.json", changed.to_string());
            changed[key] = before;
            let found = read(dir.path(), Arch::Sm90a).unwrap();
            assert!(found.known.is_empty() && found.refused.len() == 1 && found.refused[0].contains(why), "{:?}", found.refused);
        };
        refused("source", json!("simulated"), "the times of the record are simulated, not measured");
        refused("source", json!("emulated"), "are emulated, not measured");
        refused("op", json!("attention"), "of another op: attention, not gemm");
        refused("device", json!({"profile": "H100", "capabilities": {}}), "of another device: H100, not H200");
        refused("spaces", json!({CLASS: "b3:old"}), "stale: its space of gemm");
        refused("protocol", json!(PROTOCOL + 1), "stale: its protocol");
        refused("schema", json!(7), "a record of version 7");
        put("v100/gemm.json", "{}".into());
        put("h200/gemm.json", "{".into());
        let found = read(dir.path(), Arch::Sm90a).unwrap();
        assert!(found.refused[0].contains("not a tuning record") && found.refused[1].contains("no device profile"), "{found:?}");
    }
}
