//! Shared-memory tiles and their swizzles: one definition for the tensor map, the wgmma descriptor and the stores.

use super::{Dim, Layout, LayoutError};

/// Shared-memory swizzle of TMA and wgmma, an xor of 16-byte chunk bits with row bits (PTX ISA 5.5.7, swizzling modes).
///
/// It acts on byte addresses, so a tile must start on a multiple of [`Swizzle::pattern_bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Swizzle {
    /// Plain row-major.
    None,
    /// Rows of 32 bytes: bit 4 ^= bit 7.
    B32,
    /// Rows of 64 bytes: bits 4-5 ^= bits 7-8.
    B64,
    /// Rows of 128 bytes: bits 4-6 ^= bits 7-9.
    B128,
}

impl Swizzle {
    /// Every mode, narrowest first.
    pub const ALL: [Swizzle; 4] = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];

    /// The mode with the largest span that divides a row.
    pub fn widest(row_bytes: u32) -> Swizzle {
        let divides = |s: &&Swizzle| s.span_bytes().is_some_and(|span| row_bytes.is_multiple_of(span));
        *Swizzle::ALL.iter().rev().find(divides).unwrap_or(&Swizzle::None)
    }

    /// Bytes of a swizzled row; `None` for [`Swizzle::None`], whose rows may have any length.
    pub fn span_bytes(self) -> Option<u32> {
        match self {
            Swizzle::None => None,
            Swizzle::B32 => Some(32),
            Swizzle::B64 => Some(64),
            Swizzle::B128 => Some(128),
        }
    }

    /// Bytes after which the pattern repeats, and so the alignment that a tile needs: 8 rows, or 16 bytes without swizzle.
    pub fn pattern_bytes(self) -> u32 {
        self.span_bytes().map_or(16, |span| 8 * span)
    }

    /// Where the byte at linear address `byte` lies. Linear over xor, and its own inverse.
    pub fn apply(self, byte: u32) -> u32 {
        let chunk_bits = match self {
            Swizzle::None => 0x00,
            Swizzle::B32 => 0x10,
            Swizzle::B64 => 0x30,
            Swizzle::B128 => 0x70,
        };
        byte ^ (byte >> 3 & chunk_bits)
    }

    /// The swizzle as a map of the low ten address bits, `{byte} -> {byte}`.
    pub fn layout(self) -> Layout {
        Layout::onto([Dim::Byte])
            .bits(Dim::Byte, (0..10).map(|bit| (Dim::Byte, self.apply(1 << bit))))
            .build()
            .expect("ten bases of ten bits")
    }
}

/// A tile in shared memory, `{row col} -> {byte}`, as TMA writes it with one box per panel.
///
/// A row longer than the swizzle span is split into column panels of `rows` x span bytes, each packed, one after the other:
/// panel `p` starts at `p * rows * span`, and within it byte `b` of row `r` lies at `swizzle(r * span + b)`.
/// Without swizzle there is one panel of whole rows.
///
/// # Errors
/// `elem_bytes` not 1, 2, 4, 8 or 16; with a swizzle, `rows` not a multiple of 8 (the pattern) or a row not a multiple of
/// the span.
///
/// # Example
/// ```
/// use tilewright_ir::layout::{Swizzle, smem_tile};
/// let tile = smem_tile(64, 192, 2, Swizzle::B128)?; // bf16: three panels of 64 x 64
/// assert_eq!(tile.apply(&[1, 0])[0], 128 + 16);
/// assert_eq!(tile.apply(&[0, 64])[0], 64 * 128);
/// # Ok::<(), tilewright_ir::layout::LayoutError>(())
/// ```
pub fn smem_tile(rows: u32, cols: u32, elem_bytes: u32, swizzle: Swizzle) -> Result<Layout, LayoutError> {
    if !elem_bytes.is_power_of_two() || elem_bytes > 16 {
        return Err(shape("elem_bytes", elem_bytes, "is not 1, 2, 4, 8 or 16: view the tile as bytes"));
    }
    let row_bytes = cols.saturating_mul(elem_bytes);
    let (row, col, byte) = (Dim::Row, Dim::Col, Dim::Byte);
    let tile = Layout::onto([byte]);
    let Some(span) = swizzle.span_bytes() else {
        return tile.outer(row, rows, [(byte, row_bytes)]).outer(col, cols, [(byte, elem_bytes)]).build();
    };
    if !rows.is_multiple_of(8) {
        return Err(shape("rows", rows, "is not a multiple of 8: a swizzle repeats every 8 rows, pad or use Swizzle::None"));
    }
    if !row_bytes.is_multiple_of(span) {
        let rule = format!("is not a multiple of the {span}-byte span: use {:?}", Swizzle::widest(row_bytes));
        return Err(LayoutError::Shape { what: "row bytes", value: row_bytes, rule });
    }
    tile.bits(row, (0..3).map(|bit| (byte, swizzle.apply(span << bit))))
        .outer(row, rows / 8, [(byte, 8 * span)])
        .bits(col, (0..(span / elem_bytes).ilog2()).map(|bit| (byte, swizzle.apply(elem_bytes << bit))))
        .outer(col, row_bytes / span, [(byte, rows.saturating_mul(span))])
        .build()
}

fn shape(what: &'static str, value: u32, rule: &str) -> LayoutError {
    LayoutError::Shape { what, value, rule: rule.to_owned() }
}
