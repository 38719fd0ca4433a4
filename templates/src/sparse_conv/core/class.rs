//! What a kernel of the core is, apart from its tiles.

use super::super::problem::ConvProblem;
use crate::gemm::Act;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::expr::ParseError;

/// Where the rows of features come from, and which taps they meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Tiles of outputs with the taps that some of their rows have: `tile_taps`, `tile_rows`, `tile_out`, `count`.
    Tiles,
    /// Tiles of pairs of one tap each, rows fetched by number: `tiles`, `tile_count`, `pair_in`.
    Pairs,
    /// The pairs of the one tap that scalar `tap` names: `tap_start`, `pair_in`.
    Tap,
    /// As [`Source::Pairs`], `x` holding the rows of the pairs already.
    Rows,
}

/// Where sums go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// Through the epilogue to `y [m, cout]`: sums are whole.
    Store,
    /// To `y` f32 `[splits, m, cout]`: sums of a range of taps.
    Slab,
    /// Added atomically to `y` f32 `[m, cout]`.
    AddAtomic,
    /// Read from `y` f32 `[m, cout]`, added, stored: no two CTAs of a launch have a row in common.
    AddPlain,
    /// To `y` f32 `[pairs, cout]`: a product for each pair.
    PairRows,
}

/// The epilogue `act((sum + bias) * bn_scale + bn_shift + residual)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpilogueClass {
    /// Dtype of `bias [cout]`.
    pub bias: Option<DType>,
    /// Dtype of `bn_scale [cout]` and `bn_shift [cout]`.
    pub bn: Option<DType>,
    /// None, relu, gelu or silu.
    pub act: Act,
    /// Whether a `residual [m, cout]`, of the output's dtype, is added.
    pub residual: bool,
}

/// What is fixed when a kernel of the core is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreClass {
    /// Dtype of features and weight: F16, BF16, or F32, multiplied as tf32.
    pub dtype: DType,
    /// Where rows come from.
    pub source: Source,
    /// Where sums go.
    pub exit: Exit,
    /// What is done to whole sums; nothing but for [`Exit::Store`].
    pub epilogue: EpilogueClass,
    /// cout is a multiple of this: [`CoreClass::vec`] for wide accesses, else 2 or 1, and `weight` has columns up to the next
    /// multiple of that.
    pub n_align: u32,
}

