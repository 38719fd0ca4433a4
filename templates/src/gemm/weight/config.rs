//! Configs of the kernels that multiply with packed weights.

use super::block::words;
use super::format::Format;
use crate::gemm::config::RING_BYTES;
use crate::gemm::problem::{BLayout, GemmProblem, Groups, Packed, Weight};
use tilewright_ir::DType;

/// The Hopper kernel: weights are the A operand in registers, tokens the columns of wgmma.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeightWgmmaConfig {
    /// Rows of d (tokens) of a CTA's tile: wgmma's N.
    pub bm: u32,
    /// Columns of d of a CTA's tile: 64 for each math warpgroup.
    pub bn: u32,
    /// Stages of the ring; a stage is 128 columns of k.
    pub stages: u32,
    /// Rows of tiles walked together.
    pub raster: u32,
    /// n is a multiple of this: 8 allows TMA stores, 1 anything.
    pub n_align: u32,
    /// CTAs share the blocks of all tiles evenly, a tile's among several where its end and theirs differ: [`super::stream`].
    pub stream: bool,
}

impl WeightWgmmaConfig {
    /// Columns of k of a stage: one block.
    pub const BK: u32 = 128;

    /// Warpgroups that decode and multiply.
    pub fn math_wgs(&self) -> u32 {
        self.bn / 64
    }

    /// Registers a thread: producer, math.
    pub fn registers(&self) -> (u32, u32) {
        match self.math_wgs() {
            1 => (56, 240),
            2 => (40, 232),
            _ => (32, 160),
        }
    }

    /// True if the output leaves through shared memory and TMA.
    pub fn tma_store(&self, p: &GemmProblem) -> bool {
        self.n_align.is_multiple_of(8) && p.output.bytes() == 2
    }

    /// Tokens the epilogue handles at once.
    pub fn chunk(&self) -> u32 {
        [64, 32, 16].into_iter().find(|c| self.bm.is_multiple_of(*c)).unwrap_or(8)
    }

    /// Bytes of a stage of the ring, as they lie.
    pub fn stage_bytes(&self, p: &GemmProblem, packed: Packed) -> u32 {
        let weights = (self.math_wgs() * p.gates() * words(packed) * 4).next_multiple_of(1024);
        weights + 2 * (self.bm * 128).next_multiple_of(1024)
    }

    /// The same with as many stages as fit beside the epilogue's buffers, 8 at most.
    pub fn deepest(self, p: &GemmProblem, packed: Packed) -> Self {
        let staging = if self.tma_store(p) { 2 * self.math_wgs() * self.chunk() * 64 * p.output.bytes() } else { 0 };
        let stages = (RING_BYTES - staging) / self.stage_bytes(p, packed);
        WeightWgmmaConfig { stages: stages.min(8), ..self }
    }

    /// The constraint it breaks.
    pub fn why_illegal(&self, p: &GemmProblem) -> Option<String> {
        let packed = matches!(p.weight, Weight::Packed(_));
        let wgs = self.math_wgs();
        // Two cells of decoded weights, one accumulator of 64 rows for each gate: what three warpgroups leave is 160.
        let held = p.gates() * (self.bm / 2 + 32);
        let rules = [
            (!packed, "takes a packed weight".to_string()),
            (p.b != BLayout::Nk, "packed weights have no other layout than nk".to_string()),
            (!self.bn.is_multiple_of(64) || !(1..=3).contains(&wgs), format!("bn = {}: 64, 128 or 192", self.bn)),
            (
                !self.bm.is_multiple_of(8) || !(8..=256).contains(&self.bm),
                format!("{} tokens: wgmma takes 8 to 256 in steps of 8", self.bm),
            ),
            (
                held + 48 > self.registers().1,
                format!("{} tokens with {wgs} warpgroups hold {held} registers of tiles a thread", self.bm),
            ),
            (!(2..=16).contains(&self.stages), format!("{} stages: 2 to 16", self.stages)),
            (
                p.groups != Groups::Batch && self.stream,
                "a grouped gemm does not stream: how many tiles there are is known on the device only".to_string(),
            ),
            (self.raster == 0, "raster must be at least 1".to_string()),
            (!matches!(self.n_align, 1 | 8), format!("n_align = {}: 1 or 8", self.n_align)),
        ];
        rules.into_iter().find(|(broken, _)| *broken).map(|(_, why)| why)
    }
}

