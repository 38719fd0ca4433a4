//! Partial results joined by their LSE.

use super::AttentionReference;
use super::bound::{Expected, Numerics, ROUND, least, round, sum_error, unit};
use crate::attention::merge::MergeProblem;

/// Data of a merge, row-major.
#[derive(Clone, Debug, Default)]
pub struct MergeOperands {
    /// Parts, sequences, queries, heads, elements of a head.
    pub shape: [usize; 5],
    /// `[parts, batch, sq, hq, dv]`.
    pub o: Vec<f64>,
    /// `[parts, batch, hq, sq]`, or `[parts, batch, sq, hq]` for a class that says so.
    pub lse: Vec<f64>,
    /// Learned logits `[hq]`.
    pub sink: Vec<f64>,
}

/// `o = sum w_s o_s / (sum w_s + exp(sink))` with `w_s = exp(lse_s)`, `lse = ln sum w_s`; a part without keys (-inf) weighs
/// nothing, and where no part has any o = 0 and lse = -inf.
///
/// The bound: each weight is off by the exponential's error and by roundings of its exponent, `3 u (|lse_s| + |max|)`; a
/// relative error of weight s moves o by its share of `|o_s - o|`. Sums, the reciprocal and two products follow.
pub fn merge_reference(p: &MergeProblem, x: &MergeOperands, numerics: Numerics) -> AttentionReference {
    let [parts, batch, sq, hq, dv] = x.shape;
    let rows = batch * sq * hq;
    let (mut o, mut lse) = (Expected::zeros(rows * dv), Expected::zeros(rows));
    for (b, i, h) in (0..batch).flat_map(|b| (0..sq).flat_map(move |i| (0..hq).map(move |h| (b, i, h)))) {
        let (row, by_head) = ((b * sq + i) * hq + h, (b * hq + h) * sq + i);
        let from = if p.token_major { row } else { by_head };
        let logs: Vec<f64> = (0..parts).map(|s| x.lse[s * rows + from]).collect();
        let max = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if max == f64::NEG_INFINITY {
            (lse.value[by_head], lse.lowp[by_head]) = (max, max);
            continue;
        }
        let w: Vec<f64> = logs.iter().map(|l| (l - max).exp()).collect();
        let w32: Vec<f32> = logs.iter().map(|l| (*l as f32 - max as f32).exp()).collect();
        let (sum, sum32) = (w.iter().sum::<f64>(), w32.iter().sum::<f32>());
        let (sink, sink32) = if p.sink { ((x.sink[h] - max).exp(), (x.sink[h] as f32 - max as f32).exp()) } else { (0.0, 0.0) };
        let exponent = |l: f64| numerics.exp2 + 3.0 * ROUND * (if l.is_finite() { l.abs() } else { 0.0 } + max.abs() + 1.0);
        let errors: Vec<f64> = logs.iter().map(|l| exponent(*l)).collect();
        let log_error = 4.0 * ROUND * sum.ln().max(1.0);
        lse.value[by_head] = max + sum.ln();
        lse.lowp[by_head] = f64::from(max as f32 + sum32.ln());
        lse.slack[by_head] = w.iter().zip(&errors).map(|(w, e)| w * e).sum::<f64>() / sum
            + sum_error(parts)
            + log_error
            + 4.0 * ROUND * (max.abs() + lse.value[by_head].abs());
        let all = sum + sink;
        let sink_share = if sink.is_finite() { sink / all } else { 1.0 };
        let sink_error = if p.sink { sink_share * exponent(x.sink[h]) } else { 0.0 };
        for c in 0..dv {
            let at = row * dv + c;
            let part = |s: usize| x.o[(s * rows + row) * dv + c];
            // A part that weighs nothing counts for nothing, whatever it holds.
            let used = || (0..parts).filter(|s| logs[*s] != f64::NEG_INFINITY);
            let value = used().map(|s| w[s] * part(s)).sum::<f64>() / all;
            let single = used().map(|s| w32[s] * part(s) as f32).sum::<f32>() / (sum32 + sink32);
            let moved: f64 = used().map(|s| w[s] * errors[s] * (part(s) - value).abs()).sum();
            let magnitude: f64 = used().map(|s| w[s] * part(s).abs()).sum();
            o.value[at] = value;
            o.lowp[at] = round(single, p.output);
            o.slack[at] = (moved + 2.0 * sum_error(parts) * magnitude) / all
                + value.abs() * (sink_error + sum_error(parts) + 4.0 * ROUND + unit(p.output))
                + least(p.output);
        }
    }
    AttentionReference { o, lse }
}
