//! Sets of voxels and kernel maps on the emulator, against maps of the host: exact, at any 32-bit coordinate, under any schedule.

use std::sync::LazyLock;
use tilewright_ir::Arch;
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::plan::Role;
use tilewright_templates::plan::OpPlan;
use tilewright_templates::sparse_conv::coords::{build_map, downsample, first_slot, insert_set, status};
use tilewright_templates::sparse_conv::{Coord, CoordSet, Geometry, KernelMap, MapError, Mode, PlanBuilder, Points};
use tilewright_tests::numbers::Random;
use tilewright_tests::{BuiltPlan, PlanRan, Runner};

const WELL: [i32; 4] = [i32::MAX; 4];

fn bytes(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn ints(bytes: &[u8]) -> Vec<i32> {
    bytes.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn coords(bytes: &[u8]) -> Vec<Coord> {
    ints(bytes).chunks(4).map(|c| c.try_into().unwrap()).collect()
}

/// `kernel_map` as a plan: sets, outputs and the map. Variables: `n`, `m`, the geometry's.
fn plan(mode: Mode, target: bool) -> OpPlan {
    let mut pb = PlanBuilder::new(Arch::Sm90a, "kernel_map", "kernel_map_test", "");
    let mut given = |coords: &str, rows: &str| {
        let set = CoordSet::named(coords, rows);
        pb.tensor(&set.coords, Dtype::I32, &[rows, "4"], Role::Input).unwrap();
        pb.tensor(&set.count, Dtype::I32, &["1"], Role::Input).unwrap();
        set
    };
    let input = given("coords", "n");
    let wanted = target.then(|| given("coords_target", "m"));
    status(&mut pb).unwrap();
    insert_set(&mut pb, &input, 0, &[]).unwrap();
    let out = match (mode, wanted) {
        (_, Some(wanted)) => {
            insert_set(&mut pb, &wanted, 1, &[]).unwrap();
            wanted
        }
        (Mode::Submanifold, None) => input.clone(),
        (_, None) => {
            let out = CoordSet::named("coords_out", "m");
            downsample(&mut pb, mode, &input, &out, &[]).unwrap();
            out
        }
    };
    build_map(&mut pb, mode, &input, &out, "map", &[]).unwrap();
    pb.finish().unwrap()
}

fn build(mode: Mode, target: bool) -> BuiltPlan {
    let plan = plan(mode, target);
    let runner = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
    runner.build_plan(&plan.plan, plan.kernels.iter().map(|k| (k.id.as_str(), &k.kernel))).unwrap()
}

static SUBMANIFOLD: LazyLock<BuiltPlan> = LazyLock::new(|| build(Mode::Submanifold, false));
static STRIDED: LazyLock<BuiltPlan> = LazyLock::new(|| build(Mode::Strided, false));
static GENERATIVE: LazyLock<BuiltPlan> = LazyLock::new(|| build(Mode::Generative, false));
static STRIDED_TARGET: LazyLock<BuiltPlan> = LazyLock::new(|| build(Mode::Strided, true));

struct Case<'a> {
    built: &'a BuiltPlan,
    mode: Mode,
    g: Geometry,
    input: &'a [Coord],
    target: Option<&'a [Coord]>,
    /// Rows of room beyond those that exist.
    spare: [usize; 2],
    seed: u64,
}

impl Case<'_> {
    /// Runs with room for `m` outputs and some.
    fn run(&self, m: usize) -> PlanRan {
        let [n, m] = [self.input.len() + self.spare[0], m + self.spare[1]];
        let vars = [("n".to_string(), n as i64), ("m".to_string(), m as i64)];
        let vars: Vec<(String, i64)> = vars.into_iter().chain(self.g.scalars()).collect();
        let vars: Vec<(&str, i64)> = vars.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        // Rows past the count hold what a wrong kernel would notice: voxels again.
        let padded = |c: &[Coord], rows: usize| {
            let again = c.iter().copied().chain(std::iter::repeat([0; 4]));
            bytes(&c.iter().copied().chain(again).take(rows).flatten().collect::<Vec<_>>())
        };
        let count = |c: &[Coord]| bytes(&[c.len() as i32]);
        let mut inputs = vec![("coords", padded(self.input, n)), ("coords_count", count(self.input))];
        if let Some(t) = self.target {
            inputs.extend([("coords_target", padded(t, m)), ("coords_target_count", count(t))]);
        }
        let inputs: Vec<(&str, &[u8])> = inputs.iter().map(|(n, b)| (*n, b.as_slice())).collect();
        let ran = self.built.run(&vars, &[], &inputs, self.seed).unwrap();
        assert!(ran.errors.is_empty() && ran.lints.is_empty(), "{}: {:?} {:?}", self.name(), ran.errors, ran.lints);
        ran
    }

    fn name(&self) -> String {
        format!("{} {:?} of {} rows, seed {}", self.mode, self.g, self.input.len(), self.seed)
    }

    fn want(&self) -> Result<KernelMap, MapError> {
        let target = self.target.map(|t| Points::new(t.to_vec()).unwrap());
        KernelMap::build(self.mode, &self.g, &Points::new(self.input.to_vec()).unwrap(), target.as_ref())
    }

    fn check(&self) -> KernelMap {
        self.g.check(self.mode).unwrap();
        let want = self.want().unwrap();
        let (m, taps) = (want.rows(), want.taps);
        let ran = self.run(m);
        let name = self.name();
        assert_eq!(ints(&ran.tensors["status"]), WELL, "{name}");
        let map = ints(&ran.tensors["map"]);
        assert_eq!(map[..m * taps], want.map, "{name}");
        let rest = if self.mode == Mode::Submanifold && self.target.is_none() { self.spare[0] } else { self.spare[1] };
        assert_eq!(map[m * taps..], vec![-1; rest * taps], "{name}: rows past the count");
        if self.target.is_none() && self.mode != Mode::Submanifold {
            assert_eq!(ints(&ran.tensors["coords_out_count"]), [m as i32], "{name}");
            assert_eq!(coords(&ran.tensors["coords_out"])[..m], want.coords_out, "{name}");
            let unwritten = ran.unwritten["coords_out"] as usize;
            assert!(unwritten == 16 * self.spare[1] || m + self.spare[1] == 0, "{name}: rows past the count");
            table_holds(&ints(&ran.tensors["coords_out_table"]), &want.coords_out, &name);
        }
        table_holds(&ints(&ran.tensors["coords_table"]), self.input, &name);
        want
    }
}

