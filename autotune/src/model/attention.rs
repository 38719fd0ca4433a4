//! Attention forward: scores, softmax, sums of values.

use super::coefficients::Coefficients;
use super::gemm::resident;
use super::work::{Block, Pipes, Tiles, Work};
use crate::device::DeviceProfile;
use crate::estimate::{Counts, Estimate};
use crate::task::Task;
use tilewright_templates::attention::{AttentionConfig, AttentionProblem, MmaAttentionConfig, WgmmaAttentionConfig};

/// Sizes of an attention forward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Sequences.
    pub batch: f64,
    /// Queries of one.
    pub sq: f64,
    /// Keys of one.
    pub sk: f64,
    /// Heads of q.
    pub hq: f64,
    /// Heads of k and v.
    pub hkv: f64,
    /// Keys before and after a query's position that it sees, where the class has a window.
    pub window: Option<[f64; 2]>,
    /// Tokens of a chunk, where the class has chunks.
    pub chunk: Option<f64>,
    /// Part of the blocks that block lists keep, 1 where there are none.
    pub density: f64,
}

impl Sizes {
    /// Sequences of `s` queries and keys, nothing besides.
    pub fn square(batch: f64, s: f64, heads: f64) -> Self {
        Sizes { batch, sq: s, sk: s, hq: heads, hkv: heads, window: None, chunk: None, density: 1.0 }
    }

    /// Sizes of a task, if it has them: `batch` (1 without), `sq`, `sk`, `hq`, `hkv`, `window_left`, `window_right`, `chunk`.
    pub fn of(task: &Task) -> Option<Self> {
        let size = |name| task.size(name).map(|v| v as f64);
        let side = |name| size(name).unwrap_or(f64::INFINITY);
        let window = [side("window_left"), side("window_right")];
        Some(Sizes {
            batch: size("batch").unwrap_or(1.0),
            sq: size("sq").or_else(|| size("total_q"))?,
            sk: size("sk").or_else(|| size("total_k"))?,
            hq: size("hq")?,
            hkv: size("hkv")?,
            window: window.iter().any(|w| w.is_finite()).then_some(window),
            chunk: size("chunk"),
            density: 1.0,
        })
    }

    /// First and last key that a query at position `p` sees; the last is below the first where it sees none.
    fn interval(&self, p: &AttentionProblem, at: f64) -> [f64; 2] {
        let (mut lo, mut hi) = (0.0f64, self.sk - 1.0);
        if p.causal {
            hi = hi.min(at);
        }
        if let Some([left, right]) = self.window.filter(|_| p.window) {
            (lo, hi) = (lo.max(at - left), hi.min(at + right));
        }
        if let Some(chunk) = self.chunk.filter(|_| p.chunk) {
            let first = (at.max(0.0) / chunk).floor() * chunk;
            (lo, hi) = (lo.max(first), hi.min(first + chunk - 1.0));
        }
        [lo, hi]
    }

    /// Blocks of `bn` keys that each tile of `bm` queries visits, tile by tile, as the kernels count them.
    pub fn visited(&self, p: &AttentionProblem, bm: f64, bn: f64) -> Vec<f64> {
        let tiles = (self.sq / bm).ceil().max(0.0) as u64;
        let blocks = |tile: u64| {
            let first = tile as f64 * bm + self.sk - self.sq;
            let last = first + bm.min(self.sq - tile as f64 * bm) - 1.0;
            let ([lo, _], [_, hi]) = (self.interval(p, first), self.interval(p, last));
            let (from, end) = ((lo.max(0.0) / bn).floor(), ((hi + 1.0).max(0.0) / bn).ceil());
            (end - from).max(0.0) * self.density
        };
        (0..tiles).map(blocks).collect()
    }
}

/// Keys and values of heads walked together, bytes, as the kernels have it.
const TOGETHER_BYTES: f64 = (24 << 20) as f64;

