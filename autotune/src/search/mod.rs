//! The search for the best config of each task on a device.
//!
//! | file | holds |
//! |---|---|
//! | `measure` | what a search asks of a device: a verdict, times, turns of finalists |
//! | `rank`, `settings` | what is tried first, and how much |
//! | `run` | one task: a race, neighbours of the best, finals; a function of its log |
//! | `found` | what came of it |
//! | `simulate` | a device without hardware, of which the truth is known |

mod found;
mod measure;
mod rank;
mod run;
mod settings;
mod simulate;

pub use found::{End, Found, SearchError, Times};
pub use measure::{Failure, Measure, PROTOCOL, Sample};
pub use rank::Ranking;
pub use run::{Search, shard};
pub use settings::Settings;
pub use simulate::{Hidden, Simulated};

#[cfg(test)]
mod tests;
