//! Made-up convolutions, the lists that kernels walk, made on the host, and what has to come out.

use half::{bf16, f16};
use tilewright_ir::DType;
use tilewright_templates::gemm::Act;
use tilewright_templates::sparse_conv::core::{CoreClass, EpilogueClass, Exit, Source};
use tilewright_tests::numbers::{Random, decode, encode, i32s};
use tilewright_tests::{Built, Ran};

/// What a list holds where nobody may look: as a row number far outside every tensor.
const JUNK: i32 = 0x3F3F_3F3F;

/// A kernel map with its sizes.
#[derive(Clone, Debug)]
pub struct Map {
    /// Rows of features.
    pub n: usize,
    /// Capacity in outputs.
    pub m: usize,
    /// Outputs that exist.
    pub count: usize,
    pub taps: usize,
    /// `[m, taps]`, -1 in rows that do not exist.
    pub map: Vec<i32>,
}

/// The lists of implicit GEMM.
pub struct Tiles {
    pub taps: Vec<i32>,
    pub rows: Vec<i32>,
    pub out: Vec<i32>,
}

/// A map tap by tap.
pub struct Pairs {
    pub input: Vec<i32>,
    pub output: Vec<i32>,
    pub start: Vec<i32>,
    /// `[m, taps]`.
    pub at: Vec<i32>,
}

impl Map {
    /// Each output has each tap with a probability in 256ths; no input twice for a tap.
    pub fn random([n, m, count, taps]: [usize; 4], in_256: u64, seed: u64) -> Map {
        let mut random = Random::new(seed);
        let mut map = vec![-1; m * taps];
        for k in 0..taps {
            let from = random.bits() as usize;
            for row in 0..count.min(n) {
                if random.bits() % 256 < in_256 {
                    map[row * taps + k] = ((from + 7 * row) % n) as i32;
                }
            }
        }
        Map { n, m, count, taps, map }
    }

    /// Tiles of `bm` outputs, tile `t` with `t` taps in its first row and none in its last, one output less than whole tiles.
    pub fn stairs(bm: usize, taps: usize, n: usize) -> Map {
        let m = (taps + 1) * bm - 1;
        let mut map = vec![-1; m * taps];
        for row in 0..m {
            for k in 0..row / bm {
                if (row + k) % bm % 5 != 4 && row % bm != bm - 1 {
                    map[row * taps + k] = ((3 * row + k) % n) as i32;
                }
            }
        }
        Map { n, m, count: m, taps, map }
    }

    pub fn row(&self, m: usize) -> &[i32] {
        &self.map[m * self.taps..(m + 1) * self.taps]
    }

    /// Lists for tiles of `bm`, rows of each of `splits` ranges of taps sorted by which they have, or as they come.
    pub fn tiles(&self, bm: usize, splits: usize, sorted: bool) -> Tiles {
        let (count, long) = (self.m.div_ceil(bm), self.taps.div_ceil(splits));
        let mut t = Tiles { taps: Vec::new(), rows: Vec::new(), out: Vec::new() };
        for g in 0..splits {
            let range = (g * long).min(self.taps)..((g + 1) * long).min(self.taps);
            let mut order: Vec<usize> = (0..self.count).collect();
            if sorted {
                order.sort_by_key(|m| std::cmp::Reverse(self.row(*m)[range.clone()].iter().map(|j| *j >= 0).collect::<Vec<_>>()));
            }
            for tile in 0..count {
                let rows: Vec<usize> = order.iter().skip(tile * bm).take(bm).copied().collect();
                let has = |k: &usize| rows.iter().any(|m| self.row(*m)[*k] >= 0);
                let have: Vec<usize> = range.clone().filter(has).collect();
                let mut taps = vec![JUNK; long + 1];
                // Nobody looks at tiles past the count.
                if tile * bm < self.count {
                    taps[0] = have.len() as i32;
                }
                for (slot, k) in have.iter().enumerate() {
                    taps[1 + slot] = *k as i32;
                }
                t.taps.extend(taps);
                for slot in 0..long {
                    t.rows.extend((0..bm).map(|l| match (have.get(slot), rows.get(l)) {
                        (Some(k), Some(m)) => self.row(*m)[*k],
                        (Some(_), None) => -1,
                        (None, _) => JUNK,
                    }));
                }
                t.out.extend((0..bm).map(|l| rows.get(l).map_or(-1, |m| *m as i32)));
            }
        }
        t
    }