/// Modelled time of a forward, and what bounds it.
pub fn estimate(
    d: &DeviceProfile,
    p: &AttentionProblem,
    config: &AttentionConfig,
    s: &Sizes,
    counts: Option<&Counts>,
) -> Estimate {
    let co = d.coefficients();
    let [bm, bn] = config.tile().map(f64::from);
    let blocks = s.visited(p, bm, bn);
    let heads = s.batch * s.hq;
    let bytes = f64::from(p.dtype.bytes());
    let (block, stages, held, edges) = match config {
        AttentionConfig::Wgmma(c) => wgmma(d, &co, p, c, counts),
        AttentionConfig::Mma(c) => mma(d, &co, p, c, counts),
    };
    let persistent = matches!(config, AttentionConfig::Wgmma(c) if c.persistent);
    let out = edges + co.epilogue + 2.0 * bm * f64::from(p.dv) * f64::from(p.output.bytes()) / d.smem_bytes;
    let tokens = f64::from(p.d + p.dv) * bytes;
    let queries = s.batch * s.sq * s.hq * (f64::from(p.d) * bytes + f64::from(p.dv) * f64::from(p.output.bytes()));
    Work {
        block,
        tiles: tiles(p, s, blocks, heads, tokens, persistent),
        stages,
        resident: held,
        persistent,
        edges: out,
        start: 0.0,
        memory: queries + s.batch * s.sk * s.hkv * tokens,
        launches: if p.sparse.is_some() { 2.0 } else { 1.0 },
        beside: 0.0,
    }
    .estimate(d)
}

/// Tiles in the order in which they start.
fn tiles(p: &AttentionProblem, s: &Sizes, blocks: Vec<f64>, heads: f64, token: f64, persistent: bool) -> Tiles {
    let even = blocks.iter().all(|b| *b == blocks[0]);
    if even {
        let one = blocks.first().copied().unwrap_or(0.0);
        return Tiles::Equal { count: blocks.len() as f64 * heads, blocks: one };
    }
    if !persistent {
        // One head after the other. Above some thousands of tiles only the last heads decide who ends last.
        let whole = blocks.iter().sum::<f64>() / blocks.len() as f64;
        let apart = (2_000 / blocks.len() as u64).clamp(1, heads as u64);
        let before = (heads as u64 - apart) * blocks.len() as u64;
        let last = (0..apart).flat_map(|_| blocks.iter().map(|b| (*b, 1)));
        return Tiles::Listed(std::iter::once((whole, before)).chain(last).collect());
    }
    // Groups of heads whose keys fit L2; in a group all heads' last tiles first where the mask is causal.
    let kv = (TOGETHER_BYTES / (s.sk * token).max(1.0)).floor().clamp(1.0, s.hkv * s.batch);
    let together = (kv * (s.hq / s.hkv)).floor().clamp(1.0, heads);
    let order: Vec<f64> = if p.causal { blocks.into_iter().rev().collect() } else { blocks };
    let (groups, left) = ((heads / together).floor() as u64, heads % together);
    let mut runs = Vec::new();
    for heads in (0..groups).map(|_| together).chain((left > 0.0).then_some(left)) {
        runs.extend(order.iter().map(|b| (*b, heads as u64)));
    }
    Tiles::Dealt(runs)
}

/// What the softmax of a block takes: instructions of warps.
fn softmax(co: &Coefficients, p: &AttentionProblem, [bm, bn]: [f64; 2], exp_fma: f64) -> Pipes {
    let scores = bm * bn / 32.0;
    // Half of the exponentials' work as polynomials is ten instructions (FlashAttention-4), terms of the score are some.
    let terms = [p.softcap, p.alibi, p.bias.is_some()].iter().filter(|t| **t).count() as f64;
    let floats = scores * (co.softmax + 2.0 * terms + 10.0 * exp_fma);
    let special = scores * (1.0 - exp_fma + if p.softcap { 1.0 } else { 0.0 });
    // The rescale of the output.
    let floats = floats + bm * f64::from(p.dv) / 32.0;
    Pipes { issued: floats + special, int: 0.0, float: floats, special }
}

