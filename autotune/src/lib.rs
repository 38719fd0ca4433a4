//! The analytic model that ranks plans where nothing has been measured: it fills the dispatch tables.
//!
//! Time of a plan = the slowest of tensor cores, shared memory, L2 and device memory for each k block, times the k blocks of a
//! tile, times the waves of tiles, plus fixed costs. The formula follows DeepGEMM's heuristics (cycles = max of the levels,
//! divided by wave efficiency) with device-memory and launch terms added. Device numbers stand in [`DeviceProfile`] with
//! their sources. Nothing here has been fitted to measurements yet: the model orders candidates, it does not predict times.

mod crossover;
mod device;
pub mod estimate;
mod files;
pub mod log;
mod model;
mod random;
pub mod record;
pub mod search;
pub mod space;
pub mod sparse;
pub mod task;
mod weight;

pub use crossover::crossover;
pub use device::DeviceProfile;
pub use model::{Candidate, Sizes, rank, seconds};
