//! `gen run page_stats`, `page_select` and decode on what they select, on both targets.

use crate::common::attention::*;
use crate::common::*;
use safetensors::tensor::Dtype;

const TARGETS: [&str; 2] = ["sm90", "sm80"];

/// A cache of 40 pages for two sequences; the second's last page is ragged.
const PAGES: usize = 40;
const LENGTHS: [usize; 2] = [16 * 16, 9 * 16 - 5];
const PAGE: usize = 16;
const MAX_PAGES: usize = 18;
const HQ: usize = 4;
const HKV: usize = 2;
const D: usize = 64;

/// Row of the page table of a sequence.
fn id(b: usize, i: usize) -> usize {
    (b * 17 + i * 3) % PAGES
}

fn table() -> Vec<i32> {
    let used = |b: usize| LENGTHS[b].div_ceil(PAGE);
    (0..2).flat_map(|b| (0..MAX_PAGES).map(move |i| if i < used(b) { id(b, i) as i32 } else { 9999 })).collect()
}

/// Bounds of the keys as page_stats gives them, checked against the keys: min, max `[pages, sub, hkv, d]`.
fn stats(target: &str, k: &[f64], bytes: &[u8], sub: usize) -> [Vec<f64>; 2] {
    let tensors = [("k_pages", Dtype::BF16, vec![PAGES, PAGE, HKV, D], bytes.to_vec())];
    let set = if sub > 1 { vec![format!("sub={sub}")] } else { Vec::new() };
    let (dir, _) = run("page_stats", target, &tensors, &set);
    let shape = if sub > 1 { vec![PAGES, sub, HKV, D] } else { vec![PAGES, HKV, D] };
    ["page_min", "page_max"].map(|name| {
        let (found_shape, found) = output(&dir, name);
        assert_eq!(found_shape, shape);
        let tokens = PAGE / sub;
        for (at, x) in found.iter().enumerate() {
            let (group, column) = (at / (HKV * D), at % (HKV * D));
            let keys = (0..tokens).map(|t| k[(group * tokens + t) * HKV * D + column]);
            let want =
                if name == "page_min" { keys.fold(f64::INFINITY, f64::min) } else { keys.fold(f64::NEG_INFINITY, f64::max) };
            assert_eq!(*x, want, "{target} {name}[{at}]");
        }
        found
    })
}

#[test]
fn bounds_scores_and_decode_on_the_best_pages() {
    for target in TARGETS {
        for (sub, top) in [(1, 5), (4, 3), (1, 30)] {
            let (k, k_bytes) = BF16.random(PAGES * PAGE * HKV * D, 1.0, 1);
            let (_, v_bytes) = BF16.random(PAGES * PAGE * HKV * D, 1.0, 2);
            let (q, q_bytes) = BF16.random(2 * HQ * D, 2.0, 3);
            let bounds = stats(target, &k, &k_bytes, sub);
            let bounds_shape = if sub > 1 { vec![PAGES, sub, HKV, D] } else { vec![PAGES, HKV, D] };
            let lengths: Vec<i32> = LENGTHS.iter().map(|n| *n as i32).collect();
            let sequences: Vec<Named> = vec![
                ("q", Dtype::BF16, vec![2, 1, HQ, D], q_bytes.clone()),
                ("page_table", Dtype::I32, vec![2, MAX_PAGES], i32_bytes(&table())),
                ("kv_len", Dtype::I32, vec![2], i32_bytes(&lengths)),
            ];
            let mut tensors = sequences.clone();
            tensors.push(("page_min", Dtype::BF16, bounds_shape.clone(), bf16_bytes(&bounds[0])));
            tensors.push(("page_max", Dtype::BF16, bounds_shape, bf16_bytes(&bounds[1])));
            let (dir, _) = run("page_select", target, &tensors, &[format!("page={PAGE}"), format!("top={top}")]);
            let (shape, select) = output(&dir, "select");
            assert_eq!(shape, [2, HQ, top]);
            for (b, h) in (0..2).flat_map(|b| (0..HQ).map(move |h| (b, h))) {
                let used = LENGTHS[b].div_ceil(PAGE);
                let score = |i: usize| {
                    let logical = |s: usize| {
                        let at = ((id(b, i) * sub + s) * HKV + h / (HQ / HKV)) * D;
                        let q = &q[(b * HQ + h) * D..][..D];
                        (0..D).map(|c| (q[c] * bounds[0][at + c]).max(q[c] * bounds[1][at + c])).sum::<f64>()
                    };
                    (0..sub).map(logical).fold(f64::NEG_INFINITY, f64::max)
                };
                // The last page stands before all others.
                let mut best: Vec<usize> = (0..used - 1).collect();
                best.sort_by(|i, j| score(*j).total_cmp(&score(*i)));
                best.truncate(top - 1);
                best.push(used - 1);
                let mut found: Vec<i64> = select[(b * HQ + h) * top..][..top].iter().map(|x| *x as i64).collect();
                found.sort_unstable();
                best.sort_unstable();
                let mut want = vec![-1; top - best.len()];
                want.extend(best.iter().map(|i| *i as i64));
                assert_eq!(found, want, "{target} sub {sub} top {top} [{b}, {h}]");
            }
            // Decode on the selection: where it is every page, as without one.
            let mut tensors = sequences;
            tensors.push(("k_pages", Dtype::BF16, vec![PAGES, PAGE, HKV, D], k_bytes));
            tensors.push(("v_pages", Dtype::BF16, vec![PAGES, PAGE, HKV, D], v_bytes));
            let all = output(&run("attention_decode", target, &tensors, &[]).0, "o").1;
            let indices: Vec<i32> = select.iter().map(|x| *x as i32).collect();
            tensors.push(("select", Dtype::I32, vec![2, HQ, top], i32_bytes(&indices)));
            let some = output(&run("attention_decode", target, &tensors, &[]).0, "o").1;
            let close = |a: &f64, b: &f64| (a - b).abs() <= 0.01;
            assert_eq!(some.iter().zip(&all).all(|(a, b)| close(a, b)), top >= MAX_PAGES, "{target} top {top}");
        }
    }
}
