//! The model of sparse convolutions: a time for each launch of a candidate, and what bounds it.
//!
//! Nothing here has been fitted to measurements: the model orders candidates and says why, it does not predict times. Rates are
//! the device profile's; what else it needs stands in [`COEFFICIENTS`], each with where it comes from.
//!
//! | file | the time of |
//! |---|---|
//! | `coefficients` | nothing: the numbers |
//! | `traffic` | launches that only move data: streams, random accesses, atomics |
//! | `maps` | hash tables, outputs, the map |
//! | `lists` | pairs, sorting, tiles |
//! | `core` | the multiplication |
//! | `flow` | a candidate: which of these it launches |

mod coefficients;
mod core;
mod flow;
mod lists;
mod maps;
mod traffic;

pub use coefficients::{COEFFICIENTS, Coefficient};
pub use flow::{GroupCost, Model};

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a launch waits for most of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Starting and ending.
    Launch,
    /// Tensor cores.
    Tensor,
    /// Shared memory.
    Shared,
    /// Issue of copies.
    Issue,
    /// L2.
    L2,
    /// Device memory.
    Memory,
    /// Atomics in L2.
    Atomics,
    /// One access after another.
    Latency,
}

/// Modelled time of one launch, or of some alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LaunchCost {
    /// What it does.
    pub what: &'static str,
    /// The layer it is for, where it is for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// How many launches.
    pub launches: u32,
    /// All of them together, seconds.
    pub seconds: f64,
    /// What most of that is.
    pub bound: Bound,
}

impl Bound {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Launch => "launch",
            Bound::Tensor => "tensor cores",
            Bound::Shared => "shared memory",
            Bound::Issue => "issue",
            Bound::L2 => "L2",
            Bound::Memory => "memory",
            Bound::Atomics => "atomics",
            Bound::Latency => "latency",
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The largest of some terms and which it is; of equal ones the first.
fn largest(terms: &[(Bound, f64)]) -> (Bound, f64) {
    terms.iter().copied().fold((Bound::Launch, 0.0), |best, t| if t.1 > best.1 { t } else { best })
}
