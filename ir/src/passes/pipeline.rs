//! The pipeline: which pass runs after which.

use super::{barriers, expand, fences, protocol, resources, simplify, smem, wgmma};
use crate::lane::{self, Func, LaneError};
use crate::tile::{self, Kernel, SmemPlan, TileError};
use std::time::{Duration, Instant};

/// Why a kernel could not be lowered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PassError {
    /// Tile IR breaks a rule.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// Lane IR breaks a rule: a mistake in the compiler.
    #[error("{0} (after expansion: this is a mistake in the compiler)")]
    Lane(#[from] LaneError),
    /// A pipe is not used by exactly one producer and one consumer role.
    #[error("pipe `{pipe}` {what}")]
    Pipe {
        /// The pipe.
        pipe: String,
        /// What is wrong.
        what: String,
    },
    /// Too much shared memory.
    #[error("{kernel} needs {need} bytes of shared memory, the target has {have}: fewer stages or smaller tiles ({})", .plan.iter().map(|p| format!("{} {}", p.name, p.bytes)).collect::<Vec<_>>().join(", "))]
    SmemOverflow {
        /// Kernel.
        kernel: String,
        /// Bytes needed.
        need: u32,
        /// Bytes there are.
        have: u32,
        /// What takes how much.
        plan: Vec<SmemPlan>,
    },
    /// The pipes deadlock, overlap or miscount.
    #[error(transparent)]
    Protocol(#[from] protocol::ProtocolError),
    /// Registers do not suffice.
    #[error(transparent)]
    Resources(#[from] resources::ResourceError),
    /// Something has no lowering: a tile or operand outside what an operation supports.
    #[error("{at}: {what}")]
    Unsupported {
        /// The template's `file:line`.
        at: String,
        /// What and why.
        what: String,
    },
    /// An accumulator in flight is touched.
    #[error("{at}: {what}")]
    Wgmma {
        /// The template's `file:line`.
        at: String,
        /// Which rule.
        what: String,
    },
}

/// A kernel on its way to LLVM.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// Tile IR after its last pass.
    pub tile: Kernel,
    /// Lane IR.
    pub lane: Func,
    /// What to pass at launch, in order.
    pub params: Vec<expand::ParamDesc>,
    /// Registers and shared memory as estimated before LLVM.
    pub estimate: resources::Estimate,
    /// Time of each pass.
    pub timings: Vec<(&'static str, Duration)>,
}

/// The Tile IR half of the pipeline, without the protocol check: what a dump after planning shows.
pub fn prepare(mut k: Kernel) -> Result<Kernel, PassError> {
    tile::verify(&k)?;
    simplify::simplify(&mut k); // fold, share, drop
    barriers::derive_barriers(&mut k)?; // arrivals and bytes of each pipe
    smem::plan_smem(&mut k)?; // offsets, or too much
    fences::insert_proxy_fences(&mut k); // generic writes before asynchronous reads
    tile::verify(&k)?;
    Ok(k)
}

/// The whole pipeline. The result is verified Lane IR.
pub fn lower(k: Kernel) -> Result<Lowered, PassError> {
    let mut timings = Vec::new();
    let mut timed = |name, since: Instant| timings.push((name, since.elapsed()));
    let t = Instant::now();
    let k = prepare(k)?;
    timed("prepare", t);
    let t = Instant::now();
    protocol::check_protocol(&k)?; // no deadlock, no overlap, counts match
    timed("check_protocol", t);
    let t = Instant::now();
    let estimate = resources::estimate_resources(&k)?; // registers, before LLVM sees it
    timed("estimate_resources", t);
    let t = Instant::now();
    let (lane, params) = expand::expand(&k)?; // tiles to registers, one operation per instruction
    timed("expand", t);
    let t = Instant::now();
    lane::verify(&lane)?;
    wgmma::check_wgmma(&lane)?; // accumulators in flight are left alone
    timed("verify_lane", t);
    Ok(Lowered { tile: k, lane, params, estimate, timings })
}
