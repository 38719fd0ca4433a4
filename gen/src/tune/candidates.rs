//! Points as plans of a pack.

use crate::build::{Built, build};
use std::collections::BTreeMap;
use std::path::Path;
use tilewright_autotune::DeviceProfile;
use tilewright_autotune::space::{Point, Space};
use tilewright_autotune::task::Task;
use tilewright_codegen::Compiler;
use tilewright_ir::Arch;
use tilewright_ops::error::{Fail, Res, failure};
use tilewright_ops::files;
use tilewright_runner::pack::{Candidate, FILE, FailedBuild, TaskPlan, TuningPlan};
use tilewright_runner::tune::Spaces;
use tilewright_runtime::archive::ARCHIVE;
use tilewright_runtime::pack::MANIFEST;
use tilewright_templates::plan::OpPlan;

/// Tasks with the points that are to be tried for them.
pub type Wanted = Vec<(Task, Vec<Point>)>;

/// How kernels lie in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A file each: read once and thrown away.
    Loose,
    /// One file, packed.
    Archive,
}

/// Builds what is wanted into a folder, with `tune.json` beside the kernels. What cannot be built stands in `failed`.
pub fn write(
    folder: &Path,
    form: Form,
    mut plan: TuningPlan,
    arch: Arch,
    profile: &DeviceProfile,
    wanted: &Wanted,
    compiler: &Compiler,
    progress: &(dyn Fn(usize, usize, &str) + Sync),
) -> Res<TuningPlan> {
    let mut spaces = Spaces::new(arch);
    let mut plans: BTreeMap<String, OpPlan> = BTreeMap::new();
    let mut tasks: Vec<TaskPlan> = Vec::new();
    for (task, points) in wanted {
        let space: &dyn Space = spaces.of(task).map_err(failure)?;
        let mut candidates = Vec::new();
        for point in points {
            match space.plan(point) {
                Ok(p) => {
                    let seconds = space.estimate(profile, task, point, None).seconds;
                    candidates.push(Candidate::new(point.clone(), p.plan.id.clone(), seconds));
                    plans.entry(p.plan.id.clone()).or_insert(p);
                }
                Err(why) => plan.failed.push(failed(task, point, why.to_string())),
            }
        }
        candidates.sort_by_cached_key(|c| c.point.to_string());
        tasks.push(TaskPlan { task: task.clone(), candidates });
    }
    let mut bad = Vec::new();
    let built = possible(arch, plans.into_values().collect(), compiler, progress, &mut bad)?;
    for (id, why) in bad {
        for t in &mut tasks {
            let of = t.candidates.iter().filter(|c| c.plan == id);
            plan.failed.extend(of.map(|c| failed(&t.task, &c.point, why.clone())));
            t.candidates.retain(|c| c.plan != id);
        }
    }
    plan.failed.sort();
    plan.failed.dedup();
    plan.tasks = tasks;
    match (built, form) {
        (None, _) => {}
        (Some(built), Form::Loose) => built.write(folder)?,
        (Some(built), Form::Archive) => {
            let all = built.contents()?;
            for (name, bytes) in all.iter().filter(|(name, _)| [MANIFEST, ARCHIVE].contains(&name.as_str())) {
                files::write_whole(&folder.join(name), bytes)?;
            }
        }
    }
    files::write_whole(&folder.join(FILE), plan.to_json().as_bytes())?;
    Ok(plan)
}

fn failed(task: &Task, point: &Point, why: String) -> FailedBuild {
    FailedBuild { op: task.op.clone(), class: task.class.clone(), point: point.clone(), why }
}

/// Builds those plans that can be built. A build is of all or nothing, so one that fails is done again in halves.
fn possible(
    arch: Arch,
    plans: Vec<OpPlan>,
    compiler: &Compiler,
    progress: &(dyn Fn(usize, usize, &str) + Sync),
    bad: &mut Vec<(String, String)>,
) -> Res<Option<Built>> {
    if plans.is_empty() {
        return Ok(None);
    }
    let e = match build(arch, plans.clone(), compiler, progress) {
        Ok(built) => return Ok(Some(built)),
        Err(Fail::Usage(e)) => return Err(Fail::Usage(e)),
        Err(e) => e,
    };
    if plans.len() == 1 {
        bad.push((plans[0].plan.id.clone(), e.to_string()));
        return Ok(None);
    }
    let (mut first, mut known) = (plans, bad.len());
    let second = first.split_off(first.len() / 2);
    let mut good = Vec::new();
    for half in [first, second] {
        let ids: Vec<OpPlan> = half.clone();
        possible(arch, half, compiler, progress, bad)?;
        let new: Vec<&String> = bad[known..].iter().map(|b| &b.0).collect();
        good.extend(ids.into_iter().filter(|p| !new.contains(&&p.plan.id)));
        known = bad.len();
    }
    if good.is_empty() { Ok(None) } else { build(arch, good, compiler, progress).map(Some) }
}
