//! Tests that concern the whole workspace: see `tests/`. This library runs kernels of the DSL, and plans, on the emulator.

pub mod mutants;
pub mod numbers;
mod plans;
mod runner;

pub use plans::{BuiltPlan, PlanRan};
pub use runner::{Built, Ran, Runner};
