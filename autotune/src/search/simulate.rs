//! A device without hardware: its times are the model's, each point's times a hidden factor, with noise, outliers and drift; some
//! points are wrong, crash or hang. Everything follows from a seed and the question, whatever was asked before.

use super::measure::{Failure, Measure, Sample};
use crate::random::{hash, normal, unit};
use crate::space::Point;
use crate::task::Task;
use std::time::Duration;

/// What is hidden from the search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hidden {
    /// Deviation of the logarithm of a point's factor: how far off the model is.
    pub spread: f64,
    /// The part of its variance that points share: each value of an axis, and each pair of values of two axes, has a factor of its
    /// own, as a cost has that the model does not know. The rest is the point's alone.
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
    /// Questions it was asked.
    pub asked: u64,
}

impl Default for Hidden {
    fn default() -> Self {
        Hidden { spread: 0.15, shared: 0.75, noise: 0.01, outliers: 0.02, faults: 0.15, drift: 0.005 }
    }
}

impl<M: Fn(&Task, &Point) -> f64> Simulated<M> {
    /// A device.
    pub fn new(seed: u64, hidden: Hidden, model: M) -> Self {
        Simulated { seed, hidden, model, asked: 0 }
    }

    /// What is wrong with a point, if anything is.
    pub fn fault(&self, task: &Task, p: &Point) -> Option<Failure> {
        let (task, id) = (task.to_string(), p.to_string());
        let of = |what: &str| hash(self.seed, &[what, &task, &id]);
        let kinds = [
            || Failure::Wrong("d[3, 5] is 0.5 off".into()),
            || Failure::Crashed("illegal memory access".into()),
            || Failure::Hung(Duration::from_secs(10)),
        ];
        (unit(of("fault")) < self.hidden.faults).then(|| kinds[(of("kind") % 3) as usize]())
    }

    /// Seconds a point really takes; one that is wrong is fast.
    pub fn truth(&self, task: &Task, p: &Point) -> f64 {
        let id = task.to_string();
        let part = |words: &[&str]| normal(hash(self.seed, words));
        let axes: Vec<(&str, &str)> = p.axes().collect();
        let (mut shared, mut parts) = (0.0, 0.0);
        for (i, a) in axes.iter().enumerate() {
            // Kernels of one template have most values in common, so one axis counts for more than a pair.
            shared += 2.0 * part(&["axis", &id, a.0, a.1]);
            parts += 4.0;
            for b in &axes[..i] {
                shared += part(&["pair", &id, a.0, a.1, b.0, b.1]);
                parts += 1.0;
            }
        }
        let own = part(&["point", &id, &p.to_string()]);
        let s = self.hidden.shared;
        let log = self.hidden.spread * (s.sqrt() * shared / f64::max(parts, 1.0).sqrt() + (1.0 - s).sqrt() * own);
        let fast = if self.fault(task, p).is_some() { 0.5 } else { 1.0 };
        (self.model)(task, p) * log.exp() * fast
    }

    /// A run when the clock is at this part of its way.
    fn sample(&self, task: &Task, p: &Point, truth: f64, run: &str, clock: f64) -> Sample {
        let h = hash(self.seed, &[run, &task.to_string(), &p.to_string()]);
        let outlier = if unit(h ^ 1) < self.hidden.outliers { 1.5 + 3.5 * unit(h ^ 2) } else { 1.0 };
        let slow = 1.0 + self.hidden.drift * (std::f64::consts::TAU * clock).sin();
        let seconds = truth * slow * outlier * (self.hidden.noise * normal(h)).exp();
        Sample { sm_clock_mhz: Some((1980.0 / slow) as u32), ..Sample::of(seconds) }
    }
}

impl<M: Fn(&Task, &Point) -> f64> Measure for Simulated<M> {
    fn check(&mut self, task: &Task, p: &Point) -> Result<(), Failure> {
        self.asked += 1;
        // Half of those that crash pass the gate and crash when they are timed.
        let late = hash(self.seed, &["late", &task.to_string(), &p.to_string()]).is_multiple_of(2);
        match self.fault(task, p) {
            Some(Failure::Crashed(_)) if late => Ok(()),
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn time(&mut self, task: &Task, p: &Point, from: u32, count: u32) -> Result<Vec<Sample>, Failure> {
        self.asked += 1;
        match self.fault(task, p) {
            None | Some(Failure::Wrong(_)) => {}
            Some(failure) => return Err(failure),
        }
        let truth = self.truth(task, p);
        let clock = unit(hash(self.seed, &["clock", &task.to_string(), &p.to_string(), &from.to_string()]));
        Ok((from..from + count).map(|i| self.sample(task, p, truth, &format!("run {i}"), clock)).collect())
    }

    fn interleaved(&mut self, task: &Task, points: &[Point], from: u32, rounds: u32) -> Vec<Result<Vec<Sample>, Failure>> {
        self.asked += 1;
        let clock = |round: u32| unit(hash(self.seed, &["clock", &task.to_string(), &round.to_string()]));
        let turns = |p: &Point| match self.fault(task, p) {
            None | Some(Failure::Wrong(_)) => {
                let truth = self.truth(task, p);
                Ok((from..from + rounds).map(|r| self.sample(task, p, truth, &format!("round {r}"), clock(r))).collect())
            }
            Some(failure) => Err(failure),
        };
        points.iter().map(turns).collect()
    }
}
