//! Tests that concern the whole workspace: see `tests/`. This library runs one kernel of the DSL on the emulator.

pub mod mutants;
pub mod numbers;
mod runner;

pub use runner::{Built, Ran, Runner};
