//! Shared (and local) memory: private to one cluster, so plain bytes.

use super::{POISON, granule_mask};

#[derive(Clone, Debug, Default)]
pub struct Bytes {
    data: Vec<u8>,
    init: Vec<u16>,
    size: u32,
}

impl Bytes {
    pub fn new(size: u32) -> Self {
        let granules = size.div_ceil(16) as usize;
        Bytes { data: vec![POISON; granules * 16], init: vec![0; granules], size }
    }

    pub fn size(&self) -> u32 {
        self.size
    }

    #[inline]
    pub fn contains(&self, offset: u32, bytes: u32) -> bool {
        offset <= self.size && self.size - offset >= bytes
    }

    /// At most 16 bytes, within one granule.
    #[inline]
    pub fn load(&self, offset: u32, bytes: u32) -> u128 {
        let at = offset as usize;
        match bytes {
            4 => u128::from(u32::from_le_bytes(self.array(at))),
            16 => u128::from_le_bytes(self.array(at)),
            8 => u128::from(u64::from_le_bytes(self.array(at))),
            2 => u128::from(u16::from_le_bytes(self.array(at))),
            _ => u128::from(self.data[at]),
        }
    }

    #[inline]
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.data[at..at + N]);
        out
    }

    #[inline]
    pub fn is_init(&self, offset: u32, bytes: u32) -> bool {
        let mask = granule_mask(u64::from(offset), bytes);
        self.init[(offset >> 4) as usize] & mask == mask
    }

    /// Whether any of the bytes is defined: copies of structs read padding along with members.
    #[inline]
    pub fn is_partly_init(&self, offset: u32, bytes: u32) -> bool {
        let mask = granule_mask(u64::from(offset), bytes);
        self.init[(offset >> 4) as usize] & mask != 0
    }

    #[inline]
    pub fn mark(&mut self, offset: u32, bytes: u32, defined: bool) {
        let mask = granule_mask(u64::from(offset), bytes);
        let bits = &mut self.init[(offset >> 4) as usize];
        *bits = if defined { *bits | mask } else { *bits & !mask };
    }

    #[inline]
    pub fn store(&mut self, offset: u32, bytes: u32, value: u128, defined: bool) {
        let at = offset as usize;
        match bytes {
            4 => self.data[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes()),
            16 => self.data[at..at + 16].copy_from_slice(&value.to_le_bytes()),
            _ => self.data[at..at + bytes as usize].copy_from_slice(&value.to_le_bytes()[..bytes as usize]),
        }
        self.mark(offset, bytes, defined);
    }

    /// The 16-byte chunk at an aligned offset.
    #[inline]
    pub fn chunk(&self, offset: u32) -> [u8; 16] {
        self.array(offset as usize)
    }

    /// Words of all lanes; false if some byte was never written. Offsets are aligned and inside.
    pub fn load_row<const N: usize>(&self, offsets: &[u32; 32], lanes: u32, out: &mut [[u32; 32]; 4]) -> bool {
        let mut fine = true;
        for lane in 0..32 {
            if (lanes >> lane) & 1 == 0 {
                continue;
            }
            let offset = offsets[lane];
            fine &= self.is_init(offset, 4 * N as u32);
            let bytes = &self.data[offset as usize..offset as usize + 4 * N];
            for word in 0..N {
                let mut value = [0; 4];
                value.copy_from_slice(&bytes[4 * word..4 * word + 4]);
                out[word][lane] = u32::from_le_bytes(value);
            }
        }
        fine
    }

    /// The counterpart of [`Bytes::load_row`].
    pub fn store_row<const N: usize>(&mut self, offsets: &[u32; 32], lanes: u32, values: &[[u32; 32]; 4]) {
        for lane in 0..32 {
            if (lanes >> lane) & 1 == 0 {
                continue;
            }
            let offset = offsets[lane];
            let bytes = &mut self.data[offset as usize..offset as usize + 4 * N];
            for word in 0..N {
                bytes[4 * word..4 * word + 4].copy_from_slice(&values[word][lane].to_le_bytes());
            }
            self.mark(offset, 4 * N as u32, true);
        }
    }

    /// Makes bytes undefined again; offset and size are multiples of 16.
    pub fn forget(&mut self, offset: u32, bytes: u32) {
        let granules = (offset / 16) as usize..((offset + bytes) / 16) as usize;
        self.init[granules].fill(0);
        self.data[offset as usize..(offset + bytes) as usize].fill(POISON);
    }

    pub fn read_bytes(&self, offset: u32, out: &mut [u8], init: &mut [bool]) {
        let at = offset as usize;
        out.copy_from_slice(&self.data[at..at + out.len()]);
        for (i, flag) in init.iter_mut().enumerate() {
            *flag = (self.init[(at + i) / 16] >> ((at + i) % 16)) & 1 == 1;
        }
    }

    pub fn write_bytes(&mut self, offset: u32, data: &[u8], init: &[bool]) {
        let at = offset as usize;
        self.data[at..at + data.len()].copy_from_slice(data);
        let mut i = 0;
        while i < data.len() {
            let take = (16 - (at + i) % 16).min(data.len() - i);
            let flags = &init[i..i + take];
            if flags.iter().all(|&flag| flag) {
                self.mark((at + i) as u32, take as u32, true);
            } else {
                for (j, &flag) in flags.iter().enumerate() {
                    self.mark((at + i + j) as u32, 1, flag);
                }
            }
            i += take;
        }
    }
}
