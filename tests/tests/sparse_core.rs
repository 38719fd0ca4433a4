//! The core of sparse convolution on the emulator: every source and exit against f64.

#[path = "common/sparse_core.rs"]
mod common;

use common::{Map, Numbers};
use std::collections::BTreeMap;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::expr::{Expr, VarId, Vars};
use tilewright_runtime::plan::Role;
use tilewright_templates::gemm::Act;
use tilewright_templates::plan::OpPlan;
use tilewright_templates::sparse_conv::core::{
    ConvIo, CoreClass, CoreConfig, EpilogueClass, Exit, Flow, MmaConfig, Source, conv, core_kernel,
};
use tilewright_templates::sparse_conv::{ConvProblem, MapSet, Mode, PairTiles, Pairs, PlanBuilder, Tiles};
use tilewright_tests::mutants::{all_are_seen, outcome};
use tilewright_tests::numbers::{decode, i32s};
use tilewright_tests::{Built, Runner};

fn build(arch: Arch, class: &CoreClass, c: &MmaConfig) -> Built {
    let kernel = core_kernel(arch, class, &CoreConfig::Mma(*c)).unwrap();
    let runner = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
    runner.build(&kernel.kernel).unwrap_or_else(|e| panic!("{}: {e}", kernel.id))
}

fn class(dtype: DType, source: Source, exit: Exit) -> CoreClass {
    CoreClass { dtype, source, exit, epilogue: EpilogueClass::NONE, n_align: 16 / dtype.bytes() }
}

#[test]
fn tiles_with_no_tap_and_with_taps_around_the_depth() {
    let class = class(DType::BF16, Source::Tiles, Exit::Store);
    for (arch, stages) in [(Arch::Sm80, 2), (Arch::Sm90a, 4)] {
        let c = MmaConfig::new([32, 32, 16], stages);
        let built = build(arch, &class, &c);
        for cin in [8, 16, 48] {
            let map = Map::stairs(32, 5, 40);
            let numbers = Numbers::new(map, [cin, 40], class.dtype, class.epilogue, 1);
            for seed in 0..3 {
                numbers.run(&built, &class, 32, 1, false, seed);
            }
        }
    }
}

/// Every source with every exit that takes it.
const WAYS: [(Source, Exit); 6] = [
    (Source::Tiles, Exit::Store),
    (Source::Tiles, Exit::Slab),
    (Source::Pairs, Exit::PairRows),
    (Source::Pairs, Exit::AddAtomic),
    (Source::Tap, Exit::AddPlain),
    (Source::Rows, Exit::PairRows),
];

/// One of each shape of loop and store.
const FEW: [(Source, Exit); 2] = [(Source::Tiles, Exit::Store), (Source::Rows, Exit::PairRows)];

fn every_way(ways: &[(Source, Exit)], arch: Arch, dtype: DType, tile: [u32; 3], [cin, cout]: [usize; 2], sizes: [usize; 4]) {
    for (i, (source, exit)) in ways.iter().copied().enumerate() {
        let c = MmaConfig::new(tile, 3);
        let vec = 16 / dtype.bytes() as usize;
        let n_align = [vec, 2, 1].into_iter().find(|a| cout.is_multiple_of(*a)).unwrap() as u32;
        let class = CoreClass { n_align, ..class(dtype, source, exit) };
        let built = build(arch, &class, &c);
        let numbers = Numbers::new(Map::random(sizes, 100, i as u64), [cin, cout], dtype, class.epilogue, i as u64);
        let splits = if exit == Exit::Slab { 3 } else { 1 };
        // Outputs without a pair, and no output at all.
        for count in [9, 0] {
            let nothing = Numbers::new(Map::random([5, 9, count, sizes[3]], 0, 1), [cin, cout], dtype, class.epilogue, 1);
            nothing.run(&built, &class, tile[0] as usize, splits, false, 0);
        }
        for seed in 0..2 {
            numbers.run(&built, &class, tile[0] as usize, splits, seed == 1, seed);
        }
    }
}

#[test]
fn every_way_in_bf16_with_few_channels() {
    every_way(&WAYS, Arch::Sm80, DType::BF16, [64, 32, 16], [4, 20], [70, 66, 65, 8]);
}

#[test]
fn every_way_in_f16_with_odd_channels() {
    every_way(&WAYS, Arch::Sm90a, DType::F16, [32, 16, 32], [3, 1], [50, 40, 33, 27]);
}

