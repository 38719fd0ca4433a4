//! Plans of whole sparse convolutions with more room than rows: what follows a count is junk and changes nothing, every dataflow
//! agrees, sums that promise it have the same bits under every schedule, and `status` tells of clouds that are none.

use tilewright_ir::{Arch, DType};
use tilewright_templates::sparse_conv::core::CoreConfig;
use tilewright_templates::sparse_conv::{
    ConvOperands, ConvProblem, Coord, Dataflow, Geometry, KernelMap, Mode, Points, Recipe, RowOrder, conv_plan, conv_reference,
    map_plan,
};
use tilewright_tests::numbers::{Random, decode, encode, i32s};
use tilewright_tests::{BuiltPlan, PlanRan, Runner};

const CIN: usize = 16;
const COUT: usize = 24;
/// Room beside what there is.
const SPARE: usize = 37;

fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"))
}

fn geometry() -> Geometry {
    Geometry { kernel: [3, 1, 2], stride: [2, 1, 1], dilation: [1, 1, 2], padding: [1, 0, 0] }
}

/// Distinct voxels.
fn cloud(n: usize) -> Vec<Coord> {
    let at = |i: usize| [(i % 2) as i32, (i * 7 % 11) as i32 - 5, (i / 11 % 5) as i32 - 2, (i * 3 % 7) as i32 - 3];
    let mut list: Vec<Coord> = Vec::new();
    for c in (0..).map(at) {
        if list.len() == n {
            break;
        }
        if !list.contains(&c) {
            list.push(c);
        }
    }
    list
}

fn flat(coords: &[Coord]) -> Vec<i32> {
    coords.iter().flatten().copied().collect()
}

fn ints(bytes: &[u8]) -> Vec<i32> {
    bytes.chunks(4).map(|c| i32::from_le_bytes(c.try_into().unwrap())).collect()
}

fn vars(inputs: usize, m: usize) -> Vec<(String, i64)> {
    let taps = geometry().taps();
    let mut list = vec![("inputs".to_string(), inputs as i64), ("m".into(), m as i64), ("pairs".into(), (m * taps) as i64)];
    list.extend([("k".into(), CIN as i64), ("n".into(), COUT as i64)]);
    list.extend(geometry().scalars());
    list
}

fn run(built: &BuiltPlan, vars: &[(String, i64)], inputs: &[(&str, &[u8])], seed: u64) -> PlanRan {
    let vars: Vec<(&str, i64)> = vars.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    let ran = built.run(&vars, &[], inputs, seed).unwrap();
    assert!(ran.errors.is_empty(), "{}", ran.errors.join("\n"));
    ran
}

