//! Runs PTX text on the CPU and checks it: the independent witness of tilewright.
//!
//! [`Module::parse`] reads PTX as compilers print it, [`Device`] holds memory, and [`Device::launch`] runs a kernel
//! and reports what it did wrong. Nothing here knows the compiler that made the text: an instruction that the emulator
//! does not know is an error with its line, never a no-op.
//!
//! Registers and memory are undefined until they are written. Undefined values travel through arithmetic and memory
//! and are reported where they matter: at addresses, branches, tensor-core operands and loads of unwritten bytes.
//!
//! The way through the crate: `parse` (text to syntax tree), `decode` (syntax tree to `program`), `engine` (runs a
//! cluster of blocks on one thread), with `lane` (what one lane computes), [`tensor`] (what tensor instructions
//! compute) and `memory` below.

mod check;
mod counters;
mod decode;
mod device;
mod engine;
mod error;
mod finding;
mod lane;
mod launch;
mod lints;
mod memory;
mod module;
mod parse;
mod program;
pub mod ring;
pub mod tensor;
mod tensor_map;

pub use counters::Counters;
pub use device::{BufferId, Checks, Device, DeviceConfig, Fill};
pub use error::{DeviceError, LaunchError, ParseError};
pub use finding::{Finding, FindingKind, OtherSide, Severity, Thread};
pub use launch::{Arg, Launch, Report};
pub use module::{Arch, Module};
pub use tensor::Numerics;
pub use tensor::tma::TensorMap;
