//! Attention of a few new tokens over a paged cache: bytes of keys and values, and how many CTAs fetch them.

use super::attention::{in_turn, mma_block};
use super::coefficients::Coefficients;
use super::gemm::resident;
use super::memory::hand_over;
use super::work::{Block, Pipes, Tiles, Work};
use crate::device::DeviceProfile;
use crate::estimate::{Counts, Estimate};
use crate::task::Task;
use tilewright_templates::attention::{AttentionProblem, DecodeConfig, DecodeProblem, MmaAttentionConfig, WgmmaDecodeConfig};

/// Sizes of a decode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Sequences.
    pub batch: f64,
    /// New tokens of one.
    pub sq: f64,
    /// Tokens of its cache that are read.
    pub sk: f64,
    /// Heads of q.
    pub hq: f64,
    /// Heads of the cache.
    pub hkv: f64,
    /// Tokens of a page.
    pub page: f64,
}

/// Into how many parts a sequence is divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Parts {
    /// One launch, no merge.
    One,
    /// So many, and a merge.
    Count(u32),
    /// As many as the plan chooses: two CTAs an SM, 256 tokens a part at least.
    Chosen,
}

/// Tokens of a part where the plan chooses, at least.
const PART_TOKENS: f64 = 256.0;

impl Sizes {
    /// Sizes of a task, if it has them: `batch`, `sq` (1 without), `sk` or `max_pages` of `page`, `hq`, `hkv`.
    pub fn of(task: &Task) -> Option<Self> {
        let size = |name| task.size(name).map(|v| v as f64);
        let page = size("page").unwrap_or(64.0);
        let pages = size("n_select").or_else(|| size("max_pages")).map(|n| n * page);
        Some(Sizes {
            batch: size("batch")?,
            sq: size("sq").unwrap_or(1.0),
            sk: size("sk").or_else(|| size("kv_len")).or(pages)?,
            hq: size("hq")?,
            hkv: size("hkv")?,
            page,
        })
    }

    /// Parts of a sequence on a device.
    pub fn parts(&self, d: &DeviceProfile, parts: Parts) -> f64 {
        let chosen = (2.0 * f64::from(d.sms) / (self.hkv * self.batch).max(1.0)).floor();
        match parts {
            Parts::One => 1.0,
            Parts::Count(n) => f64::from(n.max(1)),
            Parts::Chosen => chosen.max(1.0).min((self.sk / PART_TOKENS).ceil()),
        }
    }
}

/// Modelled time of a decode, and what bounds it.
pub fn estimate(
    d: &DeviceProfile,
    p: &DecodeProblem,
    config: &DecodeConfig,
    parts: Parts,
    s: &Sizes,
    counts: Option<&Counts>,
) -> Estimate {
    let co = d.coefficients();
    let n = s.parts(d, parts);
    let bytes = f64::from(p.dtype.bytes());
    let token = f64::from(p.d + p.dv) * bytes;
    let (block, [bm, bn, stages, held]) = match config {
        DecodeConfig::Wgmma(c) => wgmma(d, &co, p, c, counts),
        DecodeConfig::Mma(c) => mma(d, &co, p, c, counts),
    };
    let rows = s.sq * s.hq / s.hkv;
    let tiles = (rows / bm).ceil() * s.batch * s.hkv * n;
    let queries = s.batch * s.sq * s.hq;
    let partial = if parts == Parts::One { 0.0 } else { n * queries * (f64::from(p.dv) + 1.0) * 4.0 };
    Work {
        block,
        tiles: Tiles::Equal { count: tiles, blocks: (s.sk / n / bn).ceil().max(1.0) },
        stages,
        resident: held,
        persistent: false,
        // A page's number before its tokens; the first scores before the first values.
        edges: d.load_latency * co.latency + co.epilogue + 2.0 * bm * f64::from(p.dv) * 4.0 / d.smem_bytes,
        start: 0.0,
        memory: s.batch * s.sk * s.hkv * token + queries * (f64::from(p.d) + f64::from(p.dv)) * bytes,
        launches: if parts == Parts::One { 1.0 } else { 2.0 },
        beside: 2.0 * hand_over(d, &co, partial),
    }
    .estimate(d)
}

/// What decode shares with a forward of its class.
fn forward(p: &DecodeProblem) -> AttentionProblem {
    AttentionProblem { dv: p.dv, softcap: p.softcap, alibi: p.alibi, ..AttentionProblem::plain(p.dtype, p.d) }
}

