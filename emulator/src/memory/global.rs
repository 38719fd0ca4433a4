//! Global memory: allocations far apart, each in an address slot of its own.

use super::cells;
use super::{POISON, granule_mask};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};

/// Address bits of a slot: the slot of an address is found by a shift.
pub const SLOT_SHIFT: u32 = 34;
/// Largest allocation: half a slot, so that strays on either side stay in the slot and name it.
pub const MAX_BYTES: u64 = 1 << (SLOT_SHIFT - 1);
/// Slots below the windows of the other spaces.
pub const MAX_SLOTS: usize = 8_000;

/// An allocation.
#[derive(Debug)]
pub struct Buffer {
    pub base: u64,
    pub bytes: u64,
    /// What findings call it.
    pub name: Option<String>,
    words: Vec<u64>,
    init: Vec<u16>,
}

/// Mixes a seed into base addresses, so that nothing relies on where buffers happen to lie.
fn jitter(seed: u64, slot: u64) -> u64 {
    let mut x = seed.wrapping_add(slot.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Buffer {
    pub fn new(slot: usize, bytes: u64, seed: u64) -> Self {
        let start = (slot as u64 + 1) << SLOT_SHIFT;
        // 256-byte aligned, at least 64 KiB from the start of the slot.
        let base = start + (1 << 16) + ((jitter(seed, slot as u64) & 0xffff) << 8);
        let granules = bytes.div_ceil(16) as usize;
        Buffer { base, bytes, name: None, words: vec![u64::from_le_bytes([POISON; 8]); 2 * granules], init: vec![0; granules] }
    }

    pub fn bytes(&self) -> &[u8] {
        &cells::bytes(&self.words)[..self.bytes as usize]
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let at = offset as usize;
        cells::bytes_mut(&mut self.words)[at..at + data.len()].copy_from_slice(data);
        for byte in at..at + data.len() {
            self.init[byte / 16] |= 1 << (byte % 16);
        }
    }

    pub fn zero(&mut self) {
        self.words.fill(0);
        self.init.fill(u16::MAX);
    }

    pub fn is_written(&self, byte: u64) -> bool {
        self.init.get((byte / 16) as usize).is_some_and(|bits| (bits >> (byte % 16)) & 1 == 1)
    }

    /// How many bytes were never written.
    pub fn unwritten(&self) -> u64 {
        let whole = self.bytes / 16;
        let full: u64 = self.init[..whole as usize].iter().map(|bits| u64::from(bits.count_zeros())).sum();
        full + (whole * 16..self.bytes).filter(|&byte| !self.is_written(byte)).count() as u64
    }

    fn view(&mut self) -> BufferView<'_> {
        BufferView {
            base: self.base,
            bytes: self.bytes,
            words: cells::atomic_words(&mut self.words),
            init: cells::atomic_halves(&mut self.init),
        }
    }
}

/// An allocation during a launch.
#[derive(Clone, Copy, Debug)]
pub struct BufferView<'a> {
    pub base: u64,
    pub bytes: u64,
    words: &'a [AtomicU64],
    init: &'a [AtomicU16],
}

/// All allocations during a launch.
#[derive(Debug)]
pub struct GlobalView<'a> {
    slots: Vec<Slot<'a>>,
    /// Names of the slots that have one.
    names: Vec<Option<String>>,
}

#[derive(Debug)]
enum Slot<'a> {
    Live(BufferView<'a>),
    Freed { base: u64, bytes: u64 },
}

/// An allocation that was freed, kept to name stray accesses.
#[derive(Clone, Copy, Debug)]
pub struct Freed {
    pub base: u64,
    pub bytes: u64,
}

impl<'a> GlobalView<'a> {
    pub fn new(buffers: &'a mut [Result<Buffer, Freed>]) -> Self {
        let names = buffers.iter().map(|slot| slot.as_ref().ok().and_then(|buffer| buffer.name.clone())).collect();
        let slots = buffers
            .iter_mut()
            .map(|slot| match slot {
                Ok(buffer) => Slot::Live(buffer.view()),
                Err(freed) => Slot::Freed { base: freed.base, bytes: freed.bytes },
            })
            .collect();
        GlobalView { slots, names }
    }

    /// The buffer that holds all of `bytes` bytes at `address`, or why there is none.
    #[inline]
    pub fn find(&self, address: u64, bytes: u64) -> Result<BufferView<'a>, String> {
        let slot = ((address >> SLOT_SHIFT) as usize).wrapping_sub(1);
        if let Some(Slot::Live(buffer)) = self.slots.get(slot)
            && let offset = address.wrapping_sub(buffer.base)
            && offset < buffer.bytes
            && buffer.bytes - offset >= bytes
        {
            return Ok(*buffer);
        }
        Err(self.explain(slot, address, bytes))
    }

    /// `offset 4 of` the buffer there, by name if it has one; the address where there is no buffer.
    #[cold]
    pub fn place(&self, address: u64) -> String {
        let slot = ((address >> SLOT_SHIFT) as usize).wrapping_sub(1);
        match self.find(address, 1) {
            Ok(buffer) => match self.names.get(slot) {
                Some(Some(name)) => format!("offset {} of `{name}`", address - buffer.base),
                _ => format!("offset {} of a buffer", address - buffer.base),
            },
            Err(_) => format!("{address:#x}"),
        }
    }

    #[cold]
    fn explain(&self, slot: usize, address: u64, bytes: u64) -> String {
        let name = match self.names.get(slot) {
            Some(Some(name)) => format!("`{name}`"),
            _ => format!("buffer {slot}"),
        };
        match self.slots.get(slot) {
            Some(Slot::Live(buffer)) => {
                let offset = address.wrapping_sub(buffer.base) as i64;
                if offset < 0 {
                    format!("{bytes} bytes {} bytes before the start of {name}", -offset)
                } else {
                    format!("{bytes} bytes at offset {offset} of {name}, which has {} bytes", buffer.bytes)
                }
            }
            Some(Slot::Freed { base, bytes: size }) => {
                format!(
                    "{bytes} bytes at offset {} of {name} ({size} bytes), which was freed",
                    address.wrapping_sub(*base) as i64
                )
            }
            None => format!("{bytes} bytes at an address that belongs to no buffer"),
        }
    }
}

