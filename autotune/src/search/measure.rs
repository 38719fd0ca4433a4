//! What a search asks of a device.

use crate::space::Point;
use crate::task::Task;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Revision of how times are taken: cold L2, random data, what a sample is. Times of different ones are not compared.
pub const PROTOCOL: u32 = 1;

/// A device that candidates run on.
///
/// Whoever implements it keeps what goes wrong away from the search: a kernel that crashes or hangs runs in a process of its own.
/// An answer may depend on the arguments and the hardware, not on what was asked before, so that a search that is killed and goes
/// on asks the same questions and no others.
pub trait Measure {
    /// The numeric gate: outputs poisoned, then compared with the reference. Called once before the candidate's times count.
    fn check(&mut self, task: &Task, point: &Point) -> Result<(), Failure>;

    /// Runs `from .. from + count` of a candidate, a sample each.
    fn time(&mut self, task: &Task, point: &Point, from: u32, count: u32) -> Result<Vec<Sample>, Failure>;

    /// Finalists in turns: each once, then each again, rounds `from .. from + rounds`. One answer a point, in their order; one
    /// that fails leaves the others theirs.
    fn interleaved(&mut self, task: &Task, points: &[Point], from: u32, rounds: u32) -> Vec<Result<Vec<Sample>, Failure>>;

    /// Whether a point can be run here: a pack holds some of a space's points only. Points that cannot are passed over.
    fn available(&self, _task: &Task, _point: &Point) -> bool {
        true
    }

    /// The identity of the kernels that are run for a point (BLAKE3 of their PTX), where it is known. It is noted in the log, and
    /// a log that knows the point by another one is refused.
    fn artifact(&mut self, _task: &Task, _point: &Point) -> Option<String> {
        None
    }
}

/// One run of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Its time. Logs hold whole picoseconds, so that it comes back as it was.
    #[serde(rename = "ps", with = "picoseconds")]
    pub seconds: f64,
    /// Clock of the SMs, MHz.
    #[serde(rename = "mhz", default, skip_serializing_if = "Option::is_none")]
    pub sm_clock_mhz: Option<u32>,
    /// Clock of the memory, MHz.
    #[serde(rename = "memory_mhz", default, skip_serializing_if = "Option::is_none")]
    pub memory_clock_mhz: Option<u32>,
    /// Temperature, degrees Celsius.
    #[serde(rename = "celsius", default, skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<u32>,
    /// Power, milliwatts.
    #[serde(rename = "mw", default, skip_serializing_if = "Option::is_none")]
    pub power_mw: Option<u32>,
}

/// Why a candidate is never chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Its numbers are wrong.
    #[error("wrong: {0}")]
    Wrong(String),
    /// It could not be run.
    #[error("crashed: {0}")]
    Crashed(String),
    /// It did not end within this time.
    #[error("hung: no end after {0:?}")]
    Hung(Duration),
    /// It could not be compiled.
    #[error("build: {0}")]
    Build(String),
    /// The device or its driver does not take it.
    #[error("refused: {0}")]
    Refused(String),
}

impl Sample {
    /// A run of which only the time is known.
    pub fn of(seconds: f64) -> Self {
        Sample { seconds, sm_clock_mhz: None, memory_clock_mhz: None, temperature_c: None, power_mw: None }
    }

    /// The same as a log gives it back: to a picosecond. A time that is none, or is longer than 200 days, is a failure.
    pub fn noted(self) -> Result<Self, Failure> {
        let seconds = self.seconds;
        if !seconds.is_finite() || seconds <= 0.0 || seconds * picoseconds::A_SECOND >= u64::MAX as f64 {
            return Err(Failure::Crashed(format!("a run took {seconds} seconds")));
        }
        Ok(Sample { seconds: picoseconds::seconds(picoseconds::of(seconds)), ..self })
    }
}

/// Times as whole numbers.
mod picoseconds {
    use serde::{Deserialize, Deserializer, Serializer};

    pub const A_SECOND: f64 = 1e12;

    pub fn of(seconds: f64) -> u64 {
        ((seconds * A_SECOND).round() as u64).max(1)
    }

    pub fn seconds(ps: u64) -> f64 {
        ps as f64 / A_SECOND
    }

    pub fn serialize<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(of(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        u64::deserialize(d).map(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_back_as_they_were_noted() {
        for seconds in [1e-12, 4.7e-6, 0.1 + 0.2, 1_234.567_890_123] {
            let noted = Sample { sm_clock_mhz: Some(1980), ..Sample::of(seconds) }.noted().unwrap();
            let text = serde_json::to_string(&noted).unwrap();
            assert_eq!(serde_json::from_str::<Sample>(&text).unwrap(), noted, "{text}");
            assert!((noted.seconds - seconds).abs() <= 1e-12);
        }
        let text = serde_json::to_string(&Sample::of(4.7e-6)).unwrap();
        assert_eq!(text, "{\"ps\":4700000}");
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(Sample::of(bad).noted().is_err(), "{bad}");
        }
    }
}
