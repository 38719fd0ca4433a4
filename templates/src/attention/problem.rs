//! What an attention is asked to compute, apart from its sizes.

use super::class::{Fields, choice, flag};
use tilewright_ir::DType;

/// The class of an attention forward: what is fixed when its kernel is compiled.
///
/// `o = softmax(score(scale * q k^T)) v` for each of `hq` query heads; query head h reads key and value head
/// `h / (hq / hkv)`. Query i stands at position `p = i + sk - sq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttentionProblem {
    /// Dtype of q, k and v: BF16 or F16.
    pub dtype: DType,
    /// Dtype of o: `dtype`, or F32 where o is a partial result that `attention_merge` reads.
    pub output: DType,
    /// Elements of a head of q and k: 64, 96, 128, 192 or 256.
    pub d: u32,
    /// Elements of a head of v and o: d, or 128 where d is 192.
    pub dv: u32,
    /// Key j is visible iff `j <= p`.
    pub causal: bool,
    /// Key j is visible iff `p - window_left <= j <= p + window_right`.
    pub window: bool,
    /// Key j is visible iff `floor(p / chunk) = floor(j / chunk)`.
    pub chunk: bool,
    /// The scaled score s becomes `softcap * tanh(s / softcap)`, before anything below.
    pub softcap: bool,
    /// Adds `-alibi[h] * |p - j|`.
    pub alibi: bool,
    /// Adds `exp(sink[h])` to the denominator; the LSE does not count it.
    pub sink: bool,
    /// Adds `bias`, broadcastable to `[batch, hq, sq, sk]`, of `dtype` or F32.
    pub bias: Option<DType>,
    /// Sequences of different lengths, one after another: `cu_q` and `cu_k` say where each starts.
    pub varlen: bool,
    /// Blocks of keys that whole blocks of queries do not see.
    pub sparse: Option<Sparse>,
}

/// Where the blocks of a block-sparse attention come from; at least one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sparse {
    /// `block_mask` U8 `[batch or 1, hq or 1, ceil(sq / block_m), ceil(sk / block_n)]` is given.
    pub mask: bool,
    /// `head_type` I32 `[hq]` is given: 0 dense, -1 streaming, t > 0 row t - 1 of `block_mask`'s heads.
    pub heads: bool,
}

/// A class that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemError {
    /// q, k, v of another dtype.
    #[error("attention inputs are bf16 or f16, not {0}")]
    Input(DType),
    /// o of another dtype.
    #[error("o is {input}, the dtype of q, or f32 as a partial result, not {output}")]
    Output {
        /// Dtype of q, k, v.
        input: DType,
        /// Dtype asked for.
        output: DType,
    },
    /// A head dim no kernel has.
    #[error("d = {0}: head dims are {dims}; pad q and k with zeros and keep the scale", dims = list(&HEAD_DIMS))]
    HeadDim(u32),
    /// A value head dim that does not go with d.
    #[error("dv = {dv} with d = {d}: dv is d, or 128 where d is 192")]
    ValueDim {
        /// Elements of a head of q and k.
        d: u32,
        /// Elements of a head of v.
        dv: u32,
    },
    /// A bias of another dtype.
    #[error("bias is {input}, the dtype of q, or f32, not {bias}")]
    Bias {
        /// Dtype of q, k, v.
        input: DType,
        /// Dtype asked for.
        bias: DType,
    },
    /// A sink in a partial result.
    #[error("a partial (f32) o cannot hold a sink: each part would count it; give it to the merge")]
    PartialSink,
    /// Block-sparse by nothing.
    #[error("block-sparse attention needs block_mask, head_type or both")]
    SparseByNothing,
    /// A class text that is not one.
    #[error("`{0}` is no attention class: expected {1}")]
    Class(String, &'static str),
}

/// Head dims of q and k.
pub const HEAD_DIMS: [u32; 5] = [64, 96, 128, 192, 256];

const FORM: &str = "dtype=..,out=..,d=..,dv=..,causal=..,window=..,chunk=..,softcap=..,alibi=..,sink=..,bias=none|..,varlen=..,\
                    sparse=none|mask|heads|mask+heads";

