//! The whole way: Lane IR to cubins that keep the contract. What needs ptxas says when it is skipped.

mod support;

use std::collections::BTreeSet;
use std::sync::Mutex;
use support::{lane_file, lane_files, ring, worker_command};
use tilewright_codegen::toolchain::{SassContract, Search, ToolError, Toolchain};
use tilewright_codegen::{CodegenError, Compiler, CompilerOptions};
use tilewright_ir::Arch;
use tilewright_ir::lane::{self, Func};

/// A compiler with the CUDA tools, or a word on stderr that the test was skipped.
fn compiler(contract: SassContract) -> Option<Compiler> {
    let options = CompilerOptions { workers: 2, contract, ..CompilerOptions::new(worker_command()) };
    if let Err(why) = options.tools.clone().and_then(|tools| tools.nvdisasm().cloned()) {
        eprintln!("skipped: {why}");
        return None;
    }
    Some(Compiler::new(options))
}

fn parsed(name: &str) -> Func {
    lane::parse(&lane_file(name)).expect("a test kernel parses")
}

#[test]
fn every_kernel_assembles_cleanly_on_every_target_that_has_its_instructions() {
    let Some(compiler) = compiler(SassContract::clean()) else { return };
    let mut kernels = Vec::new();
    for (name, text) in lane_files() {
        for arch in Arch::all() {
            let mut func = lane::parse(&text).expect("a test kernel parses");
            func.arch = arch;
            func.name = format!("{name}_{}", arch.caps().name);
            kernels.extend(lane::verify(&func).is_ok().then_some(func));
        }
    }
    let seen = Mutex::new(BTreeSet::new());
    let results = compiler.compile_all(&kernels, &|done, name| {
        seen.lock().expect("no test thread panicked").insert((done, name.to_string()));
    });
    for (kernel, result) in kernels.iter().zip(&results) {
        let compiled = result.as_ref().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(compiled.name, kernel.name);
        let ptxas = compiled.ptxas.as_ref().expect("a ptxas report");
        assert!(ptxas.messages.is_empty(), "{}: {:?}", kernel.name, ptxas.messages);
        assert!(compiled.cubin.is_some() && compiled.sass.is_some() && compiled.skipped.is_none());
    }
    let seen = seen.into_inner().expect("no test thread panicked");
    let counts: Vec<usize> = seen.iter().map(|(done, _)| *done).collect();
    assert_eq!(counts, (1..=kernels.len()).collect::<Vec<_>>());
}

#[test]
fn the_wgmma_ring_keeps_its_tensor_cores_busy() {
    let contract = SassContract { expect_hgmma_per_main_loop: Some(4), ..SassContract::clean() };
    let Some(compiler) = compiler(contract) else { return };
    let compiled = compiler.compile(&ring::kernel("ring")).unwrap_or_else(|e| panic!("{e}"));
    let (ptxas, sass) = (compiled.ptxas.expect("a ptxas report"), compiled.sass.expect("a SASS report"));
    assert_eq!((ptxas.spill_stores, ptxas.spill_loads, ptxas.stack_frame), (0, 0, 0));
    let main = sass.main().expect("a main loop");
    // One group a stage, its fence before it, its wait after it; and no register moved between its four multiplies.
    assert_eq!((main.counts.wgmma, main.counts.gsb0, main.counts.arrive, main.counts.depbar), (4, 1, 1, 1));
    assert_eq!(main.accumulator_moves, 0);
    // A warp-uniform stage and 32-bit shared addresses: nothing crosses from vector to uniform registers.
    assert_eq!(main.counts.r2ur, 0);
    assert_eq!(sass.setmaxnreg, [40, 232]);
}

#[test]
fn a_missing_wgmma_fence_is_an_error_with_the_template_line() {
    let Some(compiler) = compiler(SassContract::clean()) else { return };
    let text = ring::kernel("ring").to_string();
    let unfenced: Vec<&str> = text.lines().filter(|l| !l.contains("wgmma.fence")).collect();
    // Zeros that ordinary code wrote, where the sound kernel starts from registers nobody wrote.
    let unfenced = unfenced.join("\n").replace("= poison", "= const {value=0}");
    let func = lane::parse(&unfenced).expect("it still parses");
    let error = compiler.compile(&func).expect_err("ptxas complains");
    let CodegenError::Contract { kernel, violations } = &error else { panic!("{error}") };
    assert_eq!(kernel, "ring");
    assert!(violations.iter().any(|v| v.breach.code().starts_with("C75")), "{error}");
    assert!(error.to_string().contains(ring::SOURCE), "{error}");
}

#[test]
fn one_bad_kernel_does_not_spoil_the_others() {
    let Some(compiler) = compiler(SassContract::clean()) else { return };
    let text = lane_file("wgmma_small").replace("dtype=bf16", "dtype=bf17");
    let kernels = [parsed("mma"), lane::parse(&text).expect("it parses"), parsed("loops")];
    let results = compiler.compile_all(&kernels, &|_, _| {});
    assert!(results[0].is_ok() && results[2].is_ok());
    let error = results[1].as_ref().expect_err("no such dtype");
    assert!(matches!(error, CodegenError::Lane { .. }), "{error}");
    assert_eq!(error.kernel(), Some("wgmma_small"));
    assert!(error.to_string().contains("tests/src/wgmma_small.rs:26"), "{error}");
}

#[test]
fn without_ptxas_there_is_ptx_and_the_reason_for_no_cubin() {
    let nowhere = Search { dir: Some("/nowhere".into()), any_ptxas: false };
    let tools = Toolchain::find(&nowhere);
    let options = CompilerOptions { workers: 1, tools, ..CompilerOptions::new(worker_command()) };
    let compiled = Compiler::new(options).compile(&parsed("mma")).expect("PTX");
    assert!(compiled.ptx.contains("mma.sync"));
    assert!(compiled.cubin.is_none() && compiled.ptxas.is_none() && compiled.sass.is_none());
    assert!(matches!(compiled.skipped, Some(ToolError::Missing { tool: "ptxas", .. })));
}

#[test]
fn cubins_are_the_same_in_every_run() {
    let Some(one) = compiler(SassContract::clean()) else { return };
    let Some(other) = compiler(SassContract::clean()) else { return };
    let kernels = [ring::kernel("ring"), parsed("hopper"), parsed("memory")];
    let cubins = |compiler: &Compiler| -> Vec<_> {
        compiler.compile_all(&kernels, &|_, _| {}).into_iter().map(|r| r.expect("a cubin").cubin).collect()
    };
    assert_eq!(cubins(&one), cubins(&other));
}
