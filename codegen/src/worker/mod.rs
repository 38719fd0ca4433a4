//! LLVM in child processes.
//!
//! LLVM ends the whole process when it cannot select an instruction ("LLVM ERROR: Cannot select"). So kernels are
//! compiled by children that speak JSON lines on stdin and stdout, and a child's death is one kernel's error.

mod pool;
mod process;
mod protocol;
mod serve;

pub use crate::ptx::{PtxOutput, Want};
pub use pool::WorkerPool;
pub use process::WorkerCommand;
pub use protocol::Stage;
pub use serve::worker_main;
