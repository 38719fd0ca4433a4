//! What was tuned, as plans and dispatch tables of a library.
//!
//! Of each class the points that records name are reduced by set cover; the plans that stay are added to the library, and each tuned
//! problem has an entry of its own in the class's table: first the plan that is fastest for it among those that stay, then what the
//! model would try. A problem between tuned ones does as the next larger one (`ladder::serving`), all others as the model says.

use crate::error::{Res, failure};
use crate::task;
use std::collections::BTreeMap;
use tilewright_autotune::DeviceProfile;
use tilewright_autotune::cover::{REGRET, Timed, cover};
use tilewright_autotune::ladder::{Known, serving};
use tilewright_autotune::space::{self, Point, Space};
use tilewright_autotune::task::Task;
use tilewright_ir::Arch;
use tilewright_runtime::dispatch::{CellIndex, ChosenBy, Dispatch, Exact, Node, PlanIndex};
use tilewright_runtime::expr::VarId;
use tilewright_runtime::manifest::Manifest;
use tilewright_runtime::plan::Plan;
use tilewright_templates::plan::OpPlan;

/// Axes of a table with entries of tuned problems; the first is the one that varies in a server.
const AXES: [&str; 3] = ["m", "n", "k"];

/// A tuned problem and its plan.
#[derive(Clone, Debug)]
pub struct Tuned {
    /// The problem.
    pub task: Task,
    /// The plan's id.
    pub plan: String,
    /// How much longer it takes than the best there was, in percent.
    pub regret_percent: f64,
}

/// Plans to add to a library, and which of all each tuned problem has.
#[derive(Default)]
pub struct Collapsed {
    /// The plans that stay of those that records name.
    pub plans: Vec<OpPlan>,
    /// Each tuned problem.
    pub tuned: Vec<Tuned>,
    /// The identity that the kernels of a plan had when they were measured, where it is known.
    pub artifacts: BTreeMap<String, String>,
    /// In words, a line a class: how many points became how many plans, and the regret.
    pub told: Vec<String>,
}

/// The fewest plans with which every tuned problem of a target is within [`REGRET`] of its best.
///
/// A time that was not measured is the model's, scaled by what the problem's best was measured at and modelled. Where devices of
/// several profiles were tuned, the one that stands for the target speaks first, then the others by name.
pub fn collapse(arch: Arch, known: &[Known]) -> Res<Collapsed> {
    let mut classes: BTreeMap<(&str, &str), Vec<&Known>> = BTreeMap::new();
    let typical = &DeviceProfile::typical(arch).name;
    let mut all: Vec<&Known> = known.iter().filter(|k| k.arch == arch).collect();
    all.sort_by_key(|k| (&k.task, k.profile != *typical, &k.profile));
    all.dedup_by(|b, a| a.task == b.task);
    all.iter().for_each(|k| classes.entry((&k.task.op, &k.task.class)).or_default().push(k));
    let mut out = Collapsed::default();
    for ((op, class), known) in classes {
        let space = space::of(arch, op, class).map_err(failure)?;
        one_class(space.as_ref(), (op, class), &known, &mut out)?;
    }
    Ok(out)
}