#[test]
fn dataflows_agree_whatever_follows_a_count_and_status_tells_of_bad_clouds() {
    let p = ConvProblem { bias: Some(DType::F32), ..ConvProblem::plain(DType::F16, Mode::Strided) };
    let config: CoreConfig = "mma_64x32x16_s3_w2x2".parse().unwrap();
    let flows = [
        Dataflow::Implicit,
        Dataflow::ImplicitSorted { splits: 2 },
        Dataflow::GatherScatter,
        Dataflow::FetchOnDemand { fused: false },
        Dataflow::FetchOnDemand { fused: true },
    ];
    let plans = flows.map(|flow| {
        let recipe = Recipe { flow, order: RowOrder::GrayRare, taps: 6, config, ragged: false };
        conv_plan(Arch::Sm80, &p, &recipe).unwrap()
    });
    let mut kernels: Vec<_> = plans.iter().flat_map(|p| &p.kernels).map(|k| (k.id.as_str(), &k.kernel)).collect();
    kernels.sort_by_key(|k| k.0);
    kernels.dedup_by_key(|k| k.0);
    let mut built = runner().build_plan(&plans[0].plan, kernels).unwrap();

    let coords = cloud(130);
    let map = KernelMap::build(Mode::Strided, &geometry(), &Points::new(coords.clone()).unwrap(), None).unwrap();
    let (n, m) = (coords.len() + SPARE, map.rows() + SPARE);
    // Voxels that are there already, and numbers that are none.
    let mut all = coords.clone();
    all.extend(&coords[..SPARE]);
    let mut random = Random::new(5);
    let mut features = random.list(DType::F16, coords.len() * CIN);
    let weight = random.list(DType::F16, geometry().taps() * CIN * COUT);
    let bias = random.list(DType::F32, COUT);
    let o = ConvOperands {
        channels: [CIN, COUT],
        features: features.clone(),
        weight: weight.clone(),
        bias: bias.clone(),
        ..ConvOperands::default()
    };
    features.resize(n * CIN, f64::NAN);
    let bytes = [i32s(&flat(&all)), i32s(&[coords.len() as i32]), encode(DType::F16, &features), encode(DType::F16, &weight)];
    let bias = encode(DType::F32, &bias);
    let [coords, count, features, weight] = bytes.each_ref().map(Vec::as_slice);
    let inputs = [("coords", coords), ("count", count), ("features", features), ("weight", weight), ("bias", &bias)];
    for (plan, flow) in plans.iter().zip(flows) {
        built = built.of(&plan.plan);
        let want = conv_reference(&p, &map, &o, flow);
        let mut first: Option<Vec<u8>> = None;
        for seed in 0..3 {
            let ran = run(&built, &vars(n, m), &inputs, seed);
            assert_eq!(ints(&ran.tensors["status"]), [i32::MAX; 4], "{flow}");
            assert_eq!(ints(&ran.tensors["count_out"]), [map.rows() as i32], "{flow}");
            assert_eq!(ints(&ran.tensors["coords_out"])[..map.rows() * 4], flat(&map.coords_out), "{flow}");
            let found = &ran.tensors["features_out"][..map.rows() * COUT * 2];
            let miss = want.first_miss(&decode(DType::F16, found), COUT);
            assert!(miss.is_none(), "{flow}, schedule {seed}: {miss:?}");
            let same = *first.get_or_insert_with(|| found.to_vec()) == found;
            assert!(same || flow == Dataflow::FetchOnDemand { fused: true }, "{flow}: schedule {seed} gives other bits");
        }
    }
    // The map alone has the same kernels.
    status_tells_what_is_wrong_with_a_cloud(&built.of(&map_plan(Arch::Sm80, Mode::Strided, false).unwrap().plan));
}

fn status_tells_what_is_wrong_with_a_cloud(built: &BuiltPlan) {
    let good = cloud(40);
    let rows = KernelMap::build(Mode::Strided, &geometry(), &Points::new(good.clone()).unwrap(), None).unwrap().rows();
    let status = |coords: &[Coord], m: usize, seed: u64| {
        let (coords, count) = (i32s(&flat(coords)), i32s(&[coords.len() as i32]));
        let inputs = [("coords", coords.as_slice()), ("count", &count)];
        let ran = run(built, &vars(coords.len() / 16, m), &inputs, seed);
        ints(&ran.tensors["status"])
    };
    const WELL: i32 = i32::MAX;
    for seed in 0..3 {
        assert_eq!(status(&good, rows, seed), [WELL; 4]);
        let mut twice = good.clone();
        (twice[31], twice[17]) = (good[3], good[3]);
        assert_eq!(status(&twice, rows, seed)[..2], [17, WELL], "rows 17 and 31 equal row 3");
        let mut far = good.clone();
        // q = (f + p - d*o) / s: the last z leads below the least number.
        far[25] = [0, 0, 0, i32::MIN];
        assert_eq!(status(&far, rows + 8, seed), [WELL, WELL, 25, WELL]);
        assert_eq!(status(&good, rows - 5, seed), [WELL, WELL, WELL, -(rows as i32)]);
    }
}