#[test]
fn ways_in_bf16_with_ragged_tiles() {
    every_way(&FEW, Arch::Sm90a, DType::BF16, [128, 96, 32], [40, 104], [200, 140, 127, 4]);
}

#[test]
fn every_way_in_tf32() {
    every_way(&WAYS, Arch::Sm80, DType::F32, [64, 64, 16], [20, 68], [70, 66, 65, 8]);
    every_way(&FEW, Arch::Sm90a, DType::F32, [32, 16, 8], [3, 1], [50, 40, 33, 8]);
}

#[test]
fn epilogues() {
    let none = EpilogueClass::NONE;
    for (dtype, cout, epilogue) in [
        (DType::BF16, 32, EpilogueClass { bias: Some(DType::BF16), act: Act::Relu, ..none }),
        (DType::F16, 24, EpilogueClass { bn: Some(DType::F32), act: Act::Gelu, residual: true, ..none }),
        (DType::F16, 19, EpilogueClass { bias: Some(DType::F32), bn: Some(DType::F16), act: Act::Silu, residual: true }),
    ] {
        let n_align = if cout % 8 == 0 { 8 } else { 1 };
        let class = CoreClass { epilogue, n_align, ..class(dtype, Source::Tiles, Exit::Store) };
        let built = build(Arch::Sm80, &class, &MmaConfig::new([64, 32, 16], 2));
        let numbers = Numbers::new(Map::random([60, 80, 70, 3], 90, 5), [16, cout], dtype, epilogue, 5);
        numbers.run(&built, &class, 64, 1, true, 0);
    }
}

#[test]
fn broken_synchronisation_is_seen() {
    let class = class(DType::BF16, Source::Tiles, Exit::Store);
    let built = build(Arch::Sm80, &class, &MmaConfig::new([32, 32, 16], 3));
    let numbers = Numbers::new(Map::stairs(32, 4, 40), [40, 32], class.dtype, class.epilogue, 1);
    let run = |built: &Built, seed| outcome(numbers.launch(built, &class, 32, seed));
    all_are_seen(&built, 0, run, |_, _| None);
    // A stage is read before its copies are there. The wait behind the loop has nothing to wait for.
    let waits = built.compiled.ptx.matches("cp.async.wait_group").count();
    assert_eq!(waits, 2, "one in the loop, one behind it");
    let early = built.with_ptx(built.compiled.ptx.replacen("cp.async.wait_group \t1;", "", 1)).unwrap();
    assert_ne!(early.compiled.ptx, built.compiled.ptx);
    assert!((0..4).any(|seed| run(&early, seed).is_err()), "nobody saw that copies are not waited for");
}

#[test]
fn refusals_say_why() {
    let pairs = class(DType::BF16, Source::Pairs, Exit::Store);
    let c = CoreConfig::Mma(MmaConfig::new([64, 64, 32], 3));
    let refused = |class: &CoreClass, c: &CoreConfig| core_kernel(Arch::Sm80, class, c).unwrap_err().to_string();
    assert!(refused(&pairs, &c).contains("a pair is one part"));
    let swiglu = EpilogueClass { act: Act::Swiglu, ..EpilogueClass::NONE };
    let tiles = class(DType::BF16, Source::Tiles, Exit::Store);
    assert!(refused(&CoreClass { epilogue: swiglu, ..tiles }, &c).contains("swiglu"));
    let vector = EpilogueClass { bias: Some(DType::F16), ..EpilogueClass::NONE };
    assert!(refused(&CoreClass { epilogue: vector, ..tiles }, &c).contains("bf16 or f32, not f16"));
    assert!(refused(&class(DType::I8, Source::Tiles, Exit::Store), &c).contains("not i8"));
    let wgmma = "wgmma_128x64x64_s4".parse().unwrap();
    assert!(refused(&tiles, &wgmma).contains("needs sm90"));
}

/// Kernels that were built, by id.
#[derive(Default)]
struct Builds(BTreeMap<String, Built>);

impl Builds {
    fn add(&mut self, op: &OpPlan) {
        let runner = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
        for k in &op.kernels {
            let build = || runner.build(&k.kernel).unwrap_or_else(|e| panic!("{}: {e}", k.id));
            self.0.entry(k.id.clone()).or_insert_with(build);
        }
    }
}

