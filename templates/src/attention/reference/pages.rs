//! Bounds of pages, and what a right selection is.

use super::bound::ROUND;
use crate::attention::pages::PageProblem;

/// Data of a page selection, row-major.
#[derive(Clone, Debug, Default)]
pub struct PageOperands {
    /// Sequences.
    pub batch: usize,
    /// Query heads.
    pub hq: usize,
    /// Key heads.
    pub hkv: usize,
    /// Tokens of a page.
    pub page: usize,
    /// Logical pages of a page; 1 without.
    pub sub: usize,
    /// Pages to select, the last one among them.
    pub top: usize,
    /// `[batch, 1, hq, d]`.
    pub q: Vec<f64>,
    /// `[pages, sub, hkv, d]`.
    pub page_min: Vec<f64>,
    /// `[pages, sub, hkv, d]`.
    pub page_max: Vec<f64>,
    /// `[batch, max_pages]`.
    pub page_table: Vec<i32>,
    /// `[batch]`.
    pub kv_len: Vec<i32>,
}

/// `page_min` and `page_max`, `[pages, sub, hkv, d]`, of `k_pages [pages, page, hkv, d]`: exact, elementwise.
pub fn page_stats_reference(p: &PageProblem, k_pages: &[f64], [pages, page, hkv, sub]: [usize; 4]) -> [Vec<f64>; 2] {
    let (d, tokens) = (p.d as usize, page / sub);
    let mut out = [f64::INFINITY, f64::NEG_INFINITY].map(|x| vec![x; pages * sub * hkv * d]);
    for (at, k) in k_pages.iter().enumerate() {
        let (rest, token) = (at % (hkv * d), at / (hkv * d));
        let (page_at, slot) = (token / page, token % page);
        let to = (page_at * sub + slot / tokens) * hkv * d + rest;
        out[0][to] = out[0][to].min(*k);
        out[1][to] = out[1][to].max(*k);
    }
    out
}

/// Says what is wrong with a selection `[batch, hq, top]`, if anything: for each sequence and head the last page is there, no
/// page stands twice or does not exist, -1 stands only where there are no pages left, and no page left out has a larger
/// score than one taken, by more than both may be rounded.
///
/// The score of a page is the largest over its logical pages of `sum_d max(q_d min_d, q_d max_d)`; f32 sums of d terms are
/// off by at most `(d + 2) u` of the sum of magnitudes.
pub fn page_select_check(p: &PageProblem, x: &PageOperands, found: &[i32]) -> Result<(), String> {
    let (d, group) = (p.d as usize, x.hq / x.hkv);
    let max_pages = x.page_table.len() / x.batch.max(1);
    if found.len() != x.batch * x.hq * x.top {
        return Err(format!("{} entries instead of {}", found.len(), x.batch * x.hq * x.top));
    }
    for (b, h) in (0..x.batch).flat_map(|b| (0..x.hq).map(move |h| (b, h))) {
        let fail = |what: String| Err(format!("sequence {b} head {h}: {what}"));
        let count = (x.kv_len[b].max(0) as usize).div_ceil(x.page);
        let list = &found[(b * x.hq + h) * x.top..][..x.top];
        let mut taken: Vec<usize> = list.iter().filter_map(|s| usize::try_from(*s).ok()).collect();
        if let Some(bad) = list.iter().find(|s| **s < -1 || **s >= count as i32) {
            return fail(format!("page {bad} of {count}"));
        }
        taken.sort_unstable();
        if let Some(twice) = taken.windows(2).find(|w| w[0] == w[1]) {
            return fail(format!("page {} stands twice", twice[0]));
        }
        if taken.len() != count.min(x.top) {
            return fail(format!("{} pages instead of {}", taken.len(), count.min(x.top)));
        }
        if count > 0 && x.top > 0 && taken.last() != Some(&(count - 1)) {
            return fail(format!("the last page, {}, is not among {taken:?}", count - 1));
        }
        let q = &x.q[(b * x.hq + h) * d..][..d];
        let score = |page: usize| {
            let physical = x.page_table[b * max_pages + page] as usize;
            let one = |s: usize| {
                let row = ((physical * x.sub + s) * x.hkv + h / group) * d;
                let terms = (0..d).map(|c| (q[c] * x.page_min[row + c]).max(q[c] * x.page_max[row + c]));
                let (sum, size) = terms.fold((0.0, 0.0), |(s, m), t| (s + t, m + f64::abs(t)));
                (sum, (d as f64 + 2.0) * ROUND * size)
            };
            (0..x.sub).map(one).fold((f64::NEG_INFINITY, 0.0f64), |a, b| (a.0.max(b.0), a.1.max(b.1)))
        };
        let scores: Vec<(f64, f64)> = (0..count).map(score).collect();
        let (mut worst, mut best) = ((f64::INFINITY, 0), (f64::NEG_INFINITY, 0));
        for (page, (s, e)) in scores.iter().enumerate().take(count.saturating_sub(1)) {
            if taken.binary_search(&page).is_ok() {
                worst = if s + e < worst.0 { (s + e, page) } else { worst };
            } else {
                best = if s - e > best.0 { (s - e, page) } else { best };
            }
        }
        if best.0 > worst.0 {
            return fail(format!("page {} scores {} and is left out, page {} scores {}", best.1, best.0, worst.1, worst.0));
        }
    }
    Ok(())
}
