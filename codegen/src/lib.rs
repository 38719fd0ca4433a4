//! From Lane IR to a cubin with a clean bill of health.
//!
//! - [`emit`]: Lane IR to an LLVM module, row by row of the instruction table.
//! - [`ptx`]: LLVM's `default<O3>` and the NVPTX back end, to PTX text.
//! - [`worker`]: the same in a child process, because LLVM aborts the process on what it cannot select.
//! - [`toolchain`]: PTX to a cubin with ptxas, and the contract its machine code is held to.
//! - [`compile`]: many kernels in parallel, through the workers and then through `ptxas`.
//!
//! This crate knows no op family. It is the only one that links LLVM.

pub mod compile;
pub mod emit;
mod error;
pub mod ptx;
pub mod toolchain;
pub mod worker;

pub use compile::{Compiled, Compiler, CompilerOptions, Inspect, Timings};
pub use error::CodegenError;
pub use worker::{PtxOutput, WorkerCommand, WorkerPool};