/// Runs a plan's launches one after the other; what nobody made yet is undefined.
fn run_plan(builds: &Builds, op: &OpPlan, vars: &[(&str, i64)], tensors: &mut BTreeMap<String, Vec<u8>>, seed: u64) {
    let mut problem = Vars::new();
    vars.iter().for_each(|(n, v)| problem.set(VarId::of(n), *v).unwrap());
    for launch in &op.plan.launches {
        let built = &builds.0[&launch.kernel];
        let set = launch.sets.iter().map(|(n, e)| (&n[..], e.eval(&problem).unwrap()));
        let scope: Vec<(&str, i64)> = vars.iter().copied().chain(set).collect();
        let mut inner = problem;
        scope.iter().for_each(|(n, v)| inner.set(VarId::of(n), *v).unwrap());
        for condition in &built.lowered.tile.requires {
            assert!(condition.parse::<Expr>().unwrap().holds(&inner).unwrap(), "{}: {condition}", launch.kernel);
        }
        let bytes = |name: &str| {
            let t = op.plan.tensors.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no tensor {name}"));
            let elements: i64 = t.shape.iter().map(|e| e.eval(&problem).unwrap()).product();
            elements as usize * t.dtype.bytes() as usize
        };
        let (old, new): (Vec<_>, Vec<_>) = launch.binds.iter().partition(|(_, t)| tensors.contains_key(*t));
        let inputs: Vec<(&str, &[u8])> = old.iter().map(|(k, t)| (&k[..], &tensors[*t][..])).collect();
        let outputs: Vec<(&str, usize)> = new.iter().map(|(k, t)| (&k[..], bytes(t))).collect();
        let ran = built.run(&scope, &[], &inputs, &outputs, seed).unwrap();
        common::clean(&ran, &launch.kernel);
        let names = old.iter().chain(&new).map(|(_, t)| t.to_string()).collect::<Vec<_>>();
        for (name, bytes) in names.into_iter().zip(ran.inputs.into_iter().chain(ran.outputs)) {
            tensors.insert(name, bytes);
        }
    }
}

