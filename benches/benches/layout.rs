//! Layout algebra: what the compiler asks of it for one kernel.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use tilewright_ir::layout::{Dim, Swizzle, smem_tile, wgmma_acc};

fn layouts(c: &mut Criterion) {
    c.bench_function("layout/wgmma_acc 64x256", |b| b.iter(|| wgmma_acc(black_box(64), 256, 1)));
    let acc = wgmma_acc(64, 192, 1).expect("64x192 is a fragment");
    let smem = smem_tile(64, 192, 2, Swizzle::B128).expect("192 columns are three panels");
    c.bench_function("layout/apply", |b| b.iter(|| acc.apply(black_box(&[37, 21, 3]))));
    c.bench_function("layout/vector width", |b| b.iter(|| acc.contiguous_run(black_box(Dim::Reg), Dim::Col)));
    c.bench_function("layout/compose 64x192 with 128B swizzle", |b| b.iter(|| acc.compose(black_box(&smem))));
    let text = acc.to_string();
    c.bench_function("layout/parse", |b| b.iter(|| black_box(&text).parse::<tilewright_ir::layout::Layout>()));
}

criterion_group!(benches, layouts);
criterion_main!(benches);
