//! What the model says of a plan, and what it may know of its kernels.

use serde::{Deserialize, Serialize};
use std::fmt;
use tilewright_runtime::manifest::MainLoop;

/// A modelled time and what it is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The whole plan, every launch of it.
    pub seconds: f64,
    /// For each thing that may bound it, the seconds it would take if nothing else did; descending.
    pub terms: Vec<(Term, f64)>,
}

impl Estimate {
    /// What bounds it: the largest term.
    pub fn bound(&self) -> Option<Term> {
        self.terms.first().map(|t| t.0)
    }

    /// Of what cannot be done: never the best.
    pub fn never() -> Self {
        Estimate { seconds: f64::INFINITY, terms: Vec::new() }
    }

    /// One after the other.
    pub fn then(mut self, next: Estimate) -> Self {
        self.seconds += next.seconds;
        for (term, seconds) in next.terms {
            match self.terms.iter_mut().find(|t| t.0 == term) {
                Some(t) => t.1 += seconds,
                None => self.terms.push((term, seconds)),
            }
        }
        self.terms.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        self
    }
}

/// What may bound a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    /// Multiplies of the tensor cores.
    Tensor,
    /// Bytes through shared memory.
    SharedMemory,
    /// Bytes from L2.
    L2,
    /// Bytes from and to device memory.
    Memory,
    /// Issue slots and pipes: arithmetic, exponentials, conversions, addresses.
    Pipe,
    /// The producer's instructions and the chain of barriers.
    Control,
    /// Loads that too few stages hide.
    Latency,
    /// What a tile does before and after its main loop.
    Edges,
    /// Launches, and SMs without work in the last wave.
    Launch,
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Term::Tensor => "tensor cores",
            Term::SharedMemory => "shared memory",
            Term::L2 => "L2",
            Term::Memory => "device memory",
            Term::Pipe => "issue and pipes",
            Term::Control => "control",
            Term::Latency => "latency",
            Term::Edges => "prologue and epilogue",
            Term::Launch => "launch and tail",
        })
    }
}

/// What is known of a plan's main kernel, from its machine code and from running a tile of it in the emulator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Registers of a thread at launch.
    pub registers: u32,
    /// Shared memory of a CTA, bytes, static and dynamic.
    pub shared_bytes: u32,
    /// Instructions of an iteration of the main loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_loop: Option<MainLoop>,
    /// Shared-memory wavefronts of a block of k and CTA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_wavefronts: Option<f64>,
    /// Bytes from global memory of a block of k and CTA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_bytes: Option<f64>,
}
