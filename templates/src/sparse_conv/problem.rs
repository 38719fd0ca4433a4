//! Classes of sparse convolutions, and the ways there are to do one.

use super::geometry::Mode;
use crate::gemm::Act;
use std::fmt;
use tilewright_ir::DType;

/// What of a convolution is fixed when its plan is made. Sizes, kernel, stride, dilation and padding are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConvProblem {
    /// Dtype of features, weight, residual and output: F16, BF16, or F32 (multiplied as tf32).
    pub dtype: DType,
    /// How outputs follow from inputs.
    pub mode: Mode,
    /// Outputs are given: `coords_target`.
    pub target: bool,
    /// Dtype of `bias [cout]`, if there is one: `dtype` or F32.
    pub bias: Option<DType>,
    /// Dtype of `bn_scale [cout]` and `bn_shift [cout]`, if they are there: `dtype` or F32.
    pub bn: Option<DType>,
    /// Activation: none, relu, gelu or silu.
    pub act: Act,
    /// Whether a `residual [m, cout]` is added before the activation.
    pub residual: bool,
}

/// How gathering, multiplying and scattering are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dataflow {
    /// Gather rows of all pairs, multiply tap by tap, sum by output row.
    GatherScatter,
    /// Rows are fetched as they are multiplied, sums added to the output; one launch for all taps, or one each.
    FetchOnDemand {
        /// All taps in one launch.
        fused: bool,
    },
    /// One output tile a CTA, over all taps that it has, rows in the order of the map.
    Implicit,
    /// The same with rows sorted by which taps they have, in so many ranges of taps.
    ImplicitSorted {
        /// Ranges of taps: 1 to 4 are tried.
        splits: u32,
    },
}

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowOrder {
    /// The mask of taps as a number, the first tap the lowest bit.
    Plain,
    /// As a number whose top bits are the rarest taps.
    Rare,
    /// As the place of that number in Gray's code: neighbours differ in few taps.
    #[default]
    GrayRare,
}

impl ConvProblem {
    /// A convolution without epilogue.
    pub fn plain(dtype: DType, mode: Mode) -> Self {
        ConvProblem { dtype, mode, target: false, bias: None, bn: None, act: Act::None, residual: false }
    }
}

impl Dataflow {
    /// Ranges of taps.
    pub fn splits(self) -> u32 {
        if let Dataflow::ImplicitSorted { splits } = self { splits } else { 1 }
    }
}

impl fmt::Display for Dataflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dataflow::GatherScatter => "gather_scatter",
            Dataflow::FetchOnDemand { .. } => "fetch_on_demand",
            Dataflow::Implicit => "implicit",
            Dataflow::ImplicitSorted { .. } => "implicit_sorted",
        })
    }
}

impl fmt::Display for RowOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RowOrder::Plain => "plain",
            RowOrder::Rare => "rare",
            RowOrder::GrayRare => "gray_rare",
        })
    }
}
