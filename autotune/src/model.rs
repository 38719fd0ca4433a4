//! The model.

use crate::device::DeviceProfile;
use std::cmp::Ordering;
use tilewright_templates::gemm::{GemmConfig, GemmProblem, MmaConfig, Schedule, WgmmaConfig};

/// A plan to rank.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Id: what ties are decided by.
    pub id: &'a str,
    /// Class.
    pub problem: &'a GemmProblem,
    /// Config of its main kernel.
    pub config: &'a GemmConfig,
    /// Parts of k, 1 for one launch.
    pub splits: u32,
}

/// Sizes of a GEMM.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Rows of d.
    pub m: f64,
    /// Columns of d.
    pub n: f64,
    /// Depth.
    pub k: f64,
}

/// Positions of the candidates, best first; equal times go to the smaller id, so that the order is the same everywhere.
pub fn rank(device: &DeviceProfile, sizes: Sizes, candidates: &[Candidate]) -> Vec<usize> {
    let times: Vec<f64> = candidates.iter().map(|c| seconds(device, sizes, c)).collect();
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    let by = |a: &usize, b: &usize| {
        times[*a].partial_cmp(&times[*b]).unwrap_or(Ordering::Equal).then_with(|| candidates[*a].id.cmp(candidates[*b].id))
    };
    order.sort_by(by);
    order
}

/// What a kernel's tile looks like to the memory system.
struct Tile {
    bm: f64,
    bn: f64,
    bk: f64,
    /// Rows one warpgroup or CTA multiplies against the same b tile.
    a_reads: f64,
    stages: f64,
    /// CTAs that share a and b loads.
    share_a: f64,
    share_b: f64,
    tensor_share: f64,
    ping_pong: bool,
    /// Issue cycles for each 16 bytes a warp's lanes copy; none where TMA does it.
    copy_cycles: f64,
    persistent: bool,
}

/// Modelled time of a plan, seconds.
pub fn seconds(d: &DeviceProfile, s: Sizes, c: &Candidate) -> f64 {
    let t = match c.config {
        GemmConfig::WeightMma(w) => return crate::weight::mma_seconds(d, s, c, w),
        GemmConfig::WeightWgmma(w) => return crate::weight::wgmma_seconds(d, s, c, w),
        GemmConfig::Wgmma(w) => wgmma_tile(w),
        GemmConfig::Mma(w) => mma_tile(d, w),
    };
    let gates = f64::from(c.problem.gates());
    let (n_wide, splits) = (s.n * gates, f64::from(c.splits));
    let tiles_m = (s.m / (t.bm * t.share_b)).ceil() * t.share_b;
    let tiles_n = (n_wide / (t.bn * t.share_a)).ceil() * t.share_a;
    let tiles = tiles_m * tiles_n * splits;
    let blocks_k = (s.k / t.bk / splits).ceil().max(1.0);
    let sms = f64::from(d.sms);
    // Ping-pong works on two tiles of an SM at once: each takes twice as long, the epilogue hides.
    let at_once = if t.ping_pong { 2.0 * sms } else { sms };
    let waves = (tiles / at_once).ceil() * if t.ping_pong { 2.0 } else { 1.0 };
    let active = tiles.min(sms);
    // One k block of one tile on one SM, cycles.
    let bytes = f64::from(c.problem.input.bytes());
    // Bytes are multiplied at twice the rate of 16 bits.
    let tensor = bytes * t.bm * t.bn * t.bk / (d.tensor_flops * t.tensor_share);
    let loaded = (t.bm + t.bn) * t.bk * bytes;
    let smem = (loaded + (t.bm + t.bn * t.a_reads) * t.bk * bytes) / d.smem_bytes;
    let l2 = (t.bm / t.share_a + t.bn / t.share_b) * t.bk * bytes * active / d.l2_bytes.min(64.0 * active);
    let issue = loaded / 16.0 / 32.0 * t.copy_cycles;
    let latency = d.load_latency / (t.stages - 1.0).max(1.0);
    let block = tensor.max(smem).max(l2).max(issue).max(latency);
    let out_bytes = f64::from(if c.splits > 1 { 4 } else { c.problem.output.bytes() });
    let epilogue = t.bm * t.bn * out_bytes / d.smem_bytes * 2.0 + 400.0;
    let exposed = if t.ping_pong { 0.25 * epilogue } else { epilogue };
    let fill = d.load_latency * if t.persistent { 1.0 } else { waves };
    let cycles = waves * (blocks_k * block + exposed) + fill;
    let moved = s.m * s.k * bytes + n_wide * s.k * bytes + s.m * s.n * f64::from(c.problem.output.bytes());
    // Operands that do not stay in L2 between waves come again.
    let again = if moved > d.l2_capacity { (waves - 1.0).max(0.0) * 0.1 * moved } else { 0.0 };
    let mut time = (cycles / d.clock_hz).max((moved + again) / d.memory_bytes) + d.launch_seconds;
    if matches!(c.config, GemmConfig::Wgmma(w) if w.pad) {
        // Operands are copied, byte by byte, in two launches.
        time += 8.0 * (s.m + n_wide) * s.k / d.memory_bytes + 2.0 * d.launch_seconds;
    }
    if c.splits > 1 {
        // Partials go out and come back, mostly through L2, and a second launch follows.
        let partial = 2.0 * splits * s.m * n_wide * 4.0;
        time += partial / d.memory_bytes + d.launch_seconds;
    }
    time
}

