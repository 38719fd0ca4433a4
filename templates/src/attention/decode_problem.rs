//! What an attention over a paged cache is asked to compute, apart from its sizes.

use super::class::{Fields, choice, flag};
use super::problem::{ProblemError, check_heads};
use tilewright_ir::DType;

/// The class of a paged decode: what is fixed when its kernel is compiled.
///
/// 1 to 8 new tokens a sequence attend to the `kv_len` tokens that its row of `page_table` names; `kv_len` includes them.
/// Query i of sq stands at position `p = kv_len - sq + i`. The masks and scores are those of [`AttentionProblem`].
///
/// [`AttentionProblem`]: super::AttentionProblem
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecodeProblem {
    /// Dtype of q and of the cache: BF16 or F16.
    pub dtype: DType,
    /// Dtype of o: `dtype`, or F32 where o is a partial result, one for each split of the tokens.
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
    /// The scaled score s becomes `softcap * tanh(s / softcap)`.
    pub softcap: bool,
    /// Adds `-alibi[h] * |p - j|`.
    pub alibi: bool,
    /// Adds `exp(sink[h])` to the denominator; the LSE does not count it.
    pub sink: bool,
    /// Which pages are read.
    pub select: Select,
}

/// Which pages of a sequence a head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Select {
    /// All of them.
    None,
    /// Those of `select [batch, hkv, n_select]`: query heads that share a key head share the pages.
    KvHeads,
    /// Those of `select [batch, hq, n_select]`.
    Heads,
}

const FORM: &str =
    "dtype=..,out=..,d=..,dv=..,causal=..,window=..,chunk=..,softcap=..,alibi=..,sink=..,select=none|kv_heads|heads";

const SELECT: &[(&str, Select)] = &[("none", Select::None), ("kv_heads", Select::KvHeads), ("heads", Select::Heads)];

impl Select {
    /// The name in class keys.
    pub fn name(self) -> &'static str {
        SELECT.iter().find(|r| r.1 == self).expect("every Select has a row").0
    }
}

impl DecodeProblem {
    /// Decode with d = dv, o of q's dtype, all pages, and nothing else.
    pub fn plain(dtype: DType, d: u32) -> Self {
        DecodeProblem {
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
            select: Select::None,
        }
    }

    /// Checks dtypes, head dims and what excludes what.
    pub fn check(&self) -> Result<(), ProblemError> {
        check_heads(self.dtype, self.output, self.d, self.dv)?;
        if self.sink && self.partial() {
            return Err(ProblemError::PartialSink);
        }
        Ok(())
    }

    /// True where o is a partial result: f32, one for each split of the tokens.
    pub fn partial(&self) -> bool {
        self.output == DType::F32
    }

    /// The class key of manifests and tuning records.
    pub fn class(&self) -> String {
        let DecodeProblem { dtype, output, d, dv, causal, window, chunk, softcap, alibi, sink, select } = self;
        let [causal, window, chunk, softcap, alibi, sink] = [causal, window, chunk, softcap, alibi, sink].map(|b| u8::from(*b));
        format!(
            "dtype={dtype},out={output},d={d},dv={dv},causal={causal},window={window},chunk={chunk},softcap={softcap},\
             alibi={alibi},sink={sink},select={}",
            select.name()
        )
    }

    /// The class behind a key.
    pub fn from_class(text: &str) -> Result<Self, ProblemError> {
        let bad = || ProblemError::Class(text.to_string(), FORM);
        let read = || {
            let mut f = Fields::new(text);
            let problem = DecodeProblem {
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
                select: choice(f.take("select")?, SELECT)?,
            };
            f.end().then_some(problem)
        };
        let problem = read().ok_or_else(bad)?;
        problem.check()?;
        Ok(problem)
    }

    /// A short name for entries and files: `bf16_d128_causal_kv_heads`.
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
            (self.select == Select::KvHeads, "_kv_heads"),
            (self.select == Select::Heads, "_heads"),
            (self.partial(), "_part"),
        ] {
            if on {
                s += name;
            }
        }
        s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_reads_back_and_slugs_differ() {
        let mut slugs = std::collections::BTreeSet::new();
        for bits in 0..1u32 << 6 {
            let on = |i: u32| bits >> i & 1 == 1;
            for (_, select) in SELECT {
                let p = DecodeProblem {
                    causal: on(0),
                    window: on(1),
                    chunk: on(2),
                    softcap: on(3),
                    alibi: on(4),
                    sink: on(5),
                    select: *select,
                    ..DecodeProblem::plain(DType::BF16, 256)
                };
                assert_eq!(DecodeProblem::from_class(&p.class()), Ok(p));
                assert!(slugs.insert(p.slug()), "two classes are called {}", p.slug());
            }
        }
        assert_eq!(slugs.len(), 64 * 3);
        let p = DecodeProblem { dv: 128, output: DType::F32, ..DecodeProblem::plain(DType::F16, 192) };
        assert_eq!(DecodeProblem::from_class(&p.class()), Ok(p));
        assert_eq!(p.slug(), "f16_d192_dv128_part");
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        let p = DecodeProblem::plain(DType::F16, 64);
        let cases = [
            (DecodeProblem { dtype: DType::F32, output: DType::F32, ..p }, "bf16 or f16, not f32"),
            (DecodeProblem { output: DType::BF16, ..p }, "o is f16"),
            (DecodeProblem { d: 32, dv: 32, ..p }, "d = 32"),
            (DecodeProblem { dv: 128, ..p }, "dv = 128 with d = 64"),
            (DecodeProblem { sink: true, output: DType::F32, ..p }, "sink"),
        ];
        for (p, words) in cases {
            let error = p.check().expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
            assert!(DecodeProblem::from_class(&p.class()).is_err());
        }
        let text = p.class().replace("select=none", "select=pages");
        assert_eq!(DecodeProblem::from_class(&text), Err(ProblemError::Class(text, FORM)));
    }
}
