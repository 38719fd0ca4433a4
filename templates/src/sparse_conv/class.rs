//! Classes of sparse convolutions as text, and names made of them.

use super::geometry::Mode;
use super::problem::{ConvProblem, Dataflow, RowOrder};
use crate::gemm::Act;
use tilewright_ir::DType;

/// How a class is spelled.
const FORM: &str =
    "dtype=f16|bf16|f32,mode=..,target=0|1,bias=none|dtype|f32,bn=none|dtype|f32,act=none|relu|gelu|silu,residual=0|1";
/// How a class of maps is spelled.
const MAP_FORM: &str = "mode=..,target=0|1";

/// Activations of a sparse convolution.
const ACTS: [(&str, Act); 4] = [("none", Act::None), ("relu", Act::Relu), ("gelu", Act::Gelu), ("silu", Act::Silu)];
/// Row orders by name.
const ORDERS: [RowOrder; 3] = [RowOrder::Plain, RowOrder::Rare, RowOrder::GrayRare];

/// A convolution that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvProblemError {
    /// Another dtype of features.
    #[error("sparse convolutions take f16, bf16 or f32, not {0}")]
    Type(DType),
    /// A bias or batch norm of another dtype.
    #[error("{name} is {dtype} or f32, not {found}")]
    Vector {
        /// `bias` or `bn_scale`.
        name: &'static str,
        /// Dtype of the features.
        dtype: DType,
        /// Dtype asked for.
        found: DType,
    },
    /// An activation of another op.
    #[error("act = {0}: expected none, relu, gelu or silu")]
    Act(Act),
    /// Outputs given where the mode makes them, or not given where it cannot.
    #[error("mode={mode} {}", if *target { "makes its own outputs: leave coords_target out" } else { "needs coords_target" })]
    Target {
        /// The mode.
        mode: Mode,
        /// Whether outputs were given.
        target: bool,
    },
    /// A residual of rows whose order nobody knows.
    #[error("residual needs mode=submanifold or coords_target: other outputs are in an order of their own")]
    Residual,
    /// A class text that is not one.
    #[error("`{0}` is no class of sparse convolutions: expected {FORM}")]
    Class(String),
    /// The same for kernel maps.
    #[error("`{0}` is no class of kernel maps: expected {MAP_FORM}")]
    MapClass(String),
}

impl ConvProblem {
    /// Checks dtypes, and that mode, target and residual go together.
    pub fn check(&self) -> Result<(), ConvProblemError> {
        if !matches!(self.dtype, DType::F16 | DType::BF16 | DType::F32) {
            return Err(ConvProblemError::Type(self.dtype));
        }
        for (name, found) in [("bias", self.bias), ("bn_scale", self.bn)] {
            if let Some(found) = found.filter(|d| *d != self.dtype && *d != DType::F32) {
                return Err(ConvProblemError::Vector { name, dtype: self.dtype, found });
            }
        }
        if !ACTS.iter().any(|a| a.1 == self.act) {
            return Err(ConvProblemError::Act(self.act));
        }
        check_target(self.mode, self.target)?;
        if self.residual && self.mode != Mode::Submanifold && !self.target {
            return Err(ConvProblemError::Residual);
        }
        Ok(())
    }

    /// The class key of manifests and tuning records.
    pub fn class(&self) -> String {
        let name = |d: Option<DType>| d.map_or("none", DType::name);
        let (bias, bn, residual) = (name(self.bias), name(self.bn), u8::from(self.residual));
        let (dtype, act) = (self.dtype, self.act);
        format!("dtype={dtype},{},bias={bias},bn={bn},act={act},residual={residual}", map_class(self.mode, self.target))
    }

    /// The class behind a key.
    pub fn from_class(text: &str) -> Result<Self, ConvProblemError> {
        let read = || {
            let mut f = Fields::new(text);
            let optional = |text: &str| if text == "none" { Some(None) } else { text.parse().ok().map(Some) };
            let p = ConvProblem {
                dtype: f.take("dtype")?.parse().ok()?,
                mode: f.take("mode")?.parse().ok()?,
                target: flag(f.take("target")?)?,
                bias: optional(f.take("bias")?)?,
                bn: optional(f.take("bn")?)?,
                act: act(f.take("act")?)?,
                residual: flag(f.take("residual")?)?,
            };
            f.end().then_some(p)
        };
        let p = read().ok_or_else(|| ConvProblemError::Class(text.to_string()))?;
        p.check()?;
        Ok(p)
    }

    /// A short name for ids and files: `f16_strided_target_biasf32_bn_relu_res`.
    pub fn slug(&self) -> String {
        format!("{}_{}{}", self.dtype, map_slug(self.mode, self.target), self.finish_slug())
    }

    /// The epilogue's part of the name, which kernels of every mode share: `_biasf32_bn_relu_res`, nothing for none.
    pub fn finish_slug(&self) -> String {
        let vector = |name: &str, d: Option<DType>| match d {
            None => String::new(),
            Some(d) if d == self.dtype => format!("_{name}"),
            Some(d) => format!("_{name}{d}"),
        };
        let act = if self.act == Act::None { String::new() } else { format!("_{}", self.act) };
        let residual = if self.residual { "_res" } else { "" };
        [&vector("bias", self.bias), &vector("bn", self.bn), &act, residual].concat()
    }
}

