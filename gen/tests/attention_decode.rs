//! `gen run attention_decode` and `attention_merge` against the definition, on both targets.

use crate::common::attention::*;
use crate::common::*;
use safetensors::tensor::Dtype;

const TARGETS: [&str; 2] = ["sm90", "sm80"];

/// A decode; what is 0 or none is off.
#[derive(Clone)]
struct Case {
    target: &'static str,
    kind: Kind,
    /// Query tokens, query heads, key heads.
    heads: [usize; 3],
    d: usize,
    page: usize,
    lengths: Vec<usize>,
    causal: bool,
    window: Option<usize>,
    softcap: f64,
    alibi: bool,
    sink: bool,
    /// Heads that select, 0 for none: key heads or query heads.
    select: usize,
    set: Vec<String>,
}

impl Case {
    fn plain(target: &'static str, heads: [usize; 3], page: usize, lengths: &[usize]) -> Case {
        Case {
            target,
            kind: BF16,
            heads,
            d: 64,
            page,
            lengths: lengths.to_vec(),
            causal: true,
            window: None,
            softcap: 0.0,
            alibi: false,
            sink: false,
            select: 0,
            set: Vec::new(),
        }
    }
}

/// Whether page i of a sequence is selected.
fn chosen(b: usize, h: usize, i: usize) -> bool {
    (b + 2 * h + i) % 3 != 1
}

