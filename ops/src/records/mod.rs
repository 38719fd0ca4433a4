//! Tuning records of the workspace: `records/PROFILE/OP.json`.
//!
//! | file | holds |
//! |---|---|
//! | `read` | which records serve a target, and why the others do not |
//! | `tables` | what was tuned, as plans and entries of dispatch tables |

mod read;
mod tables;

pub use read::{Records, read};
pub use tables::{Collapsed, Tuned, collapse, enter};
