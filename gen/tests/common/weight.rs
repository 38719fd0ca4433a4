//! Weights of a few bits in the forms of files, with the numbers they stand for, written from the formats' definitions.

use half::{bf16, f16};
use safetensors::tensor::Dtype;

/// A tensor of a file: name, dtype, shape, bytes.
pub type Entry = (&'static str, Dtype, Vec<usize>, Vec<u8>);

/// Which codes, zero points and scales a weight has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Random codes and zero points, scales about 1/16.
    Random,
    /// Codes and zero points at the ends of their range, scales from tiny to large.
    Extreme,
    /// Each group one code, every third scale zero.
    Constant,
}

/// A weight before it is written in a form: codes and zero points, scales as F16 bits, by rows of the weight.
pub struct Numbers {
    pub bits: usize,
    pub rows: usize,
    pub k: usize,
    pub group: usize,
    pub code: Vec<u32>,
    pub zero: Vec<u32>,
    pub scale: Vec<f64>,
    /// The group of each column.
    pub g_idx: Vec<usize>,
}

impl Numbers {
    /// The same in every run. Without `zero` zero points are half the range.
    pub fn new(bits: usize, [rows, k, group]: [usize; 3], kind: Kind, zero: bool, seed: u64) -> Numbers {
        let mut s = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut below = move |n: u32| {
            s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((s >> 33) % u64::from(n)) as u32
        };
        let (groups, top) = (k.div_ceil(group), (1u32 << bits) - 1);
        let code = (0..rows * k)
            .map(|i| match kind {
                Kind::Random => below(top + 1),
                Kind::Extreme => below(2) * top,
                Kind::Constant => (i / k * 5 + i % k / group) as u32 & top,
            })
            .collect();
        let mut z = || match kind {
            Kind::Extreme => below(2) * top,
            _ => below(top + 1),
        };
        let zeros = (0..rows * groups).map(|_| if zero { z() } else { 1 << (bits - 1) }).collect();
        let mut scale = |i: usize| match kind {
            Kind::Random => f64::from(below(64) + 32) / 1024.0,
            Kind::Extreme => 2f64.powi(below(20) as i32 - 16) * 1.375,
            Kind::Constant => f64::from(i as u32 % 3) / 8.0,
        };
        let scale = (0..rows * groups).map(|i| f16::from_f64(scale(i)).to_f64()).collect();
        Numbers { bits, rows, k, group, code, zero: zeros, scale, g_idx: (0..k).map(|i| i / group).collect() }
    }

    fn groups(&self) -> usize {
        self.k.div_ceil(self.group)
    }

    /// The weight at a row and a column where a is BF16 (or F16): the scale rounded to it, the product too.
    pub fn weight(&self, row: usize, col: usize, bf: bool) -> f64 {
        let round = |x: f64| if bf { bf16::from_f64(x).to_f64() } else { f16::from_f64(x).to_f64() };
        let at = row * self.groups() + self.g_idx[col];
        round((f64::from(self.code[row * self.k + col]) - f64::from(self.zero[at])) * round(self.scale[at]))
    }

    /// `q`, `scale`, and `zero` if there are zero points, scales in BF16 or F16.
    pub fn raw(&self, bf: bool, zero: bool) -> Vec<Entry> {
        let q: Vec<u8> = match self.bits {
            8 => self.code.iter().map(|c| *c as u8).collect(),
            _ => self.code.chunks(2).map(|c| (c[0] | c[1] << 4) as u8).collect(),
        };
        let half = |x: &f64| if bf { bf16::from_f64(*x).to_le_bytes() } else { f16::from_f64(*x).to_le_bytes() };
        let (dtype, groups) = (if bf { Dtype::BF16 } else { Dtype::F16 }, vec![self.rows, self.groups()]);
        let mut list: Vec<Entry> = vec![
            ("q", Dtype::U8, vec![self.rows, self.k * self.bits / 8], q),
            ("scale", dtype, groups.clone(), self.scale.iter().flat_map(half).collect()),
        ];
        if zero {
            list.push(("zero", Dtype::U8, groups, self.zero.iter().map(|z| *z as u8).collect()));
        }
        list
    }

    /// Words whose `per` fields are numbers of a function: `[rows, cols/per]` along columns.
    fn words(&self, rows: usize, cols: usize, order: &[usize], at: impl Fn(usize, usize) -> u32) -> Vec<u8> {
        let per = order.len();
        let word = |r: usize, c: usize| (0..per).fold(0u32, |w, i| w | at(r, c * per + order[i]) << (i * self.bits));
        (0..rows * (cols / per)).flat_map(|i| word(i / (cols / per), i % (cols / per)).to_le_bytes()).collect()
    }

    fn scales(&self) -> Entry {
        let (rows, groups) = (self.rows, self.groups());
        let bytes =
            (0..groups * rows).flat_map(|i| f16::from_f64(self.scale[i % rows * groups + i / rows]).to_le_bytes()).collect();
        ("scales", Dtype::F16, vec![groups, rows], bytes)
    }

    /// An AWQ checkpoint's tensors.
    pub fn awq(&self) -> Vec<Entry> {
        const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
        let (rows, k, groups) = (self.rows, self.k, self.groups());
        let q = self.words(k, rows, &ORDER, |c, r| self.code[r * k + c]);
        let z = self.words(groups, rows, &ORDER, |g, r| self.zero[r * groups + g]);
        vec![("qweight", Dtype::I32, vec![k, rows / 8], q), ("qzeros", Dtype::I32, vec![groups, rows / 8], z), self.scales()]
    }

    /// A GPTQ checkpoint's tensors, `g_idx` where columns are not in order.
    pub fn gptq(&self, version: u32) -> Vec<Entry> {
        let (rows, k, groups, per) = (self.rows, self.k, self.groups(), 32 / self.bits);
        let (order, mask) = ((0..per).collect::<Vec<_>>(), (1u32 << self.bits) - 1);
        let q = (0..k / per * rows)
            .flat_map(|i| {
                let word = |w: u32, j: usize| w | self.code[i % rows * k + i / rows * per + j] << (j * self.bits);
                (0..per).fold(0u32, word).to_le_bytes()
            })
            .collect();
        let stored = |g: usize, r: usize| self.zero[r * groups + g].wrapping_sub(2 - version) & mask;
        let z = self.words(groups, rows, &order, stored);
        let mut list: Vec<Entry> = vec![
            ("qweight", Dtype::I32, vec![k / per, rows], q),
            ("qzeros", Dtype::I32, vec![groups, rows / per], z),
            self.scales(),
        ];
        if !self.g_idx.is_sorted() {
            let bytes = self.g_idx.iter().flat_map(|g| (*g as i32).to_le_bytes()).collect();
            list.push(("g_idx", Dtype::I32, vec![k], bytes));
        }
        list
    }

    /// Columns dealt to groups one by one, so that no group is contiguous.
    pub fn dealt(mut self) -> Numbers {
        let groups = self.groups();
        self.g_idx = (0..self.k).map(|i| i * 7 % groups).collect();
        self
    }
}
