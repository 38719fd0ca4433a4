//! Many kernels at once: LLVM workers, ptxas, and the judgement on the machine code.

use crate::error::CodegenError;
use crate::toolchain::{
    Assembled, Nvdisasm, PtxasOptions, PtxasReport, SassContract, SassReport, Search, ToolError, Toolchain,
};
use crate::worker::{PtxOutput, WorkerCommand, WorkerPool};
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tilewright_ir::lane::Func;

/// Kernels that one nvdisasm disassembles. It takes 0.2 s to start and a few milliseconds for each kernel.
const BATCH: usize = 16;

/// How to compile.
#[derive(Clone, Debug)]
pub struct CompilerOptions {
    /// How to start an LLVM worker.
    pub worker: WorkerCommand,
    /// Worker processes.
    pub workers: usize,
    /// The CUDA tools, or why there are none; PTX is made all the same.
    pub tools: Result<Toolchain, ToolError>,
    /// What the machine code must look like.
    pub contract: SassContract,
}

impl CompilerOptions {
    /// One worker for each thread of rayon's pool, the tools where [`Search`] finds them, and the contract of a shipped
    /// kernel.
    pub fn new(worker: WorkerCommand) -> Self {
        let tools = Toolchain::find(&Search::default());
        CompilerOptions { worker, workers: rayon::current_num_threads(), tools, contract: SassContract::clean() }
    }
}

/// Where the time went, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Lane IR to PTX, inside the worker.
    pub llvm_ms: f64,
    /// PTX to cubin.
    pub ptxas_ms: f64,
    /// Disassembly and contract: the batch's time over its kernels.
    pub sass_ms: f64,
}

/// A compiled kernel.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Entry name.
    pub name: String,
    /// PTX text.
    pub ptx: String,
    /// Its `.version`, times ten.
    pub ptx_version: u32,
    /// Machine code, where there is a ptxas.
    pub cubin: Option<Vec<u8>>,
    /// What ptxas said.
    pub ptxas: Option<PtxasReport>,
    /// What the machine code looks like; present only if it keeps the contract.
    pub sass: Option<SassReport>,
    /// Why the cubin or the SASS report is missing.
    pub skipped: Option<ToolError>,
    /// Where the time went.
    pub timings: Timings,
}

/// Compiles kernels through a pool of workers.
///
/// ```no_run
/// use tilewright_codegen::{Compiler, CompilerOptions, WorkerCommand};
///
/// # let kernels: Vec<tilewright_ir::lane::Func> = Vec::new();
/// let worker = WorkerCommand { program: std::env::current_exe()?, args: vec!["worker".into()] };
/// let compiler = Compiler::new(CompilerOptions::new(worker));
/// for result in compiler.compile_all(&kernels, &|done, name| eprintln!("{done}: {name}")) {
///     let kernel = result?;
///     std::fs::write(format!("{}.ptx", kernel.name), kernel.ptx)?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Compiler {
    pool: WorkerPool,
    tools: Result<Toolchain, ToolError>,
    contract: SassContract,
}

impl Compiler {
    /// Workers start with the first kernel.
    pub fn new(options: CompilerOptions) -> Self {
        let CompilerOptions { worker, workers, tools, contract } = options;
        Compiler { pool: WorkerPool::new(workers, worker), tools, contract }
    }

    /// Compiles every kernel, in parallel; results are in the order of `kernels`. `progress` is called after each with
    /// the number done so far and the kernel's name.
    ///
    /// # Errors
    /// Each kernel has its own: refused Lane IR, a worker that died, ptxas' errors, or a broken contract.
    pub fn compile_all(&self, kernels: &[Func], progress: &(dyn Fn(usize, &str) + Sync)) -> Vec<Result<Compiled, CodegenError>> {
        let done = AtomicUsize::new(0);
        let batch = |kernels: &[Func]| {
            let results = self.batch(kernels);
            for kernel in kernels {
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, &kernel.name);
            }
            results
        };
        kernels.par_chunks(BATCH).flat_map_iter(batch).collect()
    }

    fn batch(&self, kernels: &[Func]) -> Vec<Result<Compiled, CodegenError>> {
        let drafts: Vec<_> = kernels.par_iter().map(|kernel| self.assemble(kernel)).collect();
        let nvdisasm = self.tools.as_ref().map_err(Clone::clone).and_then(Toolchain::nvdisasm);
        let mut verdicts = match nvdisasm {
            Ok(nvdisasm) => self.judge(nvdisasm, &drafts),
            Err(why) => drafts.iter().map(|_| Verdict::Skipped(why.clone())).collect(),
        }
        .into_iter();
        drafts.into_iter().map(|draft| draft.and_then(|d| d.finish(verdicts.next()))).collect()
    }

    fn assemble(&self, kernel: &Func) -> Result<Draft, CodegenError> {
        let output = self.pool.compile(&kernel.to_string())?;
        let mut timings = Timings { llvm_ms: output.llvm_ms, ..Timings::default() };
        let start = Instant::now();
        let assembled = match &self.tools {
            Ok(tools) => {
                let options = PtxasOptions::new(kernel.arch.caps().ptx_target);
                let done = tools.ptxas.assemble(&output.ptx, &options);
                let done = done.map_err(|source| CodegenError::Ptxas { kernel: kernel.name.clone(), source })?;
                timings.ptxas_ms = start.elapsed().as_secs_f64() * 1e3;
                Some(done)
            }
            Err(_) => None,
        };
        Ok(Draft { name: kernel.name.clone(), output, assembled, timings })
    }

    /// One verdict for each draft that is `Ok`, in order.
    fn judge(&self, nvdisasm: &Nvdisasm, drafts: &[Result<Draft, CodegenError>]) -> Vec<Verdict> {
        let start = Instant::now();
        let cubins: Vec<&Assembled> = drafts.iter().flatten().filter_map(|d| d.assembled.as_ref()).collect();
        if cubins.is_empty() {
            return Vec::new();
        }
        let inspected = match nvdisasm.inspect(&cubins) {
            Ok(inspected) => inspected,
            Err(source) => return cubins.iter().map(|_| Verdict::Unreadable(source.clone())).collect(),
        };
        let checked: Vec<_> = inspected.iter().map(|inspection| self.contract.check(inspection)).collect();
        let sass_ms = start.elapsed().as_secs_f64() * 1e3 / cubins.len() as f64;
        let verdict = |result| match result {
            Ok(report) => Verdict::Clean(Box::new(report), sass_ms),
            Err(violations) => Verdict::Broken(violations),
        };
        checked.into_iter().map(verdict).collect()
    }
}
