//! The normal form and the fit it rests on.

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::{Dim::*, Layout};
use super::*;

fn same_function(a: &Layout, b: &Layout) -> bool {
    a.in_sizes() == b.in_sizes() && domain(a).iter().all(|i| a.apply(i) == b.apply(i))
}

/// The same function written otherwise: outer factors split at their divisor 2 or 3.
fn split_outers(layout: &Layout) -> Layout {
    let named = |values: &[u32], times: u32| -> Terms {
        layout.out_dims().iter().copied().zip(values.iter().map(|v| v * times)).collect()
    };
    let mut builder = Layout::onto(layout.out_dims().iter().copied());
    for dim in layout.in_dims() {
        builder = layout.bases(dim).iter().fold(builder.input(dim), |b, basis| b.bit(dim, named(basis.values(), 1)));
        for outer in layout.outers(dim) {
            let first = [2, 3].into_iter().find(|d| outer.extent % d == 0).unwrap_or(1);
            builder = builder.outer(dim, first, named(outer.stride.values(), 1));
            builder = builder.outer(dim, outer.extent / first, named(outer.stride.values(), first));
        }
    }
    builder.build().expect("as large as before")
}

proptest! {
    #[test]
    fn keeps_the_function(layout in layouts(&[Reg, Lane, Warp], &[Row, Col])) {
        let normal = layout.normalize();
        prop_assert!(same_function(&layout, &normal));
        prop_assert_eq!(normal.normalize(), normal);
    }

    #[test]
    fn is_the_same_for_equal_functions(layout in layouts(&[Reg, Lane], &[Row, Col])) {
        let split = split_outers(&layout);
        prop_assert_eq!(split.normalize(), layout.normalize());
        prop_assert!(split.equivalent(&layout));
    }

    #[test]
    fn tells_functions_apart(a in layouts(&[Reg], &[Col]), b in layouts(&[Reg], &[Col])) {
        prop_assert_eq!(a.equivalent(&b), same_function(&a, &b));
    }

    #[test]
    fn from_fn_finds_every_layout(layout in layouts(&[Reg, Lane], &[Row, Col])) {
        let found = Layout::from_fn(&layout.in_sizes(), layout.out_dims(), |i, out| out.copy_from_slice(&naive(&layout, i)));
        prop_assert_eq!(found.expect("it is one"), layout.normalize());
    }
}

/// Every layout of these shapes with values below 8, as tables of values.
fn tables(sizes: [u32; 2]) -> HashSet<Vec<u32>> {
    // Ways to write a size as bits and extents, one after the other.
    let ways = |size: u32| -> Vec<(u32, Vec<u32>)> {
        match size {
            1 => vec![(0, vec![])],
            2 => vec![(1, vec![]), (0, vec![2])],
            4 => vec![(2, vec![]), (1, vec![2]), (0, vec![2, 2]), (0, vec![4])],
            6 => vec![(1, vec![3]), (0, vec![2, 3]), (0, vec![3, 2]), (0, vec![6])],
            _ => unreachable!("not asked for"),
        }
    };
    let mut found = HashSet::new();
    for (row, col) in ways(sizes[0]).iter().flat_map(|r| ways(sizes[1]).into_iter().map(move |c| (r.clone(), c))) {
        let n_values = row.0 as usize + row.1.len() + col.0 as usize + col.1.len();
        for values in boxed(&vec![8; n_values]) {
            let mut next = values.into_iter();
            let mut builder = Layout::onto([Byte]).input(Row).input(Col);
            for (dim, (bits, extents)) in [(Row, &row), (Col, &col)] {
                builder = (0..*bits).fold(builder, |b, _| b.bit(dim, [(Byte, next.next().unwrap())]));
                builder = extents.iter().fold(builder, |b, &e| b.outer(dim, e, [(Byte, next.next().unwrap())]));
            }
            let layout = builder.build().unwrap();
            found.insert(domain(&layout).iter().map(|i| layout.apply(i)[0]).collect());
        }
    }
    found
}

/// Accepts exactly the functions that some layout equals, by enumeration of both sides.
#[test]
fn from_fn_is_complete_and_exact() {
    for sizes in [[1, 4], [2, 2], [1, 6], [2, 4]] {
        let layouts = tables(sizes);
        let points = (sizes[0] * sizes[1]) as usize;
        let free = points.min(5) - 1;
        for values in boxed(&vec![8; free]) {
            // Larger domains: enumerate the first values, continue each table that starts so, and a few that do not.
            let start: Vec<u32> = std::iter::once(0).chain(values).collect();
            let padded = start.iter().copied().chain(std::iter::repeat_n(7, points - start.len())).collect::<Vec<_>>();
            let accepts = |table: &[u32]| {
                let at = |i: &[u32]| table[(i[0] * sizes[1] + i[1]) as usize];
                Layout::from_fn(&[(Row, sizes[0]), (Col, sizes[1])], &[Byte], |i, out| out[0] = at(i)).is_ok()
            };
            assert_eq!(accepts(&padded), layouts.contains(&padded), "{sizes:?} {padded:?}");
        }
        for table in layouts.iter().filter(|t| t.iter().sum::<u32>() % 7 == 0) {
            let at = |i: &[u32]| table[(i[0] * sizes[1] + i[1]) as usize];
            let found = Layout::from_fn(&[(Row, sizes[0]), (Col, sizes[1])], &[Byte], |i, out| out[0] = at(i));
            assert!(found.is_ok(), "{sizes:?} {table:?}");
        }
    }
}

#[test]
fn reads_well() {
    let normal = |text: &str| text.parse::<Layout>().unwrap().normalize().to_string();
    assert_eq!(normal("{reg: [col1 row8 | 12*col8]} -> {row col}"), "{reg: [col1 row8 col8 col16 | 3*col32]} -> {row col}");
    assert_eq!(normal("{col: [| 4*byte2 24*byte8]} -> {byte}"), "{col: [byte2 byte4 byte8 byte16 byte32 | 3*byte64]} -> {byte}");
    // 192 = 64 + 128: doubling it meets itself, so xor would not be add.
    assert_eq!(normal("{row: [| 8*byte192]} -> {byte}"), "{row: [| 8*byte192]} -> {byte}");
    // A swizzled bit stays an atom bit and holds the ones below it there.
    assert_eq!(normal("{row: [byte1] col: [byte2 byte1 byte4]} -> {byte}"), "{row: [byte1] col: [byte2 byte1 byte4]} -> {byte}");
}
