//! The shared-memory address swizzles of TMA and wgmma (PTX ISA 5.5.7, "Swizzling Modes").

/// Which 16-byte chunks of a 128-byte line are exchanged, as a function of the line's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Swizzle {
    /// Addresses stay as they are.
    #[default]
    None,
    /// Two chunks of 16 bytes, a pattern of 256 bytes.
    B32,
    /// Four chunks of 16 bytes, a pattern of 512 bytes.
    B64,
    /// Eight chunks of 16 bytes, a pattern of 1024 bytes.
    B128,
}

impl Swizzle {
    /// Every mode, narrow to wide.
    pub const ALL: [Swizzle; 4] = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];

    /// The byte address that the byte at the absolute shared address `addr` moves to: address bits 4.. are XORed
    /// with bits 7.., one, two or three of them. Its own inverse; the 16 bytes of a chunk stay together.
    #[inline]
    pub const fn apply(self, addr: u32) -> u32 {
        addr ^ (((addr >> 7) & (self.chunks() - 1)) << 4)
    }

    /// Bytes within which chunks are exchanged: 16 (nothing to exchange), 32, 64 or 128. Also the longest inner
    /// extent of a TMA box in this mode, where there is a mode.
    #[inline]
    pub const fn span_bytes(self) -> u32 {
        16 * self.chunks()
    }

    /// Bytes after which the pattern repeats, which is the alignment a tile in this mode needs: 16, 256, 512 or 1024.
    pub const fn pattern_bytes(self) -> u32 {
        match self {
            Swizzle::None => 16,
            Swizzle::B32 | Swizzle::B64 | Swizzle::B128 => 128 * self.chunks(),
        }
    }

    #[inline(always)]
    const fn chunks(self) -> u32 {
        match self {
            Swizzle::None => 1,
            Swizzle::B32 => 2,
            Swizzle::B64 => 4,
            Swizzle::B128 => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `Swizzle<B, 4, 3>` of CuTe, bit by bit.
    fn cute(bits: u32, addr: u32) -> u32 {
        (0..bits).fold(addr, |moved, bit| moved ^ (((addr >> (7 + bit)) & 1) << (4 + bit)))
    }

    #[test]
    fn tensor_swizzle_is_cute_swizzle() {
        for (bits, mode) in Swizzle::ALL.into_iter().enumerate() {
            for addr in 0..8192 {
                assert_eq!(mode.apply(addr), cute(bits as u32, addr), "{mode:?} {addr:#x}");
                assert_eq!(mode.apply(mode.apply(addr)), addr);
            }
        }
    }

    /// The first pattern of PTX ISA 5.5.7 in 128-byte mode: chunk c of line i is found at chunk c ^ i.
    #[test]
    fn tensor_swizzle_128_line_by_line() {
        for line in 0..8 {
            for chunk in 0..8 {
                assert_eq!(Swizzle::B128.apply(line * 128 + chunk * 16 + 5), line * 128 + (chunk ^ line) * 16 + 5);
            }
        }
    }

    #[test]
    fn tensor_swizzle_pattern_repeats() {
        for mode in Swizzle::ALL {
            let pattern = mode.pattern_bytes();
            for addr in 0..2048 {
                assert_eq!(mode.apply(addr + pattern), mode.apply(addr) + pattern);
                assert_eq!(mode.apply(addr) / mode.span_bytes(), addr / mode.span_bytes());
            }
        }
        assert_eq!(Swizzle::ALL.map(Swizzle::span_bytes), [16, 32, 64, 128]);
        assert_eq!(Swizzle::ALL.map(Swizzle::pattern_bytes), [16, 256, 512, 1024]);
    }
}
