//! The choice, what bounds it, and what was passed over.

use super::work::Work;
use crate::device::DeviceProfile;
use crate::estimate::{Estimate, Term};
use crate::ladder::{Choice, Rung, ranked};
use crate::space::{Point, Space};
use crate::task::Task;
use serde::Serialize;
use std::collections::BTreeSet;

/// Differences of modelled times below this are none.
const SAME: f64 = 1e-3;

/// Why a problem is done as it is. Times are microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The problem.
    pub task: Task,
    /// Device profile.
    pub device: String,
    /// How the choice was come by.
    pub rung: Rung,
    /// Higher rungs, and why each was not it.
    pub passed: Vec<(Rung, String)>,
    /// The plan, where it is one of the library.
    pub plan: Option<LibraryPlan>,
    /// The point; none of a plan that is no point of the space.
    pub point: Option<Point>,
    /// Modelled.
    pub modelled_us: Option<f64>,
    /// Measured for this very problem on this kind of device.
    pub measured_us: Option<f64>,
    /// What bounds it.
    pub bound: Option<Term>,
    /// For each thing that may bound it, how long it takes alone.
    pub terms: Vec<Part>,
    /// What the problem asks for.
    pub work: Option<Work>,
    /// Share of the tensor cores' rate and of device memory's, by the modelled time.
    pub roofs: Option<[f64; 2]>,
    /// Points of the space, and those that no rule but the compiler's speaks against.
    pub space: [usize; 2],
    /// One step along one axis, by ascending time.
    pub neighbours: Vec<Other>,
    /// Such steps that lead nowhere.
    pub illegal: Vec<IllegalNeighbour>,
    /// The best of every kind of kernel but the chosen one's, by ascending time.
    pub families: Vec<Other>,
    /// The model's best of all, where it is not the choice.
    pub best: Option<Other>,
}

/// A plan that a dispatch table chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LibraryPlan {
    /// Its id.
    pub id: String,
    /// What ranked the table's entry: `model` or `tuned`.
    pub ranked_by: String,
}

/// A term of a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Part {
    /// What may bound.
    pub term: Term,
    /// How long it takes alone.
    pub us: f64,
}

/// A point that is not the choice.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Other {
    /// The point.
    pub point: Point,
    /// What differs from the choice, `bm 128 -> 64`.
    pub change: String,
    /// Modelled.
    pub us: f64,
    /// How much longer than the choice.
    pub more_us: f64,
    /// Where the difference comes from.
    pub why: String,
}

/// A neighbour that is no candidate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IllegalNeighbour {
    /// The point.
    pub point: Point,
    /// What differs from the choice.
    pub change: String,
    /// The rule it breaks.
    pub rule: String,
    /// With the numbers.
    pub why: String,
}

impl Explanation {
    /// Explains a choice. `plan` is the library's, where it is one.
    pub fn new(
        space: &dyn Space,
        device: &DeviceProfile,
        task: &Task,
        choice: &Choice,
        plan: Option<LibraryPlan>,
    ) -> Explanation {
        let ranking = ranked(space, device, task);
        let (mut neighbours, mut illegal) = (Vec::new(), Vec::new());
        let own = choice.point.as_ref().zip(choice.estimate.as_ref());
        if let Some((point, estimate)) = own {
            for p in space.neighbours(point) {
                let change = change(point, &p);
                match space.check(task, &p) {
                    Err(e) => illegal.push(IllegalNeighbour { point: p, change, rule: e.rule.into(), why: e.why }),
                    Ok(()) => neighbours.push(other(point, estimate, &p, &space.estimate(device, task, &p, None))),
                }
            }
        }
        neighbours.sort_by(|a: &Other, b| a.us.total_cmp(&b.us).then_with(|| a.point.cmp(&b.point)));
        let buildable = |p: &Point| space.check(task, p).is_ok();
        let mut families = Vec::new();
        let mut known: BTreeSet<String> = choice.point.iter().map(kind).collect();
        let mut best = None;
        if let Some((point, estimate)) = own {
            for (p, e) in &ranking {
                if !known.contains(&kind(p)) && buildable(p) {
                    known.insert(kind(p));
                    families.push(other(point, estimate, p, e));
                }
            }
            let first =
                ranking.iter().take_while(|(_, e)| e.seconds < estimate.seconds * (1.0 - SAME)).find(|(p, _)| buildable(p));
            best = first.map(|(p, e)| other(point, estimate, p, e));
        }
        let seconds = choice.estimate.as_ref().map(|e| e.seconds).filter(|s| s.is_finite());
        let work = Work::of(task);
        Explanation {
            task: task.clone(),
            device: device.name.clone(),
            rung: choice.rung,
            passed: choice.passed.clone(),
            plan,
            point: choice.point.clone(),
            modelled_us: seconds.map(micros),
            measured_us: choice.measured.map(micros),
            bound: choice.estimate.as_ref().and_then(Estimate::bound),
            terms: choice.estimate.iter().flat_map(|e| &e.terms).map(|(term, s)| Part { term: *term, us: micros(*s) }).collect(),
            work,
            roofs: work.zip(seconds).map(|(w, s)| w.roofs(device, s)),
            space: [space.points().len(), ranking.len()],
            neighbours,
            illegal,
            families,
            best,
        }
    }
}

