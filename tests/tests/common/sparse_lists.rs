//! Made-up maps, and plans of pieces over them.

use std::collections::BTreeMap;
use tilewright_ir::Arch;
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::plan::Role;
use tilewright_templates::sparse_conv::lists::ListError;
use tilewright_templates::sparse_conv::{Coord, KernelMap, MapSet, PlanBuilder};
use tilewright_tests::numbers::{Random, i32s};
use tilewright_tests::{BuiltPlan, Runner};

/// A map with room for more rows than it has.
pub struct Made {
    pub taps: usize,
    /// Capacity in rows.
    pub rows: usize,
    /// Rows that exist.
    pub count: usize,
    /// Input rows there are.
    pub inputs: usize,
    /// `[rows, taps]`.
    pub map: Vec<i32>,
}

impl Made {
    /// Taps as dense as those of real maps are: one or two full, the others of two in three to one in fifty rows. No two rows meet
    /// an input at the same tap.
    pub fn new(taps: usize, count: usize, rows: usize, seed: u64) -> Self {
        let mut random = Random::new(seed * 31 + taps as u64);
        let inputs = count + 5;
        let one_in: Vec<u64> =
            (0..taps).map(|k| if k == taps / 2 { 1 } else { [2, 3, 4, 12, 50][(random.bits() % 5) as usize] }).collect();
        let mut map = vec![-1; rows * taps];
        for m in 0..count {
            // Some rows are nearly empty and some nearly full, as at edges and on planes.
            let luck = [1, 1, 2, 6][(random.bits() % 4) as usize];
            for k in 0..taps {
                if random.bits() % one_in[k] < luck && luck != 2 || random.bits().is_multiple_of(one_in[k] * 3) {
                    map[m * taps + k] = ((m + 7 * k) % inputs) as i32;
                }
            }
        }
        Made { taps, rows, count, inputs, map }
    }

    pub fn entry(&self, m: usize, k: usize) -> i32 {
        self.map[m * self.taps + k]
    }

    /// The rows that exist, as the host knows maps.
    #[allow(dead_code)]
    pub fn host(&self) -> KernelMap {
        let coords_out: Vec<Coord> = (0..self.count as i32).map(|m| [0, m, 0, 0]).collect();
        KernelMap { taps: self.taps, coords_out, map: self.map[..self.count * self.taps].to_vec() }
    }
}

/// A plan over `map` and `count`, and what pieces gave.
pub struct Listed<T> {
    pub built: BuiltPlan,
    pub made: T,
}

/// Builds a plan of pieces. Variables: `rows`, `taps`, `inputs`, `pairs`; further inputs by name and shape.
pub fn plan<T>(arch: Arch, piece: impl FnOnce(&mut PlanBuilder, &MapSet) -> Result<T, ListError>) -> Listed<T> {
    let mut pb = PlanBuilder::new(arch, "lists", "lists", "");
    let map = MapSet {
        map: pb.tensor("map", Dtype::I32, &["m", "k"], Role::Input).unwrap(),
        count: pb.tensor("m_count", Dtype::I32, &["1"], Role::Input).unwrap(),
        rows: "m".into(),
        taps: "k".into(),
    };
    let made = piece(&mut pb, &map).unwrap();
    let op = pb.finish().unwrap();
    let kernels = op.kernels.iter().map(|k| (k.id.as_str(), &k.kernel));
    let built = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"))
        .build_plan(&op.plan, kernels)
        .unwrap_or_else(|e| panic!("{e}"));
    Listed { built, made }
}

impl<T> Listed<T> {
    /// Every tensor after a run that nothing was found in; `unwritten` may be so in part.
    pub fn run(&self, m: &Made, capacity: usize, seed: u64, unwritten: &[&str]) -> BTreeMap<String, Vec<i32>> {
        let ints = [("m", m.rows), ("k", m.taps), ("inputs", m.inputs), ("pairs", capacity)].map(|(n, v)| (n, v as i64));
        let (map, count) = (i32s(&m.map), i32s(&[m.count as i32]));
        let ran = self.built.run(&ints, &[], &[("map", &map), ("m_count", &count)], seed).unwrap();
        let what = format!("{} of {} rows, {} taps, seed {seed}", m.count, m.rows, m.taps);
        let found = ran.errors.first().or(ran.lints.first());
        assert!(found.is_none(), "{what}: {}", found.unwrap());
        for (name, bytes) in ran.unwritten {
            assert!(bytes == 0 || unwritten.contains(&name.as_str()), "{what}: {bytes} bytes of {name} unwritten");
        }
        let numbers = |b: Vec<u8>| b.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect();
        ran.tensors.into_iter().map(|(n, b)| (n, numbers(b))).collect()
    }
}