    pub fn pairs(&self) -> Pairs {
        let mut p = Pairs { input: vec![], output: vec![], start: vec![0], at: vec![-1; self.m * self.taps] };
        for k in 0..self.taps {
            for m in 0..self.m {
                let j = self.row(m)[k];
                if j >= 0 {
                    p.at[m * self.taps + k] = p.input.len() as i32;
                    p.input.push(j);
                    p.output.push(m as i32);
                }
            }
            p.start.push(p.input.len() as i32);
        }
        p
    }
}

impl Pairs {
    /// Tap, first pair and pairs of tiles of at most `bm`.
    pub fn tiles(&self, bm: usize) -> Vec<i32> {
        let mut list = Vec::new();
        for (k, ends) in self.start.windows(2).enumerate() {
            for first in (ends[0]..ends[1]).step_by(bm) {
                list.extend([k as i32, first, (ends[1] - first).min(bm as i32)]);
            }
        }
        list
    }
}

/// Numbers of a convolution, as its dtypes hold them.
pub struct Numbers {
    pub map: Map,
    pub cin: usize,
    pub cout: usize,
    pub dtype: DType,
    pub epilogue: EpilogueClass,
    x: Vec<f64>,
    weight: Vec<f64>,
    bias: Vec<f64>,
    scale: Vec<f64>,
    shift: Vec<f64>,
    residual: Vec<f64>,
}

/// What a launch takes.
pub struct Arguments {
    pub ints: Vec<(&'static str, i64)>,
    pub tensors: Vec<(&'static str, Vec<u8>)>,
    /// The pairs of the map.
    pub pairs: Pairs,
}

/// What an element should be, and how far off it may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounded {
    pub value: f64,
    pub bound: f64,
}

/// A sum in f64, as the kernel makes it, and of magnitudes.
#[derive(Clone, Copy, Default)]
pub struct Sum {
    exact: f64,
    single: f32,
    size: f64,
}

impl Numbers {
    pub fn new(map: Map, [cin, cout]: [usize; 2], dtype: DType, epilogue: EpilogueClass, seed: u64) -> Self {
        let mut random = Random::new(seed + 77);
        let mut list = |d: Option<DType>, n: usize| d.map_or_else(Vec::new, |d| random.list(d, n));
        let x = list(Some(dtype), map.n * cin);
        let weight = list(Some(dtype), map.taps * cin * cout);
        let (bias, scale, shift) = (list(epilogue.bias, cout), list(epilogue.bn, cout), list(epilogue.bn, cout));
        let residual = list(epilogue.residual.then_some(dtype), map.m * cout);
        Numbers { map, cin, cout, dtype, epilogue, x, weight, bias, scale, shift, residual }
    }

    /// Adds row `j` of the features by tap `k` to a sum.
    pub fn add(&self, s: Sum, j: usize, k: usize, col: usize) -> Sum {
        (0..self.cin).fold(s, |s, c| {
            let (a, b) = (self.x[j * self.cin + c], self.weight[(k * self.cin + c) * self.cout + col]);
            let low = |v| if self.dtype == DType::F32 { tf32(v) } else { v };
            Sum { exact: s.exact + a * b, single: s.single + (low(a) * low(b)) as f32, size: s.size + (a * b).abs() }
        })
    }

    /// The sum over the taps of an output.
    pub fn sum(&self, m: usize, col: usize) -> Sum {
        let taps = self.map.row(m).iter().enumerate().filter(|(_, j)| **j >= 0);
        taps.fold(Sum::default(), |s, (k, j)| self.add(s, *j as usize, k, col))
    }

