//! Preparing again for another shape, workspaces that share memory, and whose a launchable is.

use std::collections::HashMap;
use std::path::Path;

use tilewright_runtime::device::{ArgValue, Geometry, Stream};
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::engine::{Engine, EngineError, Problem, TensorInfo};
use tilewright_runtime::expr::{VarId, Vars};
use tilewright_runtime::manifest::{Manifest, ParamKind};
use tilewright_runtime::pack::Pack;
use tilewright_runtime::plan::{Plan, PlanLaunch, PlanTensor, Role};

use crate::fixture::{Launched, Recorder, manifest, pack, write};

const TILED: PlanIndex = PlanIndex(0);
const SPLIT: PlanIndex = PlanIndex(1);
const ALPHA: &[(&str, f32)] = &[("alpha", 0.5)];

fn problem(m: i64, n: i64, k: i64) -> Problem<'static> {
    Problem { vars: Vars::gemm(m, n, k), scalars: ALPHA }
}

/// Launches without what depends on where an allocation happened to be.
fn forget_addresses(launched: Vec<Launched>) -> Vec<(String, Geometry, Vec<ArgValue>)> {
    let mut first: HashMap<u64, u64> = HashMap::new();
    let mut number = |address: u64| {
        let next = first.len() as u64;
        *first.entry(address).or_insert(next)
    };
    let mut forget = |arg: ArgValue| match arg {
        ArgValue::Ptr(address) => ArgValue::Ptr(number(address)),
        ArgValue::TensorMap(mut map) => {
            assert_eq!(map.encoded.0[0], map.desc.address, "encoded for its address");
            map.desc.address = number(map.desc.address);
            map.encoded = Default::default();
            ArgValue::TensorMap(map)
        }
        other => other,
    };
    launched.into_iter().map(|(id, geometry, args, _)| (id, geometry, args.into_iter().map(&mut forget).collect())).collect()
}

#[test]
fn a_reshaped_plan_launches_what_a_fresh_one_does() {
    let engine = Engine::new(pack(), Recorder::hopper()).unwrap();
    let fresh = Engine::new(pack(), Recorder::hopper()).unwrap();
    let addresses = [0x1000, 0x2000, 0x3000];
    for plan in [TILED, SPLIT, PlanIndex(2)] {
        let scalars = if plan == PlanIndex(2) { &[] } else { ALPHA };
        let problem = |m| Problem { vars: Vars::gemm(m, 520, 4096), scalars };
        let mut ready = engine.prepare(plan, &problem(64)).unwrap();
        for m in [1, 2, 64, 63, 64, 64, 1] {
            engine.reshape(&mut ready, &problem(m)).unwrap();
            let mut other = fresh.prepare(plan, &problem(m)).unwrap();
            let tensors: [&[TensorInfo]; 2] = [ready.tensors(), other.tensors()];
            assert_eq!(tensors[0], tensors[1], "m {m}");
            engine.launch(&mut ready, &addresses, Stream::default()).unwrap();
            fresh.launch(&mut other, &addresses, Stream::default()).unwrap();
            let launched = [&engine, &fresh].map(|e| forget_addresses(e.device().launches.take()));
            assert_eq!(launched[0], launched[1], "m {m}");
            assert!(!launched[0].is_empty());
        }
    }
}

