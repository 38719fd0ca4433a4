//! Row and column vectors against the tile they go with.

use super::super::{blocked, mma_a, mma_acc, mma_b, wgmma_acc};
use super::*;

fn check(tile: &Layout) {
    for (axis, at, other) in [(Col, 1, 0), (Row, 0, 1)] {
        let vector = tile.collapsed(axis).unwrap();
        assert_eq!(vector.in_sizes()[1..], tile.in_sizes()[1..], "the threads stay: {tile}");
        for thread in boxed(&[tile.in_size(Lane), tile.in_size(Warp)]) {
            // What the thread holds of the tile along the other axis, each once, is what it holds of the vector.
            let held = |l: &Layout| -> Vec<Vec<u32>> {
                (0..l.in_size(Reg)).map(|r| l.apply(&[r, thread[0], thread[1]]).to_vec()).collect()
            };
            let mut want = held(tile);
            want.iter_mut().for_each(|c| c[at] = 0);
            want.sort_unstable();
            want.dedup();
            let mut found = held(&vector);
            assert!(found.iter().all(|c| c[at] == 0), "{vector}");
            found.sort_unstable_by_key(|c| c[other]);
            assert_eq!(found, want, "{tile} without {axis} at {thread:?}");
        }
        assert_eq!(vector.collapsed(axis).unwrap(), vector);
    }
}

#[test]
fn vectors_of_fragments() {
    for n in [8, 96, 112, 176, 256] {
        check(&wgmma_acc(128, n, 1).unwrap());
        check(&wgmma_acc(256, n, 2).unwrap());
        check(&mma_acc(64, n, 2, 1).unwrap());
        check(&mma_a(32, 48, 2, 2).unwrap());
        check(&mma_b(n, 32, 2, 1).unwrap());
    }
    check(&mma_acc(64, 192, 2, 4).unwrap());
    check(&blocked(128, [32, 96], 8).unwrap());
    check(&blocked(256, [64, 176], 1).unwrap());
    check(&blocked(128, [1, 4096], 8).unwrap());
}

#[test]
fn a_factor_along_both_axes_has_no_vector() {
    let diagonal: Layout = "{reg: [col1 row1+col2] lane: [row2] warp: []} -> {row col}".parse().unwrap();
    for axis in [Row, Col] {
        assert!(diagonal.collapsed(axis).unwrap_err().to_string().contains("another dim at once"));
    }
    let byte: Layout = "{reg: [byte1 byte2]} -> {byte}".parse().unwrap();
    assert_eq!(byte.collapsed(Row).unwrap(), byte);
}
