//! Tensor maps of the tiled mode and the walk over a box (PTX ISA 5.5, `cuTensorMapEncodeTiled` of the driver API).

use super::swizzle::Swizzle;

/// Alignment of the shared address of a box (PTX ISA 9.7.9.27): 128 bytes, or [`Swizzle::pattern_bytes`] for a tile
/// that `wgmma` reads.
pub const SHARED_ALIGN_BYTES: u32 = 128;

/// The most shared memory a CTA can have, 227 KiB.
const SHARED_BYTES: u64 = 227 << 10;

/// Element type of a tensor map. The types that change values on the way (`_FTZ`, `TFLOAT32`) or unpack sub-byte ones
/// are absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorDType {
    /// 1 byte; also the type for fp8.
    U8,
    /// 2 bytes
    U16,
    /// 4 bytes
    U32,
    /// 4 bytes
    S32,
    /// 8 bytes
    U64,
    /// 8 bytes
    S64,
    /// 2 bytes
    F16,
    /// 2 bytes
    Bf16,
    /// 4 bytes
    F32,
    /// 8 bytes
    F64,
}

/// Order of the tensor in global memory. Only the plain one is emulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Interleave {
    /// Dimension 0 is contiguous.
    #[default]
    None,
    /// NC/8HWC8 with 16-byte slices.
    B16,
    /// NC/16HWC16 with 32-byte slices.
    B32,
}

/// What a load writes for elements outside of the tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OobFill {
    /// Zero bytes.
    #[default]
    Zero,
    /// The NaN of [`TensorMap::fill`], floats only.
    Nan,
}

/// A tiled-mode tensor map. Dimension 0 is the contiguous one; the rank is `dims.len()`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorMap {
    /// Element type.
    pub dtype: TensorDType,
    /// Global byte address of element (0, .., 0).
    pub base: u64,
    /// Elements along each dimension.
    pub dims: Vec<u64>,
    /// Bytes from one element to the next along dimensions 1.. (one fewer than `dims`).
    pub strides: Vec<u64>,
    /// Extent of the box along each dimension, in elements of the tensor.
    pub box_dims: Vec<u32>,
    /// Step along each dimension of the box; the first is ignored.
    pub element_strides: Vec<u32>,
    /// Order of the box in shared memory.
    pub swizzle: Swizzle,
    /// Order of the tensor in global memory.
    pub interleave: Interleave,
    /// Value of elements outside.
    pub oob_fill: OobFill,
}

/// Consecutive bytes of a box that are consecutive in global memory too, or all outside of the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// Global byte address, or nothing outside of the tensor: loads fill, stores skip.
    pub global: Option<u64>,
    /// Where the run starts in the box, in bytes, before swizzling.
    pub shared_offset: u32,
    /// Length in bytes, a multiple of the element size.
    pub bytes: u32,
}

