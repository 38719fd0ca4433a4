//! Races between clusters that run on different threads and never synchronise: whatever one writes, no other may touch.
//!
//! For each word (or byte, of words touched in part) the lowest and highest mark of its writers and readers are kept.
//! Those do not depend on the order in which threads get here, so the findings are the same in every run.

use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Who touched a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub cluster: u32,
    pub pc: u32,
    /// Rank in the cluster.
    pub cta: u32,
    pub warp: u32,
}

impl Mark {
    fn pack(self) -> u64 {
        let low = (self.pc & 0xf_ffff) << 12 | (self.cta & 15) << 6 | self.warp & 63;
        u64::from(self.cluster) << 32 | u64::from(low)
    }

    fn unpack(bits: u64) -> Mark {
        let low = bits as u32;
        Mark { cluster: (bits >> 32) as u32, pc: low >> 12, cta: low >> 6 & 15, warp: low & 63 }
    }
}

/// Lowest and highest of what was seen.
struct Range {
    low: AtomicU64,
    high: AtomicU64,
}

impl Range {
    fn new() -> Self {
        Range { low: AtomicU64::new(u64::MAX), high: AtomicU64::new(0) }
    }

    #[inline]
    fn add(&self, bits: u64) {
        if self.low.load(Relaxed) > bits {
            self.low.fetch_min(bits, Relaxed);
        }
        if self.high.load(Relaxed) < bits {
            self.high.fetch_max(bits, Relaxed);
        }
    }

    fn get(&self) -> Option<(Mark, Mark)> {
        let low = self.low.load(Relaxed);
        (low != u64::MAX).then(|| (Mark::unpack(low), Mark::unpack(self.high.load(Relaxed))))
    }
}

/// Values written, to tell whether all were the same.
struct Values {
    low: AtomicU32,
    high: AtomicU32,
}

impl Values {
    #[inline]
    fn add(&self, low: u32, high: u32) {
        if self.low.load(Relaxed) > low {
            self.low.fetch_min(low, Relaxed);
        }
        if self.high.load(Relaxed) < high {
            self.high.fetch_max(high, Relaxed);
        }
    }
}

struct Cells {
    ranges: Box<[Range]>,
    values: Box<[Values]>,
}

impl Cells {
    fn new(count: usize, with_values: bool) -> Self {
        let value = || Values { low: AtomicU32::new(u32::MAX), high: AtomicU32::new(0) };
        Cells {
            ranges: (0..count).map(|_| Range::new()).collect(),
            values: (0..if with_values { count } else { 0 }).map(|_| value()).collect(),
        }
    }
}

const PAGE: u64 = 4096;
const WORDS: usize = PAGE as usize / 4;

/// Marks of a page: words and bytes, of writers and readers, each once there are any.
#[derive(Default)]
struct Page {
    words: [OnceLock<Cells>; 2],
    bytes: [OnceLock<Cells>; 2],
}

/// Two clusters touch the same bytes, and at least one writes.
#[derive(Clone, Copy, Debug)]
pub struct Crossing {
    pub address: u64,
    /// Writes.
    pub first: Mark,
    pub second: Mark,
    pub second_writes: bool,
    /// Only writes, all of the same value.
    pub equal: bool,
}

/// Marks of all clusters of a launch.
#[derive(Default)]
pub struct Across {
    pages: [Mutex<FxHashMap<u64, Arc<Page>>>; 16],
}

impl std::fmt::Debug for Across {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Across")
    }
}

impl Across {
    fn page(&self, number: u64) -> Arc<Page> {
        let shard = &self.pages[(number % 16) as usize];
        Arc::clone(shard.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_default())
    }

    /// Notes an access; `value` are the bytes written, if they are known.
    #[cfg(test)]
    fn touch(&self, mark: Mark, address: u64, bytes: u32, writes: bool, value: Option<&[u8]>) {
        Touched::default().touch(self, mark, address, bytes, writes, value);
    }

    /// What collides, by address, one for each pair of instructions.
    pub fn crossings(&self) -> Vec<Crossing> {
        let mut pages: Vec<(u64, Arc<Page>)> = Vec::new();
        for shard in &self.pages {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            pages.extend(shard.iter().map(|(number, page)| (*number, Arc::clone(page))));
        }
        pages.sort_by_key(|(number, _)| *number);
        let mut found: Vec<Crossing> = Vec::new();
        for (number, page) in pages {
            for word in 0..WORDS {
                let address = number * PAGE + 4 * word as u64;
                for crossing in page.crossing(word, address).into_iter().flatten() {
                    let pair = |c: &Crossing| (c.first.pc, c.second.pc, c.second_writes, c.equal);
                    if found.len() < 64 && !found.iter().any(|old| pair(old) == pair(&crossing)) {
                        found.push(crossing);
                    }
                }
            }
        }
        found
    }
}

/// Pages that a cluster has touched, so that it need not ask for them again.
#[derive(Default)]
pub struct Touched {
    pages: FxHashMap<u64, Arc<Page>>,
    last: Option<(u64, Arc<Page>)>,
}

impl std::fmt::Debug for Touched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Touched")
    }
}

impl Touched {
    fn page(&mut self, across: &Across, number: u64) -> Arc<Page> {
        if let Some((last, page)) = &self.last
            && *last == number
        {
            return Arc::clone(page);
        }
        let page = Arc::clone(self.pages.entry(number).or_insert_with(|| across.page(number)));
        self.last = Some((number, Arc::clone(&page)));
        page
    }

