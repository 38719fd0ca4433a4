//! A multiplicand of `wgmma` as values, whatever it was stored as.

use super::WarpReg;
use super::descriptor::{Major, SharedOperand};
use super::element::{ElementType, Reading};
use super::fragment;
use super::simd::vectorised;

/// An operand's values, k-major in memory: element (mn, k) at `k * mn_extent + mn`. Keep one and load it again to
/// reuse its memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    mn: usize,
    k: usize,
    ty: Option<ElementType>,
    reading: Reading,
    values: Vec<f32>,
    /// What the last [`Panel::load_shared`] read.
    raw: Vec<[u8; 16]>,
}

impl Panel {
    /// An empty panel, to be loaded with values.
    pub fn new() -> Panel {
        Panel::default()
    }

    /// An empty panel, to be loaded with what `reading` says.
    pub fn reading_as(reading: Reading) -> Panel {
        Panel { reading, ..Panel::default() }
    }

    /// What codes of floats are read as.
    pub fn reading(&self) -> Reading {
        self.reading
    }

    /// Rows: M or N.
    pub fn mn(&self) -> usize {
        self.mn
    }

    /// Depth in elements.
    pub fn k(&self) -> usize {
        self.k
    }

    /// What was loaded last.
    pub fn ty(&self) -> Option<ElementType> {
        self.ty
    }

    /// The value at (mn, k).
    ///
    /// # Panics
    /// Outside the extents.
    pub fn value(&self, mn: usize, k: usize) -> f32 {
        assert!(mn < self.mn && k < self.k, "({mn}, {k}) outside {} x {}", self.mn, self.k);
        self.values[k * self.mn + mn]
    }

    /// The values of one step along k, by mn.
    #[inline(always)]
    pub(super) fn step(&self, k: usize) -> &[f32] {
        &self.values[k * self.mn..][..self.mn]
    }

    /// Loads from shared memory; `read` gets the 16 bytes at an absolute shared address that is a multiple of 16.
    ///
    /// # Panics
    /// If the width of `ty` is not that of `operand`'s elements.
    pub fn load_shared(&mut self, ty: ElementType, operand: &SharedOperand, mut read: impl FnMut(u32) -> [u8; 16]) {
        assert_eq!(ty.bits(), 8 * operand.element_bytes(), "{ty} operand described with another element size");
        self.reset(operand.mn() as usize, operand.k() as usize, ty);
        let (outer, inner) = operand.chunk_counts();
        self.raw.clear();
        let k_major = operand.major() == Major::K;
        let (slow, fast) = if k_major { (outer, inner) } else { (inner, outer) };
        for s in 0..slow {
            for f in 0..fast {
                let (outer, inner) = if k_major { (s, f) } else { (f, s) };
                self.raw.push(read(operand.chunk_address(outer, inner)));
            }
        }
        decode(ty, self.reading, operand.major(), &self.raw, self.mn, &mut self.values);
    }

    /// Loads operand A from registers: register r of warp w is `files[w][slots[r]]`, four of them.
    ///
    /// # Panics
    /// If there are not four slots, or one is outside a file.
    pub fn load_registers(&mut self, ty: ElementType, files: [&[WarpReg]; 4], slots: &[u32]) {
        assert_eq!(slots.len(), 4, "operand A of wgmma is four registers");
        let bits = ty.bits();
        self.reset(64, 256 / bits as usize, ty);
        for (warp, file) in files.into_iter().enumerate() {
            for (reg, slot) in slots.iter().enumerate() {
                let register = &file[*slot as usize];
                for j in 0..fragment::elements_per_register(bits) {
                    let values = ty.register_values(self.reading, register, j);
                    for (lane, value) in values.into_iter().enumerate() {
                        let [row, k] = fragment::wgmma_a_element(bits, warp as u32, lane as u32, reg as u32, j);
                        self.values[k as usize * 64 + row as usize] = value;
                    }
                }
            }
        }
    }

    fn reset(&mut self, mn: usize, k: usize, ty: ElementType) {
        (self.mn, self.k, self.ty) = (mn, k, Some(ty));
        self.values.resize(mn * k, 0.0);
    }
}

vectorised! {
    fn decode(ty: ElementType, reading: Reading, major: Major, raw: &[[u8; 16]], rows: usize, values: &mut [f32]) {
        // The type is a constant in every arm, so that each is a loop of its own.
        match ty {
            ElementType::F16 => decode_as::<2>(ElementType::F16, reading, major, raw, rows, values),
            ElementType::Bf16 => decode_as::<2>(ElementType::Bf16, reading, major, raw, rows, values),
            ElementType::Tf32 => decode_as::<4>(ElementType::Tf32, reading, major, raw, rows, values),
            ElementType::E4m3 => decode_as::<1>(ElementType::E4m3, reading, major, raw, rows, values),
            ElementType::E5m2 => decode_as::<1>(ElementType::E5m2, reading, major, raw, rows, values),
            ElementType::S8 => decode_as::<1>(ElementType::S8, reading, major, raw, rows, values),
            ElementType::U8 => decode_as::<1>(ElementType::U8, reading, major, raw, rows, values),
            ElementType::S4 | ElementType::U4 | ElementType::F64 => {
                unreachable!("{ty} operands are never in shared memory")
            }
        }
    }
}

/// Chunks as [`SharedOperand::chunk_address`] counts them, `inner` fastest if K-major, `outer` fastest if MN-major.
#[inline(always)]
fn decode_as<const BYTES: usize>(
    ty: ElementType,
    reading: Reading,
    major: Major,
    raw: &[[u8; 16]],
    rows: usize,
    values: &mut [f32],
) {
    let code = |chunk: &[u8; 16], i: usize| match BYTES {
        1 => chunk[i].into(),
        2 => u16::from_le_bytes([chunk[2 * i], chunk[2 * i + 1]]).into(),
        _ => u32::from_le_bytes([chunk[4 * i], chunk[4 * i + 1], chunk[4 * i + 2], chunk[4 * i + 3]]),
    };
    let count = 16 / BYTES;
    match major {
        Major::K => {
            // Eight rows at a time: the transpose is in the gathering of codes, the rest is vectors.
            for (block, chunks) in raw.chunks_exact(16).enumerate() {
                for half in 0..2 {
                    for i in 0..count {
                        let to = &mut values[(half * count + i) * rows + 8 * block..][..8];
                        ty.for_each_code(reading, to, |row| code(&chunks[2 * row + half], i));
                    }
                }
            }
        }
        Major::Mn => {
            for (chunk, to) in raw.iter().zip(values.chunks_exact_mut(count)) {
                ty.for_each_code(reading, to, |i| code(chunk, i));
            }
        }
    }
}
