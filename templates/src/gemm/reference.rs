//! The f64 reference, written from the definition, and the bound a kernel is held to.
//!
//! A kernel may be off by twice what the same maths in its own precision is off, plus a slack for sums in another
//! order: `|out - ref| <= 2 |lowp - ref| + slack` (the test rule of FlashAttention's authors). `lowp` rounds where the kernel
//! rounds: f32 sums of exact products, f32 epilogue, one rounding to the output. Of 8-bit floats it sums 128 products, then adds
//! these sums, times the factors of their block; of integers it sums exactly.

use super::problem::{Act, BLayout, GemmProblem, Scale};
use super::scale::BLOCK;
use half::{bf16, f16};
use tilewright_ir::DType;
use tilewright_runtime::fp8::Fp8;

/// Inputs as numbers, dense and row-major.
#[derive(Clone, Debug, Default)]
pub struct Operands {
    /// `[batch, m, n, k]`.
    pub shape: [usize; 4],
    /// `[batch, m, k]`.
    pub a: Vec<f64>,
    /// `[batch, n, k]` or `[batch, k, n]`; 2n for swiglu.
    pub b: Vec<f64>,
    /// `[n]`, 2n for swiglu; empty where there is none.
    pub bias: Vec<f64>,
    /// `[batch, m, n]`; empty where there is none.
    pub residual: Vec<f64>,
    /// As the class's scale says: `[1]`, `[batch, m]` or `[batch, m, ceil(k/128)]`; empty where there is none.
    pub a_scale: Vec<f64>,
    /// `[1]`, `[batch, n]` or `[batch, ceil(n/128), ceil(k/128)]`, 2n for swiglu; empty where there is none.
    pub b_scale: Vec<f64>,
    /// Factor of the product.
    pub alpha: f64,
}

/// What the output should be, and how far off it may be.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    /// `[batch, m, n]` in f64.
    pub value: Vec<f64>,
    /// The same maths in the kernel's precision.
    pub lowp: Vec<f64>,
    /// Slack for sums in another order, for each element.
    pub slack: Vec<f64>,
    /// Magnitudes of what was summed, for each element.
    magnitude: Vec<f64>,
}

/// f32 sums in another order, and approximate exponentials and reciprocals (2 and 1 ulp, PTX ISA 9.7.3): relative to the
/// sum of magnitudes.
const ORDER_SLACK: f64 = 1.0 / (1u64 << 21) as f64;

/// Computes the reference of a class on given inputs.
pub fn reference(p: &GemmProblem, o: &Operands) -> Reference {
    let [batch, m, n, k] = o.shape;
    let wide = n * p.gates() as usize;
    let b_at = |z: usize, col: usize, i: usize| match p.b {
        BLayout::Nk => o.b[(z * wide + col) * k + i],
        BLayout::Kn => o.b[(z * k + i) * wide + col],
    };
    let mut out = Reference::default();
    for z in 0..batch {
        for row in 0..m {
            let a = &o.a[(z * m + row) * k..][..k];
            for col in 0..n {
                let part = |gate: usize| {
                    let c = col + gate * n;
                    let Sums { exact, single, magnitude } = sums(p, o, [z, row, c], a, |i| b_at(z, c, i));
                    let bias = o.bias.get(c).copied().unwrap_or(0.0);
                    let exact = o.alpha * exact + bias;
                    let single = o.alpha as f32 * single + bias as f32;
                    (exact, single, (o.alpha * magnitude).abs() + bias.abs())
                };
                let (x, x32, mag) = part(0);
                let (mut y, mut y32, mut slack) = match p.act {
                    Act::None => (x, x32, mag),
                    Act::Relu => (x.max(0.0), x32.max(0.0), mag),
                    Act::Gelu => (gelu(x), gelu(f64::from(x32)) as f32, mag),
                    Act::Silu => (silu(x), silu(f64::from(x32)) as f32, mag),
                    Act::Swiglu => {
                        let (u, u32_, mag_u) = part(1);
                        let gate = silu(f64::from(x32)) as f32;
                        (silu(x) * u, gate * u32_, mag * (u.abs() + mag_u * ORDER_SLACK) + silu(x).abs() * mag_u)
                    }
                };
                if let Some(r) = o.residual.get((z * m + row) * n + col) {
                    y += r;
                    y32 += *r as f32;
                    slack += r.abs();
                }
                out.value.push(y);
                out.lowp.push(if p.output == DType::I32 { y } else { round(y32, p.output) });
                // The output's own rounding may fall the other way. Integers are what they are.
                out.magnitude.push(slack);
                let exact = p.output == DType::I32;
                out.slack.push(if exact { 0.0 } else { slack * ORDER_SLACK + half_step(y, p.output) });
            }
        }
    }
    out
}

