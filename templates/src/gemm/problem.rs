//! What a GEMM is asked to compute, apart from its sizes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use tilewright_ir::DType;

/// How `b` lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BLayout {
    /// `[n, k]`: each output column's weights are contiguous.
    Nk,
    /// `[k, n]`.
    Kn,
}

/// The activation of the epilogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// None.
    None,
    /// `max(x, 0)`.
    Relu,
    /// GELU, tanh form (Hendrycks and Gimpel, arXiv 1606.08415).
    Gelu,
    /// `x * sigmoid(x)`.
    Silu,
    /// `silu(gate) * up`; b has 2n rows, gate first.
    Swiglu,
}

/// How the numbers of `b` are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// In the dtype of a.
    Same,
    /// Codes of a few bits with scales, packed in the order of MMA fragments: `weight`.
    Packed(Packed),
}

/// A packed weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packed {
    /// Bits of a code: 4 or 8.
    pub bits: u32,
    /// Neighbours along k that share a scale in the packed form: 16, 32, 64 or 128. Larger groups repeat theirs.
    pub group: u32,
    /// Each group has a zero point; else it is half the range of the codes.
    pub zero: bool,
}

/// Which factors go with an 8-bit operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scale {
    /// None.
    None,
    /// One for the tensor: `[1]`.
    Tensor,
    /// One for each row of a, each column of d: `[m]`, `[n]`.
    Row,
    /// One for each block: `[m, ceil(k/128)]` of a, `[ceil(n/128), ceil(k/128)]` of b.
    Block,
}

/// Which rows of a meet which matrix of b.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Groups {
    /// Matrix z of a meets matrix z of b.
    Batch,
    /// Rows `offsets[e]` to `offsets[e+1]` of a `[tokens, k]` meet expert e.
    Offsets,
    /// The first `counts[e]` rows of a `[e, max_m, k]` meet expert e.
    Counts,
}

/// The class of a GEMM: what is fixed when its kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GemmProblem {
    /// Dtype of a; of b unless `b_input` or `weight` say otherwise; of bias unless it has 8 bits (then BF16).
    pub input: DType,
    /// Dtype of b where it is not a's: E4M3 beside E5M2, or the other way.
    pub b_input: Option<DType>,
    /// Dtype of d and residual: BF16, F16, F32, E4M3, or I32 for bare sums of I8.
    pub output: DType,
    /// Layout of b.
    pub b: BLayout,
    /// Activation.
    pub act: Act,
    /// Adds `bias [n]` (`[2n]` for swiglu).
    pub bias: bool,
    /// Adds `residual [m, n]` after the activation.
    pub residual: bool,
    /// How b is stored.
    pub weight: Weight,
    /// Factors of a.
    pub a_scale: Scale,
    /// Factors of b.
    pub b_scale: Scale,
    /// Which rows meet which matrix.
    pub groups: Groups,
    /// d is quantised: each row has a factor `d_scale [m, ceil(n/128)]` for each 128 columns.
    pub quant: bool,
}

/// A class that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemError {
    /// Inputs of another dtype.
    #[error("gemm inputs are bf16, f16, e4m3, e5m2 or i8, not {0}")]
    Input(DType),
    /// An output of another dtype.
    #[error("gemm outputs are bf16, f16, f32 or e4m3, not {0}")]
    Output(DType),
    /// I32 out of something else than bare sums of bytes.
    #[error("i32 is the output of i8 x i8 alone: no scales, bias, activation or residual")]
    Sums,
    /// Factors of an operand that is no byte, or packed weights times bytes.
    #[error("scales belong to e4m3, e5m2 and i8 operands with weights of their dtype, not to {0} with weight={1}")]
    Scales(DType, Weight),
    /// Operands of two dtypes that are no 8-bit floats.
    #[error("a of {0} and b of {1}: only e4m3 and e5m2 meet each other")]
    Mixed(DType, DType),
    /// A quantised output of another dtype.
    #[error("a quantised output is e4m3, not {0}")]
    Quant(DType),
    /// A name nobody knows.
    #[error("{key} = `{value}`: expected one of {expected}")]
    Name {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What there is.
        expected: String,
    },
    /// A class text that is not one.
    #[error(
        "`{0}` is no gemm class: expected a=..,b=..,out=..,act=..,bias=..,residual=.. and, where not the default, b_dtype=..,weight=..,a_scale=..,b_scale=..,groups=..,quant=128"
    )]
    Class(String),
}

impl GemmProblem {
    /// `a * b^T` with inputs and output of one dtype and nothing else.
    pub fn plain(dtype: DType) -> Self {
        GemmProblem {
            input: dtype,
            b_input: None,
            output: dtype,
            b: BLayout::Nk,
            act: Act::None,
            bias: false,
            residual: false,
            weight: Weight::Same,
            a_scale: Scale::None,
            b_scale: Scale::None,
            groups: Groups::Batch,
            quant: false,
        }
    }

