//! `mma.sp`: A holds half of each row, and metadata says which half (PTX ISA 9.7.14.6).
//!
//! A row's metadata is a string of 4-bit codes, one for each chunk of a row: of four elements, two of which are stored;
//! for tf32 of two with one stored; for 4-bit types of eight, where pairs take the place of elements. A group of four
//! lanes holds rows g and g + 8 of it. For types of 16 and 32 bits each lane in turn has 16 bits of both rows, that of
//! g + 8 in the upper half; for narrower types lanes in turn have 32 bits of row g and of row g + 8.

use super::element::ElementType;
use super::fragment::{b_element, elements_per_register};
use super::mma::{MmaError, MmaKind, mma};
use super::{Arithmetic, WarpReg};

/// An `mma.sp` of one warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SparseKind {
    /// The dense kind of half the depth: it has the operands A, C and D, and the sums, of this one.
    pub half: MmaKind,
    /// `.sp::ordered_metadata`: indices must ascend.
    pub ordered: bool,
}

/// A code of metadata whose effect is undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCode {
    /// Lane that holds it.
    pub lane: u32,
    /// Row of A.
    pub row: u32,
    /// The four bits.
    pub code: u32,
}

impl SparseKind {
    /// The kind of `mma.` followed by these modifiers, e.g. `sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32`, split at
    /// the dots.
    ///
    /// # Errors
    /// If it is not a form of PTX ISA 9.7.14.6.3, or one that is not emulated (types of 6 and 4 bits other than
    /// integers, block scaling).
    pub fn parse(modifiers: &[&str]) -> Result<SparseKind, MmaError> {
        let unsupported = |reason: String| MmaError::Unsupported { modifiers: modifiers.join("."), reason };
        let (ordered, rest) = match modifiers {
            ["sp", rest @ ..] => (false, rest),
            ["sp::ordered_metadata", rest @ ..] => (true, rest),
            _ => return Err(unsupported("expected sp or sp::ordered_metadata".into())),
        };
        let depth = rest.get(2).and_then(|shape| shape.strip_prefix("m16n8k")).and_then(|k| k.parse::<u32>().ok());
        let Some(depth) = depth else { return Err(unsupported("expected a shape m16n8k".into())) };
        let half_shape = format!("m16n8k{}", depth / 2);
        let mut dense = rest.to_vec();
        dense[2] = &half_shape;
        let half = MmaKind::parse(&dense).map_err(|error| match error {
            MmaError::Unsupported { reason, .. } => unsupported(format!("as dense {half_shape}, its half: {reason}")),
            other => other,
        })?;
        let float8 = matches!(half.a, ElementType::E4m3 | ElementType::E5m2);
        if half.a == ElementType::F64 || depth % 2 != 0 || float8 && depth != 64 {
            return Err(unsupported(format!("{} is not multiplied so", half.a)));
        }
        Ok(SparseKind { half, ordered })
    }

    /// Depth, with the elements that are left out.
    pub const fn k(&self) -> u32 {
        2 * self.half.k
    }

    /// Words of B in each lane.
    pub const fn b_regs(&self) -> usize {
        2 * self.half.b_regs()
    }

    /// Lanes of each four that hold metadata.
    pub const fn contributors(&self) -> u32 {
        // Both rows' codes, 32 bits to a lane.
        2 * self.codes_in_a_row() * 4 / 32
    }

    /// Values that the selector may have.
    pub const fn selectors(&self) -> u32 {
        4 / self.contributors()
    }

    const fn codes_in_a_row(&self) -> u32 {
        match self.half.a.bits() {
            4 => self.k() / 8,
            32 => self.k() / 2,
            _ => self.k() / 4,
        }
    }

    /// Whether a lane's metadata is read.
    pub const fn contributes(&self, selector: u32, lane: u32) -> bool {
        lane % 4 / self.contributors() == selector
    }

    /// Lane and first bit of a row's n-th code.
    const fn place(&self, selector: u32, row: u32, code: u32) -> [u32; 2] {
        let first = row % 8 * 4 + selector * self.contributors();
        let bit = 4 * code;
        if self.half.a.bits() >= 16 {
            [first + bit / 16, bit % 16 + row / 8 * 16]
        } else {
            [first + bit / 32 * 2 + row / 8, bit % 32]
        }
    }

