//! The matrix descriptor of `wgmma` and the shared addresses it stands for (PTX ISA 9.7.15.5.1.2).

use super::swizzle::Swizzle;

/// Which dimension of an operand is contiguous in shared memory: `imm-trans-a`, `imm-trans-b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Major {
    /// K, immediate 0.
    K,
    /// M of operand A or N of operand B, immediate 1.
    Mn,
}

/// A decoded matrix descriptor. All three byte fields are multiples of 16 below 2^18.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Descriptor {
    /// Shared byte address of element (0, 0) before swizzling. The CTA rank that a `shared::cluster` address carries
    /// in its upper bits is not representable.
    pub start: u32,
    /// Leading dimension byte offset.
    pub lbo: u32,
    /// Stride dimension byte offset.
    pub sbo: u32,
    /// Swizzle mode.
    pub swizzle: Swizzle,
}

/// A descriptor together with what the instruction says about it: one operand of one `wgmma`, 32 bytes deep in k.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SharedOperand {
    descriptor: Descriptor,
    major: Major,
    mn: u32,
    element_bytes: u32,
}

/// Why a descriptor cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// PTX ISA 9.7.15.5.1.2.2 leaves these bits out of the format.
    #[error("matrix descriptor {descriptor:#018x} sets undefined bits {bits:#018x}: build it from start, LBO, SBO and mode only")]
    UndefinedBits {
        /// The whole descriptor.
        descriptor: u64,
        /// The offending bits, in place.
        bits: u64,
    },
    /// Non-zero base offsets are for tiles off the pattern boundary.
    #[error("matrix descriptor has base offset {base_offset}: align the tile to the swizzle pattern so that it is 0")]
    BaseOffset {
        /// Bits 49 to 51.
        base_offset: u32,
    },
    /// The start must lie in the first row of a pattern, as the base offset 0 says.
    #[error(
        "matrix start {start:#x} is {offset} bytes into a {swizzle:?} pattern of {pattern} bytes: align the tile to \
         {pattern} bytes, and step along k only within the first {span}",
        pattern = .swizzle.pattern_bytes(), span = .swizzle.span_bytes()
    )]
    PatternAlignment {
        /// Start address.
        start: u32,
        /// `start` modulo the pattern.
        offset: u32,
        /// The mode.
        swizzle: Swizzle,
    },
    /// The operand would run over the end of the row its start is in.
    #[error(
        "matrix start {start:#x} leaves {left} of the {needed} contiguous bytes the operand reads from a {swizzle:?} \
         row: step along k by whole instructions"
    )]
    RowOverrun {
        /// Start address.
        start: u32,
        /// Bytes left in the row.
        left: u32,
        /// Bytes of a row that the operand reads.
        needed: u32,
        /// The mode.
        swizzle: Swizzle,
    },
    /// Only f16 and bf16 operands can be transposed (PTX ISA 9.7.15.5.2).
    #[error("MN-major operands exist for 16-bit elements, not for {element_bytes} bytes: store the operand K-major")]
    MajorElement {
        /// Element size.
        element_bytes: u32,
    },
}

impl Descriptor {
    /// Decodes the 64-bit operand, checking what does not depend on the instruction.
    pub fn decode(descriptor: u64) -> Result<Descriptor, DescriptorError> {
        const FIELDS: u64 = 0xc00e_3fff_3fff_3fff;
        let field = |bit: u32| ((descriptor >> bit & 0x3fff) as u32) << 4;
        if descriptor & !FIELDS != 0 {
            return Err(DescriptorError::UndefinedBits { descriptor, bits: descriptor & !FIELDS });
        }
        let base_offset = (descriptor >> 49 & 7) as u32;
        if base_offset != 0 {
            return Err(DescriptorError::BaseOffset { base_offset });
        }
        let swizzle = match descriptor >> 62 {
            0 => Swizzle::None,
            1 => Swizzle::B128,
            2 => Swizzle::B64,
            _ => Swizzle::B32,
        };
        let decoded = Descriptor { start: field(0), lbo: field(16), sbo: field(32), swizzle };
        let offset = decoded.start % swizzle.pattern_bytes();
        if offset >= swizzle.span_bytes() {
            return Err(DescriptorError::PatternAlignment { start: decoded.start, offset, swizzle });
        }
        Ok(decoded)
    }

