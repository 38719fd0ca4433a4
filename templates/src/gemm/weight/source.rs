//! Where packed weights come from, as data: each source says where the code, the zero point and the scale of a weight lie,
//! once for the host ([`Stored`], the exact definition) and once for kernels ([`SourceTensors`], tiles of them).
//!
//! | source | `code` | zero point | scale |
//! |---|---|---|---|
//! | `int4`, `int8` | `q` U8 `[n, k*bits/8]`, the even column in the low nibble | `zero` U8 `[n, k/g]`, or half the range | `scale` `[n, k/g]` in a's dtype |
//! | `awq` | `qweight` I32 `[k, n/8]`, column `j` of eight in nibble `4 (j%2) + j/2` | `qzeros` I32 `[k/g, n/8]`, likewise | `scales` F16 `[k/g, n]` |
//! | `gptq` | `qweight` I32 `[k*bits/32, n]`, ascending k from the low bits | `qzeros` I32 `[k/g, n*bits/32]`, ascending n, version 1 one less | `scales` F16 `[k/g, n]` |
//!
//! AWQ is the "GEMM" form of AutoAWQ. GPTQ with `g_idx` gives each column of the weight its group; such a weight is packed in the
//! order of `perm` ([`order`]), and the columns of a are permuted likewise. Scales that are F16 where a is BF16 are rounded to BF16.

use super::format::Format;
use crate::gemm::problem::Packed;
use half::{bf16, f16};
use std::fmt;
use std::str::FromStr;
use tilewright_ir::DType;
use tilewright_ir::tile::{Dim, KernelBuilder, RoleBuilder, Scalar, TensorRef, TileRef};

/// A form of weights in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Codes by rows: `q`, `scale`, and with zero points `zero`.
    Raw {
        /// Bits of a code: 4 or 8.
        bits: u32,
        /// Whether there are zero points.
        zero: bool,
    },
    /// An AWQ checkpoint.
    Awq,
    /// A GPTQ checkpoint.
    Gptq {
        /// Bits of a code: 4 or 8.
        bits: u32,
        /// 1 stores zero points less one, 2 as they are.
        version: u32,
    },
}

/// A tensor of a source: name, dtype, rows and columns as expressions of the runtime over `wide` (rows of the weight), `k` and
/// `groups`.
pub struct Part {
    /// Its name, also in files.
    pub name: &'static str,
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: [String; 2],
}

impl Source {
    /// Bits of a code.
    pub fn bits(self) -> u32 {
        match self {
            Source::Raw { bits, .. } | Source::Gptq { bits, .. } => bits,
            Source::Awq => 4,
        }
    }

    /// Whether each group has a zero point of its own.
    pub fn zero(self) -> bool {
        !matches!(self, Source::Raw { zero: false, .. })
    }

    /// Whether it packs so: the same bits, and zero points where it has any, unless every one is half the range.
    pub fn packs_as(self, p: Packed) -> bool {
        self.bits() == p.bits && (self.zero() || !p.zero)
    }

    /// Its tensors; `scale_dtype` is that of a, for sources whose scales have it.
    pub fn parts(self, scale_dtype: DType) -> Vec<Part> {
        let part = |name, dtype, rows: &str, cols: &str| Part { name, dtype, shape: [rows.into(), cols.into()] };
        let per_word = 32 / self.bits();
        match self {
            Source::Raw { bits, zero } => {
                let cols = if bits == 4 { "k/2" } else { "k" };
                let mut list = vec![part("q", DType::U8, "wide", cols), part("scale", scale_dtype, "wide", "groups")];
                list.extend(zero.then(|| part("zero", DType::U8, "wide", "groups")));
                list
            }
            Source::Awq => vec![
                part("qweight", DType::I32, "k", "wide/8"),
                part("qzeros", DType::I32, "groups", "wide/8"),
                part("scales", DType::F16, "groups", "wide"),
            ],
            Source::Gptq { .. } => vec![
                part("qweight", DType::I32, &format!("k/{per_word}"), "wide"),
                part("qzeros", DType::I32, "groups", &format!("wide/{per_word}")),
                part("scales", DType::F16, "groups", "wide"),
            ],
        }
    }

