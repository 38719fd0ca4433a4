//! The analytic model that ranks plans where nothing has been measured: it fills the dispatch tables.
//!
//! Time of a plan = the slowest of tensor cores, shared memory, L2 and device memory for each k block, times the k blocks of a
//! tile, times the waves of tiles, plus fixed costs. The formula follows DeepGEMM's heuristics (cycles = max of the levels,
//! divided by wave efficiency) with device-memory and launch terms added. Device numbers stand in [`DeviceProfile`] with
//! their sources. Nothing here has been fitted to measurements yet: the model orders candidates, it does not predict times.

pub mod cover;
mod crossover;
pub mod device;
pub mod estimate;
mod files;
pub mod ladder;
pub mod log;
pub mod model;
mod random;
pub mod record;
pub mod search;
pub mod space;
pub mod sparse;
pub mod task;
pub mod workload;

pub use crossover::crossover;
pub use device::{Capabilities, DeviceProfile, Match};
pub use model::{Candidate, Sizes, rank, seconds};
