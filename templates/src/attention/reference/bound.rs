//! How far from its f64 value a result may be.

use half::{bf16, f16};
use tilewright_ir::DType;

/// What the elements of an output should be, and how far off they may be: a result is right iff
/// `|found - value| <= 2 |lowp - value| + slack` for each of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// In f64, from the definition.
    pub value: Vec<f64>,
    /// The same maths in the kernel's precision.
    pub lowp: Vec<f64>,
    /// What roundings that differ from lowp's can add.
    pub slack: Vec<f64>,
}

/// An element that is too far off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Miss {
    /// Index of the element.
    pub index: usize,
    /// What was found.
    pub found: f64,
    /// What it should be.
    pub value: f64,
    /// How far off it may be.
    pub bound: f64,
}

/// What the reference cannot know from a class: how a kernel's config computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numerics {
    /// Relative error of `2^x`.
    pub exp2: f64,
}

impl Numerics {
    /// `ex2.approx`: 2 ulp (PTX ISA 9.7.3).
    pub const APPROX: Numerics = Numerics { exp2: 4.0 * ROUND };
    /// Some of the `2^x` by the cubic on the FMA pipe (`RoleBuilder::exp2` with a share).
    pub const CUBIC: Numerics = Numerics { exp2: 8e-5 };
}

impl Expected {
    pub(super) fn zeros(n: usize) -> Self {
        Expected { value: vec![0.0; n], lowp: vec![0.0; n], slack: vec![0.0; n] }
    }

    /// How far off element i may be.
    pub fn bound(&self, i: usize) -> f64 {
        let gap = if self.lowp[i] == self.value[i] { 0.0 } else { (self.lowp[i] - self.value[i]).abs() };
        2.0 * gap + self.slack[i]
    }

    /// The first element out of bound. Infinities must be met exactly; a NaN is a miss, a missing element too.
    pub fn first_miss(&self, found: &[f64]) -> Option<Miss> {
        (0..self.value.len().max(found.len())).find_map(|index| {
            let (value, bound) = self.value.get(index).map_or((f64::NAN, 0.0), |v| (*v, self.bound(index)));
            let found = found.get(index).copied().unwrap_or(f64::NAN);
            let fits = found == value || (found - value).abs() <= bound;
            (!fits).then_some(Miss { index, found, value, bound })
        })
    }
}

/// Unit roundoff of f32.
pub(super) const ROUND: f64 = 1.0 / (1u64 << 24) as f64;

/// Standard deviations' worth of independent roundings that are allowed for: by Hoeffding's inequality a sum of them
/// goes beyond with probability 2 exp(-8^2 / 2) < 3e-14 (Higham and Mary, "A new approach to probabilistic rounding error
/// analysis", 2019).
pub(super) const LIKELY: f64 = 8.0;

/// A sum of n f32 numbers in any order, relative to the sum of magnitudes: at worst one rounding each.
pub(super) fn sum_error(n: usize) -> f64 {
    (n as f64).min(LIKELY * (n as f64).sqrt()) * ROUND
}

/// A dot product of n terms on a tensor core, relative to the sum of magnitudes. Ampere adds 8 terms to the accumulator at
/// a time (later chips more): each term and the accumulator are cut off at 24 bits behind the largest one's leading bit, the
/// sum to 23 bits, so 1 + 1/8 + 2/8 roundings a term ("Numerical behavior of NVIDIA tensor cores", Fasi et al. 2021). Cutting
/// off is biased, so nothing cancels. One f32 rounding a product, which the emulator's fast numerics do, is less.
pub(super) fn mma_error(n: usize) -> f64 {
    n as f64 * 1.375 * ROUND
}

/// `x` rounded to a dtype.
pub(super) fn round(x: f32, d: DType) -> f64 {
    match d {
        DType::BF16 => bf16::from_f32(x).to_f64(),
        DType::F16 => f16::from_f32(x).to_f64(),
        _ => f64::from(x),
    }
}

/// Half the distance between neighbours, relative.
pub(super) fn unit(d: DType) -> f64 {
    match d {
        DType::BF16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        _ => ROUND,
    }
}

/// What rounding may lose whatever the size: half the distance between subnormals for f16, and all of a subnormal for
/// bf16 and f32, since f32 operations may flush them.
pub(super) fn least(d: DType) -> f64 {
    match d {
        DType::F16 => 2f64.powi(-25),
        _ => 2f64.powi(-126),
    }
}