    /// A sum without epilogue.
    pub fn plain(&self, s: Sum) -> Bounded {
        bounded(s.exact, f64::from(s.single), s.size, DType::F32)
    }

    /// Element `[m, col]` of the output.
    pub fn output(&self, m: usize, col: usize) -> Bounded {
        let s = self.sum(m, col);
        let at = |v: &[f64], i: usize, none: f64| v.get(i).copied().unwrap_or(none);
        let (bias, scale, shift) = (at(&self.bias, col, 0.0), at(&self.scale, col, 1.0), at(&self.shift, col, 0.0));
        let residual = at(&self.residual, m * self.cout + col, 0.0);
        let before = (s.exact + bias) * scale + shift + residual;
        let single = (s.single + bias as f32).mul_add(scale as f32, shift as f32) + residual as f32;
        let size = (s.size + bias.abs()) * scale.abs() + shift.abs() + residual.abs();
        let (value, low) = (act(self.epilogue.act, before), act(self.epilogue.act, f64::from(single)));
        bounded(value, round(low as f32, self.dtype), size, self.dtype)
    }

    /// Tensors of a kernel of the core by name, with columns and channels up to a multiple of `align`.
    pub fn operands(&self, gathered: Option<&[i32]>, align: usize) -> Vec<(&'static str, Vec<u8>)> {
        let (cin, cout) = (self.cin.next_multiple_of(align), self.cout.next_multiple_of(align));
        let x = match gathered {
            Some(rows) => rows.iter().flat_map(|j| self.x[*j as usize * self.cin..][..self.cin].to_vec()).collect(),
            None => self.x.clone(),
        };
        let weight: Vec<f64> = self.weight.chunks(self.cin * self.cout).flat_map(|w| pad(w, self.cout, [cin, cout])).collect();
        let rows = x.len() / self.cin;
        let mut list = vec![("x", encode(self.dtype, &pad(&x, self.cin, [rows, cin]))), ("weight", encode(self.dtype, &weight))];
        list.extend(self.vectors());
        list
    }

