//! The packed weight, as functions: blocks of 64 rows (n) by 128 columns (k), in each the codes in the order of MMA
//! fragments, then the scales, then the zero points.
//!
//! `packed` is I32 `[blocks_n, blocks_k, words]`. Words of a block, in this order:
//!
//! 1. **Codes**, in chunks of 512 words that cover 64 rows by [`Format::chunk_k`] columns. A chunk is 128 times four words, one vector
//!    for each lane of a warpgroup; which codes a word holds is the format's ([`Format::word`]). So a lane's part of an m64k16
//!    A fragment lies together, and a block is one bulk copy.
//! 2. **Scales**: for each group, ascending in k, 32 words; word `8 w + g` holds the scale of row `16 w + g` in its low half and of row
//!    `16 w + g + 8` in its high half, as floats of a's dtype: the two rows of lanes `4 g .. 4 g + 4` of warp w.
//! 3. **Zeros**, only with zero points: the same, each half the number `bias + zero` ([`Format::bias`]).
//!
//! A weight is `(code - zero) * scale`, rounded once to a's dtype. What lies outside the matrix has scale +0 and a code equal
//! to its zero point; in a group that reaches past k only the codes do, so that its weights there are 0 too.
//!
//! With gate and up (`gates` = 2) blocks of rows alternate: block `2 j` holds gate rows from `64 j` on, block `2 j + 1` the up rows.

use super::format::Format;
use crate::gemm::problem::Packed;
use half::{bf16, f16};
use tilewright_ir::DType;

/// Rows of a block.
pub const ROWS: usize = 64;
/// Columns of a block.
pub const COLS: usize = 128;
/// Words of a chunk of codes, and of the vectors of one warpgroup.
pub const CHUNK: usize = 512;
/// Words of the scales of one group of a block.
pub const RUN: usize = ROWS / 2;

/// Sizes of a packed weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// How it is stored.
    pub packed: Packed,
    /// Output columns.
    pub n: usize,
    /// Columns of the weight.
    pub k: usize,
    /// Rows of the weight for one output column: 2 for gate and up.
    pub gates: usize,
}

impl Blocks {
    /// The format of its codes.
    pub fn format(&self) -> &'static Format {
        Format::of(self.packed.bits)
    }

    /// Blocks along the rows of the weight.
    pub fn along_n(&self) -> usize {
        self.gates * self.n.div_ceil(ROWS)
    }

    /// Blocks along k.
    pub fn along_k(&self) -> usize {
        self.k.div_ceil(COLS)
    }

    /// Words of all blocks.
    pub fn len(&self) -> usize {
        self.along_n() * self.along_k() * words(self.packed) as usize
    }

    /// True of a matrix without rows or columns.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The block of a row of the weight (gate rows, then up rows) and the row in it.
    pub fn row(&self, row: usize) -> (usize, usize) {
        let (gate, j) = (row / self.n, row % self.n);
        (j / ROWS * self.gates + gate, j % ROWS)
    }

    /// Word and bit of the code at a row and a column of the weight.
    pub fn code_at(&self, row: usize, col: usize) -> (usize, u32) {
        let (block, row) = self.row(row);
        let (word, shift) = self.format().place(row, col % COLS);
        (self.start(block, col / COLS) + word, shift)
    }

    /// Word and bit of the scale of a row in the packed group of a column.
    pub fn scale_at(&self, row: usize, col: usize) -> (usize, u32) {
        let (block, row) = self.row(row);
        let run = (col % COLS) / self.packed.group as usize;
        let codes = code_words(self.packed) as usize;
        let word = codes + run * RUN + 8 * (row / 16) + row % 8;
        (self.start(block, col / COLS) + word, 16 * (row / 8 % 2) as u32)
    }

    /// Word and bit of the zero point of a row in the packed group of a column, where there are zero points.
    pub fn zero_at(&self, row: usize, col: usize) -> (usize, u32) {
        let (word, shift) = self.scale_at(row, col);
        (word + scale_words(self.packed) as usize, shift)
    }

    /// First word of a block.
    fn start(&self, block_n: usize, block_k: usize) -> usize {
        (block_n * self.along_k() + block_k) * words(self.packed) as usize
    }
}

/// Words of the codes of a block.
pub fn code_words(p: Packed) -> u32 {
    (ROWS * COLS) as u32 * p.bits / 32
}

/// Words of the scales of a block.
pub fn scale_words(p: Packed) -> u32 {
    (RUN * COLS) as u32 / p.group
}

/// Words of a block.
pub fn words(p: Packed) -> u32 {
    code_words(p) + scale_words(p) * (1 + u32::from(p.zero))
}