fn one_class(space: &dyn Space, (op, class): (&str, &str), known: &[&Known], out: &mut Collapsed) -> Res<()> {
    let mut points: Vec<&Point> = known.iter().flat_map(|k| std::iter::once(&k.best).chain(&k.others)).map(|p| &p.0).collect();
    points.sort();
    points.dedup();
    let seconds = |k: &Known, p: &Point| {
        let measured = std::iter::once(&k.best).chain(&k.others).find(|t| t.0 == *p).map(|t| t.1);
        space.check(&k.task, p).ok()?;
        measured.or_else(|| {
            let device = DeviceProfile::named(&k.profile)?;
            let model = |p: &Point| space.estimate(device, &k.task, p, None).seconds;
            Some(k.best.1 * model(p) / model(&k.best.0)).filter(|s| s.is_finite() && *s > 0.0)
        })
    };
    let timed = |p: &&Point| Timed { id: p.to_string(), general: false, seconds: known.iter().map(|k| seconds(k, p)).collect() };
    let mut plans: Vec<Timed> = points.iter().map(timed).collect();
    // What the library ships anyway takes any sizes, and is not among the tuned.
    plans.push(Timed { id: String::new(), general: true, seconds: vec![None; known.len()] });
    let calls = vec![1.0; known.len()];
    let cover = cover(&calls, &plans, REGRET).map_err(|e| failure(format!("{op} {class}: {e}")))?;
    let stay: Vec<&Point> = cover.chosen.iter().filter_map(|i| points.get(*i).copied()).collect();
    let mut made: BTreeMap<&Point, String> = BTreeMap::new();
    for p in &stay {
        let plan = space.plan(p).map_err(|e| failure(format!("{op} {class}: {p}: {e}")))?;
        let measured = known.iter().find(|k| k.best.0 == **p).and_then(|k| k.artifact.clone());
        out.artifacts.extend(measured.map(|artifact| (plan.plan.id.clone(), artifact)));
        made.insert(p, plan.plan.id.clone());
        out.plans.push(plan);
    }
    for (k, (i, regret)) in known.iter().zip(&cover.per_task) {
        let plan = points.get(*i).and_then(|p| made.get(p)).cloned();
        let plan = plan.ok_or_else(|| failure(format!("{}: no plan stays", k.task)))?;
        out.tuned.push(Tuned { task: k.task.clone(), plan, regret_percent: (regret * 1e4).round() / 100.0 });
    }
    out.told.push(format!(
        "{op} {class}: {} tuned problems, {} points became {} plans, regret {:.2} % at most, {:.2} % together",
        known.len(),
        points.len(),
        stay.len(),
        100.0 * cover.worst,
        100.0 * cover.mean
    ));
    Ok(())
}

impl Collapsed {
    /// Drops problems whose plan's kernels are others now than those that were measured; gives the reasons.
    pub fn drop_changed(&mut self, manifest: &Manifest) -> Vec<String> {
        let now = |id: &str| manifest.plans.iter().find(|p| p.id == id).map(|p| artifact(manifest, p));
        let changed: Vec<String> =
            self.artifacts.iter().filter(|(id, then)| now(id).is_some_and(|n| n != **then)).map(|(id, _)| id.clone()).collect();
        self.tuned.retain(|t| !changed.contains(&t.plan));
        changed.iter().map(|id| format!("plan {id}: its kernels have changed since they were measured; tune again")).collect()
    }
}

/// The identity of a plan's kernels: BLAKE3 of the hashes of their PTX, launch by launch, as records have it.
fn artifact(manifest: &Manifest, plan: &Plan) -> String {
    let mut hash = blake3::Hasher::new();
    for launch in &plan.launches {
        let ptx = manifest.kernel(&launch.kernel).map(|k| manifest.kernels[k].ptx.blake3.as_str());
        hash.update(ptx.unwrap_or_default().as_bytes());
    }
    format!("b3:{}", hash.finalize().to_hex())
}

/// Puts tuned problems into the tables of their classes; `ids` are the plans of the manifest in their order.
pub fn enter(tables: &mut [Dispatch], ids: &[&str], tuned: &[Tuned]) -> Res<()> {
    for table in tables {
        let mine: Vec<&Tuned> = tuned.iter().filter(|t| t.task.op == table.op && t.task.class == table.class).collect();
        if mine.is_empty() {
            continue;
        }
        // Positions of axes stand in the tree, so more of them come after.
        if table.axes.first().is_some_and(|a| a != AXES[0]) {
            return Err(failure(format!("the table of {} varies by {}, not by {}", table.op, table.axes[0], AXES[0])));
        }
        for axis in AXES {
            if !table.axes.iter().any(|a| a == axis) {
                table.axes.push(axis.to_string());
            }
        }
        let mut entries: BTreeMap<Vec<i64>, Vec<(i64, PlanIndex, f64)>> = BTreeMap::new();
        for t in mine {
            let at = ids.iter().position(|id| *id == t.plan);
            let at = at.ok_or_else(|| failure(format!("{}: its plan {} is not in the library", t.task, t.plan)))?;
            let vars = task::vars(&t.task)?;
            let value = |axis: &String| vars.get(VarId::of(axis));
            let values = table.axes.iter().map(value).collect::<Option<Vec<i64>>>();
            let values = values.ok_or_else(|| failure(format!("{}: no value for {}", t.task, table.axes.join(", "))))?;
            entries.entry(values[1..].to_vec()).or_default().push((values[0], PlanIndex(at as u32), t.regret_percent));
        }
        for (key, list) in entries {
            let exact = entry(table, key, &list);
            table.exact.push(exact);
        }
        table.exact.sort_by(|a, b| a.key.cmp(&b.key));
    }
    Ok(())
}

