//! Which keys a query sees, by position.

use std::ops::RangeInclusive;

/// The masks that depend on positions alone. A query at p sees key j iff all of them let it.
#[derive(Clone, Debug, Default)]
pub(super) struct Masks {
    /// `j <= p`.
    pub causal: bool,
    /// Left and right: `p - left <= j <= p + right`.
    pub window: Option<[i64; 2]>,
    /// Chunk length: `floor(p / chunk) = floor(j / chunk)`.
    pub chunk: Option<i64>,
}

/// What a head type makes of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadKind {
    /// Nothing is hidden.
    Dense,
    /// Key j is visible iff `j < sink_tokens || p - j < recent_tokens`.
    Streaming,
    /// `block_mask` decides, with this index into its heads.
    Masked(usize),
}

impl Masks {
    pub fn sees(&self, p: i64, j: i64) -> bool {
        let window: RangeInclusive<i64> = self.window.map_or(i64::MIN..=i64::MAX, |[left, right]| p - left..=p + right);
        // p may be negative, where queries stand before the first key: division rounds down.
        let chunk = self.chunk.is_none_or(|c| p.div_euclid(c) == j.div_euclid(c));
        (!self.causal || j <= p) && window.contains(&j) && chunk
    }
}

impl HeadKind {
    /// What `head_type[h]` says; without head types, a mask is for all heads.
    pub fn of(head_type: Option<i32>, head: usize, mask_heads: usize) -> HeadKind {
        match head_type {
            None if mask_heads == 0 => HeadKind::Dense,
            None => HeadKind::Masked(if mask_heads == 1 { 0 } else { head }),
            Some(0) => HeadKind::Dense,
            Some(-1) => HeadKind::Streaming,
            Some(t) => {
                let row = usize::try_from(t - 1).ok().filter(|r| *r < mask_heads);
                HeadKind::Masked(row.unwrap_or_else(|| panic!("head_type {t} of head {head}: block_mask has {mask_heads} heads")))
            }
        }
    }
}
