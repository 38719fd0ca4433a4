//! The search for the best config of each task on a device.
//!
//! | file | holds |
//! |---|---|
//! | `measure` | what a search asks of a device: a verdict, times, turns of finalists |

mod measure;

pub use measure::{Failure, Measure, Sample};
