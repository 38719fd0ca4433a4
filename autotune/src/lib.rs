//! The analytic model that ranks plans where nothing has been measured: it fills the dispatch tables.
//!
//! [`model`] says how long a kernel should take and what bounds it, from [`device`] profiles and published rates; nothing is fitted to
//! measurements yet ([`model::fit`] does it once there are any). How far it is from [`published`] times stands in `docs/model.md`.

pub mod cover;
mod crossover;
pub mod device;
pub mod estimate;
pub mod explain;
mod files;
pub mod ladder;
pub mod log;
pub mod model;
pub mod published;
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
