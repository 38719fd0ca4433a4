//! A device without hardware, for tests of the search: its times are the model's, each candidate's times a hidden factor, with
//! noise; some candidates are wrong, crash or hang. Everything follows from a seed, whatever the order of questions.

use super::candidate::Candidate;
use super::cost::Model;
use super::measure::{Broken, Failure, Measure, Verdict};
use super::work::NetworkWork;
use crate::random::{hash, normal, unit};
use std::collections::HashMap;

/// What is hidden from the search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hidden {
    /// Deviation of the logarithm of a candidate's factor.
    pub spread: f64,
    /// Deviation of a run's time, as a part of it.
    pub noise: f64,
    /// Part of the runs that take 1.5 to 5 times as long.
    pub outliers: f64,
    /// Part of the candidates that are wrong, crash or hang, a third each.
    pub faults: f64,
}

/// The device.
#[derive(Debug)]
pub struct Simulated<'a> {
    model: Model<'a>,
    work: &'a NetworkWork,
    seed: u64,
    hidden: Hidden,
    copies: f64,
    known: HashMap<(usize, Candidate), Truth>,
    /// Times it was asked for a verdict or a time.
    pub asked: u64,
    /// Runs with a candidate whose numbers are wrong.
    pub wasted: u64,
}

/// What is true of a candidate.
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
        Hidden { spread: 0.1, noise: 0.01, outliers: 0.02, faults: 0.15 }
    }
}

impl<'a> Simulated<'a> {
    /// A device whose times are around the model's.
    pub fn new(model: Model<'a>, work: &'a NetworkWork, seed: u64, hidden: Hidden) -> Self {
        let copies = model.copies(work).iter().map(|c| c.seconds).sum();
        Simulated { model, work, seed, hidden, copies, known: HashMap::new(), asked: 0, wasted: 0 }
    }

    /// What is wrong with a candidate, if anything is.
    pub fn fault(&mut self, group: usize, c: &Candidate) -> Option<Failure> {
        self.truth(group, c).fault.clone()
    }

    /// Seconds a group really takes with a candidate. Those that are wrong are fast.
    pub fn group_seconds(&mut self, group: usize, c: &Candidate) -> f64 {
        self.truth(group, c).seconds
    }

    /// Seconds a network really takes.
    pub fn seconds(&mut self, choice: &[Candidate]) -> f64 {
        self.copies + choice.iter().enumerate().map(|(g, c)| self.group_seconds(g, c)).sum::<f64>()
    }

    fn truth(&mut self, group: usize, c: &Candidate) -> &Truth {
        let (model, work, seed, hidden) = (self.model, self.work, self.seed, self.hidden);
        self.known.entry((group, *c)).or_insert_with(|| {
            let id = c.to_string();
            let of = |what: &str| hash(seed, &[what, &work.groups[group].name, &id]);
            let kinds = [
                Failure::Wrong("row 3 is off by 0.5".into()),
                Failure::Crashed("illegal memory access".into()),
                Failure::Hung("no end after 10 s".into()),
            ];
            let fault = (unit(of("fault")) < hidden.faults).then(|| kinds[(of("kind") % 3) as usize].clone());
            let [map, lists, layers] = model.group(work, group, c).parts();
            let factor = (hidden.spread * normal(of("factor"))).exp() * if fault.is_some() { 0.5 } else { 1.0 };
            let late = matches!(fault, Some(Failure::Crashed(_))) && of("late") % 2 == 0;
            Truth { seconds: map + (lists + layers) * factor, fault, late, name: of("name") }
        })
    }
}

impl Measure for Simulated<'_> {
    fn check(&mut self, group: usize, c: &Candidate) -> Verdict {
        self.asked += 1;
        let truth = self.truth(group, c);
        match &truth.fault {
            Some(why) if !truth.late => Err(why.clone()),
            _ => Ok(()),
        }
    }

    fn time(&mut self, choice: &[Candidate], sample: u32) -> Result<f64, Broken> {
        self.asked += 1;
        let (mut seconds, mut h) = (self.copies, hash(self.seed, &[]) ^ u64::from(sample));
        for (group, c) in choice.iter().enumerate() {
            let truth = self.truth(group, c);
            seconds += truth.seconds;
            h = h.rotate_left(7).wrapping_mul(0x100_0000_01b3) ^ truth.name;
            match truth.fault.clone() {
                Some(Failure::Wrong(_)) => self.wasted += 1,
                Some(failure) => return Err(Broken { group, failure }),
                None => {}
            }
        }
        let noise = 1.0 + self.hidden.noise * normal(h);
        let outlier = if unit(h ^ 1) < self.hidden.outliers { 1.5 + 3.5 * unit(h ^ 2) } else { 1.0 };
        Ok(seconds * noise.max(0.5) * outlier)
    }
}
