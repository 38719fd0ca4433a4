//! A device without hardware: its times are the model's, each point's times a hidden factor, with noise, outliers and drift; some
//! points are wrong, crash or hang. Everything follows from a seed and the question, whatever was asked before.

use super::measure::{Failure, Measure, Sample};
use crate::random::{hash, normal, unit};
use crate::space::Point;
use crate::task::Task;
use std::collections::HashMap;
use std::time::Duration;

/// What is hidden from the search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hidden {
    /// Deviation of the logarithm of a point's factor: how far off the model is.
    pub spread: f64,
    /// The part of its variance that points share: each value of an axis, and each pair of values of two axes, has a factor of
    /// its own, as a cost has that the model does not know. The rest is the point's alone.
    pub shared: f64,
    /// Deviation of the logarithm of a run's time.
    pub noise: f64,
    /// Part of the runs that take 1.5 to 5 times as long.
    pub outliers: f64,
    /// Part of the points that are wrong, crash or hang, a third each.
    pub faults: f64,
    /// How far the clock wanders over time, as a part of it: runs asked for at once and finalists of a round see the same clock.
    pub drift: f64,
}

/// The device. `model` gives the seconds that times are around.
#[derive(Clone, Debug)]
pub struct Simulated<M> {
    seed: u64,
    hidden: Hidden,
    model: M,
    known: HashMap<Task, HashMap<Point, Truth>>,
    /// Questions it was asked.
    pub asked: u64,
}

/// What is true of a point.
#[derive(Clone, Debug)]
struct Truth {
    seconds: f64,
    fault: Option<Failure>,
    /// A crash that shows only when it is timed.
    late: bool,
    name: u64,
}

impl Default for Hidden {
    fn default() -> Self {
        Hidden { spread: 0.15, shared: 0.75, noise: 0.01, outliers: 0.02, faults: 0.15, drift: 0.005 }
    }
}

impl<M: Fn(&Task, &Point) -> f64> Simulated<M> {
    /// A device.
    pub fn new(seed: u64, hidden: Hidden, model: M) -> Self {
        Simulated { seed, hidden, model, known: HashMap::new(), asked: 0 }
    }

    /// What is wrong with a point, if anything is.
    pub fn fault(&mut self, task: &Task, p: &Point) -> Option<Failure> {
        self.truth(task, p).fault.clone()
    }

    /// Seconds a point really takes; one that is wrong is fast.
    pub fn seconds(&mut self, task: &Task, p: &Point) -> f64 {
        self.truth(task, p).seconds
    }

    fn truth(&mut self, task: &Task, p: &Point) -> &Truth {
        let (seed, hidden) = (self.seed, self.hidden);
        let points = self.known.entry(task.clone()).or_default();
        points.entry(p.clone()).or_insert_with(|| {
            let (of, id) = (hash(seed, &[&task.to_string()]), p.to_string());
            let word = |what: &str| hash(of, &[what, &id]);
            let kinds = [
                Failure::Wrong("d[3, 5] is 0.5 off".into()),
                Failure::Crashed("illegal memory access".into()),
                Failure::Hung(Duration::from_secs(10)),
            ];
            let fault = (unit(word("fault")) < hidden.faults).then(|| kinds[(word("kind") % 3) as usize].clone());
            let fast = if fault.is_some() { 0.5 } else { 1.0 };
            let seconds = (self.model)(task, p) * hidden.factor(of, p) * fast;
            let late = matches!(fault, Some(Failure::Crashed(_))) && word("late").is_multiple_of(2);
            Truth { seconds, fault, late, name: word("name") }
        })
    }

    /// A run when the clock is at this part of its way.
    fn sample(&self, truth: &Truth, kind: u64, run: u32, clock: f64) -> Sample {
        let h = hash(truth.name ^ kind ^ u64::from(run) << 8, &[]);
        let outlier = if unit(h ^ 1) < self.hidden.outliers { 1.5 + 3.5 * unit(h ^ 2) } else { 1.0 };
        let slow = 1.0 + self.hidden.drift * (std::f64::consts::TAU * clock).sin();
        let seconds = truth.seconds * slow * outlier * (self.hidden.noise * normal(h)).exp();
        Sample { sm_clock_mhz: Some((1980.0 / slow) as u32), ..Sample::of(seconds) }
    }
}

impl Hidden {
    /// How far off the model is for a point.
    fn factor(&self, seed: u64, p: &Point) -> f64 {
        let part = |words: &[&str]| normal(hash(seed, words));
        let axes: Vec<(&str, &str)> = p.axes().collect();
        let (mut shared, mut parts) = (0.0, 0.0);
        for (i, a) in axes.iter().enumerate() {
            // Points have most values in common, and few pairs: a value counts for as much as four pairs.
            shared += 2.0 * part(&["axis", a.0, a.1]);
            parts += 4.0;
            for b in &axes[..i] {
                shared += part(&["pair", a.0, a.1, b.0, b.1]);
                parts += 1.0;
            }
        }
        let own = part(&["point", &p.to_string()]);
        (self.spread * (self.shared.sqrt() * shared / f64::max(parts, 1.0).sqrt() + (1.0 - self.shared).sqrt() * own)).exp()
    }
}

impl<M: Fn(&Task, &Point) -> f64> Measure for Simulated<M> {
    fn check(&mut self, task: &Task, p: &Point) -> Result<(), Failure> {
        self.asked += 1;
        let truth = self.truth(task, p);
        truth.fault.clone().filter(|_| !truth.late).map_or(Ok(()), Err)
    }

    fn time(&mut self, task: &Task, p: &Point, from: u32, count: u32) -> Result<Vec<Sample>, Failure> {
        self.asked += 1;
        let truth = self.truth(task, p).clone();
        if let Some(failure) = truth.fault.clone().filter(|f| !matches!(f, Failure::Wrong(_))) {
            return Err(failure);
        }
        let clock = unit(truth.name ^ u64::from(from));
        Ok((from..from + count).map(|run| self.sample(&truth, 1, run, clock)).collect())
    }

    fn interleaved(&mut self, task: &Task, points: &[Point], from: u32, rounds: u32) -> Vec<Result<Vec<Sample>, Failure>> {
        self.asked += 1;
        let clocks: Vec<f64> = (from..from + rounds).map(|round| unit(hash(self.seed, &["round"]) ^ u64::from(round))).collect();
        let turns = |p: &Point| {
            let truth = self.truth(task, p).clone();
            if let Some(failure) = truth.fault.clone().filter(|f| !matches!(f, Failure::Wrong(_))) {
                return Err(failure);
            }
            Ok((from..).zip(&clocks).map(|(round, clock)| self.sample(&truth, 2, round, *clock)).collect())
        };
        points.iter().map(turns).collect()
    }
}
