//! The time of a plan: for each k tile the slowest of tensor cores, shared memory and L2; for a tile of the output its k
//! tiles and its epilogue; for the launch its waves, and never less than what DRAM takes.
//!
//! It follows DeepGEMM's ranking formula (cycles = max(L1, L2) over the efficiency of the last wave) and adds the tensor
//! term, pipeline fill and the DRAM floor. Cycle simulators are 5 to 12 % off in absolute time; this is for ranking.

use crate::profile::DeviceProfile;
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::{GemmConfig, GemmProblem, MmaConfig, Schedule, WgmmaConfig};

/// A plan to rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The config of its matrix kernel.
    pub config: GemmConfig,
    /// Parts of k; 1 is not split.
    pub splits: u32,
}

/// A problem's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Rows of the output.
    pub m: u64,
    /// Columns of the output.
    pub n: u64,
    /// Length of the sums.
    pub k: u64,
    /// Matrices.
    pub batch: u64,
}

/// Where a plan's time goes, cycles.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The whole plan.
    pub total: f64,
    /// Tensor cores, one k tile.
    pub tensor: f64,
    /// Shared memory, one k tile.
    pub smem: f64,
    /// L2, one k tile.
    pub l2: f64,
    /// DRAM, the whole plan.
    pub dram: f64,
    /// Tiles of the output on the busiest SM.
    pub waves: f64,
}

/// Candidates from fastest to slowest; equal ones by config id and splits, so the order never depends on the input's.
pub fn rank(arch: Arch, device: &DeviceProfile, p: &GemmProblem, s: Sizes, candidates: &[Candidate]) -> Vec<usize> {
    let mut order: Vec<(f64, String, u32, usize)> = candidates
        .iter()
        .enumerate()
        .map(|(i, c)| (estimate(arch, device, p, s, c).total, c.config.to_string(), c.splits, i))
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| (&a.1, a.2).cmp(&(&b.1, b.2))));
    order.into_iter().map(|entry| entry.3).collect()
}

/// What the model thinks of one plan. Sizes the plan does not support are estimated as if it did.
pub fn estimate(arch: Arch, device: &DeviceProfile, p: &GemmProblem, s: Sizes, c: &Candidate) -> Estimate {
    let shape = Shape::of(p, c);
    let d = device;
    let (bm, bn, bk) = (shape.bm, shape.bn, shape.bk);
    let wgmma = matches!(c.config, GemmConfig::Wgmma(_));
    // One k tile of one CTA, for all its rows and columns, used or not.
    let rate = d.tensor_flops * if wgmma { 0.97 } else if arch.is_hopper() { d.mma_sync_share } else { 0.9 };
    let tensor = 2.0 * bm * bn * bk / rate;
    let input = f64::from(p.input.bytes());
    let loaded = (bm / shape.share_a + bn / shape.share_b) * bk * input;
    let smem = (shape.smem_reads * bk * input + (bm + bn) * bk * input) / d.smem_bytes;
    let ctas = ceil(s.m, bm) * ceil(s.n, shape.out_cols) * s.batch as f64 * f64::from(c.splits);
    let resident = (f64::from(d.sms) * shape.per_sm).max(1.0);
    let busy = ctas.min(f64::from(d.sms));
    // CTAs of one SM share its units.
    let together = (ctas / f64::from(d.sms)).clamp(1.0, shape.per_sm);
    let l2 = loaded * shape.load_penalty / d.l2_bytes_per_sm.min(d.l2_bytes / busy);
    let latency = d.load_latency / (shape.stages - 1.0).max(1.0);
    let step = (tensor * together).max(smem * together).max(l2 * together).max(latency).max(shape.control);
    let k_tiles = (s.k as f64 / bk / f64::from(c.splits)).ceil().max(1.0);
    let out_bytes = if c.splits > 1 { 4.0 } else { f64::from(p.output.bytes()) };
    let residual = if p.residual && c.splits == 1 { f64::from(p.output.bytes()) } else { 0.0 };
    let epilogue = bm * shape.out_cols * (out_bytes + residual) * shape.store_penalty / d.l2_bytes_per_sm.min(d.l2_bytes / busy) + 300.0;
    let main = d.load_latency + k_tiles * step;
    // Ping-pong hides the epilogue under the other warpgroup's main loop, all but the last.
    let waves = (ctas / resident).ceil();
    let compute = if shape.overlaps { waves * (k_tiles * step).max(epilogue) + d.load_latency + epilogue } else { waves * (main + epilogue) };
    let dram = dram_cycles(d, p, s, c, &shape);
    let mut total = compute.max(dram) + d.launch;
    if c.splits > 1 {
        let wide = (s.n * u64::from(p.gates())) as f64;
        let partials = s.m as f64 * wide * s.batch as f64 * 4.0 * f64::from(c.splits);
        // Partials are written and read again, mostly in L2; the second launch starts when the first has ended.
        total += d.launch + 2.0 * d.load_latency + partials / (if partials < d.l2_capacity { d.l2_bytes } else { d.dram_bytes });
    }
    Estimate { total, tensor, smem, l2, dram, waves }
}