/// Every row is found by walking from the slot its hash chooses, and no slot holds anything else.
fn table_holds(table: &[i32], rows: &[Coord], name: &str) {
    assert_eq!(table.iter().filter(|r| **r >= 0).count(), rows.len(), "{name}");
    for (row, c) in rows.iter().enumerate() {
        let mut at = first_slot(*c, table.len() as u32) as usize;
        while table[at] != row as i32 {
            assert!(table[at] >= 0, "{name}: row {row} is not in the table");
            at = (at + 1) % table.len();
        }
    }
}

/// So many distinct voxels of `batches` in a box.
fn cloud(seed: u64, n: usize, batches: u64, low: i32, side: u64) -> Vec<Coord> {
    let mut r = Random::new(seed);
    let mut list: Vec<Coord> = Vec::new();
    while list.len() < n {
        let mut axis = || low.wrapping_add((r.bits() % side) as i32);
        let xyz = [axis(), axis(), axis()];
        let c = [(r.bits() % batches) as i32, xyz[0], xyz[1], xyz[2]];
        if !list.contains(&c) {
            list.push(c);
        }
    }
    list
}

fn block(side: [i32; 3], from: i32) -> Vec<Coord> {
    let [x, y, z] = side.map(|n| from..from + n);
    let yz = move |x| {
        let z = z.clone();
        y.clone().flat_map(move |y| z.clone().map(move |z| [0, x, y, z]))
    };
    x.flat_map(yz).collect()
}

