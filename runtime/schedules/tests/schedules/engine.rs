//! Threads that choose, prepare, reshape and launch on one engine.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, PoisonError};

use shuttle::sync::Mutex;
use shuttle::thread;
use tilewright_schedules::arch::ComputeCapability;
use tilewright_schedules::device::{ArgValue, Device, DeviceError, Geometry, ImageKind, KernelImage, Stream};
use tilewright_schedules::dispatch::Policy;
use tilewright_schedules::engine::{Engine, EngineError, Problem};
use tilewright_schedules::expr::Vars;
use tilewright_schedules::manifest::{File, Manifest};
use tilewright_schedules::pack::Pack;

const CLASS: &str = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";

/// The runtime's fixture; a file's contents are its own path.
static FILES: LazyLock<Vec<(&'static str, &'static [u8])>> = LazyLock::new(|| {
    let mut manifest: Manifest = serde_json::from_str(include_str!("../../../tests/runtime/fixtures/manifest.json")).unwrap();
    let mut files: Vec<(&'static str, &'static [u8])> = Vec::new();
    let mut fill = |file: &mut File| {
        file.blake3 = blake3::hash(file.path.as_bytes()).to_string();
        file.bytes = file.path.len() as u64;
        let path: &'static str = file.path.clone().leak();
        files.push((path, path.as_bytes()));
    };
    for kernel in &mut manifest.kernels {
        fill(&mut kernel.ptx);
        kernel.cubin.iter_mut().for_each(&mut fill);
    }
    files.push(("manifest.json", manifest.to_json().unwrap().leak().as_bytes()));
    files
});

type Launched = (Stream, String, Geometry, Vec<ArgValue>);

/// Loads, allocates and launches with other threads in between, and remembers it.
#[derive(Default)]
struct Watched {
    /// Refusals left to give, by kernel.
    refusals: Mutex<BTreeMap<String, u32>>,
    loads: Mutex<BTreeMap<String, u32>>,
    next: Mutex<u64>,
    launches: Mutex<Vec<Launched>>,
}

fn lock<T>(mutex: &Mutex<T>) -> shuttle::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device for Watched {
    type Buffer = u64;
    type Kernel = String;

    fn capability(&self) -> ComputeCapability {
        ComputeCapability { major: 9, minor: 0 }
    }

    fn sm_count(&self) -> u32 {
        132
    }

    fn wants(&self) -> ImageKind {
        ImageKind::Cubin
    }

    fn alloc(&self, bytes: u64) -> Result<u64, DeviceError> {
        let mut next = lock(&self.next);
        *next += bytes.next_multiple_of(256);
        Ok(0x10_0000 + *next)
    }

    fn address(&self, buffer: &u64) -> u64 {
        *buffer
    }

    fn upload(&self, _: &u64, _: u64, _: &[u8]) -> Result<(), DeviceError> {
        unreachable!("launching copies nothing")
    }

    fn download(&self, _: &u64, _: u64, _: &mut [u8]) -> Result<(), DeviceError> {
        unreachable!("launching copies nothing")
    }

    fn load_kernel(&self, image: &KernelImage<'_>) -> Result<String, DeviceError> {
        thread::yield_now();
        let id = &image.kernel.id;
        if let Some(left) = lock(&self.refusals).get_mut(id).filter(|left| **left > 0) {
            *left -= 1;
            return Err(DeviceError::Refused { what: id.clone(), why: "told to".to_owned() });
        }
        *lock(&self.loads).entry(id.clone()).or_default() += 1;
        Ok(image.kernel.entry.clone())
    }

    fn launch(&self, kernel: &String, geometry: &Geometry, args: &[ArgValue], stream: Stream) -> Result<(), DeviceError> {
        thread::yield_now();
        lock(&self.launches).push((stream, kernel.clone(), *geometry, args.to_vec()));
        Ok(())
    }

    fn sync(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// What a thread does: two shapes of one plan, again where a kernel did not load. Returns how often one did not.
fn serve(engine: &Engine<Watched>, thread: usize) -> u32 {
    // The first two threads share kernels, the third has its own; all share the engine.
    type Scalars = &'static [(&'static str, f32)];
    let all: [(i64, i64, Scalars); 3] = [(16, 4096, &[("alpha", 0.5)]), (8, 4096, &[("alpha", 2.0)]), (1, 7, &[])];
    let (m, k, scalars) = all[thread];
    let problem = |m| Problem { vars: Vars::gemm(m, 520, k), scalars };
    let plan = engine.select("gemm", CLASS, &problem(m).vars, Policy::Fastest).unwrap();
    let mut refused = 0;
    let mut ready = loop {
        match engine.prepare(plan, &problem(m)) {
            Ok(ready) => break ready,
            Err(EngineError::Device(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    };
    let base = 0x1000 * (thread as u64 + 1);
    for m in [m, 1] {
        engine.reshape(&mut ready, &problem(m)).unwrap();
        engine.launch(&mut ready, &[base, base + 256, base + 512], Stream(thread)).unwrap();
    }
    refused
}

/// What each thread launched, workspaces by whether they are the thread's first.
fn launched(engine: &Engine<Watched>) -> BTreeMap<usize, Vec<String>> {
    let mut by_thread: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut owners: BTreeMap<u64, usize> = BTreeMap::new();
    for (stream, kernel, geometry, args) in lock(&engine.device().launches).iter() {
        let args: Vec<String> = args
            .iter()
            .map(|arg| match arg {
                ArgValue::Ptr(address) if *address > 0x10_0000 => {
                    assert_eq!(*owners.entry(*address).or_insert(stream.0), stream.0, "a workspace of two threads");
                    "workspace".to_owned()
                }
                other => format!("{other:?}"),
            })
            .collect();
        by_thread.entry(stream.0).or_default().push(format!("{kernel} {geometry:?} {args:?}"));
    }
    by_thread
}

fn engine(refusals: &[(&str, u32)]) -> Engine<Watched> {
    let refusals = refusals.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect();
    Engine::new(Pack::embedded(&FILES).unwrap(), Watched { refusals: Mutex::new(refusals), ..Watched::default() }).unwrap()
}

fn check(refusals: &[(&str, u32)]) {
    let alone = engine(&[]);
    for thread in 0..3 {
        serve(&alone, thread);
    }
    let shared = Arc::new(engine(refusals));
    let threads: Vec<_> = (0..3)
        .map(|name| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || serve(&shared, name))
        })
        .collect();
    let refused: u32 = threads.into_iter().map(|t| t.join().unwrap()).sum();
    assert_eq!(refused, refusals.iter().map(|(_, n)| n).sum::<u32>(), "a refusal is one thread's");
    assert_eq!(launched(&shared), launched(&alone), "each thread as if it were alone");
    let loads = lock(&shared.device().loads);
    assert!(loads.len() == 3 && loads.values().all(|&n| n == 1), "each kernel once: {loads:?}");
}

#[test]
fn threads_that_share_an_engine_do_what_each_would_alone() {
    shuttle::check_random(|| check(&[]), 300);
    shuttle::check_pct(|| check(&[]), 200, 3);
}

#[test]
fn a_kernel_that_does_not_load_at_first_harms_nobody() {
    shuttle::check_random(|| check(&[("gemm_split", 1), ("split_sum", 1)]), 300);
}
