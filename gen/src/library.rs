//! `library.toml`: what to ship.

use crate::error::{Fail, Res, bad_input};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use tilewright_ir::Arch;
use tilewright_templates::gemm::{GemmConfig, GemmPlan, GemmProblem, plan};

/// The file's name, looked for from the working directory upwards.
pub const FILE: &str = "library.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Library {
    gemm: Vec<Entry>,
}

/// Configs of one class for some targets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    targets: Vec<String>,
    class: String,
    configs: Vec<String>,
    /// Parts of k; each makes a plan of two launches.
    #[serde(default)]
    splits: Vec<u32>,
}

/// The folder that holds the library, which is the workspace.
pub fn root() -> Res<PathBuf> {
    let here = std::env::current_dir().map_err(bad_input)?;
    let found = here.ancestors().find(|d| d.join(FILE).is_file()).map(Path::to_path_buf);
    found.ok_or_else(|| Fail::Usage(format!("{FILE}: not found in {} or above: run gen in the workspace", here.display())))
}

/// Every plan to ship for a target, in the order of the file.
pub fn plans(root: &Path, arch: Arch) -> Res<Vec<GemmPlan>> {
    let path = root.join(FILE);
    let text = std::fs::read_to_string(&path).map_err(|e| Fail::Usage(format!("{}: {e}", path.display())))?;
    let library: Library = toml::from_str(&text).map_err(|e| Fail::Usage(format!("{}: {e}", path.display())))?;
    let mut list: Vec<GemmPlan> = Vec::new();
    for entry in &library.gemm {
        let mine = entry.targets.iter().map(|t| t.parse::<Arch>()).collect::<Result<Vec<_>, _>>().map_err(bad_input)?;
        if !mine.contains(&arch) {
            continue;
        }
        let problem = GemmProblem::from_class(&entry.class).map_err(|e| Fail::Usage(format!("{FILE}: {e}")))?;
        for text in &entry.configs {
            let config: GemmConfig = text.parse().map_err(|e| Fail::Usage(format!("{FILE}: {e}")))?;
            let splits: &[u32] = if entry.splits.is_empty() { &[1] } else { &entry.splits };
            for &s in splits {
                let p = plan(arch, &problem, &config, s).map_err(|e| Fail::Usage(format!("{FILE}: {}: {e}", entry.class)))?;
                if !list.iter().any(|q| q.plan.id == p.plan.id) {
                    list.push(p);
                }
            }
        }
    }
    Ok(list)
}
