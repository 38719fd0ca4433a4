//! The model of the kernels for packed weights: what bounds them is bytes, issue slots for decoding, and how many of the GPU's
//! schedulers have work. Constants of issue are guesses until tuning records name better ones.

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

/// The part of a scheduler's issue slots that so many warps fill: one waits for its own results.
fn filled(warps: f64) -> f64 {
    (0.4 + 0.15 * warps).min(0.9)
}

/// What both kernels share: bytes that must move, and a second launch for partial sums.
struct Around {
    moved: f64,
    sums: f64,
}

impl Around {
    fn new(s: Sizes, c: &Candidate, packed: Packed, parts: f64) -> Self {
        let wide = s.n * f64::from(c.problem.gates());
        let output = f64::from(c.problem.output.bytes());
        let moved = s.m * s.k * 2.0 + wide * s.k * bytes_a_weight(packed) + s.m * s.n * output;
        Around { moved, sums: 2.0 * parts * s.m * wide * 4.0 }
    }

    fn seconds(&self, d: &DeviceProfile, cycles: f64, second_launch: bool) -> f64 {
        let first = (cycles / d.clock_hz).max(self.moved / d.memory_bytes) + d.launch_seconds;
        if second_launch { first + self.sums / d.memory_bytes + d.launch_seconds } else { first }
    }
}

/// Modelled time of the mma.sync kernel, seconds.
pub(crate) fn mma_seconds(d: &DeviceProfile, s: Sizes, c: &Candidate, w: &WeightMmaConfig) -> f64 {
    let Weight::Packed(packed) = c.problem.weight else { return f64::INFINITY };
    let (gates, splits, sms) = (f64::from(c.problem.gates()), f64::from(c.splits), f64::from(d.sms));
    let (bm, wgs, ctas) = (f64::from(w.bm), f64::from(w.wgs), f64::from(w.ctas));
    let row_blocks = f64::from(w.bn) / ROWS;
    let tiles = (s.m / bm).ceil() * (s.n * gates / f64::from(w.bn)).ceil() * splits;
    // Blocks one warpgroup takes.
    let blocks = ((s.k / COLS).ceil() / splits / wgs).ceil();
    // CTAs of the fullest SM share its schedulers, each of which has a warp of every warpgroup.
    let on_one = (tiles / sms).ceil();
    let resident = on_one.min(ctas);
    let rounds = (on_one / ctas).max(1.0);
    let tokens = bm / 8.0;
    // Per block and warp: decoding, a fragment of a and an mma for each 16 columns and 8 tokens, loads, addresses, the barrier.
    let instructions = row_blocks * (WEIGHTS * decoding(packed, c.problem.input) + 8.0 * tokens) + 4.0 * tokens + 40.0;
    let issue = instructions * wgs * resident / filled(wgs * resident);
    let tensor = 2.0 * row_blocks * ROWS * bm * COLS / (d.tensor_flops * d.mma_sync_share) * wgs * resident;
    let active = tiles.min(sms * ctas) * wgs;
    let l2 = (row_blocks * ROWS * COLS * bytes_a_weight(packed) + bm * COLS * 2.0) * active / d.l2_bytes;
    // A warpgroup alone waits for its loads: `depth` blocks are under way.
    let block = issue.max(tensor).max(l2).max(d.load_latency / f64::from(w.depth));
    let meeting = if w.wgs > 1 { 200.0 + wgs * bm * row_blocks } else { 0.0 };
    // The first loads of a CTA hide behind its neighbour's work where there is one.
    let fill = d.load_latency * if w.ctas > 1 { 1.0 } else { rounds };
    let cycles = fill + rounds * (blocks * block + meeting + 300.0);
    Around::new(s, c, packed, splits).seconds(d, cycles, c.splits > 1)
}

