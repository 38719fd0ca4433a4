//! Questions about one layout.

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::{Dim::*, Layout, Swizzle, smem_tile, wgmma_acc};
use super::*;

/// By definition: runs of `v` neighbours, everywhere, aligned, nothing else moving.
fn naive_run(layout: &Layout, unit: u32) -> u32 {
    let holds = |v: u32| {
        layout.in_size(Reg).is_multiple_of(v)
            && domain(layout).iter().filter(|i| i[0] % v == 0).all(|i| {
                let first = layout.apply(i);
                first[1].is_multiple_of(v * unit)
                    && (0..v).all(|t| {
                        let next = layout.apply(&[i[0] + t, i[1]]);
                        next[0] == first[0] && next[1] == first[1] + t * unit
                    })
            })
    };
    (1..10).map(|b| 1 << b).take_while(|&v| holds(v)).last().unwrap_or(1)
}

proptest! {
    #[test]
    fn runs_are_those_of_the_definition(layout in layouts(&[Reg, Lane], &[Row, Col]), unit in 0u32..3) {
        prop_assert_eq!(layout.vector_width(Reg, Col, 1 << unit), naive_run(&layout, 1 << unit));
    }

    // Mostly contiguous along `reg`, with a bit, a last factor and a lane that may break the alignment.
    #[test]
    fn long_runs_are_found(
        plain in 0u32..4,
        stray in prop::option::of(0u32..40),
        extents in prop::collection::vec(1u32..7, 0..3),
        last in 0u32..40,
        lane_bit in 0u32..40,
        lane_stride in 0u32..40,
        keep in prop::array::uniform3(any::<bool>()),
    ) {
        let mut builder = Layout::onto([Row, Col]).bits(Reg, (0..plain).map(|b| (Col, 1 << b)));
        builder = stray.into_iter().fold(builder, |b, value| b.bit(Reg, [(Col, value)]));
        let mut unit = 1 << plain;
        for extent in extents {
            builder = builder.outer(Reg, extent, [(Col, unit)]);
            unit *= extent;
        }
        let [last, lane_bit, lane_stride] = [(last, 0), (lane_bit, 1), (lane_stride, 2)].map(|(v, i)| if keep[i] { v } else { 8 * v });
        builder = builder.outer(Reg, 2, [(Col, last)]).bit(Lane, [(Col, lane_bit)]).outer(Lane, 3, [(Col, lane_stride)]);
        let layout = builder.build().expect("small");
        prop_assert_eq!(layout.contiguous_run(Reg, Col), naive_run(&layout, 1));
    }

    #[test]
    fn injective_and_surjective_by_counting(layout in layouts(&[Reg, Lane], &[Row, Col])) {
        let outputs: HashSet<_> = domain(&layout).iter().map(|i| layout.apply(i)).collect();
        prop_assert_eq!(layout.is_injective(), outputs.len() == layout.points() as usize);
        let extents = [layout.out_extent(Row), layout.out_extent(Col)];
        prop_assert_eq!(layout.is_surjective_onto(&extents), outputs.len() as u32 == extents[0] * extents[1]);
        prop_assert!(!layout.is_surjective_onto(&[extents[0] + 1, extents[1]]));
    }

    #[test]
    fn bijections_are_both(layout in bijections()) {
        prop_assert!(layout.is_injective());
        prop_assert!(layout.is_surjective_onto(&[layout.out_extent(Row), layout.out_extent(Col)]));
    }
}

#[test]
fn store_widths() {
    let smem = smem_tile(64, 96, 2, Swizzle::B64).unwrap();
    assert_eq!(smem.vector_width(Col, Byte, 2), 8);
    assert_eq!(wgmma_acc(64, 96, 1).unwrap().compose(&smem).unwrap().vector_width(Reg, Byte, 2), 2);
    // 100-byte rows keep 4-byte alignment only.
    assert_eq!(smem_tile(8, 50, 2, Swizzle::None).unwrap().vector_width(Col, Byte, 2), 2);
}
