//! Opening the shipped pack and loading kernels, as far as a machine without a driver can: reading, hashing, unpacking.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::Path;
use tilewright_runtime::device::ImageKind;
use tilewright_runtime::manifest::Manifest;
use tilewright_runtime::pack::Pack;

/// How many kernels a server of one model loads, at most.
const KERNELS: usize = 100;

/// Unpacks the machine code of that many kernels, spread over the pack; its bytes.
fn load(pack: &Pack) -> usize {
    let kernels = &pack.manifest().kernels;
    let step = (kernels.len() / KERNELS).max(1);
    let images = kernels.iter().step_by(step).take(KERNELS);
    images.map(|kernel| pack.image(kernel, ImageKind::Cubin).expect("a whole pack").1.len()).sum()
}

fn loading(c: &mut Criterion) {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels-generated/sm90"));
    let pack = match Pack::open(folder) {
        Ok(p) => p,
        Err(e) => {
            eprintln!("skipped: load: {e}; run `cargo xtask gen --target sm90` first");
            return;
        }
    };
    let text = std::fs::read_to_string(folder.join("manifest.json")).expect("the manifest beside the pack");
    c.bench_function("load/parse the manifest", |b| b.iter(|| Manifest::parse(black_box(&text), "manifest.json")));
    c.bench_function("load/open", |b| b.iter(|| Pack::open(black_box(folder))));
    c.bench_function(&format!("load/{KERNELS} images"), |b| b.iter(|| load(black_box(&pack))));
    c.bench_function(&format!("load/open and {KERNELS} images"), |b| b.iter(|| Pack::open(folder).map(|pack| load(&pack))));
}

criterion_group!(benches, loading);
criterion_main!(benches);