/// The numbers of a config that the model reads.
struct Shape {
    bm: f64,
    bn: f64,
    bk: f64,
    out_cols: f64,
    stages: f64,
    share_a: f64,
    share_b: f64,
    /// Rows of operands read from shared memory for one k, all warps together.
    smem_reads: f64,
    /// CTAs an SM holds.
    per_sm: f64,
    /// Loads narrower than 16 bytes need more instructions for the same bytes.
    load_penalty: f64,
    store_penalty: f64,
    /// Barriers and issue, one k tile.
    control: f64,
    overlaps: bool,
    group: f64,
}

impl Shape {
    fn of(p: &GemmProblem, c: &Candidate) -> Self {
        match &c.config {
            GemmConfig::Wgmma(w) => Self::wgmma(p, w),
            GemmConfig::Mma(m) => Self::mma(p, m),
        }
    }

    fn wgmma(p: &GemmProblem, c: &WgmmaConfig) -> Self {
        let ping_pong = c.schedule == Schedule::PingPong;
        let (bm, bn) = (f64::from(c.bm), f64::from(c.bn));
        // Each m64 product reads its own rows of a and all of b.
        let smem_reads = bm + bn * (bm / 64.0);
        Shape {
            bm,
            bn,
            bk: f64::from(c.bk),
            out_cols: f64::from(c.out_cols(p)),
            stages: f64::from(c.stages),
            share_a: f64::from(c.cluster.sharing_a()),
            share_b: f64::from(c.cluster.sharing_b()),
            smem_reads,
            per_sm: 1.0,
            load_penalty: 1.0,
            store_penalty: if c.tma_store(p) { 1.0 } else if c.n_align > 1 { 1.5 } else { 3.0 },
            control: 70.0 + if c.cluster.ctas() > 1 { 20.0 } else { 0.0 },
            overlaps: ping_pong,
            group: f64::from(c.raster),
        }
    }

    fn mma(p: &GemmProblem, c: &MmaConfig) -> Self {
        let (bm, bn) = (f64::from(c.bm), f64::from(c.bn));
        let warps = f64::from(c.warps_m * c.warps_n);
        let stage = (bm + bn) * f64::from(c.bk) * f64::from(p.input.bytes());
        let by_smem = (160.0 * 1024.0 / (stage * f64::from(c.stages))).floor();
        // Accumulators are the registers that count: bm * bn of 65536, and as many again for everything else.
        let by_registers = (65536.0 / (bm * bn + warps * 32.0 * 64.0)).floor();
        Shape {
            bm,
            bn,
            bk: f64::from(c.bk),
            out_cols: bn / f64::from(p.gates()),
            stages: f64::from(c.stages),
            share_a: 1.0,
            share_b: 1.0,
            // ldmatrix: every warp column reads all of a, every warp row all of b.
            smem_reads: bm * f64::from(c.warps_n) + bn * f64::from(c.warps_m),
            per_sm: by_smem.min(by_registers).clamp(1.0, 4.0),
            load_penalty: match c.load_align {
                8 => 1.0,
                4 => 1.5,
                2 => 3.0,
                _ => 8.0,
            },
            store_penalty: if c.n_align > 1 { 1.5 } else { 3.0 },
            control: 60.0,
            overlaps: false,
            group: f64::from(c.raster),
        }
    }
}

/// Bytes from DRAM. Tiles in flight share rows and columns; what a wave needs is read once if it fits L2.
fn dram_cycles(d: &DeviceProfile, p: &GemmProblem, s: Sizes, c: &Candidate, shape: &Shape) -> f64 {
    let input = f64::from(p.input.bytes());
    let (m, n, k) = (s.m as f64, s.n as f64 * f64::from(p.gates()), s.k as f64);
    let (a, b) = (m * k * input, n * k * input);
    let rows = (m / shape.bm).ceil();
    let together = shape.group.min(rows);
    let columns = (f64::from(d.sms) / together).max(1.0);
    let panel = (together * shape.bm + columns * shape.bn) * k * input;
    // With panels in L2, b is read once for each group of rows and a once; never less than once each.
    let b_passes = if a + b < d.l2_capacity { 1.0 } else { (rows / together).max(1.0) };
    let a_passes = if panel < 0.6 * d.l2_capacity || a + b < d.l2_capacity { 1.0 } else { 2.0 };
    let out = f64::from(if c.splits > 1 { DType::F32.bytes() * c.splits } else { p.output.bytes() });
    let written = m * s.n as f64 * out * if c.splits > 1 && m * n * out < d.l2_capacity { 0.0 } else { 1.0 };
    let residual = if p.residual { m * s.n as f64 * f64::from(p.output.bytes()) } else { 0.0 };
    (a * a_passes + b * b_passes + written + residual) * s.batch as f64 / d.dram_bytes
}