/// A rule of `cuTensorMapEncodeTiled`, or of the copy itself, that is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorMapError {
    /// 1 to 5 dimensions.
    #[error("tensor rank {rank} is not 1 to 5")]
    Rank {
        /// Length of `dims`.
        rank: usize,
    },
    /// An array does not match the rank.
    #[error("{name} has {got} entries, a tensor of rank {rank} needs {want}")]
    Length {
        /// Array name as in the driver API.
        name: &'static str,
        /// Its length.
        got: usize,
        /// The length it needs.
        want: usize,
        /// Length of `dims`.
        rank: usize,
    },
    /// 16-byte base.
    #[error("globalAddress {base:#x} is not a multiple of 16")]
    Base {
        /// The address.
        base: u64,
    },
    /// Dimensions from 1 to 2^32.
    #[error("globalDim[{dim}] = {size} is not between 1 and 2^32")]
    Dim {
        /// Dimension.
        dim: usize,
        /// Its size.
        size: u64,
    },
    /// Strides of whole 16 bytes below 2^40.
    #[error("globalStrides[{index}] = {stride} is not a multiple of 16 below 2^40: pad the rows of the tensor")]
    Stride {
        /// Index; stride of dimension `index + 1`.
        index: usize,
        /// Bytes.
        stride: u64,
    },
    /// Boxes from 1 to 256.
    #[error("boxDim[{dim}] = {size} is not between 1 and 256: use several boxes")]
    Box {
        /// Dimension.
        dim: usize,
        /// Its extent.
        size: u32,
    },
    /// Rows of a box are whole 16-byte chunks.
    #[error("boxDim[0] is {bytes} bytes, not a multiple of 16")]
    BoxRow {
        /// Bytes.
        bytes: u32,
    },
    /// Rows of a box fit into the swizzle span.
    #[error("boxDim[0] is {bytes} bytes, more than the {span} of swizzle {swizzle:?}: use several boxes")]
    BoxBeyondSwizzle {
        /// Bytes of a row.
        bytes: u32,
        /// The most that fit.
        span: u32,
        /// The mode.
        swizzle: Swizzle,
    },
    /// The driver accepts narrower rows, but where they land in shared memory is not documented, so that this is an
    /// error here.
    #[error("boxDim[0] is {bytes} bytes, less than the {span} of swizzle {swizzle:?}: use the mode of that span")]
    BoxNarrowerThanSwizzle {
        /// Bytes of a row.
        bytes: u32,
        /// The bytes a row must have.
        span: u32,
        /// The mode.
        swizzle: Swizzle,
    },
    /// Element strides from 1 to 8.
    #[error("elementStrides[{dim}] = {stride} is not between 1 and 8")]
    ElementStride {
        /// Dimension.
        dim: usize,
        /// The stride.
        stride: u32,
    },
    /// No CTA has that much shared memory.
    #[error("a box of {bytes} bytes is larger than the {SHARED_BYTES} of shared memory a CTA can have: use several boxes")]
    BoxBytes {
        /// Bytes of the whole box.
        bytes: u64,
    },
    /// NaN needs a float type.
    #[error("oobFill NaN needs a float type, not {dtype:?}")]
    NanFill {
        /// The type.
        dtype: TensorDType,
    },
    /// Interleaved tensors are not emulated.
    #[error("interleave {interleave:?} is not emulated: describe the slices as a dimension of their own")]
    Interleave {
        /// The mode.
        interleave: Interleave,
    },
    /// The instruction names another number of coordinates than the map has dimensions.
    #[error("{got} coordinates for a tensor of rank {rank}")]
    Coordinates {
        /// Coordinates given.
        got: usize,
        /// Length of `dims`.
        rank: usize,
    },
}

impl TensorDType {
    /// Bytes of an element.
    pub const fn bytes(self) -> u32 {
        match self {
            TensorDType::U8 => 1,
            TensorDType::U16 | TensorDType::F16 | TensorDType::Bf16 => 2,
            TensorDType::U32 | TensorDType::S32 | TensorDType::F32 => 4,
            TensorDType::U64 | TensorDType::S64 | TensorDType::F64 => 8,
        }
    }

    /// Whether the type has NaNs.
    pub const fn is_float(self) -> bool {
        matches!(self, TensorDType::F16 | TensorDType::Bf16 | TensorDType::F32 | TensorDType::F64)
    }
}

