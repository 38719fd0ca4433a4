//! Where the generator's decisions come from: a seed, or the bytes of a fuzzer.

/// A stream of decisions.
#[derive(Clone, Debug)]
pub struct Choices {
    bytes: Vec<u8>,
    at: usize,
    state: u64,
}

impl Choices {
    /// Decisions of a seed.
    pub fn from_seed(seed: u64) -> Self {
        Choices { bytes: Vec::new(), at: 0, state: seed }
    }

    /// Decisions made by `bytes`, one byte or four each; after the last, those of a seed that is their hash. So a fuzzer
    /// that changes a byte changes one decision, and short inputs still make whole programs.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let hash =
            bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
        Choices { bytes: bytes.to_vec(), at: 0, state: hash }
    }

    /// 64 random bits (SplitMix64, Steele et al. 2014); never from the fuzzer's bytes.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `limit`; 0 when `limit` is 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        let wide = if limit <= 256 { 1 } else { 4 };
        let raw = match self.bytes.get(self.at..self.at + wide) {
            Some(bytes) => {
                self.at += wide;
                bytes.iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte))
            }
            None => self.bits() >> 16,
        };
        (raw % u64::from(limit.max(1))) as u32
    }

    /// A number of a range, both ends included.
    pub fn within(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True `percent` times of a hundred.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// One of `items`; the first when there is only one.
    ///
    /// # Panics
    /// `items` is empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u32) as usize]
    }
}
