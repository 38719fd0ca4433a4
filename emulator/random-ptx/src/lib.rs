//! Random PTX programs with one right answer.
//!
//! [`Program::random`] writes a kernel `k`, its input and its launch: straight-line code, divergent branches and loops
//! over a pool of registers of every width, warp operations, shared memory between barriers, atomics whose order does
//! not show, matrix instructions on small integers (exact in any order of summation), asynchronous and tensor copies.
//! Whatever a correct machine does with it, in whatever schedule, the output bytes are the same: an emulator and a GPU
//! must agree on all of them. Approximate instructions, and anything the PTX ISA leaves open, stay out.
//!
//! The crate writes text and knows no emulator, so that it can be used against any.

mod arith;
mod choices;
mod copies;
mod data;
mod matrix;
mod program;
mod shared;
mod warp;

pub use choices::Choices;
pub use program::{Buffer, Map, Program, Target};