    /// Notes an access; `value` are the bytes written, if they are known.
    pub fn touch(&mut self, across: &Across, mark: Mark, address: u64, bytes: u32, writes: bool, value: Option<&[u8]>) {
        let bits = mark.pack();
        let which = usize::from(!writes);
        let (mut at, end) = (address, address + u64::from(bytes));
        while at < end {
            let page = self.page(across, at / PAGE);
            let stop = end.min((at / PAGE + 1) * PAGE);
            while at < stop {
                let whole = at.is_multiple_of(4) && stop - at >= 4;
                let (cells, index, size) = if whole {
                    let cells = page.words[which].get_or_init(|| Cells::new(WORDS, writes));
                    (cells, (at % PAGE / 4) as usize, 4)
                } else {
                    let cells = page.bytes[which].get_or_init(|| Cells::new(PAGE as usize, writes));
                    (cells, (at % PAGE) as usize, 1)
                };
                cells.ranges[index].add(bits);
                if writes {
                    let from = (at - address) as usize;
                    let value = value.and_then(|value| value.get(from..from + size)).map(|bytes| {
                        let mut word = [0; 4];
                        word[..size].copy_from_slice(bytes);
                        u32::from_le_bytes(word)
                    });
                    let seen = &cells.values[index];
                    match value {
                        Some(value) => seen.add(value, value),
                        // Unknown values count as different ones.
                        None => seen.add(0, u32::MAX),
                    }
                }
                at += size as u64;
            }
        }
    }
}

impl Page {
    fn crossing(&self, word: usize, address: u64) -> [Option<Crossing>; 5] {
        let words = |which: usize| self.words[which].get().map(|cells| (cells, word));
        if self.bytes.iter().all(|bytes| bytes.get().is_none()) {
            return [collide(address, [words(0)], [words(1)]), None, None, None, None];
        }
        std::array::from_fn(|byte| {
            if byte == 4 {
                return None;
            }
            let part = |which: usize| self.bytes[which].get().map(|cells| (cells, 4 * word + byte));
            collide(address + byte as u64, [words(0), part(0)], [words(1), part(1)])
        })
    }
}

type At<'c> = Option<(&'c Cells, usize)>;

fn collide<const N: usize>(address: u64, writers: [At<'_>; N], readers: [At<'_>; N]) -> Option<Crossing> {
    let bounds = |list: &[At<'_>]| {
        let seen = list.iter().flatten().filter_map(|(cells, at)| cells.ranges[*at].get());
        seen.reduce(|(low, high), (a, b)| {
            let least = |x: Mark, y: Mark| if x.pack() <= y.pack() { x } else { y };
            let most = |x: Mark, y: Mark| if x.pack() >= y.pack() { x } else { y };
            (least(low, a), most(high, b))
        })
    };
    let (low, high) = bounds(&writers)?;
    if low.cluster != high.cluster {
        let one_size = writers.iter().flatten().filter(|(cells, at)| cells.ranges[*at].get().is_some()).count() == 1;
        let same = writers.iter().flatten().all(|(cells, at)| {
            let value = &cells.values[*at];
            cells.ranges[*at].get().is_none() || value.low.load(Relaxed) == value.high.load(Relaxed)
        });
        return Some(Crossing { address, first: low, second: high, second_writes: true, equal: one_size && same });
    }
    let (first, last) = bounds(&readers)?;
    let reader = [first, last].into_iter().find(|reader| reader.cluster != low.cluster)?;
    Some(Crossing { address, first: low, second: reader, second_writes: false, equal: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(cluster: u32) -> Mark {
        Mark { cluster, pc: 7 + cluster, cta: 1, warp: 3 }
    }

    #[test]
    fn marks_survive_packing() {
        let mark = Mark { cluster: 70_000, pc: 99_999, cta: 15, warp: 31 };
        assert_eq!(Mark::unpack(mark.pack()), mark);
    }

    #[test]
    fn only_different_clusters_collide() {
        let across = Across::default();
        across.touch(mark(1), 4096, 16, true, Some(&[0; 16]));
        across.touch(mark(1), 4096, 16, false, None);
        across.touch(mark(2), 4112, 16, true, Some(&[0; 16]));
        assert!(across.crossings().is_empty());
        across.touch(mark(2), 4100, 4, false, None);
        let found = across.crossings();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].address, found[0].first.cluster, found[0].second.cluster), (4100, 1, 2));
    }

    #[test]
    fn neighbours_in_a_word_do_not_collide() {
        let across = Across::default();
        across.touch(mark(1), 8, 2, true, Some(&[1, 2]));
        across.touch(mark(2), 10, 2, true, Some(&[3, 4]));
        assert!(across.crossings().is_empty());
        across.touch(mark(3), 8, 4, false, None);
        assert_eq!(across.crossings().len(), 2);
    }

    #[test]
    fn equal_writes_are_told_apart() {
        let across = Across::default();
        across.touch(mark(1), 0, 4, true, Some(&[1, 0, 0, 0]));
        across.touch(mark(2), 0, 4, true, Some(&[1, 0, 0, 0]));
        assert!(across.crossings()[0].equal);
        across.touch(mark(3), 0, 4, true, Some(&[2, 0, 0, 0]));
        assert!(!across.crossings()[0].equal);
    }
}
