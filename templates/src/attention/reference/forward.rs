//! The forward over whole tensors.

use super::AttentionReference;
use super::bound::{Expected, Numerics};
use super::mask::{HeadKind, Masks};
use super::row::{Key, Terms};
use crate::attention::problem::AttentionProblem;
use crate::attention::span::UNLIMITED;

/// Data of a forward, row-major; what the class does not have is left empty.
#[derive(Clone, Debug, Default)]
pub struct AttentionOperands {
    /// Sequences.
    pub batch: usize,
    /// Queries and keys of each, or of the longest.
    pub sq: usize,
    /// Keys of each, or of the longest.
    pub sk: usize,
    /// Query heads.
    pub hq: usize,
    /// Key and value heads.
    pub hkv: usize,
    /// `[batch, sq, hq, d]`, or `[total_q, hq, d]`.
    pub q: Vec<f64>,
    /// `[batch, sk, hkv, d]`, or `[total_k, hkv, d]`.
    pub k: Vec<f64>,
    /// As k, with dv.
    pub v: Vec<f64>,
    /// Keys and values `[prefix, hkv, ..]` that every query sees.
    pub prefix: Option<[Vec<f64>; 2]>,
    /// Starts of sequences in q and k, and their ends: `[batch + 1]` each.
    pub cu: Option<[Vec<i32>; 2]>,
    /// Factor of the products.
    pub scale: f64,
    /// Cap of the scaled score.
    pub softcap: f64,
    /// Left and right.
    pub window: [i64; 2],
    /// Tokens of a chunk.
    pub chunk: i64,
    /// Learned logits `[hq]`.
    pub sink: Vec<f64>,
    /// Slopes `[hq]`.
    pub alibi: Vec<f64>,
    /// Added to the scores, with its extents for batch, head, query and key; 1 repeats.
    pub bias: Option<(Vec<f64>, [usize; 4])>,
    /// Blocks that are visible.
    pub mask: Option<BlockMask>,
    /// Kinds of heads `[hq]`: 0 dense, -1 streaming, t > 0 row t - 1 of the mask's heads.
    pub head_type: Option<Vec<i32>>,
    /// What a streaming head sees.
    pub streaming: Streaming,
}

/// A mask over blocks of queries and keys.
#[derive(Clone, Debug)]
pub struct BlockMask {
    /// Not 0 where visible: `extents`.
    pub bits: Vec<u8>,
    /// Batch (or 1), heads (or 1), blocks of queries, blocks of keys.
    pub extents: [usize; 4],
    /// Queries and keys of a block.
    pub block: [usize; 2],
}

/// Tokens a streaming head sees.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streaming {
    /// The first ones.
    pub sink: i64,
    /// The last ones.
    pub recent: i64,
}

impl BlockMask {
    fn sees(&self, b: usize, h: usize, i: usize, j: usize) -> bool {
        let [batches, heads, rows, cols] = self.extents;
        let b = if batches == 1 { 0 } else { b };
        let [i, j] = [i / self.block[0], j / self.block[1]];
        self.bits[((b * heads + h) * rows + i) * cols + j] != 0
    }
}

/// Every output of a forward with its bound.
///
/// # Panics
/// If the operands' sizes contradict each other.
pub fn attention_reference(p: &AttentionProblem, x: &AttentionOperands, numerics: Numerics) -> AttentionReference {
    let (d, dv, group) = (p.d as usize, p.dv as usize, x.hq / x.hkv);
    let terms = Terms { scale: x.scale, softcap: p.softcap.then_some(x.softcap), dtype: p.dtype, output: p.output, numerics };
    let masks = masks(p.causal, p.window.then_some(x.window), p.chunk.then_some(x.chunk));
    let rows = x.q.len() / d;
    let (mut o, mut lse) = (Expected::zeros(rows * dv), Expected::zeros(rows));
    let span = |side: usize, length: usize, b: usize| match &x.cu {
        Some(cu) => (cu[side][b] as usize, (cu[side][b + 1] - cu[side][b]) as usize),
        None => (b * length, length),
    };
    for b in 0..x.batch {
        let ((q0, sq), (k0, sk)) = (span(0, x.sq, b), span(1, x.sk, b));
        for (i, h) in (0..sq).flat_map(|i| (0..x.hq).map(move |h| (i, h))) {
            let pos = i as i64 + sk as i64 - sq as i64;
            let mask_heads = x.mask.as_ref().map_or(0, |m| m.extents[1]);
            let kind = HeadKind::of(x.head_type.as_ref().map(|t| t[h]), h, mask_heads);
            let visible = |j: usize| {
                let back = pos - j as i64;
                masks.sees(pos, j as i64)
                    && match kind {
                        HeadKind::Dense => true,
                        HeadKind::Streaming => (j as i64) < x.streaming.sink || back < x.streaming.recent,
                        HeadKind::Masked(row) => x.mask.as_ref().is_some_and(|m| m.sees(b, row, i, j)),
                    }
            };
            let g = h / group;
            let mut keys: Vec<Key<'_>> = Vec::new();
            if let Some([k, v]) = &x.prefix {
                for j in 0..k.len() / (x.hkv * d) {
                    let row = j * x.hkv + g;
                    keys.push(Key { k: &k[row * d..][..d], v: &v[row * dv..][..dv], alibi: 0.0, bias: 0.0 });
                }
            }
            for j in (0..sk).filter(|j| visible(*j)) {
                let row = (k0 + j) * x.hkv + g;
                let alibi = if p.alibi { -x.alibi[h] * (pos - j as i64).abs() as f64 } else { 0.0 };
                let bias = x.bias.as_ref().map_or(0.0, |(values, extents)| {
                    let index = [b, h, i, j].iter().zip(extents).fold(0, |at, (i, n)| at * n + if *n == 1 { 0 } else { *i });
                    values[index]
                });
                keys.push(Key { k: &x.k[row * d..][..d], v: &x.v[row * dv..][..dv], alibi, bias });
            }
            let row = (q0 + i) * x.hq + h;
            let at_lse = if x.cu.is_some() { h * (rows / x.hq) + q0 + i } else { (b * x.hq + h) * x.sq + i };
            let sink = p.sink.then(|| x.sink[h]);
            terms.row(&x.q[row * d..][..d], &keys, sink, (&mut o, row * dv, dv), (&mut lse, at_lse));
        }
    }
    AttentionReference { o, lse }
}

/// The masks of a class with their numbers; a side that reaches [`UNLIMITED`] has no limit.
pub(super) fn masks(causal: bool, window: Option<[i64; 2]>, chunk: Option<i64>) -> Masks {
    let window = window.map(|sides| sides.map(|n| if n >= UNLIMITED { i64::from(i32::MAX) } else { n }));
    Masks { causal, window, chunk }
}
