//! PTX to cubin.

use super::cubin::CubinError;
use super::find::ToolVersion;
use super::messages::{PtxasReport, Severity};
use super::source::{PtxLines, SourceLoc};
use super::strip::without_ptx_text;
use std::path::PathBuf;
use std::process::Command;

/// How to assemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtxasOptions {
    /// `sm_90a`.
    pub arch: String,
    /// Keep the tables from instructions to PTX lines and template lines in the cubin. Without them violations found in the
    /// SASS name no template line.
    pub line_info: bool,
}

impl PtxasOptions {
    /// For one architecture, with line information.
    pub fn new(arch: &str) -> Self {
        PtxasOptions { arch: arch.to_owned(), line_info: true }
    }
}

/// Why there is no cubin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PtxasError {
    /// The PTX is wrong.
    #[error(
        "kernel `{kernel}`: ptxas refuses PTX line {line}: {text}{}{}",
        source_loc.as_ref().map(|s| format!(", written by {s}")).unwrap_or_default(),
        if *others > 0 { format!(" (and {others} more)") } else { String::new() }
    )]
    Syntax {
        /// The entry.
        kernel: String,
        /// PTX line, from 1.
        line: u32,
        /// ptxas' words.
        text: String,
        /// The template line.
        source_loc: Option<SourceLoc>,
        /// Further errors.
        others: usize,
    },
    /// ptxas gives up without a line: wrong target, registers that do not fit (`C7602`).
    #[error("kernel `{kernel}`: ptxas gives up: {text}")]
    Refused {
        /// The entry.
        kernel: String,
        /// ptxas' words.
        text: String,
    },
    /// ptxas itself failed.
    #[error("kernel `{kernel}`: ptxas ended with {status}: {stderr}")]
    Crashed {
        /// The entry.
        kernel: String,
        /// Exit status or signal.
        status: String,
        /// The end of what it printed.
        stderr: String,
    },
    /// Not a module with one entry.
    #[error("the PTX has {} entries ({}): a module here holds one kernel", names.len(), names.join(", "))]
    Entries {
        /// Their names.
        names: Vec<String>,
    },
    /// ptxas wrote a cubin that cannot be read.
    #[error("kernel `{kernel}`: {why}")]
    Cubin {
        /// The entry.
        kernel: String,
        /// What is wrong with it.
        why: CubinError,
    },
    /// A file or the program could not be used.
    #[error("{what}: {why}")]
    System {
        /// What was tried.
        what: String,
        /// The system's reason.
        why: String,
    },
}

/// A module through ptxas.
#[derive(Clone, Debug, PartialEq)]
pub struct Assembled {
    /// The entry.
    pub kernel: String,
    /// `sm_90a`.
    pub arch: String,
    /// The cubin, without a copy of the PTX ([`without_ptx_text`]): the same bytes for the same PTX, options and ptxas,
    /// wherever and whenever it is made.
    pub cubin: Vec<u8>,
    /// What ptxas said.
    pub report: PtxasReport,
    /// Where each PTX line came from.
    pub lines: PtxLines,
}

/// The assembler.
#[derive(Clone, Debug)]
pub struct Ptxas {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub version: ToolVersion,
}

impl Ptxas {
    /// Assembles a module with one entry. Costs one process and no shared state, so many can run at once.
    ///
    /// # Errors
    /// As [`PtxasError`]. What ptxas merely complains of is in the report, for the contract to judge.
    pub fn assemble(&self, ptx: &str, options: &PtxasOptions) -> Result<Assembled, PtxasError> {
        let mut assembled = self.assemble_with_text(ptx, options)?;
        assembled.cubin =
            without_ptx_text(&assembled.cubin).map_err(|why| PtxasError::Cubin { kernel: assembled.kernel.clone(), why })?;
        Ok(assembled)
    }

    /// The cubin as ptxas writes it.
    pub(super) fn assemble_with_text(&self, ptx: &str, options: &PtxasOptions) -> Result<Assembled, PtxasError> {
        let lines = PtxLines::scan(ptx);
        let [kernel] = lines.entries() else { return Err(PtxasError::Entries { names: lines.entries().to_vec() }) };
        let kernel = kernel.clone();
        let dir = tempfile::tempdir().map_err(|e| system("cannot make a folder for ptxas", &e))?;
        let input = dir.path().join("kernel.ptx");
        std::fs::write(&input, ptx).map_err(|e| system(&format!("cannot write `{}`", input.display()), &e))?;
        let mut command = Command::new(&self.path);
        // Relative names in its own folder: nothing of the folder's name can reach the cubin or the messages.
        command.current_dir(dir.path()).args(["kernel.ptx", "-o", "kernel.cubin", "-v", "-warn-spills", "-warn-lmem-usage"]);
        command.arg(format!("-arch={}", options.arch));
        if options.line_info {
            command.arg("-lineinfo");
        }
        let output = command.output().map_err(|e| system(&format!("cannot start `{}`", self.path.display()), &e))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        let report = PtxasReport::parse(&stderr);
        if !output.status.success() {
            return Err(failure(kernel, &report, &lines, &output.status.to_string(), &stderr));
        }
        let cubin = std::fs::read(dir.path().join("kernel.cubin")).map_err(|e| system("ptxas wrote no cubin", &e))?;
        Ok(Assembled { kernel, arch: options.arch.clone(), cubin, report, lines })
    }
}

fn failure(kernel: String, report: &PtxasReport, lines: &PtxLines, status: &str, stderr: &str) -> PtxasError {
    let Some(first) = report.first_error() else {
        let tail: String = stderr.trim().chars().rev().take(500).collect::<Vec<_>>().into_iter().rev().collect();
        return PtxasError::Crashed { kernel, status: status.to_owned(), stderr: tail };
    };
    match first.line {
        Some(line) => {
            let errors = report.messages.iter().filter(|m| m.severity >= Severity::Error && m.line.is_some());
            let others = errors.count() - 1;
            PtxasError::Syntax { kernel, line, text: first.text.clone(), source_loc: lines.source(line), others }
        }
        None => {
            let fatal = report.messages.iter().filter(|m| m.severity >= Severity::Error).map(|m| match &m.code {
                Some(code) => format!("({code}) {}", m.text),
                None => m.text.clone(),
            });
            PtxasError::Refused { kernel, text: fatal.collect::<Vec<_>>().join("; ") }
        }
    }
}

fn system(what: &str, why: &std::io::Error) -> PtxasError {
    PtxasError::System { what: what.to_owned(), why: why.to_string() }
}
