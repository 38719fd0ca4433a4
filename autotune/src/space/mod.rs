//! Spaces: what may be tried for a class, and why the rest may not.

mod point;
#[cfg(test)]
pub(crate) mod samples;

pub use point::{Point, PointError};

use crate::device::DeviceProfile;
use crate::estimate::{Counts, Estimate};
use crate::task::Task;
use tilewright_templates::plan::OpPlan;

/// An axis of a space and what it may be, in its natural order: neighbours of a value stand beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Its name in ids.
    pub name: &'static str,
    /// Its values.
    pub values: Vec<String>,
}

/// Why a point may not be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {why}")]
pub struct Illegal {
    /// The constraint: `config` for the template's own, `resources` for the compiler's estimate, ...
    pub rule: &'static str,
    /// With the numbers that break it.
    pub why: String,
}

/// The configs of one class of an op on one target, as points.
///
/// What is legal is the template's and the compiler's word: the same checks and the same estimate of resources that a build makes.
pub trait Space: Sync {
    /// Its axes.
    fn axes(&self) -> Vec<Axis>;

    /// Every point by ascending id, legal or not.
    fn points(&self) -> Vec<Point>;

    /// Whether a point passes the rules that need no compiler: a fast answer for thousands of points.
    fn promising(&self, task: &Task, point: &Point) -> Result<(), Illegal> {
        self.check(task, point)
    }

    /// Whether a point can be built and is right for a task; cheap rules first, the compiler's estimate last.
    fn check(&self, task: &Task, point: &Point) -> Result<(), Illegal>;

    /// Points that differ by one step along one axis (where the template ties axes together, along those), by ascending id.
    fn neighbours(&self, point: &Point) -> Vec<Point>;

    /// The plan of a legal point: its launches and kernels, ready to be compiled.
    fn plan(&self, point: &Point) -> Result<OpPlan, Illegal>;

    /// What the model says of a legal point. `counts` are what its machine code and the emulator are known to do; without them the
    /// model uses what the template promises.
    fn estimate(&self, device: &DeviceProfile, task: &Task, point: &Point, counts: Option<&Counts>) -> Estimate;
}
