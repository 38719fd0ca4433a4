//! Shadow memory: for every four bytes who wrote them last and who has read them since. Words that are ever touched in
//! part are kept byte by byte, so that neighbours in a word do not look like a race.

use super::history::SetId;
use rustc_hash::FxHashMap;

/// Last writers, and readers since then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    pub writers: SetId,
    pub readers: SetId,
}

impl Cell {
    /// A value that no cell has.
    pub const NEVER: Cell = Cell { writers: SetId(u32::MAX), readers: SetId(u32::MAX) };
}

/// Marks a word that is kept byte by byte; the rest of `writers` is then its index.
const SPLIT: u32 = 1 << 31;

/// Shadow of consecutive bytes.
#[derive(Debug, Default)]
pub struct Shadow {
    words: Vec<Cell>,
    bytes: Vec<[Cell; 4]>,
}

impl Shadow {
    pub fn new(bytes: usize) -> Self {
        Shadow { words: vec![Cell::default(); bytes.div_ceil(4)], bytes: Vec::new() }
    }

    /// Calls `touch` with the cell and offset of each word, or byte of words in parts, of a range; what lies outside is
    /// left out.
    #[inline]
    pub fn visit(&mut self, offset: usize, bytes: usize, mut touch: impl FnMut(&mut Cell, usize)) {
        let end = (offset + bytes).min(4 * self.words.len());
        let mut at = offset;
        while at < end {
            let word = at / 4;
            let whole = at.is_multiple_of(4) && end - at >= 4;
            let cell = &mut self.words[word];
            if whole && cell.writers.0 & SPLIT == 0 {
                touch(cell, at);
                at += 4;
                continue;
            }
            let stop = end.min(4 * word + 4);
            if cell.writers.0 & SPLIT == 0 {
                let index = self.bytes.len() as u32;
                self.bytes.push([*cell; 4]);
                cell.writers = SetId(SPLIT | index);
            }
            let split = &mut self.bytes[(cell.writers.0 & !SPLIT) as usize];
            while at < stop {
                touch(&mut split[at % 4], at);
                at += 1;
            }
        }
    }

    /// The cells of whole words that are not split, or nothing.
    #[inline]
    pub fn whole(&mut self, offset: usize, bytes: usize) -> Option<&mut [Cell]> {
        if !(offset | bytes).is_multiple_of(4) {
            return None;
        }
        let cells = self.words.get_mut(offset / 4..(offset + bytes) / 4)?;
        cells.iter().all(|cell| cell.writers.0 & SPLIT == 0).then_some(cells)
    }

    /// Every cell in use.
    pub fn cells(&mut self) -> impl Iterator<Item = &mut Cell> {
        let words = self.words.iter_mut().filter(|cell| cell.writers.0 & SPLIT == 0);
        words.chain(self.bytes.iter_mut().flatten())
    }
}

/// Bytes of a page of global shadow.
const PAGE: u64 = 4096;

/// Shadow of global memory, page by page as it is touched.
#[derive(Debug, Default)]
pub struct Pages {
    index: FxHashMap<u64, usize>,
    pages: Vec<Shadow>,
    last: Option<(u64, usize)>,
}

impl Pages {
    fn page(&mut self, number: u64) -> &mut Shadow {
        let at = match self.last {
            Some((last, at)) if last == number => at,
            _ => {
                let fresh = self.pages.len();
                let at = *self.index.entry(number).or_insert(fresh);
                if at == fresh {
                    self.pages.push(Shadow::new(PAGE as usize));
                }
                self.last = Some((number, at));
                at
            }
        };
        &mut self.pages[at]
    }

    /// As [`Shadow::whole`].
    #[inline]
    pub fn whole(&mut self, address: u64, bytes: usize) -> Option<&mut [Cell]> {
        self.page(address / PAGE).whole((address % PAGE) as usize, bytes)
    }

    /// As [`Shadow::visit`], with addresses.
    #[inline]
    pub fn visit(&mut self, address: u64, bytes: u64, mut touch: impl FnMut(&mut Cell, u64)) {
        let (mut at, end) = (address, address.saturating_add(bytes));
        while at < end {
            let start = at / PAGE * PAGE;
            let stop = end.min(start + PAGE);
            self.page(at / PAGE).visit((at - start) as usize, (stop - at) as usize, |cell, offset| {
                touch(cell, start + offset as u64);
            });
            at = stop;
        }
    }

    /// Every cell in use.
    pub fn cells(&mut self) -> impl Iterator<Item = &mut Cell> {
        self.pages.iter_mut().flat_map(Shadow::cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visited(shadow: &mut Shadow, offset: usize, bytes: usize) -> Vec<usize> {
        let mut out = Vec::new();
        shadow.visit(offset, bytes, |_, at| out.push(at));
        out
    }

    #[test]
    fn whole_words_stay_whole_and_parts_split_them() {
        let mut shadow = Shadow::new(16);
        assert_eq!(visited(&mut shadow, 0, 16), [0, 4, 8, 12]);
        assert_eq!(visited(&mut shadow, 6, 4), [6, 7, 8, 9]);
        assert_eq!(visited(&mut shadow, 0, 16), [0, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    }

    #[test]
    fn a_split_word_keeps_what_it_knew() {
        let mut shadow = Shadow::new(8);
        shadow.visit(0, 4, |cell, _| cell.readers = SetId(7));
        shadow.visit(1, 1, |cell, _| cell.writers = SetId(3));
        let mut seen = Vec::new();
        shadow.visit(0, 4, |cell, _| seen.push((cell.writers.0, cell.readers.0)));
        assert_eq!(seen, [(0, 7), (3, 7), (0, 7), (0, 7)]);
    }

    #[test]
    fn ranges_cross_pages_and_stop_at_the_end() {
        let mut pages = Pages::default();
        let mut count = 0;
        pages.visit(PAGE - 8, 16, |_, _| count += 1);
        assert_eq!(count, 4);
        assert_eq!(visited(&mut Shadow::new(8), 4, 100), [4]);
    }
}