/// One dot product, with the factors of its operands.
struct Sums {
    exact: f64,
    single: f32,
    /// The sum of magnitudes.
    magnitude: f64,
}

/// The product of row `row` of a and column `col` of b in matrix `z`.
fn sums(p: &GemmProblem, o: &Operands, [z, row, col]: [usize; 3], a: &[f64], b: impl Fn(usize) -> f64) -> Sums {
    let [_, m, n, k] = o.shape;
    let block = BLOCK as usize;
    let (wide, blocks) = (n * p.gates() as usize, k.div_ceil(block));
    let a_block = |kb: usize| if p.a_scale == Scale::Block { o.a_scale[(z * m + row) * blocks + kb] } else { 1.0 };
    let b_block = |kb: usize| match p.b_scale {
        Scale::Block => o.b_scale[(z * wide.div_ceil(block) + col / block) * blocks + kb],
        _ => 1.0,
    };
    // Products of 16-bit and of 8-bit floats are exact in f32: only the sum rounds. Those of bytes are summed in stages.
    let step = if p.bytes() { block } else { k };
    let (mut exact, mut single, mut magnitude) = (0.0f64, 0.0f32, 0.0f64);
    for (kb, a) in a.chunks(step).enumerate() {
        let (mut sum, mut sum32, mut size) = (0.0f64, 0.0f32, 0.0f64);
        for (i, x) in a.iter().enumerate() {
            let product = x * b(kb * step + i);
            sum += product;
            sum32 += product as f32;
            size += product.abs();
        }
        // Sums of integers are exact, and become f32 where they are scaled.
        if p.input == DType::I8 {
            sum32 = sum as f32;
        }
        let factor = a_block(kb) * b_block(kb);
        exact += sum * factor;
        single = if p.block_scaled() { sum32.mul_add(a_block(kb) as f32 * b_block(kb) as f32, single) } else { single + sum32 };
        magnitude += size * factor.abs();
    }
    if p.input == DType::I8 && !p.block_scaled() {
        single = exact as f32;
    }
    let of_a = match p.a_scale {
        Scale::Tensor => o.a_scale[0],
        Scale::Row => o.a_scale[z * m + row],
        Scale::None | Scale::Block => 1.0,
    };
    let of_b = match p.b_scale {
        Scale::Tensor => o.b_scale[0],
        Scale::Row => o.b_scale[z * wide + col],
        Scale::None | Scale::Block => 1.0,
    };
    let factor = of_a * of_b;
    Sums { exact: exact * factor, single: single * of_a as f32 * of_b as f32, magnitude: magnitude * factor.abs() }
}

/// What Hopper's tensor cores may drop of a sum of 8-bit floats, relative to the sum of magnitudes: every addend of a k32 step loses
/// what lies below 13 bits of the largest, twice at the least.
const FP8_SLACK: f64 = 1.0 / (1u64 << 12) as f64;

impl Reference {
    /// The same with slack for what tensor cores drop of sums of 8-bit floats. Other sums they keep.
    pub fn on_tensor_cores(mut self, p: &GemmProblem) -> Self {
        if p.input.is_fp8() {
            self.slack.iter_mut().zip(&self.magnitude).for_each(|(slack, m)| *slack += m * FP8_SLACK);
        }
        self
    }

    /// How far element `i` may be off.
    pub fn bound(&self, i: usize) -> f64 {
        2.0 * (self.lowp[i] - self.value[i]).abs() + self.slack[i]
    }

    /// The first element out of bound: index, value, reference, bound.
    pub fn first_miss(&self, found: &[f64]) -> Option<(usize, f64, f64, f64)> {
        // A NaN is a miss.
        let miss = |i: &usize| (found[*i] - self.value[*i]).abs().partial_cmp(&self.bound(*i)).is_none_or(|o| o.is_gt());
        (0..self.value.len()).find(miss).map(|i| (i, found[i], self.value[i], self.bound(i)))
    }
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// The tanh form.
fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
}

fn round(x: f32, d: DType) -> f64 {
    match d {
        DType::BF16 => bf16::from_f32(x).to_f64(),
        DType::F16 => f16::from_f32(x).to_f64(),
        DType::E4M3 => Fp8::E4M3.decode(Fp8::E4M3.encode(x.into())).into(),
        _ => f64::from(x),
    }
}

/// At least half the distance between `y` and its neighbours.
fn half_step(y: f64, d: DType) -> f64 {
    match d {
        DType::BF16 => y.abs() * 2f64.powi(-8),
        DType::F16 => y.abs() * 2f64.powi(-11),
        // Its subnormals begin at 2^-6 and are 2^-9 apart.
        DType::E4M3 => (y.abs() * 2f64.powi(-4)).max(2f64.powi(-10)),
        _ => y.abs() * 2f64.powi(-24),
    }
}
