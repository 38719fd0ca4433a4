//! Building layouts factor by factor.

use smallvec::smallvec;

use super::map::Input;
use super::{Basis, Dim, Layout, LayoutError, Outer};

type Terms = Vec<(Dim, u32)>;

/// Collects the factors of a [`Layout`]; everything is checked in [`Builder::build`].
///
/// Within one input dim the atom bits lie below the outer factors whatever the order of the calls, and each kind keeps the
/// order in which it was added, fastest first. Input dims keep the order of their first mention.
///
/// # Example
/// ```
/// use tilewright_ir::layout::{Dim::*, Layout};
/// // The accumulator of mma.sync.m16n8, repeated over 24 columns (PTX ISA 9.7.14.5.8).
/// let acc = Layout::onto([Row, Col])
///     .bits(Reg, [(Col, 1), (Row, 8)])
///     .outer(Reg, 3, [(Col, 8)])
///     .bits(Lane, [(Col, 2), (Col, 4), (Row, 1), (Row, 2), (Row, 4)])
///     .build()?;
/// assert_eq!(acc.in_size(Reg), 12);
/// # Ok::<(), tilewright_ir::layout::LayoutError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    outputs: Vec<Dim>,
    inputs: Vec<Draft>,
}

#[derive(Clone, Debug)]
struct Draft {
    dim: Dim,
    bits: Vec<Terms>,
    outers: Vec<(u32, Terms)>,
}

impl Builder {
    pub(super) fn new(outputs: impl IntoIterator<Item = Dim>) -> Builder {
        Builder { outputs: outputs.into_iter().collect(), inputs: Vec::new() }
    }

    /// Names an input dim without adding a factor: it has size 1 until it gets one.
    pub fn input(mut self, dim: Dim) -> Builder {
        self.draft(dim);
        self
    }

    /// Adds one atom bit that moves the given outputs; none of them means a broadcast.
    pub fn bit(mut self, input: Dim, terms: impl IntoIterator<Item = (Dim, u32)>) -> Builder {
        self.draft(input).bits.push(terms.into_iter().collect());
        self
    }

    /// Adds one atom bit for each term, each moving one output.
    pub fn bits(self, input: Dim, terms: impl IntoIterator<Item = (Dim, u32)>) -> Builder {
        terms.into_iter().fold(self.input(input), |builder, term| builder.bit(input, [term]))
    }

    /// Adds a strided factor; no terms means a broadcast. A factor of extent 1 leaves no trace.
    pub fn outer(mut self, input: Dim, extent: u32, stride: impl IntoIterator<Item = (Dim, u32)>) -> Builder {
        self.draft(input).outers.push((extent, stride.into_iter().collect()));
        self
    }

    /// The layout.
    ///
    /// # Errors
    /// Dims listed twice, terms over dims that are no output, extents of 0, and layouts too large for 32-bit outputs or for
    /// [`MAX_POINTS`](super::MAX_POINTS).
    pub fn build(self) -> Result<Layout, LayoutError> {
        let outputs = &self.outputs;
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for draft in &self.inputs {
            let bases = draft.bits.iter().map(|terms| basis(outputs, terms)).collect::<Result<_, _>>()?;
            let outers = draft.outers.iter().map(|(extent, terms)| Ok(Outer { extent: *extent, stride: basis(outputs, terms)? }));
            inputs.push(Input { dim: draft.dim, bases, outers: outers.collect::<Result<_, LayoutError>>()? });
        }
        Layout::from_parts(inputs, self.outputs)
    }

    fn draft(&mut self, dim: Dim) -> &mut Draft {
        let at = self.inputs.iter().position(|d| d.dim == dim).unwrap_or_else(|| {
            self.inputs.push(Draft { dim, bits: Vec::new(), outers: Vec::new() });
            self.inputs.len() - 1
        });
        &mut self.inputs[at]
    }
}

/// The values of `terms` in the order of `outputs`.
pub(super) fn basis(outputs: &[Dim], terms: &[(Dim, u32)]) -> Result<Basis, LayoutError> {
    let mut values = smallvec![0u32; outputs.len()];
    let mut seen = Vec::with_capacity(terms.len());
    for &(dim, value) in terms {
        let at = outputs.iter().position(|&o| o == dim);
        let at = at.ok_or_else(|| LayoutError::UnknownDim { dim, side: "output", have: outputs.to_vec() })?;
        if seen.contains(&dim) {
            return Err(LayoutError::DuplicateDim { dim, side: "term" });
        }
        seen.push(dim);
        values[at] = value;
    }
    Ok(Basis(values))
}