fn wgmma(
    d: &DeviceProfile,
    co: &Coefficients,
    p: &AttentionProblem,
    c: &WgmmaAttentionConfig,
    counts: Option<&Counts>,
) -> (Block, f64, f64, f64) {
    let [bm, bn, wgs] = [c.bm, c.bn, c.warpgroups].map(f64::from);
    let bytes = f64::from(p.dtype.bytes());
    let token = f64::from(p.d + p.dv) * bytes;
    let tensor = 2.0 * bm * bn * f64::from(p.d + p.dv) / d.tensor_flops;
    let soft = softmax(co, p, [bm, bn], f64::from(c.exp_fma) / 16.0);
    let steps = bm / 64.0 / wgs * (f64::from(p.d) / 16.0 + bn / 16.0);
    let block = Block {
        tensor,
        // Queries, and for each 64 of them keys and values.
        shared: bm * f64::from(p.d) * bytes + bm / 64.0 * bn * token,
        copied: bn * token,
        l2: bn * token,
        pipes: soft,
        tma: 2.0,
        serial: 0.0,
    };
    let shared = block.shared;
    let with_operands =
        counts.map(|n| Counts { shared_wavefronts: n.shared_wavefronts.map(|w| w + shared / 128.0), ..n.clone() });
    let mut block = block.known(with_operands.as_ref(), steps, 4.0 * wgs);
    let multiplies = tensor / co.tensor;
    let exponents = soft_cycles(d, &block.pipes);
    // A warpgroup's own way through a block: products and softmax, one after the other or the one under the other.
    let own = |share: f64| (multiplies / share, exponents / share);
    let chain = match (c.overlap, own(wgs)) {
        (true, (m, e)) => m.max(e),
        (false, (m, e)) => m + e,
    };
    // The softmax of all warpgroups goes through the same pipes: exponentials, then what is made of them.
    let both = multiplies.max(exponents).max(chain);
    // What is not arranged happens by chance only: products over a warpgroup's own softmax, and warpgroups that take turns.
    let chances = f64::from(u8::from(!c.overlap) + u8::from(!c.ping_pong));
    block.serial = (both + chances * co.collide * multiplies.min(exponents) - multiplies.max(exponents)).max(0.0);
    let (producer, math) = c.registers(p);
    let registers = 128.0 * (f64::from(producer) + wgs * f64::from(math));
    let smem = bm * f64::from(p.d) * bytes + f64::from(c.stages) * bn * token + 2048.0;
    let by_registers = f64::from(d.arch.caps().registers_per_sm) / registers;
    let held = by_registers.min(f64::from(d.smem_capacity) / smem).floor().max(1.0);
    block.pipes = in_turn(d, block.pipes);
    // The first block's softmax has nothing over it.
    (block, f64::from(c.stages) + 1.0, held, exponents / wgs + multiplies / wgs)
}

/// The same as a pipe that is busy for the sum: exponentials and what is made of them follow each other in every warp
/// (FlashAttention-3 counts them so).
pub(super) fn in_turn(d: &DeviceProfile, p: Pipes) -> Pipes {
    Pipes { issued: 4.0 * soft_cycles(d, &p), ..p }
}

/// Cycles of a softmax with these instructions: exponentials and the others share warps, so they follow each other.
fn soft_cycles(d: &DeviceProfile, p: &Pipes) -> f64 {
    p.special * 32.0 / d.special_lanes + (p.issued - p.special) / 4.0
}

fn mma(
    d: &DeviceProfile,
    co: &Coefficients,
    p: &AttentionProblem,
    c: &MmaAttentionConfig,
    counts: Option<&Counts>,
) -> (Block, f64, f64, f64) {
    let block = mma_block(d, co, p, c, counts);
    let [bm, bn, stages, warps] = [c.bm, c.bn, c.stages, c.warps].map(f64::from);
    let bytes = f64::from(p.dtype.bytes());
    let rows = bm / warps;
    // Scores, the output and the queries of a warp's rows.
    let registers = rows * (bn + f64::from(p.dv)) / 32.0 + rows * f64::from(p.d) / 64.0 + 48.0;
    let smem = (bm * f64::from(p.d)).max(bm * f64::from(p.dv)) * bytes + stages * bn * f64::from(p.d + p.dv) * bytes;
    let held = resident(d, [registers, 32.0 * warps, smem], counts);
    // Warps go their own ways: one's softmax hides under another's products where there are several on a scheduler.
    (block, stages + 1.0, held, block.pipes.issued / 4.0)
}

