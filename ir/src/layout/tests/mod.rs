//! Properties of the algebra against brute force over whole domains.

mod collapse;
mod fragments;
mod laws;
mod memory;
mod normal_form;
mod queries;
mod text;

use proptest::prelude::*;

use super::{Dim, Dim::*, Layout};

/// Every input point of a layout.
fn domain(layout: &Layout) -> Vec<Vec<u32>> {
    boxed(&layout.in_sizes().iter().map(|s| s.1).collect::<Vec<_>>())
}

/// Every point of a box, last coordinate fastest.
fn boxed(sizes: &[u32]) -> Vec<Vec<u32>> {
    sizes.iter().fold(vec![vec![]], |points, &size| {
        points.iter().flat_map(|p| (0..size).map(|i| [p.as_slice(), &[i]].concat())).collect()
    })
}

/// The definition, written from the accessors alone.
fn naive(layout: &Layout, index: &[u32]) -> Vec<u32> {
    (0..layout.out_dims().len())
        .map(|d| {
            let (mut xor, mut sum) = (0, 0);
            for (dim, &i) in layout.in_dims().zip(index) {
                let bases = layout.bases(dim);
                xor = (0..bases.len()).filter(|b| i >> b & 1 == 1).fold(xor, |x, b| x ^ bases[b].values()[d]);
                let mut rest = i >> bases.len();
                for outer in layout.outers(dim) {
                    sum += rest % outer.extent * outer.stride.values()[d];
                    rest /= outer.extent;
                }
            }
            xor + sum
        })
        .collect()
}

type Terms = Vec<(Dim, u32)>;

fn value() -> impl Strategy<Value = u32> {
    prop_oneof![2 => Just(0u32), 4 => (0u32..6).prop_map(|b| 1 << b), 1 => 0u32..64]
}

fn terms(outputs: &'static [Dim]) -> impl Strategy<Value = Terms> {
    prop::collection::vec(value(), outputs.len()).prop_map(|v| outputs.iter().copied().zip(v).collect())
}

/// Any layout from these inputs to these outputs, of at most some thousand points.
fn layouts(inputs: &'static [Dim], outputs: &'static [Dim]) -> impl Strategy<Value = Layout> {
    let bits = prop::collection::vec(terms(outputs), 0..=2);
    let outers = prop::collection::vec((1u32..=4, terms(outputs)), 0..=2);
    prop::collection::vec((bits, outers), inputs.len()).prop_map(move |drafts| {
        let mut builder = Layout::onto(outputs.iter().copied());
        for (&dim, (bits, outers)) in inputs.iter().zip(drafts) {
            builder = builder.input(dim);
            builder = bits.into_iter().fold(builder, |b, t| b.bit(dim, t));
            builder = outers.into_iter().fold(builder, |b, (e, t)| b.outer(dim, e, t));
        }
        builder.build().expect("small")
    })
}

/// A bijection of `{reg lane} -> {row col}`: digits dealt out in any order, then swizzled within powers of two.
fn bijections() -> impl Strategy<Value = Layout> {
    let digits =
        prop::collection::vec((prop_oneof![Just(2u32), Just(2), Just(4), Just(3), Just(5)], any::<bool>(), any::<bool>()), 0..=5);
    (digits, prop::collection::vec(any::<bool>(), 4), any::<prop::sample::Index>()).prop_map(|(digits, swizzled, pick)| {
        let mut order: Vec<usize> = (0..digits.len()).collect();
        if !order.is_empty() {
            order.rotate_left(pick.index(digits.len()));
        }
        let (mut unit_row, mut unit_col) = (1, 1);
        let mut dealt = vec![(Reg, 1u32, vec![]); digits.len()];
        for &i in &order {
            let (extent, on_row, on_lane) = digits[i];
            let (dim, unit) = if on_row { (Row, &mut unit_row) } else { (Col, &mut unit_col) };
            dealt[i] = (if on_lane { Lane } else { Reg }, extent, vec![(dim, *unit)]);
            *unit *= extent;
        }
        let mut builder = Layout::onto([Row, Col]).input(Reg).input(Lane);
        // Two row bits move column bits as well.
        for (bit, &moves) in swizzled.iter().enumerate().take(2) {
            let col = if moves { 1 << bit } else { 0 };
            builder = builder.bit(Lane, [(Row, 1 << bit), (Col, col)]).bit(Reg, [(Col, 1 << bit)]);
        }
        for (dim, extent, terms) in dealt {
            builder = builder.outer(dim, extent, terms.into_iter().map(|(d, v)| (d, 4 * v)));
        }
        builder.build().expect("small")
    })
}
