//! A GEMM with packed weights: its data, its launches, and what the reference says.

use tilewright_templates::gemm::{GemmProblem, Operands, Packed, Reference, Weight, reference, weight};
use tilewright_tests::Built;
use tilewright_tests::numbers::{Random, decode, encode, i32s};

/// Which codes and scales a weight has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Codes {
    /// Any.
    Random,
    /// Codes at both ends of the range, scales far apart.
    Extreme,
    /// Groups that are all one code, and scales that are zero.
    Constant,
}

/// A class, sizes, and the neighbours along k that share a scale.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub p: GemmProblem,
    /// `[batch, m, n, k]`.
    pub shape: [usize; 4],
    pub group: usize,
    pub codes: Codes,
    /// Of the data, and of the schedule.
    pub seed: u64,
}

/// Kernels to launch, one after the other.
pub enum Launches<'a> {
    One(&'a Built),
    /// The partial sums of so many parts of k, and their reduction.
    Split(&'a Built, &'a Built, i64),
}

const ALPHA: f32 = 0.75;

struct Data {
    want: Reference,
    a: Vec<u8>,
    packed: Vec<u8>,
    bias: Vec<u8>,
    residual: Vec<u8>,
}

impl Case {
    fn packed(&self) -> Packed {
        match self.p.weight {
            Weight::Packed(p) => p,
            Weight::Same => panic!("a class with packed weights"),
        }
    }

    fn data(&self) -> Data {
        let ([batch, m, n, k], p, packed) = (self.shape, self.p, self.packed());
        let (wide, gates) = (n * p.gates() as usize, p.gates() as usize);
        let groups = k.div_ceil(self.group);
        let mut random = Random::new(self.seed + 1);
        let top = (1u64 << packed.bits) - 1;
        let (mut b, mut words) = (Vec::new(), Vec::new());
        for _ in 0..batch {
            let mut below = |n: u64| (random.bits() * n) >> 24;
            let codes: Vec<u8> = (0..wide * k)
                .map(|i| match self.codes {
                    Codes::Random => below(top + 1) as u8,
                    Codes::Extreme => (below(2) * top) as u8,
                    Codes::Constant => ((i / k + i % k / self.group) as u64 % (top + 1)) as u8,
                })
                .collect();
            let scales: Vec<f32> = (0..wide * groups)
                .map(|i| match self.codes {
                    Codes::Random => (1.0 + below(64) as f32) / 256.0,
                    Codes::Extreme => 2f32.powi(below(20) as i32 - 14),
                    Codes::Constant => (i % 3) as f32 / 8.0,
                })
                .collect();
            let zeros: Option<Vec<u8>> = packed.zero.then(|| (0..wide * groups).map(|_| below(top + 1) as u8).collect());
            let (g, z) = (self.group, zeros.as_deref());
            words.extend(weight::pack(packed, p.input, n, k, gates, g, &codes, &scales, z));
            b.extend(weight::dequantised(packed, p.input, n, k, gates, g, &codes, &scales, z));
        }
        let mut random = Random::new(self.seed + 77);
        let a = random.list(p.input, batch * m * k);
        let bias = if p.bias { random.list(p.input, wide) } else { Vec::new() };
        let residual = if p.residual { random.list(p.output, batch * m * n) } else { Vec::new() };
        let dense = GemmProblem { weight: Weight::Same, ..p };
        let bytes = (encode(p.input, &a), i32s(&words), encode(p.input, &bias), encode(p.output, &residual));
        let want = reference(
            &dense,
            &Operands { shape: self.shape, a, b, bias, residual, alpha: f64::from(ALPHA), ..Operands::default() },
        );
        Data { want, a: bytes.0, packed: bytes.1, bias: bytes.2, residual: bytes.3 }
    }

    /// Launches kernels and holds what comes out to the reference.
    pub fn holds(&self, launches: &Launches) {
        let data = self.data();
        let [batch, m, n, k] = self.shape;
        let what = format!("{} {:?} group {} {:?} seed {}", self.p.class(), self.shape, self.group, self.codes, self.seed);
        let run = |built: &Built, splits: i64, inputs: &[(&str, &[u8])], bytes: usize| -> Vec<u8> {
            let ints = [("m", m), ("n", n), ("k", k), ("batch", batch), ("splits", splits as usize)].map(|(s, v)| (s, v as i64));
            let ran = built.run(&ints, &[("alpha", ALPHA)], inputs, &[("d", bytes)], self.seed).unwrap();
            assert_eq!(ran.errors, Vec::<String>::new(), "{what}");
            assert_eq!(ran.unwritten, [0], "{what}");
            ran.outputs.into_iter().next().unwrap()
        };
        let mut extra: Vec<(&str, &[u8])> = Vec::new();
        if self.p.bias {
            extra.push(("bias", &data.bias));
        }
        if self.p.residual {
            extra.push(("residual", &data.residual));
        }
        let operands: [(&str, &[u8]); 2] = [("a", &data.a), ("packed", &data.packed)];
        let size = batch * m * n * self.p.output.bytes() as usize;
        let d = match launches {
            Launches::One(kernel) => run(kernel, 1, &[&operands[..], &extra].concat(), size),
            Launches::Split(partial, sum, splits) => {
                let part = run(partial, *splits, &operands, *splits as usize * batch * m * n * self.p.gates() as usize * 4);
                run(sum, *splits, &[&[("partial", part.as_slice())], extra.as_slice()].concat(), size)
            }
        };
        if let Some((i, found, value, bound)) = data.want.first_miss(&decode(self.p.output, &d)) {
            panic!("{what}: element ({}, {}) is {found}, the reference {value}, the bound {bound:e}", i / n, i % n);
        }
    }
}
