//! Lane IR to an LLVM module: one kernel, one module.
//!
//! The instruction table says how LLVM spells each operation, and this module does what the row says. Only the rows
//! marked native have code of their own here.

mod body;
mod call;
mod debug;
mod kernel;
mod native;
mod types;

pub use kernel::{EmitError, emit};
