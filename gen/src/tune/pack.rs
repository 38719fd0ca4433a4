//! `gen tune --pack`: a folder for a host that has a GPU and a driver, and nothing else.

use super::candidates::{self, Form, Wanted};
use super::{What, runner};
use crate::build::compiler;
use crate::cli::TuneArgs;
use std::collections::BTreeSet;
use std::path::Path;
use tilewright_autotune::search::Ranking;
use tilewright_autotune::space::{Point, Space};
use tilewright_autotune::task::Task;
use tilewright_codegen::Inspect;
use tilewright_ops::error::{Res, failed, failure, usage};
use tilewright_ops::files;
use tilewright_runner::pack::TuningPlan;
use tilewright_runner::tune::Spaces;

/// Candidates whose neighbours come along: a runner cannot compile, so what a search may step to has to be there.
const PARENTS: usize = 3;

/// Texts that go with a pack.
const TEXTS: [(&str, &str); 3] = [
    ("README.md", include_str!("text/README.md")),
    ("slurm.sh", include_str!("text/slurm.sh")),
    ("k8s.yaml", include_str!("text/k8s.yaml")),
];

/// Makes the folder; it appears whole or not at all.
pub fn write(args: &TuneArgs, what: &What, folder: &Path) -> Res<()> {
    if folder.exists() {
        return usage(format!("{}: it is there already; move it away, or give another name", folder.display()));
    }
    files::check_folder(folder)?;
    let program = runner::find()?;
    let compiler = compiler(args.jobs, Inspect::WhenPtxasComplains)?;
    let mut spaces = Spaces::new(what.arch);
    let mut wanted: Wanted = Vec::new();
    for task in &what.tasks {
        let space = spaces.of(task).map_err(failure)?;
        match candidates_of(space, what, task) {
            Ok(points) => wanted.push((task.clone(), points)),
            Err(why) => eprintln!("note: left out: {why}"),
        }
    }
    if wanted.is_empty() {
        return failed("no task has a candidate");
    }
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = tempfile::tempdir_in(parent).map_err(failure)?;
    let plan = TuningPlan::new(what.arch.caps().name, super::toolchain(&compiler), &what.made_for.name, (&what.settings).into());
    let progress = |done: usize, all: usize, name: &str| eprintln!("compile {done}/{all} {name}");
    let plan = candidates::write(draft.path(), Form::Archive, plan, what.arch, what.made_for, &wanted, &compiler, &progress)?;
    for (name, text) in TEXTS {
        put(&draft.path().join(name), text.as_bytes())?;
    }
    std::fs::copy(&program, draft.path().join(runner::NAME)).map_err(|e| failure(format!("{}: {e}", program.display())))?;
    set_mode(draft.path(), 0o755)?;
    set_mode(&draft.path().join("slurm.sh"), 0o755)?;
    std::fs::rename(draft.path(), folder).map_err(|e| failure(format!("{}: {e}", folder.display())))?;
    // It has another name now, so there is nothing to delete.
    let _ = draft.keep();
    let count: usize = plan.tasks.iter().map(|t| t.candidates.len()).sum();
    plan.failed.iter().for_each(|f| eprintln!("not built: {} {} {}: {}", f.op, f.class, f.point, f.why));
    eprintln!("{}: {} tasks, {count} candidates, {} not built", folder.display(), plan.tasks.len(), plan.failed.len());
    eprintln!("copy it to the host and run ./{} tune there; gen tune --merge takes its log back", runner::NAME);
    Ok(())
}

/// The points that a search tries first, and the neighbours of the model's best.
fn candidates_of(space: &dyn Space, what: &What, task: &Task) -> Result<Vec<Point>, String> {
    let ranking = Ranking::new(space, what.made_for, task).map_err(|e| e.to_string())?;
    let legal = |p: &Point| space.check(task, p).is_ok();
    let first = ranking.shortlist(&what.settings, legal);
    if first.is_empty() {
        return Err(format!("{task}: the compiler takes none of its candidates"));
    }
    let near = first.iter().take(PARENTS).flat_map(|p| space.neighbours(p)).filter(|p| legal(p));
    let all: BTreeSet<Point> = first.iter().cloned().chain(near).collect();
    Ok(all.into_iter().collect())
}

fn put(path: &Path, bytes: &[u8]) -> Res<()> {
    std::fs::write(path, bytes).map_err(|e| failure(format!("{}: {e}", path.display())))
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> Res<()> {
    use std::os::unix::fs::PermissionsExt;
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(|e| failure(format!("{}: {e}", path.display())))
}
