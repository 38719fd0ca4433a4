//! Coefficients from measured trials: least squares of the logarithm of times, within the bounds of each coefficient.
//!
//! Gauss and Newton with Marquardt's damping; the quadratic problem of a step is solved coordinate by coordinate within the
//! bounds, which for positive bounds is non-negative least squares. A weak pull towards the literature's values decides
//! between coefficients that the trials cannot tell apart, and what no trial depends on stays where it is.

use super::coefficients::Coefficients;
use super::quality::Quality;
use crate::device::DeviceProfile;
use crate::space::Point;
use crate::task::Task;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A measured time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// The problem.
    pub task: Task,
    /// How it was done.
    pub point: Point,
    /// Its median time.
    pub seconds: f64,
    /// The profile of the device, by name.
    pub device: String,
}

/// The model's time of a trial on a device with given coefficients, seconds; not finite where it knows none.
pub trait Predict: Sync {
    /// The time.
    fn seconds(&self, device: &DeviceProfile, trial: &Trial) -> f64;
}

impl<F: Fn(&DeviceProfile, &Trial) -> f64 + Sync> Predict for F {
    fn seconds(&self, device: &DeviceProfile, trial: &Trial) -> f64 {
        self(device, trial)
    }
}

/// Trials that cannot be fitted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FitError {
    /// Another device's.
    #[error("trial of {task} at {point} was measured on {found}, coefficients are fitted for {expected}: one device a fit")]
    Device {
        /// The task.
        task: String,
        /// The point.
        point: String,
        /// Its device.
        found: String,
        /// The profile's.
        expected: String,
    },
    /// A time that is none.
    #[error("trial of {task} at {point} took {seconds} s: must be a number above 0")]
    Seconds {
        /// The task.
        task: String,
        /// The point.
        point: String,
        /// Its time.
        seconds: f64,
    },
    /// None that the model knows.
    #[error("no trial that the model has a time for: {0} were given")]
    Empty(usize),
}

/// A fit and how good it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The profile's name.
    pub device: String,
    /// Trials left out because the model has no time for them.
    pub unknown: usize,
    /// The coefficients to use.
    pub coefficients: Coefficients,
    /// Those that moved: name, from, to.
    pub moved: Vec<(String, f64, f64)>,
    /// With the coefficients the profile had.
    pub before: Quality,
    /// With the fitted ones, on the trials they were fitted to.
    pub after: Quality,
    /// Each task with coefficients fitted to the other tasks only; `None` of a single task.
    pub left_out: Option<Quality>,
}

/// Weight of the pull towards the literature, in trials: a coefficient twice its default counts as one trial off by 10 %.
const PULL: f64 = 0.01;
/// Steps at most.
const STEPS: usize = 40;

/// Fits the coefficients of `device` to trials of it.
pub fn run(device: &DeviceProfile, trials: &[Trial], model: &impl Predict) -> Result<Report, FitError> {
    for t in trials {
        let (task, point) = (t.task.to_string(), t.point.to_string());
        if !t.device.eq_ignore_ascii_case(&device.name) {
            let (found, expected) = (t.device.clone(), device.name.clone());
            return Err(FitError::Device { task, point, found, expected });
        }
        if !(t.seconds.is_finite() && t.seconds > 0.0) {
            return Err(FitError::Seconds { task, point, seconds: t.seconds });
        }
    }
    let known: Vec<&Trial> = trials.iter().filter(|t| model.seconds(device, t).is_finite()).collect();
    if known.is_empty() {
        return Err(FitError::Empty(trials.len()));
    }
    let start = device.coefficients();
    let fitted = fit(device, &known, model);
    let tasks: BTreeMap<&Task, Vec<&Trial>> = known.iter().fold(BTreeMap::new(), |mut all, t| {
        all.entry(&t.task).or_insert_with(Vec::new).push(*t);
        all
    });
    let pairs = |c: &Coefficients, list: &[&Trial]| -> Vec<(f64, f64)> {
        let d = with(device, c);
        list.iter().map(|t| (model.seconds(&d, t), t.seconds)).collect()
    };
    let all = |c: &Coefficients| Quality::of(&tasks.values().map(|l| pairs(c, l)).collect::<Vec<_>>());
    let left_out = (tasks.len() > 1).then(|| {
        let one = |(task, list): (&&Task, &Vec<&Trial>)| {
            let others: Vec<&Trial> = known.iter().copied().filter(|t| t.task != **task).collect();
            pairs(&fit(device, &others, model), list)
        };
        Quality::of(&tasks.par_iter().map(one).collect::<Vec<_>>())
    });
    let rows = Coefficients::TABLE.iter().zip(start.values().into_iter().zip(fitted.values()));
    let moved = rows.filter(|(_, (a, b))| (a - b).abs() > 1e-9 * a.abs()).map(|(r, (a, b))| (r.name.to_string(), a, b));
    Ok(Report {
        device: device.name.clone(),
        unknown: trials.len() - known.len(),
        coefficients: fitted,
        moved: moved.collect(),
        before: all(&start),
        after: all(&fitted),
        left_out,
    })
}

