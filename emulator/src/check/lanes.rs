//! Lanes of one warp: since independent thread scheduling, what one of them writes to shared memory another may read
//! only after `bar.warp.sync` (PTX ISA 9.7.13.1). Any instruction that gathers the warp counts, as its lanes meet there.

/// Writer of words that are touched in parts, or by several lanes of one store.
const SEVERAL: u32 = 255;

/// Shared memory of a block, word by word, as its warps' own lanes see it.
#[derive(Debug)]
pub struct LaneShadow {
    /// The warp that knows of the word, and after which meeting of its lanes; another one knows nothing of it.
    tags: Vec<u32>,
    /// Lane that wrote it since then, plus one, or 0.
    writers: Vec<u32>,
    readers: Vec<u32>,
    pcs: Vec<u32>,
}

/// Two lanes that did not meet in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneClash {
    pub offset: u32,
    /// The lane that came first, and where.
    pub before: u8,
    pub before_wrote: bool,
    pub pc: u32,
    pub now: u8,
}

/// A warp between two meetings of its lanes.
#[derive(Clone, Copy, Debug)]
pub struct Spell {
    pub warp: u16,
    pub meeting: u32,
}

impl Spell {
    /// Not 0, which no word is tagged with at first.
    fn tag(self) -> u32 {
        self.meeting << 6 | u32::from(self.warp + 1)
    }
}

impl LaneShadow {
    pub fn new(bytes: usize) -> Self {
        let words = bytes.div_ceil(4);
        LaneShadow { tags: vec![0; words], writers: vec![0; words], readers: vec![0; words], pcs: vec![0; words] }
    }

    /// All lanes touch words that follow each other, `bytes` each. False if that has to be looked at lane by lane.
    #[inline]
    pub fn touch_row(&mut self, spell: Spell, offset: u32, bytes: u32, writes: bool, pc: u32) -> bool {
        if !offset.is_multiple_of(4) {
            return false;
        }
        let first = offset as usize / 4;
        let words = first..first + 8 * bytes as usize;
        let (Some(tags), Some(writers), Some(readers), Some(pcs)) = (
            self.tags.get_mut(words.clone()),
            self.writers.get_mut(words.clone()),
            self.readers.get_mut(words.clone()),
            self.pcs.get_mut(words),
        ) else {
            return false;
        };
        let row = Row { tags, writers, readers, pcs };
        match bytes {
            4 => touch_row::<1>(row, spell.tag(), writes, pc),
            8 => touch_row::<2>(row, spell.tag(), writes, pc),
            16 => touch_row::<4>(row, spell.tag(), writes, pc),
            _ => false,
        }
    }

    /// One lane touches bytes; the first clash, if any.
    pub fn touch(&mut self, spell: Spell, lane: u8, offset: u32, bytes: u32, writes: bool, pc: u32) -> Option<LaneClash> {
        let whole = (offset | bytes).is_multiple_of(4);
        let tag = spell.tag();
        let mut clash = None;
        for at in offset as usize / 4..((offset + bytes) as usize).div_ceil(4).min(self.tags.len()) {
            if self.tags[at] != tag {
                (self.tags[at], self.writers[at], self.readers[at], self.pcs[at]) = (tag, 0, 0, pc);
            }
            if !whole {
                self.writers[at] = SEVERAL;
            }
            let writer = self.writers[at];
            if writer == SEVERAL {
                continue;
            }
            let wrote = writer != 0 && writer != u32::from(lane) + 1;
            if wrote && writes && self.pcs[at] == pc {
                // Lanes of one store: that is looked at where the values are known.
                self.writers[at] = SEVERAL;
                continue;
            }
            let others = self.readers[at] & !(1 << lane);
            if clash.is_none() && (wrote || writes && others != 0) {
                let before = if wrote { writer as u8 - 1 } else { others.trailing_zeros() as u8 };
                clash = Some(LaneClash { offset: 4 * at as u32, before, before_wrote: wrote, pc: self.pcs[at], now: lane });
            }
            if writes {
                (self.writers[at], self.readers[at], self.pcs[at]) = (u32::from(lane) + 1, 0, pc);
            } else {
                self.readers[at] |= 1 << lane;
                if writer == 0 {
                    self.pcs[at] = pc;
                }
            }
        }
        clash
    }
}

/// Words that a warp's lanes touch one after the other.
struct Row<'r> {
    tags: &'r mut [u32],
    writers: &'r mut [u32],
    readers: &'r mut [u32],
    pcs: &'r mut [u32],
}

