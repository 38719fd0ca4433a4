//! Lanes of one warp: since independent thread scheduling, what one of them writes to shared memory another may read
//! only after `bar.warp.sync` (PTX ISA 9.7.13.1). Any instruction that gathers the warp counts, as its lanes meet there.

/// Writer of words that are touched in parts, or by several lanes of one store.
const SEVERAL: u8 = 255;

/// Shared memory of a block, word by word, as its warps' own lanes see it.
#[derive(Debug)]
pub struct LaneShadow {
    /// The warp that knows of the word, and after which meeting of its lanes; another one knows nothing of it.
    tags: Vec<u64>,
    /// Lane that wrote it since then, plus one, or 0.
    writers: Vec<u8>,
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
    fn tag(self) -> u64 {
        u64::from(self.meeting) << 16 | u64::from(self.warp + 1)
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
        if offset % 4 != 0 {
            return false;
        }
        match bytes {
            4 => self.touch_words::<1>(spell.tag(), offset as usize / 4, writes, pc),
            8 => self.touch_words::<2>(spell.tag(), offset as usize / 4, writes, pc),
            16 => self.touch_words::<4>(spell.tag(), offset as usize / 4, writes, pc),
            _ => false,
        }
    }

    #[inline]
    fn touch_words<const EACH: usize>(&mut self, tag: u64, first: usize, writes: bool, pc: u32) -> bool {
        let range = first..first + 32 * EACH;
        let (Some(tags), Some(writers), Some(readers), Some(pcs)) = (
            self.tags.get_mut(range.clone()),
            self.writers.get_mut(range.clone()),
            self.readers.get_mut(range.clone()),
            self.pcs.get_mut(range),
        ) else {
            return false;
        };
        let mut clashes = false;
        for at in 0..32 * EACH {
            let lane = (at / EACH) as u32;
            let foreign = (writers[at] != 0) & (writers[at] != lane as u8 + 1);
            let read = writes & (readers[at] & !(1 << lane) != 0);
            clashes |= (tags[at] == tag) & (foreign | read);
        }
        if clashes {
            return false;
        }
        if writes {
            for (at, writer) in writers.iter_mut().enumerate() {
                *writer = (at / EACH) as u8 + 1;
            }
            tags.fill(tag);
            readers.fill(0);
            pcs.fill(pc);
            return true;
        }
        for at in 0..32 * EACH {
            let bit = 1 << (at / EACH);
            let same = tags[at] == tag;
            readers[at] = if same { readers[at] | bit } else { bit };
            writers[at] = if same { writers[at] } else { 0 };
            pcs[at] = if same & (writers[at] != 0) { pcs[at] } else { pc };
            tags[at] = tag;
        }
        true
    }

    /// One lane touches bytes; the first clash, if any.
    pub fn touch(&mut self, spell: Spell, lane: u8, offset: u32, bytes: u32, writes: bool, pc: u32) -> Option<LaneClash> {
        let whole = (offset | bytes) % 4 == 0;
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
            let wrote = writer != 0 && writer != lane + 1;
            if wrote && writes && self.pcs[at] == pc {
                // Lanes of one store: that is looked at where the values are known.
                self.writers[at] = SEVERAL;
                continue;
            }
            let others = self.readers[at] & !(1 << lane);
            if clash.is_none() && (wrote || writes && others != 0) {
                let before = if wrote { writer - 1 } else { others.trailing_zeros() as u8 };
                clash = Some(LaneClash { offset: 4 * at as u32, before, before_wrote: wrote, pc: self.pcs[at], now: lane });
            }
            if writes {
                (self.writers[at], self.readers[at], self.pcs[at]) = (lane + 1, 0, pc);
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
