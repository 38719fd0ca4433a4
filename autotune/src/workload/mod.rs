//! Workloads: the problems of a whole model, so that a model is tuned and not a shape.
//!
//! | file | holds |
//! |---|---|
//! | `file` | the form of a workload's file, and what is wrong with one |
//! | `sizes` | what the sizes of an op's tasks are called, and those that follow from others |
//! | `shipped` | the workloads under `workloads/` |

mod file;
mod shipped;
mod sizes;

pub use file::{Item, Workload, WorkloadError};
pub use shipped::names;
pub use sizes::{TaskError, sizes_of, task};
