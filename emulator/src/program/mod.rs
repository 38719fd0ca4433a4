//! Decoded kernels: what the engine runs.

pub mod call_op;
pub mod cfg;
pub mod convert_op;
pub mod kernel;
pub mod memory_op;
pub mod op;
pub mod reg;
pub mod sync_op;
pub mod watch;

pub use kernel::{Const, Kernel, ParamSlot, Special};
pub use op::{Guard, Inst, Op};
pub use reg::{D, P, R, Reg};