    /// Checks the dtypes.
    pub fn check(&self) -> Result<(), ProblemError> {
        if !matches!(self.input, DType::BF16 | DType::F16) && !self.bytes() {
            return Err(ProblemError::Input(self.input));
        }
        let scaled = [self.a_scale, self.b_scale].iter().any(|s| *s != Scale::None);
        if scaled && !self.bytes() || self.bytes() && self.weight != Weight::Same {
            return Err(ProblemError::Scales(self.input, self.weight));
        }
        let b = self.b_dtype();
        if b != self.input && !(b.is_fp8() && self.input.is_fp8()) {
            return Err(ProblemError::Mixed(self.input, b));
        }
        if self.quant && self.output != DType::E4M3 {
            return Err(ProblemError::Quant(self.output));
        }
        match self.output {
            DType::BF16 | DType::F16 | DType::F32 | DType::E4M3 => Ok(()),
            DType::I32 => {
                let bare = self.act == Act::None && !self.bias && !self.residual && !scaled;
                if self.input == DType::I8 && bare { Ok(()) } else { Err(ProblemError::Sums) }
            }
            other => Err(ProblemError::Output(other)),
        }
    }

    /// Dtype of b where its weights are not packed.
    pub fn b_dtype(&self) -> DType {
        self.b_input.unwrap_or(self.input)
    }

    /// a has 8-bit elements.
    pub fn bytes(&self) -> bool {
        self.input == DType::I8 || self.input.is_fp8()
    }

    /// Some factors belong to blocks of 128 along k: sums of 128 are scaled before they are added up.
    pub fn block_scaled(&self) -> bool {
        self.a_scale == Scale::Block || self.b_scale == Scale::Block
    }

    /// Dtype of the sums that reach the epilogue, or the reduction of a split k.
    pub fn sums(&self) -> DType {
        if self.input == DType::I8 && !self.block_scaled() { DType::I32 } else { DType::F32 }
    }

    /// Dtype of bias: a's, BF16 beside bytes.
    pub fn bias_dtype(&self) -> DType {
        if self.bytes() { DType::BF16 } else { self.input }
    }

    /// Columns of b for one output column: 2 for swiglu.
    pub fn gates(&self) -> u32 {
        if self.act == Act::Swiglu { 2 } else { 1 }
    }

    /// The class key of manifests and tuning records. What is as in a dense 16-bit GEMM is not named.
    pub fn class(&self) -> String {
        let GemmProblem { input, output, b, act, bias, residual, .. } = self;
        let mut text =
            format!("a={input},b={b},out={output},act={act},bias={},residual={}", u8::from(*bias), u8::from(*residual));
        for (key, value) in self.unusual() {
            text += &format!(",{key}={value}");
        }
        text
    }

    /// Fields that differ from a dense 16-bit GEMM, as text.
    fn unusual(&self) -> Vec<(&'static str, String)> {
        let plain = GemmProblem::plain(self.input);
        let all = [
            ("b_dtype", self.b_dtype() != self.input, self.b_dtype().to_string()),
            ("weight", self.weight != plain.weight, self.weight.to_string()),
            ("a_scale", self.a_scale != plain.a_scale, self.a_scale.to_string()),
            ("b_scale", self.b_scale != plain.b_scale, self.b_scale.to_string()),
            ("groups", self.groups != plain.groups, self.groups.to_string()),
            ("quant", self.quant, "128".to_string()),
        ];
        all.into_iter().filter(|(_, differs, _)| *differs).map(|(key, _, value)| (key, value)).collect()
    }

    /// The class behind a key.
    pub fn from_class(text: &str) -> Result<Self, ProblemError> {
        let bad = || ProblemError::Class(text.to_string());
        let mut fields = BTreeMap::new();
        for field in text.split(',') {
            let (key, value) = field.split_once('=').ok_or_else(bad)?;
            if fields.insert(key, value).is_some() {
                return Err(bad());
            }
        }
        let mut take = |key: &str| fields.remove(key);
        let flag = |v: &str| match v {
            "1" => Ok(true),
            "0" => Ok(false),
            _ => Err(bad()),
        };
        let mut need = |key: &str| take(key).ok_or_else(bad);
        let input = need("a")?.parse().map_err(|_| bad())?;
        let mut problem = GemmProblem {
            input,
            b: need("b")?.parse()?,
            output: need("out")?.parse().map_err(|_| bad())?,
            act: need("act")?.parse()?,
            bias: flag(need("bias")?)?,
            residual: flag(need("residual")?)?,
            ..GemmProblem::plain(input)
        };
        for (key, value) in fields {
            match key {
                "b_dtype" => problem.b_input = Some(value.parse().map_err(|_| bad())?).filter(|d| *d != input),
                "weight" => problem.weight = value.parse()?,
                "a_scale" => problem.a_scale = value.parse()?,
                "b_scale" => problem.b_scale = value.parse()?,
                "groups" => problem.groups = value.parse()?,
                "quant" if value == "128" => problem.quant = true,
                _ => return Err(bad()),
            }
        }
        problem.check()?;
        Ok(problem)
    }

