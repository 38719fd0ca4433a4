//! Fragments against the formulas of their documentation.

use super::super::{
    Dim::*, Layout, MatrixOrder, blocked, matrix_regs, matrix_rows, mma_a, mma_a_bytes, mma_a_words, mma_acc, mma_acc_words,
    mma_b, mma_b_bytes, mma_b_words, wgmma_a, wgmma_acc,
};
use super::*;

/// Checks every point against `formula(r, g, t, w)`, and that `copies` threads hold each element of the tile.
fn check(fragment: &Layout, tile: [u32; 2], copies: u32, formula: impl Fn(u32, u32, u32, u32) -> [u32; 2]) {
    assert_eq!(fragment.in_dims().collect::<Vec<_>>(), [Reg, Lane, Warp]);
    assert_eq!(fragment.in_size(Lane), 32);
    for i in domain(fragment) {
        assert_eq!(fragment.apply(&i)[..], formula(i[0], i[1] / 4, i[1] % 4, i[2]), "{fragment} at {i:?}");
    }
    assert!(fragment.is_surjective_onto(&tile), "{fragment}");
    assert_eq!(fragment.points(), tile[0] * tile[1] * copies);
    assert_eq!(fragment.is_injective(), copies == 1);
}

const WIDTHS: [u32; 8] = [8, 16, 64, 96, 112, 176, 192, 256];

#[test]
fn wgmma_accumulators() {
    for n in WIDTHS {
        for (m, warpgroups) in [(64, 1), (192, 1), (128, 2), (256, 2), (192, 3), (384, 3)] {
            let slab = n / 2;
            check(&wgmma_acc(m, n, warpgroups).unwrap(), [m, n], 1, |r, g, t, w| {
                let (mi, r) = (r / slab, r % slab);
                let row = m / warpgroups * (w / 4) + 64 * mi + 16 * (w % 4) + g + 8 * ((r >> 1) & 1);
                [row, 8 * (r >> 2) + 2 * t + (r & 1)]
            });
        }
    }
}

#[test]
fn wgmma_operands_in_registers() {
    for k in [16, 48, 64, 176] {
        for (m, warpgroups) in [(64, 1), (128, 1), (192, 3)] {
            let slab = k / 2;
            check(&wgmma_a(m, k, warpgroups).unwrap(), [m, k], 1, |r, g, t, w| {
                let (mi, r) = (r / slab, r % slab);
                let row = m / warpgroups * (w / 4) + 64 * mi + 16 * (w % 4) + g + 8 * ((r >> 1) & 1);
                [row, 16 * (r >> 3) + 8 * ((r >> 2) & 1) + 2 * t + (r & 1)]
            });
            assert!(wgmma_a(m, k, warpgroups).unwrap().equivalent(&wgmma_acc(m, k, warpgroups).unwrap()), "P of P x V");
        }
    }
}

#[test]
fn mma_fragments_of_bytes() {
    for (wm, wn) in [(1, 1), (2, 2), (3, 1), (1, 4)] {
        for (mi_count, ni_count, k) in [(1, 1, 32), (2, 3, 64), (3, 14, 96)] {
            let (rows, cols, ks) = (16 * mi_count * wm, 8 * ni_count * wn, k / 32);
            check(&mma_a_bytes(rows, k, wm, wn).unwrap(), [rows, k], wn, |e, g, t, w| {
                let (mi, ki, e) = (e / 16 / ks, e / 16 % ks, e % 16);
                let row = rows / wm * (w % wm) + 16 * mi + g + 8 * ((e >> 2) & 1);
                [row, 32 * ki + 16 * ((e >> 3) & 1) + 4 * t + (e & 3)]
            });
            check(&mma_b_bytes(cols, k, wm, wn).unwrap(), [k, cols], wm, |e, g, t, w| {
                let (ni, ki, e) = (e / 8 / ks, e / 8 % ks, e % 8);
                [32 * ki + 16 * ((e >> 2) & 1) + 4 * t + (e & 3), cols / wn * (w / wm) + 8 * ni + g]
            });
        }
    }
}

#[test]
fn mma_fragments_of_words() {
    for (wm, wn) in [(1, 1), (2, 2), (3, 1), (1, 4)] {
        for (mi_count, ni_count, k) in [(1, 1, 8), (2, 4, 16), (3, 12, 32), (1, 6, 8)] {
            let (rows, cols, ks) = (16 * mi_count * wm, 8 * ni_count * wn, k / 8);
            let spreads = ni_count % 4 == 0;
            // Column `j` of fragment `ni`.
            let column = |ni: u32, j: u32| if spreads { 32 * (ni / 4) + 4 * (ni % 4) + 16 * (j / 4) + j % 4 } else { 8 * ni + j };
            check(&mma_a_words(rows, k, wm, wn).unwrap(), [rows, k], wn, |e, g, t, w| {
                let (mi, ki, e) = (e / 4 / ks, e / 4 % ks, e % 4);
                [rows / wm * (w % wm) + 16 * mi + g + 8 * (e & 1), 8 * ki + 4 * (e >> 1) + t]
            });
            check(&mma_b_words(cols, k, wm, wn).unwrap(), [k, cols], wm, |e, g, t, w| {
                let (ni, ki, e) = (e / 2 / ks, e / 2 % ks, e % 2);
                [8 * ki + 4 * e + t, cols / wn * (w / wm) + column(ni, g)]
            });
            check(&mma_acc_words(rows, cols, wm, wn).unwrap(), [rows, cols], 1, |r, g, t, w| {
                let (mi, ni, c) = (r / 4 / ni_count, r / 4 % ni_count, r % 4);
                let row = rows / wm * (w % wm) + 16 * mi + g + 8 * ((c >> 1) & 1);
                [row, cols / wn * (w / wm) + column(ni, 2 * t + (c & 1))]
            });
        }
    }
}

