//! A device that has candidates built when they are first asked for: a search that goes on from its log builds nothing again that it
//! does not run.

use super::What;
use super::candidates::{self, Form, Wanted};
use std::path::PathBuf;
use tilewright_autotune::DeviceProfile;
use tilewright_autotune::search::{Failure, Measure, Ranking, Sample, Settings};
use tilewright_autotune::space::Point;
use tilewright_autotune::task::Task;
use tilewright_codegen::Compiler;
use tilewright_ops::error::{Res, failure};
use tilewright_runner::pack::{TuningPack, TuningPlan};
use tilewright_runner::supervise::Supervisor;
use tilewright_runner::tune::Spaces;

/// A supervisor and the compiler.
pub struct OnDemand<'a> {
    supervisor: Supervisor,
    compiler: &'a Compiler,
    what: &'a What,
    profile: &'static DeviceProfile,
    /// Built so far, each batch a pack.
    packs: Vec<TuningPack>,
    failed: Vec<(Task, Point, String)>,
    spaces: Spaces,
    folder: tempfile::TempDir,
}

impl<'a> OnDemand<'a> {
    /// Nothing is built yet.
    pub fn new(supervisor: Supervisor, compiler: &'a Compiler, what: &'a What, profile: &'static DeviceProfile) -> Res<Self> {
        let folder = tempfile::tempdir().map_err(failure)?;
        let spaces = Spaces::new(what.arch);
        Ok(OnDemand { supervisor, compiler, what, profile, packs: Vec::new(), failed: Vec::new(), spaces, folder })
    }

    fn built(&self, task: &Task, point: &Point) -> bool {
        self.packs.iter().any(|p| p.entry(task, point).is_some())
    }

    /// Has a point built, with what else is likely to be asked for.
    fn ready(&mut self, task: &Task, point: &Point) -> Result<(), Failure> {
        if self.built(task, point) {
            return Ok(());
        }
        if let Some((_, _, why)) = self.failed.iter().find(|(t, p, _)| t == task && p == point) {
            return Err(Failure::Build(why.clone()));
        }
        let mut points = self.shortlist(task, &self.what.settings).unwrap_or_default();
        points.retain(|p| !self.built(task, p) && !self.failed.iter().any(|(t, q, _)| t == task && q == p));
        if !points.contains(point) {
            // Neighbours come one by one.
            points = vec![point.clone()];
        }
        self.build(vec![(task.clone(), points)]).map_err(|e| Failure::Build(e.to_string()))?;
        if self.built(task, point) {
            return Ok(());
        }
        let why = self.failed.iter().find(|(t, p, _)| t == task && p == point).map(|f| f.2.clone());
        Err(Failure::Build(why.unwrap_or_else(|| "the compiler gave nothing for it".into())))
    }

    fn shortlist(&mut self, task: &Task, settings: &Settings) -> Option<Vec<Point>> {
        let space = self.spaces.of(task).ok()?;
        let ranking = Ranking::new(space, self.profile, task).ok()?;
        Some(ranking.shortlist(settings, |p| space.check(task, p).is_ok()))
    }

    fn build(&mut self, wanted: Wanted) -> Res<()> {
        let folder: PathBuf = self.folder.path().join(self.packs.len().to_string());
        std::fs::create_dir_all(&folder).map_err(failure)?;
        let plan = TuningPlan::new(
            self.what.arch.caps().name,
            super::toolchain(self.compiler),
            &self.profile.name,
            (&self.what.settings).into(),
        );
        let progress = |done: usize, all: usize, name: &str| eprintln!("compile {done}/{all} {name}");
        let plan =
            candidates::write(&folder, Form::Loose, plan, self.what.arch, self.profile, &wanted, self.compiler, &progress)?;
        for (task, points) in &wanted {
            let of = |p: &Point| plan.failed.iter().find(|f| f.point == *p).map(|f| f.why.clone());
            self.failed.extend(points.iter().filter_map(|p| Some((task.clone(), p.clone(), of(p)?))));
        }
        if plan.tasks.iter().any(|t| !t.candidates.is_empty()) {
            self.packs.push(TuningPack::open(&folder).map_err(failure)?);
            self.supervisor.add(folder).map_err(failure)?;
        }
        Ok(())
    }
}

impl Measure for OnDemand<'_> {
    fn lost(&self) -> Option<String> {
        self.supervisor.lost()
    }

    fn check(&mut self, task: &Task, point: &Point) -> Result<(), Failure> {
        self.ready(task, point)?;
        self.supervisor.check(task, point)
    }

    fn time(&mut self, task: &Task, point: &Point, from: u32, count: u32) -> Result<Vec<Sample>, Failure> {
        self.ready(task, point)?;
        self.supervisor.time(task, point, from, count)
    }

    fn interleaved(&mut self, task: &Task, points: &[Point], from: u32, rounds: u32) -> Vec<Result<Vec<Sample>, Failure>> {
        // Built before the first turn: what cannot be has no turns, and the others keep theirs.
        let ready: Vec<Result<(), Failure>> = points.iter().map(|p| self.ready(task, p)).collect();
        let can: Vec<Point> = points.iter().zip(&ready).filter(|(_, r)| r.is_ok()).map(|(p, _)| p.clone()).collect();
        let mut turns = self.supervisor.interleaved(task, &can, from, rounds).into_iter();
        let missing = || Err(Failure::Crashed("the device gave no answer for it".into()));
        ready.into_iter().map(|r| r.and_then(|()| turns.next().unwrap_or_else(missing))).collect()
    }

    fn artifact(&mut self, task: &Task, point: &Point) -> Option<String> {
        self.packs.iter().find_map(|p| p.artifact(task, point)).map(String::from)
    }
}
