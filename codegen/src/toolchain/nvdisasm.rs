//! Machine code to instructions.
//!
//! nvdisasm takes a quarter of a second to start and milliseconds a kernel, so the code of many kernels goes through
//! one run, as raw instructions; names and lines are read from the cubins here.

use super::cubin::{Cubin, CubinError};
use super::find::ToolVersion;
use super::line_table::LineTable;
use super::messages::PtxasReport;
use super::ptxas::Assembled;
use super::sass::SassReport;
use super::source::{PtxLines, SourceLoc};
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

/// Bytes of an instruction, since Volta.
pub const INSTR_BYTES: u32 = 16;

/// Why a cubin could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SassError {
    /// The file.
    #[error("kernel `{kernel}`: {why}")]
    Cubin {
        /// The entry.
        kernel: String,
        /// What is wrong with it.
        why: CubinError,
    },
    /// nvdisasm.
    #[error("nvdisasm ended with {status}: {stderr}")]
    Failed {
        /// Exit status.
        status: String,
        /// What it printed.
        stderr: String,
    },
    /// nvdisasm printed fewer or more instructions than there are.
    #[error("kernel `{kernel}`: nvdisasm printed {printed} of {expected} instructions: a newer nvdisasm may know this target")]
    Incomplete {
        /// The entry.
        kernel: String,
        /// Instructions in the cubin.
        expected: usize,
        /// Instructions understood.
        printed: usize,
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

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instr {
    /// Byte offset in its function.
    pub address: u32,
    /// `@!P0`.
    pub predicate: Option<String>,
    /// `HGMMA.64x256x16.F32.BF16`.
    pub opcode: String,
    /// `R24, gdesc[UR12], R24, gsb0`.
    pub operands: String,
}

impl Instr {
    /// The opcode without its modifiers.
    pub fn base(&self) -> &str {
        self.opcode.split('.').next().unwrap_or("")
    }

    /// The address that is its last operand.
    pub fn target(&self) -> Option<u32> {
        let last = self.operands.rsplit([',', ' ']).next()?;
        u32::from_str_radix(last.strip_prefix("0x")?, 16).ok()
    }
}

impl std::fmt::Display for Instr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = [self.predicate.as_deref(), Some(&self.opcode), Some(&self.operands)];
        f.write_str(words.into_iter().flatten().filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ").as_str())
    }
}

/// The instructions of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its instructions, padding included.
    pub instrs: Vec<Instr>,
}

/// A kernel taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// The entry.
    pub kernel: String,
    /// What ptxas said.
    pub ptxas: PtxasReport,
    /// What the instructions say.
    pub sass: SassReport,
    /// The instructions.
    pub functions: Vec<Function>,
    /// Instruction to PTX line.
    pub line_table: LineTable,
    /// PTX line to template line.
    pub lines: PtxLines,
}

impl Inspection {
    /// The PTX line and the template line of an instruction.
    pub fn place(&self, function: &str, address: u32) -> (Option<u32>, Option<SourceLoc>) {
        let ptx_line = self.line_table.line(function, address);
        (ptx_line, ptx_line.and_then(|line| self.lines.source(line)))
    }
}

/// The disassembler.
#[derive(Clone, Debug)]
pub struct Nvdisasm {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub version: ToolVersion,
}

impl Nvdisasm {
    /// Takes kernels apart, all of one architecture in one run; results are in the order of `kernels`.
    ///
    /// # Errors
    /// A cubin is damaged, or nvdisasm fails on the batch.
    pub fn inspect(&self, kernels: &[&Assembled]) -> Result<Vec<Inspection>, SassError> {
        let mut arches: Vec<&str> = kernels.iter().map(|k| k.arch.as_str()).collect();
        arches.sort_unstable();
        arches.dedup();
        let mut out: Vec<Option<Inspection>> = kernels.iter().map(|_| None).collect();
        for arch in arches {
            let batch: Vec<usize> = (0..kernels.len()).filter(|i| kernels[*i].arch == arch).collect();
            let chosen: Vec<&Assembled> = batch.iter().map(|i| kernels[*i]).collect();
            for (index, inspection) in batch.into_iter().zip(self.inspect_arch(arch, &chosen)?) {
                out[index] = Some(inspection);
            }
        }
        Ok(out.into_iter().flatten().collect())
    }

