//! Threads of the runtime in thousands of orders.

mod cell;
mod engine;
mod names;

/// What the runtime's files call their crate's.
mod sync {
    pub use tilewright_schedules::sync::{Mutex, OnceLock};
}