/// The names of [`Sparse`] in class keys.
const SPARSE: &[(&str, Option<Sparse>)] = &[
    ("none", None),
    ("mask", Some(Sparse { mask: true, heads: false })),
    ("heads", Some(Sparse { mask: false, heads: true })),
    ("mask+heads", Some(Sparse { mask: true, heads: true })),
];

impl AttentionProblem {
    /// Full attention with d = dv, o of q's dtype, and nothing else.
    pub fn plain(dtype: DType, d: u32) -> Self {
        AttentionProblem {
            dtype,
            output: dtype,
            d,
            dv: d,
            causal: false,
            window: false,
            chunk: false,
            softcap: false,
            alibi: false,
            sink: false,
            bias: None,
            varlen: false,
            sparse: None,
        }
    }

    /// Checks dtypes, head dims and what excludes what.
    pub fn check(&self) -> Result<(), ProblemError> {
        check_heads(self.dtype, self.output, self.d, self.dv)?;
        if let Some(bias) = self.bias
            && bias != self.dtype
            && bias != DType::F32
        {
            return Err(ProblemError::Bias { input: self.dtype, bias });
        }
        if self.sink && self.partial() {
            return Err(ProblemError::PartialSink);
        }
        if self.sparse == Some(Sparse { mask: false, heads: false }) {
            return Err(ProblemError::SparseByNothing);
        }
        Ok(())
    }

    /// True where o is a partial result: f32, one for each part of the keys.
    pub fn partial(&self) -> bool {
        self.output == DType::F32
    }

    /// The class key of manifests and tuning records.
    pub fn class(&self) -> String {
        let AttentionProblem { dtype, output, d, dv, causal, window, chunk, softcap, alibi, sink, bias, varlen, sparse } = self;
        let [causal, window, chunk, softcap, alibi, sink, varlen] =
            [causal, window, chunk, softcap, alibi, sink, varlen].map(|b| u8::from(*b));
        let bias = bias.map_or("none", DType::name);
        let sparse = sparse_name(*sparse);
        format!(
            "dtype={dtype},out={output},d={d},dv={dv},causal={causal},window={window},chunk={chunk},softcap={softcap},\
             alibi={alibi},sink={sink},bias={bias},varlen={varlen},sparse={sparse}"
        )
    }

    /// The class behind a key.
    pub fn from_class(text: &str) -> Result<Self, ProblemError> {
        let bad = || ProblemError::Class(text.to_string(), FORM);
        let read = || {
            let mut f = Fields::new(text);
            let problem = AttentionProblem {
                dtype: f.take("dtype")?.parse().ok()?,
                output: f.take("out")?.parse().ok()?,
                d: f.take("d")?.parse().ok()?,
                dv: f.take("dv")?.parse().ok()?,
                causal: flag(f.take("causal")?)?,
                window: flag(f.take("window")?)?,
                chunk: flag(f.take("chunk")?)?,
                softcap: flag(f.take("softcap")?)?,
                alibi: flag(f.take("alibi")?)?,
                sink: flag(f.take("sink")?)?,
                bias: match f.take("bias")? {
                    "none" => None,
                    name => Some(name.parse().ok()?),
                },
                varlen: flag(f.take("varlen")?)?,
                sparse: choice(f.take("sparse")?, SPARSE)?,
            };
            f.end().then_some(problem)
        };
        let problem = read().ok_or_else(bad)?;
        problem.check()?;
        Ok(problem)
    }

    /// A short name for entries and files: `bf16_d128_causal`; `_dv128` where dv is not d, `_part` for partial results.
    pub fn slug(&self) -> String {
        let mut s = format!("{}_d{}", self.dtype, self.d);
        if self.dv != self.d {
            s += &format!("_dv{}", self.dv);
        }
        for (on, name) in [
            (self.causal, "_causal"),
            (self.window, "_window"),
            (self.chunk, "_chunk"),
            (self.softcap, "_softcap"),
            (self.alibi, "_alibi"),
            (self.sink, "_sink"),
        ] {
            if on {
                s += name;
            }
        }
        if let Some(bias) = self.bias {
            s += &format!("_bias{bias}");
        }
        for (on, name) in [
            (self.varlen, "_varlen"),
            (self.sparse.is_some_and(|x| x.mask), "_mask"),
            (self.sparse.is_some_and(|x| x.heads), "_heads"),
            (self.partial(), "_part"),
        ] {
            if on {
                s += name;
            }
        }
        s
    }
}