    /// A short name for entries and files: `bf16_bf16_nk_silu_bias`.
    pub fn slug(&self) -> String {
        let mut s = format!("{}_{}_{}", self.input, self.output, self.b);
        if self.act != Act::None {
            s += &format!("_{}", self.act);
        }
        for (on, name) in [(self.bias, "_bias"), (self.residual, "_res")] {
            if on {
                s += name;
            }
        }
        for (key, value) in self.unusual() {
            match key {
                "a_scale" | "b_scale" => s += &format!("_{}{value}", &key[..1]),
                "quant" => s += "_quant",
                _ => s += &format!("_{value}"),
            }
        }
        s
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weight::Same => f.write_str("same"),
            Weight::Packed(p) => write!(f, "int{}g{}{}", p.bits, p.group, if p.zero { "z" } else { "" }),
        }
    }
}

impl FromStr for Weight {
    type Err = ProblemError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let all = [4, 8].into_iter().flat_map(|bits| {
            [16, 32, 64, 128]
                .into_iter()
                .flat_map(move |group| [false, true].map(|zero| Weight::Packed(Packed { bits, group, zero })))
        });
        std::iter::once(Weight::Same).chain(all).find(|w| w.to_string() == s).ok_or_else(|| ProblemError::Name {
            key: "weight",
            value: s.to_string(),
            expected: "same, int{4,8}g{16,32,64,128}, and the same with z for zero points".to_string(),
        })
    }
}

/// Names of the variants of an enum, for printing and parsing.
macro_rules! names {
    ($ty:ident, $key:literal, $($variant:ident $name:literal),*) => {
        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($ty::$variant => $name),* })
            }
        }

        impl FromStr for $ty {
            type Err = ProblemError;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                match s {
                    $($name => Ok($ty::$variant),)*
                    _ => Err(ProblemError::Name { key: $key, value: s.to_string(), expected: [$($name),*].join(", ") }),
                }
            }
        }
    };
}

names!(BLayout, "b", Nk "nk", Kn "kn");
names!(Scale, "scale", None "none", Tensor "tensor", Row "row", Block "block");
names!(Groups, "groups", Batch "batch", Offsets "offsets", Counts "counts");
names!(Act, "act", None "none", Relu "relu", Gelu "gelu", Silu "silu", Swiglu "swiglu");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_reads_back() {
        for act in [Act::None, Act::Relu, Act::Gelu, Act::Silu, Act::Swiglu] {
            let p = GemmProblem { act, bias: true, b: BLayout::Kn, output: DType::F32, ..GemmProblem::plain(DType::F16) };
            assert_eq!(GemmProblem::from_class(&p.class()), Ok(p));
            let weight = Weight::Packed(Packed { bits: 4, group: 32, zero: true });
            let p = GemmProblem { weight, groups: Groups::Counts, ..p };
            assert!(p.class().ends_with(",weight=int4g32z,groups=counts"), "{}", p.class());
            assert_eq!(GemmProblem::from_class(&p.class()), Ok(p));
        }
        let p =
            GemmProblem { a_scale: Scale::Row, b_scale: Scale::Block, output: DType::E4M3, ..GemmProblem::plain(DType::E5M2) };
        assert!(p.class().ends_with(",a_scale=row,b_scale=block"), "{}", p.class());
        assert_eq!(GemmProblem::from_class(&p.class()), Ok(p));
        let p = GemmProblem { b_input: Some(DType::E4M3), ..p };
        assert!(p.class().contains(",b_dtype=e4m3,"), "{}", p.class());
        assert_eq!(GemmProblem::from_class(&p.class()), Ok(p));
        let mixed = GemmProblem { b_input: Some(DType::I8), ..p };
        assert_eq!(mixed.check(), Err(ProblemError::Mixed(DType::E5M2, DType::I8)));
        let p = GemmProblem { quant: true, ..p };
        assert_eq!(GemmProblem::from_class(&p.class()), Ok(p));
        let sums = GemmProblem { output: DType::I32, ..GemmProblem::plain(DType::I8) };
        assert_eq!(sums.check(), Ok(()));
        assert_eq!(GemmProblem { bias: true, ..sums }.check(), Err(ProblemError::Sums));
        assert_eq!(GemmProblem { a_scale: Scale::Row, ..sums }.check(), Err(ProblemError::Sums));
        let scaled = GemmProblem { a_scale: Scale::Row, ..GemmProblem::plain(DType::BF16) };
        assert!(scaled.check().unwrap_err().to_string().contains("scales belong to"));
        assert!(GemmProblem::from_class("a=bf16,b=nk").is_err());
        assert!(GemmProblem::from_class("a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0,color=red").is_err());
        assert!(GemmProblem::from_class("a=f32,b=nk,out=f32,act=none,bias=0,residual=0").is_err());
    }
}