impl TensorMap {
    /// Checks the rules of `cuTensorMapEncodeTiled`, in the order of its documentation. The other methods need a map
    /// that passes.
    pub fn validate(&self) -> Result<(), TensorMapError> {
        let rank = self.dims.len();
        if !(1..=5).contains(&rank) {
            return Err(TensorMapError::Rank { rank });
        }
        let lengths = [
            ("globalStrides", self.strides.len(), rank - 1),
            ("boxDim", self.box_dims.len(), rank),
            ("elementStrides", self.element_strides.len(), rank),
        ];
        for (name, got, want) in lengths {
            if got != want {
                return Err(TensorMapError::Length { name, got, want, rank });
            }
        }
        if !self.base.is_multiple_of(16) {
            return Err(TensorMapError::Base { base: self.base });
        }
        for (dim, &size) in self.dims.iter().enumerate() {
            if !(1..=1 << 32).contains(&size) {
                return Err(TensorMapError::Dim { dim, size });
            }
        }
        for (index, &stride) in self.strides.iter().enumerate() {
            if !stride.is_multiple_of(16) || stride >= 1 << 40 {
                return Err(TensorMapError::Stride { index, stride });
            }
        }
        for (dim, &size) in self.box_dims.iter().enumerate() {
            if !(1..=256).contains(&size) {
                return Err(TensorMapError::Box { dim, size });
            }
        }
        for (dim, &stride) in self.element_strides.iter().enumerate() {
            if !(1..=8).contains(&stride) {
                return Err(TensorMapError::ElementStride { dim, stride });
            }
        }
        if self.interleave != Interleave::None {
            return Err(TensorMapError::Interleave { interleave: self.interleave });
        }
        let (bytes, span, swizzle) = (self.row_bytes(), self.swizzle.span_bytes(), self.swizzle);
        if !bytes.is_multiple_of(16) {
            return Err(TensorMapError::BoxRow { bytes });
        }
        if swizzle != Swizzle::None && bytes > span {
            return Err(TensorMapError::BoxBeyondSwizzle { bytes, span, swizzle });
        }
        if swizzle != Swizzle::None && bytes < span {
            return Err(TensorMapError::BoxNarrowerThanSwizzle { bytes, span, swizzle });
        }
        let rows = (1..rank).map(|dim| u64::from(self.box_count(dim))).product::<u64>();
        if rows * u64::from(bytes) > SHARED_BYTES {
            return Err(TensorMapError::BoxBytes { bytes: rows * u64::from(bytes) });
        }
        if self.oob_fill == OobFill::Nan && !self.dtype.is_float() {
            return Err(TensorMapError::NanFill { dtype: self.dtype });
        }
        Ok(())
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Elements of the box along `dim`: `ceil(boxDim / elementStride)`.
    pub fn box_count(&self, dim: usize) -> u32 {
        if dim == 0 { self.box_dims[0] } else { self.box_dims[dim].div_ceil(self.element_strides[dim]) }
    }

    /// Bytes of the whole box in shared memory, which is what a copy adds to the transaction count of its mbarrier,
    /// whatever part of the box is outside of the tensor.
    pub fn box_bytes(&self) -> u32 {
        (1..self.rank()).fold(self.row_bytes(), |all, dim| all.saturating_mul(self.box_count(dim)))
    }

    /// Walks the box whose first element is at `coords`, in the order of shared memory; the runs cover it without
    /// gaps, and no two neighbours could be one.
    pub fn for_each_run(&self, coords: &[i32], mut visit: impl FnMut(Run)) -> Result<(), TensorMapError> {
        let rank = self.rank();
        if coords.len() != rank {
            return Err(TensorMapError::Coordinates { got: coords.len(), rank });
        }
        let element = self.dtype.bytes();
        // A row as [bytes before the tensor, within, after], for rows that meet the tensor at all.
        let size = i64::from(self.box_dims[0]);
        let start = i64::from(coords[0]);
        let before = (-start).clamp(0, size);
        let end = (self.dims[0] as i64 - start).clamp(before, size);
        let parts = [before, end - before, size - end].map(|elements| elements as u32 * element);
        let first = self.base.wrapping_add(((start + before) as u64).wrapping_mul(element.into()));

        let mut merged: Option<Run> = None;
        let mut offset = 0;
        let mut push = |global: Option<u64>, bytes: u32| {
            if bytes == 0 {
                return;
            }
            let joins = |run: &Run| match (run.global, global) {
                (None, None) => true,
                (Some(last), Some(next)) => last.wrapping_add(run.bytes.into()) == next,
                _ => false,
            };
            match &mut merged {
                Some(run) if joins(run) => run.bytes += bytes,
                slot => {
                    if let Some(run) = slot.replace(Run { global, shared_offset: offset, bytes }) {
                        visit(run);
                    }
                }
            }
            offset += bytes;
        };
        let mut index = [0u32; 5];
        loop {
            let mut inside = true;
            let mut address = first;
            for dim in 1..rank {
                let coord = i64::from(coords[dim]) + i64::from(index[dim]) * i64::from(self.element_strides[dim]);
                inside &= (0..self.dims[dim] as i64).contains(&coord);
                address = address.wrapping_add((coord as u64).wrapping_mul(self.strides[dim - 1]));
            }
            if inside {
                push(None, parts[0]);
                push(Some(address), parts[1]);
                push(None, parts[2]);
            } else {
                push(None, self.row_bytes());
            }
            let Some(dim) = (1..rank).find(|&dim| index[dim] + 1 < self.box_count(dim)) else {
                break;
            };
            index[dim] += 1;
            index[1..dim].fill(0);
        }
        if let Some(run) = merged {
            visit(run);
        }
        Ok(())
    }

    /// Writes what a load puts outside of the tensor into `bytes`, whole elements. The bits of the OOB-NaN (PTX ISA
    /// 5.5.3.3) are not documented; this is the canonical NaN.
    pub fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
        if self.oob_fill == OobFill::Nan {
            let size = self.dtype.bytes() as usize;
            for element in bytes.chunks_exact_mut(size) {
                element.fill(0xff);
                element[size - 1] = 0x7f;
            }
        }
    }

    fn row_bytes(&self) -> u32 {
        self.box_dims[0] * self.dtype.bytes()
    }
}