impl Report {
    /// The coefficients as a table for the device's profile.
    pub fn toml(&self) -> String {
        let mut text = format!("# Fitted to {} trials on {}.\n[coefficients]\n", self.before.trials, self.device);
        for (row, value) in Coefficients::TABLE.iter().zip(self.coefficients.values()) {
            text += &format!("{} = {value:?}\n", row.name);
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} trials of {} tasks with more than one point", self.device, self.before.trials, self.before.tasks)?;
        if self.unknown > 0 {
            writeln!(f, "{} trials left out: the model has no time for them", self.unknown)?;
        }
        for (name, from, to) in &self.moved {
            writeln!(f, "  {name}: {from:.4} -> {to:.4}")?;
        }
        let rows = [("before", Some(&self.before)), ("after", Some(&self.after)), ("task left out", self.left_out.as_ref())];
        for (name, q) in rows.into_iter().filter_map(|(n, q)| Some((n, q?))) {
            let percent = |r: [f64; 3]| r.map(|r| format!("{:.1}", 100.0 * r)).join("/");
            writeln!(
                f,
                "{name}: error x{:.3}, worst x{:.2}, top-1 regret p50/p90/max {} %, top-3 {} %, tau {:.3}",
                q.error,
                q.worst,
                percent(q.top1),
                percent(q.top3),
                q.tau
            )?;
        }
        Ok(())
    }
}

/// A device with coefficients.
fn with(device: &DeviceProfile, c: &Coefficients) -> DeviceProfile {
    DeviceProfile { coefficients: Some(*c), ..device.clone() }
}

/// Logarithms of modelled over measured.
fn residuals(device: &DeviceProfile, at: &[f64], trials: &[&Trial], model: &impl Predict) -> Vec<f64> {
    let d = with(device, &Coefficients::of(at));
    trials.iter().map(|t| (model.seconds(&d, t) / t.seconds).ln().clamp(-20.0, 20.0)).collect()
}

fn fit(device: &DeviceProfile, trials: &[&Trial], model: &impl Predict) -> Coefficients {
    let table = Coefficients::TABLE;
    let mut at = device.coefficients().values();
    // Steps are in parts of the default, so that all are alike.
    let scale: Vec<f64> = table.iter().map(|r| r.default).collect();
    let cost = |at: &[f64], r: &[f64]| {
        let pull = at.iter().zip(table).map(|(c, row)| (c / row.default - 1.0).powi(2)).sum::<f64>();
        r.iter().map(|e| e * e).sum::<f64>() + PULL * pull
    };
    let mut r = residuals(device, &at, trials, model);
    let (mut now, mut damping) = (cost(&at, &r), 1e-3);
    for _ in 0..STEPS {
        let columns = jacobian(device, &at, &scale, trials, model);
        // What no trial depends on stays.
        let moves: Vec<usize> = (0..at.len()).filter(|i| columns[*i].iter().any(|v| v.abs() > 1e-9)).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let rows: Vec<Vec<f64>> = moves.iter().map(|i| moves.iter().map(|j| dot(&columns[*i], &columns[*j])).collect()).collect();
        let pulled = |i: usize| PULL * (at[i] / scale[i] - 1.0);
        let slope: Vec<f64> = moves.iter().map(|i| dot(&columns[*i], &r) + pulled(*i)).collect();
        let room: Vec<[f64; 2]> = moves.iter().map(|i| table[*i].bounds.map(|b| (b - at[*i]) / scale[*i])).collect();
        let mut better = false;
        while damping < 1e8 {
            let step = bounded(&rows, &slope, &room, damping);
            let mut next = at.clone();
            for (i, s) in moves.iter().zip(&step) {
                next[*i] = (at[*i] + s * scale[*i]).clamp(table[*i].bounds[0], table[*i].bounds[1]);
            }
            let errors = residuals(device, &next, trials, model);
            let then = cost(&next, &errors);
            if then < now {
                better = now - then > 1e-9 * now;
                (at, r, now, damping) = (next, errors, then, damping * 0.3);
                break;
            }
            damping *= 4.0;
        }
        if !better {
            break;
        }
    }
    Coefficients::of(&at)
}

