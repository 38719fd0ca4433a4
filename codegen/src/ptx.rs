//! LLVM's optimiser and NVPTX back end.

use crate::emit::{EmitError, emit};
use inkwell::OptimizationLevel;
use inkwell::context::Context;
use inkwell::llvm_sys::support::LLVMParseCommandLineOptions;
use inkwell::module::Module;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{CodeModel, FileType, InitializationConfig, RelocMode, Target, TargetMachine, TargetTriple};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Once;
use std::time::Instant;
use tilewright_ir::Arch;
use tilewright_ir::lane::Func;

/// The PTX versions LLVM 22 can write, times ten (`llc -march=nvptx64 -mattr=help`), from the first that any target
/// here needs.
const PTX_VERSIONS: &[u32] = &[70, 71, 72, 73, 74, 75, 76, 77, 78, 80, 81, 82, 83, 84, 85, 86, 87, 88, 90];

/// The only pipeline. Less leaves accumulators in memory, and ptxas then serialises wgmma (C7519, C7511).
const PIPELINE: &str = "default<O3>";

/// Which texts to return. PTX alone is the normal case; the others are for looking at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// LLVM IR as emitted.
    pub llvm: bool,
    /// LLVM IR after the optimiser.
    pub llvm_optimised: bool,
    /// PTX.
    pub ptx: bool,
}

impl Want {
    /// PTX and nothing else.
    pub const PTX: Want = Want { llvm: false, llvm_optimised: false, ptx: true };
    /// Everything.
    pub const ALL: Want = Want { llvm: true, llvm_optimised: true, ptx: true };
}

/// What LLVM made of one kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PtxOutput {
    /// PTX text; empty unless wanted.
    pub ptx: String,
    /// Its `.version`, times ten.
    pub ptx_version: u32,
    /// LLVM IR as emitted, if wanted.
    pub llvm: Option<String>,
    /// LLVM IR after the optimiser, if wanted.
    pub llvm_optimised: Option<String>,
    /// Milliseconds from Lane IR to PTX.
    pub llvm_ms: f64,
}

/// LLVM's NVPTX back end, with the machines it has made so far.
///
/// LLVM ends the process when it cannot select an instruction: use [`crate::worker`] for anything but a test.
pub struct Backend {
    machines: HashMap<(Arch, u32), TargetMachine>,
}

impl Default for Backend {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend {
    /// Registers the target.
    pub fn new() -> Self {
        static SHORT_POINTERS: Once = Once::new();
        SHORT_POINTERS.call_once(use_short_pointers);
        Target::initialize_nvptx(&InitializationConfig::default());
        Backend { machines: HashMap::new() }
    }

    /// Takes a verified kernel to PTX for its own target.
    ///
    /// # Errors
    /// When LLVM has no spelling for an instruction, no such PTX version, or reports an error.
    pub fn compile(&mut self, func: &Func, want: Want) -> Result<PtxOutput, EmitError> {
        let start = Instant::now();
        let ptx_version = ptx_version(func)?;
        let machine = self.machine(func.arch, ptx_version)?;
        let cx = Context::create();
        let module = emit(&cx, func, machine)?;
        let llvm = want.llvm.then(|| module.print_to_string().to_string());
        let (mut llvm_optimised, mut ptx) = (None, String::new());
        if want.llvm_optimised || want.ptx {
            optimise(&module, machine)?;
            llvm_optimised = want.llvm_optimised.then(|| module.print_to_string().to_string());
        }
        if want.ptx {
            ptx = print(&module, machine)?;
        }
        let llvm_ms = start.elapsed().as_secs_f64() * 1e3;
        Ok(PtxOutput { ptx, ptx_version, llvm, llvm_optimised, llvm_ms })
    }

    fn machine(&mut self, arch: Arch, ptx_version: u32) -> Result<&TargetMachine, EmitError> {
        use std::collections::hash_map::Entry;
        match self.machines.entry((arch, ptx_version)) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(new_machine(arch, ptx_version)?)),
        }
    }
}

/// Shared-memory addresses in 32 bits, as PTX allows and every address computation on the GPU wants: the main loop of
/// a GEMM loses a third of its integer instructions. There is no other way to ask for it than LLVM's command line.
fn use_short_pointers() {
    let args = [c"tilewright".as_ptr(), c"-nvptx-short-ptr".as_ptr()];
    // SAFETY: two valid C strings and their count; `Once` keeps this from running twice or beside itself.
    unsafe { LLVMParseCommandLineOptions(args.len() as i32, args.as_ptr(), c"".as_ptr()) }
}

/// The version of the LLVM this program is linked with.
pub fn llvm_version() -> String {
    let (major, minor, patch) = inkwell::support::get_llvm_version();
    format!("{major}.{minor}.{patch}")
}

/// The lowest version LLVM writes that has every instruction used: old drivers refuse newer text than they know.
fn ptx_version(func: &Func) -> Result<u32, EmitError> {
    let needed = func.target().ptx;
    let found = PTX_VERSIONS.iter().copied().find(|v| *v >= needed);
    found.ok_or_else(|| {
        EmitError::nowhere(format!("needs PTX {needed}, LLVM 22 writes up to {}", PTX_VERSIONS[PTX_VERSIONS.len() - 1]))
    })
}

fn new_machine(arch: Arch, ptx_version: u32) -> Result<TargetMachine, EmitError> {
    let triple = TargetTriple::create("nvptx64-nvidia-cuda");
    let target = Target::from_triple(&triple).map_err(|e| EmitError::nowhere(format!("this LLVM has no NVPTX target: {e}")))?;
    let cpu = arch.caps().ptx_target;
    let features = format!("+ptx{ptx_version}");
    let machine = target.create_target_machine(
        &triple,
        cpu,
        &features,
        OptimizationLevel::Aggressive,
        RelocMode::Default,
        CodeModel::Default,
    );
    let machine = machine.ok_or_else(|| EmitError::nowhere(format!("this LLVM cannot target {cpu} with PTX {ptx_version}")))?;
    // Comments would only make the text longer, and they repeat what `.loc` says.
    machine.set_asm_verbosity(false);
    Ok(machine)
}

fn optimise(module: &Module<'_>, machine: &TargetMachine) -> Result<(), EmitError> {
    let done = module.run_passes(PIPELINE, machine, PassBuilderOptions::create());
    done.map_err(|e| EmitError::nowhere(format!("LLVM's optimiser failed: {e}")))
}

fn print(module: &Module<'_>, machine: &TargetMachine) -> Result<String, EmitError> {
    let buffer = machine.write_to_memory_buffer(module, FileType::Assembly);
    let buffer = buffer.map_err(|e| EmitError::nowhere(format!("LLVM's back end failed: {e}")))?;
    let text = std::str::from_utf8(buffer.as_slice());
    let text = text.map_err(|_| EmitError::nowhere("LLVM wrote PTX that is not UTF-8"))?;
    // LLVM frames each instruction that it has no name for with two comments: a tenth of some kernels.
    Ok(text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect())
}