/// A plan of one convolution, from lists that are given.
struct Planned {
    op: OpPlan,
    tensors: BTreeMap<String, Vec<u8>>,
    vars: Vec<(&'static str, i64)>,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Implicit(u32),
    Fused,
    ByTap,
    Gather,
}

fn planned(numbers: &Numbers, way: Way, arch: Arch) -> Planned {
    let (map, dtype, e) = (&numbers.map, numbers.dtype, numbers.epilogue);
    let pairs = map.pairs();
    let p = ConvProblem { bias: e.bias, bn: e.bn, act: e.act, residual: e.residual, ..ConvProblem::plain(dtype, Mode::Strided) };
    let mut pb = PlanBuilder::new(arch, "test", "test", "");
    let d = tilewright_templates::manifest::dtype;
    let mut tensors: BTreeMap<String, Vec<u8>> = numbers.operands(None, 1).into_iter().map(|(n, b)| (n.to_string(), b)).collect();
    let mut give = |name: &str, v: &[i32]| {
        tensors.insert(name.into(), i32s(v));
        name.to_string()
    };
    let names = |s: &str| s.to_string();
    let set = MapSet { map: names("map"), count: give("count", &[map.count as i32]), rows: names("rows"), taps: names("k") };
    let lists = Pairs {
        pair_in: give("pair_in", &pairs.input),
        pair_out: give("pair_out", &pairs.output),
        tap_start: give("tap_start", &pairs.start),
        pair_at: give("pair_at", &pairs.at),
        pairs: names("p"),
        map: set.clone(),
    };
    let vec = 16 / dtype.bytes() as usize;
    let n_align = [vec, 2, 1].into_iter().find(|a| numbers.cout.is_multiple_of(*a)).unwrap() as u32;
    let bn = [None, Some("bn_scale")][e.bn.is_some() as usize].map(|s| [s, "bn_shift"]);
    let io = ConvIo {
        x: "x",
        weight: "weight",
        bias: e.bias.map(|_| "bias"),
        bn,
        residual: e.residual.then_some("residual"),
        y: "out",
        n: "n",
        cin: "ci",
        cout: "co",
        pad_cin: !numbers.cin.is_multiple_of(vec),
        n_align,
        prefix: "a_",
    };
    let config = |bm: u32| CoreConfig::Mma(MmaConfig::new([bm, 32, 64 / dtype.bytes()], 3));
    let mut most = 0;
    match way {
        Way::Implicit(splits) => {
            let t = map.tiles(64, splits as usize, true);
            let tiles = Tiles {
                tile_taps: give("tt", &t.taps),
                tile_rows: give("tr", &t.rows),
                tile_out: give("to", &t.out),
                bm: 64,
                splits,
                tiles: names("ceil_div(rows,64)"),
                map: set,
            };
            conv(&mut pb, &p, Flow::Implicit { tiles: &tiles, config: config(64) }, &io).unwrap();
        }
        Way::Fused => {
            let t = pairs.tiles(32);
            most = t.len() / 3;
            let tiles = PairTiles { tiles: give("pt", &t), count: give("pc", &[most as i32]), most: names("most"), bm: 32 };
            conv(&mut pb, &p, Flow::FetchFused { pairs: &lists, tiles: &tiles, config: config(32) }, &io).unwrap();
        }
        Way::ByTap => {
            let flow = Flow::FetchByTap { pairs: &lists, taps: map.taps as u32, config: config(64) };
            conv(&mut pb, &p, flow, &io).unwrap();
        }
        Way::Gather => {
            // Taps with an even number in tall tiles, the others in short ones.
            let list = |bm: usize, odd: i32| -> Vec<i32> {
                pairs.tiles(bm).chunks(3).filter(|t| t[0] % 2 == odd).flatten().copied().collect()
            };
            let (tall, short) = (list(64, 0), list(16, 1));
            most = (tall.len() + short.len()) / 3;
            let of = |tiles: String, count: String, bm: u32| PairTiles { tiles, count, most: "most".into(), bm };
            let launches = [
                (of(give("t0", &tall), give("c0", &[tall.len() as i32 / 3]), 64), config(64)),
                (of(give("t1", &short), give("c1", &[short.len() as i32 / 3]), 16), config(16)),
            ];
            conv(&mut pb, &p, Flow::GatherScatter { pairs: &lists, launches: &launches }, &io).unwrap();
        }
    }
    pb.tensor("out", d(dtype), &["rows", "co"], Role::Output).unwrap();
    let sizes = [map.n, map.m, numbers.cin, numbers.cout, map.taps, pairs.input.len(), most];
    let vars = ["n", "rows", "ci", "co", "k", "p", "most"].into_iter().zip(sizes.map(|v| v as i64)).collect();
    Planned { op: pb.finish().unwrap(), tensors, vars }
}

fn plan_holds(builds: &mut Builds, numbers: &Numbers, way: Way, arch: Arch) {
    let planned = planned(numbers, way, arch);
    builds.add(&planned.op);
    for seed in 0..2 {
        let mut tensors = planned.tensors.clone();
        run_plan(builds, &planned.op, &planned.vars, &mut tensors, seed);
        let y = decode(numbers.dtype, &tensors["out"]);
        for row in 0..numbers.map.count {
            for col in 0..numbers.cout {
                let what = || format!("{way:?} seed {seed}, {:?}: y[{row}, {col}]", numbers.dtype);
                common::check(y[row * numbers.cout + col], numbers.output(row, col), what);
            }
        }
    }
}

const ALL: EpilogueClass = EpilogueClass { bias: Some(DType::F32), bn: Some(DType::F32), act: Act::Relu, residual: true };

#[test]
fn every_dataflow_as_a_plan_with_aligned_channels() {
    let mut builds = Builds::default();
    for way in [Way::Implicit(1), Way::Implicit(3), Way::Fused, Way::ByTap, Way::Gather] {
        let map = Map::random([90, 85, 80, 4], 120, 9);
        plan_holds(&mut builds, &Numbers::new(map, [16, 32], DType::BF16, ALL, 3), way, Arch::Sm90a);
    }
}

#[test]
fn every_dataflow_as_a_plan_with_padded_channels() {
    let mut builds = Builds::default();
    let bias = EpilogueClass { bias: Some(DType::F16), ..EpilogueClass::NONE };
    for (way, cin, cout) in
        [(Way::Implicit(1), 4, 20), (Way::Implicit(2), 3, 1), (Way::Fused, 20, 7), (Way::ByTap, 1, 18), (Way::Gather, 5, 35)]
    {
        let map = Map::random([90, 85, 80, 3], 120, 9);
        plan_holds(&mut builds, &Numbers::new(map, [cin, cout], DType::F16, bias, 3), way, Arch::Sm80);
    }
}