/// Every plan of the shipped packs that a product of matrices can be, over shapes in both directions.
#[test]
fn plans_of_the_shipped_pack_reshape_as_they_prepare() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels-generated/sm90");
    let [engine, fresh] = [0, 1].map(|_| Engine::new(Pack::open(&folder).unwrap(), Recorder::hopper()).unwrap());
    let plans = &engine.pack().manifest().plans;
    let (mut compared, mut seen) = (0, Vec::new());
    for (at, plan) in plans.iter().enumerate().filter(|(_, plan)| plan.op == "gemm") {
        // One of each chain of kernels: loading them takes most of the time.
        let shape = (plan.class.clone(), plan.launches.len(), plan.tensors.len());
        if seen.contains(&shape) {
            continue;
        }
        seen.push(shape);
        let index = PlanIndex(at as u32);
        let names = engine.scalars(index).unwrap();
        let scalars: Vec<(&str, f32)> = names.iter().map(|name| (*name, 0.25)).collect();
        let problem = |m| Problem { vars: Vars::gemm(m, 1024, 2048), scalars: &scalars };
        let Ok(mut ready) = engine.prepare(index, &problem(512)) else { continue };
        let addresses = vec![0x10_0000; ready.tensors().len()];
        for m in [8, 512, 256] {
            engine.reshape(&mut ready, &problem(m)).unwrap();
            let mut other = fresh.prepare(index, &problem(m)).unwrap();
            engine.launch(&mut ready, &addresses, Stream::default()).unwrap();
            fresh.launch(&mut other, &addresses, Stream::default()).unwrap();
            let launched = [&engine, &fresh].map(|e| forget_addresses(e.device().launches.take()));
            assert_eq!(launched[0], launched[1], "{} m {m}", plan.id);
            compared += 1;
        }
    }
    assert!(compared > 30, "only {compared}");
}

#[test]
fn workspaces_do_not_grow_behind_the_callers_back() {
    let engine = Engine::new(pack(), Recorder::hopper()).unwrap();
    let mut ready = engine.prepare(SPLIT, &problem(16, 512, 4096)).unwrap();
    let bytes = 4 * 16 * 512 * 4;
    assert_eq!(ready.workspace_bytes(), bytes);
    let error = engine.reshape(&mut ready, &problem(17, 512, 4096)).unwrap_err();
    let needed = 4 * 17 * 512 * 4;
    assert_eq!(error, EngineError::Workspace { plan: "gemm_split4".into(), needed, found: bytes });
    let error = engine.launch(&mut ready, &[0x10, 0x20, 0x30], Stream::default()).unwrap_err();
    assert_eq!(error, EngineError::NotReady { plan: "gemm_split4".into() });
    engine.grow(&mut ready, &problem(17, 512, 4096)).unwrap();
    assert_eq!(ready.workspace_bytes(), needed);
    engine.reshape(&mut ready, &problem(1, 8, 4096)).unwrap();
    assert_eq!(ready.workspace_bytes(), needed, "kept");
    engine.launch(&mut ready, &[0x10, 0x20, 0x30], Stream::default()).unwrap();
    // Conditions and scalars count as when preparing.
    let error = engine.reshape(&mut ready, &problem(65, 8, 4096)).unwrap_err().to_string();
    assert!(error.starts_with("plan `gemm_split4` requires `m <= 64`"), "{error}");
    let error = engine.reshape(&mut ready, &Problem { scalars: &[], ..problem(1, 8, 4096) }).unwrap_err().to_string();
    assert_eq!(error, "plan `gemm_split4` needs scalar `alpha`");
    let error = engine.reshape(&mut ready, &Problem { scalars: &[("beta", 1.0)], ..problem(1, 8, 4096) }).unwrap_err();
    assert!(matches!(error, EngineError::UnusedScalar { .. }), "{error}");
}