    /// The 64-bit operand, for tests and hosts that build one.
    pub fn encode(self) -> u64 {
        let field = |bytes: u32| u64::from((bytes & 0x3ffff) >> 4);
        let mode = match self.swizzle {
            Swizzle::None => 0,
            Swizzle::B128 => 1,
            Swizzle::B64 => 2,
            Swizzle::B32 => 3,
        };
        field(self.start) | field(self.lbo) << 16 | field(self.sbo) << 32 | mode << 62
    }
}

impl SharedOperand {
    /// The operand of `mn` rows (64 for A, N for B) with elements of `element_bytes` bytes.
    pub fn new(descriptor: Descriptor, major: Major, mn: u32, element_bytes: u32) -> Result<SharedOperand, DescriptorError> {
        let Descriptor { start, swizzle, .. } = descriptor;
        if major == Major::Mn && element_bytes != 2 {
            return Err(DescriptorError::MajorElement { element_bytes });
        }
        let needed = match major {
            Major::K => 32,
            Major::Mn => (mn * element_bytes).min(swizzle.span_bytes()),
        };
        let left = swizzle.span_bytes() - start % swizzle.span_bytes();
        if swizzle != Swizzle::None && left < needed {
            return Err(DescriptorError::RowOverrun { start, left, needed, swizzle });
        }
        Ok(SharedOperand { descriptor, major, mn, element_bytes })
    }

    /// Rows: M or N.
    pub const fn mn(&self) -> u32 {
        self.mn
    }

    /// Depth in elements: 32 bytes of them.
    pub const fn k(&self) -> u32 {
        32 / self.element_bytes
    }

    /// Which dimension is contiguous.
    pub const fn major(&self) -> Major {
        self.major
    }

    /// Bytes of an element.
    pub const fn element_bytes(&self) -> u32 {
        self.element_bytes
    }

    /// The absolute shared byte address of element (mn, k): the canonical layouts of PTX ISA 9.7.15.5.1.2.1.3, whose
    /// swizzle acts on the final address.
    pub const fn element_address(&self, mn: u32, k: u32) -> u32 {
        // Elements in the 16 bytes that swizzling keeps together.
        let t = 16 / self.element_bytes;
        match self.major {
            Major::K => self.chunk_address(mn, k / t) + k % t * self.element_bytes,
            Major::Mn => self.chunk_address(mn / t, k) + mn % t * self.element_bytes,
        }
    }

    /// The address of a 16-byte chunk: of row `outer` its half `inner` if K-major, of step `inner` along k its
    /// `outer`-th chunk if MN-major.
    #[inline(always)]
    pub(super) const fn chunk_address(&self, outer: u32, inner: u32) -> u32 {
        let Descriptor { start, lbo, sbo, swizzle } = self.descriptor;
        let span = swizzle.span_bytes();
        let chunks = span / 16;
        let linear = match (self.major, swizzle) {
            (Major::K, Swizzle::None) => outer % 8 * 16 + outer / 8 * sbo + inner * lbo,
            (Major::K, _) => outer % 8 * span + outer / 8 * sbo + inner * 16,
            (Major::Mn, Swizzle::None) => outer * sbo + inner % 8 * 16 + inner / 8 * lbo,
            (Major::Mn, _) => outer % chunks * 16 + outer / chunks * lbo + inner % 8 * span + inner / 8 * sbo,
        };
        swizzle.apply(start + linear)
    }

    /// The 16-byte chunks the operand touches: their addresses, ascending, each once.
    pub fn chunks(&self) -> Vec<u32> {
        let (outer, inner) = self.chunk_counts();
        let mut chunks: Vec<u32> = (0..outer).flat_map(|o| (0..inner).map(move |i| self.chunk_address(o, i))).collect();
        chunks.sort_unstable();
        chunks.dedup();
        chunks
    }

    /// Extents of the arguments of [`SharedOperand::chunk_address`].
    /// Each 16-byte chunk's address, with the first row (of M or N) it holds elements of.
    pub(crate) fn chunks_by_row(&self) -> impl Iterator<Item = (u32, u32)> {
        let (outer, inner) = self.chunk_counts();
        let rows = match self.major {
            Major::K => 1,
            Major::Mn => 16 / self.element_bytes,
        };
        (0..outer).flat_map(move |o| (0..inner).map(move |i| (self.chunk_address(o, i), o * rows)))
    }

    pub(super) const fn chunk_counts(&self) -> (u32, u32) {
        match self.major {
            Major::K => (self.mn, 2),
            Major::Mn => ((self.mn * self.element_bytes).div_ceil(16), self.k()),
        }
    }
}
