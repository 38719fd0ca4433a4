//! Voxels of points on the emulator, against divisions of the host.

use tilewright_ir::{Arch, DType};
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::plan::Role;
use tilewright_templates::sparse_conv::coords::{PointFeatures, PointSet, status, voxelise};
use tilewright_templates::sparse_conv::{Coord, CoordSet, PlanBuilder};
use tilewright_tests::numbers::{Random, decode, encode};
use tilewright_tests::{BuiltPlan, Runner};

/// Points of five columns, of which three features are kept. Variables: `p`, `m`.
fn build(batched: bool, dtype: DType) -> BuiltPlan {
    let mut pb = PlanBuilder::new(Arch::Sm80, "voxelise", "voxelise_test", "");
    let mut input = |name: &str, dtype, shape: &[&str]| pb.tensor(name, dtype, shape, Role::Input).unwrap();
    let from = PointSet {
        points: input("points", Dtype::F32, &["p", "5"]),
        batch: batched.then(|| input("batch", Dtype::I32, &["p"])),
        count: input("count", Dtype::I32, &["1"]),
        rows: "p".into(),
        width: "5".into(),
    };
    status(&mut pb).unwrap();
    let carried = PointFeatures { features: "features".into(), dtype, channels: "3".into(), skip: "2".into() };
    voxelise(&mut pb, &from, &CoordSet::named("voxels", "m"), Some(&carried), &[]).unwrap();
    let plan = pb.finish().unwrap();
    let runner = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
    runner.build_plan(&plan.plan, plan.kernels.iter().map(|k| (k.id.as_str(), &k.kernel))).unwrap()
}

struct Scan<'a> {
    points: &'a [[f32; 5]],
    batch: Option<&'a [i32]>,
    size: [f32; 3],
}

impl Scan<'_> {
    fn voxel(&self, p: usize) -> Option<Coord> {
        let mut c = [self.batch.map_or(0, |b| b[p]); 4];
        for (i, size) in self.size.iter().enumerate() {
            let v = (self.points[p][i] / size).floor();
            if !(-2_147_483_648.0..2_147_483_648.0).contains(&v) {
                return None;
            }
            c[i + 1] = v as i32;
        }
        Some(c)
    }

    /// Distinct voxels and the first point of each; the first point without one.
    fn want(&self) -> (Vec<(Coord, usize)>, Option<usize>) {
        let mut list: Vec<(Coord, usize)> = Vec::new();
        let mut none = None;
        for p in 0..self.points.len() {
            match self.voxel(p) {
                None => none = none.or(Some(p)),
                Some(c) if list.iter().all(|v| v.0 != c) => list.push((c, p)),
                Some(_) => (),
            }
        }
        (list, none)
    }

    fn check(&self, built: &BuiltPlan, dtype: DType, spare: [usize; 2], seed: u64) -> usize {
        let (want, none) = self.want();
        let (p, m) = (self.points.len(), want.len());
        let bytes = |v: &[i32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let mut rows: Vec<f32> = self.points.iter().flatten().copied().collect();
        rows.resize((p + spare[0]) * 5, 1.0);
        let points: Vec<u8> = rows.iter().flat_map(|v| v.to_le_bytes()).collect();
        let batch = self.batch.map(|b| {
            let mut b = b.to_vec();
            b.resize(p + spare[0], 0);
            bytes(&b)
        });
        let count = bytes(&[p as i32]);
        let mut inputs: Vec<(&str, &[u8])> = vec![("points", &points), ("count", &count)];
        inputs.extend(batch.as_deref().map(|b| ("batch", b)));
        let vars = [("p", (p + spare[0]) as i64), ("m", (m + spare[1]) as i64)];
        let sizes = [("voxel_x", self.size[0]), ("voxel_y", self.size[1]), ("voxel_z", self.size[2])];
        let ran = built.run(&vars, &sizes, &inputs, seed).unwrap();
        assert!(ran.errors.is_empty() && ran.lints.is_empty(), "{:?} {:?}", ran.errors, ran.lints);
        let ints =
            |name: &str| -> Vec<i32> { ran.tensors[name].chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect() };
        let told = none.map_or(i32::MAX, |p| p as i32);
        assert_eq!(ints("status"), [i32::MAX, i32::MAX, told, i32::MAX]);
        assert_eq!(ints("voxels_count"), [m as i32]);
        let coords: Vec<i32> = want.iter().flat_map(|v| v.0).collect();
        assert_eq!(ints("voxels")[..4 * m], coords);
        assert_eq!(ints("voxels_origin")[..m], want.iter().map(|v| v.1 as i32).collect::<Vec<_>>());
        let features: Vec<f64> = want.iter().flat_map(|v| self.points[v.1][2..].iter().map(|f| f64::from(*f))).collect();
        let features = encode(dtype, &features);
        assert_eq!(ran.tensors["features"][..features.len()], features);
        let rest = (3 * spare[1]) as u64 * u64::from(dtype.bytes());
        assert!(ran.unwritten["features"] == rest || m + spare[1] == 0, "rows past the count");
        m
    }
}

fn scan(seed: u64, n: usize, reach: f64) -> Vec<[f32; 5]> {
    let mut r = Random::new(seed);
    (0..n).map(|_| [0; 5].map(|_| decode(DType::F16, &encode(DType::F16, &[reach * r.unit()]))[0] as f32)).collect()
}

#[test]
fn voxels_of_points_in_the_order_of_the_first() {
    let built = build(false, DType::F32);
    for (seed, (n, size)) in
        [(300, [0.5, 0.25, 1.0]), (257, [0.3, 0.7, 0.05]), (256, [0.1; 3]), (1, [0.05; 3]), (0, [1.0; 3])].into_iter().enumerate()
    {
        let points = scan(seed as u64, n, 2.0);
        let scan = Scan { points: &points, batch: None, size };
        let m = scan.check(&built, DType::F32, [seed, 3], seed as u64);
        assert!(n < 300 || m < n, "some voxels have several points");
    }
}

#[test]
fn batches_and_points_without_a_voxel() {
    let built = build(true, DType::F16);
    let mut points = scan(9, 200, 1.5);
    let batch: Vec<i32> = (0..200).map(|i| i % 3).collect();
    let size = [0.2, 0.3, 0.1];
    for (p, odd) in [
        // Whole multiples, and the floats beside them.
        [0.2, 0.3, 0.1],
        [f32::from_bits(0.2f32.to_bits() - 1), 0.9, -0.1],
        [-0.0, 0.0, f32::from_bits(1)],
        [-f32::from_bits(1), -1e-30, 1e-30],
        [0.6, -0.6, 0.7],
        // Far out: the largest voxel there is, and halves between integers.
        [429_496_704.0, 3.1, -214_748_360.0],
        [13_107.1, -13_107.3, 6553.65],
        [1_677_721.5, 9830.55, -6553.55],
    ]
    .into_iter()
    .enumerate()
    {
        points[3 * p][..3].copy_from_slice(&odd);
    }
    let all = Scan { points: &points, batch: Some(&batch), size };
    assert_eq!(all.want().1, None);
    for seed in 0..2 {
        all.check(&built, DType::F16, [60, 0], seed);
    }
    for (p, axis, odd) in [(150, 0, f32::NAN), (40, 1, f32::INFINITY), (41, 2, f32::NEG_INFINITY), (90, 2, 3e8), (39, 0, -4.3e8)]
    {
        points[p][axis] = odd;
    }
    let some = Scan { points: &points, batch: Some(&batch), size };
    assert_eq!(some.want().1, Some(39));
    some.check(&built, DType::F16, [0, 1], 1);
}