    fn inspect_arch(&self, arch: &str, kernels: &[&Assembled]) -> Result<Vec<Inspection>, SassError> {
        let mut code = Vec::new();
        let mut parts = Vec::with_capacity(kernels.len());
        for kernel in kernels {
            let damaged = |why| SassError::Cubin { kernel: kernel.kernel.clone(), why };
            let cubin = Cubin::parse(&kernel.cubin).map_err(damaged)?;
            let functions = cubin.code().map(|(name, bytes)| {
                let start = code.len();
                code.extend_from_slice(bytes);
                (name.to_owned(), start..code.len())
            });
            let functions: Vec<(String, Range<usize>)> = functions.collect();
            parts.push((functions, LineTable::of(&cubin).map_err(damaged)?));
        }
        let listing = self.disassemble(arch, &code)?;
        let mut out = Vec::with_capacity(kernels.len());
        for (kernel, (ranges, line_table)) in kernels.iter().zip(parts) {
            let functions = ranges.into_iter().map(|(name, range)| cut(&listing, name, range, &kernel.kernel));
            let functions: Vec<Function> = functions.collect::<Result<_, _>>()?;
            let sass = SassReport::of(&functions);
            let (kernel, ptxas, lines) = (kernel.kernel.clone(), kernel.report.clone(), kernel.lines.clone());
            out.push(Inspection { kernel, ptxas, sass, functions, line_table, lines });
        }
        Ok(out)
    }

    /// Disassembles raw code of `sm_90a` and the like.
    fn disassemble(&self, arch: &str, code: &[u8]) -> Result<Vec<Instr>, SassError> {
        let system = |what: &str, why: std::io::Error| SassError::System { what: what.to_owned(), why: why.to_string() };
        let mut file = tempfile::NamedTempFile::new().map_err(|e| system("cannot make a file for nvdisasm", e))?;
        std::io::Write::write_all(&mut file, code).map_err(|e| system("cannot write the file for nvdisasm", e))?;
        let mut command = Command::new(&self.path);
        command.args(["-b", &arch.replacen("sm_", "SM", 1), "-ndf"]).arg(file.path());
        let output = command.output().map_err(|e| system(&format!("cannot start `{}`", self.path.display()), e))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(SassError::Failed { status: output.status.to_string(), stderr });
        }
        Ok(parse_listing(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// Reads nvdisasm's text: `/*0050*/ @P0 BRA 0xbb0 ;`, one instruction a line. Other lines are passed over.
pub fn parse_listing(text: &str) -> Vec<Instr> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(text: &str) -> Option<Instr> {
    let (address, rest) = text.trim_start().strip_prefix("/*")?.split_once("*/")?;
    let address = u32::from_str_radix(address, 16).ok()?;
    let (mut rest, _) = rest.split_once(';')?;
    rest = rest.trim();
    let mut predicate = None;
    if rest.starts_with('@') {
        let (first, after) = rest.split_once(' ')?;
        (predicate, rest) = (Some(first.to_owned()), after.trim_start());
    }
    let (opcode, operands) = rest.split_once(' ').unwrap_or((rest, ""));
    (!opcode.is_empty()).then(|| Instr { address, predicate, opcode: opcode.to_owned(), operands: operands.trim().to_owned() })
}

/// Takes one function out of a batch, its addresses counted from its own start.
fn cut(listing: &[Instr], name: String, range: Range<usize>, kernel: &str) -> Result<Function, SassError> {
    let from = listing.partition_point(|i| (i.address as usize) < range.start);
    let to = listing.partition_point(|i| (i.address as usize) < range.end);
    let expected = range.len() / INSTR_BYTES as usize;
    if to - from != expected {
        return Err(SassError::Incomplete { kernel: kernel.to_owned(), expected, printed: to - from });
    }
    let base = range.start as u32;
    let rebased = listing[from..to].iter().map(|instr| {
        let mut instr = instr.clone();
        instr.address -= base;
        if let (true, Some(target)) = (super::flow::names_code(&instr), instr.target()) {
            let keep = instr.operands.rfind("0x").unwrap_or(instr.operands.len());
            instr.operands = format!("{}{:#x}", &instr.operands[..keep], i64::from(target) - i64::from(base));
        }
        instr
    });
    Ok(Function { name, instrs: rebased.collect() })
}