/// Gives o and lse.
fn check(c: &Case) -> (Vec<f64>, Vec<f64>) {
    let [sq, hq, hkv] = c.heads;
    let (batch, d, page) = (c.lengths.len(), c.d, c.page);
    let name = format!("{} {:?} page {page} lengths {:?} select {} {:?}", c.target, c.heads, c.lengths, c.select, c.set);
    let used: Vec<usize> = c.lengths.iter().map(|n| n.div_ceil(page)).collect();
    let max_pages = used.iter().max().unwrap() + 1;
    let pages = used.iter().sum::<usize>() + 1;
    // Pages in no order; what is past a length is NaN, and the table names no page there.
    let place = |i: usize| (i * 7 + 3) % pages;
    assert!(pages % 7 != 0, "{name}: pages repeat");
    let mut table = vec![-5; batch * max_pages];
    let (mut k, mut v) = (vec![f64::NAN; pages * page * hkv * d], vec![f64::NAN; pages * page * hkv * d]);
    let mut next = 0;
    for b in 0..batch {
        for i in 0..used[b] {
            let id = place(next);
            next += 1;
            table[b * max_pages + i] = id as i32;
            let filled = page.min(c.lengths[b] - i * page) * hkv * d;
            let at = id * page * hkv * d;
            k[at..at + filled].copy_from_slice(&c.kind.random(filled, 1.0, 10 + next as u64).0);
            v[at..at + filled].copy_from_slice(&c.kind.random(filled, 1.0, 1000 + next as u64).0);
        }
    }
    let (q, q_bytes) = c.kind.random(batch * sq * hq * d, 3.0, 1);
    let bytes = |x: &[f64]| -> Vec<u8> {
        let f16 = |x: &f64| half::f16::from_f64(*x).to_le_bytes();
        if c.kind == BF16 { bf16_bytes(x) } else { x.iter().flat_map(f16).collect() }
    };
    let lengths: Vec<i32> = c.lengths.iter().map(|n| *n as i32).collect();
    let cache = vec![pages, page, hkv, d];
    let mut tensors: Vec<Named> = vec![
        ("q", c.kind.dtype, vec![batch, sq, hq, d], q_bytes),
        ("k_pages", c.kind.dtype, cache.clone(), bytes(&k)),
        ("v_pages", c.kind.dtype, cache, bytes(&v)),
        ("page_table", Dtype::I32, vec![batch, max_pages], i32_bytes(&table)),
        ("kv_len", Dtype::I32, vec![batch], i32_bytes(&lengths)),
    ];
    let mut set = c.set.clone();
    if c.causal {
        set.push("causal=true".into());
    }
    if let Some(left) = c.window {
        set.push(format!("window_left={left}"));
    }
    if c.softcap > 0.0 {
        set.push(format!("softcap={}", c.softcap));
    }
    let slopes: Vec<f64> = (0..hq).map(|h| 0.5f64.powi(h as i32 + 3)).collect();
    if c.alibi {
        tensors.push(("alibi", Dtype::F32, vec![hq], f32_bytes(&slopes)));
    }
    let sinks: Vec<f64> = (0..hq).map(|h| 1.0 - h as f64).collect();
    if c.sink {
        tensors.push(("sink", Dtype::F32, vec![hq], f32_bytes(&sinks)));
    }
    if c.select > 0 {
        let mut select = Vec::new();
        for (b, h) in (0..batch).flat_map(|b| (0..c.select).map(move |h| (b, h))) {
            // Latest first: the order says nothing.
            select.extend((0..max_pages).rev().map(|i| if i < used[b] && chosen(b, h, i) { i as i32 } else { -1 }));
        }
        tensors.push(("select", Dtype::I32, vec![batch, c.select, max_pages], i32_bytes(&select)));
    }
    let (dir, _) = run("attention_decode", c.target, &tensors, &set);
    let (o_shape, o) = output(&dir, "o");
    let (lse_shape, lse) = output(&dir, "lse");
    assert_eq!((o_shape, lse_shape), (vec![batch, sq, hq, d], vec![batch, hq, sq]), "{name}");
    for (b, h, i) in (0..batch).flat_map(|b| (0..hq).flat_map(move |h| (0..sq).map(move |i| (b, h, i)))) {
        let g = h / (hq / hkv);
        let n = c.lengths[b];
        let p = n as i64 - sq as i64 + i as i64;
        let sees = |j: usize| {
            let back = p - j as i64;
            let head = if c.select == hq { h } else { g };
            (!c.causal || back >= 0) && c.window.is_none_or(|w| back <= w as i64) && (c.select == 0 || chosen(b, head, j / page))
        };
        let keys: Vec<(&[f64], &[f64], f64)> = (0..n)
            .filter(|j| sees(*j))
            .map(|j| {
                let id = table[b * max_pages + j / page] as usize;
                let at = ((id * page + j % page) * hkv + g) * d;
                let add = if c.alibi { -slopes[h] * (p - j as i64).abs() as f64 } else { 0.0 };
                (&k[at..at + d], &v[at..at + d], add)
            })
            .collect();
        let at = ((b * sq + i) * hq + h) * d;
        let want = row(&q[at..at + d], &keys, d, 1.0 / (d as f64).sqrt(), c.softcap, c.sink.then(|| sinks[h]));
        close(&name, &format!("[{b}, {i}, {h}]"), &o[at..at + d], lse[(b * hq + h) * sq + i], &want, c.kind.unit);
    }
    (o, lse)
}

#[test]
fn pages_of_every_size_and_lengths_from_none() {
    for target in TARGETS {
        for page in [1, 16, 64, 128] {
            check(&Case::plain(target, [1, 4, 1], page, &[0, 1, 75, 200]));
        }
    }
}

#[test]
fn groups_of_heads_and_several_query_tokens() {
    for target in TARGETS {
        for heads in [[1, 8, 8], [1, 5, 1], [3, 6, 2], [8, 8, 1], [2, 2, 2]] {
            check(&Case::plain(target, heads, 16, &[37, 2, 100]));
        }
        check(&Case { causal: false, ..Case::plain(target, [4, 4, 2], 16, &[37, 3]) });
        for d in [128, 256] {
            check(&Case { d, kind: F16, ..Case::plain(target, [1, 8, 2], 16, &[90, 33]) });
        }
    }
}

#[test]
fn masks_and_score_terms() {
    for target in TARGETS {
        let c = Case::plain(target, [2, 4, 2], 16, &[120, 31]);
        check(&Case { window: Some(40), ..c.clone() });
        check(&Case { softcap: 2.0, ..c.clone() });
        check(&Case { alibi: true, ..c.clone() });
        check(&Case { sink: true, ..c });
    }
}

