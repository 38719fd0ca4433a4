//! The register files of a warp.

use crate::program::{D, P, R, Reg};

/// Values of a 32-bit register by lane.
pub type Row = [u32; 32];
/// Values of a 64-bit register by lane.
pub type Row64 = [u64; 32];

pub const FULL: u32 = u32::MAX;

/// Three files, and for each register the lanes in which it is defined.
#[derive(Debug, Default)]
pub struct Regs {
    pub r: Vec<Row>,
    pub q: Vec<Row64>,
    pub p: Vec<u32>,
    pub rd: Vec<u32>,
    pub qd: Vec<u32>,
    pub pd: Vec<u32>,
    /// What registers of `wgmma` are doing, by their number in the kernel's watch.
    pub held: Vec<u8>,
}

/// An unfinished `wgmma` accumulates here.
pub const HELD_AS_D: u8 = 1;
/// An unfinished `wgmma` reads its operand a here.
pub const HELD_AS_A: u8 = 2;
/// An ordinary instruction touched it since the last `wgmma.fence`.
pub const UNFENCED: u8 = 4;

/// What undefined registers hold.
const POISON32: u32 = 0xcccc_cccc;
const POISON64: u64 = 0xcccc_cccc_cccc_cccc;

impl Regs {
    /// All registers undefined.
    pub fn reset(&mut self, rows32: usize, rows64: usize, preds: usize) {
        fn fill<T: Copy>(file: &mut Vec<T>, count: usize, value: T) {
            file.clear();
            file.resize(count, value);
        }
        fill(&mut self.r, rows32, [POISON32; 32]);
        fill(&mut self.q, rows64, [POISON64; 32]);
        fill(&mut self.p, preds, 0);
        fill(&mut self.rd, rows32, 0);
        fill(&mut self.qd, rows64, 0);
        fill(&mut self.pd, preds, 0);
        self.p[P::TRUE.0 as usize] = FULL;
        self.pd[P::TRUE.0 as usize] = FULL;
    }

    #[inline(always)]
    pub fn r(&self, r: R) -> &Row {
        &self.r[r.0 as usize]
    }

    #[inline(always)]
    pub fn q(&self, d: D) -> &Row64 {
        &self.q[d.0 as usize]
    }

    /// A predicate, possibly negated, as a lane mask.
    #[inline(always)]
    pub fn pred(&self, (p, negated): (P, bool)) -> u32 {
        let bits = self.p[p.0 as usize];
        if negated { !bits } else { bits }
    }

    #[inline(always)]
    pub fn rdef(&self, r: R) -> u32 {
        self.rd[r.0 as usize]
    }

    #[inline(always)]
    pub fn qdef(&self, d: D) -> u32 {
        self.qd[d.0 as usize]
    }

    #[inline(always)]
    pub fn pdef(&self, p: P) -> u32 {
        self.pd[p.0 as usize]
    }

    #[inline(always)]
    pub fn put(&mut self, d: R, value: &Row, mask: u32, defined: u32) {
        let at = d.0 as usize;
        if mask == FULL {
            self.r[at] = *value;
            self.rd[at] = defined;
        } else {
            let row = &mut self.r[at];
            for lane in 0..32 {
                if (mask >> lane) & 1 == 1 {
                    row[lane] = value[lane];
                }
            }
            self.rd[at] = (self.rd[at] & !mask) | (defined & mask);
        }
    }

    #[inline(always)]
    pub fn put64(&mut self, d: D, value: &Row64, mask: u32, defined: u32) {
        let at = d.0 as usize;
        if mask == FULL {
            self.q[at] = *value;
            self.qd[at] = defined;
        } else {
            let row = &mut self.q[at];
            for lane in 0..32 {
                if (mask >> lane) & 1 == 1 {
                    row[lane] = value[lane];
                }
            }
            self.qd[at] = (self.qd[at] & !mask) | (defined & mask);
        }
    }

    /// Sets registers to 32-bit words, low word first.
    pub fn put_words(&mut self, list: &[Reg], words: &[Row], mask: u32) {
        let mut at = 0;
        for reg in list {
            match reg {
                Reg::R(r) => {
                    self.put(*r, &words[at], mask, FULL);
                    at += 1;
                }
                Reg::D(d) => {
                    let (low, high) = (&words[at], &words[at + 1]);
                    let row = std::array::from_fn(|lane| u64::from(low[lane]) | (u64::from(high[lane]) << 32));
                    self.put64(*d, &row, mask, FULL);
                    at += 2;
                }
                _ => {}
            }
        }
    }

    #[inline(always)]
    pub fn put_pred(&mut self, d: P, value: u32, mask: u32, defined: u32) {
        let at = d.0 as usize;
        self.p[at] = (self.p[at] & !mask) | (value & mask);
        self.pd[at] = (self.pd[at] & !mask) | (defined & mask);
    }

    /// One lane of a register, zero-extended.
    #[inline]
    pub fn lane(&self, reg: Reg, lane: usize) -> u128 {
        match reg {
            Reg::R(r) => u128::from(self.r(r)[lane]),
            Reg::D(d) => u128::from(self.q(d)[lane]),
            Reg::Q(low, high) => u128::from(self.q(low)[lane]) | (u128::from(self.q(high)[lane]) << 64),
            Reg::P(p) => u128::from((self.p[p.0 as usize] >> lane) & 1),
        }
    }

    /// Writes one lane; the caller marks it defined.
    #[inline]
    pub fn set_lane(&mut self, reg: Reg, lane: usize, value: u128) {
        match reg {
            Reg::R(r) => self.r[r.0 as usize][lane] = value as u32,
            Reg::D(d) => self.q[d.0 as usize][lane] = value as u64,
            Reg::Q(low, high) => {
                self.q[low.0 as usize][lane] = value as u64;
                self.q[high.0 as usize][lane] = (value >> 64) as u64;
            }
            Reg::P(p) => {
                let bits = &mut self.p[p.0 as usize];
                *bits = (*bits & !(1 << lane)) | (((value & 1) as u32) << lane);
            }
        }
    }

    pub fn defined(&self, reg: Reg) -> u32 {
        match reg {
            Reg::R(r) => self.rdef(r),
            Reg::D(d) => self.qdef(d),
            Reg::Q(low, high) => self.qdef(low) & self.qdef(high),
            Reg::P(p) => self.pdef(p),
        }
    }

    pub fn set_defined(&mut self, reg: Reg, mask: u32, defined: u32) {
        let merge = |bits: &mut u32| *bits = (*bits & !mask) | (defined & mask);
        match reg {
            Reg::R(r) => merge(&mut self.rd[r.0 as usize]),
            Reg::D(d) => merge(&mut self.qd[d.0 as usize]),
            Reg::Q(low, high) => {
                merge(&mut self.qd[low.0 as usize]);
                merge(&mut self.qd[high.0 as usize]);
            }
            Reg::P(p) => merge(&mut self.pd[p.0 as usize]),
        }
    }
}
