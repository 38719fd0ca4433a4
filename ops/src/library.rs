//! `library.toml`: what to ship.

use crate::OPS;
use crate::error::{Fail, Res, bad_input};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tilewright_ir::Arch;
use tilewright_templates::plan::OpPlan;

/// The file's name, looked for from the working directory upwards.
pub const FILE: &str = "library.toml";

/// Configs of one class of an op for some targets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    targets: Vec<String>,
    /// The class, as the op spells it.
    pub class: String,
    /// Config ids; none for ops that have no choice.
    #[serde(default)]
    pub configs: Vec<String>,
    /// Parts of k of a gemm; each makes a plan of two launches.
    #[serde(default)]
    pub splits: Vec<u32>,
}

/// The folder that holds the library, which is the workspace.
pub fn root() -> Res<PathBuf> {
    let here = std::env::current_dir().map_err(bad_input)?;
    let found = here.ancestors().find(|d| d.join(FILE).is_file()).map(Path::to_path_buf);
    found.ok_or_else(|| Fail::Usage(format!("{FILE}: not found in {} or above: run gen in the workspace", here.display())))
}

/// Every plan to ship for a target: op by op, in the order of the file.
pub fn plans(root: &Path, arch: Arch) -> Res<Vec<OpPlan>> {
    let path = root.join(FILE);
    let at = |e: &dyn std::fmt::Display| Fail::Usage(format!("{}: {e}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|e| at(&e))?;
    let mut library: BTreeMap<String, Vec<Entry>> = toml::from_str(&text).map_err(|e| at(&e))?;
    let mut list: Vec<OpPlan> = Vec::new();
    for family in &OPS {
        for entry in library.remove(family.op).unwrap_or_default() {
            let mine = entry.targets.iter().map(|t| t.parse::<Arch>()).collect::<Result<Vec<_>, _>>().map_err(bad_input)?;
            if !mine.contains(&arch) {
                continue;
            }
            for p in (family.plans)(arch, &entry).map_err(|e| Fail::Usage(format!("{FILE}: {e}")))? {
                if !list.iter().any(|q| q.plan.id == p.plan.id) {
                    list.push(p);
                }
            }
        }
    }
    match library.keys().next() {
        Some(stranger) => crate::find(stranger).map(|_| list).map_err(|e| at(&e)),
        None => Ok(list),
    }
}
