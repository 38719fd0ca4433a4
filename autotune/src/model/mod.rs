//! The analytic model: seconds of a launch from what it asks of the machine.
//!
//! A block of a tile (of k, of keys) takes the slowest of tensor cores, shared memory, L2, issue and pipes, copies started,
//! and what its loads' latency leaves; tiles are scheduled over the SMs; device memory bounds the whole, and the clock falls
//! with tensor load. The terms follow DeepGEMM's heuristics, FlashAttention-3 (arXiv 2407.08608) and published
//! microbenchmarks. Rates are the device profile's; all other numbers are rows of [`Coefficients::TABLE`] with their source.
//! How far it is from published times stands in `docs/model.md`.
//!
//! | file | holds |
//! |---|---|
//! | `coefficients` | the numbers that no profile has, as a table |
//! | `work` | a launch: tiles, blocks, what a block needs |
//! | `block` | the time of a block |
//! | `schedule` | tiles over SMs, exactly |
//! | `memory` | bytes from device memory |
//! | `power` | the clock |
//! | `launch` | the time of a launch, from all of these |
//! | `gemm`, `weight`, `grouped` | work of a GEMM: dense, packed weights, experts |
//! | `attention`, `decode` | work of attention |
//! | `quality` | how well an order or a time was foreseen |
//! | `fit` | coefficients from measured trials |

pub mod attention;
mod block;
mod coefficients;
pub mod decode;
pub mod fit;
pub mod gemm;
pub mod grouped;
mod launch;
mod memory;
mod power;
pub mod quality;
mod schedule;
pub(crate) mod weight;
mod work;

pub use block::BlockTime;
pub use coefficients::{Coefficients, Row};
pub use gemm::{Candidate, Sizes, rank, seconds};
pub use power::clock;
pub use schedule::{dealt, greedy};
pub use work::{Block, Pipes, Tiles, Work};
