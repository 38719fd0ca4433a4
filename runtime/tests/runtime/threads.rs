//! Eight threads on one engine: every choice, argument and launch is what one thread would get.

use std::cell::Cell;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use tilewright_runtime::arch::ComputeCapability;
use tilewright_runtime::device::{ArgValue, Device, DeviceError, Geometry, ImageKind, KernelImage, Stream};
use tilewright_runtime::dispatch::{ClassId, PlanIndex, Policy};
use tilewright_runtime::engine::{Engine, Launchable, Problem};
use tilewright_runtime::expr::Vars;
use tilewright_runtime::pack::Pack;

use crate::fixture::CLASS;

const THREADS: usize = 8;
/// Choices of each thread.
const DISPATCHES: usize = 1_000_000;
/// Of so many choices one is prepared and launched too.
const LAUNCHED_OF: usize = 8;
/// Problems that threads go through, each from a place of its own.
const PROBLEMS: usize = 1 << 12;

thread_local! {
    /// Of everything this thread launched since it looked.
    static SUM: Cell<u64> = const { Cell::new(0) };
}

/// Launches nothing; adds up what it is given.
#[derive(Default)]
struct Tally {
    loads: AtomicUsize,
}

impl Device for Tally {
    type Buffer = ();
    type Kernel = u64;

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

    fn load_kernel(&self, image: &KernelImage<'_>) -> Result<u64, DeviceError> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        Ok(image.bytes.len() as u64)
    }

    fn launch(&self, kernel: &u64, geometry: &Geometry, args: &[ArgValue], stream: Stream) -> Result<(), DeviceError> {
        let mut sum = SUM.get();
        let mut add = |value: u64| sum = (sum.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        add(*kernel);
        add(stream.0 as u64);
        geometry.grid.iter().for_each(|&size| add(size.into()));
        for arg in args {
            match arg {
                ArgValue::Ptr(value) => add(*value),
                ArgValue::I32(value) => add(*value as u64),
                ArgValue::I64(value) => add(*value as u64),
                ArgValue::F32(value) => add(value.to_bits().into()),
                ArgValue::TensorMap(map) => {
                    add(map.desc.address);
                    map.desc.dims.iter().chain(&map.desc.strides).for_each(|&size| add(size));
                }
            }
        }
        SUM.set(sum);
        Ok(())
    }

    fn sync(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// Shapes a server meets: few n and k, any m.
fn problems() -> Vec<Vars> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut below = |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n
    };
    let layers = [[6144, 4096], [4096, 4096], [28672, 4096], [4096, 14336], [1000, 520], [77, 333]];
    (0..PROBLEMS)
        .map(|_| {
            let [n, k] = layers[below(6) as usize];
            let most = 1 << below(14);
            Vars::gemm(1 + below(most) as i64, n, k)
        })
        .collect()
}

/// A thread with a prepared plan for each that it met.
struct Server<'e> {
    engine: &'e Engine<Tally>,
    class: ClassId,
    ready: Vec<Option<Launchable<Tally>>>,
}

impl<'e> Server<'e> {
    fn new(engine: &'e Engine<Tally>) -> Self {
        let class = engine.pack().dispatcher().class("gemm", CLASS).unwrap();
        let ready = engine.pack().manifest().plans.iter().map(|_| None).collect();
        Server { engine, class, ready }
    }

    fn choose(&self, at: usize, vars: &Vars) -> PlanIndex {
        let policy = if at.is_multiple_of(3) { Policy::BatchInvariant } else { Policy::Fastest };
        self.engine.select_in(self.class, vars, policy).unwrap()
    }

    fn launch(&mut self, plan: PlanIndex, vars: &Vars) -> u64 {
        let problem = Problem { vars: *vars, scalars: &[("alpha", 1.5)] };
        let addresses = [0x1000, 0x2000, 0x3000];
        SUM.set(0);
        let ready = &mut self.ready[plan.0 as usize];
        match ready {
            // Where its workspaces suffice, as for a server that prepared its largest problem first.
            Some(ready) => {
                if self.engine.reshape(ready, &problem).is_err() {
                    self.engine.grow(ready, &problem).unwrap();
                }
            }
            None => *ready = Some(self.engine.prepare(plan, &problem).unwrap()),
        }
        self.engine.launch(ready.as_mut().unwrap(), &addresses, Stream(7)).unwrap();
        SUM.get()
    }
}

#[test]
fn eight_threads_get_what_one_would() {
    let pack = || Pack::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels-generated/sm90")).unwrap();
    let problems = problems();
    let alone = Engine::new(pack(), Tally::default()).unwrap();
    let mut server = Server::new(&alone);
    let expected: Vec<(PlanIndex, u64)> = problems
        .iter()
        .enumerate()
        .map(|(at, vars)| {
            let plan = server.choose(at, vars);
            (plan, server.launch(plan, vars))
        })
        .collect();
    let mut plans: Vec<PlanIndex> = expected.iter().map(|answer| answer.0).collect();
    plans.sort_unstable();
    plans.dedup();
    assert!(plans.len() > 5, "{plans:?}");

    let shared = Engine::new(pack(), Tally::default()).unwrap();
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (problems, expected, shared, start) = (&problems, &expected, &shared, &start);
            scope.spawn(move || {
                let mut server = Server::new(shared);
                // All at once, so that they want the same kernels at the same time.
                start.wait();
                for at in (0..DISPATCHES).map(|at| (at * 5 + thread * PROBLEMS / THREADS) % PROBLEMS) {
                    let plan = server.choose(at, &problems[at]);
                    assert_eq!(plan, expected[at].0);
                    if at % LAUNCHED_OF == thread {
                        assert_eq!(server.launch(plan, &problems[at]), expected[at].1);
                    }
                }
            });
        }
    });
    let loads = [&alone, &shared].map(|engine| engine.device().loads.load(Ordering::Relaxed));
    assert_eq!(loads[0], loads[1], "each kernel is loaded once");
}
