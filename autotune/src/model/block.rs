//! Time of a block: the slowest of what it needs.

use super::coefficients::Coefficients;
use super::work::Block;
use crate::device::DeviceProfile;

/// Cycles of an SM that a block of one CTA takes from each of its parts, and the time until its loads are there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockTime {
    /// Tensor cores.
    pub tensor: f64,
    /// Shared memory: operands of the multiplies, copies, accesses of warps.
    pub shared: f64,
    /// L2, shared with the SMs that work.
    pub l2: f64,
    /// Issue slots, or the busiest pipe.
    pub pipe: f64,
    /// Copies started.
    pub control: f64,
    /// What the CTA itself cannot do faster: loads that few stages hide, work one after the other.
    pub latency: f64,
}

/// L2 bytes that one SM takes in a clock (microbenchmarks of Ampere and Hopper).
const L2_PORT: f64 = 64.0;
/// Warp instructions that an SM starts in a clock: one for each scheduler.
const SLOTS: f64 = 4.0;
/// Lanes of a warp.
const LANES: f64 = 32.0;

impl BlockTime {
    /// Times of a block with `active` CTAs at work and `stages` of loads.
    pub fn new(d: &DeviceProfile, co: &Coefficients, b: &Block, active: f64, stages: f64) -> Self {
        let tensor = b.tensor / co.tensor;
        let shared = (b.shared + co.smem_copies * b.copied) / d.smem_bytes;
        let sms = active.clamp(1.0, d.sms.into());
        let l2 = b.l2 / (d.l2_bytes * co.l2 / sms).min(L2_PORT);
        let p = &b.pipes;
        let pipe = (p.issued / SLOTS)
            .max(p.int * LANES / d.int_lanes)
            .max(p.float * LANES / d.float_lanes)
            .max(p.special * LANES / d.special_lanes);
        let control = b.tma * co.tma_issue;
        let loads = (d.load_latency * co.latency + co.control) / (stages - 1.0).max(1.0);
        let alone = tensor.max(shared).max(l2).max(pipe).max(control);
        BlockTime { tensor, shared, l2, pipe, control, latency: loads.max(alone + b.serial) }
    }

    /// What blocks of several CTAs of an SM share, each after the other.
    pub fn shared_by_all(&self) -> f64 {
        self.tensor.max(self.shared).max(self.l2).max(self.pipe).max(self.control)
    }

    /// Cycles in which an SM does `tiles` tiles of `blocks` blocks at once: as long as its parts are busy, or as one tile takes
    /// alone, with `edges` cycles around its blocks, which the others' work hides.
    pub fn period(&self, blocks: f64, tiles: f64, edges: f64) -> f64 {
        (tiles * blocks * self.shared_by_all()).max(blocks * self.latency + edges)
    }
}
