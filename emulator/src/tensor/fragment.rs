//! Which matrix element a register of a lane holds, for `mma.sync` (PTX ISA 9.7.14.5.1 to 9.7.14.5.13) and
//! `wgmma.mma_async` (PTX ISA 9.7.15.5.1.1).
//!
//! With `g = lane / 4` and `t = lane % 4`, one formula covers every dense type: a register holds `E` neighbours along
//! k, element `j` of a 32-bit register being bits `[j * bits, (j + 1) * bits)`. For f64 a register is 64 bits wide and
//! `E` is 1.

use super::WarpReg;

/// Elements of `bits` bits in one register: 8, 4, 2, 1 for 4, 8, 16, 32 bits; 1 for f64.
pub const fn elements_per_register(bits: u32) -> u32 {
    if bits >= 32 { 1 } else { 32 / bits }
}

/// `[row, k]` of element `j` in register `reg` of operand A, for the m16 shapes.
pub const fn a_element(bits: u32, lane: u32, reg: u32, j: u32) -> [u32; 2] {
    let e = elements_per_register(bits);
    [lane / 4 + 8 * (reg & 1), e * (lane % 4) + j + 4 * e * (reg >> 1)]
}

/// `[row, k]` for the m8 shapes, whose registers follow each other along k.
pub const fn a_element_m8(bits: u32, lane: u32, reg: u32, j: u32) -> [u32; 2] {
    let [n, k] = b_element(bits, lane, reg, j);
    [n, k]
}

/// `[n, k]` of element `j` in register `reg` of operand B.
pub const fn b_element(bits: u32, lane: u32, reg: u32, j: u32) -> [u32; 2] {
    let e = elements_per_register(bits);
    [lane / 4, e * (lane % 4) + j + 4 * e * reg]
}

/// `[row, column]` of accumulator register `reg` (f32, s32 or f64) of C and D.
pub const fn c_element(lane: u32, reg: u32) -> [u32; 2] {
    [lane / 4 + 8 * (reg >> 1), 2 * (lane % 4) + (reg & 1)]
}

/// `[row, column]` of half `j` in f16 accumulator register `reg`, which holds what registers 2 reg and 2 reg + 1 of
/// an f32 accumulator do.
pub const fn c_element_f16(lane: u32, reg: u32, j: u32) -> [u32; 2] {
    c_element(lane, 2 * reg + j)
}

/// `[row, k]` of operand A of `wgmma` in registers: each warp of the warpgroup has 16 rows.
pub const fn wgmma_a_element(bits: u32, warp: u32, lane: u32, reg: u32, j: u32) -> [u32; 2] {
    let [row, k] = a_element(bits, lane, reg, j);
    [row + 16 * warp, k]
}

/// `[row, column]` of accumulator register `reg` (f32 or s32, N / 2 of them) of `wgmma`.
pub const fn wgmma_d_element(warp: u32, lane: u32, reg: u32) -> [u32; 2] {
    let [row, column] = c_element(lane, reg & 3);
    [row + 16 * warp, column + 8 * (reg >> 2)]
}

/// `[row, column]` of half `j` in f16 accumulator register `reg` (N / 4 of them) of `wgmma`.
pub const fn wgmma_d_element_f16(warp: u32, lane: u32, reg: u32, j: u32) -> [u32; 2] {
    wgmma_d_element(warp, lane, 2 * reg + j)
}

