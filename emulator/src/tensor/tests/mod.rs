//! Formulas against brute force.

mod convert;
mod exact;
mod mma;
mod ring;
mod sparse;
mod tma;
mod wgmma;
mod wmma;

/// Deterministic random words.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let x = self.0 ^ self.0 >> 33;
        (x.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 32) as u32
    }
}