    fn code(&self, selector: u32, metadata: &WarpReg, row: u32, code: u32) -> u32 {
        let [lane, bit] = self.place(selector, row, code);
        metadata[lane as usize] >> bit & 0xf
    }

    /// Where along k the n-th stored element of a row is.
    fn position(&self, selector: u32, metadata: &WarpReg, row: u32, stored: u32) -> u32 {
        let index = |units: u32| {
            let code = self.code(selector, metadata, row, units / 2);
            4 * (units / 2) + (code >> (2 * (units % 2)) & 3)
        };
        match self.half.a.bits() {
            // Pairs of elements are what is indexed.
            4 => 2 * index(stored / 2) + stored % 2,
            // An element is two halves, both of which are named: 0b0100 or 0b1110.
            32 => index(2 * stored) / 2,
            _ => index(stored),
        }
    }

    /// The first code without a meaning.
    pub fn bad_code(&self, selector: u32, metadata: &WarpReg) -> Option<BadCode> {
        for row in 0..16 {
            for number in 0..self.codes_in_a_row() {
                let code = self.code(selector, metadata, row, number);
                let (low, high) = (code & 3, code >> 2);
                let good = if self.half.a == ElementType::Tf32 {
                    matches!(code, 0b0100 | 0b1110)
                } else if self.ordered {
                    low < high
                } else {
                    low != high
                };
                if !good {
                    return Some(BadCode { lane: self.place(selector, row, number)[0], row, code });
                }
            }
        }
        None
    }
}

/// `D = A * B + C` for one converged warp. Elements that A leaves out take no part: an infinity in B meets no zero
/// there. The stored products are summed as the dense instruction of half the depth does; of the tensor cores' own
/// sparse sums the bits are not known.
///
/// # Errors
/// If an operand has another number of words than its kind.
pub fn mma_sp(
    kind: &SparseKind,
    selector: u32,
    arithmetic: Arithmetic,
    [a, b, c]: [&[WarpReg]; 3],
    metadata: &WarpReg,
    d: &mut [WarpReg],
) -> Result<(), MmaError> {
    let half = &kind.half;
    if b.len() != kind.b_regs() {
        return Err(MmaError::RegisterCount { kind: *half, operand: 'b', want: kind.b_regs(), got: b.len() });
    }
    let bits = half.b.bits();
    let each = elements_per_register(bits);
    let mask = u32::MAX >> (32 - bits);
    // b[k][column]
    let mut dense = [[0u32; 8]; 128];
    for (reg, words) in b.iter().enumerate() {
        for (lane, word) in words.iter().enumerate() {
            for j in 0..each {
                let [column, k] = b_element(bits, lane as u32, reg as u32, j);
                dense[k as usize][column as usize] = word >> (bits * j) & mask;
            }
        }
    }
    // Each row of A has its own rows of B: one product for each, of which one row is kept.
    let mut out = [[0; 32]; 4];
    let out = &mut out[..half.d_regs()];
    let per_slab = half.d_regs() / 2;
    for row in 0..16 {
        let mut own = [[0; 32]; 2];
        let own = &mut own[..half.b_regs()];
        for (reg, words) in own.iter_mut().enumerate() {
            for (lane, word) in words.iter_mut().enumerate() {
                for j in 0..each {
                    let [column, stored] = b_element(bits, lane as u32, reg as u32, j);
                    let k = kind.position(selector, metadata, row, stored);
                    *word |= dense[k as usize][column as usize] << (bits * j);
                }
            }
        }
        mma(half, arithmetic, a, own, c, out)?;
        let registers = per_slab * (row as usize / 8)..per_slab * (row as usize / 8 + 1);
        let lanes = row as usize % 8 * 4..row as usize % 8 * 4 + 4;
        for register in registers {
            d[register][lanes.clone()].copy_from_slice(&out[register][lanes.clone()]);
        }
    }
    Ok(())
}
