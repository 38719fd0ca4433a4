//! What the bound must not let through.

use super::super::{AttentionOperands, AttentionReference, Expected, Numerics, attention_reference};
use super::played::{Play, inputs, play};
use crate::attention::AttentionProblem;
use tilewright_ir::DType;

const SIZES: [usize; 5] = [1, 16, 512, 4, 2];
const HOW: Play = Play { tile: 64, backwards: false, parts: 1, numerics: Numerics::APPROX };

fn refused(e: &AttentionReference, p: &AttentionProblem, wrong: &AttentionOperands, what: &str) {
    let (o, lse) = play(p, wrong, HOW, 5);
    assert!(e.o.first_miss(&o).is_some() || e.lse.first_miss(&lse).is_some(), "{what} is not seen for {}", p.slug());
}

#[test]
fn small_mistakes_are_refused() {
    for dtype in [DType::BF16, DType::F16] {
        let p = AttentionProblem { alibi: true, sink: true, softcap: true, ..AttentionProblem::plain(dtype, 64) };
        let i = inputs(&p, SIZES, 9);
        let e = attention_reference(&p, &i, Numerics::APPROX);
        let (o, lse) = play(&p, &i, HOW, 5);
        assert_eq!((e.o.first_miss(&o), e.lse.first_miss(&lse)), (None, None));
        refused(&e, &p, &AttentionOperands { scale: i.scale * 1.001, ..i.clone() }, "a scale 0.1 % off");
        refused(&e, &p, &AttentionOperands { softcap: i.softcap * 1.001, ..i.clone() }, "a softcap 0.1 % off");
        let slopes = i.alibi.iter().map(|x| x * 1.001).collect();
        refused(&e, &p, &AttentionOperands { alibi: slopes, ..i.clone() }, "slopes 0.1 % off");
        let sinks = i.sink.iter().map(|x| x + 2.0).collect();
        refused(&e, &p, &AttentionOperands { sink: sinks, ..i.clone() }, "sinks off by 2");
        let plain = AttentionProblem { sink: false, ..p };
        refused(&e, &plain, &i, "a sink that is left out");
    }
}

#[test]
fn one_key_of_many_is_missed() {
    for dtype in [DType::BF16, DType::F16] {
        let p = AttentionProblem::plain(dtype, 64);
        let i = inputs(&p, SIZES, 11);
        let e = attention_reference(&p, &i, Numerics::APPROX);
        let (o, lse) = play(&p, &i, HOW, 5);
        assert_eq!((e.o.first_miss(&o), e.lse.first_miss(&lse)), (None, None));
        // Keys 510 and 511, of two heads.
        let at = 510 * 2 * 64;
        let last = |x: &[f64]| x[..511 * 2 * 64].to_vec();
        let fewer = AttentionOperands { sk: 511, k: last(&i.k), v: last(&i.v), ..i.clone() };
        refused(&e, &p, &fewer, "a key that is left out");
        let mut v = i.v.clone();
        v[at..].rotate_left(2 * 64);
        refused(&e, &p, &AttentionOperands { v, ..i.clone() }, "two values exchanged");
    }
}

/// The exact values pass, and one unit in the last place and a bit more of a value that is exact does not.
#[test]
fn one_key_leaves_no_room() {
    let p = AttentionProblem::plain(DType::BF16, 64);
    let i = inputs(&p, [1, 1, 1, 1, 1], 3);
    let e = attention_reference(&p, &i, Numerics::APPROX);
    assert_eq!(e.o.first_miss(&i.v), None);
    let off: Vec<f64> = i.v.iter().map(|v| v * (1.0 + 3.0 / 128.0)).collect();
    assert!(e.o.first_miss(&off).is_some());
    let lse = e.lse.value[0];
    assert!(e.lse.first_miss(&[lse + 1e-3]).is_some());
}

#[test]
fn infinities_nans_and_lengths() {
    let e = Expected { value: vec![1.0, f64::NEG_INFINITY], lowp: vec![1.0, f64::NEG_INFINITY], slack: vec![0.5, 0.0] };
    let miss = |found: &[f64]| e.first_miss(found).map(|m| m.index);
    assert_eq!(miss(&[1.5, f64::NEG_INFINITY]), None);
    assert_eq!(miss(&[1.6, f64::NEG_INFINITY]), Some(0));
    assert_eq!(miss(&[f64::NAN, f64::NEG_INFINITY]), Some(0));
    assert_eq!(miss(&[f64::INFINITY, f64::NEG_INFINITY]), Some(0));
    assert_eq!(miss(&[1.0, -1e30]), Some(1));
    assert_eq!(miss(&[1.0, f64::INFINITY]), Some(1));
    assert_eq!(miss(&[1.0, f64::NAN]), Some(1));
    assert_eq!(miss(&[1.0]), Some(1));
    assert_eq!(miss(&[1.0, f64::NEG_INFINITY, 0.0]), Some(2));
}