/// The entry of one key. Its buckets end where another tuned problem serves, and where the model's order changes.
fn entry(table: &mut Dispatch, key: Vec<i64>, tuned: &[(i64, PlanIndex, f64)]) -> Exact {
    let last = tuned.iter().map(|t| t.0).max().unwrap_or(1);
    let of_tree = table.tree.nodes.iter().filter_map(|n| match n {
        Node::Split(0, bound, ..) => Some(*bound),
        _ => None,
    });
    let mut bounds: Vec<i64> = tuned.iter().flat_map(|t| [t.0 / 2, t.0]).chain([2 * last]).chain(of_tree).collect();
    bounds.retain(|b| *b >= 1);
    bounds.sort_unstable();
    bounds.dedup();
    let open = bounds.last().map_or(1, |b| b + 1);
    let mut exact = Exact { key, bounds: Vec::new(), cells: Vec::new(), chosen_by: ChosenBy::Tuned, regret_percent: None };
    for (i, value) in bounds.iter().copied().chain([open]).enumerate() {
        let values: Vec<i64> = std::iter::once(value).chain(exact.key.iter().copied()).collect();
        let mut plans = table.cells[table.tree.cell(&values).0 as usize].clone();
        let serves = serving(tuned.iter().map(|t| t.0), value).and_then(|s| tuned.iter().find(|t| t.0 == s));
        if let Some((_, plan, _)) = serves {
            plans.retain(|p| p != plan);
            plans.insert(0, *plan);
        }
        let cell = cell(table, plans);
        if exact.cells.last() != Some(&cell) {
            exact.bounds.extend(i.checked_sub(1).map(|before| bounds[before]));
            exact.cells.push(cell);
        }
    }
    exact.regret_percent = Some(tuned.iter().map(|t| t.2).fold(0.0, f64::max));
    exact
}