/// Derivatives of the residuals by each coefficient over its scale, a list a coefficient. Both sides: a maximum has a kink.
fn jacobian(d: &DeviceProfile, at: &[f64], scale: &[f64], trials: &[&Trial], model: &impl Predict) -> Vec<Vec<f64>> {
    const STEP: f64 = 0.01;
    let side = |i: usize, by: f64| {
        let mut there = at.to_vec();
        there[i] += by * scale[i];
        residuals(d, &there, trials, model)
    };
    let column = |i: usize| {
        let (up, down) = (side(i, STEP), side(i, -STEP));
        up.into_iter().zip(down).map(|(u, l)| (u - l) / (2.0 * STEP)).collect()
    };
    (0..at.len()).into_par_iter().map(column).collect()
}

/// The step within its bounds that makes `s·rows·s/2 + slope·s` least, damped; one coordinate after the other.
fn bounded(rows: &[Vec<f64>], slope: &[f64], room: &[[f64; 2]], damping: f64) -> Vec<f64> {
    let mut step = vec![0.0f64; slope.len()];
    for _ in 0..200 {
        let mut most = 0.0f64;
        for i in 0..step.len() {
            let curve = rows[i][i] * (1.0 + damping) + PULL;
            let others: f64 = (0..step.len()).filter(|j| *j != i).map(|j| rows[i][j] * step[j]).sum();
            // A step beyond a half leaves where the derivatives were taken.
            let next = (-(slope[i] + others) / curve).clamp(room[i][0].max(-0.5), room[i][1].min(0.5));
            most = most.max((next - step[i]).abs());
            step[i] = next;
        }
        if most < 1e-9 {
            break;
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Sizes, gemm};
    use crate::random::{hash, normal};
    use tilewright_ir::DType;
    use tilewright_templates::gemm::{Cluster, GemmConfig, GemmProblem, Schedule, WgmmaConfig};

    fn configs() -> Vec<GemmConfig> {
        let c = |tile, stages, wgs| WgmmaConfig::new(tile, stages, wgs);
        [
            c([64, 64, 64], 8, 1),
            c([64, 64, 64], 2, 1),
            c([128, 128, 64], 6, 2),
            c([128, 256, 64], 4, 2),
            c([128, 256, 64], 2, 2),
            WgmmaConfig { schedule: Schedule::PingPong, ..c([64, 256, 64], 5, 2) },
            WgmmaConfig { cluster: Cluster::TwoM, ..c([256, 128, 64], 4, 2) },
        ]
        .map(GemmConfig::Wgmma)
        .to_vec()
    }

    fn model(d: &DeviceProfile, t: &Trial) -> f64 {
        let Ok(config) = t.point.to_string().parse::<GemmConfig>() else { return f64::INFINITY };
        let Some(s) = Sizes::of(&t.task) else { return f64::INFINITY };
        gemm::estimate(d, &GemmProblem::plain(DType::BF16), &config, 1, s, None).seconds
    }

    fn trials(d: &DeviceProfile, shapes: &[[i64; 3]], noise: f64) -> Vec<Trial> {
        let mut list = Vec::new();
        for [m, n, k] in shapes {
            for c in configs() {
                let sizes = [("m", *m), ("n", *n), ("k", *k)].map(|(k, v)| (k.to_string(), v)).into();
                let task = Task { op: "gemm".into(), class: "bf16".into(), sizes };
                let mut t = Trial { task, point: c.to_string().parse().unwrap(), seconds: 1.0, device: d.name.clone() };
                t.seconds = model(d, &t) * (noise * normal(hash(5, &[&t.task.to_string(), &c.to_string()]))).exp();
                list.push(t);
            }
        }
        list
    }

    const SHAPES: [[i64; 3]; 9] = [
        [8192, 8192, 8192],
        [4096, 4096, 4096],
        [2048, 2048, 2048],
        [512, 4096, 4096],
        [16, 8192, 8192],
        [64, 28672, 8192],
        [128, 128, 128],
        [1024, 1024, 16384],
        [16384, 1024, 256],
    ];

    #[test]
    fn known_coefficients_are_found_again() {
        let h200 = DeviceProfile::named("H200").unwrap();
        let truth = Coefficients { tensor: 0.8, latency: 1.5, memory: 0.85, launch: 1.8, ..Coefficients::default() };
        let list = trials(&with(h200, &truth), &SHAPES, 0.01);
        let report = run(h200, &list, &model).unwrap();
        let c = report.coefficients;
        for (name, found, wanted) in [
            ("tensor", c.tensor, truth.tensor),
            ("latency", c.latency, truth.latency),
            ("memory", c.memory, truth.memory),
            ("launch", c.launch, truth.launch),
        ] {
            assert!((found / wanted - 1.0).abs() < 0.08, "{name}: {found}, {wanted}");
        }
        assert!(report.before.error > 1.1 && report.after.error < 1.02, "{report}");
        let left_out = report.left_out.unwrap();
        assert!(left_out.error < report.before.error && left_out.top1[0] < 0.02, "{report}");
        // Decoding, softmax, mma.sync and the epilogue of a split: no trial here has them.
        let start = Coefficients::default();
        for (found, was) in [(c.softmax, start.softmax), (c.slots_warp, start.slots_warp), (c.copy_instructions, 8.0)] {
            assert_eq!(found, was);
        }
        let read: DeviceProfile =
            toml::from_str(&format!("{}\n{}", include_str!("../../profiles/h200.toml"), report.toml())).unwrap();
        assert_eq!(read.coefficients(), c);
    }

    #[test]
    fn one_trial_moves_little_and_nothing_out_of_bounds() {
        let h200 = DeviceProfile::named("H200").unwrap();
        let mut list = trials(h200, &SHAPES[..1], 0.0);
        list.truncate(1);
        assert!(run(h200, &list, &model).unwrap().moved.is_empty());
        // A time that nothing explains: bounds hold.
        list[0].seconds *= 1e3;
        let report = run(h200, &list, &model).unwrap();
        for (v, row) in report.coefficients.values().iter().zip(Coefficients::TABLE) {
            assert!((row.bounds[0]..=row.bounds[1]).contains(v), "{} = {v}", row.name);
        }
        assert_eq!(report.left_out, None);
    }

    #[test]
    fn other_devices_and_times_of_nothing_are_refused() {
        let h200 = DeviceProfile::named("H200").unwrap();
        let good = trials(h200, &SHAPES[..1], 0.0);
        let with = |change: fn(&mut Trial)| {
            let mut list = good.clone();
            change(&mut list[2]);
            run(h200, &list, &model)
        };
        assert!(with(|t| t.device = "A100".into()).unwrap_err().to_string().contains("measured on A100"));
        assert!(with(|t| t.seconds = 0.0).unwrap_err().to_string().contains("took 0 s"));
        assert_eq!(with(|t| t.point = Point::new([("kind", "other")])).unwrap().unknown, 1);
        assert_eq!(run(h200, &[], &model), Err(FitError::Empty(0)));
    }
}
