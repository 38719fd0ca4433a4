//! From codes to an MMA operand, in registers.
//!
//! Chunks of codes ([`super::block`]) become an A operand of 64 rows: the words are masked into the mantissas of floats whose
//! exponent makes a unit of the mantissa a unit of the number ("magic numbers"), the bias and the zero point are subtracted,
//! which is exact, and the product with the scale is the one rounding.
//!
//! | codes | a | integer instructions a weight | others a weight |
//! |---|---|---|---|
//! | 4 bits | bf16 | 7/8: three shifts and four masks a word of eight | 1 (subtract, multiply, in pairs) |
//! | 4 bits | f16 | 5/8: one shift, the upper nibbles stay where they are and weigh 16 | 1 (fused multiply-add, multiply) |
//! | 8 bits | f16 | 1/2: a byte permutation makes a pair | 1 |
//! | 8 bits | bf16 | 1: eight bits and the leading one do not fit its mantissa, so each goes through an f32 | 2 |

use super::format::Format;
use crate::gemm::problem::Packed;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked, row_group_words, row_groups, wgmma_a};
use tilewright_ir::tile::{RegTile, RoleBuilder, TileRef};

/// Some columns of a block on their way through registers.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its words: I32 `[128 * chunks, 4]`, each lane its four of each chunk.
    pub words: RegTile,
    /// Words of the scales (and of the zeros) of the groups that lie in it, or of the one it lies in: I32 `[groups, 32]`.
    pub factor_words: RegTile,
    factors: RegTile,
    operand: RegTile,
    packed: Packed,
}

impl Span {
    /// The types for `cols` columns (whole chunks, and whole groups or part of one) decoded to `dtype` (BF16 or F16).
    ///
    /// # Errors
    /// Columns that are not whole chunks.
    pub fn new(packed: Packed, dtype: DType, cols: u32) -> Result<Self, LayoutError> {
        let chunks = cols / Format::of(packed.bits).chunk_k as u32;
        let groups = (cols / packed.group).max(1);
        let tile = |dtype, shape, layout| RegTile { dtype, shape, layout };
        Ok(Span {
            words: tile(DType::I32, [128 * chunks, 4], blocked(128, [128 * chunks, 4], 4)?),
            factor_words: tile(DType::I32, [groups, 32], row_group_words(groups)?),
            factors: tile(dtype, [64, groups], row_groups(groups)?),
            operand: tile(dtype, [64, cols], wgmma_a(64, cols, 1)?),
            packed,
        })
    }

    /// The weights as an A operand `[64, cols]`: from the words of codes, of scales and, where the format has them, of zeros.
    #[track_caller]
    pub fn decode(&self, r: &mut RoleBuilder, words: TileRef, scales: TileRef, zeros: Option<TileRef>) -> TileRef {
        let dtype = self.operand.dtype;
        let zeros = match zeros {
            Some(words) => r.reinterpret(&[words], self.factors.clone()),
            None => {
                let f = Format::of(self.packed.bits);
                let zero = r.float((f.bias(dtype) + f.middle()) as f32);
                r.splat(zero, self.factors.clone())
            }
        };
        let exact = match (self.packed.bits, dtype) {
            (4, DType::F16) => self.nibbles_in_place(r, words, zeros),
            (4, _) => self.nibbles(r, words, zeros),
            (_, DType::F16) => self.bytes(r, words, zeros),
            _ => self.bytes_through_f32(r, words, zeros),
        };
        let scales = r.reinterpret(&[scales], self.factors.clone());
        let scales = r.broadcast(scales, self.operand.clone());
        r.binary("mul", exact, scales)
    }

    /// Pairs of nibbles, shifted down.
    fn nibbles(&self, r: &mut RoleBuilder, words: TileRef, zeros: TileRef) -> TileRef {
        let pairs: Vec<_> = (0..4).map(|j| masked(r, words, 4 * j, 0x000F_000F, 0x4300_4300)).collect();
        let x = r.reinterpret(&pairs, self.operand.clone());
        let zeros = r.broadcast(zeros, self.operand.clone());
        r.binary("sub", x, zeros)
    }

    /// Nibbles 0 and 4 of each sixteen bits as they lie: the upper ones count sixteenfold. Those are the rows eight further
    /// down, so what undoes it goes with the rows: `x / 16 - (64 + zero)` there, `x - (1024 + zero)` in the others.
    fn nibbles_in_place(&self, r: &mut RoleBuilder, words: TileRef, zeros: TileRef) -> TileRef {
        let pairs: Vec<_> = (0..4)
            .map(|j| masked(r, words, 8 * (j / 2), if j % 2 == 0 { 0x000F_000F } else { 0x00F0_00F0 }, 0x6400_6400))
            .collect();
        let x = r.reinterpret(&pairs, self.operand.clone());
        // Low half: this row; high half: eight rows down. 1 and 1/16; 0 and 1024 - 64; minus one.
        let by = self.rows(r, 0x2C00_3C00);
        let back = self.rows(r, 0x6380_0000);
        let minus = self.rows(r, 0xBC00_BC00);
        let zeros = r.fma(zeros, minus, back);
        let (by, zeros) = (r.broadcast(by, self.operand.clone()), r.broadcast(zeros, self.operand.clone()));
        r.fma(x, by, zeros)
    }

    /// Two bytes become the mantissas of two halves.
    fn bytes(&self, r: &mut RoleBuilder, words: TileRef, zeros: TileRef) -> TileRef {
        let magic = r.splat_int(0x6464_6464, words);
        let pairs = [0x4140, 0x4342].map(|s| r.permute_bytes(words, magic, s));
        let x = r.reinterpret(&pairs, self.operand.clone());
        let zeros = r.broadcast(zeros, self.operand.clone());
        r.binary("sub", x, zeros)
    }

    /// Each byte becomes the mantissa of 2^23; differences of eight bits are bf16 numbers.
    fn bytes_through_f32(&self, r: &mut RoleBuilder, words: TileRef, zeros: TileRef) -> TileRef {
        const MAGIC: f32 = 8_388_608.0;
        let wide = RegTile { dtype: DType::F32, ..self.operand.clone() };
        let magic = r.splat_int(i64::from(MAGIC.to_bits()), words);
        let singles = [0x7440, 0x7441, 0x7442, 0x7443].map(|s| r.permute_bytes(words, magic, s));
        let x = r.reinterpret(&singles, wide.clone());
        let zeros = r.cast(zeros, DType::F32);
        let magic = r.splat_f32(MAGIC, zeros);
        let zeros = r.binary("add", zeros, magic);
        let zeros = r.broadcast(zeros, wide);
        let x = r.binary("sub", x, zeros);
        r.cast(x, self.operand.dtype)
    }

    /// The same pair of halves for every pair of rows.
    fn rows(&self, r: &mut RoleBuilder, pair: u32) -> TileRef {
        let bits = r.int(i64::from(pair as i32));
        let words = r.splat(bits, self.factor_words.clone());
        r.reinterpret(&[words], self.factors.clone())
    }
}

/// `(words >> by) & mask | magic`.
fn masked(r: &mut RoleBuilder, words: TileRef, by: i64, mask: i64, magic: i64) -> TileRef {
    let mut x = words;
    if by > 0 {
        let by = r.splat_int(by, words);
        x = r.binary("shr", x, by);
    }
    let (mask, magic) = (r.splat_int(mask, words), r.splat_int(magic, words));
    r.bitwise(x, mask, magic, 0xF0 & 0xCC | 0xAA)
}