    /// Declares its tensors, each with a leading extent `e`, and the shape variables `wide`, `k`, `groups`.
    pub fn declare(self, k: &mut KernelBuilder, scale_dtype: DType) -> SourceTensors {
        // Columns are shape variables of their own: an extent of a kernel's tensor is a variable or a multiple of one.
        let mut tensor = |name: &str| {
            let part = self.parts(scale_dtype).into_iter().find(|p| p.name == name)?;
            let cols = format!("{name}_cols");
            let rows = format!("{name}_rows");
            k.shape(&rows);
            k.shape(&cols);
            Some((k.tensor(name, part.dtype, [Dim::param("e"), Dim::param(&rows), Dim::param(&cols)]), cols))
        };
        let names = match self {
            Source::Raw { .. } => ["q", "scale", "zero"],
            _ => ["qweight", "scales", "qzeros"],
        };
        let [code, scale, zero] = names.map(&mut tensor);
        let found = "every source has codes and scales";
        SourceTensors { source: self, code: code.expect(found), scale: scale.expect(found), zero }
    }

    /// What a launch sets for the shape variables of [`Self::declare`]: name and expression, over `wide`, `k` and `groups`.
    pub fn sets(self, scale_dtype: DType) -> Vec<(String, String)> {
        let each = |p: Part| {
            let [rows, cols] = p.shape;
            [(format!("{}_rows", p.name), rows), (format!("{}_cols", p.name), cols)]
        };
        self.parts(scale_dtype).into_iter().flat_map(each).collect()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Raw { bits, zero } => write!(f, "int{bits}{}", if *zero { "z" } else { "" }),
            Source::Awq => f.write_str("awq"),
            Source::Gptq { bits, version } => write!(f, "gptq{bits}v{version}"),
        }
    }
}

/// A name of no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("source `{0}`: expected one of int4, int4z, int8, int8z, awq, gptq4v1, gptq4v2, gptq8v1, gptq8v2")]
pub struct UnknownSource(String);

impl FromStr for Source {
    type Err = UnknownSource;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let raw = [4, 8].into_iter().flat_map(|bits| [false, true].map(|zero| Source::Raw { bits, zero }));
        let gptq = [4, 8].into_iter().flat_map(|bits| [1, 2].map(|version| Source::Gptq { bits, version }));
        let mut all = raw.chain([Source::Awq]).chain(gptq);
        all.find(|f| f.to_string() == s).ok_or_else(|| UnknownSource(s.to_string()))
    }
}

/// A weight as a file holds it: little-endian elements of its tensors.
#[derive(Clone, Debug)]
pub struct Stored<'a> {
    /// Its form.
    pub source: Source,
    /// Dtype of `scale` where the source leaves it open: a's.
    pub scale_dtype: DType,
    /// Rows of the weight: output columns, twice for gate and up.
    pub rows: usize,
    /// Its columns.
    pub k: usize,
    /// Neighbours along k that share a scale.
    pub group: usize,
    /// `q` or `qweight`.
    pub codes: &'a [u8],
    /// `scale` or `scales`.
    pub scales: &'a [u8],
    /// `zero` or `qzeros`.
    pub zeros: Option<&'a [u8]>,
    /// The group of each column, where they are not in order.
    pub g_idx: Option<&'a [i32]>,
}

impl Stored<'_> {
    /// The code of a weight.
    pub fn code(&self, row: usize, col: usize) -> u32 {
        let rows = self.rows;
        match self.source {
            Source::Raw { bits: 8, .. } => u32::from(self.codes[row * self.k + col]),
            Source::Raw { .. } => u32::from(self.codes[row * (self.k / 2) + col / 2] >> (4 * (col % 2)) & 15),
            Source::Awq => word(self.codes, col * (rows / 8) + row / 8) >> awq_shift(row) & 15,
            Source::Gptq { bits, .. } => {
                let per = 32 / bits as usize;
                word(self.codes, col / per * rows + row) >> (bits as usize * (col % per)) & ((1 << bits) - 1)
            }
        }
    }

    /// The zero point of a row in a group.
    pub fn zero(&self, row: usize, group: usize) -> u32 {
        let Some(zeros) = self.zeros else { return 1 << (self.source.bits() - 1) };
        match self.source {
            Source::Raw { .. } => u32::from(zeros[row * self.groups() + group]),
            Source::Awq => word(zeros, group * (self.rows / 8) + row / 8) >> awq_shift(row) & 15,
            Source::Gptq { bits, version } => {
                let (per, mask) = (32 / bits as usize, (1 << bits) - 1);
                let stored = word(zeros, group * (self.rows / per) + row / per) >> (bits as usize * (row % per)) & mask;
                if version == 1 { (stored + 1) & mask } else { stored }
            }
        }
    }

    /// The scale of a row in a group, as the file has it.
    pub fn scale(&self, row: usize, group: usize) -> f64 {
        let (at, dtype) = match self.source {
            Source::Raw { .. } => (row * self.groups() + group, self.scale_dtype),
            _ => (group * self.rows + row, DType::F16),
        };
        let bits = u16::from_le_bytes([self.scales[2 * at], self.scales[2 * at + 1]]);
        if dtype == DType::BF16 { bf16::from_bits(bits).to_f64() } else { f16::from_bits(bits).to_f64() }
    }

    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.k.div_ceil(self.group)
    }

    /// The group of a column.
    pub fn group_of(&self, col: usize) -> usize {
        self.g_idx.map_or(col / self.group, |g| g[col] as usize)
    }

    /// The weights `[rows, k]`, columns as in the file: the scale rounded to `dtype`, the product once more.
    pub fn weights(&self, dtype: DType) -> Vec<f64> {
        let round = |x| super::rounded(dtype, x);
        let mut out = Vec::with_capacity(self.rows * self.k);
        for row in 0..self.rows {
            let groups: Vec<(f64, f64)> =
                (0..self.groups()).map(|g| (f64::from(self.zero(row, g)), round(self.scale(row, g)))).collect();
            for col in 0..self.k {
                let (zero, scale) = groups[self.group_of(col)];
                out.push(round((f64::from(self.code(row, col)) - zero) * scale));
            }
        }
        out
    }
}

