//! The operations.

use proptest::prelude::*;

use super::super::{Dim::*, Layout, LayoutError, Swizzle, blocked, mma_a, mma_acc, smem_tile, wgmma_a, wgmma_acc};
use super::*;

/// `{row col} -> {byte}` layouts, grown until they take every output of `self`.
fn reaching(first: &Layout, after: Layout) -> Layout {
    [Row, Col].into_iter().fold(after, |after, dim| {
        let lacking = first.out_extent(dim).div_ceil(after.in_size(dim));
        after.tile_by(dim, lacking, &[(Byte, 64)]).expect("small")
    })
}

proptest! {
    #[test]
    fn apply_is_the_definition(layout in layouts(&[Reg, Lane, Warp], &[Row, Col])) {
        for index in domain(&layout) {
            prop_assert_eq!(layout.apply(&index).to_vec(), naive(&layout, &index));
        }
    }

    #[test]
    fn extents_are_maxima(layout in layouts(&[Reg, Lane], &[Row, Col])) {
        let max = |d: usize| domain(&layout).iter().map(|i| layout.apply(i)[d]).max().unwrap_or(0);
        prop_assert_eq!([layout.out_extent(Row), layout.out_extent(Col)], [max(0) + 1, max(1) + 1]);
    }

    #[test]
    fn compose_applies_one_after_the_other(first in layouts(&[Reg, Lane], &[Col, Row]), after in layouts(&[Row, Col], &[Byte])) {
        let after = reaching(&first, after);
        match first.compose(&after) {
            Ok(both) => for index in domain(&first) {
                let between = first.apply(&index);
                prop_assert_eq!(both.apply(&index), after.apply(&[between[1], between[0]]));
            },
            Err(error) => prop_assert!(matches!(error, LayoutError::NotRepresentable { .. }), "{}", error),
        }
    }

    #[test]
    fn inverse_undoes(layout in bijections()) {
        match layout.inverse() {
            Ok(inverse) => for index in domain(&layout) {
                prop_assert_eq!(inverse.apply(&layout.apply(&index)).to_vec(), index);
            },
            Err(error) => prop_assert!(matches!(error, LayoutError::NotRepresentable { .. }), "{}", error),
        }
    }

    #[test]
    fn inverse_of_strided_bijections_of_powers_of_two_exists(rows in 0u32..4, cols in 0u32..4, lanes in 0u32..4) {
        let layout = Layout::onto([Row, Col])
            .bits(Reg, (0..rows).map(|b| (Row, 1 << b))).bits(Lane, (0..lanes).map(|b| (Row, 1 << (rows + b))))
            .bits(Reg, (0..cols).map(|b| (Col, 1 << b))).input(Lane).build().expect("small");
        let round = layout.inverse().expect("a permutation of bits").inverse().expect("its inverse");
        prop_assert!(round.permute_in(&layout.in_dims().collect::<Vec<_>>()).expect("same dims").equivalent(&layout));
    }

    #[test]
    fn tile_by_adds_a_slow_factor(layout in layouts(&[Reg, Lane], &[Row, Col]), extent in 1u32..5, stride in value()) {
        let tiled = layout.tile_by(Reg, extent, &[(Col, stride)]).expect("small");
        for index in domain(&tiled) {
            let copy = index[0] / layout.in_size(Reg);
            let inner = layout.apply(&[index[0] % layout.in_size(Reg), index[1]]);
            prop_assert_eq!(tiled.apply(&index).to_vec(), vec![inner[0], inner[1] + copy * stride]);
        }
    }

    #[test]
    fn product_is_a_tile_of_tiles(tile in layouts(&[Reg], &[Row, Col]), tiles in layouts(&[Warp, Reg], &[Col, Row])) {
        let Ok(product) = tile.product(&tiles) else { return Ok(()) };
        let size = tile.in_size(Reg);
        for index in domain(&product) {
            let (low, high) = (tile.apply(&[index[0] % size]), tiles.apply(&[index[1], index[0] / size]));
            let expected = [low[0] + tile.out_extent(Row) * high[1], low[1] + tile.out_extent(Col) * high[0]];
            prop_assert_eq!(product.apply(&index).to_vec(), expected);
        }
    }

    #[test]
    fn slice_keeps_what_lies_in_range(layout in bijections(), start in 0u32..24, len in 1u32..24) {
        let range = start..start + len;
        let inside: Vec<_> = domain(&layout).into_iter().filter(|i| range.contains(&layout.apply(i)[1])).collect();
        match layout.slice(Col, range) {
            Ok(slice) => {
                prop_assert_eq!(slice.layout.points() as usize, inside.len());
                for index in domain(&slice.layout) {
                    let whole: Vec<u32> = index.iter().zip(&slice.kept).map(|(&i, k)| k[i as usize]).collect();
                    prop_assert!(inside.contains(&whole));
                    let (part, all) = (slice.layout.apply(&index), layout.apply(&whole));
                    prop_assert_eq!([part[0], part[1] + start], [all[0], all[1]]);
                }
            }
            Err(LayoutError::NotABox { points, .. }) => prop_assert_eq!(points as usize, inside.len()),
            Err(error) => prop_assert!(matches!(error, LayoutError::NotRepresentable { .. }), "{}", error),
        }
    }

    #[test]
    fn restrict_keeps_a_range_of_inputs(layout in layouts(&[Reg, Lane], &[Row, Col]), start in 0u32..8, len in 1u32..8) {
        let fits = start + len <= layout.in_size(Reg);
        match layout.restrict(Reg, start..start + len) {
            Ok(part) => for index in domain(&part.layout) {
                let whole = layout.apply(&[index[0] + start, index[1]]);
                let found = part.layout.apply(&index);
                prop_assert_eq!(whole.to_vec(), [found[0] + part.offset[0], found[1] + part.offset[1]]);
            },
            Err(error) => prop_assert_eq!(fits, matches!(error, LayoutError::NotRepresentable { .. }), "{}", error),
        }
    }

    #[test]
    fn permute_rename_and_transpose_move_names_only(layout in layouts(&[Reg, Lane], &[Row, Col])) {
        let ins = layout.permute_in(&[Lane, Reg]).expect("same set");
        let outs = layout.permute_out(&[Col, Row]).expect("same set");
        let renamed = layout.rename_in(Reg, Thread).expect("there").rename_out(Row, Batch).expect("there");
        prop_assert_eq!(renamed.out_dims(), [Batch, Col]);
        let flipped = layout.transposed();
        for i in domain(&layout) {
            let value = layout.apply(&i);
            prop_assert_eq!(&ins.apply(&[i[1], i[0]]), &value);
            prop_assert_eq!(&renamed.apply(&i), &value);
            prop_assert_eq!(outs.apply(&i).to_vec(), [value[1], value[0]]);
            prop_assert_eq!(flipped.apply(&i).to_vec(), [value[1], value[0]]);
        }
        prop_assert_eq!(flipped.out_dims(), layout.out_dims());
        prop_assert_eq!(flipped.transposed(), layout);
    }

    #[test]
    fn concat_out_puts_outputs_side_by_side(a in layouts(&[Reg, Lane], &[Row]), swap in any::<bool>()) {
        let b = if swap { a.permute_in(&[Lane, Reg]).expect("same set") } else { a.clone() };
        let b = b.rename_out(Row, Byte).expect("there");
        let both = a.concat_out(&b).expect("the same function twice has the same bits twice");
        for index in domain(&a) {
            let value = a.apply(&index)[0];
            prop_assert_eq!(both.apply(&index).to_vec(), [value, value]);
        }
    }
}

