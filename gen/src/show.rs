//! `gen show`: a kernel at each level.

use crate::cli::ShowArgs;
use crate::generate::matches;
use crate::promises;
use tilewright_codegen::toolchain::{Inspection, PtxasOptions, Search, Toolchain};
use tilewright_codegen::{WorkerCommand, WorkerPool};
use tilewright_ir::Arch;
use tilewright_ir::passes::lower;
use tilewright_ops::error::{Fail, Res, bad_input, failed, failure, usage};
use tilewright_ops::{self as ops, library};
use tilewright_templates::plan::TemplateKernel;

const LEVELS: [&str; 6] = ["tile", "lane", "llvm", "ptx", "sass", "report"];

/// Runs the command.
pub fn show(args: &ShowArgs) -> Res<()> {
    if let Some(bad) = args.level.iter().find(|l| !LEVELS.contains(&l.as_str())) {
        return usage(format!("--level {bad}: expected a comma list of {}", LEVELS.join(", ")));
    }
    let arch: Arch = args.target.parse().map_err(bad_input)?;
    let kernel = find(args, arch)?;
    let lowered = lower(kernel.kernel).map_err(failure)?;
    let wants = |level: &str| args.level.iter().any(|l| l == level);
    let title = |level: &str| {
        if args.level.len() > 1 {
            println!("==== {level}: {}", kernel.id);
        }
    };
    if wants("tile") {
        title("tile");
        print!("{}", lowered.tile);
    }
    if wants("lane") {
        title("lane");
        print!("{}", lowered.lane);
    }
    if !["llvm", "ptx", "sass", "report"].into_iter().any(wants) {
        return Ok(());
    }
    let worker = WorkerCommand { program: std::env::current_exe().map_err(failure)?, args: vec!["codegen-worker".into()] };
    let want = tilewright_codegen::ptx::Want { llvm: false, llvm_optimised: wants("llvm"), ptx: true };
    let out = WorkerPool::new(1, worker).request(&lowered.lane.to_string(), want).map_err(failure)?;
    if let Some(text) = &out.llvm_optimised {
        title("llvm");
        print!("{text}");
    }
    if wants("ptx") {
        title("ptx");
        print!("{}", out.ptx);
    }
    if !["sass", "report"].into_iter().any(wants) {
        return Ok(());
    }
    let kernel_code = inspect(arch, &out.ptx)?;
    if wants("sass") {
        title("sass");
        print!("{}", sass(&kernel_code));
    }
    if wants("report") {
        title("report");
        print!("{}", report(&kernel_code));
    }
    Ok(())
}

fn find(args: &ShowArgs, arch: Arch) -> Res<TemplateKernel> {
    let family = ops::find(args.op.as_deref().unwrap_or("gemm"))?;
    if let Some(text) = &args.config {
        return (family.kernel)(arch, args.class.as_deref().unwrap_or(family.class), text);
    }
    let Some(glob) = &args.kernel else {
        return usage("which kernel? give its id (`gen list` names the plans), or --config with --class");
    };
    let plans = library::plans(&library::root()?, arch)?;
    let kernel = plans
        .into_iter()
        .filter(|p| args.op.is_none() || p.plan.op == family.op)
        .flat_map(|p| p.kernels)
        .find(|k| matches(glob, &k.id));
    kernel.ok_or_else(|| Fail::Usage(format!("no kernel of {} matches `{glob}`", args.target)))
}

fn inspect(arch: Arch, ptx: &str) -> Res<Inspection> {
    let tools = Toolchain::find(&Search::default()).map_err(failure)?;
    let assembled = tools.ptxas.assemble(ptx, &PtxasOptions::new(arch.caps().ptx_target)).map_err(failure)?;
    let mut found = tools.nvdisasm().map_err(|e| failure(e.to_string()))?.inspect(&[&assembled]).map_err(failure)?;
    found.pop().map_or_else(|| failed("nvdisasm printed nothing"), Ok)
}

fn sass(kernel: &Inspection) -> String {
    let mut text = String::new();
    for f in &kernel.functions {
        let mut last = None;
        for i in &f.instrs {
            let (_, source) = kernel.place(&f.name, i.address);
            if source.is_some() && source != last {
                text += &source.as_ref().map(|s| format!("// {s}\n")).unwrap_or_default();
                last = source;
            }
            let predicate = i.predicate.as_ref().map(|p| format!("{p} ")).unwrap_or_default();
            text += &format!("  /*{:04x}*/ {predicate}{} {}\n", i.address, i.opcode, i.operands);
        }
    }
    text
}

/// What the machine code uses, and one iteration of its main loop by kinds of instructions.
fn report(kernel: &Inspection) -> String {
    let (s, p) = (&kernel.sass, &kernel.ptxas);
    let spilled = p.spill_stores + p.spill_loads;
    let mut text = format!(
        "instructions  {}\nregisters     {} at launch, {} named{}\nlocal memory  {spilled} bytes spilled, {} bytes of stack\n",
        s.instructions,
        p.registers,
        s.max_registers,
        s.setmaxnreg.iter().map(|r| format!(", {r} by a role")).collect::<String>(),
        p.stack_frame
    );
    let (Some(counts), Some(main)) = (promises::main_loop(s), s.main()) else {
        return text + "main loop     none that multiplies\n";
    };
    text += &format!("main loop     {} instructions an iteration, {} multiplies\n", counts.instructions, counts.multiplies);
    for (opcode, count) in &main.multiplies {
        text += &format!("  {opcode:<40} {count:>5}\n");
    }
    for (kind, count) in counts.kinds() {
        text += &format!("  {kind:<40} {count:>5}  {:>7.2} a multiply\n", counts.per_multiply(count));
    }
    text
}
