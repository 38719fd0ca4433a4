//! What a GEMM is asked to compute, apart from its sizes.

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

/// The class of a GEMM: what is fixed when its kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GemmProblem {
    /// Dtype of a, b and bias: BF16 or F16.
    pub input: DType,
    /// Dtype of d and residual: BF16, F16 or F32.
    pub output: DType,
    /// Layout of b.
    pub b: BLayout,
    /// Activation.
    pub act: Act,
    /// Adds `bias [n]` (`[2n]` for swiglu).
    pub bias: bool,
    /// Adds `residual [m, n]` after the activation.
    pub residual: bool,
}

/// A class that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemError {
    /// Inputs of another dtype.
    #[error("gemm inputs are bf16 or f16, not {0}")]
    Input(DType),
    /// An output of another dtype.
    #[error("gemm outputs are bf16, f16 or f32, not {0}")]
    Output(DType),
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
    #[error("`{0}` is no gemm class: expected a=..,b=..,out=..,act=..,bias=..,residual=..")]
    Class(String),
}

impl GemmProblem {
    /// `a * b^T` with inputs and output of one dtype and nothing else.
    pub fn plain(dtype: DType) -> Self {
        GemmProblem { input: dtype, output: dtype, b: BLayout::Nk, act: Act::None, bias: false, residual: false }
    }

    /// Checks the dtypes.
    pub fn check(&self) -> Result<(), ProblemError> {
        if !matches!(self.input, DType::BF16 | DType::F16) {
            return Err(ProblemError::Input(self.input));
        }
        if !matches!(self.output, DType::BF16 | DType::F16 | DType::F32) {
            return Err(ProblemError::Output(self.output));
        }
        Ok(())
    }

    /// Columns of b for one output column: 2 for swiglu.
    pub fn gates(&self) -> u32 {
        if self.act == Act::Swiglu { 2 } else { 1 }
    }

    /// The class key of manifests and tuning records.
    pub fn class(&self) -> String {
        let GemmProblem { input, output, b, act, bias, residual } = self;
        format!("a={input},b={b},out={output},act={act},bias={},residual={}", u8::from(*bias), u8::from(*residual))
    }

    /// The class behind a key.
    pub fn from_class(text: &str) -> Result<Self, ProblemError> {
        let bad = || ProblemError::Class(text.to_string());
        let mut fields = text.split(',').map(|f| f.split_once('=').ok_or_else(bad));
        let mut take = |key: &str| match fields.next() {
            Some(Ok((k, v))) if k == key => Ok(v),
            _ => Err(bad()),
        };
        let flag = |v: &str| {
            if v == "1" {
                Ok(true)
            } else if v == "0" {
                Ok(false)
            } else {
                Err(bad())
            }
        };
        let problem = GemmProblem {
            input: take("a")?.parse().map_err(|_| bad())?,
            b: take("b")?.parse()?,
            output: take("out")?.parse().map_err(|_| bad())?,
            act: take("act")?.parse()?,
            bias: flag(take("bias")?)?,
            residual: flag(take("residual")?)?,
        };
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
        s
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
names!(Act, "act", None "none", Relu "relu", Gelu "gelu", Silu "silu", Swiglu "swiglu");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_reads_back() {
        for act in [Act::None, Act::Relu, Act::Gelu, Act::Silu, Act::Swiglu] {
            let p = GemmProblem { act, bias: true, b: BLayout::Kn, output: DType::F32, ..GemmProblem::plain(DType::F16) };
            assert_eq!(GemmProblem::from_class(&p.class()), Ok(p));
        }
        assert!(GemmProblem::from_class("a=bf16,b=nk").is_err());
        assert!(GemmProblem::from_class("a=f32,b=nk,out=f32,act=none,bias=0,residual=0").is_err());
    }
}
