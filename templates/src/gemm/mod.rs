//! Dense matrix multiplication: `d = act(alpha * a b^T + bias) + residual`, batched, split along k where m and n are small.
//!
//! | file | holds |
//! |---|---|
//! | `problem` | dtypes, layouts and epilogue of a GEMM: its class |
//! | `config`, `config_text` | configs, their constraints, their ids |
//! | `space` | which configs there are |
//! | `tiles` | rasterisation: which CTA computes which tile |
//! | `epilogue` | bias, activations, residual: closures over tiles |
//! | `leave` | how output tiles leave the Hopper kernels |
//! | `wgmma` | the Hopper kernel: TMA, warp roles, wgmma; `wgmma/work` says which CTA computes what |
//! | `mma` | the Ampere kernel: cp.async, ldmatrix, mma.sync |
//! | `grouped/` | rows sorted by expert: lists of tiles, gathered rows, the plan |
//! | `scale` | factors of 8-bit operands: where they meet which sums |
//! | `quant` | a quantised output |
//! | `pad` | copies operands of bytes to rows that TMA can address |
//! | `reduce` | sums split-K partials in a fixed order |
//! | `reference` | f64, and the bound a kernel is held to |
//! | `weight/` | weights of a few bits: formats, the packed form, sources, packing and unpacking |
//! | `plan` | launches, parameters and requirements for the manifest |

mod config;
mod config_text;
mod epilogue;
mod grouped;
mod leave;
mod mma;
mod pad;
mod plan;
mod problem;
mod quant;
mod reduce;
mod reference;
mod scale;
mod space;
mod tiles;
pub mod weight;
mod wgmma;

pub(crate) use epilogue::activation;

pub use config::{Cluster, ConfigError, GemmConfig, MmaConfig, ReduceConfig, Schedule, WgmmaConfig};
pub use epilogue::{Epilogue, EpilogueAt, EpilogueFn};
pub use grouped::{gather_kernel, gather_rows, group_tiles, grouped_class, grouped_dequantised_plan, grouped_plan, tiles_kernel};
pub use mma::mma;
pub use plan::{GemmError, build, plan, reduce_kernel};
pub use problem::{Act, BLayout, GemmProblem, Groups, Packed, ProblemError, Scale, Weight};
pub use quant::quant_miss;
pub use reference::{Operands, Reference, reference};
pub use scale::BLOCK;
pub use space::space;
pub use wgmma::wgmma;
