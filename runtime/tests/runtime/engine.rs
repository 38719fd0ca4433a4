//! Plans prepared and launched on a device that records.

use tilewright_runtime::arch::ComputeCapability;
use tilewright_runtime::compat::{Code, JitReason};
use tilewright_runtime::device::{ArgValue, Geometry, ImageKind, Stream};
use tilewright_runtime::dispatch::{PlanIndex, Policy};
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::engine::{Engine, EngineError, Problem};
use tilewright_runtime::expr::Vars;
use tilewright_runtime::manifest::Manifest;
use tilewright_runtime::pack::{Pack, PackError};
use tilewright_runtime::plan::Role;

use crate::fixture::{CLASS, Recorder, manifest, pack, write};

const TILED: PlanIndex = PlanIndex(0);
const SPLIT: PlanIndex = PlanIndex(1);
const ALPHA: &[(&str, f32)] = &[("alpha", 0.5)];

fn engine() -> Engine<Recorder> {
    Engine::new(pack(), Recorder::hopper()).unwrap()
}

fn problem(m: i64, n: i64, k: i64) -> Problem<'static> {
    Problem { vars: Vars::gemm(m, n, k), scalars: ALPHA }
}

/// The error of preparing the tiled plan of a changed manifest.
fn prepare_error(change: impl FnOnce(&mut Manifest), problem: &Problem<'_>) -> String {
    let mut manifest = manifest();
    change(&mut manifest);
    let folder = write(&manifest);
    let engine = Engine::new(Pack::open(folder.path()).unwrap(), Recorder::hopper()).unwrap();
    let Err(error) = engine.prepare(TILED, problem) else { panic!("prepared") };
    error.to_string()
}

#[test]
fn a_tiled_launch_gets_its_sizes_and_maps() {
    let engine = engine();
    let plan = engine.select("gemm", CLASS, &Vars::gemm(1000, 520, 72), Policy::Fastest).unwrap();
    assert_eq!(plan, TILED);
    let mut ready = engine.prepare(plan, &problem(1000, 520, 72)).unwrap();
    let infos: Vec<_> = ready.tensors().iter().map(|t| (t.name.as_str(), t.role, t.bytes, t.alignment)).collect();
    assert_eq!(infos, [("a", Role::Input, 144_000, 16), ("b", Role::Input, 74_880, 16), ("d", Role::Output, 1_040_000, 16)]);
    assert_eq!(ready.tensors()[1].shape, [520, 72]);
    assert_eq!(ready.workspace_bytes(), 0);

    engine.launch(&mut ready, &[0x1000, 0x2000, 0x3010], Stream(7)).unwrap();
    let launches = engine.device().launches.borrow();
    let [(entry, geometry, args, Stream(7))] = launches.as_slice() else { panic!("{launches:?}") };
    assert_eq!(entry, "gemm_128x256");
    let grid = [24, 1, 1]; // 8 x 3 tiles, fewer than 132, even
    assert_eq!(*geometry, Geometry { grid, block: [384, 1, 1], cluster: [2, 1, 1], shared_bytes: 196_608 });
    let [ArgValue::TensorMap(a), ArgValue::TensorMap(b), rest @ ..] = args.as_slice() else { panic!("{args:?}") };
    assert_eq!(rest, [ArgValue::Ptr(0x3010), ArgValue::I32(1000), ArgValue::I32(520), ArgValue::I32(72), ArgValue::F32(0.5)]);
    assert_eq!((a.desc.address, a.desc.rank, a.desc.dtype), (0x1000, 2, Dtype::Bf16));
    assert_eq!((&a.desc.dims[..2], &a.desc.strides[..1], &a.desc.box_dims[..2]), (&[72, 1000][..], &[144][..], &[64, 128][..]));
    assert_eq!((b.desc.address, &b.desc.dims[..2], b.encoded.0[0]), (0x2000, &[72, 520][..], 0x2000));
}