fn wgmma(
    d: &DeviceProfile,
    co: &Coefficients,
    p: &DecodeProblem,
    c: &WgmmaDecodeConfig,
    counts: Option<&Counts>,
) -> (Block, [f64; 4]) {
    // One warpgroup, 64 rows.
    let [bm, bn, stages, ctas] = [64.0, f64::from(c.bn), f64::from(c.stages), f64::from(c.ctas)];
    let bytes = f64::from(p.dtype.bytes());
    let token = f64::from(p.d + p.dv) * bytes;
    let floats = bm * bn / 32.0 * co.softmax + bm * f64::from(p.dv) / 32.0;
    let special = bm * bn / 32.0;
    let shared = bm * f64::from(p.d) * bytes + bn * token;
    let block = Block {
        tensor: 2.0 * bm * bn * f64::from(p.d + p.dv) / d.tensor_flops,
        shared,
        copied: bn * token,
        l2: bn * token,
        pipes: Pipes { issued: floats + special, int: 0.0, float: floats, special },
        tma: 2.0 * (bn / f64::from(c.box_rows)).ceil(),
        serial: 0.0,
    };
    let counts = counts.map(|n| Counts { shared_wavefronts: n.shared_wavefronts.map(|w| w + shared / 128.0), ..n.clone() });
    let steps = f64::from(p.d) / 16.0 + bn / 16.0;
    let mut block = block.known(counts.as_ref(), steps, 4.0);
    block.pipes = in_turn(d, block.pipes);
    // One warpgroup has nobody to hide its softmax under.
    block.serial = (block.tensor / co.tensor).min(block.pipes.issued / 4.0);
    (block, [bm, bn, stages, ctas])
}

fn mma(
    d: &DeviceProfile,
    co: &Coefficients,
    p: &DecodeProblem,
    c: &MmaAttentionConfig,
    counts: Option<&Counts>,
) -> (Block, [f64; 4]) {
    let [bm, bn, stages, warps] = [c.bm, c.bn, c.stages, c.warps].map(f64::from);
    let bytes = f64::from(p.dtype.bytes());
    let rows = bm / warps;
    let registers = rows * (bn + f64::from(p.dv)) / 32.0 + rows * f64::from(p.d) / 64.0 + 56.0;
    let smem = bm * f64::from(p.d) * bytes + stages * bn * f64::from(p.d + p.dv) * bytes;
    let held = resident(d, [registers, 32.0 * warps, smem], counts);
    (mma_block(d, co, &forward(p), c, counts), [bm, bn, stages, held])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::Term;
    use tilewright_ir::DType;

    fn at(batch: f64, sk: f64) -> Sizes {
        Sizes { batch, sq: 1.0, sk, hq: 32.0, hkv: 8.0, page: 64.0 }
    }

    fn run(s: &Sizes, parts: Parts) -> Estimate {
        let config = DecodeConfig::Wgmma(WgmmaDecodeConfig { bn: 64, stages: 3, box_rows: 64, ctas: 2 });
        let d = DeviceProfile::named("H200").unwrap();
        estimate(d, &DecodeProblem::plain(DType::BF16, 128), &config, parts, s, None)
    }

    #[test]
    fn many_long_sequences_are_bound_by_their_bytes() {
        let s = at(64.0, 8192.0);
        let e = run(&s, Parts::One);
        let bytes = s.batch * s.sk * s.hkv * 512.0;
        assert_eq!(e.bound(), Some(Term::Memory));
        assert!(e.seconds > bytes / 4.3e12 && e.seconds < 1.15 * bytes / 4.3e12, "{}", e.seconds);
    }

    #[test]
    fn parts_pay_where_sequences_are_few_and_long() {
        assert!(run(&at(1.0, 65536.0), Parts::Chosen).seconds < 0.3 * run(&at(1.0, 65536.0), Parts::One).seconds);
        assert!(run(&at(64.0, 512.0), Parts::Count(8)).seconds > run(&at(64.0, 512.0), Parts::One).seconds);
        let d = DeviceProfile::named("H200").unwrap();
        assert_eq!(at(1.0, 65536.0).parts(d, Parts::Chosen), 33.0);
        assert_eq!(at(1.0, 512.0).parts(d, Parts::Chosen), 2.0);
    }
}
