//! The CUDA device against a stand-in driver: a library in C that is found in the place of the real one.

use std::env;
use std::fs;
use std::process::Command;

use tilewright_runtime::arch::ComputeCapability;
use tilewright_runtime::cuda::CudaDevice;
use tilewright_runtime::device::{Device, DeviceError, Stream};
use tilewright_runtime::dispatch::{PlanIndex, Policy};
use tilewright_runtime::engine::{Engine, EngineError, Problem};
use tilewright_runtime::expr::Vars;

use crate::fixture::{CLASS, pack};

const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/runtime/fixtures/libcuda.c");
/// Set for the process in which the stand-in is the driver: where it writes what it is asked to do.
const LOG: &str = "STAND_IN_LOG";

#[test]
fn plans_run_through_the_drivers_calls() {
    with_stand_in("plans_run_through_the_drivers_calls", plans);
}

#[test]
fn a_launch_is_captured_into_a_graph() {
    with_stand_in("a_launch_is_captured_into_a_graph", capture);
}

#[test]
fn two_devices_work_side_by_side() {
    with_stand_in("two_devices_work_side_by_side", two_devices);
}

/// Runs `work`, which is given the log, in a process in which the stand-in is the driver.
fn with_stand_in(test: &str, work: fn(&dyn Fn() -> String)) {
    if let Some(log) = env::var_os(LOG) {
        return work(&|| fs::read_to_string(&log).unwrap());
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
        .args(["--exact", &format!("driver::{test}"), "--nocapture"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env(LOG, folder.path().join("log"))
        .output()
        .unwrap();
    let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && words.contains("1 passed"), "{words}");
}

fn plans(log: &dyn Fn() -> String) {
    let device = CudaDevice::open(0).unwrap();
    assert_eq!((device.name(), device.sm_count()), ("Stand-in 40", 132));
    assert_eq!(device.capability(), ComputeCapability { major: 9, minor: 0 });
    assert_eq!(CudaDevice::open(2).err(), Some(DeviceError::NoDevice { ordinal: 2, count: 2 }));

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
    engine.launch(&mut ready, &[0x1000, 0x2000, 0x3010], Stream(7)).unwrap();
    engine.launch(&mut ready, &[0x1000, 0x5000, 0x3010], Stream(7)).unwrap();
    let refused = engine.launch(&mut ready, &[0x1000, 0x5000, 0x3010], Stream(0xbad)).unwrap_err().to_string();
    assert!(refused.starts_with("launching kernel `gemm_128x256` with Geometry { grid: [24, 1, 1]"), "{refused}");
    assert!(refused.ends_with("cuLaunchKernelEx failed with CUDA_ERROR_INVALID_VALUE (invalid argument)"), "{refused}");

    let small = Problem { vars: Vars::gemm(16, 520, 4096), ..problem };
    let mut split = engine.prepare(PlanIndex(1), &small).unwrap();
    engine.launch(&mut split, &[0x1000, 0x2000, 0x3010], Stream::default()).unwrap();

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
maps 1000 2000 ptr 3010 i32 1000 520 72 f32 0.5
launch gemm_128x256.cubin grid 24 1 1 block 384 shared 196608 stream 7 attribute 4 cluster 2 \
maps 1000 5000 ptr 3010 i32 1000 520 72 f32 0.5
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

/// Everything a server does in a step, while everything that would end a capture fails.
fn capture(log: &dyn Fn() -> String) {
    let engine = Engine::new(pack(), CudaDevice::open(0).unwrap()).unwrap();
    let device = engine.device();
    let problem = |m| Problem { vars: Vars::gemm(m, 520, 4096), scalars: &[("alpha", 0.5)] };
    let stream = device.stream().unwrap();
    let mut split = engine.prepare(PlanIndex(1), &problem(64)).unwrap();
    let mut tiled = engine.prepare(PlanIndex(0), &problem(64)).unwrap();
    let addresses = [0x1000, 0x2000, 0x3000];
    let graph = device.capture(&stream, || {
        // Never launched before, so nothing was put off until the first launch; shapes that grow; another stream's work.
        for m in [1, 2, 64] {
            engine.reshape(&mut split, &problem(m))?;
            engine.launch(&mut split, &addresses, stream.id())?;
        }
        engine.launch(&mut tiled, &addresses, Stream(0x99))?;
        engine.select("gemm", CLASS, &problem(7).vars, Policy::Fastest).map(|_| ())
    });
    graph.unwrap().launch(&stream).unwrap();
    assert!(log().ends_with("captured 6 launches\ngraph\n"), "{}", log());

    // What is done outside of launching is refused there, so the stand-in looks.
    let unsupported = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED";
    let refused = |work: &mut dyn FnMut() -> Result<(), EngineError>, expected: &str| {
        let error = device.capture(&stream, work).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&mut || Ok(device.alloc(256).map(drop)?), unsupported);
    refused(&mut || Ok(device.sync()?), unsupported);
    refused(&mut || engine.prepare(PlanIndex(1), &problem(64)).map(drop), unsupported);
    refused(&mut || engine.launch(&mut tiled, &addresses, Stream::default()), "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT");
    engine.launch(&mut tiled, &addresses, Stream::default()).unwrap();
}

/// Two engines on two devices, used by several threads in turns: every handle is used in its own context.
fn two_devices(log: &dyn Fn() -> String) {
    let engines = [0, 1].map(|ordinal| Engine::new(pack(), CudaDevice::open(ordinal).unwrap()).unwrap());
    assert_eq!(engines.each_ref().map(|engine| engine.device().sm_count()), [132, 100]);
    let problem = Problem { vars: Vars::gemm(60, 520, 4096), scalars: &[("alpha", 0.5)] };
    let addresses = [0x1000, 0x2000, 0x3000];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut ready = engines.each_ref().map(|engine| engine.prepare(PlanIndex(1), &problem).unwrap());
                for round in 0..20 {
                    for at in [round % 2, 1 - round % 2] {
                        engines[at].launch(&mut ready[at], &addresses, Stream(0x77)).unwrap();
                    }
                }
                let error = engines[1].launch(&mut ready[0], &addresses, Stream::default()).unwrap_err();
                assert_eq!(error, EngineError::OtherEngine { plan: PlanIndex(1) });
            });
        }
    });
    let count = |start: &str| log().lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("kernel "), 4, "two kernels on each of two devices, each once");
    assert_eq!(count("launch "), 4 * 20 * 2 * 2);
    drop(engines);
    assert!(log().ends_with("released 0 allocations 0 libraries 0\n"), "{}", log());
}
