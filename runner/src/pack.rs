//! Tuning packs: a folder with the kernels of all candidates and `tune.json`, which says what is to be measured.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tilewright_autotune::search::Settings;
use tilewright_autotune::space::Point;
use tilewright_autotune::task::Task;
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::pack::Pack;

/// The file that makes a pack a tuning pack.
pub const FILE: &str = "tune.json";
/// Version of its form.
const SCHEMA: u32 = 1;

/// What is to be measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuningPlan {
    /// Version of the form.
    pub schema: u32,
    /// The tilewright that wrote it; another one's runner refuses it.
    pub version: String,
    /// Target of the kernels, `sm90`.
    pub target: String,
    /// What made the kernels, for the identity of logs.
    pub toolchain: String,
    /// The device profile whose model chose the candidates.
    pub profile: String,
    /// How candidates are searched.
    pub search: SearchPlan,
    /// By ascending id.
    pub tasks: Vec<TaskPlan>,
    /// Candidates that could not be built, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedBuild>,
}

/// How candidates are searched, budgets apart: what [`Settings::fingerprint`] holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchPlan {
    /// Draws candidates and data.
    pub seed: u64,
    /// Candidates that the model ranks first, at least.
    pub shortlist: usize,
    /// At most.
    pub widest: usize,
    /// How far above the model's best they may be, as text: a number that comes back as it was.
    pub margin: String,
    /// Candidates drawn from the others.
    pub drawn: usize,
    /// Steps to neighbours.
    pub steps: usize,
    /// Finalists.
    pub finalists: usize,
    /// Their rounds.
    pub rounds: u32,
}

/// A problem and what may be tried for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskPlan {
    /// The problem.
    pub task: Task,
    /// By ascending id.
    pub candidates: Vec<Candidate>,
}

/// A candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Its point in the space.
    pub point: Point,
    /// The plan of the manifest that is it.
    pub plan: String,
    /// What the model says, picoseconds.
    pub model_ps: u64,
}

/// A candidate without a kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedBuild {
    /// Op and class.
    pub op: String,
    /// Class.
    pub class: String,
    /// Its point.
    pub point: Point,
    /// What the compiler said.
    pub why: String,
}

/// A folder that is no tuning pack.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file.
    #[error("{}: {why}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Written by another version.
    #[error("{}: made by tilewright {found}, this is {expected}: use the runner that came with the pack, or make the pack anew", path.display())]
    Version {
        /// Its path.
        path: PathBuf,
        /// Who wrote it.
        found: String,
        /// Who reads it.
        expected: String,
    },
    /// A candidate whose plan the manifest does not have.
    #[error("{}: candidate {point} of {task} is plan `{plan}`, which the manifest does not have", path.display())]
    NoPlan {
        /// The folder.
        path: PathBuf,
        /// The candidate.
        point: String,
        /// Its problem.
        task: String,
        /// Its plan.
        plan: String,
    },
}

/// A tuning pack on disk.
#[derive(Clone, Debug)]
pub struct TuningPack {
    folder: PathBuf,
    plan: TuningPlan,
    /// Plans by problem and candidate.
    index: BTreeMap<(Task, Point), Entry>,
    /// Fingerprints of plans' kernels.
    artifacts: BTreeMap<u32, String>,
}

/// Where a candidate is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Its plan.
    pub plan: PlanIndex,
    /// What the model says, seconds.
    pub model_seconds: f64,
}