#[test]
fn launches_that_become_empty_and_come_back() {
    let mut manifest = manifest();
    manifest.kernels[0].launch.grid[0] = "round_up(m / 128, 2)".parse().unwrap();
    let folder = write(&manifest);
    let engine = Engine::new(Pack::open(folder.path()).unwrap(), Recorder::hopper()).unwrap();
    let mut ready = engine.prepare(TILED, &problem(64, 256, 64)).unwrap();
    let mut launches = |m, base: u64| {
        engine.reshape(&mut ready, &problem(m, 256, 64)).unwrap();
        engine.launch(&mut ready, &[base, base + 16, base + 32], Stream::default()).unwrap();
        let args = engine.device().launches.take().into_iter().flat_map(|launched| launched.2);
        args.filter_map(|arg| match arg {
            ArgValue::TensorMap(map) => Some((map.desc.dims[1], map.encoded.0[0])),
            _ => None,
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(launches(64, 0x1000), [], "an empty grid");
    assert_eq!(launches(256, 0x1000), [(256, 0x1000), (256, 0x1010)], "the same addresses, not yet written");
    assert_eq!(launches(1, 0x2000), []);
    assert_eq!(launches(256, 0x2000), [(256, 0x2000), (256, 0x2010)]);
}

/// The fixture with a chain of copies: input, four workspaces one after another, output.
fn chain() -> Manifest {
    let mut manifest = manifest();
    let tensor = |name: &str, role| PlanTensor { name: name.into(), dtype: Dtype::F32, shape: vec!["m".parse().unwrap()], role };
    let names = ["a", "w0", "w1", "w2", "w3", "d"];
    let plan = &mut manifest.plans[2];
    plan.tensors = names.iter().map(|name| tensor(name, Role::Workspace)).collect();
    (plan.tensors[0].role, plan.tensors[5].role) = (Role::Input, Role::Output);
    let copy = |pair: &[&str]| PlanLaunch {
        kernel: "split_sum".into(),
        binds: [("x".to_owned(), pair[0].to_owned()), ("y".to_owned(), pair[1].to_owned())].into(),
        sets: [("elements".to_owned(), "m".parse().unwrap())].into(),
    };
    plan.launches = names.windows(2).map(copy).collect();
    manifest
}

#[test]
fn workspaces_that_follow_one_another_take_turns() {
    let folder = write(&chain());
    let engine = Engine::new(Pack::open(folder.path()).unwrap(), Recorder::hopper()).unwrap();
    let mut ready = engine.prepare(PlanIndex(2), &problem(1000, 8, 8)).unwrap();
    assert_eq!(ready.workspace_bytes(), 2 * 4096, "two at a time of 4000 bytes");
    engine.launch(&mut ready, &[0x10, 0x20], Stream::default()).unwrap();
    let launches = engine.device().launches.take();
    let pairs: Vec<[u64; 2]> = launches
        .iter()
        .map(|(_, _, args, _)| match args[..] {
            [ArgValue::Ptr(x), ArgValue::Ptr(y), ..] => [x, y],
            _ => panic!("{args:?}"),
        })
        .collect();
    let [first, second] = [pairs[0][1], pairs[1][1]];
    assert_ne!(first, second);
    assert_eq!(pairs, [[0x10, first], [first, second], [second, first], [first, second], [second, 0x20]]);
    assert!([first, second].iter().all(|address| address % 256 == 0));
    let huge = engine.prepare(PlanIndex(2), &problem(i64::MAX / 4, 8, 8)).err().unwrap();
    assert_eq!(huge, EngineError::WorkspaceRange { plan: "gemm_any".into() });
}

#[test]
fn a_launchable_stays_with_its_engine_and_where_told_its_stream() {
    let [one, other] = [0, 1].map(|_| Engine::new(pack(), Recorder::hopper()).unwrap());
    let mut ready = one.prepare(SPLIT, &problem(16, 512, 4096)).unwrap();
    let addresses = [0x10, 0x20, 0x30];
    let error = other.launch(&mut ready, &addresses, Stream(1)).unwrap_err();
    assert_eq!(error.to_string(), "plan 1 was prepared by another engine: launch it there");
    assert_eq!(other.reshape(&mut ready, &problem(1, 8, 4096)), Err(EngineError::OtherEngine { plan: SPLIT }));
    one.launch(&mut ready, &addresses, Stream(1)).unwrap();
    one.launch(&mut ready, &addresses, Stream(2)).unwrap();
    ready.keep_to(Stream(2));
    one.launch(&mut ready, &addresses, Stream(2)).unwrap();
    let error = one.launch(&mut ready, &addresses, Stream(3)).unwrap_err().to_string();
    assert_eq!(error, "plan `gemm_split4` keeps to stream 0x2 and was launched on 0x3: prepare another for that stream");
    assert_eq!(one.device().launches.borrow().len(), 6);
}

#[test]
fn a_kernel_that_did_not_load_is_tried_again() {
    let engine = Engine::new(pack(), Recorder::hopper()).unwrap();
    engine.device().fail_loading.set(true);
    let error = engine.prepare(TILED, &problem(8, 8, 8)).err().unwrap().to_string();
    assert_eq!(error, "loading: told to");
    engine.prepare(TILED, &problem(8, 8, 8)).unwrap();
    assert_eq!(engine.device().loaded.borrow().len(), 1);
}

#[test]
fn variables_of_a_launch_stand_for_what_it_sets() {
    // `split_k` is 0 for the problem and 4 in the launches, whose `elements` is m times n.
    let engine = Engine::new(pack(), Recorder::hopper()).unwrap();
    let mut vars = Vars::gemm(3, 8, 4096);
    vars.set(VarId::of("elements"), 77).unwrap();
    let mut ready = engine.prepare(SPLIT, &Problem { vars, scalars: ALPHA }).unwrap();
    engine.launch(&mut ready, &[0x10, 0x20, 0x30], Stream::default()).unwrap();
    let launches = engine.device().launches.take();
    assert_eq!(launches[0].1.grid, [1, 1, 4]);
    assert_eq!(launches[1].2[2..4], [ArgValue::I64(24), ArgValue::I32(4)]);
    let kernel = &engine.pack().manifest().kernels[2];
    assert!(matches!(&kernel.params[2].kind, ParamKind::I64 { value } if value.text() == "elements"));
}

/// Workspaces of a plan for a problem: bytes in a multiple of 256, first and last launch that touches each.
fn workspaces(manifest: &Manifest, plan: &Plan, vars: &Vars) -> Vec<(u64, usize, usize)> {
    let mut lives: HashMap<&str, (usize, usize)> = HashMap::new();
    for (at, launch) in plan.launches.iter().enumerate() {
        let kernel = &manifest.kernels[manifest.kernel(&launch.kernel).unwrap()];
        for (name, _) in kernel.params.iter().filter_map(|param| param.kind.tensor()) {
            lives.entry(&launch.binds[name]).and_modify(|life| life.1 = at).or_insert((at, at));
        }
    }
    let bytes = |tensor: &PlanTensor| {
        let elements: i64 = tensor.shape.iter().map(|extent| extent.eval(vars).unwrap()).product();
        (elements as u64 * tensor.dtype.bytes()).max(1).next_multiple_of(256)
    };
    let all = plan.tensors.iter().filter(|tensor| tensor.role == Role::Workspace);
    all.map(|tensor| (bytes(tensor), lives[tensor.name.as_str()].0, lives[tensor.name.as_str()].1)).collect()
}

#[test]
fn a_networks_workspaces_take_little_more_than_what_lives_at_once() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels-generated/sm90");
    let engine = Engine::new(Pack::open(folder).unwrap(), Recorder::hopper()).unwrap();
    let manifest = engine.pack().manifest();
    let mut vars = Vars::new();
    for (level, rows) in [100_000, 65_000, 36_000, 17_000, 7_000].into_iter().enumerate() {
        vars.set(VarId::of(&format!("rows{level}")), rows).unwrap();
    }
    let mut seen = 0;
    for (at, plan) in manifest.plans.iter().enumerate().filter(|(_, plan)| plan.op == "sparse_network") {
        let ready = engine.prepare(PlanIndex(at as u32), &Problem { vars, scalars: &[] }).unwrap();
        let all = workspaces(manifest, plan, &vars);
        let apart: u64 = all.iter().map(|room| room.0).sum();
        let at_once = |launch| all.iter().filter(|room| (room.1..=room.2).contains(&launch)).map(|room| room.0).sum::<u64>();
        let least = (0..plan.launches.len()).map(at_once).max().unwrap();
        let packed = ready.workspace_bytes();
        assert!(packed >= least && packed as f64 <= 1.1 * least as f64, "{packed} for {least}");
        assert!(packed < apart / 3, "{packed} of {apart}");
        seen += 1;
    }
    assert!(seen > 0);
}