/// The kind of a point's kernel.
fn kind(p: &Point) -> String {
    let split = p.get("splits").is_some_and(|s| s != "1");
    let words = [p.get("kind").unwrap_or("kernel"), if p.get("unpack") == Some("1") { " after unpacking" } else { "" }];
    format!("{}{}", words.concat(), if split { " in parts of k" } else { "" })
}

fn other(chosen: &Point, by: &Estimate, p: &Point, e: &Estimate) -> Other {
    let change = if kind(chosen) == kind(p) { change(chosen, p) } else { kind(p) };
    let more_us = micros(e.seconds - by.seconds);
    Other { point: p.clone(), change, us: micros(e.seconds), more_us, why: why(by, e) }
}

/// Where the difference of two times comes from.
fn why(chosen: &Estimate, e: &Estimate) -> String {
    let apart = e.seconds - chosen.seconds;
    if apart.abs() <= SAME * chosen.seconds {
        return "as fast by the model".into();
    }
    if apart < 0.0 {
        return "faster by the model".into();
    }
    let of = |of: &Estimate, term: Term| of.terms.iter().find(|t| t.0 == term).map_or(0.0, |t| t.1);
    let more = e.terms.iter().map(|(term, s)| (*term, s - of(chosen, *term))).max_by(|a, b| a.1.total_cmp(&b.1));
    match (more, e.bound()) {
        (Some((term, more)), Some(bound)) if more > SAME * chosen.seconds => {
            let now = if Some(bound) == chosen.bound() { String::new() } else { format!(", bound by {bound}") };
            format!("{term} +{:.2} us{now}", micros(more))
        }
        (_, Some(bound)) => format!("what hides beside {bound} is less"),
        _ => "the model has no terms for it".into(),
    }
}

/// Axes that differ, `bm 128 -> 64`.
fn change(from: &Point, to: &Point) -> String {
    let names: BTreeSet<&str> = from.axes().chain(to.axes()).map(|a| a.0).collect();
    let differ = names.into_iter().filter(|n| from.get(n) != to.get(n));
    let words: Vec<String> =
        differ.map(|n| format!("{n} {} -> {}", from.get(n).unwrap_or("none"), to.get(n).unwrap_or("none"))).collect();
    words.join(", ")
}

/// To a nanosecond.
fn micros(seconds: f64) -> f64 {
    (seconds * 1e9).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder::choose;
    use crate::space::samples::{Toy, task};
    use tilewright_ir::Arch;

    #[test]
    fn neighbours_say_what_they_cost_or_which_rule_they_break() {
        let device = DeviceProfile::typical(Arch::Sm90a);
        let task = task(512);
        let mut choice = choose(&Toy, device, &task, &[], &[]);
        // A tie: the smaller id, which is the wider tile.
        assert_eq!(choice.point.as_ref().map(Point::to_string).as_deref(), Some("bm=128,stages=4"));
        let e = Explanation::new(&Toy, device, &task, &choice, None);
        let told: Vec<String> = e.neighbours.iter().map(|n| format!("{}: {}", n.change, n.why)).collect();
        assert_eq!(told, ["bm 128 -> 64: as fast by the model", "stages 4 -> 3: latency +0.03 us"]);
        assert_eq!((e.illegal[0].change.as_str(), e.illegal[0].rule.as_str()), ("bm 128 -> 256", "shared_memory"));
        assert_eq!((e.bound, e.space, e.best, e.families.len()), (Some(Term::Tensor), [9, 9], None, 0));
        assert!((e.neighbours[1].more_us - 0.033).abs() < 1e-9 && e.work.is_none());
        // Another choice is told what the model would have.
        choice.point = "bm=128,stages=2".parse().ok();
        choice.estimate = choice.point.as_ref().map(|p| Toy.estimate(device, &task, p, None));
        let e = Explanation::new(
            &Toy,
            device,
            &task,
            &choice,
            Some(LibraryPlan { id: "toy_plan".into(), ranked_by: "model".into() }),
        );
        assert_eq!(e.best.clone().map(|b| (b.change, b.why)), Some(("stages 2 -> 4".into(), "faster by the model".into())));
        assert!(e.to_string().contains("toy_plan, first in its dispatch table, which is ranked by model"), "{e}");
    }
}
