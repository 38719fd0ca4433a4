//! Where the config of a problem comes from: what was measured on this kind of device, what was measured on another of its target
//! and ranked anew, the model, the template's default. Each rung is taken where those above it have nothing, and says why they had.

use crate::device::DeviceProfile;
use crate::estimate::Estimate;
use crate::space::{Point, Space};
use crate::task::Task;
use serde::{Deserialize, Serialize};
use std::fmt;
use tilewright_ir::Arch;

/// Points of another device's record that are ranked anew.
const RERANKED: usize = 8;
/// Points that the compiler may refuse before the model is said to have none.
const ASKED: usize = 64;

/// How a config was come by, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// A plan of the library, by its dispatch table.
    Library,
    /// A record of this kind of device.
    Record,
    /// A record of another device of the target, ranked by the model with this one's rates.
    Reranked,
    /// The model.
    Model,
    /// The template's default.
    Default,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rung::Library => "library",
            Rung::Record => "record",
            Rung::Reranked => "record of another device, ranked by the model",
            Rung::Model => "model",
            Rung::Default => "template's default",
        })
    }
}

/// What a record knows of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Profile of the device it was measured on.
    pub profile: String,
    /// That device's target.
    pub arch: Arch,
    /// The task.
    pub task: Task,
    /// The best point and its median, seconds.
    pub best: (Point, f64),
    /// What came next and their medians, best first.
    pub others: Vec<(Point, f64)>,
    /// Identity of the best point's kernels, where it was noted.
    pub artifact: Option<String>,
}

/// A config and how it was come by.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The point; none where the template's default is all there is.
    pub point: Option<Point>,
    /// The rung.
    pub rung: Rung,
    /// What was measured of it for this very task on this kind of device, seconds.
    pub measured: Option<f64>,
    /// What the model says of it.
    pub estimate: Option<Estimate>,
    /// Higher rungs, and why each was not it.
    pub passed: Vec<(Rung, String)>,
}

impl Choice {
    /// `rung: model (record: no record of gemm m=16 for H200)`.
    pub fn line(&self) -> String {
        line(self.rung, &self.passed)
    }
}

/// The rung and why it was none above it, in a line.
pub fn line(rung: Rung, passed: &[(Rung, String)]) -> String {
    let passed: Vec<String> = passed.iter().map(|(rung, why)| format!("{rung}: {why}")).collect();
    if passed.is_empty() { format!("rung: {rung}") } else { format!("rung: {rung} ({})", passed.join("; ")) }
}

/// The size of an op that varies in a server, and those that follow from it.
fn varies(op: &str) -> &'static [&'static str] {
    match op {
        "gemm" => &["m"],
        "gemm_grouped" => &["m", "tokens"],
        "attention" => &["sq"],
        "attention_decode" => &["batch"],
        _ => &["m"],
    }
}

/// Whether two tasks differ at most in the size that varies in a server.
pub fn same_layer(a: &Task, b: &Task) -> bool {
    let fixed = |t: &Task| -> Vec<(String, i64)> {
        t.sizes.iter().filter(|(name, _)| !varies(&t.op).contains(&name.as_str())).map(|(n, v)| (n.clone(), *v)).collect()
    };
    a.op == b.op && a.class == b.class && fixed(a) == fixed(b)
}

/// Which of some tuned values of the size that varies serves a value: the next one from there up, if it is less than twice as large;
/// else the largest, up to twice itself. A tile costs what it has room for, so a size does as the next larger one that was tuned;
/// beyond a factor of two nothing was learned.
pub fn serving(tuned: impl IntoIterator<Item = i64>, value: i64) -> Option<i64> {
    let mut list: Vec<i64> = tuned.into_iter().collect();
    list.sort_unstable();
    match list.iter().find(|t| **t >= value) {
        Some(next) => Some(*next).filter(|t| value > t / 2),
        None => list.last().copied().filter(|t| value <= 2 * t),
    }
}

