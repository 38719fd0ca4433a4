//! `ldmatrix`, `stmatrix` and `movmatrix` on 8x8 matrices of b16 (PTX ISA 9.7.14.5.15 to 9.7.14.5.17).

use super::WarpReg;

/// One row of a matrix: eight b16 elements, little endian, 16-byte aligned in shared memory.
pub type MatrixRow = [u8; 16];

/// The lane whose address operand points at row `row` of matrix `matrix`: matrix 0 is addressed by lanes 0 to 7, and
/// so on.
pub const fn address_lane(matrix: usize, row: usize) -> usize {
    8 * matrix + row
}

/// `[row, column]` of the element in half `half` (0 is the low one) of a lane's register.
pub const fn element(lane: usize, half: usize, trans: bool) -> [usize; 2] {
    let plain = [lane / 4, 2 * (lane % 4) + half];
    if trans { [plain[1], plain[0]] } else { plain }
}

/// `ldmatrix.sync.aligned.m8n8.x{1,2,4}{.trans}.shared.b16`: `rows[8m + i]` is row i of matrix m, which goes to `d[m]`.
///
/// # Panics
/// If `rows` does not hold eight rows for each register of `d`.
pub fn ldmatrix(rows: &[MatrixRow], trans: bool, d: &mut [WarpReg]) {
    assert_eq!(rows.len(), 8 * d.len(), "ldmatrix: eight rows for each register");
    for (rows, d) in rows.chunks_exact(8).zip(d) {
        for (lane, word) in d.iter_mut().enumerate() {
            let [low, high] = [0, 1].map(|half| {
                let [row, column] = element(lane, half, trans);
                u16::from_le_bytes([rows[row][2 * column], rows[row][2 * column + 1]])
            });
            *word = u32::from(low) | u32::from(high) << 16;
        }
    }
}

/// `stmatrix`, the inverse of [`ldmatrix`]: register `s[m]` gives the eight rows `rows[8m..]`.
///
/// # Panics
/// If `rows` does not hold eight rows for each register of `s`.
pub fn stmatrix(s: &[WarpReg], trans: bool, rows: &mut [MatrixRow]) {
    assert_eq!(rows.len(), 8 * s.len(), "stmatrix: eight rows for each register");
    for (rows, s) in rows.chunks_exact_mut(8).zip(s) {
        for (lane, word) in s.iter().enumerate() {
            for half in 0..2 {
                let [row, column] = element(lane, half, trans);
                let bytes = ((word >> (16 * half)) as u16).to_le_bytes();
                rows[row][2 * column..2 * column + 2].copy_from_slice(&bytes);
            }
        }
    }
}

/// `movmatrix.sync.aligned.m8n8.trans.b16`: the transpose, from registers to registers.
pub fn movmatrix(a: &WarpReg) -> WarpReg {
    let mut rows = [MatrixRow::default(); 8];
    stmatrix(std::slice::from_ref(a), false, &mut rows);
    let mut d = [[0; 32]];
    ldmatrix(&rows, true, &mut d);
    d[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Element (row, column) of matrix m holds 64 m + 8 row + column.
    fn numbered(matrices: usize) -> Vec<MatrixRow> {
        let row = |r: usize| std::array::from_fn(|byte| if byte % 2 == 0 { (8 * r + byte / 2) as u8 } else { 0 });
        (0..8 * matrices).map(row).collect()
    }

    #[test]
    fn tensor_ldmatrix_follows_the_figure() {
        for count in [1, 2, 4] {
            let mut d = vec![[0; 32]; count];
            ldmatrix(&numbered(count), false, &mut d);
            for (m, register) in d.iter().enumerate() {
                // PTX ISA figure: thread t of row group g holds elements 2t and 2t + 1 of row g.
                for (g, lanes) in register.chunks(4).enumerate() {
                    for (t, word) in lanes.iter().enumerate() {
                        let first = (64 * m + 8 * g + 2 * t) as u32;
                        assert_eq!(*word, first | (first + 1) << 16);
                    }
                }
            }
            let mut transposed = vec![[0; 32]; count];
            ldmatrix(&numbered(count), true, &mut transposed);
            for (plain, transposed) in d.iter().zip(&transposed) {
                assert_eq!(movmatrix(plain), *transposed);
                assert_eq!(movmatrix(transposed), *plain);
            }
            assert_eq!(transposed[0][0], 8 << 16);
            assert_eq!(transposed[0][1], 16 | 24 << 16);
        }
    }

    #[test]
    fn tensor_stmatrix_inverts_ldmatrix() {
        for count in [1, 2, 4] {
            for trans in [false, true] {
                let rows = numbered(count);
                let mut d = vec![[0; 32]; count];
                ldmatrix(&rows, trans, &mut d);
                let mut back = vec![MatrixRow::default(); 8 * count];
                stmatrix(&d, trans, &mut back);
                assert_eq!(rows, back);
            }
        }
        assert_eq!(address_lane(2, 3), 19);
    }
}