/// Voxels at the ends of 32 bits, where sums leave them.
fn far_out() -> Vec<Coord> {
    let ends = [i32::MIN, i32::MIN + 1, -2, -1, 0, 1, i32::MAX - 1, i32::MAX];
    let mut list: Vec<Coord> = ends.iter().map(|v| [0, *v, *v, *v]).collect();
    list.extend(ends.iter().map(|v| [1, *v, 0, !*v]));
    list.extend(ends.iter().map(|v| [i32::MAX, 3, *v, -3]));
    list
}

fn geometry(kernel: [u32; 3], stride: [u32; 3], dilation: [u32; 3], padding: [u32; 3]) -> Geometry {
    Geometry { kernel, stride, dilation, padding }
}

#[test]
fn submanifold_maps() {
    let case = |g, input, spare, seed| Case { built: &SUBMANIFOLD, mode: Mode::Submanifold, g, input, target: None, spare, seed };
    let plain = Geometry::submanifold([3; 3], [1; 3]);
    let (points, dense) = (cloud(1, 200, 3, -4, 8), block([5, 4, 6], -3));
    for seed in 0..3 {
        let want = case(plain, &points, [0, 0], seed).check();
        assert!(want.pairs() > 2 * points.len(), "neighbours meet");
    }
    for n in [0, 1, 63, 64, 65] {
        case(plain, &points[..n], [1, 0], 1).check();
    }
    case(plain, &[], [0, 0], 0).check();
    case(plain, &[], [130, 0], 0).check();
    case(plain, &dense, [70, 0], 2).check();
    for (kernel, dilation) in [
        ([1; 3], [1; 3]),
        ([2; 3], [2; 3]),
        ([2, 3, 4], [1, 2, 1]),
        ([5, 1, 2], [2, 1, 3]),
        ([1, 6, 3], [1; 3]),
        ([3; 3], [2, 1, 65536]),
    ] {
        case(Geometry::submanifold(kernel, dilation), &points[..90], [3, 0], 1).check();
    }
    case(Geometry::submanifold([7; 3], [1; 3]), &points[..20], [0, 0], 1).check();
    let far = far_out();
    case(plain, &far, [5, 0], 1).check();
    case(Geometry::submanifold([2, 7, 3], [65536, 1, 2]), &far, [0, 0], 1).check();
}

#[test]
fn strided_outputs_and_maps() {
    let case = |g, input, spare, seed| Case { built: &STRIDED, mode: Mode::Strided, g, input, target: None, spare, seed };
    let (points, dense) = (cloud(2, 150, 2, -9, 20), block([6, 6, 5], -2));
    let padded = geometry([3; 3], [2; 3], [1; 3], [1; 3]);
    for seed in 0..3 {
        let want = case(padded, &points, [2, 3], seed).check();
        assert!(want.rows() > points.len(), "several taps lead on");
    }
    for n in [0, 1, 64, 65] {
        case(padded, &points[..n], [1, 0], 1).check();
    }
    case(padded, &[], [0, 0], 0).check();
    case(padded, &[], [0, 7], 0).check();
    for g in [
        Geometry::cube(2, 2, 1),
        Geometry::cube(3, 3, 1),
        geometry([1, 2, 3], [3, 1, 2], [1, 2, 1], [0, 1, 5]),
        geometry([4, 1, 2], [2, 5, 2], [3, 1, 7], [2, 0, 0]),
        geometry([2, 2, 2], [65536, 7, 1], [65536, 65536, 1], [458752, 1, 0]),
    ] {
        case(g, &points[..100], [3, 1], 1).check();
    }
    case(geometry([7; 3], [2; 3], [1; 3], [3; 3]), &points[..5], [0, 0], 2).check();
    let coarse = case(Geometry::cube(2, 2, 1), &dense, [0, 0], 1).check();
    assert_eq!(coarse.rows(), 27, "a block of one more along z");
    let far = far_out();
    for g in [
        padded,
        Geometry::cube(2, 2, 1),
        geometry([3, 2, 5], [3, 2, 7], [1, 3, 2], [4, 0, 11]),
        geometry([2, 3, 3], [65536, 2, 3], [65536, 65536, 65536], [458752, 458752, 0]),
    ] {
        case(g, &far, [1, 1], 1).check();
    }
}

