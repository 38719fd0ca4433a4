//! One query of one head: its scores, its output, its LSE, and how far off they may be.
//!
//! # The bound
//!
//! First order, in units of the softmax relative to the row's maximum m: `p_j = exp(s_j - m)`, `l = sum p_j`, `o = sum p_j
//! v_j / l`. u is f32's unit roundoff, U the dtype's, e the relative error of `2^x`.
//!
//! 1. **Scores.** `s_j` is off by `delta_j`: `mma_error(d) scale sum |q k_j|` for the product; at most 8 f32 roundings of the
//!    magnitudes that are added (scale, softcap in and out, slope times distance, two sums, the factor log2 e and its own
//!    rounding); 6 of the largest |s| for `s - m` with a maximum that is scaled and rounded apart. Softcap shrinks what
//!    came before by `1 - tanh^2` and adds what `1 - 2 / (1 + 2^y)` loses.
//! 2. **Weights.** The kernel's `p_j` are relative to a running maximum, and rescaled by a `2^x` whenever that grows. Whatever
//!    the tiles, and whether keys are visited forwards or backwards, key j is rescaled at most as often as there are steps
//!    in the chain j, the next larger score, the next larger than that, ... The same factor goes to o and to l. Parts that are
//!    merged by their LSE get one more factor, off by what the LSE is off.
//! 3. So o is off by `sum p_j w_j |v_j - o| / l` with `w_j` the sum of 1 and 2, and the LSE by `sum p_j w_j / l`. A learned
//!    sink is a key with v = 0 that the LSE does not count.
//! 4. **P in the dtype.** Each `p_j` is rounded, relative to the maximum it was computed with, so lowp's own roundings are
//!    another draw of the same lottery: o is off by at most `sum U p_j |v_j| / l`. Roundings of different numbers are
//!    independent, those of numbers in one cell of the dtype are not: with `x_g` the sum of `U p_j |v_j|` over the keys
//!    whose lowp P is the same number, o is off by at most `LIKELY sqrt(sum x_g^2) / l`. The smaller of the two holds.
//! 5. **Sums.** `mma_error(n) sum p_j |v_j| / l` for PV, `sum_error(n)` for l, an `rcp.approx` (1 ulp) and two products for the
//!    division; for the LSE a `lg2.approx` (2^-22 absolute or relative, PTX ISA 9.7.3), twice where parts are merged, and f32
//!    roundings of m and the result.
//! 6. **The output's own rounding** may fall the other way.

use super::bound::{Expected, LIKELY, Numerics, ROUND, least, mma_error, round, sum_error, unit};
use tilewright_ir::DType;

/// What is the same for all rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub scale: f64,
    pub softcap: Option<f64>,
    /// Dtype of P.
    pub dtype: DType,
    pub output: DType,
    pub numerics: Numerics,
}

/// A key that the query sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a> {
    pub k: &'a [f64],
    pub v: &'a [f64],
    /// `-slope * distance`.
    pub alibi: f64,
    pub bias: f64,
}

struct Score {
    exact: f64,
    single: f32,
    /// Error bound, absolute.
    delta: f64,
    /// Sum of the magnitudes that were added.
    size: f64,
}

impl Terms {
    fn score(&self, q: &[f64], key: &Key) -> Score {
        let (mut dot, mut dot32, mut size) = (0.0f64, 0.0f32, 0.0f64);
        for (x, y) in q.iter().zip(key.k) {
            let product = x * y;
            dot += product;
            // Products of 16-bit floats are exact in f32: only the sum rounds.
            dot32 += product as f32;
            size += product.abs();
        }
        let mut exact = self.scale * dot;
        let mut single = self.scale as f32 * dot32;
        let mut delta = mma_error(q.len()) * self.scale.abs() * size;
        size = exact.abs();
        if let Some(c) = self.softcap {
            let x = exact / c;
            let slope = 1.0 - x.tanh().powi(2);
            // 2 / (1 + 2^y) is at most 2: an ulp of rcp, a rounding of the sum below and of the difference.
            let tanh = slope * (self.numerics.exp2 / 2.0 + 3.0 * ROUND * x.abs()) + 8.0 * ROUND;
            delta = slope * delta + c * tanh;
            size *= slope;
            exact = c * x.tanh();
            single = c as f32 * (single / c as f32).tanh();
            size += exact.abs();
        }
        exact += key.alibi + key.bias;
        single = single + key.alibi as f32 + key.bias as f32;
        size += key.alibi.abs() + key.bias.abs();
        Score { exact, single, delta: delta + 8.0 * ROUND * size, size }
    }

