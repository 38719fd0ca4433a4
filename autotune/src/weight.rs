//! The model of the kernels for packed weights: what bounds them is issue slots and bytes, and how many of the GPU's
//! schedulers have work.

use crate::device::DeviceProfile;
use crate::model::{Candidate, Sizes};
use tilewright_ir::DType;
use tilewright_templates::gemm::weight::{WeightMmaConfig, WeightWgmmaConfig, words};
use tilewright_templates::gemm::{Packed, Weight};

/// Rows of a block of weights.
const ROWS: f64 = 64.0;
/// Columns of a block of weights.
const COLS: f64 = 128.0;
/// Weights of a block that one thread decodes.
const WEIGHTS: f64 = ROWS * COLS / 128.0;

/// Bytes of a packed weight for each of its weights.
pub(crate) fn bytes_a_weight(p: Packed) -> f64 {
    f64::from(words(p)) * 4.0 / (ROWS * COLS)
}

/// Instructions a weight that decoding takes: as `gemm/weight/decode` counts them.
fn decoding(p: Packed, dtype: DType) -> f64 {
    match (p.bits, dtype) {
        (4, DType::F16) => 1.63,
        (4, _) => 1.88,
        (_, DType::F16) => 1.5,
        _ => 3.0,
    }
}

/// Instructions of a warp for a block besides decoding: loads, descriptors, barriers (the SASS report of the kernel counts 188 in all
/// for 4 bits and bf16).
const AROUND: f64 = 68.0;

/// Modelled time of the wgmma kernel, seconds.
pub(crate) fn wgmma_seconds(d: &DeviceProfile, s: Sizes, c: &Candidate, w: &WeightWgmmaConfig) -> f64 {
    let Weight::Packed(packed) = c.problem.weight else { return f64::INFINITY };
    let (gates, sms) = (f64::from(c.problem.gates()), f64::from(d.sms));
    let (bm, bn) = (f64::from(w.bm), f64::from(w.bn));
    let row_blocks = f64::from(w.math_wgs()) * gates;
    let tiles = (s.m / bm).ceil() * (s.n / bn).ceil();
    let blocks = (s.k / COLS).ceil();
    let active = (tiles * if w.stream { blocks } else { 1.0 }).min(sms);
    // One block of k of one tile: each of the four schedulers has a warp of every warpgroup.
    let issue = row_blocks * (WEIGHTS * decoding(packed, c.problem.input) + AROUND);
    let tensor = 2.0 * row_blocks * ROWS * bm * COLS / d.tensor_flops;
    let weights = row_blocks * ROWS * COLS * bytes_a_weight(packed);
    let tokens = bm * COLS * 2.0;
    let smem = (2.0 * weights + tokens * (1.0 + row_blocks)) / d.smem_bytes;
    let l2 = (weights + tokens) * active / d.l2_bytes.min(64.0 * active);
    let latency = d.load_latency / (f64::from(w.stages) - 1.0).max(1.0);
    let block = issue.max(tensor).max(smem).max(l2).max(latency);
    let out = f64::from(c.problem.output.bytes());
    let epilogue = bm * bn * out / d.smem_bytes * 2.0 + 400.0;
    let (rounds, tails) = if w.stream {
        (tiles * blocks / sms, 2.0)
    } else {
        let waves = (tiles / sms).ceil();
        (waves * blocks, waves)
    };
    let cycles = rounds.max(1.0) * block + tails * epilogue + d.load_latency;
    let moved = s.m * s.k * 2.0 + s.n * gates * s.k * bytes_a_weight(packed) + s.m * s.n * out;
    let mut time = (cycles / d.clock_hz).max(moved / d.memory_bytes) + d.launch_seconds;
    if w.stream {
        // Sums of shared tiles go to L2 and back, and a second launch follows.
        let sums = 2.0 * 2.0 * active * bm * bn * gates * 4.0;
        time += sums / (d.l2_bytes * d.clock_hz) + d.launch_seconds;
    }
    time
}