#[test]
fn parts_and_their_merge() {
    for target in TARGETS {
        let c = Case::plain(target, [2, 4, 2], 16, &[300, 0, 1, 129]);
        for set in ["splits=1", "splits=2", "splits=5", "split_size=128"] {
            check(&Case { set: vec![set.into()], sink: set == "splits=2", ..c.clone() });
        }
    }
}

#[test]
fn selected_pages() {
    for target in TARGETS {
        for (heads, select) in [([1, 4, 2], 2), ([1, 4, 2], 4), ([2, 3, 3], 3)] {
            check(&Case { select, ..Case::plain(target, heads, 16, &[130, 20, 0]) });
        }
    }
}

/// Parts of a fixed size: a sequence gives the same bits whoever shares its batch.
#[test]
fn a_fixed_part_size_is_batch_invariant() {
    for target in TARGETS {
        let c = Case { set: vec!["split_size=128".into()], ..Case::plain(target, [1, 4, 2], 16, &[300]) };
        let (alone, shared) = (check(&c), check(&Case { lengths: vec![300, 40, 500, 20], ..c.clone() }));
        assert_eq!((&alone.0[..], &alone.1[..]), (&shared.0[..alone.0.len()], &shared.1[..alone.1.len()]), "{target}");
    }
}

#[test]
fn merging_parts_by_their_lse() {
    for target in TARGETS {
        for (shape, kind, out) in [([3, 2, 5, 3, 64], BF16, ""), ([5, 1, 1, 4, 130], F16, "f32"), ([2, 3, 2, 1, 7], BF16, "bf16")]
        {
            let [parts, batch, sq, hq, d] = shape;
            let (o, bytes) = kind.random(parts * batch * sq * hq * d, 2.0, 3);
            let mut lse: Vec<f64> = random(parts * batch * hq * sq, 4).iter().map(|x| f64::from((x * 6.0) as f32)).collect();
            // A part that saw nothing, and a row where none did.
            lse[0] = f64::NEG_INFINITY;
            let row_of_all = batch * hq * sq - 1;
            (0..parts).for_each(|s| lse[s * batch * hq * sq + row_of_all] = f64::NEG_INFINITY);
            let tensors: Vec<Named> =
                vec![("o", kind.dtype, shape.to_vec(), bytes), ("lse", Dtype::F32, vec![parts, batch, hq, sq], f32_bytes(&lse))];
            let set: Vec<String> = if out.is_empty() { vec![] } else { vec![format!("out={out}")] };
            let (dir, _) = run("attention_merge", target, &tensors, &set);
            let ((o_shape, found), (lse_shape, found_lse)) = (output(&dir, "o"), output(&dir, "lse"));
            assert_eq!((o_shape, lse_shape), (vec![batch, sq, hq, d], vec![batch, hq, sq]));
            for (b, h, i) in (0..batch).flat_map(|b| (0..hq).flat_map(move |h| (0..sq).map(move |i| (b, h, i)))) {
                let at = |s: usize| (((s * batch + b) * hq) + h) * sq + i;
                let max = (0..parts).map(|s| lse[at(s)]).fold(f64::NEG_INFINITY, f64::max);
                let w: Vec<f64> = (0..parts).map(|s| if max.is_finite() { (lse[at(s)] - max).exp() } else { 0.0 }).collect();
                let sum: f64 = w.iter().sum();
                let want_lse = max + sum.ln();
                let got = found_lse[(b * hq + h) * sq + i];
                assert!(got == want_lse || (got - want_lse).abs() < 1e-5, "{target} lse[{b}, {h}, {i}] {got} {want_lse}");
                for c in 0..d {
                    let row = |s: usize| (((s * batch + b) * sq + i) * hq + h) * d + c;
                    let want = (0..parts).map(|s| w[s] * o[row(s)]).sum::<f64>() / if sum > 0.0 { sum } else { 1.0 };
                    let unit = if out == "f32" { 0.0 } else { kind.unit };
                    let got = found[((b * sq + i) * hq + h) * d + c];
                    assert!((got - want).abs() <= unit * want.abs() + 1e-5, "{target} o[{b}, {i}, {h}, {c}] {got} {want}");
                }
            }
        }
    }
}