/// A block of the mma.sync kernels, the forward's and decode's.
pub(super) fn mma_block(
    d: &DeviceProfile,
    co: &Coefficients,
    p: &AttentionProblem,
    c: &MmaAttentionConfig,
    counts: Option<&Counts>,
) -> Block {
    let [bm, bn, warps] = [c.bm, c.bn, c.warps].map(f64::from);
    let bytes = f64::from(p.dtype.bytes());
    let token = f64::from(p.d + p.dv) * bytes;
    let soft = softmax(co, p, [bm, bn], 0.0);
    let multiplies = bm * bn * f64::from(p.d + p.dv) / (16.0 * 8.0 * 16.0);
    // Every warp reads all keys and values for its rows, and queries again where they are not held.
    let shared = warps * bn * token + if p.d > 128 { bm * f64::from(p.d) * bytes } else { 0.0 };
    let issued = soft.issued + multiplies * co.multiply_instructions + shared / 512.0 + bn * token / 512.0 * co.copy_instructions;
    let block = Block {
        tensor: 2.0 * bm * bn * f64::from(p.d + p.dv) / (d.tensor_flops * d.mma_sync_share),
        shared,
        copied: bn * token,
        l2: bn * token,
        pipes: Pipes { issued, ..soft },
        ..Block::default()
    };
    let mut block = block.known(counts, multiplies / warps, warps);
    block.pipes = in_turn(d, block.pipes);
    // A warp's products wait for its softmax and the other way round: a CTA has as many ways through a block as warps on a
    // scheduler.
    let (products, rest) = (block.tensor / co.tensor, block.pipes.issued / 4.0);
    block.serial = ((products + rest) / (warps / 4.0).max(1.0) - products.max(rest)).max(0.0);
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::DType;

    const LONG: f64 = 8192.0;

    fn config(bm: u32, bn: u32, flags: [bool; 3]) -> AttentionConfig {
        let [overlap, ping_pong, persistent] = flags;
        let c = WgmmaAttentionConfig { bm, bn, warpgroups: bm / 64, stages: 2, overlap, ping_pong, persistent, exp_fma: 0 };
        AttentionConfig::Wgmma(c)
    }

    fn time(p: &AttentionProblem, c: &AttentionConfig, s: &Sizes) -> f64 {
        estimate(DeviceProfile::named("H200").unwrap(), p, c, s, None).seconds
    }

    #[test]
    fn blocks_are_those_that_some_query_of_a_tile_sees() {
        let p = AttentionProblem { causal: true, ..AttentionProblem::plain(DType::BF16, 128) };
        let s = Sizes::square(1.0, 512.0, 1.0);
        assert_eq!(s.visited(&p, 128.0, 128.0), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(s.visited(&AttentionProblem { causal: false, ..p }, 128.0, 128.0), [4.0; 4]);
        // More keys than queries: the last query stands on the last key.
        assert_eq!(Sizes { sk: 1024.0, ..s }.visited(&p, 128.0, 128.0), [5.0, 6.0, 7.0, 8.0]);
        let windowed = AttentionProblem { window: true, ..p };
        let near = Sizes { window: Some([127.0, 0.0]), ..s };
        assert_eq!(near.visited(&windowed, 128.0, 128.0), [1.0, 2.0, 2.0, 2.0]);
        let chunked = AttentionProblem { chunk: true, ..p };
        assert_eq!(Sizes { chunk: Some(256.0), ..s }.visited(&chunked, 128.0, 128.0), [1.0, 2.0, 1.0, 2.0]);
        // Fewer keys than queries: the first see none.
        assert_eq!(Sizes { sk: 256.0, ..s }.visited(&p, 128.0, 128.0), [0.0, 0.0, 1.0, 2.0]);
    }

    #[test]
    fn hiding_the_softmax_pays_and_turns_more_so() {
        let p = AttentionProblem::plain(DType::BF16, 128);
        let s = Sizes::square(2.0, LONG, 16.0);
        let none = time(&p, &config(128, 128, [false, false, false]), &s);
        let overlap = time(&p, &config(128, 128, [true, false, false]), &s);
        let turns = time(&p, &config(128, 128, [true, true, false]), &s);
        assert!(turns < overlap && overlap < none, "{turns} {overlap} {none}");
    }

    #[test]
    fn causal_costs_half_where_the_longest_come_first() {
        let full = AttentionProblem::plain(DType::BF16, 128);
        let causal = AttentionProblem { causal: true, ..full };
        let s = Sizes::square(2.0, LONG, 16.0);
        let walked = config(128, 128, [true, true, true]);
        let ratio = time(&causal, &walked, &s) / time(&full, &walked, &s);
        assert!((0.5..0.6).contains(&ratio), "{ratio}");
        // A window of a sixteenth visits about a sixteenth.
        let windowed = AttentionProblem { window: true, ..full };
        let near = Sizes { window: Some([256.0, 255.0]), ..s };
        let ratio = time(&windowed, &walked, &near) / time(&full, &walked, &s);
        assert!((1.0 / 16.0..1.0 / 8.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn the_exponentials_bound_short_heads_and_multiplies_long_ones() {
        let d = DeviceProfile::named("H200").unwrap();
        let s = Sizes::square(2.0, LONG, 16.0);
        let rate = |d_head: u32, bn: u32| {
            let p = AttentionProblem::plain(DType::BF16, d_head);
            let e = estimate(d, &p, &config(128, bn, [true, true, false]), &s, None);
            4.0 * s.batch * s.hq * LONG * LONG * f64::from(d_head) / e.seconds
        };
        let (short, long) = (rate(64, 128), rate(256, 80));
        let peak = d.tensor_flops * f64::from(d.sms) * d.clock_hz;
        assert!(short < 0.75 * long && long < peak, "{short} {long} {peak}");
    }
}
