//! The multiplication, whatever list it walks.

use super::coefficients::{DEPENDENT_LOADS, RESIDENT_CTAS, SECTOR};
use super::traffic::misses;
use super::{Bound, LaunchCost, largest};
use crate::device::DeviceProfile;
use crate::sparse::candidate::{Core, Tile};
use crate::sparse::work::Precision;
use tilewright_templates::sparse_conv::core::CoreConfig;

/// What a launch of the core multiplies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Multiply {
    /// What it is called.
    pub what: &'static str,
    /// Tile.
    pub tile: Tile,
    /// Channels of the input.
    pub cin: f64,
    /// Channels of the output.
    pub cout: f64,
    /// Taps of the weight that are read.
    pub taps: f64,
    /// Tiles of rows with work.
    pub items: f64,
    /// Taps of all of them together.
    pub item_taps: f64,
    /// Taps of the longest.
    pub longest: f64,
    /// Rows that are really read: the others of a tile are zeros.
    pub gathered: f64,
    /// Different ones of a tile, summed over tiles.
    pub unique: f64,
    /// Different ones of all.
    pub rows: f64,
    /// Bytes written, and read besides (residual, lists).
    pub out_bytes: f64,
    /// Bytes added to memory by atomics.
    pub added_bytes: f64,
}

/// Time of `launches` launches that share this work evenly.
pub(super) fn cost(d: &DeviceProfile, p: Precision, w: &Multiply, launches: u32) -> LaunchCost {
    let (tile, element, co) = (w.tile, f64::from(p.bytes()), d.coefficients());
    let [bm, bn, bk, stages] = [tile.bm, tile.bn, tile.bk, tile.stages].map(f64::from);
    let (sms, launched) = (f64::from(d.sms), f64::from(launches));
    let across = (w.cout / bn).ceil();
    let deep = (w.cin / bk).ceil();
    if w.items == 0.0 {
        return LaunchCost { what: w.what, layer: None, launches, seconds: launched * d.launch_seconds, bound: Bound::Launch };
    }
    // CTAs of one launch, and of the SM that has most of them.
    let ctas = w.items * across / launched;
    let on_one = (ctas / sms).ceil();
    let fits = (f64::from(d.arch.caps().max_smem_bytes) / f64::from(tile.smem_bytes(p.bytes()))).floor();
    let resident = on_one.min(fits.clamp(1.0, RESIDENT_CTAS));
    let blocks = w.item_taps / w.items * deep;
    // One block of one tile, cycles of its SM.
    let share = if tile.core == Core::Mma { d.mma_sync_share } else { 1.0 };
    let tensor = element * bm * bn * bk / (d.tensor_flops * share * co.tensor);
    let loaded = (bm + bn) * bk * element;
    let shared = (loaded + reads(tile) * bk * element) / d.smem_bytes;
    let copied = if tile.core == Core::Mma { loaded } else { bm * bk * element };
    // A warp's copy of 16 bytes a lane, on four schedulers.
    let issue = copied / 16.0 / 32.0 * co.copy_instructions / 4.0;
    // Zeros are not read. Rows shorter than a sector cost one.
    let row = (bk.min(w.cin) * element / SECTOR).ceil() * SECTOR;
    let active = ctas.min(sms);
    let block_bytes = w.gathered / w.item_taps * row + bk.min(w.cin) * bn * element;
    let l2 = block_bytes * active / d.l2_bytes.min(64.0 * active);
    let latency = d.load_latency / (stages - 1.0).max(1.0) / resident;
    let terms =
        [(Bound::Tensor, tensor), (Bound::L2, l2), (Bound::Shared, shared), (Bound::Issue, issue), (Bound::Latency, latency)];
    let (inner, block) = largest(&terms);
    // Lists, then rows; then the end of the tile: hidden where another CTA works meanwhile.
    let around = DEPENDENT_LOADS * d.load_latency + co.epilogue + 2.0 * bm * bn * 4.0 / d.smem_bytes;
    let alone = d.load_latency / (stages - 1.0).max(1.0);
    let longest = w.longest * deep * block.max(alone);
    let working = (on_one * blocks * block).max(longest);
    let idle = (on_one / resident).ceil() * around;
    let cycles = launched * (working + idle);
    // Device memory: the weight always, features where L2 has lost them, tile by tile where it holds no wave's worth.
    let bytes = w.rows * w.cin * element;
    let missed = misses(d, bytes);
    let features = bytes * missed + (w.unique - w.rows).max(0.0) * w.cin * element * across * missed;
    let weight = w.taps * w.cin * w.cout * element;
    let memory = weight + features + w.out_bytes * misses(d, w.out_bytes);
    let atomics = super::coefficients::ATOMIC_SLOWDOWN * w.added_bytes / super::traffic::l2_rate(d);
    let (work, idle) = (cycles / d.clock_hz - launched * idle / d.clock_hz, launched * idle / d.clock_hz);
    let through_l2 = w.out_bytes / super::traffic::l2_rate(d);
    let outer = [(inner, work), (Bound::Memory, memory / d.memory_bytes), (Bound::Atomics, atomics), (Bound::L2, through_l2)];
    let (bound, busy) = largest(&outer);
    let starting = launched * d.launch_seconds;
    let (bound, _) = largest(&[(bound, busy), (Bound::Latency, idle), (Bound::Launch, starting)]);
    LaunchCost { what: w.what, layer: None, launches, seconds: busy + idle + starting, bound }
}

/// Rows of both operands that warps read from shared memory for a block, counted as often as they are read.
fn reads(tile: Tile) -> f64 {
    let (bm, bn) = (f64::from(tile.bm), f64::from(tile.bn));
    match tile.config() {
        CoreConfig::Mma(c) => bm * f64::from(c.warps_n) + bn * f64::from(c.warps_m),
        // A warpgroup's 64 rows once, the weight once for each.
        CoreConfig::Wgmma(_) => bm + bn * bm / 64.0,
    }
}
