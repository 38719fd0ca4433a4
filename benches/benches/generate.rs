//! Generation time of one kernel: template to Lane IR, LLVM to PTX, ptxas.

use criterion::{Criterion, criterion_group, criterion_main};
use tilewright_codegen::toolchain::{PtxasOptions, Search, Toolchain};
use tilewright_codegen::{WorkerCommand, WorkerPool};
use tilewright_ir::passes::lower;
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::*;

fn generate(c: &mut Criterion) {
    let p = GemmProblem::plain(DType::BF16);
    let config = WgmmaConfig { cluster: Cluster::TwoM, ..WgmmaConfig::new([128, 256, 64], 4, 2) };
    let config = GemmConfig::Wgmma(config);
    let make = || lower(build(Arch::Sm90a, &p, &config).expect("a legal config").kernel).expect("a sound kernel").lane;
    let mut group = c.benchmark_group("generate");
    group.sample_size(20);
    group.bench_function("template to Lane IR", |b| b.iter(make));
    let text = make().to_string();
    let worker = WorkerCommand { program: env!("CARGO_BIN_EXE_bench-codegen-worker").into(), args: Vec::new() };
    let pool = WorkerPool::new(1, worker);
    group.bench_function("Lane IR to PTX (LLVM O3)", |b| b.iter(|| pool.compile(&text).expect("LLVM takes it")));
    match Toolchain::find(&Search::default()) {
        Ok(tools) => {
            let ptx = pool.compile(&text).expect("LLVM takes it").ptx;
            group.bench_function("PTX to cubin (ptxas)", |b| {
                b.iter(|| tools.ptxas.assemble(&ptx, &PtxasOptions::new("sm_90a")).expect("ptxas takes it"))
            });
        }
        Err(e) => eprintln!("skipped: PTX to cubin: {e}"),
    }
    group.finish();
}

criterion_group!(benches, generate);
criterion_main!(benches);