/// The group that a weight with groups of `group` packs as: the largest of 128, 64, 32 and 16 that divides it; 128 where a row has
/// one group. `None` where none divides it.
pub fn packed_group(group: usize, k: usize) -> Option<u32> {
    if group >= k { Some(128) } else { [128, 64, 32, 16].into_iter().find(|g| group.is_multiple_of(*g as usize)) }
}

/// Packs a weight: `codes` `[gates*n, k]`, `scales` and `zeros` `[gates*n, ceil(k/group)]`, gate rows first. Without `zeros` the zero point is half
/// the range of the codes, also where the packed form spells zero points out.
///
/// Written from the places of codes, where the kernels go by words: each is the other's witness.
///
/// # Panics
/// If sizes do not fit each other, a code has more bits than the format, or `p.group` does not divide `group`.
pub fn pack(
    p: Packed,
    dtype: DType,
    n: usize,
    k: usize,
    gates: usize,
    group: usize,
    codes: &[u8],
    scales: &[f32],
    zeros: Option<&[u8]>,
) -> Vec<i32> {
    let blocks = Blocks { packed: p, n, k, gates };
    check(p, n * gates, k, group, codes, scales, zeros);
    let (format, groups, pg) = (blocks.format(), k.div_ceil(group), p.group as usize);
    let zero = |row: usize, col: usize| zeros.map_or(format.middle(), |z| u32::from(z[row * groups + col / group]));
    // Outside: codes equal to the zero point, the default one but in a group that begins inside.
    let mut out = vec![0u32; blocks.len()];
    let mut put = |(word, shift): (usize, u32), bits: u32| out[word] |= bits << shift;
    for block in 0..blocks.along_n() {
        for r in 0..ROWS {
            let (gate, j) = (block % gates, block / gates * ROWS + r);
            for col in 0..blocks.along_k() * COLS {
                let at = blocks.start(block, col / COLS);
                let place = |(word, shift): (usize, u32)| (at + word, shift);
                let row = (j < n).then_some(gate * n + j);
                let first = col / pg * pg;
                let z = row.filter(|_| first < k).map_or(format.middle(), |row| zero(row, first));
                let code = row.filter(|_| col < k).map_or(z, |row| u32::from(codes[row * k + col]));
                put(place(format.place(r, col % COLS)), code);
                if col == first {
                    let scale = row.filter(|_| col < k).map_or(0.0, |row| scales[row * groups + col / group]);
                    let (word, shift) =
                        (code_words(p) as usize + (col % COLS) / pg * RUN + 8 * (r / 16) + r % 8, 16 * (r as u32 / 8 % 2));
                    put(place((word, shift)), u32::from(bits(dtype, scale)));
                    if p.zero {
                        let biased = (format.bias(dtype) + z) as f32;
                        put(place((word + scale_words(p) as usize, shift)), u32::from(bits(dtype, biased)));
                    }
                }
            }
        }
    }
    out.into_iter().map(|w| w as i32).collect()
}

/// The weights `[gates*n, k]` that a packed weight stands for, rounded to a's dtype.
///
/// # Panics
/// If `packed` is not as long as the sizes say.
pub fn unpack(p: Packed, dtype: DType, n: usize, k: usize, gates: usize, packed: &[i32]) -> Vec<f64> {
    let blocks = Blocks { packed: p, n, k, gates };
    assert_eq!(packed.len(), blocks.len(), "words of a packed weight");
    let format = blocks.format();
    let half = |(word, shift): (usize, u32)| number(dtype, (packed[word] as u32 >> shift) as u16);
    let mut out = Vec::with_capacity(n * gates * k);
    for row in 0..n * gates {
        for col in 0..k {
            let (word, shift) = blocks.code_at(row, col);
            let code = packed[word] as u32 >> shift & ((1 << p.bits) - 1);
            let zero =
                if p.zero { half(blocks.zero_at(row, col)) - f64::from(format.bias(dtype)) } else { f64::from(format.middle()) };
            out.push(rounded(dtype, (f64::from(code) - zero) * half(blocks.scale_at(row, col))));
        }
    }
    out
}

/// The weights `[gates*n, k]` that codes, scales and zero points stand for, from the definition: scales rounded to a's dtype, the
/// product rounded to it once more.
///
/// # Panics
/// As [`pack`].
pub fn dequantised(
    p: Packed,
    dtype: DType,
    n: usize,
    k: usize,
    gates: usize,
    group: usize,
    codes: &[u8],
    scales: &[f32],
    zeros: Option<&[u8]>,
) -> Vec<f64> {
    check(p, n * gates, k, group, codes, scales, zeros);
    let groups = k.div_ceil(group);
    let one = |i: usize| {
        let at = i / k * groups + i % k / group;
        let zero = zeros.map_or(f64::from(1u32 << (p.bits - 1)), |z| f64::from(z[at]));
        rounded(dtype, (f64::from(codes[i]) - zero) * rounded(dtype, f64::from(scales[at])))
    };
    (0..n * gates * k).map(one).collect()
}