#[test]
fn a_split_sum_runs_as_two_launches_over_a_workspace() {
    let engine = engine();
    let plan = engine.select("gemm", CLASS, &Vars::gemm(16, 520, 4096), Policy::Fastest).unwrap();
    assert_eq!(plan, SPLIT);
    let mut ready = engine.prepare(plan, &problem(16, 520, 4096)).unwrap();
    assert_eq!(ready.workspace_bytes(), 4 * 16 * 520 * 4);
    assert_eq!(ready.tensors().len(), 3);
    engine.launch(&mut ready, &[0x1000, 0x2000, 0x3000], Stream::default()).unwrap();
    let launches = engine.device().launches.borrow();
    let [(_, gemm, gemm_args, _), (_, sum, sum_args, _)] = launches.as_slice() else { panic!("{launches:?}") };
    assert_eq!((gemm.grid, sum.grid), ([1, 5, 4], [9, 1, 1]));
    let [_, ArgValue::Ptr(0x2000), ArgValue::Ptr(part), ArgValue::I64(1024)] = gemm_args.as_slice() else {
        panic!("{gemm_args:?}")
    };
    assert_ne!(*part, 0);
    let expected = [ArgValue::Ptr(*part), ArgValue::Ptr(0x3000), ArgValue::I64(16 * 520), ArgValue::I32(4), ArgValue::F32(0.5)];
    assert_eq!(*sum_args, expected);
}

#[test]
fn only_moved_tensors_are_encoded_again() {
    let engine = engine();
    let mut ready = engine.prepare(TILED, &problem(128, 256, 64)).unwrap();
    let encoded = || engine.device().encoded.take().iter().map(|desc| desc.address).collect::<Vec<_>>();
    assert_eq!(encoded(), [0; 0], "nothing is encoded before an address is known");
    engine.launch(&mut ready, &[0x1000, 0x2000, 0x3000], Stream::default()).unwrap();
    assert_eq!(encoded(), [0x1000, 0x2000]);
    engine.launch(&mut ready, &[0x1000, 0x2000, 0x4000], Stream::default()).unwrap();
    assert_eq!(encoded(), [0; 0]);
    engine.launch(&mut ready, &[0x5000, 0x2000, 0x4000], Stream::default()).unwrap();
    assert_eq!(encoded(), [0x5000]);
    // After a failure nothing is taken for done.
    engine.device().fail_encoding.set(true);
    engine.launch(&mut ready, &[0x6000, 0x2000, 0x4000], Stream::default()).unwrap_err();
    engine.launch(&mut ready, &[0x6000, 0x2000, 0x4000], Stream::default()).unwrap();
    assert_eq!(encoded(), [0x6000, 0x2000]);
    assert_eq!(engine.device().launches.borrow().len(), 4);
    // Nor for undone: the first map had moved when the second failed.
    engine.device().fail_address.set(0xbad0);
    engine.launch(&mut ready, &[0x7000, 0xbad0, 0x4000], Stream::default()).unwrap_err();
    engine.launch(&mut ready, &[0x6000, 0x2000, 0x4000], Stream::default()).unwrap();
    assert_eq!(encoded(), [0x7000, 0x6000, 0x2000]);
    let launches = engine.device().launches.borrow();
    let [ArgValue::TensorMap(a), ArgValue::TensorMap(b), ..] = launches[4].2.as_slice() else { panic!("{launches:?}") };
    assert_eq!((a.encoded.0[0], b.encoded.0[0]), (0x6000, 0x2000));
}

