//! The f64 reference, written from the definition, and the bound a kernel is held to.
//!
//! A kernel may be off by twice what the same maths in its own precision is off, plus a slack for sums in another
//! order: `|out - ref| <= 2 |lowp - ref| + slack` (the test rule of FlashAttention's authors). `lowp` rounds where the kernel
//! rounds: f32 sums of exact products, f32 epilogue, one rounding to the output.

use super::problem::{Act, BLayout, GemmProblem};
use half::{bf16, f16};
use tilewright_ir::DType;

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
                    let (mut exact, mut single, mut magnitude) = (0.0f64, 0.0f32, 0.0f64);
                    for (i, x) in a.iter().enumerate() {
                        let product = x * b_at(z, c, i);
                        exact += product;
                        // Products of 16-bit floats are exact in f32: only the sum rounds.
                        single += product as f32;
                        magnitude += product.abs();
                    }
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
                out.lowp.push(round(y32, p.output));
                // The output's own rounding may fall the other way.
                out.slack.push(slack * ORDER_SLACK + y.abs() * ulp(p.output));
            }
        }
    }
    out
}

impl Reference {
    /// The first element out of bound: index, value, reference, bound.
    pub fn first_miss(&self, found: &[f64]) -> Option<(usize, f64, f64, f64)> {
        let bound = |i: usize| 2.0 * (self.lowp[i] - self.value[i]).abs() + self.slack[i];
        // A NaN is a miss.
        let miss = |i: &usize| (found[*i] - self.value[*i]).abs().partial_cmp(&bound(*i)).is_none_or(|o| o.is_gt());
        (0..self.value.len()).find(miss).map(|i| (i, found[i], self.value[i], bound(i)))
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
        _ => f64::from(x),
    }
}

/// Half the distance between neighbours, relative.
fn ulp(d: DType) -> f64 {
    match d {
        DType::BF16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-24),
    }
}
