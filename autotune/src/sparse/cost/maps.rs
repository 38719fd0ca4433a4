//! Making a kernel map: hash table, outputs, lookups.

use super::LaunchCost;
use super::coefficients::{PROBES_HIT, PROBES_MISS, SLOTS_A_ROW};
use super::traffic::Traffic;
use crate::device::DeviceProfile;
use crate::sparse::work::GroupStats;

/// Bytes of a voxel's coordinates.
const VOXEL: f64 = 16.0;
/// Bytes of a number.
const WORD: f64 = 4.0;

/// The launches that make a group's map, whatever its candidate.
pub(super) fn cost(d: &DeviceProfile, g: &GroupStats) -> Vec<LaunchCost> {
    let [inserted, candidates, probes] = [g.map.inserted, g.map.candidates, g.map.probes].map(|v| v as f64);
    let mut list = Vec::new();
    if candidates > 0.0 {
        // Each candidate goes in, its least number stays; those that stayed are numbered in order and written out.
        // A slot for each output, not for each candidate: equal ones meet in one.
        let slots = SLOTS_A_ROW * g.forward.m as f64;
        let met = candidates - g.forward.m as f64;
        let into = Traffic {
            near: slots * WORD + g.forward.n as f64 * VOXEL,
            random: met.max(0.0) * PROBES_HIT,
            random_bytes: VOXEL,
            footprint: slots * WORD,
            atomics: candidates * PROBES_MISS,
            chain: 3.0,
            ..Traffic::default()
        };
        // Table and bits are cleared first.
        list.push(into.cost(d, "outputs: candidates", 3));
        // A bit for each input and tap; bits are counted, the counts summed up in three launches, slots numbered, outputs written.
        let words = g.forward.n as f64 * f64::from(g.taps) / 32.0 * WORD;
        let near = 2.0 * slots * WORD + 6.0 * words + g.forward.m as f64 * 2.0 * VOXEL;
        let number = Traffic { near, chain: 10.0, ..Traffic::default() };
        list.push(number.cost(d, "outputs: numbers", 7));
    }
    if inserted > 0.0 {
        let slots = SLOTS_A_ROW * inserted;
        let into = Traffic {
            near: slots * WORD + inserted * VOXEL,
            random: inserted * (PROBES_MISS - 1.0),
            random_bytes: VOXEL,
            footprint: slots * WORD,
            atomics: inserted * PROBES_MISS,
            chain: 2.0,
            ..Traffic::default()
        };
        list.push(into.cost(d, "hash table", 2));
    }
    let entries = g.forward.m as f64 * f64::from(g.taps);
    if entries > 0.0 {
        let mirrored = probes < entries;
        let pairs = g.pairs() as f64;
        let found = if mirrored { (pairs - g.forward.m as f64) / 2.0 } else { pairs }.clamp(0.0, probes);
        let slots = found * PROBES_HIT + (probes - found) * PROBES_MISS;
        // A slot that is not empty costs a look at its coordinates too.
        let compared = found * PROBES_HIT + (probes - found) * (PROBES_MISS - 1.0);
        let cleared = g.map.cleared as f64;
        // What is found is written where it belongs, with its mirror image; or row by row.
        let placed = if cleared > 0.0 { found * if mirrored { 2.0 } else { 1.0 } } else { 0.0 };
        let written = if cleared > 0.0 { cleared } else { entries };
        let look = Traffic {
            near: written * WORD + g.forward.m as f64 * VOXEL,
            random: slots + compared + placed,
            random_bytes: VOXEL,
            footprint: g.forward.n as f64 * (SLOTS_A_ROW * WORD + VOXEL) + if cleared > 0.0 { cleared * WORD } else { 0.0 },
            chain: 3.0,
            ..Traffic::default()
        };
        list.push(look.cost(d, "map", if cleared > 0.0 { 2 } else { 1 }));
    }
    list
}
