//! The f64 reference, written from the definition through a kernel map, and the bound a kernel is held to.
//!
//! A kernel may be off by twice what the same maths in its own precision is off, plus a slack for sums in another order:
//! `|out - ref| <= 2 |lowp - ref| + slack`. `lowp` rounds where the kernel rounds: operands of f32 to tf32, exact products, f32
//! sums of the taps that a dataflow sums together, these sums added tap by tap in f32, an f32 epilogue, one rounding.

use super::host::KernelMap;
use super::problem::{ConvProblem, Dataflow};
use crate::gemm::Act;
use half::{bf16, f16};
use tilewright_ir::DType;

/// Inputs as numbers, dense and row-major; vectors and residual empty where there are none.
#[derive(Clone, Debug, Default)]
pub struct ConvOperands {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// `[n, cin]`.
    pub features: Vec<f64>,
    /// `[taps, cin, cout]`.
    pub weight: Vec<f64>,
    /// `[cout]`.
    pub bias: Vec<f64>,
    /// `[cout]`.
    pub bn_scale: Vec<f64>,
    /// `[cout]`.
    pub bn_shift: Vec<f64>,
    /// `[m, cout]`.
    pub residual: Vec<f64>,
}

/// What the output `[m, cout]` should be, and how far off it may be.
#[derive(Clone, Debug, Default)]
pub struct ConvReference {
    /// In f64.
    pub value: Vec<f64>,
    /// The same maths in the kernel's precision.
    pub lowp: Vec<f64>,
    /// Slack for sums in another order, for each element.
    pub slack: Vec<f64>,
}

/// An element out of bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvMiss {
    /// Row and column.
    pub at: [usize; 2],
    /// What was found.
    pub found: f64,
    /// What it should be.
    pub value: f64,
    /// How far off it may be.
    pub bound: f64,
}

/// f32 sums in another order, and approximate exponentials and reciprocals (2 and 1 ulp, PTX ISA 9.7.3): relative to the
/// sum of magnitudes.
const ORDER_SLACK: f64 = 1.0 / (1u64 << 21) as f64;

/// Computes the reference of a class through a map; `flow` says which sums are rounded on their way.
pub fn conv_reference(p: &ConvProblem, map: &KernelMap, o: &ConvOperands, flow: Dataflow) -> ConvReference {
    let [cin, cout] = o.channels;
    let together = match flow {
        Dataflow::Implicit => map.taps,
        Dataflow::ImplicitSorted { splits } => map.taps.div_ceil(splits as usize),
        Dataflow::GatherScatter | Dataflow::FetchOnDemand { .. } => 1,
    };
    let mut out = ConvReference::default();
    for m in 0..map.rows() {
        let (mut exact, mut single, mut size) = (vec![0.0f64; cout], vec![0.0f32; cout], vec![0.0f64; cout]);
        for (first, part) in map.row(m).chunks(together.max(1)).enumerate() {
            let mut sums = vec![0.0f32; cout];
            for (k, j) in part.iter().enumerate().filter(|(_, j)| **j >= 0) {
                let features = &o.features[*j as usize * cin..][..cin];
                let weight = &o.weight[(first * together + k) * cin * cout..][..cin * cout];
                for (x, row) in features.iter().zip(weight.chunks(cout.max(1))) {
                    for (c, w) in row.iter().enumerate() {
                        exact[c] += x * w;
                        size[c] += (x * w).abs();
                        // Products of two 16-bit or two tf32 numbers are exact in f32.
                        sums[c] += operand(*x, p.dtype) * operand(*w, p.dtype);
                    }
                }
            }
            single.iter_mut().zip(&sums).for_each(|(s, part)| *s += part);
        }
        for c in 0..cout {
            let at = |v: &[f64], i: usize, default: f64| v.get(i).copied().unwrap_or(default);
            let (bias, residual) = (at(&o.bias, c, 0.0), at(&o.residual, m * cout + c, 0.0));
            let (scale, shift) = (at(&o.bn_scale, c, 1.0), at(&o.bn_shift, c, 0.0));
            let y = apply(p.act, (exact[c] + bias) * scale + shift + residual);
            let low = ((single[c] + bias as f32) * scale as f32 + shift as f32) + residual as f32;
            let low = apply(p.act, f64::from(low)) as f32;
            let magnitude = (size[c] + bias.abs()) * scale.abs() + shift.abs() + residual.abs();
            out.value.push(y);
            out.lowp.push(round(low, p.dtype));
            // The output's own rounding may fall the other way.
            out.slack.push(magnitude * ORDER_SLACK + half_step(y, p.dtype));
        }
    }
    out
}

impl ConvReference {
    /// How far element `i` may be off. Where the kernel's precision overflows only the slack counts, and infinity itself.
    pub fn bound(&self, i: usize) -> f64 {
        let gap = (self.lowp[i] - self.value[i]).abs();
        self.slack[i] + if gap.is_finite() { 2.0 * gap } else { 0.0 }
    }

