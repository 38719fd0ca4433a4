//! Choosing and launching allocate nothing: counted, not promised.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tilewright_runtime::arch::ComputeCapability;
use tilewright_runtime::device::{ArgValue, Device, DeviceError, Geometry, ImageKind, KernelImage, Stream};
use tilewright_runtime::dispatch::{PlanIndex, Policy};
use tilewright_runtime::engine::{Engine, Problem};
use tilewright_runtime::expr::Vars;

use crate::fixture::{CLASS, pack};

/// Counts what the current thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// Bytes it has allocated and not freed; below 0 where it freed those of another thread.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    /// The most there were of them.
    static MOST: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; the counter is a plain cell of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        let live = LIVE.try_with(|live| live.replace(live.get() + layout.size() as isize) + layout.size() as isize);
        let _ = MOST.try_with(|most| most.set(most.get().max(live.unwrap_or(0))));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = LIVE.try_with(|live| live.set(live.get() - layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// The most bytes that `work` held at once.
pub fn peak(work: impl FnOnce()) -> usize {
    let before = LIVE.get();
    MOST.set(before);
    work();
    (MOST.get() - before) as usize
}

/// Takes launches and keeps nothing of them but their number.
#[derive(Default)]
struct Counter(Cell<usize>);

impl Device for Counter {
    type Buffer = ();
    type Kernel = ();

    fn capability(&self) -> ComputeCapability {
        ComputeCapability { major: 9, minor: 0 }
    }

    fn sm_count(&self) -> u32 {
        132
    }

    fn wants(&self) -> ImageKind {
        ImageKind::Ptx
    }

    fn alloc(&self, _: u64) -> Result<(), DeviceError> {
        Ok(())
    }

    fn address(&self, (): &()) -> u64 {
        4096
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

    fn launch(&self, (): &(), _: &Geometry, _: &[ArgValue], _: Stream) -> Result<(), DeviceError> {
        self.0.set(self.0.get() + 1);
        Ok(())
    }

    fn sync(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

#[test]
fn choosing_reshaping_and_launching_allocate_nothing() {
    let engine = Engine::new(pack(), Counter::default()).unwrap();
    let mut chosen = Vec::with_capacity(8);
    let count = allocations(|| {
        for [m, n, k] in [[1, 512, 4096], [777, 1000, 520], [3, 5, 7]] {
            let vars = Vars::gemm(m, n, k);
            chosen.push(engine.select("gemm", CLASS, &vars, Policy::Fastest).unwrap());
            chosen.push(engine.select("gemm", CLASS, &vars, Policy::BatchInvariant).unwrap());
        }
    });
    assert_eq!(chosen, [1, 0, 0, 0, 2, 2].map(PlanIndex));
    assert_eq!(count, 0);

    let class = engine.pack().dispatcher().class("gemm", CLASS).unwrap();
    let count = allocations(|| {
        for policy in [Policy::Fastest, Policy::BatchInvariant, Policy::Pinned("gemm_any")] {
            chosen[0] = engine.select_in(class, &Vars::gemm(1, 512, 4096), policy).unwrap();
        }
    });
    assert_eq!(count, 0);

    let problem = |m| Problem { vars: Vars::gemm(m, 512, 4096), scalars: &[("alpha", 1.0)] };
    let mut ready = [0, 1].map(|plan| engine.prepare(PlanIndex(plan), &problem(64)).unwrap());
    let count = allocations(|| {
        for ready in &mut ready {
            for m in 1..=64 {
                engine.reshape(ready, &problem(m)).unwrap();
            }
            for base in [0x1000, 0x2000, 0x2000] {
                engine.launch(ready, &[base, base + 16, base + 32], Stream::default()).unwrap();
            }
        }
    });
    assert_eq!(engine.device().0.get(), 9);
    assert_eq!(count, 0);
}