fn wgmma_tile(w: &WgmmaConfig) -> Tile {
    let ping_pong = w.schedule == Schedule::PingPong;
    let readers = if ping_pong { 1 } else { w.math_wgs };
    Tile {
        bm: w.bm.into(),
        bn: w.bn.into(),
        bk: w.bk.into(),
        a_reads: readers.into(),
        stages: w.stages.into(),
        share_a: w.cluster.sharing_a().into(),
        share_b: w.cluster.sharing_b().into(),
        tensor_share: 1.0,
        ping_pong,
        copy_cycles: 0.0,
        persistent: true,
    }
}

fn mma_tile(d: &DeviceProfile, m: &MmaConfig) -> Tile {
    Tile {
        bm: m.bm.into(),
        bn: m.bn.into(),
        bk: m.bk.into(),
        a_reads: m.warps_m.into(),
        stages: m.stages.into(),
        share_a: 1.0,
        share_b: 1.0,
        tensor_share: d.mma_sync_share,
        ping_pong: false,
        // About eight instructions a copy (address, bounds, swizzle), on four schedulers.
        copy_cycles: 2.0 * 8.0 / f64::from(m.load_align),
        persistent: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::{Arch, DType};

    fn wgmma(bm: u32, bn: u32, math_wgs: u32) -> GemmConfig {
        GemmConfig::Wgmma(WgmmaConfig::new([bm, bn, 64], 4, math_wgs))
    }

    fn best(sizes: Sizes, configs: &[(GemmConfig, u32)]) -> usize {
        let p = GemmProblem::plain(DType::BF16);
        let ids: Vec<String> = configs.iter().map(|(c, s)| format!("{c} x{s}")).collect();
        let list: Vec<Candidate> = configs
            .iter()
            .zip(&ids)
            .map(|((config, splits), id)| Candidate { id, problem: &p, config, splits: *splits })
            .collect();
        rank(&DeviceProfile::typical(Arch::Sm90a), sizes, &list)[0]
    }

    #[test]
    fn large_tiles_win_large_problems_and_small_tiles_small_ones() {
        let configs = [(wgmma(64, 32, 1), 1), (wgmma(128, 256, 2), 1)];
        assert_eq!(best(Sizes { m: 8192.0, n: 8192.0, k: 8192.0 }, &configs), 1);
        assert_eq!(best(Sizes { m: 16.0, n: 4096.0, k: 4096.0 }, &configs), 0);
    }

    #[test]
    fn splitting_k_pays_only_where_tiles_are_few() {
        let configs = [(wgmma(64, 64, 1), 1), (wgmma(64, 64, 1), 8)];
        assert_eq!(best(Sizes { m: 16.0, n: 512.0, k: 16384.0 }, &configs), 1);
        assert_eq!(best(Sizes { m: 4096.0, n: 4096.0, k: 4096.0 }, &configs), 0);
    }

    #[test]
    fn wgmma_beats_mma_sync_on_hopper_and_wide_copies_narrow_ones() {
        let mma = |load_align| {
            GemmConfig::Mma(MmaConfig {
                bm: 128,
                bn: 128,
                bk: 64,
                stages: 4,
                warps_m: 2,
                warps_n: 4,
                raster: 8,
                load_align,
                n_align: 1,
                split: false,
            })
        };
        assert_eq!(best(Sizes { m: 4096.0, n: 4096.0, k: 4096.0 }, &[(mma(8), 1), (wgmma(128, 128, 2), 1)]), 1);
        assert_eq!(best(Sizes { m: 4096.0, n: 4096.0, k: 4096.0 }, &[(mma(1), 1), (mma(8), 1)]), 1);
    }

    #[test]
    fn no_plan_is_faster_than_the_roofs() {
        let d = DeviceProfile::typical(Arch::Sm90a);
        let p = GemmProblem::plain(DType::BF16);
        let config = wgmma(128, 256, 2);
        let c = Candidate { id: "x", problem: &p, config: &config, splits: 1 };
        let s = Sizes { m: 8192.0, n: 8192.0, k: 8192.0 };
        let roof = 2.0 * s.m * s.n * s.k / (d.tensor_flops * f64::from(d.sms) * d.clock_hz);
        let t = seconds(&d, s, &c);
        assert!(t > roof && t < 1.5 * roof, "{t} against {roof}");
    }
}
