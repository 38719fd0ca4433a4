//! A space made from what a family lists.

use super::compiled::{Compiled, compile};
use super::rule::{self, Kind, Rule};
use super::{Axis, Illegal, Point, Space};
use crate::device::DeviceProfile;
use crate::estimate::{Counts, Estimate};
use crate::task::Task;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tilewright_ir::Arch;
use tilewright_templates::plan::OpPlan;

/// What an op family's space consists of.
pub(super) trait Family: Send + Sync + Sized + 'static {
    /// A point, read.
    type Config;
    /// Constraints but the compiler's, cheap ones first.
    const RULES: &'static [Rule<Self, Self::Config>];
    /// Axes that follow from the others.
    const DERIVED: &'static [&'static str];

    /// Target.
    fn arch(&self) -> Arch;

    /// The op and the class its tasks have.
    fn op_and_class(&self) -> (&'static str, String);

    /// The task with the sizes that it need not name.
    fn complete(&self, task: &Task) -> Task;

    /// The kernels and their axes.
    fn kinds(&self) -> Vec<Kind>;

    /// Why a point, of which some axes may not be put yet, is the same as another one or never better.
    fn tied(&self, p: &Point) -> Option<String>;

    /// The point with the axes that follow from the others.
    fn derive(&self, p: Point) -> Point;

    /// Reads a point.
    fn config(&self, p: &Point) -> Result<Self::Config, String>;

    /// Its plan.
    fn plan(&self, c: &Self::Config) -> Result<OpPlan, String>;

    /// The model's word.
    fn estimate(&self, device: &DeviceProfile, task: &Task, c: &Self::Config, counts: Option<&Counts>) -> Estimate;
}

/// The space of a family.
pub(super) struct Listed<F> {
    family: F,
    op: &'static str,
    class: String,
    kinds: Vec<Kind>,
    points: Vec<Point>,
    compiled: Mutex<HashMap<Point, Arc<Result<Compiled, Illegal>>>>,
}

impl<F: Family> Listed<F> {
    pub fn new(family: F) -> Self {
        let kinds = family.kinds();
        let of = |k: &Kind| k.points(|p| family.tied(p).is_some());
        let mut points: Vec<Point> = kinds.iter().flat_map(of).map(|p| family.derive(p)).collect();
        points.sort();
        points.dedup();
        let (op, class) = family.op_and_class();
        Listed { op, class, kinds, points, compiled: Mutex::default(), family }
    }

    fn is_listed(&self, p: &Point) -> bool {
        self.points.binary_search(p).is_ok()
    }

    fn kind(&self, p: &Point) -> Option<&Kind> {
        self.kinds.iter().find(|k| k.is_of(p))
    }

    /// Why a point is not in the list.
    fn listed(&self, p: &Point) -> Result<(), Illegal> {
        if self.is_listed(p) {
            return Ok(());
        }
        let axis = |why: String| Err(Illegal { rule: "axis", why });
        let Some(kind) = self.kind(p) else {
            let names: Vec<_> = self.kinds.iter().map(Kind::name).collect();
            return axis(format!("{p}: kernels of {} for {} are {}", self.op, self.family.arch(), names.join("; ")));
        };
        if let Some(why) = kind.stranger(p, F::DERIVED) {
            return axis(why);
        }
        if let Some(why) = self.family.tied(p) {
            return Err(Illegal { rule: "tied", why });
        }
        let right = self.family.derive(p.clone());
        let off = F::DERIVED.iter().find(|a| right.get(a) != p.get(a)).map_or(String::new(), |a| {
            let [given, follows] = [p.get(a), right.get(a)].map(|v| v.unwrap_or("none"));
            format!("{a}={given}: {follows} follows from the other axes")
        });
        Err(Illegal { rule: "derived", why: off })
    }

    fn read(&self, task: &Task, p: &Point) -> Result<F::Config, Illegal> {
        if (task.op.as_str(), &task.class) != (self.op, &self.class) {
            let why = format!("the task is {} {}, the space {} {}", task.op, task.class, self.op, self.class);
            return Err(Illegal { rule: "class", why });
        }
        self.listed(p)?;
        self.family.config(p).map_err(|why| Illegal { rule: "config", why })
    }

    fn compiled(&self, p: &Point, c: &F::Config) -> Arc<Result<Compiled, Illegal>> {
        let known = self.compiled.lock().unwrap_or_else(PoisonError::into_inner).get(p).cloned();
        known.unwrap_or_else(|| {
            let made = self.family.plan(c).map_err(|why| Illegal { rule: "template", why });
            let made = Arc::new(made.and_then(|op| compile(&op)));
            self.compiled.lock().unwrap_or_else(PoisonError::into_inner).insert(p.clone(), made.clone());
            made
        })
    }
}

impl<F: Family> Space for Listed<F> {
    fn axes(&self) -> Vec<Axis> {
        rule::axes(&self.kinds, F::DERIVED, &self.points)
    }

    fn points(&self) -> Vec<Point> {
        self.points.clone()
    }

    fn promising(&self, task: &Task, p: &Point) -> Result<(), Illegal> {
        let c = self.read(task, p)?;
        rule::first_broken(F::RULES, &self.family, &self.family.complete(task), p, &c)
    }

    fn check(&self, task: &Task, p: &Point) -> Result<(), Illegal> {
        let c = self.read(task, p)?;
        let task = &self.family.complete(task);
        rule::first_broken(F::RULES, &self.family, task, p, &c)?;
        match &*self.compiled(p, &c) {
            Ok(compiled) => compiled.check(self.family.arch(), task),
            Err(illegal) => Err(illegal.clone()),
        }
    }

    fn neighbours(&self, p: &Point) -> Vec<Point> {
        let steps = self.kind(p).map_or_else(Vec::new, |k| k.steps(p));
        let mut list: Vec<_> = steps.into_iter().map(|q| self.family.derive(q)).filter(|q| self.is_listed(q)).collect();
        list.sort();
        list
    }

    fn plan(&self, p: &Point) -> Result<OpPlan, Illegal> {
        self.listed(p)?;
        let c = self.family.config(p).map_err(|why| Illegal { rule: "config", why })?;
        self.family.plan(&c).map_err(|why| Illegal { rule: "template", why })
    }

    fn estimate(&self, device: &DeviceProfile, task: &Task, p: &Point, counts: Option<&Counts>) -> Estimate {
        let task = self.family.complete(task);
        // A point that is none is slower than all that are.
        self.family.config(p).map_or_else(|_| Estimate::never(), |c| self.family.estimate(device, &task, &c, counts))
    }
}

/// A task with values for sizes that it does not name.
pub(super) fn with_defaults(task: &Task, defaults: impl IntoIterator<Item = (&'static str, Option<i64>)>) -> Task {
    let mut task = task.clone();
    for (name, value) in defaults {
        let Some(value) = value else { continue };
        task.sizes.entry(name.to_string()).or_insert(value);
    }
    task
}