#[test]
fn generative_outputs_and_maps() {
    let case = |g, input, spare, seed| Case { built: &GENERATIVE, mode: Mode::Generative, g, input, target: None, spare, seed };
    let points = cloud(3, 66, 2, -5, 8);
    for seed in 0..3 {
        case(geometry([3; 3], [2; 3], [1; 3], [1; 3]), &points, [2, 3], seed).check();
    }
    case(Geometry::cube(2, 2, 1), &[], [2, 0], 0).check();
    case(Geometry::cube(2, 2, 1), &points[..65], [0, 0], 1).check();
    case(geometry([1, 3, 2], [1, 2, 3], [1, 2, 1], [2, 1, 0]), &points[..40], [1, 0], 1).check();
    case(geometry([2, 2, 1], [65536, 1, 1], [1, 65536, 1], [9, 65536, 5]), &points[..40], [0, 0], 1).check();
    // Half-way to the ends, so that twice as far just fits.
    let ends = [i32::MIN / 2, i32::MIN / 2 + 1, -1, 0, (i32::MAX - 1) / 2];
    let far: Vec<Coord> = ends.iter().flat_map(|v| [[0, *v, *v, 7], [2, 1, *v, *v]]).collect();
    case(Geometry::cube(2, 2, 1), &far, [0, 0], 1).check();
}

#[test]
fn outputs_that_are_given() {
    let coarse = cloud(4, 120, 2, -4, 8);
    let fine = cloud(5, 130, 2, -8, 16);
    let inverse = build(Mode::Inverse, true);
    for (mode, built) in [(Mode::Strided, &*STRIDED_TARGET), (Mode::Inverse, &inverse)] {
        let (input, target) = if mode.is_up() { (&coarse, &fine) } else { (&fine, &coarse) };
        let case = |g, input, target, spare, seed| Case { built, mode, g, input, target: Some(target), spare, seed };
        for (seed, g) in [
            Geometry::cube(2, 2, 1),
            geometry([3; 3], [2; 3], [1; 3], [1; 3]),
            geometry([3, 1, 4], [3, 1, 2], [2, 1, 1], [3, 0, 9]),
        ]
        .into_iter()
        .enumerate()
        {
            let want = case(g, input.as_slice(), target.as_slice(), [3, 5], seed as u64).check();
            assert!(want.pairs() > 0);
        }
        let far = far_out();
        for g in [
            geometry([3; 3], [1; 3], [1; 3], [1; 3]),
            Geometry::cube(2, 2, 1),
            geometry([7, 2, 3], [3, 65536, 7], [65536, 1, 2], [458752, 1, 0]),
            geometry([2, 3, 2], [1, 1, 65536], [65536, 1, 65536], [458752, 0, 0]),
        ] {
            case(g, &far, &far, [0, 0], 1).check();
        }
        case(Geometry::cube(2, 2, 1), &[], target.as_slice(), [0, 0], 1).check();
        case(Geometry::cube(2, 2, 1), input.as_slice(), &[], [0, 0], 1).check();
    }
}

#[test]
fn voxels_given_twice_are_told() {
    let g = Geometry::cube(2, 2, 1);
    let points = cloud(6, 300, 2, -9, 12);
    for seed in 0..4 {
        // Equal to rows of other CTAs and of their own: the least row that has an earlier equal is told.
        let mut input = points.clone();
        for (row, of) in [(299, 0), (298, 0), (260, 259), (150, 2), (7, 299)] {
            input[row] = points[of];
        }
        let mut target = points[..64].to_vec();
        target[63] = target[1];
        let case =
            Case { built: &STRIDED_TARGET, mode: Mode::Strided, g, input: &input, target: Some(&target), spare: [0, 0], seed };
        let ran = case.run(64);
        // Row 7 took what row 299 had, which is row 0's now.
        assert_eq!(ints(&ran.tensors["status"]), [150, 63, i32::MAX, i32::MAX], "seed {seed}");
        let table = ints(&ran.tensors["coords_table"]);
        assert!([298, 299, 260, 150].iter().all(|row| !table.contains(row)), "the first of equal rows stays");
    }
}