/// Register 0 lies below register 1 there: the part would need a negative basis.
#[test]
fn restrict_refuses_outputs_below_the_offset() {
    let layout: Layout = "{reg: [row16 0]} -> {row}".parse().unwrap();
    assert!(matches!(layout.restrict(Reg, 1..3), Err(LayoutError::NotRepresentable { .. })));
    assert_eq!(layout.restrict(Reg, 2..4).unwrap().layout.to_string(), "{reg: [row16]} -> {row}");
}

/// What the templates compose must be representable, not merely right when it is.
#[test]
fn fragments_reach_swizzled_tiles() {
    for cols in [64, 96, 112, 128, 176, 192, 256] {
        let smem = smem_tile(192, cols, 2, Swizzle::widest(cols * 2)).unwrap();
        let fragments = [
            wgmma_acc(192, cols, 1).unwrap(),
            wgmma_acc(192, cols, 3).unwrap(),
            wgmma_a(192, cols, 1).unwrap(),
            mma_acc(192, cols, 4, 1).unwrap(),
            mma_acc(192, cols, 2, 1).unwrap(),
            mma_a(192, cols, 4, 2).unwrap(),
            blocked(128, [192, cols], 8).unwrap(),
        ];
        for fragment in fragments {
            let bytes = fragment.compose(&smem).unwrap_or_else(|e| panic!("{cols} columns, {fragment}: {e}"));
            for index in domain(&fragment) {
                assert_eq!(bytes.apply(&index), smem.apply(&fragment.apply(&index)), "{fragment} then {smem}");
            }
        }
    }
}

#[test]
fn errors_say_what_and_where() {
    let acc = mma_acc(64, 192, 2, 2).unwrap();
    let carry = acc.compose(&smem_tile(64, 192, 2, Swizzle::B128).unwrap()).unwrap_err();
    assert!(carry.to_string().starts_with("compose gives no layout: at (reg="), "{carry}");
    let short = acc.compose(&smem_tile(32, 192, 2, Swizzle::B128).unwrap()).unwrap_err();
    assert_eq!(short.to_string(), "compose: `row` reaches 64 values where 32 are defined");
    let names = acc.compose(&acc).unwrap_err();
    assert_eq!(names.to_string(), "compose: expected dims (reg lane warp), found (row col)");
    let broadcast = mma_a(64, 16, 1, 2).unwrap().inverse().unwrap_err();
    assert_eq!(broadcast.to_string(), "not a bijection: 2048 inputs onto a box of 1024 outputs, some hit twice");
    let twice = Layout::onto([Row, Row]).build().unwrap_err();
    assert_eq!(twice, LayoutError::DuplicateDim { dim: Row, side: "output" });
    let large = Layout::onto([Byte]).outer(Row, 1 << 13, [(Byte, 1)]).outer(Col, 1 << 13, [(Byte, 1)]).build();
    assert_eq!(large.unwrap_err(), LayoutError::TooLarge { points: 1 << 26 });
    let far = Layout::onto([Byte]).outer(Row, 3, [(Byte, 1 << 31)]).build();
    assert_eq!(far.unwrap_err(), LayoutError::Overflow { dim: Byte, max: 1 << 32 });
}
