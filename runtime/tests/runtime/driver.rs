//! The CUDA device against a stand-in driver: a library in C that is found in the place of the real one.

use std::env;
use std::fs;
use std::process::Command;

use tilewright_runtime::arch::ComputeCapability;
use tilewright_runtime::cuda::CudaDevice;
use tilewright_runtime::device::{Device, DeviceError, Stream};
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::engine::{Engine, Problem};
use tilewright_runtime::expr::Vars;

use crate::fixture::pack;

const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/runtime/fixtures/libcuda.c");
/// Set for the process in which the stand-in is the driver: where it writes what it is asked to do.
const LOG: &str = "STAND_IN_LOG";

#[test]
fn plans_run_through_the_drivers_calls() {
    if let Some(log) = env::var_os(LOG) {
        return with_stand_in(&|| fs::read_to_string(&log).unwrap());
    }
    // The loader reads its path once, when a process starts, so the test runs itself again.
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libcuda.so");
    let built = Command::new("cc").args(["-std=gnu11", "-shared", "-fPIC", "-o"]).arg(&library).arg(STAND_IN).output();
    let built = match built {
        Ok(output) => output,
        Err(error) => return eprintln!("skipped: no C compiler: {error}"),
    };
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "driver::plans_run_through_the_drivers_calls", "--nocapture"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env(LOG, folder.path().join("log"))
        .output()
        .unwrap();
    let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && words.contains("1 passed"), "{words}");
}

fn with_stand_in(log: &dyn Fn() -> String) {
    let device = CudaDevice::open(0).unwrap();
    assert_eq!((device.name(), device.sm_count()), ("Stand-in 40", 132));
    assert_eq!(device.capability(), ComputeCapability { major: 9, minor: 0 });
    assert_eq!(CudaDevice::open(1).err(), Some(DeviceError::NoDevice { ordinal: 1, count: 1 }));

    let buffer = device.alloc(100).unwrap();
    device.upload(&buffer, 90, b"0123456789").unwrap();
    let mut back = [0; 4];
    device.download(&buffer, 94, &mut back).unwrap();
    assert_eq!(&back, b"4567");
    let beyond = device.upload(&buffer, 95, b"012345").unwrap_err().to_string();
    assert_eq!(beyond, "copying 6 bytes at offset 95: the buffer has 100 bytes");
    drop(buffer);

    let engine = Engine::new(pack(), device).unwrap();
    let problem = Problem { vars: Vars::gemm(1000, 520, 72), scalars: &[("alpha", 0.5)] };
    let mut ready = engine.prepare(PlanIndex(0), &problem).unwrap();
    engine.launch(&mut ready, &[0x1000, 0x2000, 0x3002], Stream(7)).unwrap();
    engine.launch(&mut ready, &[0x1000, 0x5000, 0x3002], Stream(7)).unwrap();
    let refused = engine.launch(&mut ready, &[0x1000, 0x5000, 0x3002], Stream(0xbad)).unwrap_err().to_string();
    assert!(refused.starts_with("launching kernel `gemm_128x256` with Geometry { grid: [24, 1, 1]"), "{refused}");
    assert!(refused.ends_with("cuLaunchKernelEx failed with CUDA_ERROR_INVALID_VALUE (invalid argument)"), "{refused}");

    let small = Problem { vars: Vars::gemm(16, 520, 4096), ..problem };
    let mut split = engine.prepare(PlanIndex(1), &small).unwrap();
    engine.launch(&mut split, &[0x1000, 0x2000, 0x3002], Stream::default()).unwrap();

    let Err(error) = engine.prepare(PlanIndex(2), &Problem { scalars: &[], ..small }) else { panic!("prepared") };
    let expected = "loading kernel `gemm_any` (PTX): ptxas fatal: line 3; no: cuLibraryLoadData failed with \
                    CUDA_ERROR_INVALID_PTX (error 218)";
    assert_eq!(error.to_string(), expected);
    drop((ready, split, engine));

    let expected = "\
kernel gemm_128x256 of gemm_128x256.cubin
set gemm_128x256.cubin 8 = 196608
map type 9 rank 2 dims 72 1000 stride 144 box 64 128 modes 0 3 3 0
map type 9 rank 2 dims 72 520 stride 144 box 64 256 modes 0 3 3 0
launch gemm_128x256.cubin grid 24 1 1 block 384 shared 196608 stream 7 attribute 4 cluster 2 \
maps 1000 2000 ptr 3002 i32 1000 520 72 f32 0.5
launch gemm_128x256.cubin grid 24 1 1 block 384 shared 196608 stream 7 attribute 4 cluster 2 \
maps 1000 5000 ptr 3002 i32 1000 520 72 f32 0.5
kernel gemm_split of gemm_split.ptx
set gemm_split.ptx 8 = 65536
kernel split_sum of split_sum.ptx
map type 9 rank 2 dims 4096 16 stride 8192 box 64 64 modes 0 3 3 0
launch gemm_split.ptx grid 1 5 4 block 128 shared 65536 stream 0
launch split_sum.ptx grid 9 1 1 block 256 shared 0 stream 0
released 0 allocations 0 libraries 0
";
    assert_eq!(log(), expected);
}