/// The cell with these plans.
fn cell(table: &mut Dispatch, plans: Vec<PlanIndex>) -> CellIndex {
    let at = table.cells.iter().position(|c| *c == plans).unwrap_or_else(|| {
        table.cells.push(plans);
        table.cells.len() - 1
    });
    CellIndex(at as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_runtime::dispatch::TableBuilder;

    const CLASS: &str = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";
    const NARROW: &str = "bk=64,bm=64,bn=64,cluster=1x1,kind=wgmma,n_align=8,raster=8,schedule=coop,splits=1,stages=8,wgs=1";
    const WIDE: &str = "bk=64,bm=128,bn=256,cluster=2x1,kind=wgmma,n_align=8,raster=8,schedule=coop,splits=1,stages=4,wgs=2";
    const LIKE: &str = "bk=64,bm=128,bn=256,cluster=1x2,kind=wgmma,n_align=8,raster=8,schedule=coop,splits=1,stages=4,wgs=2";

    fn known(profile: &str, m: i64, best: &str, us: f64, others: &[(&str, f64)]) -> Known {
        let sizes = [("m", m), ("n", 4096), ("k", 4096)].map(|(n, v)| (n.to_string(), v)).into();
        Known {
            profile: profile.into(),
            arch: Arch::Sm90a,
            task: Task { op: "gemm".into(), class: CLASS.into(), sizes },
            best: (best.parse().unwrap(), us * 1e-6),
            others: others.iter().map(|(p, us)| (p.parse().unwrap(), us * 1e-6)).collect(),
            artifact: Some(format!("b3:{m}")),
        }
    }

    fn tuned() -> Collapsed {
        let list = [
            known("H200", 16, NARROW, 9.0, &[]),
            known("H200", 4096, WIDE, 200.0, &[(LIKE, 220.0)]),
            // Within three percent of the plan that is there already.
            known("H200", 8192, LIKE, 400.0, &[(WIDE, 404.0)]),
            // Another device of the target knows better of its own.
            known("H100", 16, WIDE, 1.0, &[]),
        ];
        collapse(Arch::Sm90a, &list).unwrap()
    }

    #[test]
    fn plans_that_are_as_good_become_one_and_the_regret_is_told() {
        let c = tuned();
        assert_eq!(c.plans.len(), 2, "{:?}", c.told);
        assert!(c.told[0].contains("3 tuned problems, 3 points became 2 plans, regret 1.00 % at most"), "{:?}", c.told);
        let of = |m: i64| c.tuned.iter().find(|t| t.task.size("m") == Some(m)).unwrap();
        assert_eq!(of(8192).plan, of(4096).plan);
        assert_eq!((of(16).regret_percent, of(8192).regret_percent), (0.0, 1.0));
        assert!(of(16).plan.contains("64x64x64") && of(4096).plan.contains("128x256x64"), "{}", of(16).plan);
    }

    #[test]
    fn a_tuned_problem_has_its_plan_first_and_others_what_the_model_says() {
        let c = tuned();
        let mut ids = vec!["general", "other"];
        ids.extend(c.plans.iter().map(|p| p.plan.id.as_str()));
        let at = |id: &str| PlanIndex(ids.iter().position(|i| *i == id).unwrap() as u32);
        // What the model says: `other` for few rows, `general` else; only m matters to it.
        let base = TableBuilder::new("gemm", CLASS).axis("m", &[64]);
        let order = |s: &[i64]| if s[0] <= 64 { vec![PlanIndex(1), PlanIndex(0)] } else { vec![PlanIndex(0)] };
        let mut tables = vec![base.build(ChosenBy::Model, order).unwrap()];
        enter(&mut tables, &ids, &c.tuned).unwrap();
        let t = &tables[0];
        assert_eq!(t.axes, ["m", "n", "k"]);
        let first = |m: i64, n: i64| ids[t.plans(&[m, n, 4096])[0].0 as usize];
        let of = |m: i64| c.tuned.iter().find(|t| t.task.size("m") == Some(m)).unwrap().plan.as_str();
        assert_eq!([9, 16].map(|m| first(m, 4096)), [of(16); 2]);
        assert_eq!([2049, 4096, 5000, 8192, 16384].map(|m| first(m, 4096)), [of(4096); 5]);
        // Too far from what was tuned, and another layer.
        assert_eq!([1, 8, 17, 64].map(|m| first(m, 4096)), ["other"; 4]);
        assert_eq!([65, 2048, 16385].map(|m| first(m, 4096)), ["general"; 3]);
        assert_eq!([16, 4096].map(|m| first(m, 4097)), ["other", "general"]);
        // What the model would try stands behind.
        assert_eq!(t.plans(&[16, 4096, 4096]), [at(of(16)), PlanIndex(1), PlanIndex(0)]);
        assert_eq!((t.exact[0].chosen_by, t.exact[0].regret_percent), (ChosenBy::Tuned, Some(1.0)));
        assert!(t.exact[0].bounds.is_sorted_by(|a, b| a < b) && t.exact[0].cells.len() == t.exact[0].bounds.len() + 1);
        ids.pop();
        let missing = enter(&mut tables, &ids, &c.tuned).unwrap_err().to_string();
        assert!(missing.contains("is not in the library"), "{missing}");
    }
}