fn ceil(size: u64, tile: f64) -> f64 {
    (size as f64 / tile).ceil()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_templates::gemm::Cluster;

    fn wgmma(bm: u32, bn: u32, math_wgs: u32, cluster: Cluster) -> GemmConfig {
        let stages = ((227 * 1024 - 40_000) / ((bm + bn) * 128)).min(8);
        let schedule = Schedule::Cooperative;
        GemmConfig::Wgmma(WgmmaConfig { bm, bn, bk: 64, stages, math_wgs, schedule, cluster, raster: 8, n_align: 8, split: false })
    }

    fn mma(load_align: u32) -> GemmConfig {
        let c = MmaConfig { bm: 128, bn: 128, bk: 32, stages: 4, warps_m: 2, warps_n: 4, raster: 8, load_align, n_align: 2, split: false };
        GemmConfig::Mma(c)
    }

    fn best(s: [u64; 3], list: &[Candidate]) -> Candidate {
        let p = GemmProblem::plain(DType::BF16);
        let s = Sizes { m: s[0], n: s[1], k: s[2], batch: 1 };
        list[rank(Arch::Sm90a, &DeviceProfile::of(Arch::Sm90a), &p, s, list)[0]]
    }

    fn whole(config: GemmConfig) -> Candidate {
        Candidate { config, splits: 1 }
    }

    #[test]
    fn large_products_take_large_tiles_and_small_ones_small_tiles() {
        let large = whole(wgmma(128, 256, 2, Cluster::TwoM));
        let small = whole(wgmma(64, 64, 1, Cluster::One));
        assert_eq!(best([8192, 8192, 8192], &[small, large]), large);
        assert_eq!(best([16, 4096, 4096], &[large, small]), small);
    }

    #[test]
    fn a_thin_output_with_a_long_sum_is_split() {
        let config = wgmma(64, 64, 1, Cluster::One);
        let split = Candidate { config, splits: 8 };
        assert_eq!(best([16, 512, 16384], &[whole(config), split]), split);
        assert_eq!(best([8192, 8192, 512], &[whole(config), split]), whole(config));
    }

    #[test]
    fn wider_loads_and_wgmma_come_first() {
        let list = [whole(mma(1)), whole(mma(8)), whole(wgmma(128, 128, 2, Cluster::One))];
        let p = GemmProblem::plain(DType::BF16);
        let s = Sizes { m: 4096, n: 4096, k: 4096, batch: 1 };
        assert_eq!(rank(Arch::Sm90a, &DeviceProfile::of(Arch::Sm90a), &p, s, &list), [2, 1, 0]);
    }

    #[test]
    fn the_order_does_not_depend_on_the_order_of_the_candidates() {
        let mut list: Vec<Candidate> = [64, 128, 192].map(|n| whole(wgmma(128, n, 2, Cluster::One))).to_vec();
        let forward: Vec<Candidate> = ranked(&list);
        list.reverse();
        assert_eq!(ranked(&list), forward);
    }

    fn ranked(list: &[Candidate]) -> Vec<Candidate> {
        let p = GemmProblem::plain(DType::BF16);
        let s = Sizes { m: 512, n: 1024, k: 1024, batch: 1 };
        rank(Arch::Sm90a, &DeviceProfile::of(Arch::Sm90a), &p, s, list).into_iter().map(|i| list[i]).collect()
    }

    #[test]
    fn a_large_product_is_near_the_tensor_roof() {
        let p = GemmProblem::plain(DType::BF16);
        let d = DeviceProfile::of(Arch::Sm90a);
        let s = Sizes { m: 8192, n: 8192, k: 8192, batch: 1 };
        let e = estimate(Arch::Sm90a, &d, &p, s, &whole(wgmma(128, 256, 2, Cluster::TwoM)));
        let tflops = 2.0 * 8192f64.powi(3) / d.microseconds(e.total) / 1e6;
        assert!((600.0..800.0).contains(&tflops), "{tflops}");
    }
}
