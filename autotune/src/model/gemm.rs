//! Dense GEMM: wgmma and mma.sync.

use super::coefficients::Coefficients;
use super::memory::{Walk, hand_over};
use super::weight;
use super::work::{Block, Pipes, Tiles, Work};
use crate::device::DeviceProfile;
use crate::estimate::{Counts, Estimate};
use crate::task::Task;
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

impl Sizes {
    /// Sizes of a task, if it has them.
    pub fn of(task: &Task) -> Option<Self> {
        let size = |name| task.size(name).map(|v| v as f64);
        Some(Sizes { m: size("m")?, n: size("n")?, k: size("k")? })
    }
}

/// Positions of the candidates, best first. Of equal times the wider accesses come first, which the model charges no less than narrow
/// ones though they are never slower; then the smaller id, so that the order is the same everywhere.
pub fn rank(device: &DeviceProfile, sizes: Sizes, candidates: &[Candidate]) -> Vec<usize> {
    let times: Vec<f64> = candidates.iter().map(|c| seconds(device, sizes, c)).collect();
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    let by = |a: &usize, b: &usize| {
        let (a, b) = (*a, *b);
        let by_time = times[a].partial_cmp(&times[b]).unwrap_or(Ordering::Equal);
        let by_width = || widths(candidates[b].config).cmp(&widths(candidates[a].config));
        by_time.then_with(by_width).then_with(|| candidates[a].id.cmp(candidates[b].id))
    };
    order.sort_by(by);
    order
}

/// Elements of an access to d and of a copy of a and b.
fn widths(config: &GemmConfig) -> (u32, u32) {
    match config {
        GemmConfig::Wgmma(c) => (c.n_align, 0),
        GemmConfig::Mma(c) => (c.n_align, c.load_align),
        GemmConfig::WeightWgmma(c) => (c.n_align, 0),
        GemmConfig::WeightMma(c) => (0, c.load_align),
    }
}

/// Modelled time of a plan, seconds.
pub fn seconds(d: &DeviceProfile, s: Sizes, c: &Candidate) -> f64 {
    estimate(d, c.problem, c.config, c.splits, s, None).seconds
}

/// Modelled time of a GEMM in `splits` parts of k, and what bounds it.
pub fn estimate(
    d: &DeviceProfile,
    p: &GemmProblem,
    config: &GemmConfig,
    splits: u32,
    s: Sizes,
    counts: Option<&Counts>,
) -> Estimate {
    let work = match config {
        GemmConfig::Wgmma(_) | GemmConfig::Mma(_) => dense(d, p, config, splits, s, counts),
        GemmConfig::WeightMma(c) => weight::mma(d, p, c, splits, s, counts),
        GemmConfig::WeightWgmma(c) => weight::wgmma(d, p, c, s, counts),
    };
    work.map_or_else(Estimate::never, |w| w.estimate(d))
}

/// A dense kernel, apart from the problem's sizes.
pub(super) struct Kernel {
    pub bm: f64,
    pub bn: f64,
    pub bk: f64,
    pub block: Block,
    pub stages: f64,
    pub resident: f64,
    pub persistent: bool,
    pub edges: f64,
    pub raster: f64,
    pub share_a: f64,
    pub share_b: f64,
}

/// The kernel of a dense config; `None` for others.
pub(super) fn kernel(d: &DeviceProfile, p: &GemmProblem, config: &GemmConfig, counts: Option<&Counts>) -> Option<Kernel> {
    let co = d.coefficients();
    match config {
        GemmConfig::Wgmma(c) => Some(wgmma(d, &co, p, c, counts)),
        GemmConfig::Mma(c) => Some(mma(d, &co, p, c, counts)),
        GemmConfig::WeightMma(_) | GemmConfig::WeightWgmma(_) => None,
    }
}

