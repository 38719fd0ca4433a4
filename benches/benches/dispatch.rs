//! Choosing a plan from the shipped pack.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::Path;
use tilewright_runtime::dispatch::Policy;
use tilewright_runtime::pack::Pack;

fn dispatch(c: &mut Criterion) {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels-generated/sm90"));
    let pack = match Pack::open(folder) {
        Ok(p) => p,
        Err(e) => {
            eprintln!("skipped: dispatch: {e}; run `cargo xtask gen --target sm90` first");
            return;
        }
    };
    let class = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";
    let d = pack.dispatcher();
    for (name, mnk) in [
        ("decode 16x6144x4096", [16, 6144, 4096]),
        ("prefill 4096x4096x4096", [4096, 4096, 4096]),
        ("ragged 777x1000x519", [777, 1000, 519]),
    ] {
        c.bench_function(&format!("dispatch/{name}"), |b| {
            b.iter(|| d.select_mnk("gemm", class, black_box(mnk), Policy::Fastest))
        });
    }
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