/// `EACH` words for each lane. False, and nothing changed, if some lanes clash.
fn touch_row<const EACH: usize>(row: Row<'_>, tag: u32, writes: bool, pc: u32) -> bool {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { touch_row_avx2::<EACH>(row, tag, writes, pc) };
    }
    touch_row_body::<EACH>(row, tag, writes, pc)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn touch_row_avx2<const EACH: usize>(row: Row<'_>, tag: u32, writes: bool, pc: u32) -> bool {
    touch_row_body::<EACH>(row, tag, writes, pc)
}

#[inline(always)]
fn touch_row_body<const EACH: usize>(row: Row<'_>, tag: u32, writes: bool, pc: u32) -> bool {
    let Row { tags, writers, readers, pcs } = row;
    let mut clashes = false;
    for lane in 0..32usize {
        for at in EACH * lane..EACH * lane + EACH {
            let foreign = (writers[at] != 0) & (writers[at] != lane as u32 + 1);
            let read = writes & (readers[at] & !(1 << lane) != 0);
            clashes |= (tags[at] == tag) & (foreign | read);
        }
    }
    if clashes {
        return false;
    }
    if writes {
        for lane in 0..32 {
            writers[EACH * lane..EACH * lane + EACH].fill(lane as u32 + 1);
        }
        tags.fill(tag);
        readers.fill(0);
        pcs.fill(pc);
        return true;
    }
    for lane in 0..32usize {
        for at in EACH * lane..EACH * lane + EACH {
            let same = tags[at] == tag;
            let writer = if same { writers[at] } else { 0 };
            readers[at] = if same { readers[at] | 1 << lane } else { 1 << lane };
            pcs[at] = if writer != 0 { pcs[at] } else { pc };
            writers[at] = writer;
            tags[at] = tag;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spell(warp: u16, meeting: u32) -> Spell {
        Spell { warp, meeting }
    }

    #[test]
    fn only_other_lanes_of_the_same_spell_clash() {
        let mut shadow = LaneShadow::new(64);
        assert_eq!(shadow.touch(spell(0, 5), 1, 8, 4, true, 10), None);
        assert_eq!(shadow.touch(spell(0, 5), 1, 8, 4, false, 11), None);
        assert_eq!(shadow.touch(spell(1, 5), 2, 8, 4, false, 11), None);
        assert_eq!(shadow.touch(spell(0, 5), 1, 8, 4, true, 12), None);
        let clash = shadow.touch(spell(0, 5), 3, 8, 4, false, 13);
        assert_eq!(clash, Some(LaneClash { offset: 8, before: 1, before_wrote: true, pc: 12, now: 3 }));
        assert_eq!(shadow.touch(spell(0, 6), 3, 8, 4, false, 13), None);
    }

    #[test]
    fn writing_what_others_read_clashes() {
        let mut shadow = LaneShadow::new(64);
        assert_eq!(shadow.touch(spell(0, 1), 0, 0, 8, false, 3), None);
        let clash = shadow.touch(spell(0, 1), 1, 4, 4, true, 4);
        assert_eq!(clash, Some(LaneClash { offset: 4, before: 0, before_wrote: false, pc: 3, now: 1 }));
    }

    #[test]
    fn parts_of_words_are_left_alone() {
        let mut shadow = LaneShadow::new(64);
        assert_eq!(shadow.touch(spell(0, 1), 0, 0, 2, true, 3), None);
        assert_eq!(shadow.touch(spell(0, 1), 1, 2, 2, true, 3), None);
        assert_eq!(shadow.touch(spell(0, 1), 2, 0, 4, false, 4), None);
    }

    /// A row at once and its lanes one by one come to the same state and verdict.
    #[test]
    fn rows_are_their_lanes() {
        let (mut rows, mut lanes) = (LaneShadow::new(1024), LaneShadow::new(1024));
        let mut numbers = 1u32;
        for round in 0..2_000 {
            numbers = numbers.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (bytes, offset) = ([4, 8, 16][round % 3], 4 * (numbers >> 16 & 63));
            let (writes, spell, pc) = (numbers >> 8 & 3 == 0, spell(0, numbers >> 24 & 3), round as u32);
            let mut found = None;
            for lane in 0..32u8 {
                found = found.or(lanes.touch(spell, lane, offset + bytes * u32::from(lane), bytes, writes, pc));
            }
            if !rows.touch_row(spell, offset, bytes, writes, pc) {
                let one = |lane: u8| (lane, offset + bytes * u32::from(lane));
                let again: Vec<_> = (0..32).map(one).filter_map(|(l, at)| rows.touch(spell, l, at, bytes, writes, pc)).collect();
                assert_eq!(again.first().copied(), found);
            } else {
                assert_eq!(found, None);
            }
            assert_eq!(
                (&rows.tags, &rows.writers, &rows.readers, &rows.pcs),
                (&lanes.tags, &lanes.writers, &lanes.readers, &lanes.pcs)
            );
        }
    }
}
