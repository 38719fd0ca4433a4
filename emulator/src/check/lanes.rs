//! Lanes of one warp: since independent thread scheduling, what one of them writes to shared memory another may read
//! only after `bar.warp.sync` (PTX ISA 9.7.13.1). Any instruction that gathers the warp counts, as its lanes meet there.

/// What lanes of a warp did to a word since they last met.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    /// Meeting of the warp after which this holds, and the warp, plus one; others know nothing of the word.
    meeting: u32,
    warp: u16,
    /// Lane that wrote it, plus one, or 0; `SEVERAL` where it was touched in parts.
    writer: u8,
    readers: u32,
    pc: u32,
}

const SEVERAL: u8 = 255;

/// Shared memory of a block, as its warps' own lanes see it.
#[derive(Debug)]
pub struct LaneShadow {
    words: Vec<Word>,
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

impl LaneShadow {
    pub fn new(bytes: usize) -> Self {
        LaneShadow { words: vec![Word::default(); bytes.div_ceil(4)] }
    }

    /// A lane touches bytes; the first clash, if any. `pc` is kept of writers.
    #[inline]
    pub fn touch(
        &mut self,
        (warp, lane): (u16, u8),
        meeting: u32,
        offset: u32,
        bytes: u32,
        writes: bool,
        pc: u32,
    ) -> Option<LaneClash> {
        let whole = (offset | bytes) % 4 == 0;
        let mut clash = None;
        for at in offset / 4..(offset + bytes).div_ceil(4) {
            let Some(word) = self.words.get_mut(at as usize) else { break };
            if word.meeting != meeting || word.warp != warp + 1 {
                *word = Word { meeting, warp: warp + 1, ..Word::default() };
            }
            if !whole {
                word.writer = SEVERAL;
                word.readers = 0;
            }
            if word.writer == SEVERAL {
                continue;
            }
            let wrote = word.writer != 0 && word.writer != lane + 1;
            if wrote && writes && word.pc == pc {
                // Lanes of one store: that is looked at where the values are known.
                word.writer = SEVERAL;
                continue;
            }
            let others = word.readers & !(1 << lane);
            if clash.is_none() && (wrote || writes && others != 0) {
                let before = if wrote { word.writer - 1 } else { others.trailing_zeros() as u8 };
                clash = Some(LaneClash { offset: 4 * at, before, before_wrote: wrote, pc: word.pc, now: lane });
            }
            if writes {
                *word = Word { writer: lane + 1, readers: 0, pc, ..*word };
            } else {
                word.readers |= 1 << lane;
                if word.writer == 0 {
                    word.pc = pc;
                }
            }
        }
        clash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_lanes_of_the_same_meeting_clash() {
        let mut shadow = LaneShadow::new(64);
        assert_eq!(shadow.touch((0, 1), 5, 8, 4, true, 10), None);
        assert_eq!(shadow.touch((0, 1), 5, 8, 4, false, 11), None);
        assert_eq!(shadow.touch((1, 2), 5, 8, 4, false, 11), None);
        assert_eq!(shadow.touch((0, 1), 5, 8, 4, true, 12), None);
        let clash = shadow.touch((0, 3), 5, 8, 4, false, 13);
        assert_eq!(clash, Some(LaneClash { offset: 8, before: 1, before_wrote: true, pc: 12, now: 3 }));
        assert_eq!(shadow.touch((0, 3), 6, 8, 4, false, 13), None);
    }

    #[test]
    fn writing_what_others_read_clashes() {
        let mut shadow = LaneShadow::new(64);
        assert_eq!(shadow.touch((0, 0), 1, 0, 8, false, 3), None);
        let clash = shadow.touch((0, 1), 1, 4, 4, true, 4);
        assert_eq!(clash, Some(LaneClash { offset: 4, before: 0, before_wrote: false, pc: 3, now: 1 }));
    }

    #[test]
    fn parts_of_words_are_left_alone() {
        let mut shadow = LaneShadow::new(64);
        assert_eq!(shadow.touch((0, 0), 1, 0, 2, true, 3), None);
        assert_eq!(shadow.touch((0, 1), 1, 2, 2, true, 3), None);
        assert_eq!(shadow.touch((0, 2), 1, 0, 4, false, 4), None);
    }
}
