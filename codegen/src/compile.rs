//! Many kernels at once: LLVM workers, ptxas, and the judgement on the machine code.

use crate::error::CodegenError;
use crate::toolchain::{
    Assembled, PtxasOptions, PtxasReport, SassContract, SassReport, Search, ToolError, ToolVersion, Toolchain,
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
    /// Which kernels are held to it.
    pub inspect: Inspect,
}

/// Which kernels' machine code is taken apart. nvdisasm spends 0.4 s of processor time before its first instruction (13.2.51), as
/// much as the rest of a small kernel's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspect {
    /// Every one: kernels that ship.
    Always,
    /// Those of which ptxas reports a spill, a stack or a message of wgmma. What the instructions alone show (moves between wgmmas,
    /// how many the main loop holds) stays unseen.
    WhenPtxasComplains,
}

impl CompilerOptions {
    /// One worker for each thread of rayon's pool, the tools where [`Search`] finds them, and each kernel held to the contract of a
    /// shipped one.
    pub fn new(worker: WorkerCommand) -> Self {
        let tools = Toolchain::find(&Search::default());
        let workers = rayon::current_num_threads();
        CompilerOptions { worker, workers, tools, contract: SassContract::clean(), inspect: Inspect::Always }
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
    inspect: Inspect,
}

impl Compiler {
    /// Workers start with the first kernel.
    pub fn new(options: CompilerOptions) -> Self {
        let CompilerOptions { worker, workers, tools, contract, inspect } = options;
        Compiler { pool: WorkerPool::new(workers, worker), tools, contract, inspect }
    }

    /// The ptxas that makes the cubins, where there is one.
    pub fn ptxas_version(&self) -> Option<ToolVersion> {
        self.tools.as_ref().ok().map(|t| t.ptxas.version)
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

    /// Compiles one kernel. Prefer [`Compiler::compile_all`], which starts the disassembler less often.
    ///
    /// # Errors
    /// As [`Compiler::compile_all`].
    pub fn compile(&self, kernel: &Func) -> Result<Compiled, CodegenError> {
        self.batch(std::slice::from_ref(kernel)).pop().expect("one result for one kernel")
    }

    fn batch(&self, kernels: &[Func]) -> Vec<Result<Compiled, CodegenError>> {
        let drafts: Vec<_> = kernels.par_iter().map(|kernel| self.assemble(kernel)).collect();
        let suspect = |a: &&Assembled| self.inspect == Inspect::Always || a.report.complains();
        let cubins: Vec<&Assembled> = drafts.iter().flatten().filter_map(|d| d.assembled.as_ref()).filter(suspect).collect();
        let mut verdicts = self.judge(&cubins).into_iter();
        let mut finish = |draft: Draft| match &draft.assembled {
            // Without ptxas there was nothing to judge.
            None => Ok(draft.finish(None, self.tools.as_ref().err().cloned(), 0.0)),
            Some(a) if !suspect(&a) => Ok(draft.finish(None, None, 0.0)),
            Some(_) => match verdicts.next().expect("one verdict for each cubin")? {
                Judged::Clean(report, sass_ms) => Ok(draft.finish(Some(report), None, sass_ms)),
                Judged::Skipped(why) => Ok(draft.finish(None, Some(why), 0.0)),
            },
        };
        drafts.into_iter().map(|draft| draft.and_then(&mut finish)).collect()
    }

    fn assemble(&self, kernel: &Func) -> Result<Draft, CodegenError> {
        let name = kernel.name.clone();
        let output = self.pool.compile(&kernel.to_string())?;
        let mut timings = Timings { llvm_ms: output.llvm_ms, ..Timings::default() };
        let Ok(tools) = &self.tools else { return Ok(Draft { name, output, assembled: None, timings }) };
        let start = Instant::now();
        let assembled = tools.ptxas.assemble(&output.ptx, &PtxasOptions::new(kernel.arch.caps().ptx_target))?;
        timings.ptxas_ms = start.elapsed().as_secs_f64() * 1e3;
        Ok(Draft { name, output, assembled: Some(assembled), timings })
    }

    /// One verdict for each cubin, in order.
    fn judge(&self, cubins: &[&Assembled]) -> Vec<Result<Judged, CodegenError>> {
        let Ok(tools) = &self.tools else { return Vec::new() };
        if cubins.is_empty() {
            return Vec::new();
        }
        let start = Instant::now();
        let inspected = match tools.nvdisasm().map(|nvdisasm| nvdisasm.inspect(cubins)) {
            Ok(Ok(inspected)) => inspected,
            Ok(Err(source)) => {
                let unreadable =
                    |cubin: &&Assembled| Err(CodegenError::Sass { kernel: cubin.kernel.clone(), source: source.clone() });
                return cubins.iter().map(unreadable).collect();
            }
            Err(why) => return cubins.iter().map(|_| Ok(Judged::Skipped(why.clone()))).collect(),
        };
        let checked: Vec<_> = inspected.iter().map(|kernel| self.contract.check(kernel)).collect();
        let sass_ms = start.elapsed().as_secs_f64() * 1e3 / cubins.len() as f64;
        let verdict = |(cubin, result): (&&Assembled, Result<SassReport, _>)| match result {
            Ok(report) => Ok(Judged::Clean(report, sass_ms)),
            Err(violations) => Err(CodegenError::Contract { kernel: cubin.kernel.clone(), violations }),
        };
        cubins.iter().zip(checked).map(verdict).collect()
    }
}

/// A kernel on its way.
struct Draft {
    name: String,
    output: PtxOutput,
    assembled: Option<Assembled>,
    timings: Timings,
}

impl Draft {
    fn finish(self, sass: Option<SassReport>, skipped: Option<ToolError>, sass_ms: f64) -> Compiled {
        let Draft { name, output, assembled, timings } = self;
        let (cubin, ptxas) = assembled.map(|a| (a.cubin, a.report)).unzip();
        let timings = Timings { sass_ms, ..timings };
        Compiled { name, ptx: output.ptx, ptx_version: output.ptx_version, cubin, ptxas, sass, skipped, timings }
    }
}

/// What became of a cubin that broke no term.
enum Judged {
    Clean(SassReport, f64),
    Skipped(ToolError),
}
