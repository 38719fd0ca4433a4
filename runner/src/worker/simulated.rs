//! No device: what the simulated device of `autotune` says, as a process that shows it. Whoever it says crashes is ended by a signal,
//! whoever hangs is silent until it is killed.

use super::{Bench, Found};
use crate::wire::Ready;
use std::time::Duration;
use tilewright_autotune::search::{Failure, Hidden, Measure, Sample, Simulated as Device};
use tilewright_autotune::space::Point;
use tilewright_autotune::task::Task;

pub(super) struct Simulated {
    seed: u64,
}

impl Simulated {
    pub fn new(seed: u64) -> Self {
        Simulated { seed }
    }

    /// The device for a candidate: its times are around the model's.
    fn device(&self, found: &Found<'_>) -> Device<impl Fn(&Task, &Point) -> f64> {
        let seconds = found.entry.model_seconds;
        Device::new(self.seed, Hidden::default(), move |_, _| seconds)
    }
}

impl Bench for Simulated {
    fn ready(&self) -> Ready {
        let notes = vec!["times are drawn from a seed: good for tests of the tuner only".to_string()];
        Ready { name: format!("simulated:{}", self.seed), capabilities: None, notes }
    }

    fn check(&mut self, found: &Found<'_>) -> Result<(), Failure> {
        self.device(found).check(found.task, found.point).map_err(shown)
    }

    fn time(&mut self, found: &Found<'_>, from: u32, count: u32) -> Result<Vec<Sample>, Failure> {
        self.device(found).time(found.task, found.point, from, count).map_err(shown)
    }

    fn turn(&mut self, found: &Found<'_>, round: u32) -> Result<Vec<Sample>, Failure> {
        let point = std::slice::from_ref(found.point);
        let turns = self.device(found).interleaved(found.task, point, round, 1);
        turns.into_iter().next().unwrap_or_else(|| Ok(Vec::new())).map_err(shown)
    }
}

/// Shows a failure where it can be shown.
fn shown(failure: Failure) -> Failure {
    match failure {
        Failure::Crashed(_) => std::process::abort(),
        Failure::Hung(_) => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        other => other,
    }
}