impl Dataflow {
    /// Its name in ids: `implicit_sorted3`, `fetch_on_demand_fused`.
    pub fn slug(self) -> String {
        match self {
            Dataflow::ImplicitSorted { splits } => format!("{self}{splits}"),
            Dataflow::FetchOnDemand { fused: true } => format!("{self}_fused"),
            _ => self.to_string(),
        }
    }
}

impl RowOrder {
    /// Every order.
    pub const ALL: [RowOrder; 3] = ORDERS;

    /// The order of a name.
    pub fn from_name(text: &str) -> Option<Self> {
        ORDERS.into_iter().find(|o| o.to_string() == text)
    }
}

/// The activation of a name; none for those that sparse convolutions do not have.
pub fn act(text: &str) -> Option<Act> {
    ACTS.iter().find(|a| a.0 == text).map(|a| a.1)
}

/// The class key of kernel maps: `mode=strided,target=0`.
pub fn map_class(mode: Mode, target: bool) -> String {
    format!("mode={mode},target={}", u8::from(target))
}

/// Mode and target behind a class key of kernel maps.
pub fn from_map_class(text: &str) -> Result<(Mode, bool), ConvProblemError> {
    let read = || {
        let mut f = Fields::new(text);
        let parts = (f.take("mode")?.parse().ok()?, flag(f.take("target")?)?);
        f.end().then_some(parts)
    };
    let (mode, target) = read().ok_or_else(|| ConvProblemError::MapClass(text.to_string()))?;
    check_target(mode, target)?;
    Ok((mode, target))
}

/// `strided`, `strided_target`.
pub fn map_slug(mode: Mode, target: bool) -> String {
    format!("{mode}{}", if target { "_target" } else { "" })
}

/// Submanifold and generative convolutions make their outputs, transposed and inverse ones are given them.
fn check_target(mode: Mode, target: bool) -> Result<(), ConvProblemError> {
    let fits = match mode {
        Mode::Submanifold | Mode::Generative => !target,
        Mode::Transposed | Mode::Inverse => target,
        Mode::Strided => true,
    };
    if fits { Ok(()) } else { Err(ConvProblemError::Target { mode, target }) }
}

/// The fields of a class key that are still to be read.
struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    fn new(text: &'a str) -> Self {
        Fields(text.split(','))
    }

    /// The value of the next field; none where it is not called `key`.
    fn take(&mut self, key: &str) -> Option<&'a str> {
        self.0.next()?.split_once('=').filter(|(k, _)| *k == key).map(|(_, v)| v)
    }

    fn end(mut self) -> bool {
        self.0.next().is_none()
    }
}

fn flag(text: &str) -> Option<bool> {
    [("0", false), ("1", true)].into_iter().find(|f| f.0 == text).map(|f| f.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_class_reads_back_and_slugs_differ() {
        let mut slugs = BTreeSet::new();
        for dtype in [DType::F16, DType::BF16, DType::F32] {
            for (mode, target) in Mode::ALL.into_iter().flat_map(|m| [(m, false), (m, true)]) {
                for bits in 0..36u32 {
                    let vector = |i: u32| [None, Some(dtype), Some(DType::F32)][i as usize % 3];
                    let p = ConvProblem {
                        target,
                        bias: vector(bits),
                        bn: vector(bits / 3),
                        act: ACTS[bits as usize / 9].1,
                        residual: bits % 2 == 1,
                        ..ConvProblem::plain(dtype, mode)
                    };
                    if p.check().is_err() {
                        assert!(ConvProblem::from_class(&p.class()).is_err());
                        continue;
                    }
                    assert_eq!(ConvProblem::from_class(&p.class()), Ok(p));
                    let known = dtype == DType::F32 && (bits % 3 == 2 || bits / 3 % 3 == 2);
                    assert!(slugs.insert(p.slug()) || known, "two classes are called {}", p.slug());
                }
            }
        }
        assert_eq!(from_map_class("mode=strided,target=1"), Ok((Mode::Strided, true)));
    }

    #[test]
    fn texts_are_read_whole_and_refusals_say_why() {
        let good = ConvProblem::plain(DType::F16, Mode::Submanifold).class();
        assert_eq!(good, "dtype=f16,mode=submanifold,target=0,bias=none,bn=none,act=none,residual=0");
        for bad in ["", &good[1..], &format!("{good},x=1"), &good.replace("act=none", "act=swiglu"), &good.replace("bn", "nb")] {
            assert_eq!(ConvProblem::from_class(bad), Err(ConvProblemError::Class(bad.to_string())));
        }
        for (from, to, words) in [
            ("f16", "i8", "not i8"),
            ("target=0", "target=1", "leave coords_target out"),
            ("submanifold", "inverse", "needs coords_target"),
            ("bias=none", "bias=bf16", "bias is f16 or f32, not bf16"),
        ] {
            let error = ConvProblem::from_class(&good.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let strided = good.replace("submanifold", "strided").replace("residual=0", "residual=1");
        assert_eq!(ConvProblem::from_class(&strided), Err(ConvProblemError::Residual));
        assert!(from_map_class("mode=generative,target=1").is_err() && from_map_class("mode=strided").is_err());
    }
}
