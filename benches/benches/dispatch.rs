//! What a server's step costs on the host with the shipped pack: choosing a plan, preparing its arguments, launching, on a device
//! whose calls do nothing.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::Path;
use tilewright_runtime::arch::ComputeCapability;
use tilewright_runtime::device::{ArgValue, Device, DeviceError, Geometry, ImageKind, KernelImage, Stream};
use tilewright_runtime::dispatch::{ChosenBy, Dispatcher, Known, PlanIndex, Policy, TableBuilder};
use tilewright_runtime::engine::{Engine, Problem};
use tilewright_runtime::expr::Vars;
use tilewright_runtime::manifest::Manifest;
use tilewright_runtime::pack::Pack;

const CLASS: &str = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";
/// Problems gone through in turns, so that no branch predictor learns one: a power of two.
const PROBLEMS: usize = 4096;
/// n and k of the layers that a table knows: those of four models, and more to make it long.
const KNOWN: i64 = 64;

/// Takes everything and does nothing.
struct Null;

impl Device for Null {
    type Buffer = ();
    type Kernel = ();

    fn capability(&self) -> ComputeCapability {
        ComputeCapability { major: 9, minor: 0 }
    }

    fn sm_count(&self) -> u32 {
        132
    }

    fn wants(&self) -> ImageKind {
        ImageKind::Cubin
    }

    fn alloc(&self, _: u64) -> Result<(), DeviceError> {
        Ok(())
    }

    fn address(&self, (): &()) -> u64 {
        1 << 20
    }

    fn upload(&self, (): &(), _: u64, _: &[u8]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn download(&self, (): &(), _: u64, _: &mut [u8]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn load_kernel(&self, _: &KernelImage<'_>) -> Result<(), DeviceError> {
        Ok(())
    }

    fn launch(&self, (): &(), _: &Geometry, args: &[ArgValue], _: Stream) -> Result<(), DeviceError> {
        black_box(args);
        Ok(())
    }

    fn sync(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// Numbers that look random, the same in every run.
fn random() -> impl FnMut(i64) -> i64 {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as i64
    }
}

/// The pack's table of the class with entries for known layers, as tuning leaves them.
fn with_known(manifest: &Manifest) -> Dispatcher {
    let mut manifest = manifest.clone();
    let table = manifest.dispatch.iter_mut().find(|table| table.op == "gemm" && table.class == CLASS);
    let table = table.expect("the pack has the class");
    let bounds: Vec<i64> = (0..13).map(|power| 1 << power).collect();
    let mut builder = TableBuilder::new("gemm", CLASS).axis("m", &[]).axis("n", &[]).axis("k", &[]);
    for layer in 0..KNOWN {
        let key = known(layer).to_vec();
        let ranked = bounds.iter().chain([&8192]).map(|&m| table.plans(&[m, key[0], key[1]]).to_vec()).collect();
        builder = builder.known(Known { key, bounds: bounds.clone(), ranked, chosen_by: ChosenBy::Tuned, regret_percent: None });
    }
    *table = builder.build(ChosenBy::Model, |_| vec![PlanIndex(0)]).expect("a table");
    Dispatcher::new(&manifest)
}

fn known(layer: i64) -> [i64; 2] {
    [1024 + 128 * (layer * 7 % KNOWN), 1024 + 128 * (layer * 11 % KNOWN)]
}

fn dispatch(c: &mut Criterion) {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels-generated/sm90"));
    let engine = match Pack::open(folder).and_then(|pack| Engine::new(pack, Null)) {
        Ok(engine) => engine,
        Err(e) => return eprintln!("skipped: dispatch: {e}; run `cargo xtask gen --target sm90` first"),
    };
    let dispatcher = engine.pack().dispatcher();
    let class = dispatcher.class("gemm", CLASS).expect("the pack has the class");
    let mut below = random();
    let unknown: Vec<Vars> =
        (0..PROBLEMS).map(|_| Vars::gemm(1 + below(8192), 8 * (1 + below(2048)), 8 * (1 + below(2048)))).collect();
    let tuned = with_known(engine.pack().manifest());
    let tuned_class = tuned.class("gemm", CLASS).expect("the same class");
    let layers: Vec<Vars> = (0..PROBLEMS)
        .map(|_| {
            let [n, k] = known(below(KNOWN));
            Vars::gemm(1 + below(8192), n, k)
        })
        .collect();
    let mut next = 0;
    let mut turn = move || {
        next = (next + 1) % PROBLEMS;
        next
    };

    let mut group = c.benchmark_group("choose");
    group.bench_function("of 64 known layers, any m", |b| {
        b.iter(|| tuned.select_in(tuned_class, &layers[turn()], Policy::Fastest))
    });
    group.bench_function("unknown m, n, k", |b| b.iter(|| dispatcher.select_in(class, &unknown[turn()], Policy::Fastest)));
    group.bench_function("batch-invariant", |b| b.iter(|| dispatcher.select_in(class, &unknown[turn()], Policy::BatchInvariant)));
    let id = dispatcher.select_in(class, &unknown[0], Policy::Fastest).expect("a plan");
    let name = &engine.pack().manifest().plans[id.0 as usize].id;
    group.bench_function("pinned", |b| b.iter(|| dispatcher.select_in(class, &unknown[turn()], Policy::Pinned(name))));
    group.bench_function("by names of op and class", |b| {
        b.iter(|| dispatcher.select("gemm", CLASS, &unknown[turn()], Policy::Fastest))
    });
    group.bench_function("on the engine", |b| b.iter(|| engine.select_in(class, &unknown[turn()], Policy::Fastest)));
    group.finish();

    let mut group = c.benchmark_group("arguments");
    let scalars = [("alpha", 1.0)];
    let problem = |vars: &Vars| Problem { vars: *vars, scalars: &scalars };
    let mut ready = engine.prepare(id, &problem(&unknown[0])).expect("prepared");
    group.bench_function("prepare", |b| {
        b.iter_batched(turn, |at| engine.prepare(id, &problem(&unknown[at])), BatchSize::SmallInput)
    });
    group.bench_function("reshape", |b| b.iter(|| engine.reshape(&mut ready, &problem(&unknown[turn()]))));
    let addresses = [4096, 8192, 16384];
    group.bench_function("launch, same addresses", |b| {
        b.iter(|| engine.launch(&mut ready, black_box(&addresses), Stream::default()))
    });
    let mut at = 0;
    group.bench_function("launch, moved addresses", |b| {
        b.iter(|| {
            at = (at + 4096) % (1 << 20);
            engine.launch(&mut ready, &[at + 4096, at + 8192, at + 16384], Stream::default())
        })
    });
    group.bench_function("choose, reshape and launch", |b| {
        b.iter(|| {
            let vars = &unknown[turn()];
            black_box(engine.select_in(class, vars, Policy::Fastest))?;
            engine.reshape(&mut ready, &problem(vars))?;
            engine.launch(&mut ready, &addresses, Stream::default())
        })
    });
    group.finish();
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
