//! Spaces: what may be tried for a class, and why the rest may not.
//!
//! | file | holds |
//! |---|---|
//! | `point` | points and their ids |
//! | `rule`, `listed` | kinds of kernels with their axes, rules with reasons; a space made of them |
//! | `compiled` | the compiler's word on a plan: what it requires, whether its kernels fit |
//! | `gemm`, `gemm_point`, `gemm_rules`, `weight` | matrix multiplication, dense and of packed weights |
//! | `grouped` | rows sorted by expert |
//! | `attention`, `decode` | the forward, and over a paged cache |

mod attention;
mod compiled;
mod decode;
mod gemm;
mod gemm_point;
mod gemm_rules;
mod grouped;
mod listed;
mod point;
mod rule;
#[cfg(test)]
pub(crate) mod samples;
mod weight;

pub use point::{Point, PointError};

use crate::device::DeviceProfile;
use crate::estimate::{Counts, Estimate};
use crate::task::Task;
use listed::Listed;
use tilewright_ir::Arch;
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
/// What is legal is the template's and the compiler's word: the same checks and the same estimate of resources that a build
/// makes.
pub trait Space: Send + Sync {
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

    /// What the model says of a legal point. `counts` are what its machine code and the emulator are known to do; without them
    /// the model uses what the template promises.
    fn estimate(&self, device: &DeviceProfile, task: &Task, point: &Point, counts: Option<&Counts>) -> Estimate;
}

/// No space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpaceError {
    /// An op that has nothing to tune.
    #[error("op `{op}` has no space of configs: expected one of {}", OPS.join(", "))]
    Op {
        /// The op.
        op: String,
    },
    /// A class that is none.
    #[error("{op}: {why}")]
    Class {
        /// The op.
        op: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Ops with spaces.
pub const OPS: [&str; 4] = ["attention", "attention_decode", "gemm", "gemm_grouped"];

/// The space of a class of an op on a target.
pub fn of(arch: Arch, op: &str, class: &str) -> Result<Box<dyn Space>, SpaceError> {
    let refused = |why: String| SpaceError::Class { op: op.into(), why };
    Ok(match op {
        "attention" => Box::new(Listed::new(attention::Attention::new(arch, class).map_err(refused)?)),
        "attention_decode" => Box::new(Listed::new(decode::Decode::new(arch, class).map_err(refused)?)),
        "gemm_grouped" => Box::new(Listed::new(grouped::Grouped::new(arch, class).map_err(refused)?)),
        "gemm" => Box::new(Listed::new(gemm::Gemm::new(arch, class).map_err(refused)?)),
        _ => return Err(SpaceError::Op { op: op.into() }),
    })
}

/// The fingerprint of a space: BLAKE3 of its ids, one a line. Records of another one are stale.
pub fn space_hash(space: &dyn Space) -> String {
    let mut hasher = blake3::Hasher::new();
    for p in space.points() {
        hasher.update(p.to_string().as_bytes()).update(b"\n");
    }
    format!("b3:{}", &hasher.finalize().to_hex()[..16])
}

#[cfg(test)]
mod tests;
