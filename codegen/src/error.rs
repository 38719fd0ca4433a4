//! Why a kernel has no PTX or no cubin.

use crate::toolchain::{ContractViolation, PtxasError, SassError};
use crate::worker::Stage;

/// A kernel that could not be compiled.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CodegenError {
    /// The Lane IR is wrong, or LLVM has no way to say it.
    #[error("kernel `{kernel}`, {at}: {what} ({stage})")]
    Lane {
        /// The kernel.
        kernel: String,
        /// Which step refused it.
        stage: Stage,
        /// The template's `file:line`, or the line of the Lane IR text.
        at: String,
        /// The rule, and the way out.
        what: String,
    },
    /// The compiler process died on this kernel: LLVM aborts on an instruction it cannot select.
    #[error(
        "kernel `{kernel}`: the LLVM worker died ({status}){}; if it names an intrinsic, its row in the instruction \
         table asks for too low a PTX version or a wrong spelling", tail(.stderr)
    )]
    WorkerDied {
        /// The kernel.
        kernel: String,
        /// Exit status, signal or timeout.
        status: String,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// ptxas refuses the PTX.
    #[error(transparent)]
    Ptxas(#[from] PtxasError),
    /// The cubin could not be disassembled.
    #[error("kernel `{kernel}` has a cubin that cannot be vouched for: {source}")]
    Sass {
        /// The kernel.
        kernel: String,
        /// The reason; where one cubin of a batch is damaged, it names that one.
        source: SassError,
    },
    /// The machine code is not what a shipped kernel must look like.
    #[error("{}", lines(.violations))]
    Contract {
        /// The kernel.
        kernel: String,
        /// Every breach, each with its template line and a way out.
        violations: Vec<ContractViolation>,
    },
    /// The compiler process could not be started.
    #[error(
        "cannot start the LLVM worker `{command}`: {why}; it is the `gen` binary itself, so check that the file is still there"
    )]
    WorkerStart {
        /// The command.
        command: String,
        /// The system's reason.
        why: String,
    },
}

impl CodegenError {
    /// The kernel concerned, where there is one.
    pub fn kernel(&self) -> Option<&str> {
        match self {
            CodegenError::Lane { kernel, .. }
            | CodegenError::WorkerDied { kernel, .. }
            | CodegenError::Sass { kernel, .. }
            | CodegenError::Contract { kernel, .. }
            | CodegenError::Ptxas(
                PtxasError::Syntax { kernel, .. }
                | PtxasError::Refused { kernel, .. }
                | PtxasError::Crashed { kernel, .. }
                | PtxasError::Cubin { kernel, .. },
            ) => Some(kernel),
            CodegenError::WorkerStart { .. } | CodegenError::Ptxas(PtxasError::Entries { .. } | PtxasError::System { .. }) => {
                None
            }
        }
    }
}

fn lines(violations: &[ContractViolation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn tail(stderr: &str) -> String {
    let text = stderr.trim();
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
