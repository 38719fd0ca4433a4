//! Beams of the sensors that are simulated.

use std::fmt;
use std::str::FromStr;

/// A spinning LiDAR on the roof of a car.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensor {
    /// Velodyne HDL-64E, as KITTI has it: 64 beams, some 124000 points.
    Hdl64,
    /// Velodyne HDL-32E, as nuScenes has it: 32 beams, some 34000 points.
    Hdl32,
    /// A rig as Waymo's: 64 beams with two returns and four short-range sensors, some 190000 points.
    Waymo,
}

/// A name of no sensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no sensor `{0}`: there are hdl64, hdl32, waymo")]
pub struct UnknownSensor(String);

/// One spinning head.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Where it is, from the car's main head, in metres.
    pub at: [f64; 3],
    /// Elevation of each beam, in degrees.
    pub beams: Vec<f64>,
    /// Firings of a beam in a turn.
    pub steps: u32,
    /// Nothing beyond comes back, in metres.
    pub range: f64,
    /// Nothing nearer comes back, in metres.
    pub nearest: f64,
    /// Echoes kept of a firing.
    pub returns: u32,
    /// Part of the firings of which nothing comes back, whatever they meet.
    pub dropped: f64,
    /// Deviation of a range, in metres.
    pub sigma: f64,
}

impl Sensor {
    /// Every sensor.
    pub const ALL: [Sensor; 3] = [Sensor::Hdl64, Sensor::Hdl32, Sensor::Waymo];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Sensor::Hdl64 => "hdl64",
            Sensor::Hdl32 => "hdl32",
            Sensor::Waymo => "waymo",
        }
    }

    /// Height of the main head above the ground, in metres.
    pub(crate) fn height(self) -> f64 {
        match self {
            Sensor::Hdl64 => 1.73,
            Sensor::Hdl32 => 1.84,
            Sensor::Waymo => 2.1,
        }
    }

    /// How wide the streets are where it drives, KITTI's suburb being 1.
    pub(crate) fn width(self) -> f64 {
        match self {
            Sensor::Hdl64 => 1.0,
            Sensor::Hdl32 => 1.5,
            Sensor::Waymo => 1.4,
        }
    }

    /// Its heads.
    pub(crate) fn heads(self) -> Vec<Head> {
        let head = |beams, steps, range| Head {
            at: [0.0; 3],
            beams,
            steps,
            range,
            nearest: 2.5,
            returns: 1,
            dropped: 0.05,
            sigma: 0.012,
        };
        match self {
            // Two blocks of lasers, of which the lower is spaced wider (HDL-64E manual, appendix).
            Sensor::Hdl64 => {
                let beams = fan(2.0, -8.33, 32).into_iter().chain(fan(-8.83, -24.33, 32)).collect();
                vec![head(beams, 2083, 80.0)]
            }
            Sensor::Hdl32 => vec![Head { dropped: 0.15, ..head(fan(10.67, -30.67, 32), 1084, 110.0) }],
            Sensor::Waymo => {
                let top = Head { returns: 2, ..head(fan(2.4, -17.6, 64), 2650, 75.0) };
                // Around the car, below the roof, looking down to the ground beside it.
                let sides = [[3.5, 0.0], [-1.2, 0.0], [1.5, 1.1], [1.5, -1.1]];
                let side = |[x, y]: [f64; 2]| Head {
                    at: [x, y, -1.2],
                    nearest: 1.0,
                    ..head(fan(30.0, -90.0, 200).into_iter().step_by(4).collect(), 150, 20.0)
                };
                [top].into_iter().chain(sides.into_iter().map(side)).collect()
            }
        }
    }
}

impl fmt::Display for Sensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Sensor {
    type Err = UnknownSensor;

    fn from_str(text: &str) -> Result<Self, UnknownSensor> {
        Sensor::ALL.into_iter().find(|s| s.name() == text).ok_or_else(|| UnknownSensor(text.into()))
    }
}

/// So many angles, evenly from the first to the last.
fn fan(first: f64, last: f64, n: u32) -> Vec<f64> {
    (0..n).map(|i| first + (last - first) * f64::from(i) / f64::from(n - 1)).collect()
}