/// Dtypes and head dims, for the forward and for decode.
pub(super) fn check_heads(dtype: DType, output: DType, d: u32, dv: u32) -> Result<(), ProblemError> {
    if !matches!(dtype, DType::BF16 | DType::F16) {
        return Err(ProblemError::Input(dtype));
    }
    if output != dtype && output != DType::F32 {
        return Err(ProblemError::Output { input: dtype, output });
    }
    if !HEAD_DIMS.contains(&d) {
        return Err(ProblemError::HeadDim(d));
    }
    if dv != d && (d, dv) != (192, 128) {
        return Err(ProblemError::ValueDim { d, dv });
    }
    Ok(())
}

fn sparse_name(s: Option<Sparse>) -> &'static str {
    // `check` refuses the one value without a row; its name reads back as an error.
    SPARSE.iter().find(|r| r.1 == s).map_or("nothing", |r| r.0)
}

fn list(dims: &[u32]) -> String {
    dims.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One class for every set of the yes-or-no features.
    fn all_features() -> impl Iterator<Item = AttentionProblem> {
        (0..1u32 << 7).map(|bits| {
            let on = |i: u32| bits >> i & 1 == 1;
            AttentionProblem {
                causal: on(0),
                window: on(1),
                chunk: on(2),
                softcap: on(3),
                alibi: on(4),
                sink: on(5),
                varlen: on(6),
                ..AttentionProblem::plain(DType::F16, 96)
            }
        })
    }

    #[test]
    fn a_class_reads_back_and_slugs_differ() {
        let mut slugs = std::collections::BTreeSet::new();
        let mut n = 0;
        for p in all_features() {
            for bias in [None, Some(DType::F16), Some(DType::F32)] {
                for (_, sparse) in SPARSE {
                    let p = AttentionProblem { bias, sparse: *sparse, ..p };
                    assert_eq!(AttentionProblem::from_class(&p.class()), Ok(p));
                    assert!(slugs.insert(p.slug()), "two classes are called {}", p.slug());
                    n += 1;
                }
            }
        }
        assert_eq!(n, 128 * 12);
        let p = AttentionProblem { d: 192, dv: 128, output: DType::F32, ..AttentionProblem::plain(DType::BF16, 192) };
        assert_eq!(AttentionProblem::from_class(&p.class()), Ok(p));
        assert_eq!(p.slug(), "bf16_d192_dv128_part");
    }

    #[test]
    fn a_class_text_is_read_whole() {
        let good = AttentionProblem::plain(DType::BF16, 64).class();
        for bad in [
            "",
            "dtype=bf16",
            &good[1..],
            &format!("{good},x=1"),
            &good.replace("causal=0", "causal=2"),
            &good.replace("sparse=none", "sparse=nothing"),
            &good.replace("causal", "casual"),
        ] {
            assert_eq!(AttentionProblem::from_class(bad), Err(ProblemError::Class(bad.to_string(), FORM)));
        }
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        let p = AttentionProblem::plain(DType::BF16, 128);
        let cases = [
            (AttentionProblem { dtype: DType::F32, output: DType::F32, ..p }, "bf16 or f16, not f32"),
            (AttentionProblem { output: DType::F16, ..p }, "o is bf16"),
            (AttentionProblem { d: 80, dv: 80, ..p }, "d = 80"),
            (AttentionProblem { dv: 64, ..p }, "dv = 64 with d = 128"),
            (AttentionProblem { d: 192, dv: 96, ..p }, "dv = 96 with d = 192"),
            (AttentionProblem { bias: Some(DType::F16), ..p }, "bias is bf16"),
            (AttentionProblem { sink: true, output: DType::F32, ..p }, "sink"),
            (AttentionProblem { sparse: Some(Sparse { mask: false, heads: false }), ..p }, "block_mask, head_type"),
        ];
        for (p, words) in cases {
            let error = p.check().expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
        for d in HEAD_DIMS {
            AttentionProblem::plain(DType::F16, d).check().unwrap();
        }
        AttentionProblem { dv: 128, ..AttentionProblem::plain(DType::F16, 192) }.check().unwrap();
    }
}