/// Modelled time of the mma.sync kernel, seconds.
pub(crate) fn mma_seconds(d: &DeviceProfile, s: Sizes, c: &Candidate, w: &WeightMmaConfig) -> f64 {
    let Weight::Packed(packed) = c.problem.weight else { return f64::INFINITY };
    let (gates, splits, sms) = (f64::from(c.problem.gates()), f64::from(c.splits), f64::from(d.sms));
    let (bm, wgs, ctas) = (f64::from(w.bm), f64::from(w.wgs), f64::from(w.ctas));
    let row_blocks = f64::from(w.bn) / ROWS;
    let tiles_m = (s.m / bm).ceil();
    let tiles = tiles_m * (s.n * gates / f64::from(w.bn)).ceil() * splits;
    // Blocks one warpgroup takes.
    let blocks = ((s.k / COLS).ceil() / splits / wgs).ceil();
    // CTAs of the fullest SM: they share its schedulers, each of which has a warp of every warpgroup.
    let resident = (tiles / sms).ceil().min(ctas);
    let rounds = (tiles / (sms * ctas)).floor() + if tiles % (sms * ctas) > 0.0 { resident / ctas } else { 0.0 };
    let rounds = if tiles <= sms * ctas { 1.0 } else { rounds };
    let fragments = bm / 8.0;
    // Per block and warp: decoding, a fragment of a and an mma for each 16 columns and 8 tokens, loads, addresses, the barrier.
    let issue = row_blocks * (WEIGHTS * decoding(packed, c.problem.input) + 8.0 * fragments) + 4.0 * fragments + 40.0;
    let tensor = 2.0 * row_blocks * ROWS * bm * COLS / (d.tensor_flops * d.mma_sync_share);
    let active = tiles.min(sms * ctas) * wgs;
    let l2 = (row_blocks * ROWS * COLS * bytes_a_weight(packed) + bm * COLS * 2.0) * active / d.l2_bytes;
    let busy = issue.max(tensor) * wgs * resident;
    // A warpgroup alone waits for its loads: `depth` blocks are under way.
    let latency = d.load_latency / f64::from(w.depth);
    let block = busy.max(l2).max(latency);
    let meeting = if w.wgs > 1 { 200.0 + wgs * bm * row_blocks } else { 0.0 };
    let cycles = rounds * (d.load_latency + blocks * block + meeting + 300.0);
    let moved = s.m * s.k * 2.0 + s.n * gates * s.k * bytes_a_weight(packed) + s.m * s.n * f64::from(c.problem.output.bytes());
    let mut time = (cycles / d.clock_hz).max(moved / d.memory_bytes) + d.launch_seconds;
    if c.splits > 1 {
        let partial = 2.0 * splits * s.m * s.n * gates * 4.0;
        time += partial / d.memory_bytes + d.launch_seconds;
    }
    time
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::Arch;
    use tilewright_templates::gemm::{GemmConfig, GemmProblem};

    fn time([m, n, k]: [f64; 3], bm: u32, stream: bool) -> f64 {
        let packed = Packed { bits: 4, group: 128, zero: false };
        let p = GemmProblem { weight: Weight::Packed(packed), ..GemmProblem::plain(DType::BF16) };
        let w = WeightWgmmaConfig { bm, bn: 128, stages: 8, raster: 8, n_align: 8, stream };
        let config = GemmConfig::WeightWgmma(w);
        let c = Candidate { id: "x", problem: &p, config: &config, splits: 1 };
        wgmma_seconds(&DeviceProfile::typical(Arch::Sm90a), Sizes { m, n, k }, &c, &w)
    }

    #[test]
    fn sharing_blocks_pays_where_tiles_do_not_fill_the_gpu() {
        // 32 tiles for 132 SMs, and 224: the last wave is two thirds full.
        for sizes in [[16.0, 4096.0, 14336.0], [16.0, 28672.0, 8192.0]] {
            assert!(time(sizes, 16, true) < time(sizes, 16, false), "{sizes:?}");
        }
        // A full wave of 132 tiles.
        let full = [16.0, 132.0 * 128.0, 4096.0];
        assert!(time(full, 16, false) < time(full, 16, true));
    }

    #[test]
    fn no_kernel_is_faster_than_the_bytes() {
        let d = DeviceProfile::typical(Arch::Sm90a);
        let roof = 8192.0 * 28672.0 * (0.5 + 2.0 / 128.0) / d.memory_bytes;
        let t = time([16.0, 28672.0, 8192.0], 16, true);
        assert!(t > roof && t < 2.0 * roof, "{t} against {roof}");
    }
}
