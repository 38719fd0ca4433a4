//! Loads and stores of whole rows, for the common case: every lane in bounds, aligned and defined, elements of 4 or 8
//! bytes. Anything else goes lane by lane through `ldst`, which also finds out what is wrong.

use super::access::lanes_of;
use super::cluster::Cluster;
use super::regs::{FULL, Regs, Row};
use crate::memory::global::BufferView;
use crate::memory::shared::Bytes;
use crate::memory::space::{CTA_SHIFT, RESERVED_SHARED};
use crate::program::Reg;

/// 32-bit words of each lane: the most a single access has.
pub type Words = [Row; 4];

/// Where a whole row of accesses goes.
enum Place<'s, 'a> {
    Shared(&'s Bytes),
    Global(BufferView<'a>),
}

/// Offsets of all lanes from `base`, if each is a multiple of `bytes` and in `low..=high`.
fn offsets(of: &[u64; 32], lanes: u32, base: u64, bytes: u32, low: u64, high: u64) -> Option<[u32; 32]> {
    let mut out = [0; 32];
    let mut bad = false;
    for lane in 0..32 {
        let active = (lanes >> lane) & 1 == 1;
        let offset = of[lane].wrapping_sub(base);
        // Inactive lanes may hold anything.
        bad |= active & ((offset < low) | (offset > high) | (of[lane] & u64::from(bytes - 1) != 0));
        out[lane] = offset as u32;
    }
    (!bad).then_some(out)
}

/// Whether registers of this shape are handled here, and their words.
fn words_of(regs: &[Reg], elem_bytes: u32) -> Option<usize> {
    let uniform = regs.iter().all(|reg| match reg {
        Reg::R(_) => elem_bytes == 4,
        Reg::D(_) => elem_bytes == 8,
        _ => false,
    });
    let words = regs.len() * elem_bytes as usize / 4;
    (uniform && matches!(words, 1 | 2 | 4)).then_some(words)
}

impl<'a> Cluster<'a> {
    /// Loads a row; false if the lanes must go one by one.
    pub(super) fn load_row(
        &self,
        cta: usize,
        shared: bool,
        of: &[u64; 32],
        lanes: u32,
        regs: &mut Regs,
        dst: &[Reg],
        elem_bytes: u32,
    ) -> bool {
        let Some(words) = words_of(dst, elem_bytes) else { return false };
        let bytes = 4 * words as u32;
        let Some((place, offsets)) = self.place_row(cta, shared, of, lanes, bytes) else { return false };
        let mut values: Words = [[0; 32]; 4];
        let fine = match &place {
            Place::Shared(memory) => match words {
                1 => memory.load_row::<1>(&offsets, lanes, &mut values),
                2 => memory.load_row::<2>(&offsets, lanes, &mut values),
                _ => memory.load_row::<4>(&offsets, lanes, &mut values),
            },
            Place::Global(buffer) => match words {
                1 => buffer.load_row::<1>(&offsets, lanes, &mut values),
                2 => buffer.load_row::<2>(&offsets, lanes, &mut values),
                _ => buffer.load_row::<4>(&offsets, lanes, &mut values),
            },
        };
        if fine {
            put_words(regs, dst, lanes, &values);
        }
        fine
    }

    fn place_row<'s>(
        &'s self,
        cta: usize,
        shared: bool,
        of: &[u64; 32],
        lanes: u32,
        bytes: u32,
    ) -> Option<(Place<'s, 'a>, [u32; 32])> {
        if shared {
            let memory = &self.ctas[cta].shared;
            let high = u64::from(memory.size().checked_sub(bytes)?);
            let base = (cta as u64) << CTA_SHIFT;
            let offsets = offsets(of, lanes, base, bytes, RESERVED_SHARED.into(), high)?;
            return Some((Place::Shared(memory), offsets));
        }
        let first = of[lanes_of(lanes).next()?];
        let buffer = self.m.global.find(first, bytes.into()).ok()?;
        // Offsets are kept in 32 bits here.
        let high = buffer.bytes.checked_sub(bytes.into())?.min(u32::MAX.into());
        let offsets = offsets(of, lanes, buffer.base, bytes, 0, high)?;
        Some((Place::Global(buffer), offsets))
    }

    /// Stores a row; false if the lanes must go one by one.
    pub(super) fn store_row(
        &mut self,
        cta: usize,
        shared: bool,
        of: &[u64; 32],
        lanes: u32,
        regs: &Regs,
        src: &[Reg],
        elem_bytes: u32,
    ) -> bool {
        let Some(words) = words_of(src, elem_bytes) else { return false };
        if src.iter().any(|reg| lanes & !regs.defined(*reg) != 0) {
            return false;
        }
        let bytes = 4 * words as u32;
        let Some((place, offsets)) = self.place_row(cta, shared, of, lanes, bytes) else { return false };
        let values = take_words(regs, src);
        match place {
            Place::Global(buffer) => {
                match words {
                    1 => buffer.store_row::<1>(&offsets, lanes, &values),
                    2 => buffer.store_row::<2>(&offsets, lanes, &values),
                    _ => buffer.store_row::<4>(&offsets, lanes, &values),
                }
                true
            }
            Place::Shared(_) => {
                let cta = &mut self.ctas[cta];
                // Bytes of live mbarriers count as never written: first writes must look for them.
                if !cta.mbarriers.is_empty() && lanes_of(lanes).any(|lane| !cta.shared.is_init(offsets[lane], bytes)) {
                    return false;
                }
                match words {
                    1 => cta.shared.store_row::<1>(&offsets, lanes, &values),
                    2 => cta.shared.store_row::<2>(&offsets, lanes, &values),
                    _ => cta.shared.store_row::<4>(&offsets, lanes, &values),
                }
                true
            }
        }
    }
}

fn put_words(regs: &mut Regs, dst: &[Reg], lanes: u32, values: &Words) {
    let mut at = 0;
    for reg in dst {
        match reg {
            Reg::R(r) => {
                regs.put(*r, &values[at], lanes, FULL);
                at += 1;
            }
            Reg::D(d) => {
                let (low, high) = (&values[at], &values[at + 1]);
                let row = std::array::from_fn(|lane| u64::from(low[lane]) | (u64::from(high[lane]) << 32));
                regs.put64(*d, &row, lanes, FULL);
                at += 2;
            }
            Reg::Q(..) | Reg::P(_) => {}
        }
    }
}

fn take_words(regs: &Regs, src: &[Reg]) -> Words {
    let mut values: Words = [[0; 32]; 4];
    let mut at = 0;
    for reg in src {
        match reg {
            Reg::R(r) => {
                values[at] = *regs.r(*r);
                at += 1;
            }
            Reg::D(d) => {
                let row = regs.q(*d);
                values[at] = row.map(|x| x as u32);
                values[at + 1] = row.map(|x| (x >> 32) as u32);
                at += 2;
            }
            Reg::Q(..) | Reg::P(_) => {}
        }
    }
    values
}
