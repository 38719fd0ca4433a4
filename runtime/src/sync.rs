//! What the runtime's threads meet in. One place, so that a test can put a scheduler of its own behind it
//! (`runtime/schedules/`).

pub(crate) use std::sync::{Mutex, OnceLock};
