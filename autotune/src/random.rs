//! Numbers that follow from a seed and words, the same everywhere.

/// 64 bits of a seed and words.
pub(crate) fn hash(seed: u64, words: &[&str]) -> u64 {
    let mut h = mix(seed ^ 0x9e37_79b9_7f4a_7c15);
    for w in words {
        for b in w.bytes() {
            h = (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
        }
        h = mix(h ^ w.len() as u64);
    }
    h
}

/// The finisher of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn mix(mut h: u64) -> u64 {
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

/// Of [0, 1).
pub(crate) fn unit(h: u64) -> f64 {
    (mix(h.wrapping_add(0x9e37_79b9_7f4a_7c15)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Of the normal distribution of mean 0 and deviation 1 (Box and Muller).
pub(crate) fn normal(h: u64) -> f64 {
    let (u, v) = (unit(h), unit(h ^ 0x5bf0_3635_0c2c_1e1d));
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart_and_numbers_are_spread() {
        assert_ne!(hash(0, &["ab", "c"]), hash(0, &["a", "bc"]));
        assert_ne!(hash(0, &["a"]), hash(1, &["a"]));
        let of = |f: fn(u64) -> f64| (0..10_000).map(|i| f(hash(i, &["x"]))).collect::<Vec<_>>();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (u, n) = (of(unit), of(normal));
        assert!((mean(&u) - 0.5).abs() < 0.02 && u.iter().all(|v| (0.0..1.0).contains(v)));
        let squares: Vec<f64> = n.iter().map(|v| v * v).collect();
        assert!(mean(&n).abs() < 0.04 && (mean(&squares) - 1.0).abs() < 0.06);
    }
}
