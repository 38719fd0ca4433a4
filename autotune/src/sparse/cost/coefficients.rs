//! What the model needs besides the device profile and the coefficients of dense kernels ([`crate::model::Coefficients`]),
//! and where each number comes from.

/// A number of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficient {
    /// What it is.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}

macro_rules! coefficients {
    ($($name:ident = $value:expr, $unit:literal, $what:literal, $source:literal;)*) => {
        $(#[doc = concat!($what, ", ", $unit, ": ", $source)] pub(super) const $name: f64 = $value;)*
        /// Every coefficient.
        pub const COEFFICIENTS: &[Coefficient] =
            &[$(Coefficient { name: $what, value: $value, unit: $unit, source: $source }),*];
    };
}

coefficients! {
    SLOTS_A_ROW = 4.0, "slots", "slots of a hash table for each row inserted", "the map kernels' own choice";
    PROBES_HIT = 1.17, "slots", "slots looked at until a voxel is found", "linear probing at a load of 1/4: (1 + 1/(1-a))/2 (Knuth, TAOCP 3, 6.4)";
    PROBES_MISS = 1.39, "slots", "slots looked at until an empty one", "linear probing at a load of 1/4: (1 + 1/(1-a)^2)/2 (Knuth, TAOCP 3, 6.4)";
    SECTOR = 32.0, "bytes", "least that L2 hands out", "NVIDIA Nsight Compute documentation, memory tables";
    BURST = 64.0, "bytes", "least that device memory hands out", "HBM2e and HBM3: a burst of a pseudo-channel (JEDEC JESD235, JESD238)";
    RESIDENT = 0.5, "of L2", "what stays in L2 from one launch to the next", "estimate: both halves of L2 may hold a copy of a line (NVIDIA A100 white paper)";
    ATOMIC_SLOWDOWN = 4.0, "stores", "what an atomic of a sector costs in L2", "estimate: it is read, added to and written, and neighbouring taps meet in the same rows";
    DEPENDENT_LOADS = 3.0, "loads", "accesses one after another before a tile's first rows come", "the lists of tiles: taps, rows, features";
    RESIDENT_CTAS = 4.0, "CTAs", "most CTAs of an SM that overlap their latencies", "estimate: registers of an accumulator of 64 x 64 or more";
    RADIX_BITS = 7.0, "bits", "bits of the key a pass of the radix sort takes", "the sort kernels' own choice";
    RADIX_COMPARES = 256.0, "comparisons", "comparisons of an element and pass of the radix sort", "the sort kernels' own choice: with the 128 of its block, to count and to place";
    COMPARE_CYCLES = 3.0, "lane cycles", "issue of a comparison that is counted", "estimate: compare, select, add";
    LANES = 64.0, "lanes", "32-bit integer lanes of a multiprocessor", "CUDA C++ Programming Guide, arithmetic instructions, 8.0 and 9.0";
    RADIX_LAUNCHES = 3.0, "launches", "launches of a pass of the radix sort", "the sort kernels' own choice: counts, scan, scatter";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_coefficient_is_positive_and_has_a_source() {
        for c in COEFFICIENTS {
            assert!(c.value > 0.0 && !c.source.is_empty() && !c.unit.is_empty(), "{}", c.name);
        }
        let load: f64 = 1.0 / SLOTS_A_ROW;
        assert!((PROBES_HIT - (1.0 + 1.0 / (1.0 - load)) / 2.0).abs() < 0.005);
        assert!((PROBES_MISS - (1.0 + 1.0 / (1.0 - load).powi(2)) / 2.0).abs() < 0.005);
    }
}
