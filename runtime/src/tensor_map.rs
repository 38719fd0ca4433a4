//! A tensor map's sizes for one problem, held against what `cuTensorMapEncodeTiled` demands.
//!
//! The driver answers a bad map with `CUDA_ERROR_INVALID_VALUE` and no word on which of its dozen rules was broken; here
//! each has its own text, and an emulator applies the same ones.

use crate::device::{MAX_RANK, TensorMapDesc};
use crate::manifest::{Interleave, Swizzle, TensorMapSpec};

/// Extents are stored in 32 bits, less one.
const MAX_EXTENT: i64 = 1 << 32;
/// Strides are stored in 36 bits of 16-byte units.
const MAX_STRIDE: i64 = 1 << 40;

/// Which rule a tensor map breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorMapError {
    /// An extent out of range.
    #[error("extent {extent} of dim {dim} (innermost is 0) must be 1 to 2^32")]
    Extent {
        /// Dimension, innermost 0.
        dim: usize,
        /// Its value.
        extent: i64,
    },
    /// A stride out of range or off its grid.
    #[error("stride {stride} of dim {dim} (innermost is 0) must be a multiple of {unit} below 2^40: pad the rows")]
    Stride {
        /// Dimension, innermost 0.
        dim: usize,
        /// Its value in bytes.
        stride: i64,
        /// What it must be a multiple of.
        unit: i64,
    },
    /// The tile's rows are not whole 16-byte units.
    #[error("the box's rows are {bytes} bytes, which must be a multiple of 16")]
    BoxRow {
        /// Bytes of a row.
        bytes: u64,
    },
    /// The tile's rows are wider than the swizzle.
    #[error("the box's rows are {bytes} bytes, wider than the {span}-byte swizzle")]
    SwizzleSpan {
        /// Bytes of a row.
        bytes: u64,
        /// Bytes the swizzle spans.
        span: u64,
    },
}

impl Swizzle {
    /// Bytes it spans; none has no limit.
    pub fn span_bytes(self) -> Option<u64> {
        match self {
            Swizzle::None => None,
            Swizzle::B32 => Some(32),
            Swizzle::B64 => Some(64),
            Swizzle::B128 => Some(128),
        }
    }
}

/// What the base address of a tensor map must be a multiple of.
pub fn address_unit(interleave: Interleave) -> u64 {
    match interleave {
        Interleave::None | Interleave::B16 => 16,
        Interleave::B32 => 32,
    }
}

/// What of a map does not depend on the problem. `spec` has passed the manifest's checks.
pub(crate) fn template(spec: &TensorMapSpec) -> TensorMapDesc {
    let rank = spec.dims.len();
    let mut desc = TensorMapDesc {
        address: 0,
        dtype: spec.dtype,
        rank,
        dims: [1; MAX_RANK],
        strides: [0; MAX_RANK - 1],
        box_dims: [1; MAX_RANK],
        element_strides: [1; MAX_RANK],
        swizzle: spec.swizzle,
        interleave: spec.interleave,
        l2_promotion: spec.l2_promotion,
        oob: spec.oob,
    };
    desc.box_dims[..rank].copy_from_slice(&spec.r#box);
    desc.element_strides[..rank].copy_from_slice(&spec.element_strides);
    desc
}

impl TensorMapDesc {
    /// Sets the extent of a dimension, innermost 0.
    pub(crate) fn set_extent(&mut self, dim: usize, extent: i64) -> Result<(), TensorMapError> {
        if !(1..=MAX_EXTENT).contains(&extent) {
            return Err(TensorMapError::Extent { dim, extent });
        }
        self.dims[dim] = extent as u64;
        Ok(())
    }

    /// Sets the bytes between neighbours along dimension `dim`, 1 or more.
    pub(crate) fn set_stride(&mut self, dim: usize, stride: i64) -> Result<(), TensorMapError> {
        let unit = address_unit(self.interleave) as i64;
        if !(0..MAX_STRIDE).contains(&stride) || stride % unit != 0 {
            return Err(TensorMapError::Stride { dim, stride, unit });
        }
        self.strides[dim - 1] = stride as u64;
        Ok(())
    }

    /// Holds the tile against the swizzle.
    pub(crate) fn check_box(&self) -> Result<(), TensorMapError> {
        if self.interleave != Interleave::None {
            return Ok(());
        }
        let bytes = u64::from(self.box_dims[0]) * self.dtype.bytes();
        if !bytes.is_multiple_of(16) {
            return Err(TensorMapError::BoxRow { bytes });
        }
        match self.swizzle.span_bytes() {
            Some(span) if bytes > span => Err(TensorMapError::SwizzleSpan { bytes, span }),
            _ => Ok(()),
        }
    }
}