/// The 16-bit float next to a number, as a number.
pub fn rounded(dtype: DType, x: f64) -> f64 {
    if dtype == DType::BF16 { bf16::from_f64(x).to_f64() } else { f16::from_f64(x).to_f64() }
}

/// Bits of a 16-bit float.
fn bits(dtype: DType, x: f32) -> u16 {
    if dtype == DType::BF16 { bf16::from_f32(x).to_bits() } else { f16::from_f32(x).to_bits() }
}

/// The number behind the bits of a 16-bit float.
fn number(dtype: DType, bits: u16) -> f64 {
    if dtype == DType::BF16 { bf16::from_bits(bits).to_f64() } else { f16::from_bits(bits).to_f64() }
}

fn check(p: Packed, rows: usize, k: usize, group: usize, codes: &[u8], scales: &[f32], zeros: Option<&[u8]>) {
    assert_eq!(codes.len(), rows * k, "codes of {rows} rows of {k}");
    assert_eq!(scales.len(), rows * k.div_ceil(group), "scales of {rows} rows in groups of {group}");
    assert!(
        zeros.is_none_or(|z| p.zero && z.len() == scales.len()),
        "zero points: one for each scale, in a packed form that has them"
    );
    let fits = |c: &u8| u32::from(*c) < 1 << p.bits;
    assert!(codes.iter().all(fits) && zeros.is_none_or(|z| z.iter().all(fits)), "codes and zero points have {} bits", p.bits);
    assert!(group >= k || group.is_multiple_of(p.group as usize), "groups of {group} packed as {}", p.group);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(u32, u32, bool); 6] =
        [(4, 128, false), (4, 32, true), (4, 16, true), (8, 64, false), (8, 32, true), (8, 128, true)];

    #[test]
    fn a_block_has_the_words_of_its_parts() {
        let count = |bits, group, zero| words(Packed { bits, group, zero });
        assert_eq!([count(4, 128, false), count(4, 128, true), count(4, 32, true)], [1056, 1088, 1280]);
        assert_eq!([count(8, 128, false), count(8, 16, true)], [2080, 2560]);
    }

    #[test]
    fn places_of_a_block_fill_its_codes_exactly() {
        for bits in [4, 8] {
            let format = Format::of(bits);
            let mut seen = vec![false; ROWS * COLS];
            for row in 0..ROWS {
                for col in 0..COLS {
                    let (word, shift) = format.place(row, col);
                    let slot = word * (32 / bits as usize) + (shift / bits) as usize;
                    assert!(!std::mem::replace(&mut seen[slot], true), "{bits} bits: {row}, {col}");
                    let values = format.word(word % CHUNK);
                    let found = values.iter().find(|v| v.shift == shift).expect("every slot has a value");
                    assert_eq!((found.row, found.col + word / CHUNK * format.chunk_k), (row, col));
                }
            }
        }
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        let mut state = 1u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 16
        };
        for (bits, pg, zero) in ALL {
            for dtype in [DType::BF16, DType::F16] {
                for (n, k, gates, group) in
                    [(1usize, 1usize, 1usize, 1usize), (70, 300, 2, 300), (65, 384, 1, 128), (64, 128, 2, 128)]
                {
                    let p = Packed { bits, group: if group >= k { 128 } else { pg }, zero };
                    let (rows, groups) = (n * gates, k.div_ceil(group));
                    let mut below = |count: usize, end: u32| (0..count).map(|_| (random() % end) as u8).collect::<Vec<u8>>();
                    let codes = below(rows * k, 1 << bits);
                    let zeros = zero.then(|| below(rows * groups, 1 << bits));
                    let scales: Vec<f32> = below(rows * groups, 256).into_iter().map(|s| f32::from(s) / 977.0).collect();
                    let packed = pack(p, dtype, n, k, gates, group, &codes, &scales, zeros.as_deref());
                    let want = dequantised(p, dtype, n, k, gates, group, &codes, &scales, zeros.as_deref());
                    assert_eq!(unpack(p, dtype, n, k, gates, &packed), want, "{p:?} {dtype} {n} {k} {gates} {group}");
                }
            }
        }
    }

    #[test]
    fn groups_pack_as_what_divides_them() {
        assert_eq!([32, 64, 96, 128, 256, 48].map(|g| packed_group(g, 4096)), [32, 64, 32, 128, 128, 16].map(Some));
        assert_eq!((packed_group(3884, 3884), packed_group(24, 48), packed_group(5, 5)), (Some(128), None, Some(128)));
    }
}