    /// What the epilogue reads.
    pub fn vectors(&self) -> Vec<(&'static str, Vec<u8>)> {
        let e = self.epilogue;
        let mut list: Vec<(&'static str, Vec<u8>)> = Vec::new();
        list.extend(e.bias.map(|d| ("bias", encode(d, &self.bias))));
        list.extend(e.bn.map(|d| ("bn_scale", encode(d, &self.scale))));
        list.extend(e.bn.map(|d| ("bn_shift", encode(d, &self.shift))));
        list.extend(e.residual.then(|| ("residual", encode(self.dtype, &self.residual))));
        list
    }

    /// Checks an output of the epilogue: every row that exists, and that no other byte was written.
    pub fn holds(&self, ran: &Ran, what: &str) {
        clean(ran, what);
        let Map { m, count, .. } = self.map;
        assert_eq!(ran.unwritten, [((m - count) * self.cout * self.dtype.bytes() as usize) as u64], "{what}: unwritten");
        let y = decode(self.dtype, &ran.outputs[0]);
        for row in 0..count {
            for col in 0..self.cout {
                check(y[row * self.cout + col], self.output(row, col), || format!("{what}: y[{row}, {col}]"));
            }
        }
    }

    /// Sizes and tensors of a kernel of the core whose tile has `bm` rows.
    pub fn arguments(&self, class: &CoreClass, bm: usize, splits: usize, sorted: bool) -> Arguments {
        let (map, pairs, align) = (&self.map, self.map.pairs(), class.vec() as usize);
        let count = map.count as i32;
        let mut tensors = self.operands((class.source == Source::Rows).then_some(&pairs.input[..]), align);
        let tiles = pairs.tiles(bm);
        let most = tiles.len() / 3 + 2;
        match class.source {
            Source::Tiles => {
                let t = map.tiles(bm, splits, sorted);
                tensors.extend([("tile_taps", i32s(&t.taps)), ("tile_rows", i32s(&t.rows))]);
                tensors.extend([("tile_out", i32s(&t.out)), ("count", i32s(&[count]))]);
            }
            Source::Pairs | Source::Rows => {
                let mut all = tiles.clone();
                all.extend([JUNK; 6]);
                tensors.extend([("tiles", i32s(&all)), ("tile_count", i32s(&[tiles.len() as i32 / 3]))]);
            }
            Source::Tap => tensors.push(("tap_start", i32s(&pairs.start))),
        }
        if class.source != Source::Rows && class.source != Source::Tiles {
            tensors.push(("pair_in", i32s(&pairs.input)));
        }
        if matches!(class.exit, Exit::AddAtomic | Exit::AddPlain) {
            tensors.push(("pair_out", i32s(&pairs.output)));
        }
        let ints = vec![
            ("m", map.m as i64),
            ("n", map.n as i64),
            ("cin", self.cin.next_multiple_of(align) as i64),
            ("cout", self.cout as i64),
            ("taps", map.taps as i64),
            ("splits", splits as i64),
            ("pairs", pairs.input.len() as i64),
            ("most", most as i64),
        ];
        Arguments { ints, tensors, pairs }
    }

    /// One launch with the output `y`, whatever it gives.
    pub fn launch(&self, built: &Built, class: &CoreClass, bm: usize, seed: u64) -> Result<Ran, Box<dyn std::error::Error>> {
        let Arguments { ints, tensors, .. } = self.arguments(class, bm, 1, false);
        let list: Vec<(&str, &[u8])> = tensors.iter().map(|(n, b)| (*n, &b[..])).collect();
        built.run(&ints, &[], &list, &[("y", self.map.m * self.cout * self.dtype.bytes() as usize)], seed)
    }

    /// Runs a kernel of the core whose tile has `bm` rows and holds what comes out to its bound.
    pub fn run(&self, built: &Built, class: &CoreClass, bm: usize, splits: usize, sorted: bool, seed: u64) {
        let what = format!("{} seed {seed}, {} x {}", built.lowered.tile.name, self.cin, self.cout);
        let map = &self.map;
        let Arguments { mut ints, tensors, pairs } = self.arguments(class, bm, splits, sorted);
        let (m, cout) = (map.m, self.cout);
        match class.exit {
            Exit::Store => {
                let bytes = m * cout * self.dtype.bytes() as usize;
                self.holds(&launch(built, &ints, &tensors, bytes, seed), &what);
            }
            Exit::Slab => {
                let ran = launch(built, &ints, &tensors, splits * m * cout * 4, seed);
                clean(&ran, &what);
                let y = decode(DType::F32, &ran.outputs[0]);
                let long = map.taps.div_ceil(splits);
                for (i, found) in y.iter().enumerate() {
                    let (g, row, col) = (i / (m * cout), i / cout % m, i % cout);
                    if row >= map.count {
                        continue;
                    }
                    let taps = map.row(row).iter().enumerate().filter(|(k, j)| **j >= 0 && k / long == g);
                    let sum = taps.fold(Sum::default(), |s, (k, j)| self.add(s, *j as usize, k, col));
                    check(*found, self.plain(sum), || format!("{what}: slab {g} [{row}, {col}]"));
                }
                assert_eq!(ran.unwritten, [(splits * (m - map.count) * cout * 4) as u64], "{what}: unwritten");
            }
            Exit::PairRows => {
                let ran = launch(built, &ints, &tensors, pairs.input.len() * cout * 4, seed);
                clean(&ran, &what);
                assert_eq!(
                    ran.unwritten,
                    [u64::from(pairs.input.is_empty())],
                    "{what}: unwritten but for an empty tensor's byte"
                );
                let y = decode(DType::F32, &ran.outputs[0]);
                for (k, ends) in pairs.start.windows(2).enumerate() {
                    for p in ends[0] as usize..ends[1] as usize {
                        for col in 0..cout {
                            let sum = self.add(Sum::default(), pairs.input[p] as usize, k, col);
                            check(y[p * cout + col], self.plain(sum), || format!("{what}: product {p} [{col}]"));
                        }
                    }
                }
            }
            Exit::AddAtomic | Exit::AddPlain => {
                let mut y = vec![0u8; m * cout * 4];
                let taps = if class.source == Source::Tap { map.taps } else { 1 };
                for tap in 0..taps {
                    ints.push(("tap", tap as i64));
                    let mut list: Vec<(&str, &[u8])> = tensors.iter().map(|(n, b)| (*n, &b[..])).collect();
                    list.push(("y", &y));
                    let ran = built.run(&ints, &[], &list, &[], seed).unwrap();
                    clean(&ran, &what);
                    y = ran.inputs.last().unwrap().clone();
                }
                let y = decode(DType::F32, &y);
                for (i, found) in y.iter().enumerate() {
                    let sum = self.sum(i / cout, i % cout);
                    check(*found, self.plain(sum), || format!("{what}: sum [{}, {}]", i / cout, i % cout));
                }
            }
        }
    }
}

/// No finding of any kind.
pub fn clean(ran: &Ran, what: &str) {
    assert!(ran.errors.is_empty(), "{what}: {}", ran.errors.join("\n"));
    assert!(ran.lints.is_empty(), "{what}: {}", ran.lints.join("\n"));
}

/// One launch with one output `y`.
pub fn launch(built: &Built, ints: &[(&str, i64)], tensors: &[(&'static str, Vec<u8>)], bytes: usize, seed: u64) -> Ran {
    let list: Vec<(&str, &[u8])> = tensors.iter().map(|(n, b)| (*n, &b[..])).collect();
    built.run(ints, &[], &list, &[("y", bytes)], seed).unwrap()
}

/// Within the bound; a NaN is not.
pub fn check(found: f64, want: Bounded, what: impl Fn() -> String) {
    assert!((found - want.value).abs() <= want.bound, "{}: {found}, not {} within {}", what(), want.value, want.bound);
}

/// f32 sums in another order, and approximate exponentials and reciprocals, relative to the sum of magnitudes.
const ORDER_SLACK: f64 = 1.0 / (1u64 << 21) as f64;

fn bounded(value: f64, low: f64, size: f64, d: DType) -> Bounded {
    // The output's own rounding may fall the other way.
    let half_step = match d {
        DType::BF16 => value.abs() * 2f64.powi(-8),
        DType::F16 => (value.abs() * 2f64.powi(-11)).max(2f64.powi(-25)),
        _ => value.abs() * 2f64.powi(-24),
    };
    Bounded { value, bound: 2.0 * (low - value).abs() + size * ORDER_SLACK + half_step }
}

fn act(act: Act, x: f64) -> f64 {
    match act {
        Act::None | Act::Swiglu => x,
        Act::Relu => x.max(0.0),
        Act::Silu => x / (1.0 + (-x).exp()),
        Act::Gelu => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh()),
    }
}

fn round(x: f32, d: DType) -> f64 {
    match d {
        DType::BF16 => bf16::from_f32(x).to_f64(),
        DType::F16 => f16::from_f32(x).to_f64(),
        _ => f64::from(x),
    }
}

/// An f32 to the nearest tf32, ties away from zero (PTX ISA 9.7.9.22, `cvt.rna.tf32`).
pub fn tf32(x: f64) -> f64 {
    f64::from(f32::from_bits(((x as f32).to_bits() + 0x1000) & !0x1FFF))
}

/// Rows of `cols` numbers as `[rows, wide]`, zeros elsewhere.
pub fn pad(v: &[f64], cols: usize, [rows, wide]: [usize; 2]) -> Vec<f64> {
    (0..rows * wide)
        .map(|i| if i % wide < cols { v.get(i / wide * cols + i % wide).copied().unwrap_or(0.0) } else { 0.0 })
        .collect()
}
