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
    /// All of these at once: the slowest, and a little of the others.
    pub together: f64,
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
        let parts = [tensor, shared, l2, pipe, control];
        let slowest = parts.into_iter().fold(0.0, f64::max);
        let together = slowest + co.unhidden * (parts.iter().sum::<f64>() - slowest);
        // A single stage is filled when its block is done with, not before.
        let latency = if stages < 2.0 { loads + together + b.serial } else { loads.max(together + b.serial) };
        BlockTime { tensor, shared, l2, pipe, control, together, latency }
    }

    /// Cycles in which an SM does `tiles` tiles of `blocks` blocks at once: as long as its parts are busy, or as one tile takes
    /// alone, with `edges` cycles around its blocks, which the others' work hides.
    pub fn period(&self, blocks: f64, tiles: f64, edges: f64) -> f64 {
        (tiles * blocks * self.together).max(blocks * self.latency + edges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pipes;

    #[test]
    fn a_block_takes_what_its_slowest_part_takes() {
        let (d, co) = (DeviceProfile::named("H200").unwrap(), Coefficients { unhidden: 0.0, ..Coefficients::default() });
        let block = Block { tensor: 1024.0, shared: 65536.0, copied: 32768.0, l2: 32768.0, ..Block::default() };
        let t = BlockTime::new(d, &co, &block, 132.0, 4.0);
        // 96 KiB through shared memory in 768 cycles; L2's rate over 132 SMs is below the 64 bytes of a port.
        assert_eq!((t.shared, t.tensor), (768.0, 1024.0 / 0.95));
        assert!((t.l2 - 32768.0 * 132.0 / 6154.0).abs() < 1e-6 && t.together == t.tensor);
        let little = BlockTime::new(d, &Coefficients::default(), &block, 132.0, 4.0).together;
        assert!((little - t.tensor - 0.02 * (t.shared + t.l2)).abs() < 1e-9);
        // One SM alone has its port.
        assert_eq!(BlockTime::new(d, &co, &block, 1.0, 4.0).l2, 512.0);
        // Fewer stages: loads are waited for, and one stage waits for them each time.
        let waits = |stages| BlockTime::new(d, &co, &block, 132.0, stages).latency;
        assert_eq!([waits(4.0), waits(2.0)], [t.tensor, t.tensor]);
        assert_eq!(waits(1.0), t.tensor + 870.0);
        let small = Block { tensor: 64.0, ..block };
        assert_eq!(BlockTime::new(d, &co, &Block { shared: 0.0, copied: 0.0, l2: 0.0, ..small }, 1.0, 4.0).latency, 290.0);
    }

    #[test]
    fn pipes_have_their_lanes() {
        let (d, co) = (DeviceProfile::named("H200").unwrap(), Coefficients::default());
        let pipe = |pipes| BlockTime::new(d, &co, &Block { pipes, ..Block::default() }, 1.0, 4.0).pipe;
        let p = Pipes { issued: 100.0, ..Pipes::default() };
        assert_eq!(pipe(p), 25.0);
        assert_eq!(pipe(Pipes { int: 100.0, ..p }), 50.0);
        assert_eq!(pipe(Pipes { special: 100.0, ..p }), 200.0);
        assert_eq!(pipe(Pipes { float: 100.0, ..p }), 25.0);
    }

    #[test]
    fn tiles_of_an_sm_hide_each_others_ends_until_its_parts_are_busy() {
        let t = BlockTime { tensor: 10.0, shared: 0.0, l2: 0.0, pipe: 0.0, control: 0.0, together: 10.0, latency: 30.0 };
        // 8 blocks of 30 cycles and an end of 100; two tiles take no longer, eight keep the tensor cores busy.
        assert_eq!([1.0, 2.0, 8.0].map(|tiles| t.period(8.0, tiles, 100.0)), [340.0, 340.0, 640.0]);
    }
}
