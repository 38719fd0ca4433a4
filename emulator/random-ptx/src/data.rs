//! Inputs: random bits, small numbers and the corners of each format.

use crate::choices::Choices;

const WORDS: [u32; 24] = [
    0,
    1,
    2,
    31,
    32,
    0xffff_ffff,
    0x8000_0000,
    0x7fff_ffff,
    0x3f80_0000,
    0xbf80_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7fff_ffff,
    0x7f7f_ffff,
    0x0080_0000,
    0x0000_0001,
    0x807f_ffff,
    0x4b80_0000,
    0x4f00_0000,
    0xcf00_0000,
    0x3f7f_ffff,
    0x3c00_bc00,
    0x7c00_fc00,
    0x0001_8001,
];

fn word(c: &mut Choices) -> u32 {
    let bits = c.bits();
    match bits >> 60 {
        0..=5 => bits as u32,
        // A float from 2^-12 to 2^12.
        6..=9 => (bits as u32 & 0x807f_ffff) | (115 + ((bits >> 32) % 24) as u32) << 23,
        10..=11 => bits as u32 & 0xff,
        12 => (bits as u32 & 0xff).wrapping_neg(),
        _ => WORDS[(bits as usize) % WORDS.len()],
    }
}

fn double(c: &mut Choices) -> u64 {
    let bits = c.bits();
    match c.bits() >> 61 {
        0..=1 => bits,
        2..=3 => (bits & 0x800f_ffff_ffff_ffff) | (1011 + (bits >> 53) % 24) << 52,
        4 => bits & 0xffff,
        5 => f64::from(f32::from_bits(word(c) & 0xbfff_ffff)).to_bits(),
        6 => u64::from(word(c)) << 32 | u64::from(word(c)),
        _ => [0, 1, u64::MAX, 1 << 63, i64::MAX as u64, 0x3ff0 << 48, 0x7ff0 << 48, 0xfff0 << 48, 0x10 << 48, 0x8000_0001]
            [(bits % 10) as usize],
    }
}

/// What each thread loads, then bytes for copies.
pub fn input(c: &mut Choices, threads: u32, thread_bytes: u32, bytes: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes as usize);
    for thread in 0..threads {
        for _ in 0..16 {
            out.extend(word(c).to_le_bytes());
        }
        for _ in 0..8 {
            out.extend(double(c).to_le_bytes());
        }
        for _ in 0..4 {
            let half = if c.bits() & 1 == 0 { c.bits() as u32 } else { WORDS[(c.bits() % 24) as usize] };
            out.extend(half.to_le_bytes());
        }
        for _ in 0..4 {
            out.extend(u32::from(c.bits() & 3 == 0).to_le_bytes());
        }
        out.resize(((thread + 1) * thread_bytes) as usize, 0);
    }
    while out.len() < bytes as usize {
        out.extend(c.bits().to_le_bytes());
    }
    out.truncate(bytes as usize);
    out
}