impl BufferView<'_> {
    /// At most 16 bytes at a byte offset, aligned to their size; the offset is known to be inside.
    #[inline]
    pub fn load(&self, offset: u64, bytes: u32) -> u128 {
        let word = (offset >> 3) as usize;
        let low = self.words[word].load(Relaxed);
        if bytes == 16 {
            return u128::from(low) | (u128::from(self.words[word + 1].load(Relaxed)) << 64);
        }
        let value = low >> ((offset & 7) * 8);
        u128::from(if bytes == 8 { value } else { value & ((1 << (8 * bytes)) - 1) })
    }

    /// Whether all of these bytes were written; they must not cross a 16-byte granule.
    #[inline]
    pub fn is_init(&self, offset: u64, bytes: u32) -> bool {
        let mask = granule_mask(offset, bytes);
        self.init[(offset >> 4) as usize].load(Relaxed) & mask == mask
    }

    #[inline]
    fn mark(&self, offset: u64, bytes: u32, defined: bool) {
        let mask = granule_mask(offset, bytes);
        let cell = &self.init[(offset >> 4) as usize];
        let now = cell.load(Relaxed);
        if defined && now & mask != mask {
            cell.fetch_or(mask, Relaxed);
        } else if !defined && now & mask != 0 {
            cell.fetch_and(!mask, Relaxed);
        }
    }

    /// The counterpart of [`BufferView::load`].
    #[inline]
    pub fn store(&self, offset: u64, bytes: u32, value: u128, defined: bool) {
        let word = (offset >> 3) as usize;
        match bytes {
            16 => {
                self.words[word].store(value as u64, Relaxed);
                self.words[word + 1].store((value >> 64) as u64, Relaxed);
            }
            8 => self.words[word].store(value as u64, Relaxed),
            _ => {
                let shift = (offset & 7) * 8;
                self.merge(word, ((1 << (8 * bytes)) - 1) << shift, (value as u64) << shift);
            }
        }
        self.mark(offset, bytes, defined);
    }

    fn merge(&self, word: usize, mask: u64, value: u64) {
        let update = |old: u64| Some((old & !mask) | (value & mask));
        // The closure never gives up.
        let _ = self.words[word].fetch_update(Relaxed, Relaxed, update);
    }

    /// Words of all lanes; false if some byte was never written. Offsets are aligned and inside.
    pub fn load_row<const N: usize>(&self, offsets: &[u32; 32], lanes: u32, out: &mut [[u32; 32]; 4]) -> bool {
        let mut fine = true;
        for lane in 0..32 {
            if (lanes >> lane) & 1 == 0 {
                continue;
            }
            let offset = u64::from(offsets[lane]);
            fine &= self.is_init(offset, 4 * N as u32);
            let value = self.load(offset, 4 * N as u32);
            for (word, row) in out.iter_mut().enumerate().take(N) {
                row[lane] = (value >> (32 * word)) as u32;
            }
        }
        fine
    }

    /// The counterpart of [`BufferView::load_row`].
    pub fn store_row<const N: usize>(&self, offsets: &[u32; 32], lanes: u32, values: &[[u32; 32]; 4]) {
        for lane in 0..32 {
            if (lanes >> lane) & 1 == 0 {
                continue;
            }
            let value = (0..N).fold(0u128, |all, word| all | (u128::from(values[word][lane]) << (32 * word)));
            self.store(u64::from(offsets[lane]), 4 * N as u32, value, true);
        }
    }

    /// Copies bytes out, with their initialisation bits (one bool each).
    pub fn read_bytes(&self, offset: u64, out: &mut [u8], init: &mut [bool]) {
        let mut at = 0;
        while at < out.len() {
            let from = offset + at as u64;
            let inside = (from & 7) as usize;
            let take = (8 - inside).min(out.len() - at);
            let word = self.words[(from >> 3) as usize].load(Relaxed).to_le_bytes();
            out[at..at + take].copy_from_slice(&word[inside..inside + take]);
            let bits = self.init[(from >> 4) as usize].load(Relaxed) >> (from & 15);
            for (i, flag) in init[at..at + take].iter_mut().enumerate() {
                *flag = (bits >> i) & 1 == 1;
            }
            at += take;
        }
    }

    /// Copies bytes in.
    pub fn write_bytes(&self, offset: u64, data: &[u8], init: &[bool]) {
        let mut at = 0;
        while at < data.len() {
            let to = offset + at as u64;
            let inside = (to & 7) as usize;
            let take = (8 - inside).min(data.len() - at);
            let mut word = [0; 8];
            word[inside..inside + take].copy_from_slice(&data[at..at + take]);
            let value = u64::from_le_bytes(word);
            if take == 8 {
                self.words[(to >> 3) as usize].store(value, Relaxed);
            } else {
                self.merge((to >> 3) as usize, ((1u64 << (8 * take)) - 1) << (8 * inside), value);
            }
            let flags = &init[at..at + take];
            if flags.iter().all(|&flag| flag) {
                self.mark(to, take as u32, true);
            } else {
                for (i, &flag) in flags.iter().enumerate() {
                    self.mark(to + i as u64, 1, flag);
                }
            }
            at += take;
        }
    }
}
