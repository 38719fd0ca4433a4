//! Many kernels at once.

use crate::error::CodegenError;
use crate::worker::{WorkerCommand, WorkerPool};
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tilewright_ir::lane::Func;

/// How to compile.
#[derive(Clone, Debug)]
pub struct CompilerOptions {
    /// How to start an LLVM worker.
    pub worker: WorkerCommand,
    /// Worker processes, and kernels in flight.
    pub workers: usize,
}

impl CompilerOptions {
    /// One worker for each thread of rayon's pool.
    pub fn new(worker: WorkerCommand) -> Self {
        CompilerOptions { worker, workers: rayon::current_num_threads() }
    }
}

/// Where the time went, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Lane IR to PTX, inside the worker.
    pub llvm_ms: f64,
    /// PTX to cubin.
    pub ptxas_ms: f64,
    /// Disassembly and the reading of it.
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
    /// Where the time went.
    pub timings: Timings,
}

/// Compiles kernels through a pool of workers.
pub struct Compiler {
    pool: WorkerPool,
}

impl Compiler {
    /// Workers start with the first kernel.
    pub fn new(options: CompilerOptions) -> Self {
        Compiler { pool: WorkerPool::new(options.workers, options.worker) }
    }

    /// Compiles every kernel, in parallel; results are in the order of `kernels`. `progress` is called after each with
    /// the number done so far and the kernel's name.
    pub fn compile_all(&self, kernels: &[Func], progress: &(dyn Fn(usize, &str) + Sync)) -> Vec<Result<Compiled, CodegenError>> {
        let done = AtomicUsize::new(0);
        let one = |kernel: &Func| {
            let result = self.compile(kernel);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, &kernel.name);
            result
        };
        kernels.par_iter().map(one).collect()
    }

    /// Compiles one kernel.
    ///
    /// # Errors
    /// As [`WorkerPool::compile`].
    pub fn compile(&self, kernel: &Func) -> Result<Compiled, CodegenError> {
        let output = self.pool.compile(&kernel.to_string())?;
        let timings = Timings { llvm_ms: output.llvm_ms, ..Timings::default() };
        Ok(Compiled { name: kernel.name.clone(), ptx: output.ptx, ptx_version: output.ptx_version, timings })
    }
}
