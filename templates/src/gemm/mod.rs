//! Dense matrix multiplication: `d = act(alpha * a b^T + bias) + residual`, batched, split along k where m and n are small.
//!
//! | file | holds |
//! |---|---|
//! | `problem` | dtypes, layouts and epilogue of a GEMM: its class |
//! | `config` | the config space and its constraints |
//! | `tiles` | rasterisation: which CTA computes which tile |
//! | `epilogue` | bias, activations, residual: closures over tiles |
//! | `wgmma` | the Hopper kernel: TMA, warp roles, wgmma |
//! | `mma` | the Ampere kernel: cp.async, ldmatrix, mma.sync |
//! | `reduce` | sums split-K partials in a fixed order |
//! | `reference` | f64, and the bound a kernel is held to |
//! | `plan` | launches, parameters and requirements for the manifest |

mod config;
mod epilogue;
mod mma;
mod plan;
mod problem;
mod reduce;
mod reference;
mod tiles;
mod wgmma;

pub use config::{Cluster, ConfigError, GemmConfig, MmaConfig, ReduceConfig, Schedule, WgmmaConfig, space};
pub use epilogue::{Epilogue, EpilogueAt, EpilogueFn};
pub use plan::{GemmError, GemmKernel, GemmPlan, build, plan, reduce_kernel};
pub use problem::{Act, BLayout, GemmProblem, ProblemError};
pub use reference::{Operands, Reference, reference};