#[test]
fn a_kernel_is_loaded_once_and_as_the_device_wants_it() {
    let engine = engine();
    for m in [1, 100] {
        engine.prepare(TILED, &problem(m, 8, 8)).unwrap();
    }
    engine.prepare(SPLIT, &problem(1, 8, 256)).unwrap();
    let loaded: Vec<_> = engine.device().loaded.take().into_iter().map(|(id, kind, _)| (id, kind)).collect();
    let expected = [("gemm_128x256", ImageKind::Cubin), ("gemm_split", ImageKind::Ptx), ("split_sum", ImageKind::Ptx)];
    assert_eq!(loaded, expected.map(|(id, kind)| (id.to_owned(), kind)));

    let emulator = Engine::new(pack(), Recorder { wants: ImageKind::Ptx, ..Recorder::hopper() }).unwrap();
    emulator.prepare(TILED, &problem(1, 8, 8)).unwrap();
    let loaded = emulator.device().loaded.take();
    assert_eq!(loaded, [("gemm_128x256".to_owned(), ImageKind::Ptx, b"gemm_128x256.ptx".to_vec())]);
}

#[test]
fn ptx_stands_in_where_the_machine_code_does_not_run_and_the_caller_is_told() {
    let mut plain = manifest();
    plain.arch = "sm_80".to_owned();
    let folder = write(&plain);
    let on = |driver: Option<&str>| {
        let driver = driver.map(|version| version.parse().unwrap());
        Engine::new(Pack::open(folder.path()).unwrap(), Recorder { driver, ..Recorder::hopper() })
    };
    let engine = on(Some("12.0")).unwrap();
    assert_eq!(engine.code(), Code::Jit(JitReason::Arch));
    engine.prepare(TILED, &problem(1, 8, 8)).unwrap();
    let loaded = engine.device().loaded.take();
    assert_eq!(loaded, [("gemm_128x256".to_owned(), ImageKind::Ptx, b"gemm_128x256.ptx".to_vec())]);
    let error = on(Some("11.8")).err().unwrap().to_string();
    assert!(error.starts_with("the driver supports CUDA 11.8, and the pack's PTX 8.0 needs a driver for CUDA 12.0"), "{error}");
    assert_eq!(on(None).unwrap().code(), Code::Jit(JitReason::Arch));

    // sm_90a machine code of ptxas 13.0 needs a driver of CUDA 13; its PTX 8.0 does not.
    let older = Recorder { driver: "12.4".parse().ok(), ..Recorder::hopper() };
    assert_eq!(Engine::new(pack(), older).unwrap().code(), Code::Jit(JitReason::Driver));
    let newer = Recorder { driver: "13.0".parse().ok(), ..Recorder::hopper() };
    assert_eq!(Engine::new(pack(), newer).unwrap().code(), Code::Cubin);
}

#[test]
fn every_kernel_can_be_loaded_ahead() {
    let engine = engine();
    assert_eq!(engine.load_all().unwrap(), 4);
    assert_eq!(engine.device().loaded.take().len(), 4);
    engine.prepare(TILED, &problem(1, 8, 8)).unwrap();
    assert!(engine.device().loaded.take().is_empty(), "loaded once");
}

#[test]
fn another_device_is_refused() {
    let ampere = Recorder { capability: ComputeCapability { major: 8, minor: 0 }, ..Recorder::hopper() };
    assert!(matches!(Engine::new(pack(), ampere), Err(PackError::Compat(_))));
}

#[test]
fn problems_outside_a_plan_are_refused() {
    let engine = engine();
    let error = |plan, problem: Problem<'_>| engine.prepare(plan, &problem).err().unwrap().to_string();
    assert!(error(TILED, problem(1, 8, 9)).starts_with("plan `gemm_128x256` requires `k % 8 == 0`"));
    assert!(error(SPLIT, problem(1, 8, 192)).starts_with("plan `gemm_split4` requires `k >= split_k*64`"));
    assert_eq!(error(PlanIndex(3), problem(1, 8, 8)), "no plan 3: the pack has 3");
    let without = Problem { scalars: &[], ..problem(1, 8, 8) };
    assert_eq!(error(TILED, without), "plan `gemm_128x256` needs scalar `alpha`");
    let unused = error(PlanIndex(2), problem(1, 8, 8));
    assert_eq!(unused, "plan `gemm_any` takes no scalar `alpha`, so it would be ignored: use a plan that does");
    let huge = error(TILED, problem(1 << 31, 8, 8));
    assert_eq!(huge, "kernel `gemm_128x256`: parameter `m` is 2147483648, which does not fit 32 bits");
    let negative = error(TILED, problem(-1, 8, 8));
    assert_eq!(negative, "plan `gemm_128x256`: extent -1 of dim 0 of tensor `a` is negative or too large");
    let too_large = error(TILED, problem(1 << 40, 8, 1 << 40));
    assert!(too_large.contains("extent 1099511627776 of dim 1 of tensor `a`"), "{too_large}");
}