/// Why a kernel, or a piece of a plan, cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CoreError {
    /// A dtype no kernel multiplies.
    #[error("sparse convolution multiplies f16, bf16 and f32, not {0}")]
    Type(DType),
    /// Factors or shifts of another dtype.
    #[error("{name} of a convolution of {dtype} is {dtype} or f32, not {found}")]
    Vector {
        /// bias or bn.
        name: &'static str,
        /// Dtype of the features.
        dtype: DType,
        /// Dtype asked for.
        found: DType,
    },
    /// An activation of two operands.
    #[error("act=swiglu has two operands; a convolution takes none, relu, gelu or silu")]
    Act,
    /// Sums that cannot go there.
    #[error("source {source_name:?} does not go with exit {exit:?}: {why}")]
    Exit {
        /// The source.
        source_name: Source,
        /// The exit.
        exit: Exit,
        /// Why.
        why: &'static str,
    },
    /// The config breaks a constraint.
    #[error("config {id}: {why}")]
    Config {
        /// The config.
        id: String,
        /// The constraint.
        why: String,
    },
    /// Not the text of a config.
    #[error("`{text}` is no config of sparse convolution: {why}")]
    Text {
        /// What was given.
        text: String,
        /// What was expected.
        why: &'static str,
    },
    /// The config needs another target.
    #[error("config {config} needs sm90, the target is {arch}")]
    Target {
        /// The config.
        config: String,
        /// The target.
        arch: Arch,
    },
    /// Lists made for tiles of another height.
    #[error("{list} are {found} rows high, those of config {id} {wanted}")]
    Lists {
        /// Which lists.
        list: &'static str,
        /// Rows of the lists' tiles.
        found: u32,
        /// Rows of the config's.
        wanted: u32,
        /// The config.
        id: String,
    },
    /// The class asks for a tensor that was not named.
    #[error("the convolution's class has {0}, its tensors name none")]
    Missing(&'static str),
    /// A tile has no layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// An expression that does not parse: a mistake in the template.
    #[error("plan expression: {0}")]
    Expr(#[from] ParseError),
}

impl EpilogueClass {
    /// Sums as they are.
    pub const NONE: EpilogueClass = EpilogueClass { bias: None, bn: None, act: Act::None, residual: false };

    /// A short name: `bias_bnf32_relu_res`, empty for none.
    pub fn slug(&self, dtype: DType) -> String {
        let named = |name: &str, d: DType| if d == dtype { format!("_{name}") } else { format!("_{name}{d}") };
        let act = match self.act {
            Act::None => "",
            Act::Relu => "_relu",
            Act::Gelu => "_gelu",
            Act::Silu => "_silu",
            Act::Swiglu => "_swiglu",
        };
        let bias = self.bias.map_or_else(String::new, |d| named("bias", d));
        let bn = self.bn.map_or_else(String::new, |d| named("bn", d));
        format!("{bias}{bn}{act}{}", if self.residual { "_res" } else { "" })
    }

    /// Checks dtypes beside features of `dtype`, and the activation.
    pub fn check(&self, dtype: DType) -> Result<(), CoreError> {
        if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32) {
            return Err(CoreError::Type(dtype));
        }
        for (name, d) in [("bias", self.bias), ("bn", self.bn)] {
            if let Some(found) = d.filter(|d| *d != dtype && *d != DType::F32) {
                return Err(CoreError::Vector { name, dtype, found });
            }
        }
        if self.act == Act::Swiglu { Err(CoreError::Act) } else { Ok(()) }
    }
}

impl From<&ConvProblem> for EpilogueClass {
    fn from(p: &ConvProblem) -> Self {
        EpilogueClass { bias: p.bias, bn: p.bn, act: p.act, residual: p.residual }
    }
}

impl CoreClass {
    /// Elements of a 16-byte access.
    pub fn vec(&self) -> u32 {
        vec_of(self.dtype)
    }

    /// Checks the parts against each other.
    pub fn check(&self) -> Result<(), CoreError> {
        self.epilogue.check(self.dtype)?;
        let pairs = matches!(self.source, Source::Pairs | Source::Rows | Source::Tap);
        let why = match self.exit {
            Exit::Store | Exit::Slab if pairs => "a pair is one part of an output's sum",
            Exit::AddPlain if self.source != Source::Tap => "several CTAs may add to one row at once",
            Exit::AddAtomic if self.source != Source::Pairs => "other sources are added up in order",
            Exit::PairRows if !matches!(self.source, Source::Pairs | Source::Rows) => {
                "a tile has no pairs, and one tap is added at once"
            }
            _ => return Ok(()),
        };
        Err(CoreError::Exit { source_name: self.source, exit: self.exit, why })
    }

    /// A short name for ids: `bf16_tiles_store_a8_bias_relu`.
    pub fn slug(&self) -> String {
        let source = ["tiles", "pairs", "tap", "rows"][self.source as usize];
        let exit = ["store", "slab", "add", "addplain", "rows"][self.exit as usize];
        format!("{}_{source}_{exit}_a{}{}", self.dtype, self.n_align, self.epilogue.slug(self.dtype))
    }

    /// Columns of `weight`, as an expression of cout.
    pub fn weight_cols(&self) -> String {
        if self.n_align.is_multiple_of(self.vec()) { "cout".into() } else { padded("cout", self.dtype) }
    }
}

/// Elements of a 16-byte access.
pub(super) fn vec_of(dtype: DType) -> u32 {
    16 / dtype.bytes()
}

/// An extent up to the next multiple of what a 16-byte access takes, as an expression.
pub(super) fn padded(extent: &str, dtype: DType) -> String {
    format!("round_up({extent},{})", vec_of(dtype))
}
