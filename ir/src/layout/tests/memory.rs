//! Swizzles and banks.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::{
    AccessWidth, Dim::*, Layout, LayoutError, MatrixOrder, Swizzle, matrix_rows, matrix_wavefronts, mma_a, smem_tile,
    warp_wavefronts, wgmma_acc,
};
use super::*;

/// Bit by bit, as PTX draws the patterns.
fn naive_swizzle(swizzle: Swizzle, byte: u32) -> u32 {
    let pairs: &[(u32, u32)] = match swizzle {
        Swizzle::None => &[],
        Swizzle::B32 => &[(4, 7)],
        Swizzle::B64 => &[(4, 7), (5, 8)],
        Swizzle::B128 => &[(4, 7), (5, 8), (6, 9)],
    };
    pairs.iter().fold(byte, |b, &(to, from)| b ^ (byte >> from & 1) << to)
}

fn naive_tile(rows: u32, cols: u32, elem_bytes: u32, swizzle: Swizzle, at: [u32; 2]) -> u32 {
    let span = swizzle.span_bytes().unwrap_or(cols * elem_bytes);
    let in_row = at[1] * elem_bytes;
    let (panel, byte) = (in_row / span, in_row % span);
    naive_swizzle(swizzle, panel * rows * span + at[0] * span + byte)
}

proptest! {
    #[test]
    fn smem_tiles_are_the_formula(row_groups in 1u32..6, panels in 1u32..5, elem_log in 0u32..5, mode in 0usize..4) {
        let (rows, elem_bytes, swizzle) = (8 * row_groups, 1 << elem_log, Swizzle::ALL[mode]);
        let cols = panels * swizzle.span_bytes().unwrap_or(48) / elem_bytes;
        let tile = smem_tile(rows, cols, elem_bytes, swizzle).expect("whole panels");
        for at in boxed(&[rows, cols]) {
            prop_assert_eq!(tile.apply(&at)[0], naive_tile(rows, cols, elem_bytes, swizzle, [at[0], at[1]]));
        }
        prop_assert!(tile.is_injective());
        prop_assert_eq!(tile.out_extent(Byte), rows * cols * elem_bytes - elem_bytes + 1);
    }

    #[test]
    fn swizzles_undo_themselves(byte in 0u32..(1 << 20), mode in 0usize..4) {
        let swizzle = Swizzle::ALL[mode];
        prop_assert_eq!(swizzle.apply(byte), naive_swizzle(swizzle, byte));
        prop_assert_eq!(swizzle.apply(swizzle.apply(byte)), byte);
        prop_assert_eq!(swizzle.layout().apply(&[byte % 1024])[0], swizzle.apply(byte % 1024));
    }

    #[test]
    fn wavefronts_are_counted(slots in prop::collection::vec(0u32..96, 0..=32), log in 0u32..3) {
        let width = [AccessWidth::B4, AccessWidth::B8, AccessWidth::B16][log as usize];
        let bytes: Vec<u32> = slots.iter().map(|s| s * width.bytes()).collect();
        let mut taken = 0;
        for phase in bytes.chunks((128 / width.bytes()) as usize) {
            let words: BTreeSet<u32> = phase.iter().flat_map(|b| (0..width.bytes()).map(move |i| (b + i) / 4)).collect();
            taken += (0..32).map(|bank| words.iter().filter(|w| *w % 32 == bank).count() as u32).max().unwrap_or(0);
        }
        let found = warp_wavefronts(&bytes, width).expect("aligned");
        prop_assert_eq!(found.taken, taken);
        prop_assert!(found.ideal <= found.taken);
    }

    #[test]
    fn matrix_rows_are_counted(chunks in prop::array::uniform8(0u32..64)) {
        let distinct: BTreeSet<u32> = chunks.into_iter().collect();
        let naive = (0..8).map(|c| distinct.iter().filter(|s| *s % 8 == c).count() as u32).max().unwrap_or(0);
        prop_assert_eq!(matrix_wavefronts(&chunks.map(|c| 16 * c)).expect("aligned"), naive);
    }
}

#[test]
fn widest_divides_the_row() {
    let found = [64, 96, 112, 176, 192, 24].map(|cols| Swizzle::widest(cols * 2));
    assert_eq!(found, [Swizzle::B128, Swizzle::B64, Swizzle::B32, Swizzle::B32, Swizzle::B128, Swizzle::None]);
}

#[test]
fn swizzled_columns_of_matrices_do_not_conflict() {
    let tile = |swizzle| smem_tile(64, 64, 2, swizzle).unwrap();
    let rows = matrix_rows(&mma_a(64, 64, 4, 1).unwrap(), 4, MatrixOrder::Plain).unwrap();
    for (swizzle, wavefronts) in [(Swizzle::B128, 1), (Swizzle::B64, 1), (Swizzle::B32, 1), (Swizzle::None, 8)] {
        let bytes = rows.compose(&tile(swizzle)).unwrap();
        for index in domain(&bytes).into_iter().filter(|i| i[1] % 8 == 0) {
            let matrix: Vec<u32> = (0..8).map(|i| bytes.apply(&[index[0], index[1] + i, index[2]])[0]).collect();
            assert_eq!(matrix_wavefronts(&matrix.try_into().unwrap()).unwrap(), wavefronts, "{swizzle:?}");
        }
    }
}

#[test]
fn accumulator_pairs_conflict_without_swizzle() {
    let words = |swizzle| {
        let acc = wgmma_acc(64, 64, 1).unwrap().compose(&smem_tile(64, 64, 2, swizzle).unwrap()).unwrap();
        // One register of each pair: a 4-byte store.
        let pairs =
            Layout::onto([Reg, Lane, Warp]).outer(Reg, 16, [(Reg, 2)]).outer(Lane, 32, [(Lane, 1)]).outer(Warp, 4, [(Warp, 1)]);
        pairs.build().unwrap().compose(&acc).unwrap().bank_conflicts(AccessWidth::B4).unwrap()
    };
    assert_eq!(words(Swizzle::None).taken, 8);
    assert_eq!(words(Swizzle::B128).conflicts(), 0);
}

#[test]
fn misaligned_access_is_refused() {
    let error = warp_wavefronts(&[0, 8], AccessWidth::B16).unwrap_err();
    assert_eq!(error, LayoutError::Misaligned { lane: 1, byte: 8, width: 16 });
    assert!(smem_tile(12, 64, 2, Swizzle::B128).unwrap_err().to_string().contains("not a multiple of 8"));
    assert!(smem_tile(8, 48, 2, Swizzle::B128).unwrap_err().to_string().contains("use B32"));
}