/// Element `j` of a lane's register as the low bits of a word, without sign extension.
#[inline]
pub fn extract(register: &WarpReg, bits: u32, lane: usize, j: u32) -> u32 {
    if bits == 32 { register[lane] } else { register[lane] >> (bits * j) & ((1 << bits) - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Every element of an R x C matrix is held exactly once.
    fn covers(rows: u32, columns: u32, held: impl IntoIterator<Item = [u32; 2]>) {
        let mut seen = HashSet::new();
        for [row, column] in held {
            assert!(row < rows && column < columns, "[{row}, {column}] outside {rows} x {columns}");
            assert!(seen.insert([row, column]), "[{row}, {column}] twice");
        }
        assert_eq!(seen.len() as u32, rows * columns);
    }

    fn slots(registers: u32, per_register: u32) -> impl Iterator<Item = (u32, u32, u32)> {
        (0..32).flat_map(move |lane| (0..registers).flat_map(move |reg| (0..per_register).map(move |j| (lane, reg, j))))
    }

    #[test]
    fn tensor_fragments_are_bijections() {
        for (bits, ks) in [(4, &[32, 64][..]), (8, &[16, 32]), (16, &[8, 16]), (32, &[4, 8]), (64, &[4, 8, 16])] {
            let e = elements_per_register(bits);
            for &k in ks {
                covers(16, k, slots(16 * k / 32 / e, e).map(|(l, r, j)| a_element(bits, l, r, j)));
                covers(8, k, slots(8 * k / 32 / e, e).map(|(l, r, j)| b_element(bits, l, r, j)));
                covers(8, k, slots(8 * k / 32 / e, e).map(|(l, r, j)| a_element_m8(bits, l, r, j)));
            }
        }
        covers(16, 8, slots(4, 1).map(|(l, r, _)| c_element(l, r)));
        covers(8, 8, slots(2, 1).map(|(l, r, _)| c_element(l, r)));
        covers(16, 8, slots(2, 2).map(|(l, r, j)| c_element_f16(l, r, j)));
        for n in (8..=256).step_by(8) {
            let warps = |registers, e| (0..4).flat_map(move |w| slots(registers, e).map(move |s| (w, s)));
            covers(64, n, warps(n / 2, 1).map(|(w, (l, r, _))| wgmma_d_element(w, l, r)));
            covers(64, n, warps(n / 4, 2).map(|(w, (l, r, j))| wgmma_d_element_f16(w, l, r, j)));
        }
        for (bits, k) in [(8, 32), (16, 16), (32, 8)] {
            let e = elements_per_register(bits);
            let held = (0..4).flat_map(|w| slots(4, e).map(move |(l, r, j)| wgmma_a_element(bits, w, l, r, j)));
            covers(64, k, held);
        }
    }

    /// The formulas as PTX ISA 9.7.14.5 prints them, shape by shape.
    #[test]
    fn tensor_fragments_match_the_printed_formulas() {
        for lane in 0..32 {
            let (group, thread) = (lane >> 2, lane % 4);
            // m16n8k16 of f16 and bf16: a0..a7, b0..b3.
            for i in 0..8 {
                let row = if (0..2).contains(&i) || (4..6).contains(&i) { group } else { group + 8 };
                let col = thread * 2 + (i & 1) + if i >= 4 { 8 } else { 0 };
                assert_eq!(a_element(16, lane, i / 2, i % 2), [row, col]);
            }
            for i in 0..4 {
                let row = thread * 2 + (i & 1) + if i >= 2 { 8 } else { 0 };
                assert_eq!(b_element(16, lane, i / 2, i % 2), [group, row]);
                assert_eq!(c_element(lane, i), [if i < 2 { group } else { group + 8 }, thread * 2 + (i & 1)]);
            }
            // m16n8k8 of tf32.
            for i in 0..4 {
                let row = if i == 0 || i == 2 { group } else { group + 8 };
                assert_eq!(a_element(32, lane, i, 0), [row, if i < 2 { thread } else { thread + 4 }]);
            }
            // m16n8k32 of 8 bits.
            for i in 0..16 {
                let row = if (0..4).contains(&i) || (8..12).contains(&i) { group } else { group + 8 };
                let col = thread * 4 + (i & 3) + if i >= 8 { 16 } else { 0 };
                assert_eq!(a_element(8, lane, i / 4, i % 4), [row, col]);
            }
            for i in 0..8 {
                let row = thread * 4 + (i & 3) + if i >= 4 { 16 } else { 0 };
                assert_eq!(b_element(8, lane, i / 4, i % 4), [group, row]);
            }
            // m16n8k64 of 4 bits.
            for i in 0..32 {
                let row = if (0..8).contains(&i) || (16..24).contains(&i) { group } else { group + 8 };
                let col = thread * 8 + (i & 7) + if i >= 16 { 32 } else { 0 };
                assert_eq!(a_element(4, lane, i / 8, i % 8), [row, col]);
            }
            // m16n8k16 of f64.
            for i in 0..8 {
                let row = if i % 2 == 0 { group } else { group + 8 };
                let col = if i % 2 == 0 { i * 2 + thread } else { i * 2 - 2 + thread };
                assert_eq!(a_element(64, lane, i, 0), [row, col]);
            }
        }
    }
}