/// Why columns cannot be put in the order of their groups.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// A number that is no group.
    #[error("element {at} is {value}: there are groups 0 to {last}")]
    Range {
        /// Which element.
        at: usize,
        /// Its value.
        value: i32,
        /// The last group.
        last: usize,
    },
    /// A group with more or fewer columns than the others.
    #[error("group {group} has {found} columns: every group needs {expected}, or groups are not contiguous after sorting")]
    Full {
        /// The group.
        group: usize,
        /// Its columns.
        found: usize,
        /// k over the number of groups.
        expected: usize,
    },
}

/// The order that puts the columns of a weight with `g_idx` in ascending groups, columns of a group as they were: packed column
/// `i` is column `perm[i]`. Every group must have `group` columns.
pub fn order(g_idx: &[i32], group: usize) -> Result<Vec<i32>, OrderError> {
    let groups = g_idx.len().div_ceil(group);
    let mut count = vec![0usize; groups];
    for (at, &value) in g_idx.iter().enumerate() {
        let slot = usize::try_from(value).ok().and_then(|g| count.get_mut(g));
        *slot.ok_or(OrderError::Range { at, value, last: groups - 1 })? += 1;
    }
    if let Some(g) = (0..groups).find(|g| count[*g] != group) {
        return Err(OrderError::Full { group: g, found: count[g], expected: group });
    }
    let mut perm: Vec<i32> = (0..g_idx.len() as i32).collect();
    perm.sort_by_key(|i| g_idx[*i as usize]);
    Ok(perm)
}

/// The tensors of a source in a kernel.
pub struct SourceTensors {
    source: Source,
    code: (TensorRef, String),
    scale: (TensorRef, String),
    zero: Option<(TensorRef, String)>,
}

impl SourceTensors {
    /// Codes at rows and columns (I32 tiles) of weight `e`, 0 where the mask is false.
    pub fn code(&self, r: &mut RoleBuilder, e: Scalar, row: TileRef, col: TileRef, mask: TileRef) -> TileRef {
        match self.source {
            Source::Raw { bits, .. } => {
                let per = 8 / bits;
                let byte = imm(r, "div", col, per.into());
                let byte = self.load(r, &self.code, e, [row, byte], mask);
                if per == 1 {
                    return byte;
                }
                let odd = imm(r, "and", col, 1);
                let shift = imm(r, "mul", odd, 4);
                field(r, byte, shift, bits)
            }
            Source::Awq => {
                let word = imm(r, "div", row, 8);
                let word = self.load(r, &self.code, e, [col, word], mask);
                let shift = awq_shifts(r, row);
                field(r, word, shift, 4)
            }
            Source::Gptq { bits, .. } => {
                let word = imm(r, "div", col, (32 / bits).into());
                let word = self.load(r, &self.code, e, [word, row], mask);
                let shift = place_in_word(r, col, bits);
                field(r, word, shift, bits)
            }
        }
    }