impl TuningPlan {
    /// A plan without tasks.
    pub fn new(target: &str, toolchain: String, profile: &str, search: SearchPlan) -> Self {
        TuningPlan {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            target: target.into(),
            toolchain,
            profile: profile.into(),
            search,
            tasks: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Its text, the same for the same plan.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl From<&Settings> for SearchPlan {
    fn from(s: &Settings) -> Self {
        let Settings { seed, shortlist, widest, margin, drawn, steps, finalists, rounds, trials: _, seconds: _ } = *s;
        SearchPlan { seed, shortlist, widest, margin: margin.to_string(), drawn, steps, finalists, rounds }
    }
}

impl From<SearchPlan> for Settings {
    fn from(s: SearchPlan) -> Self {
        let SearchPlan { seed, shortlist, widest, margin, drawn, steps, finalists, rounds } = s;
        let rest = Settings::default();
        let margin = margin.parse().unwrap_or(rest.margin);
        Settings { seed, shortlist, widest, margin, drawn, steps, finalists, rounds, ..rest }
    }
}

impl Candidate {
    /// A candidate with the model's time.
    pub fn new(point: Point, plan: String, model_seconds: f64) -> Self {
        Candidate { point, plan, model_ps: (model_seconds * 1e12).round() as u64 }
    }
}

impl TuningPack {
    /// Opens a folder; its kernels are read when they are asked for.
    ///
    /// # Errors
    /// No `tune.json`, one of another version, or one that names plans which the manifest does not have.
    pub fn open(folder: &Path) -> Result<Self, PackError> {
        let path = folder.join(FILE);
        let file = |why: String| PackError::File { path: path.clone(), why };
        let text =
            std::fs::read_to_string(&path).map_err(|e| file(format!("{e}; expected a folder that `gen tune --pack` made")))?;
        // Who wrote it comes before what it says: another version's form may be another.
        let head: serde_json::Value = serde_json::from_str(&text).map_err(|e| file(e.to_string()))?;
        let (found, expected) = (head["version"].as_str().unwrap_or("unknown"), env!("CARGO_PKG_VERSION"));
        if found != expected || head["schema"] != SCHEMA {
            let found = if found == expected { format!("{found} (form {})", head["schema"]) } else { found.to_string() };
            return Err(PackError::Version { path, found, expected: expected.into() });
        }
        let plan: TuningPlan = serde_json::from_str(&text).map_err(|e| file(e.to_string()))?;
        let kernels = Pack::open(folder).map_err(|e| PackError::File { path: folder.into(), why: e.to_string() })?;
        let manifest = kernels.manifest();
        let ids: BTreeMap<&str, u32> = (0..).zip(&manifest.plans).map(|(i, p)| (p.id.as_str(), i)).collect();
        let (mut index, mut artifacts) = (BTreeMap::new(), BTreeMap::new());
        for t in &plan.tasks {
            for c in &t.candidates {
                let at = *ids.get(c.plan.as_str()).ok_or_else(|| PackError::NoPlan {
                    path: folder.into(),
                    point: c.point.to_string(),
                    task: t.task.to_string(),
                    plan: c.plan.clone(),
                })?;
                let entry = Entry { plan: PlanIndex(at), model_seconds: c.model_ps as f64 / 1e12 };
                index.insert((t.task.clone(), c.point.clone()), entry);
                artifacts.entry(at).or_insert_with(|| {
                    let mut hash = blake3::Hasher::new();
                    for launch in &manifest.plans[at as usize].launches {
                        let kernel = manifest.kernel(&launch.kernel).map(|k| manifest.kernels[k].ptx.blake3.as_str());
                        hash.update(kernel.unwrap_or_default().as_bytes());
                    }
                    format!("b3:{}", hash.finalize().to_hex())
                });
            }
        }
        Ok(TuningPack { folder: folder.into(), plan, index, artifacts })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is to be measured.
    pub fn plan(&self) -> &TuningPlan {
        &self.plan
    }

    /// A candidate of a problem.
    pub fn entry(&self, task: &Task, point: &Point) -> Option<Entry> {
        self.index.get(&(task.clone(), point.clone())).copied()
    }

    /// Fingerprint of the kernels of a candidate: BLAKE3 of the hashes of their PTX in launch order.
    pub fn artifact(&self, task: &Task, point: &Point) -> Option<&str> {
        self.artifacts.get(&self.entry(task, point)?.plan.0).map(String::as_str)
    }

    /// The kernels.
    pub fn kernels(&self) -> Result<Pack, PackError> {
        Pack::open(&self.folder).map_err(|e| PackError::File { path: self.folder.clone(), why: e.to_string() })
    }
}