#[test]
fn launches_the_hardware_cannot_do_are_refused() {
    let small = problem(300, 256, 64);
    let grid =
        |text: &'static str| prepare_error(|m| m.kernels[0].launch.grid[0] = text.parse().unwrap(), &problem(300, 256, 64));
    assert_eq!(grid("ceil_div(m,128)"), "kernel `gemm_128x256`: grid [3, 1, 1] is no multiple of the cluster [2, 1, 1]");
    assert!(grid("0-2").starts_with("kernel `gemm_128x256`: grid [-2, 1, 1] must be"));
    assert_eq!(grid("m / (n - 256)"), "`m / (n - 256)`: division by 0");
    let y = |m: &mut Manifest| m.kernels[0].launch.grid[1] = "70000".parse().unwrap();
    assert!(prepare_error(y, &small).contains("grid [4, 70000, 1]"));

    let map = |change: fn(&mut tilewright_runtime::manifest::TensorMapSpec)| {
        prepare_error(
            |m| match &mut m.kernels[0].params[0].kind {
                tilewright_runtime::manifest::ParamKind::TensorMap(spec) => change(spec),
                other => panic!("{other:?}"),
            },
            &small,
        )
    };
    let prefix = "kernel `gemm_128x256`: tensor map `a_map`: ";
    let cases = [
        (map(|s| s.strides[0] = "k*2+8".parse().unwrap()), "stride 136 of dim 1 (innermost is 0) must be a multiple of 16"),
        (map(|s| s.dims[1] = "m-300".parse().unwrap()), "extent 0 of dim 1"),
        (map(|s| s.r#box[0] = 60), "the box's rows are 120 bytes, which must be a multiple of 16"),
        (map(|s| s.r#box[0] = 128), "the box's rows are 256 bytes, wider than the 128-byte swizzle"),
    ];
    for (error, expected) in cases {
        assert!(error.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(expected)), "{error}");
    }
}

#[test]
fn an_empty_grid_launches_nothing() {
    let mut manifest = manifest();
    manifest.kernels[0].launch.grid[0] = "m - 8".parse().unwrap();
    let folder = write(&manifest);
    let engine = Engine::new(Pack::open(folder.path()).unwrap(), Recorder::hopper()).unwrap();
    let mut ready = engine.prepare(TILED, &problem(8, 8, 8)).unwrap();
    assert_eq!(ready.geometries().count(), 0);
    engine.launch(&mut ready, &[0x10, 0x20, 0x30], Stream::default()).unwrap();
    assert!(engine.device().launches.borrow().is_empty());
}

#[test]
fn wrong_addresses_are_refused() {
    let engine = engine();
    let mut ready = engine.prepare(TILED, &problem(8, 8, 8)).unwrap();
    let mut error = |addresses: &[u64]| engine.launch(&mut ready, addresses, Stream::default()).unwrap_err();
    assert_eq!(error(&[16, 32]).to_string(), "plan `gemm_128x256` takes 3 tensors and 2 were given");
    let expected = "tensor `b` has address 0x8, which must not be null and be a multiple of 16";
    assert_eq!(error(&[16, 8, 32]).to_string(), expected);
    assert!(matches!(error(&[16, 32, 0]), EngineError::Address { address: 0, .. }));
    assert!(engine.device().launches.borrow().is_empty());
}
