//! Where workspaces lie in one allocation: those that are never needed at the same time share memory.

/// Every workspace starts at a multiple of this, as an allocation of its own would.
pub(crate) const ALIGNMENT: u64 = 256;

/// From the first launch that touches a workspace to the last one, both included. Launches run in order on one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

/// Finds places; keeps its lists, so that it allocates only when it meets more workspaces than ever before.
#[derive(Debug, Default)]
pub(crate) struct Placer {
    order: Vec<usize>,
    /// Begin and end of what is placed and alive with the one at hand.
    taken: Vec<(u64, u64)>,
}

impl Lifetime {
    pub(crate) fn meets(self, other: Lifetime) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl Placer {
    /// Fills `offsets` for workspaces of `sizes` bytes and returns how many bytes hold them all; none where that is beyond
    /// `i64`. All three have one entry a workspace; none gets fewer bytes than [`ALIGNMENT`], so that each has an address.
    ///
    /// Largest first, each at the lowest place that is free during its life (Pisarchyk and Lee, arXiv 2001.03288, "greedy by size
    /// for offset calculation"; the lowest gap did better here than the smallest).
    pub(crate) fn place(&mut self, sizes: &[u64], lives: &[Lifetime], offsets: &mut [u64]) -> Option<u64> {
        self.order.clear();
        self.order.extend(0..sizes.len());
        self.order.sort_unstable_by_key(|&at| (std::cmp::Reverse(sizes[at]), at));
        let mut total = 0u64;
        for done in 0..self.order.len() {
            let at = self.order[done];
            let bytes = sizes[at].max(1).checked_next_multiple_of(ALIGNMENT)?;
            self.taken.clear();
            let earlier = self.order[..done].iter().filter(|&&other| lives[other].meets(lives[at]));
            self.taken.extend(earlier.map(|&other| (offsets[other], offsets[other] + padded(sizes[other]))));
            self.taken.sort_unstable();
            let mut start = 0;
            for &(from, to) in &self.taken {
                if from >= start && from - start >= bytes {
                    break;
                }
                start = start.max(to);
            }
            offsets[at] = start;
            total = total.max(start.checked_add(bytes)?);
        }
        i64::try_from(total).is_ok().then_some(total)
    }
}

/// The bytes a workspace takes up; it was placed, so they do not overflow.
fn padded(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        }
    }

    #[test]
    fn workspaces_that_live_at_the_same_time_are_apart() {
        let mut next = random(5);
        let mut placer = Placer::default();
        let mut shared = 0;
        for _ in 0..300 {
            let count = 1 + next(12) as usize;
            let sizes: Vec<u64> = (0..count).map(|_| next(4) * next(3000)).collect();
            let lives: Vec<Lifetime> = (0..count)
                .map(|_| {
                    let first = next(8) as u32;
                    Lifetime { first, last: first + next(4) as u32 }
                })
                .collect();
            let mut offsets = vec![u64::MAX; count];
            let total = placer.place(&sizes, &lives, &mut offsets).unwrap();
            let bytes = |at: usize| sizes[at].max(1).next_multiple_of(256);
            // Launch by launch: whoever is alive in it owns its bytes alone.
            for launch in 0..12 {
                let alive: Vec<usize> = (0..count).filter(|&at| lives[at].first <= launch && launch <= lives[at].last).collect();
                for (i, &a) in alive.iter().enumerate() {
                    assert!(offsets[a].is_multiple_of(256) && offsets[a] + bytes(a) <= total);
                    for &b in &alive[..i] {
                        let apart = offsets[a] + bytes(a) <= offsets[b] || offsets[b] + bytes(b) <= offsets[a];
                        assert!(apart, "{a} and {b}: {offsets:?} {sizes:?} {lives:?}");
                    }
                }
            }
            let all: u64 = (0..count).map(bytes).sum();
            assert!(total <= all);
            shared += u64::from(total < all);
        }
        assert!(shared > 100, "only {shared} of 300 shared anything");
    }

    #[test]
    fn a_chain_of_launches_needs_two_at_a_time() {
        let lives: Vec<Lifetime> = (0..50).map(|at| Lifetime { first: at, last: at + 1 }).collect();
        let mut offsets = vec![0; 50];
        assert_eq!(Placer::default().place(&[1000; 50], &lives, &mut offsets), Some(2048));
        let ends = [Lifetime { first: 0, last: 3 }; 2];
        assert_eq!(Placer::default().place(&[u64::MAX - 300, 512], &ends, &mut offsets[..2]), None);
        assert_eq!(Placer::default().place(&[u64::MAX, 512], &ends, &mut offsets[..2]), None);
        assert_eq!(Placer::default().place(&[], &[], &mut []), Some(0));
    }
}
