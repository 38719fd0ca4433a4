//! The model of the kernels for packed weights: what bounds them is bytes, issue slots for decoding, and how many of the GPU's
//! schedulers have work. Constants of issue are guesses until tuning records name better ones.

use super::coefficients::Coefficients;
use super::gemm::Sizes;
use super::memory::hand_over;
use super::work::{Block, Pipes, Tiles, Work};
use crate::device::DeviceProfile;
use crate::estimate::Counts;
use tilewright_ir::DType;
use tilewright_templates::gemm::weight::{WeightMmaConfig, WeightWgmmaConfig, words};
use tilewright_templates::gemm::{GemmProblem, Packed, Weight};

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
fn filled(co: &Coefficients, warps: f64) -> f64 {
    (co.slots_alone + co.slots_warp * warps).min(co.slots_most)
}

/// Bytes that must move, besides partial sums.
fn moved(p: &GemmProblem, packed: Packed, s: Sizes) -> f64 {
    let wide = s.n * f64::from(p.gates());
    s.m * s.k * 2.0 + wide * s.k * bytes_a_weight(packed) + s.m * s.n * f64::from(p.output.bytes())
}

/// Seconds of partial sums, out and back.
fn sums(d: &DeviceProfile, co: &Coefficients, p: &GemmProblem, s: Sizes, parts: f64) -> f64 {
    2.0 * hand_over(d, co, parts * s.m * s.n * f64::from(p.gates()) * 4.0)
}

/// Work of the mma.sync kernel; `None` where the weight is not packed.
pub(super) fn mma(
    d: &DeviceProfile,
    p: &GemmProblem,
    w: &WeightMmaConfig,
    splits: u32,
    s: Sizes,
    counts: Option<&Counts>,
) -> Option<Work> {
    let Weight::Packed(packed) = p.weight else { return None };
    let (co, gates, parts) = (d.coefficients(), f64::from(p.gates()), f64::from(splits));
    let (bm, wgs, ctas) = (f64::from(w.bm), f64::from(w.wgs), f64::from(w.ctas));
    let row_blocks = f64::from(w.bn) / ROWS;
    let tiles = (s.m / bm).ceil() * (s.n * gates / f64::from(w.bn)).ceil() * parts;
    // Warpgroups of all CTAs of an SM fill its schedulers.
    let resident = (tiles / f64::from(d.sms)).ceil().min(ctas);
    let tokens = bm / 8.0;
    // Per block and warp: decoding, a fragment of a and an mma for each 16 columns and 8 tokens, loads, addresses, the barrier.
    let instructions = row_blocks * (WEIGHTS * decoding(packed, p.input) + 8.0 * tokens) + 4.0 * tokens + 40.0;
    let weights = row_blocks * ROWS * COLS * bytes_a_weight(packed);
    let activations = bm * COLS * 2.0;
    let block = Block {
        tensor: 2.0 * row_blocks * ROWS * bm * COLS / (d.tensor_flops * d.mma_sync_share) * wgs,
        shared: 4.0 * activations * wgs,
        copied: activations * wgs,
        l2: (weights + activations) * wgs,
        pipes: Pipes { issued: 4.0 * wgs * instructions, ..Pipes::default() },
        ..Block::default()
    };
    let block = block.known(counts, row_blocks * 8.0 * tokens, 4.0 * wgs);
    let meeting = if w.wgs > 1 { 200.0 + wgs * bm * row_blocks } else { 0.0 };
    Some(Work {
        block: slowed(block, filled(&co, wgs * resident)),
        // Blocks one warpgroup takes.
        tiles: Tiles::Equal { count: tiles, blocks: ((s.k / COLS).ceil() / parts / wgs).ceil() },
        // A warpgroup alone waits for its loads: `depth` blocks are under way.
        stages: f64::from(w.depth) + 1.0,
        resident: ctas,
        persistent: false,
        edges: meeting + 0.75 * co.epilogue,
        start: 0.0,
        memory: moved(p, packed, s),
        launches: if splits > 1 { 2.0 } else { 1.0 },
        beside: if splits > 1 { sums(d, &co, p, s, parts) } else { 0.0 },
    })
}

/// Work of the wgmma kernel; `None` where the weight is not packed.
pub(super) fn wgmma(
    d: &DeviceProfile,
    p: &GemmProblem,
    w: &WeightWgmmaConfig,
    s: Sizes,
    counts: Option<&Counts>,
) -> Option<Work> {
    let Weight::Packed(packed) = p.weight else { return None };
    let (co, gates, sms) = (d.coefficients(), f64::from(p.gates()), f64::from(d.sms));
    let (bm, wgs) = (f64::from(w.bm), f64::from(w.math_wgs()));
    let tiles = (s.m / bm).ceil() * (s.n / f64::from(w.bn)).ceil();
    let along_k = (s.k / COLS).ceil();
    let instructions = gates * (WEIGHTS * decoding(packed, p.input) + 20.0) + 40.0;
    let activations = bm * COLS * 2.0;
    let weights = gates * wgs * ROWS * COLS * bytes_a_weight(packed);
    let block = Block {
        tensor: 2.0 * gates * wgs * ROWS * bm * COLS / d.tensor_flops,
        // Each warpgroup's wgmmas read the tokens; its warps read their weights.
        shared: gates * wgs * activations + weights,
        copied: weights + activations,
        l2: weights + activations,
        pipes: Pipes { issued: 4.0 * wgs * instructions, ..Pipes::default() },
        tma: 1.0 + gates * wgs,
        serial: 0.0,
    };
    let block = block.known(counts, gates * COLS / 16.0, 4.0 * wgs);
    let epilogue = co.epilogue + bm * f64::from(w.bn) * 4.0 / d.smem_bytes;
    // CTAs that share all blocks evenly end tiles of others too: two at least.
    let (shares, blocks) = if w.stream { (tiles.min(1.0) * sms, (tiles * along_k / sms).ceil()) } else { (tiles, along_k) };
    let ends = if w.stream { (tiles / sms).ceil().max(2.0) } else { 1.0 };
    Some(Work {
        block: slowed(block, filled(&co, wgs)),
        tiles: Tiles::Equal { count: shares, blocks },
        stages: f64::from(w.stages),
        resident: 1.0,
        persistent: true,
        edges: ends * epilogue,
        // Barriers and tensor maps are prepared, then the first stage comes, then it is decoded.
        start: 0.5 * d.load_latency * co.latency + instructions,
        memory: moved(p, packed, s),
        launches: if w.stream { 2.0 } else { 1.0 },
        beside: if w.stream { sums(d, &co, p, s, 2.0) } else { 0.0 },
    })
}

/// The block with issue slots of which warps fill a part.
fn slowed(block: Block, filled: f64) -> Block {
    Block { pipes: Pipes { issued: block.pipes.issued / filled, ..block.pipes }, ..block }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Candidate, rank};
    use tilewright_ir::Arch;
    use tilewright_templates::gemm::GemmConfig;

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
        rank(DeviceProfile::typical(arch), Sizes { m, n, k }, &list)[0]
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
        let c = Candidate { id: "x", problem: &p, config: &config, splits: 1 };
        crate::model::seconds(DeviceProfile::typical(Arch::Sm90a), Sizes { m, n, k }, &c)
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