/// Modelled time of the wgmma kernel, seconds.
pub(crate) fn wgmma_seconds(d: &DeviceProfile, s: Sizes, c: &Candidate, w: &WeightWgmmaConfig) -> f64 {
    let Weight::Packed(packed) = c.problem.weight else { return f64::INFINITY };
    let (gates, sms) = (f64::from(c.problem.gates()), f64::from(d.sms));
    let (bm, wgs) = (f64::from(w.bm), f64::from(w.math_wgs()));
    let tiles = (s.m / bm).ceil() * (s.n / f64::from(w.bn)).ceil();
    let along_k = (s.k / COLS).ceil();
    let blocks = if w.stream { (tiles * along_k / sms).ceil() } else { (tiles / sms).ceil() * along_k };
    let tiles_each = (tiles / sms).ceil().max(if w.stream { 2.0 } else { 1.0 });
    let instructions = gates * (WEIGHTS * decoding(packed, c.problem.input) + 20.0) + 40.0;
    let issue = instructions * wgs / filled(wgs);
    let tensor = 2.0 * gates * wgs * ROWS * bm * COLS / d.tensor_flops;
    let bytes = gates * wgs * ROWS * COLS * bytes_a_weight(packed) + bm * COLS * 2.0;
    let active = if w.stream { sms } else { tiles.min(sms) };
    let l2 = bytes * active / d.l2_bytes.min(64.0 * active);
    let latency = d.load_latency / f64::from(w.stages - 1);
    let epilogue = 400.0 + bm * f64::from(w.bn) * 4.0 / d.smem_bytes;
    // Barriers and tensor maps are prepared, then the first stage comes, then it is decoded.
    let fill = 1.5 * d.load_latency + instructions;
    let cycles = fill + blocks * issue.max(tensor).max(l2).max(latency) + tiles_each * epilogue;
    Around::new(s, c, packed, 2.0).seconds(d, cycles, w.stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rank;
    use tilewright_ir::Arch;
    use tilewright_templates::gemm::{GemmConfig, GemmProblem};

    fn mma(bm: u32, bn: u32, wgs: u32) -> GemmConfig {
        let ctas = if wgs > 4 { 1 } else { 2 };
        GemmConfig::WeightMma(WeightMmaConfig { bm, bn, wgs, stages: 3, depth: 1, load_align: 8, ctas, split: false })
    }

    fn wgmma(bm: u32, bn: u32, stream: bool) -> GemmConfig {
        GemmConfig::WeightWgmma(WeightWgmmaConfig { bm, bn, stages: 8, raster: 8, n_align: 8, stream })
    }

    fn best(arch: Arch, [m, n, k]: [f64; 3], configs: &[(GemmConfig, u32)]) -> usize {
        let weight = Weight::Packed(Packed { bits: 4, group: 128, zero: false });
        let p = GemmProblem { weight, ..GemmProblem::plain(DType::BF16) };
        let ids: Vec<String> = configs.iter().map(|(c, s)| format!("{c} x{s}")).collect();
        let list: Vec<Candidate> = configs
            .iter()
            .zip(&ids)
            .map(|((config, splits), id)| Candidate { id, problem: &p, config, splits: *splits })
            .collect();
        rank(&DeviceProfile::typical(arch), Sizes { m, n, k }, &list)[0]
    }

    #[test]
    fn mma_sync_takes_few_tokens_and_wgmma_many() {
        let configs = [(mma(8, 64, 4), 1), (mma(32, 128, 4), 1), (wgmma(8, 128, false), 1), (wgmma(64, 128, false), 1)];
        assert_eq!(best(Arch::Sm90a, [1.0, 4096.0, 4096.0], &configs), 0);
        assert_eq!(best(Arch::Sm90a, [64.0, 28672.0, 8192.0], &configs), 3);
        assert_eq!(best(Arch::Sm90a, [256.0, 8192.0, 8192.0], &configs), 3);
    }

    #[test]
    fn half_blocks_fill_the_gpu_where_n_is_small() {
        let half = GemmConfig::WeightMma(WeightMmaConfig {
            bm: 8,
            bn: 32,
            wgs: 4,
            stages: 3,
            depth: 2,
            load_align: 8,
            ctas: 2,
            split: false,
        });
        let configs = [(half, 1), (mma(8, 64, 4), 1)];
        assert_eq!(best(Arch::Sm90a, [1.0, 4096.0, 14336.0], &configs), 0);
        assert_eq!(best(Arch::Sm90a, [1.0, 28672.0, 4096.0], &configs), 1);
    }

    #[test]
    fn a_long_k_is_split_where_rows_are_few() {
        let configs = [(mma(8, 64, 4), 1), (mma(8, 64, 4), 8)];
        assert_eq!(best(Arch::Sm80, [1.0, 512.0, 28672.0], &configs), 1);
        assert_eq!(best(Arch::Sm80, [1.0, 28672.0, 4096.0], &configs), 0);
    }

    #[test]
    fn a_packed_weight_counts_its_bytes() {
        assert_eq!(bytes_a_weight(Packed { bits: 4, group: 128, zero: false }), 0.515625);
        assert_eq!(bytes_a_weight(Packed { bits: 8, group: 32, zero: true }), 1.125);
    }

    fn stream_time([m, n, k]: [f64; 3], stream: bool) -> f64 {
        let weight = Weight::Packed(Packed { bits: 4, group: 128, zero: false });
        let p = GemmProblem { weight, ..GemmProblem::plain(DType::BF16) };
        let config = wgmma(16, 128, stream);
        let GemmConfig::WeightWgmma(w) = &config else { unreachable!() };
        let c = Candidate { id: "x", problem: &p, config: &config, splits: 1 };
        wgmma_seconds(&DeviceProfile::typical(Arch::Sm90a), Sizes { m, n, k }, &c, w)
    }

    #[test]
    fn sharing_blocks_pays_where_tiles_do_not_fill_the_gpu() {
        // 32 tiles for 132 SMs, and 224: the last wave is two thirds full.
        for sizes in [[16.0, 4096.0, 14336.0], [16.0, 28672.0, 8192.0]] {
            assert!(stream_time(sizes, true) < stream_time(sizes, false), "{sizes:?}");
        }
        // A full wave of 132 tiles.
        let full = [16.0, 132.0 * 128.0, 4096.0];
        assert!(stream_time(full, false) < stream_time(full, true));
    }

    #[test]
    fn no_kernel_is_faster_than_the_bytes() {
        let roof = 8192.0 * 28672.0 * (0.5 + 2.0 / 128.0) / DeviceProfile::typical(Arch::Sm90a).memory_bytes;
        let t = stream_time([16.0, 28672.0, 8192.0], true);
        assert!(t > roof && t < 2.0 * roof, "{t} against {roof}");
    }
}
