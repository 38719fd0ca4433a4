//! The performance model that ranks plans where nothing was measured.
//!
//! [`profile`]: what a device can do, as data. [`model`]: the time of one plan on one problem, and the order of several.
//! Nothing here measures, compiles, or links LLVM.

pub mod model;
pub mod profile;

pub use model::{Candidate, Estimate, Sizes, estimate, rank};
pub use profile::DeviceProfile;