fn dense(
    d: &DeviceProfile,
    p: &GemmProblem,
    config: &GemmConfig,
    splits: u32,
    s: Sizes,
    counts: Option<&Counts>,
) -> Option<Work> {
    let co = d.coefficients();
    let t = kernel(d, p, config, counts)?;
    let (gates, parts, bytes) = (f64::from(p.gates()), f64::from(splits), f64::from(p.input.bytes()));
    let wide = s.n * gates;
    let tiles_m = (s.m / (t.bm * t.share_b)).ceil() * t.share_b;
    let tiles_n = (wide / (t.bn * t.share_a)).ceil() * t.share_a;
    let walk = Walk {
        tile: [t.bm, t.bn],
        tiles: [tiles_m, tiles_n],
        raster: t.raster,
        wave: f64::from(d.sms) * t.resident / parts.min(f64::from(d.sms)),
        row_bytes: [s.k * bytes; 2],
        extent: [s.m, wide],
    };
    let out = s.m * s.n * f64::from(p.output.bytes());
    let residual = if p.residual { s.m * s.n * f64::from(p.output.bytes()) } else { 0.0 };
    let (mut launches, mut beside) = (1.0, 0.0);
    if matches!(config, GemmConfig::Wgmma(c) if c.pad) {
        // Operands are copied, byte by byte, in two launches: a quarter of what wide accesses reach.
        launches += 2.0;
        beside += 8.0 * (s.m + wide) * s.k / (d.memory_bytes * co.memory);
    }
    let mut written = out + residual;
    if splits > 1 {
        // Sums go out in f32, mostly to L2, and a second launch adds them up.
        let sums = parts * s.m * wide * 4.0;
        launches += 1.0;
        beside += 2.0 * hand_over(d, &co, sums);
        written = 0.0;
    }
    Some(Work {
        block: t.block,
        tiles: Tiles::Equal { count: tiles_m * tiles_n * parts, blocks: (s.k / t.bk / parts).ceil().max(1.0) },
        stages: t.stages,
        resident: t.resident,
        persistent: t.persistent,
        edges: t.edges,
        start: 0.0,
        memory: walk.bytes(d, &co) + written,
        launches,
        beside,
    })
}

/// Bytes of an output element as it leaves a tile.
fn leaving(p: &GemmProblem, split: bool) -> f64 {
    f64::from(if split { 4 } else { p.output.bytes() }) / if split { 1.0 } else { f64::from(p.gates()) }
}

/// Cycles of a tile's end: its bytes go through shared memory.
fn epilogue(d: &DeviceProfile, co: &Coefficients, [bm, bn]: [f64; 2], bytes: f64) -> f64 {
    co.epilogue + 2.0 * bm * bn * bytes / d.smem_bytes
}

fn tensor_rate(d: &DeviceProfile, p: &GemmProblem) -> f64 {
    if p.bytes() { d.tensor8_flops } else { d.tensor_flops }
}

fn wgmma(d: &DeviceProfile, co: &Coefficients, p: &GemmProblem, c: &WgmmaConfig, counts: Option<&Counts>) -> Kernel {
    let [bm, bn, bk, stages] = [c.bm, c.bn, c.bk, c.stages].map(f64::from);
    let bytes = f64::from(p.input.bytes());
    let ping_pong = c.schedule == Schedule::PingPong;
    let (share_a, share_b) = (f64::from(c.cluster.sharing_a()), f64::from(c.cluster.sharing_b()));
    let row = bk * bytes;
    // Each 64 rows read b again: a wgmma has both operands in shared memory.
    let shared = (bm + bn * bm / 64.0) * row;
    // Waits, descriptors and arrivals of a warp; a sum of stages is a multiply-add an element.
    let warps = 4.0 * f64::from(if ping_pong { 1 } else { c.math_wgs });
    let promoted = if c.promote { bm * bn / 32.0 } else { 0.0 };
    let steps = f64::from(c.warpgroup_rows()) / 64.0 * f64::from(p.gates()) * row / 32.0;
    let issued = warps * (16.0 + 4.0 * steps) + promoted;
    let serial = if c.promote && c.math_wgs == 1 { promoted * 32.0 / d.float_lanes } else { 0.0 };
    let block = Block {
        tensor: 2.0 * bm * bn * bk / tensor_rate(d, p),
        shared,
        copied: (bm + bn) * row,
        l2: (bm / share_a + bn / share_b) * row,
        pipes: Pipes { issued, float: promoted, ..Pipes::default() },
        tma: 1.0 + f64::from(p.gates()),
        serial,
    };
    Kernel {
        bm,
        bn,
        bk,
        block: block.known(counts.map(without_operands(shared)).as_ref(), steps, warps),
        stages,
        resident: if ping_pong { 2.0 } else { 1.0 },
        persistent: true,
        edges: epilogue(d, co, [bm, bn], leaving(p, c.split)),
        raster: c.raster.into(),
        share_a,
        share_b,
    }
}