    /// Zero points of rows in groups (I32 tiles), 0 where the mask is false.
    pub fn zero(&self, r: &mut RoleBuilder, e: Scalar, row: TileRef, group: TileRef, mask: TileRef) -> TileRef {
        let Some(zeros) = &self.zero else {
            let middle = r.int(Format::of(self.source.bits()).middle().into());
            return r.splat(middle, r.tile_type(row));
        };
        match self.source {
            Source::Raw { .. } => self.load(r, zeros, e, [row, group], mask),
            Source::Awq => {
                let word = imm(r, "div", row, 8);
                let word = self.load(r, zeros, e, [group, word], mask);
                let shift = awq_shifts(r, row);
                field(r, word, shift, 4)
            }
            Source::Gptq { bits, version } => {
                let word = imm(r, "div", row, (32 / bits).into());
                let word = self.load(r, zeros, e, [group, word], mask);
                let shift = place_in_word(r, row, bits);
                let stored = field(r, word, shift, bits);
                if version == 2 {
                    return stored;
                }
                let next = imm(r, "add", stored, 1);
                imm(r, "and", next, (1 << bits) - 1)
            }
        }
    }

    /// Scales of rows in groups (I32 tiles) as F32, 0 where the mask is false.
    pub fn scale(&self, r: &mut RoleBuilder, e: Scalar, row: TileRef, group: TileRef, mask: TileRef) -> TileRef {
        let at = if matches!(self.source, Source::Raw { .. }) { [row, group] } else { [group, row] };
        self.load(r, &self.scale, e, at, mask)
    }

    /// Elements at rows and columns of a tensor, of matrix `e`.
    fn load(
        &self,
        r: &mut RoleBuilder,
        (tensor, cols): &(TensorRef, String),
        e: Scalar,
        [row, col]: [TileRef; 2],
        mask: TileRef,
    ) -> TileRef {
        let cols = r.param(cols);
        let cols = r.splat(cols, r.tile_type(row));
        let start = r.binary("mul", row, cols);
        let index = r.binary("add", start, col);
        r.load_elems(tensor, &[e], index, Some(mask))
    }
}

/// Each element with a number.
pub fn imm(r: &mut RoleBuilder, f: &str, a: TileRef, v: i64) -> TileRef {
    let v = r.int(v);
    with(r, f, a, v)
}

/// Each element with a scalar.
pub fn with(r: &mut RoleBuilder, f: &str, a: TileRef, v: Scalar) -> TileRef {
    let v = r.splat(v, r.tile_type(a));
    r.binary(f, a, v)
}

/// `bits` bits of each word from `shift` on.
pub fn field(r: &mut RoleBuilder, word: TileRef, shift: TileRef, bits: u32) -> TileRef {
    let low = r.binary("shr", word, shift);
    imm(r, "and", low, (1 << bits) - 1)
}

/// The lowest bit of the code of an index in a word of codes that ascend.
fn place_in_word(r: &mut RoleBuilder, index: TileRef, bits: u32) -> TileRef {
    let place = imm(r, "and", index, i64::from(32 / bits) - 1);
    imm(r, "mul", place, bits.into())
}

/// The lowest bit of AWQ's code of a column.
fn awq_shift(column: usize) -> u32 {
    (16 * (column % 2) + 4 * (column % 8 / 2)) as u32
}

/// As [`awq_shift`] of a tile.
fn awq_shifts(r: &mut RoleBuilder, column: TileRef) -> TileRef {
    let odd = imm(r, "and", column, 1);
    let odd = imm(r, "mul", odd, 16);
    let pair = imm(r, "and", column, 6);
    let pair = imm(r, "mul", pair, 2);
    r.binary("add", odd, pair)
}

/// Word `i` of little-endian bytes.
fn word(bytes: &[u8], i: usize) -> u32 {
    u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back() {
        for name in ["int4", "int4z", "int8", "int8z", "awq", "gptq4v1", "gptq4v2", "gptq8v1", "gptq8v2"] {
            assert_eq!(name.parse::<Source>().map(|s| s.to_string()), Ok(name.to_string()));
        }
        assert!("gptq3v1".parse::<Source>().is_err());
    }

    #[test]
    fn an_order_needs_full_groups() {
        assert_eq!(order(&[1, 0, 0, 1], 2), Ok(vec![1, 2, 0, 3]));
        assert_eq!(order(&[1, 0, 1, 1], 2), Err(OrderError::Full { group: 0, found: 1, expected: 2 }));
        assert_eq!(order(&[1, 0, -1, 1], 2), Err(OrderError::Range { at: 2, value: -1, last: 1 }));
        assert_eq!(order(&[1, 0, 2, 1], 2), Err(OrderError::Range { at: 2, value: 2, last: 1 }));
    }

    #[test]
    fn awq_columns_lie_as_the_checkpoints_have_them() {
        // Nibble i holds column [0, 2, 4, 6, 1, 3, 5, 7][i].
        for (nibble, column) in [0, 2, 4, 6, 1, 3, 5, 7].into_iter().enumerate() {
            assert_eq!(awq_shift(column) as usize, 4 * nibble);
        }
    }
}