/// The mma.sync kernel for packed weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeightMmaConfig {
    /// Rows of d (tokens) of a CTA: 8, 16, 32 or 64.
    pub bm: u32,
    /// Rows of the weight of a CTA (for swiglu gate and up together): for each gate 32 or a multiple of 64. With 32 pairs of
    /// warps share the columns of a block, for more CTAs where n is small.
    pub bn: u32,
    /// Warpgroups, which share k among them: 1, 2, 4 or 8.
    pub wgs: u32,
    /// Stages of each warpgroup's ring of a.
    pub stages: u32,
    /// Blocks of weights a warpgroup has under way in registers: 1 or 2.
    pub depth: u32,
    /// Rows of a are multiples of this many elements: 8, 4 or 2 for cp.async of 16, 8 or 4 bytes, 1 for anything.
    pub load_align: u32,
    /// CTAs that an SM holds at once: limits registers.
    pub ctas: u32,
    /// Writes f32 partial sums of a part of k.
    pub split: bool,
}

impl WeightMmaConfig {
    /// Output columns a CTA writes.
    pub fn out_cols(&self, p: &GemmProblem) -> u32 {
        self.bn / p.gates()
    }

    /// Rows on which the warps of a warpgroup stand: 64, or 32.
    pub fn rows(&self, p: &GemmProblem) -> u32 {
        self.out_cols(p).clamp(1, 64)
    }

    /// Parts of a block's columns that warps of one warpgroup take.
    pub fn parts(&self, p: &GemmProblem) -> u32 {
        64 / self.rows(p)
    }

    /// Blocks of weight rows, or halves, that a CTA multiplies.
    pub fn row_blocks(&self, p: &GemmProblem) -> u32 {
        self.bn / self.rows(p)
    }

    /// Registers a thread needs, about: of each block of rows the sums, what is on its way, an address; decoded weights and
    /// fragments of a; addresses of copies. What ptxas makes of it is the compiler's to judge.
    fn registers(&self, p: &GemmProblem, packed: Packed) -> u32 {
        let chunk_k = Format::of(packed.bits).chunk_k as u32;
        let factors = 128 / packed.group * (1 + u32::from(packed.zero));
        // Of the factors in use both forms are held: words, and pairs of one.
        let under_way = packed.bits * 2 / self.parts(p) * self.depth + factors * (1 + self.depth);
        let rows = self.row_blocks(p) * (self.bm / 2 + under_way + 4);
        // Bytes become bf16 through f32.
        let wide = if packed.bits == 8 && p.input == DType::BF16 { 8 } else { 0 };
        let (decoded, fragments) =
            if self.bm <= 16 { (chunk_k / 4, chunk_k * self.bm / 64) } else { (chunk_k / 4 * self.row_blocks(p), self.bm / 4) };
        let copies = 3 * (self.bm / self.load_align.max(1)).min(8);
        rows + decoded + wide + fragments + copies + if self.split { 6 } else { 0 }
    }

    /// Registers a thread may have, less what ptxas keeps for itself.
    fn registers_left(&self) -> u32 {
        (65536 / (128 * self.wgs * self.ctas)).min(252) * 15 / 16
    }

    /// The constraint it breaks.
    pub fn why_illegal(&self, p: &GemmProblem) -> Option<String> {
        let Weight::Packed(packed) = p.weight else { return Some("takes a packed weight".to_string()) };
        let rules = [
            (
                p.groups != Groups::Batch && self.split,
                "a grouped gemm does not split k: how many tiles there are is known on the device only".to_string(),
            ),
            (p.b != BLayout::Nk, "packed weights have no other layout than nk".to_string()),
            (!matches!(self.bm, 8 | 16 | 32 | 64), format!("bm = {}: 8, 16, 32 or 64 tokens", self.bm)),
            (
                self.bn == 0 || self.bn != 32 * p.gates() && !self.bn.is_multiple_of(64 * p.gates()) || self.bn > 256,
                format!("bn = {}: 32 rows or whole blocks of 64 for each gate, at most 256", self.bn),
            ),
            (!matches!(self.wgs, 1 | 2 | 4 | 8), format!("{} warpgroups: 1, 2, 4 or 8", self.wgs)),
            (!(2..=4).contains(&self.stages), format!("{} stages: 2 to 4", self.stages)),
            (!matches!(self.depth, 1 | 2), format!("depth = {}: 1 or 2", self.depth)),
            (!matches!(self.load_align, 1 | 2 | 4 | 8), format!("load_align = {}: 1, 2, 4 or 8", self.load_align)),
            (
                self.ctas == 0 || self.ctas * self.wgs * 128 > 1536,
                format!("{} CTAs of {} warpgroups: more than 1536 threads of an SM", self.ctas, self.wgs),
            ),
            (
                self.wgs > 0 && self.ctas > 0 && self.registers(p, packed) > self.registers_left(),
                format!(
                    "needs about {} registers a thread, {} CTAs of {} warpgroups leave {}: fewer rows, tokens or warpgroups",
                    self.registers(p, packed),
                    self.ctas,
                    self.wgs,
                    self.registers_left()
                ),
            ),
        ];
        rules.into_iter().find(|(broken, _)| *broken).map(|(_, why)| why)
    }
}
