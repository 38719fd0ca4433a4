//! References of the page kernels in f64: bounds of the keys of pages, scores of pages.

/// Sizes of page statistics: pages, tokens of a page, key heads, elements of a head, logical pages of a page.
#[derive(Clone, Copy, Debug)]
pub struct PageSizes {
    /// Pages of the cache.
    pub pages: usize,
    /// Tokens of a page.
    pub page: usize,
    /// Key heads.
    pub hkv: usize,
    /// Elements of a head.
    pub d: usize,
    /// Logical pages of a page.
    pub sub: usize,
}

/// Elementwise smallest and largest key of each logical page, `[pages, sub, hkv, d]`, of `keys [pages, page, hkv, d]`.
pub fn page_bounds(keys: &[f64], s: PageSizes) -> [Vec<f64>; 2] {
    let row = s.hkv * s.d;
    let mut bounds = [Vec::new(), Vec::new()];
    for tokens in keys.chunks_exact(s.page / s.sub * row) {
        for at in 0..row {
            let column = tokens.iter().skip(at).step_by(row);
            bounds[0].push(column.clone().copied().fold(f64::INFINITY, f64::min));
            bounds[1].push(column.copied().fold(f64::NEG_INFINITY, f64::max));
        }
    }
    bounds
}

/// The score of a page for one head, `sum_d max(q min, q max)` of its best logical page; and the sum of the magnitudes that
/// were added, which the error of an f32 sum is relative to. `bounds` are rows of `d`, one a logical page.
pub fn page_score<'a>(q: &[f64], bounds: impl Iterator<Item = [&'a [f64]; 2]>) -> [f64; 2] {
    let score = |[low, high]: [&[f64]; 2]| {
        let terms = q.iter().zip(low.iter().zip(high)).map(|(q, (a, b))| (q * a).max(q * b));
        terms.fold([0.0, 0.0], |[sum, size], x| [sum + x, size + x.abs()])
    };
    bounds.map(score).fold([f64::NEG_INFINITY, 0.0], |[best, size], [x, y]| [best.max(x), f64::max(size, y)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_scores_by_hand() {
        // One page of 4 tokens in 2 logical pages, 1 head of 2.
        let s = PageSizes { pages: 1, page: 4, hkv: 1, d: 2, sub: 2 };
        let [low, high] = page_bounds(&[1.0, 5.0, -2.0, 6.0, 3.0, 0.0, 4.0, -1.0], s);
        assert_eq!((&low[..], &high[..]), (&[-2.0, 5.0, 3.0, -1.0][..], &[1.0, 6.0, 4.0, 0.0][..]));
        let rows = low.chunks(2).zip(high.chunks(2)).map(|(a, b)| [a, b]);
        // -1 * -2 + 1 * 6 against -1 * 3 + 1 * 0.
        assert_eq!(page_score(&[-1.0, 1.0], rows), [8.0, 8.0]);
    }
}
