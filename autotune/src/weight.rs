//! The model of the kernel for few tokens and packed weights: what bounds it is issue slots and bytes, and how many of the
//! GPU's schedulers have work.

use crate::device::DeviceProfile;
use crate::model::{Candidate, Sizes};
use tilewright_ir::DType;
use tilewright_templates::gemm::weight::{WeightMmaConfig, words};
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

/// Modelled time, seconds.
pub(crate) fn seconds(d: &DeviceProfile, s: Sizes, c: &Candidate, w: &WeightMmaConfig) -> f64 {
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