#[test]
fn outputs_outside_32_bits_and_outputs_without_room_are_told() {
    let points = cloud(7, 150, 2, -9, 12);
    for (mode, built) in [(Mode::Strided, &*STRIDED), (Mode::Generative, &*GENERATIVE)] {
        for (g, far) in [
            (geometry([2; 3], [1; 3], [1; 3], [1; 3]), [0, 5, i32::MAX, 5]),
            (geometry([2; 3], [1; 3], [1; 3], [1; 3]), [0, 5, 5, i32::MIN]),
            (geometry([3; 3], [1; 3], [65536; 3], [131072; 3]), [0, i32::MAX - 131_070, 5, 9]),
        ] {
            let mut input = points.clone();
            input[140] = far;
            input[149] = far;
            input[149][0] = 1;
            let case = Case { built, mode, g, input: &input, target: None, spare: [0, 0], seed: 1 };
            let Err(MapError::Range { row, .. }) = case.want() else {
                // One side of the relation leaves 32 bits where the other does not.
                case.check();
                continue;
            };
            assert_eq!(row, 140);
            let ran = case.run(900);
            assert_eq!(ints(&ran.tensors["status"])[..3], [i32::MAX, i32::MAX, 140], "{}", case.name());
        }
        let g = geometry([3; 3], [2; 3], [1; 3], [1; 3]);
        let case = Case { built, mode, g, input: &points, target: None, spare: [0, 0], seed: 2 };
        let want = case.want().unwrap();
        for room in [0, want.rows() / 7, want.rows() - 1] {
            let ran = case.run(room);
            let status = ints(&ran.tensors["status"]);
            // A table without a slot for each does not know how many there are.
            let found = if room == 0 { i32::MAX } else { want.rows() as i32 };
            assert_eq!(status, [i32::MAX, i32::MAX, i32::MAX, -found], "room for {room} of {}", want.rows());
            assert_eq!(ints(&ran.tensors["coords_out_count"]), [room as i32]);
            assert_eq!(coords(&ran.tensors["coords_out"]), want.coords_out[..room]);
        }
    }
}

/// Products with the stride that differ by 2^32 are equal in 32 bits: voxels that differ by 2^31 are told apart all the same.
#[test]
fn outputs_half_of_32_bits_apart_in_one_slot() {
    let g = geometry([2, 1, 1], [2, 1, 1], [1; 3], [1, 0, 0]);
    let ends = |y| [[0, 1 << 30, y, 0], [0, -(1 << 30), y, 0]];
    let y = (0..).find(|y| ends(*y).iter().all(|c| first_slot(*c, 16) == 5)).unwrap();
    let input = [[0, i32::MAX, y, 0], [0, i32::MIN, y, 0]];
    for seed in 0..3 {
        let case = Case { built: &STRIDED, mode: Mode::Strided, g, input: &input, target: None, spare: [0, 0], seed };
        assert_eq!(case.check().coords_out, ends(y));
    }
}

#[test]
fn hundreds_of_voxels_may_have_one_hash() {
    for (n, fits) in [(500, true), (520, false)] {
        let slots = 8 * n as u32;
        let same = (0..).map(|i| [0, i % 97, i / 97, i % 89]).filter(|c| first_slot(*c, slots) == slots - 3);
        let points: Vec<Coord> = same.take(n).collect();
        let g = Geometry::submanifold([3, 1, 1], [1; 3]);
        let case = Case { built: &SUBMANIFOLD, mode: Mode::Submanifold, g, input: &points, target: None, spare: [0, 0], seed: 1 };
        if fits {
            case.check();
        } else {
            assert_eq!(ints(&case.run(0).tensors["status"]), [i32::MAX, i32::MAX, i32::MAX, -i32::MAX]);
        }
    }
}