#[test]
fn mma_fragments() {
    for (wm, wn) in [(1, 1), (2, 2), (3, 1), (1, 4), (4, 2)] {
        for (mi_count, ni_count, k) in [(1, 1, 16), (2, 3, 48), (3, 14, 64), (1, 22, 32)] {
            let (rows, cols) = (16 * mi_count * wm, 8 * ni_count * wn);
            check(&mma_acc(rows, cols, wm, wn).unwrap(), [rows, cols], 1, |r, g, t, w| {
                let (mi, ni, c) = (r / 4 / ni_count, r / 4 % ni_count, r % 4);
                let row = rows / wm * (w % wm) + 16 * mi + g + 8 * ((c >> 1) & 1);
                [row, cols / wn * (w / wm) + 8 * ni + 2 * t + (c & 1)]
            });
            check(&mma_a(rows, k, wm, wn).unwrap(), [rows, k], wn, |e, g, t, w| {
                let (mi, ki, e) = (e / 8 / (k / 16), e / 8 % (k / 16), e % 8);
                // Register q and half j, as PTX numbers them.
                let (q, j) = (e / 2, e % 2);
                [rows / wm * (w % wm) + 16 * mi + g + 8 * (q & 1), 16 * ki + 2 * t + j + 8 * (q >> 1)]
            });
            check(&mma_b(cols, k, wm, wn).unwrap(), [k, cols], wm, |e, g, t, w| {
                let (ni, ki, e) = (e / 4 / (k / 16), e / 4 % (k / 16), e % 4);
                let (q, j) = (e / 2, e % 2);
                [16 * ki + 2 * t + j + 8 * q, cols / wn * (w / wm) + 8 * ni + g]
            });
        }
    }
}

#[test]
fn mma_accumulators_feed_the_next_product() {
    for cols in [16, 96, 176] {
        assert!(mma_a(64, cols, 4, 1).unwrap().equivalent(&mma_acc(64, cols, 4, 1).unwrap()));
    }
}

#[test]
fn blocked_tiles() {
    for (threads, shape, vec) in [
        (128, [32, 96], 8),
        (128, [1, 4096], 8),
        (96, [6, 64], 4),
        (384, [24, 176], 1),
        (32, [32, 7], 1),
        (256, [64, 112], 2),
        (128, [128, 24], 4),
    ] {
        let tile = blocked(threads, shape, vec).unwrap();
        assert!(tile.is_injective() && tile.is_surjective_onto(&shape), "{tile}");
        assert_eq!((tile.in_size(Lane), tile.in_size(Warp)), (32, threads / 32));
        let run = tile.contiguous_run(Reg, Col);
        assert!(
            run >= vec
                && domain(&tile).iter().all(|i| tile.apply(i)[1] / vec * vec == tile.apply(&[i[0] / vec * vec, i[1], i[2]])[1])
        );
    }
    let error = blocked(128, [3, 64], 8).unwrap_err().to_string();
    assert_eq!(error, "threads = 128 does not divide the 24 groups of 8 elements in [3, 64]: use fewer threads or pad the tile");
}

/// What `ldmatrix` does, said with addresses: the lane's elements are those at the rows that the lanes point to.
fn check_matrices(fragment: &Layout, matrices: u32, order: MatrixOrder) {
    let rows = matrix_rows(fragment, matrices, order).unwrap();
    let regs = matrix_regs(matrices, order).unwrap();
    for i in domain(fragment) {
        let per_access = 2 * matrices;
        let [matrix, row, col] = regs.apply(&[i[0] % per_access, i[1]])[..] else { panic!("three outputs") };
        let start = rows.apply(&[i[0] / per_access, 8 * matrix + row, i[2]]);
        assert_eq!(fragment.apply(&i)[..], [start[0], start[1] + col], "{fragment} {order:?} at {i:?}");
    }
}

#[test]
fn matrices_fill_fragments() {
    check_matrices(&mma_a(64, 48, 2, 1).unwrap(), 4, MatrixOrder::Plain);
    check_matrices(&mma_b(48, 64, 1, 2).unwrap(), 4, MatrixOrder::Trans);
    check_matrices(&mma_b(48, 64, 1, 2).unwrap().transposed(), 2, MatrixOrder::Plain);
    check_matrices(&wgmma_acc(128, 176, 2).unwrap(), 4, MatrixOrder::Plain);
    check_matrices(&wgmma_acc(64, 24, 1).unwrap(), 2, MatrixOrder::Plain);
    assert!(matrix_rows(&mma_b(48, 64, 1, 2).unwrap(), 4, MatrixOrder::Plain).is_err());
    assert!(matrix_rows(&wgmma_acc(64, 24, 1).unwrap(), 4, MatrixOrder::Plain).is_err());
}

/// The diagrams of PTX ISA 9.7.15.5.1 and 9.7.14.5.8, spot-checked at their corners.
#[test]
fn corners_of_the_ptx_diagrams() {
    let acc = wgmma_acc(64, 16, 1).unwrap();
    assert_eq!(acc.apply(&[3, 31, 3])[..], [63, 7]);
    assert_eq!(acc.apply(&[4, 0, 0])[..], [0, 8]);
    let b = mma_b(8, 16, 1, 1).unwrap();
    assert_eq!(b.apply(&[3, 31, 0])[..], [15, 7]);
}
