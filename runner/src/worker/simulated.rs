//! No device: what the simulated device of `autotune` says, as a process that shows it. Whoever it says crashes ends by a signal,
//! whoever hangs is silent until it is killed.

use super::{Bench, Found};
use crate::wire::Ready;
use std::time::Duration;
use tilewright_autotune::search::{Failure, Sample};

/// One candidate in so many crashes, hangs or is wrong.
const CRASHES: u64 = 23;
const HANGS: u64 = 29;
const WRONG: u64 = 19;
/// How far the model is off for a candidate, and a run from the next, at most.
const MODEL_OFF: f64 = 0.15;
const NOISE: f64 = 0.01;

pub(super) struct Simulated {
    seed: u64,
}

impl Simulated {
    pub fn new(seed: u64) -> Self {
        Simulated { seed }
    }

    fn draw(&self, found: &Found<'_>, what: &str) -> u64 {
        let text = format!("{} {} {} {what}", self.seed, found.task, found.point);
        let hash = blake3::hash(text.as_bytes());
        hash.as_bytes()[..8].iter().fold(0, |all, b| all << 8 | u64::from(*b))
    }

    /// A number in -1..1.
    fn unit(&self, found: &Found<'_>, what: &str) -> f64 {
        (self.draw(found, what) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

impl Bench for Simulated {
    fn ready(&self) -> Ready {
        let notes = vec!["times are drawn from a seed: good for tests of the tuner only".to_string()];
        Ready { name: format!("simulated:{}", self.seed), capabilities: None, notes }
    }

    fn check(&mut self, found: &Found<'_>) -> Result<(), Failure> {
        if self.draw(found, "crash").is_multiple_of(CRASHES) {
            std::process::abort();
        }
        if self.draw(found, "hang").is_multiple_of(HANGS) {
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
        if self.draw(found, "wrong").is_multiple_of(WRONG) {
            return Err(Failure::Wrong("element 0 of d".into()));
        }
        Ok(())
    }

    fn time(&mut self, found: &Found<'_>, from: u32, count: u32) -> Result<Vec<Sample>, Failure> {
        let truth = found.entry.model_seconds * (1.0 + MODEL_OFF * self.unit(found, "truth"));
        let run = |n: u32| Sample::of(truth * (1.0 + NOISE * self.unit(found, &format!("run {n}"))));
        Ok((from..from + count).map(run).collect())
    }
}