    /// Sets `o[at_o..][..dv]` and `lse[at_lse]`, which are zeros: o is the output, where this row starts and its length. Keys come
    /// in the order of positions.
    pub fn row(&self, q: &[f64], keys: &[Key], sink: Option<f64>, o: (&mut Expected, usize, usize), lse: (&mut Expected, usize)) {
        let (o, at_o, dv) = o;
        let (lse, at_lse) = lse;
        // A bias of -inf hides a key as a mask does.
        let seen: Vec<(&Key, Score)> =
            keys.iter().map(|k| (k, self.score(q, k))).filter(|(_, s)| s.exact != f64::NEG_INFINITY).collect();
        if seen.is_empty() {
            lse.value[at_lse] = f64::NEG_INFINITY;
            lse.lowp[at_lse] = f64::NEG_INFINITY;
            return;
        }
        let max = seen.iter().fold(f64::NEG_INFINITY, |m, (_, s)| m.max(s.exact));
        let max32 = seen.iter().fold(f32::NEG_INFINITY, |m, (_, s)| m.max(s.single));
        let p: Vec<f64> = seen.iter().map(|(_, s)| (s.exact - max).exp()).collect();
        let p32: Vec<f32> = seen.iter().map(|(_, s)| (s.single - max32).exp()).collect();
        let low: Vec<f64> = p32.iter().map(|p| round(*p, self.dtype)).collect();
        let (l, l32) = (p.iter().sum::<f64>(), p32.iter().sum::<f32>());
        let (sink_p, sink_p32) = sink.map_or((0.0, 0.0), |s| ((s - max).exp(), (s as f32 - max32).exp()));
        let all = l + sink_p;

        let n = seen.len();
        let largest = seen.iter().fold(0.0f64, |m, (_, s)| m.max(s.exact.abs()).max(s.size));
        let log_error = 4.0 * ROUND * l.ln().max(1.0);
        let factor = self.numerics.exp2 + ROUND * (1.0 + 3.0 * largest);
        let rescales = rescales(&seen.iter().map(|(_, s)| s.exact).collect::<Vec<_>>());
        let w: Vec<f64> = (seen.iter().zip(&rescales))
            .map(|((_, s), n)| s.delta + 6.0 * ROUND * largest + self.numerics.exp2 + f64::from(n + 1) * factor + log_error)
            .collect();

        let lse_value = max + l.ln();
        lse.value[at_lse] = lse_value;
        lse.lowp[at_lse] = f64::from(max32 + l32.ln());
        lse.slack[at_lse] = p.iter().zip(&w).map(|(p, w)| p * w).sum::<f64>() / l
            + sum_error(n)
            + 2.0 * log_error
            + 4.0 * ROUND * (largest + lse_value.abs());

        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| low[*a].total_cmp(&low[*b]));
        let sink_w = self.numerics.exp2 + ROUND * (4.0 * sink.unwrap_or(0.0).abs() + 6.0 * largest);
        // A sink far above all keys takes everything: inf / inf would say nothing.
        let sink_share = if sink_p.is_finite() { sink_p / all } else { 1.0 };
        // Columns are innermost, so that they go through vector registers: this loop is most of a kernel's verification.
        let zeros = || vec![0.0f64; dv];
        let (mut value, mut single) = (zeros(), vec![0.0f32; dv]);
        for ((key, _), (p, low)) in seen.iter().zip(p.iter().zip(&low)) {
            for (v, (value, single)) in key.v.iter().zip(value.iter_mut().zip(&mut single)) {
                *value += p * v;
                *single += (low * v) as f32;
            }
        }
        value.iter_mut().for_each(|v| *v /= all);
        let (mut weights, mut magnitude, mut surely) = (zeros(), zeros(), zeros());
        let (mut squares, mut cell, mut cell_p) = (zeros(), zeros(), f64::NAN);
        for &j in &order {
            if low[j] != cell_p {
                for (square, cell) in squares.iter_mut().zip(&mut cell) {
                    *square += *cell * *cell;
                    *cell = 0.0;
                }
                cell_p = low[j];
            }
            let (weight, p_j, lost) = (p[j] * w[j], p[j], unit(self.dtype) * p[j] + least(self.dtype));
            for (c, v) in seen[j].0.v.iter().enumerate() {
                weights[c] += weight * (v - value[c]).abs();
                magnitude[c] += p_j * v.abs();
                surely[c] += lost * v.abs();
                cell[c] += lost * v.abs();
            }
        }
        for c in 0..dv {
            let rounding = surely[c].min(LIKELY * (squares[c] + cell[c] * cell[c]).sqrt());
            o.value[at_o + c] = value[c];
            o.lowp[at_o + c] = round(single[c] / (l32 + sink_p32), self.output);
            o.slack[at_o + c] = (weights[c] + rounding + mma_error(n) * magnitude[c]) / all
                + value[c].abs() * (sink_share * sink_w + sum_error(n) + 4.0 * ROUND + unit(self.output))
                + least(self.output);
        }
    }
}

/// How often, at most, each key's weight is rescaled: the length of the chain of ever larger scores behind it, or before it
/// for a kernel that visits keys backwards, whichever is longer.
fn rescales(s: &[f64]) -> Vec<u32> {
    let chain = |order: &mut dyn Iterator<Item = usize>| {
        let mut steps = vec![0; s.len()];
        // Keys after this one, nearest on top, each larger than all between.
        let mut larger: Vec<usize> = Vec::new();
        for j in order {
            while larger.last().is_some_and(|t| s[*t] <= s[j]) {
                larger.pop();
            }
            steps[j] = larger.len() as u32;
            larger.push(j);
        }
        steps
    };
    let forwards = chain(&mut (0..s.len()).rev());
    let backwards = chain(&mut (0..s.len()));
    forwards.into_iter().zip(backwards).map(|(a, b)| a.max(b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescales_by_hand() {
        // From 1: 3, 5. From 3 (forwards): 5; backwards: 4. From 5: none.
        assert_eq!(rescales(&[4.0, 1.0, 3.0, 5.0, 2.0]), [1, 2, 1, 0, 1]);
        assert_eq!(rescales(&[1.0, 1.0, 1.0]), [0, 0, 0]);
        assert_eq!(rescales(&[1.0, 2.0, 3.0]), [2, 1, 0]);
    }
}
