//! Where in a hash table the search for a voxel begins.

use super::super::host::Coord;
use super::lanes::{Four, Lanes};
use tilewright_ir::tile::{RoleBuilder, Scalar, TileRef};

/// Odd numbers at `2^32 / g^i`, g the root of `g^5 = g + 1`: steps along the axes whose small multiples keep apart (Roberts, "The
/// unreasonable effectiveness of quasirandom sequences"). In a box of 900 voxels along x, y and z, all on one side of 0, no two have
/// the same sum.
const STEPS: [u32; 4] = [0xdb4f_0b91, 0xbbe0_5633, 0xa0f2_ec77, 0x89e1_8285];
/// Shifts and factors of lowbias32, which spreads every bit over all (Wellons, "Prospecting for hash functions").
const MIX: [(u32, u32); 2] = [(16, 0x7feb_352d), (15, 0x846c_a68b)];
const LAST_SHIFT: u32 = 16;
/// Upper bits of a coordinate join the lower ones: products with multiples of a power of two would leave the lower bits of a sum 0.
const FOLD: u32 = 16;

/// The slot, of so many, where the search for a voxel begins.
pub fn first_slot(c: Coord, slots: u32) -> u32 {
    ((u64::from(hash(c)) * u64::from(slots)) >> 32) as u32
}

fn hash(c: Coord) -> u32 {
    let part = |(c, step): (i32, u32)| (c as u32 ^ (c as u32 >> FOLD)).wrapping_mul(step);
    let mut h = c.into_iter().zip(STEPS).map(part).fold(0u32, u32::wrapping_add);
    for (shift, factor) in MIX {
        h = (h ^ (h >> shift)).wrapping_mul(factor);
    }
    h ^ (h >> LAST_SHIFT)
}

impl Lanes {
    /// [`first_slot`] of each element.
    pub fn first_slot(&self, r: &mut RoleBuilder, c: Four, slots: Scalar) -> TileRef {
        let literal = |v: u32| i64::from(v as i32);
        let parts = [0, 1, 2, 3].map(|i| {
            let high = self.by(r, "ushr", c[i], FOLD.into());
            let both = r.binary("xor", c[i], high);
            self.by(r, "mul", both, literal(STEPS[i]))
        });
        let mut h = parts.into_iter().reduce(|a, b| r.binary("add", a, b)).expect("there are four");
        for (shift, factor) in MIX {
            let high = self.by(r, "ushr", h, shift.into());
            h = r.binary("xor", h, high);
            h = self.by(r, "mul", h, literal(factor));
        }
        let high = self.by(r, "ushr", h, LAST_SHIFT.into());
        h = r.binary("xor", h, high);
        self.with(r, "mulhi", h, slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustc_hash::FxHashSet;

    /// Distinct values and their low bits of a block, a plane, a line, and the same far out and spread.
    #[test]
    fn hashes_of_neighbours_spread() {
        let grid = |n: [i32; 3], step: i32, at: i32| {
            let axis = move |n: i32| (0..n).map(move |i| at.wrapping_add(i * step));
            let all = axis(n[0]).flat_map(move |x| axis(n[1]).flat_map(move |y| axis(n[2]).map(move |z| [0, x, y, z])));
            all.collect::<Vec<Coord>>()
        };
        for points in [
            grid([40, 40, 40], 1, -20),
            grid([1, 256, 256], 1, i32::MAX - 100),
            grid([60_000, 1, 1], 1, -7),
            grid([40, 40, 40], 1024, 5),
            grid([256, 1, 256], 1 << 16, i32::MIN),
        ] {
            let n = points.len();
            let whole: FxHashSet<u32> = points.iter().map(|c| hash(*c)).collect();
            assert!(n - whole.len() < 16, "{} of {n} hashes are met twice", n - whole.len());
            // Slots met by balls thrown at random: slots * (1 - exp(-n / slots)).
            let slots = 4 * n as u32;
            let met: FxHashSet<u32> = points.iter().map(|c| first_slot(*c, slots)).collect();
            let random = f64::from(slots) * (1.0 - (-0.25f64).exp());
            assert!((met.len() as f64) > 0.98 * random, "{} slots of {n} points, random ones meet {random}", met.len());
        }
    }
}