/// Operands that the tensor cores read themselves are no warp's wavefronts: they are added to those.
fn without_operands(shared: f64) -> impl Fn(&Counts) -> Counts {
    move |c| Counts { shared_wavefronts: c.shared_wavefronts.map(|w| w + shared / 128.0), ..c.clone() }
}

fn mma(d: &DeviceProfile, co: &Coefficients, p: &GemmProblem, c: &MmaConfig, counts: Option<&Counts>) -> Kernel {
    let [bm, bn, bk, stages] = [c.bm, c.bn, c.bk, c.stages].map(f64::from);
    let (bytes, warps) = (f64::from(p.input.bytes()), f64::from(c.warps_m * c.warps_n));
    let row = bk * bytes;
    // Rows of a are read by every warp along n, and the other way round; ldmatrix brings 512 bytes.
    let shared = (bm * f64::from(c.warps_n) + bn * f64::from(c.warps_m)) * row;
    let copied = (bm + bn) * row;
    let multiplies = bm * bn * row / (16.0 * 8.0 * 32.0);
    let copies = copied / 32.0 / (f64::from(c.load_align) * bytes);
    let issued = multiplies * co.multiply_instructions + shared / 512.0 + copies * co.copy_instructions;
    let block = Block {
        tensor: 2.0 * bm * bn * bk / (tensor_rate(d, p) * d.mma_sync_share),
        shared,
        copied,
        l2: copied,
        pipes: Pipes { issued, ..Pipes::default() },
        ..Block::default()
    };
    let mut block = block.known(counts, multiplies / warps, warps);
    if counts.is_some_and(|c| c.main_loop.is_some()) && f64::from(c.load_align) * bytes < 4.0 {
        // Too narrow for cp.async: a loop of its own copies, which the main loop's counts leave out.
        block.pipes.issued += copies * co.copy_instructions;
    }
    let threads = 32.0 * warps;
    let needs = [bm * bn / threads + 64.0, threads, stages * copied];
    Kernel {
        bm,
        bn,
        bk,
        block,
        stages,
        resident: resident(d, needs, counts),
        persistent: false,
        edges: epilogue(d, co, [bm, bn], leaving(p, c.split)),
        raster: c.raster.into(),
        share_a: 1.0,
        share_b: 1.0,
    }
}

/// CTAs of an SM: `[registers a thread, threads, bytes of shared memory]`, or what is known of them.
pub(super) fn resident(d: &DeviceProfile, [registers, threads, smem]: [f64; 3], counts: Option<&Counts>) -> f64 {
    let known = |given: u32, promised: f64| if given > 0 { f64::from(given) } else { promised };
    let registers = known(counts.map_or(0, |c| c.registers), registers.min(255.0));
    let smem = known(counts.map_or(0, |c| c.shared_bytes), smem);
    // Registers are given out in eights a thread, and each CTA has 1 KiB of shared memory of its own (CUDA programming guide).
    let by_registers = f64::from(d.arch.caps().registers_per_sm) / ((registers / 8.0).ceil() * 8.0 * threads);
    let by_smem = f64::from(d.smem_capacity) / (smem + 1024.0);
    by_registers.min(by_smem).min(1536.0 / threads).floor().max(1.0)
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
        rank(DeviceProfile::typical(Arch::Sm90a), sizes, &list)[0]
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
        let t = seconds(d, s, &c);
        assert!(t > roof && t < 1.5 * roof, "{t} against {roof}");
    }

    #[test]
    fn of_equal_times_the_wider_stores_come_first() {
        let config = |n_align| GemmConfig::Wgmma(WgmmaConfig { n_align, ..WgmmaConfig::new([64, 64, 64], 8, 1) });
        let configs = [(config(1), 1), (config(8), 1), (config(2), 1)];
        for m in [1.0, 16.0, 4096.0] {
            assert_eq!(best(Sizes { m, n: 4096.0, k: 4096.0 }, &configs), 1, "m = {m}");
        }
    }
}