    /// The first element out of bound; a NaN is a miss, a missing element too.
    pub fn first_miss(&self, found: &[f64], cout: usize) -> Option<ConvMiss> {
        (0..self.value.len().max(found.len())).find_map(|i| {
            let found = found.get(i).copied().unwrap_or(f64::NAN);
            let (value, bound) = self.value.get(i).map_or((f64::NAN, 0.0), |v| (*v, self.bound(i)));
            let overflow = found.is_infinite() && self.lowp.get(i) == Some(&found);
            let fits = overflow || (found - value).abs() <= bound;
            (!fits).then_some(ConvMiss { at: [i / cout.max(1), i % cout.max(1)], found, value, bound })
        })
    }
}

/// An operand as the tensor cores take it: f32 rounded to tf32, ties away from zero (`cvt.rna.tf32.f32`, PTX ISA 9.7.9).
fn operand(x: f64, d: DType) -> f32 {
    let x = x as f32;
    if d != DType::F32 || !x.is_finite() { x } else { f32::from_bits(x.to_bits().wrapping_add(1 << 12) & !((1 << 13) - 1)) }
}

fn apply(act: Act, x: f64) -> f64 {
    match act {
        Act::Relu => x.max(0.0),
        // The tanh form.
        Act::Gelu => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh()),
        Act::Silu => x / (1.0 + (-x).exp()),
        Act::None | Act::Swiglu => x,
    }
}

fn round(x: f32, d: DType) -> f64 {
    match d {
        DType::BF16 => bf16::from_f32(x).to_f64(),
        DType::F16 => f16::from_f32(x).to_f64(),
        _ => f64::from(x),
    }
}

/// At least half the distance between `y` and its neighbours.
fn half_step(y: f64, d: DType) -> f64 {
    match d {
        DType::BF16 => y.abs() * 2f64.powi(-8),
        // Its subnormals are 2^-24 apart.
        DType::F16 => (y.abs() * 2f64.powi(-11)).max(2f64.powi(-25)),
        _ => y.abs() * 2f64.powi(-24),
    }
}

#[cfg(test)]
mod tests {
    use super::super::geometry::Mode;
    use super::*;

    /// Two rows, three taps, two channels in, one out.
    fn small() -> (KernelMap, ConvOperands) {
        let map = KernelMap { taps: 3, coords_out: vec![[0; 4], [0, 0, 0, 1]], map: vec![0, -1, 1, 1, 0, -1] };
        let operands = ConvOperands {
            channels: [2, 1],
            features: vec![1.0, 2.0, 3.0, -4.0],
            weight: vec![1.0, 10.0, 0.5, 0.25, -1.0, 2.0],
            bias: vec![1.0],
            bn_scale: vec![2.0],
            bn_shift: vec![-3.0],
            residual: vec![0.5, 0.0],
        };
        (map, operands)
    }

    #[test]
    fn a_convolution_by_hand() {
        let (map, o) = small();
        let p = ConvProblem { act: Act::Relu, ..ConvProblem::plain(DType::F16, Mode::Submanifold) };
        // Row 0: (1 + 20) + (-3 - 8) = 10, then (10 + 1) * 2 - 3 + 0.5; row 1: (3 - 40) + (0.5 + 0.5) = -36, below zero.
        for flow in [Dataflow::Implicit, Dataflow::ImplicitSorted { splits: 2 }, Dataflow::GatherScatter] {
            let r = conv_reference(&p, &map, &o, flow);
            assert_eq!((r.value.clone(), r.lowp.clone()), (vec![19.5, 0.0], vec![19.5, 0.0]));
            assert_eq!(r.first_miss(&[19.5, 0.0], 1), None);
            assert_eq!(r.first_miss(&[19.5, 0.1], 1).map(|m| m.at), Some([1, 0]));
            assert_eq!(r.first_miss(&[f64::NAN, 0.0], 1).map(|m| m.at), Some([0, 0]));
            assert_eq!(r.first_miss(&[19.5], 1).map(|m| m.at), Some([1, 0]));
        }
    }

    #[test]
    fn operands_of_f32_lose_13_bits() {
        assert_eq!(operand(1.0 + 2f64.powi(-11), DType::F32), 1.0 + 2f32.powi(-10), "a tie goes away from zero");
        assert_eq!(operand(-1.0 - 2f64.powi(-12), DType::F32), -1.0);
        assert_eq!(operand(1.0 + 2f64.powi(-10), DType::F32), 1.0 + 2f32.powi(-10));
    }

    #[test]
    fn an_overflow_is_an_infinity_and_nothing_else() {
        let (map, mut o) = small();
        o.bn_shift = vec![1e6];
        let r = conv_reference(&ConvProblem::plain(DType::F16, Mode::Submanifold), &map, &o, Dataflow::Implicit);
        assert_eq!(r.first_miss(&[f64::INFINITY, f64::INFINITY], 1), None);
        assert!(r.first_miss(&[f64::INFINITY, 12.0], 1).is_some());
        assert!(r.first_miss(&[f64::NEG_INFINITY, f64::INFINITY], 1).is_some());
    }
}