/// The config of a task on a device. `known` is what records that serve say, `refused` why others do not.
pub fn choose(space: &dyn Space, device: &DeviceProfile, task: &Task, known: &[Known], refused: &[String]) -> Choice {
    let mut passed = match recorded(space, device, task, known, refused) {
        Ok(choice) => return choice,
        Err(passed) => passed,
    };
    match modelled(space, device, task).next() {
        Some(p) => made(space, device, task, p, Rung::Model, None, passed),
        None => {
            passed.push((Rung::Model, format!("no point of the space takes {task}")));
            Choice { point: None, rung: Rung::Default, measured: None, estimate: None, passed }
        }
    }
}

/// The rungs that rest on records; where neither has anything, why not.
pub fn recorded(
    space: &dyn Space,
    device: &DeviceProfile,
    task: &Task,
    known: &[Known],
    refused: &[String],
) -> Result<Choice, Vec<(Rung, String)>> {
    let mut passed = Vec::new();
    let (own, other): (Vec<&Known>, Vec<&Known>) =
        known.iter().filter(|k| k.arch == device.arch).partition(|k| k.profile == device.name);
    let told = |nothing: String| refused.iter().fold(nothing, |all, why| format!("{all}; {why}"));
    match for_task(task, &own) {
        None => passed.push((Rung::Record, told(format!("no record of {} for {}", layer(task), device.name)))),
        Some(k) => match space.check(task, &k.best.0) {
            Err(why) => passed.push((Rung::Record, format!("{}: {why}", k.best.0))),
            Ok(()) => {
                let measured = (k.task == *task).then_some(k.best.1);
                return Ok(made(space, device, task, k.best.0.clone(), Rung::Record, measured, passed));
            }
        },
    }
    match for_task(task, &other) {
        None => passed.push((Rung::Reranked, format!("no record of another {} device either", device.arch.caps().name))),
        Some(k) => {
            let points = std::iter::once(&k.best).chain(&k.others).map(|p| &p.0).take(RERANKED);
            let legal: Vec<&Point> = points.filter(|p| space.check(task, p).is_ok()).collect();
            let seconds = |p: &Point| space.estimate(device, task, p, None).seconds;
            match legal.into_iter().min_by(|a, b| seconds(a).total_cmp(&seconds(b)).then_with(|| a.cmp(b))) {
                Some(p) => return Ok(made(space, device, task, p.clone(), Rung::Reranked, None, passed)),
                None => passed.push((Rung::Reranked, format!("none of the points of {} can be built", k.profile))),
            }
        }
    }
    Err(passed)
}

fn layer(task: &Task) -> String {
    let sizes: Vec<String> = task.sizes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{} {}", task.op, sizes.join(" "))
}

/// What serves a task: its own entry, or that of a size near enough.
fn for_task<'a>(task: &Task, known: &[&'a Known]) -> Option<&'a Known> {
    let own = known.iter().find(|k| k.task == *task);
    own.copied().or_else(|| {
        let name = *varies(&task.op).first()?;
        let value = task.size(name)?;
        let near: Vec<&&Known> = known.iter().filter(|k| same_layer(&k.task, task)).collect();
        let tuned = serving(near.iter().filter_map(|k| k.task.size(name)), value)?;
        near.into_iter().find(|k| k.task.size(name) == Some(tuned)).copied()
    })
}

fn made(
    space: &dyn Space,
    device: &DeviceProfile,
    task: &Task,
    point: Point,
    rung: Rung,
    measured: Option<f64>,
    passed: Vec<(Rung, String)>,
) -> Choice {
    let estimate = Some(space.estimate(device, task, &point, None));
    Choice { point: Some(point), rung, measured, estimate, passed }
}

/// Points that can be built for a task in the model's order, ties by id; the compiler is asked as they are taken.
pub fn modelled<'a>(space: &'a dyn Space, device: &'a DeviceProfile, task: &'a Task) -> impl Iterator<Item = Point> + 'a {
    ranked(space, device, task).into_iter().take(ASKED).map(|r| r.0).filter(|p| space.check(task, p).is_ok())
}

