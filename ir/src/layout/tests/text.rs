//! Display and FromStr.

use proptest::prelude::*;

use super::super::{Dim, Layout, wgmma_acc};
use super::*;

proptest! {
    #[test]
    fn round_trips(layout in layouts(&[Reg, Lane, Warp], &[Row, Col])) {
        let text = layout.to_string();
        prop_assert!(!text.contains('\n'));
        prop_assert_eq!(text.matches('{').count(), text.matches('}').count());
        prop_assert_eq!(text.parse::<Layout>().expect("printed by us"), layout);
    }

    #[test]
    fn never_panics(text in "[{}\\[\\]|:*+> a-z0-9é-]{0,40}") {
        let _ = text.parse::<Layout>();
    }
}

#[test]
fn dims_round_trip() {
    for dim in Dim::all() {
        assert_eq!(dim.name().parse::<Dim>().unwrap(), dim);
    }
}

#[test]
fn spaces_are_free_and_the_empty_layout_has_text() {
    let tight: Layout = "{reg:[col1 row8|12*col8]lane:[]}->{row col}".parse().unwrap();
    assert_eq!(tight.to_string(), "{reg: [col1 row8 | 12*col8] lane: []} -> {row col}");
    let empty: Layout = " { } -> { } ".parse().unwrap();
    assert_eq!(empty.to_string(), "{} -> {}");
    assert_eq!(wgmma_acc(64, 8, 2).unwrap_err().to_string(), "m = 64 is not a positive multiple of 128: pad the tile");
}

#[test]
fn errors_point_at_the_text() {
    let error = |text: &str| text.parse::<Layout>().unwrap_err().to_string();
    assert_eq!(error("{reg: [col1} -> {col}"), "layout text, column 12: expected the name of a dim, found `} -> {col}`");
    assert_eq!(
        error("{reg: [col]} -> {col}"),
        "layout text, column 11: expected a value joined to its dim, as in `col8`, found `]} -> {col}`"
    );
    assert_eq!(
        error("{reg: [| col8]} -> {col}"),
        "layout text, column 10: expected an extent, as in `12*col8`, found `col8]} -> {col}`"
    );
    assert_eq!(error("{reg: [col1]}"), "layout text, column 14: expected `->`, found `end of text`");
    assert_eq!(
        error("{reg: []} -> {colour}"),
        "`colour` is not a dim: use one of (reg lane warp thread block row col batch matrix elem byte)"
    );
    assert_eq!(error("{reg: [row1]} -> {col}"), "no output `row` in this layout: it has (col)");
    assert_eq!(error("{reg: [] reg: []} -> {col}"), "dim `reg` appears twice among the inputs of one layout: rename one of them");
}
