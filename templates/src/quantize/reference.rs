//! The f64 reference of a quantiser, and what it is held to.

use super::FLOOR;
use super::codes::largest;
use tilewright_ir::DType;
use tilewright_runtime::fp8::Fp8;

/// What a quantiser should give.
#[derive(Clone, Debug, Default)]
pub struct QuantizeReference {
    /// The factor of each block, row by row: within half an ulp.
    pub scale: Vec<f64>,
    /// The number nearest to each element that a code can mean, divided by the factor as f32.
    pub q: Vec<f64>,
}

/// Factors and codes of `x [m, k]` in blocks of `block` columns; k for whole rows.
pub fn quantize_reference(x: &[f64], k: usize, block: usize, to: DType) -> QuantizeReference {
    let mut out = QuantizeReference::default();
    for row in x.chunks(k) {
        for part in row.chunks(block) {
            let amax = part.iter().fold(f64::from(FLOOR), |a, v| a.max(v.abs()));
            let scale = amax / f64::from(largest(to));
            out.scale.push(scale);
            out.q.extend(part.iter().map(|v| codes_of(v / f64::from(scale as f32), to)));
        }
    }
    out
}

/// The nearest number that a code means, ties to even.
pub fn codes_of(x: f64, to: DType) -> f64 {
    match to {
        DType::I8 => x.round_ties_even().clamp(-128.0, 127.0),
        _ => Fp8::E4M3.decode(Fp8::E4M3.encode(x)).into(),
    }
}

impl QuantizeReference {
    /// What is wrong with the factors and the numbers that codes mean, in words. A factor is right within an ulp of f32. A code is the
    /// nearest one, or the other neighbour where the quotient lies within an f32 ulp of the middle.
    pub fn first_miss(&self, x: &[f64], k: usize, block: usize, to: DType, q: &[f64], scale: &[f64]) -> Option<String> {
        let per_row = k.div_ceil(block);
        for (i, (found, want)) in scale.iter().zip(&self.scale).enumerate() {
            if (found - want).abs() > want * 2f64.powi(-23) {
                return Some(format!("factor {i} is {found:e}, the reference {want:e}"));
            }
        }
        for (i, (found, want)) in q.iter().zip(&self.q).enumerate() {
            let by = scale[i / k * per_row + i % k / block];
            let exact = x[i] / by;
            let near = [1.0 - 2f64.powi(-22), 1.0 + 2f64.powi(-22)].map(|f| codes_of(exact * f, to));
            if found != want && !near.contains(found) {
                return Some(format!("code {i} means {found}, the reference {want}: {} / {by:e}", x[i]));
            }
        }
        if q.len() != self.q.len() || scale.len() != self.scale.len() {
            return Some(format!(
                "{} codes and {} factors, expected {} and {}",
                q.len(),
                scale.len(),
                self.q.len(),
                self.scale.len()
            ));
        }
        None
    }
}