/// Points that pass the rules without a compiler, with what the model says of them, best first, ties by id.
pub fn ranked(space: &dyn Space, device: &DeviceProfile, task: &Task) -> Vec<(Point, Estimate)> {
    let all = space.points();
    let promising = all.into_iter().filter(|p| space.promising(task, p).is_ok());
    let mut list: Vec<(Point, Estimate)> = promising.map(|p| (p.clone(), space.estimate(device, task, &p, None))).collect();
    list.retain(|r| r.1.seconds.is_finite());
    list.sort_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds).then_with(|| a.0.cmp(&b.0)));
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::samples::{Toy, task};

    fn known(profile: &str, m: i64, best: &str, others: &[&str]) -> Known {
        Known {
            profile: profile.into(),
            arch: Arch::Sm90a,
            task: task(m),
            best: (best.parse().unwrap(), 5e-6),
            others: others.iter().map(|p| (p.parse().unwrap(), 6e-6)).collect(),
            artifact: None,
        }
    }

    fn asked(m: i64, known: &[Known]) -> Choice {
        choose(&Toy, DeviceProfile::typical(Arch::Sm90a), &task(m), known, &["records/h100/toy.json: stale".into()])
    }

    #[test]
    fn the_highest_rung_that_has_something_is_taken_and_says_what_the_others_lack() {
        let own = known("H200", 64, "bm=128,stages=2", &[]);
        let other = known("H100", 64, "bm=128,stages=4", &["bm=64,stages=4", "bm=64,stages=3"]);
        let c = asked(64, &[other.clone(), own.clone()]);
        assert_eq!((c.point, c.rung, c.measured), ("bm=128,stages=2".parse().ok(), Rung::Record, Some(5e-6)));
        // The toy's model: the narrow tile is better at 64 rows, and more stages are better.
        let c = asked(64, std::slice::from_ref(&other));
        assert_eq!((c.point, c.rung, c.measured), ("bm=64,stages=4".parse().ok(), Rung::Reranked, None));
        let c = asked(64, &[]);
        assert_eq!((c.point.clone(), c.rung), ("bm=64,stages=4".parse().ok(), Rung::Model));
        let line = c.line();
        assert!(
            line.starts_with("rung: model (record: no record of toy m=64 for H200; records/h100/toy.json: stale; "),
            "{line}"
        );
        assert!(line.ends_with("no record of another sm90 device either)"), "{line}");
        // Five rows are illegal for every tile of the toy.
        let c = asked(5, &[]);
        assert_eq!((c.point.is_none(), c.rung, c.passed.len()), (true, Rung::Default, 3));
    }

    #[test]
    fn a_point_that_cannot_be_built_any_more_and_a_far_size_are_passed_over() {
        let c = asked(64, &[known("H200", 64, "bm=256,stages=4", &[])]);
        assert!(c.rung == Rung::Model && c.passed[0].1.contains("bm=256,stages=4: shared_memory"), "{c:?}");
        // 48 rows do as the 64 that were tuned, 32 do not, and no time is claimed for them.
        let records = [known("H200", 64, "bm=128,stages=2", &[])];
        let c = asked(48, &records);
        assert_eq!((c.rung, c.measured), (Rung::Record, None));
        assert_eq!(asked(32, &records).rung, Rung::Model);
        let mut ampere = records[0].clone();
        (ampere.arch, ampere.profile) = (Arch::Sm80, "A100".into());
        assert_eq!(asked(64, &[ampere]).rung, Rung::Model);
    }

    #[test]
    fn sizes_do_as_the_next_tuned_one_within_a_factor_of_two() {
        let of = |v| serving([16, 1, 64], v);
        assert_eq!(
            [1, 2, 8, 9, 16, 17, 33, 64, 128, 129].map(of),
            [Some(1), None, None, Some(16), Some(16), None, Some(64), Some(64), Some(64), None]
        );
        assert_eq!(serving([], 3), None);
        assert!(same_layer(&task(3), &task(9)));
    }
}
