//! The config space of GEMM, and why a point is illegal.

use super::problem::{BLayout, GemmProblem, Groups, Scale, Weight};
use super::weight::{WeightMmaConfig, WeightWgmmaConfig};
use tilewright_ir::DType;

/// How the math warpgroups share the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Schedule {
    /// All of them on one tile.
    Cooperative,
    /// One tile each, in turns.
    PingPong,
}

/// CTAs that share loads through multicast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cluster {
    /// None.
    One,
    /// Two along m: they share b.
    TwoM,
    /// Two along n: they share a.
    TwoN,
}

impl Cluster {
    /// CTAs of a cluster.
    pub fn ctas(self) -> u32 {
        if self == Cluster::One { 1 } else { 2 }
    }

    /// CTAs that share an a tile.
    pub fn sharing_a(self) -> u32 {
        if self == Cluster::TwoN { 2 } else { 1 }
    }

    /// CTAs that share a b tile.
    pub fn sharing_b(self) -> u32 {
        if self == Cluster::TwoM { 2 } else { 1 }
    }
}

/// Shared memory of a Hopper CTA but for its barriers.
pub(super) const RING_BYTES: u32 = 226 * 1024;

/// The Hopper kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WgmmaConfig {
    /// Rows of a CTA's tile.
    pub bm: u32,
    /// Columns of the accumulator (for swiglu gate and up together).
    pub bn: u32,
    /// k of a stage.
    pub bk: u32,
    /// Stages of the ring.
    pub stages: u32,
    /// Warpgroups that multiply.
    pub math_wgs: u32,
    /// How they share work.
    pub schedule: Schedule,
    /// Multicast.
    pub cluster: Cluster,
    /// Rows of tiles walked together.
    pub raster: u32,
    /// n is a multiple of this: 8 allows TMA stores, 2 paired accesses, 1 anything.
    pub n_align: u32,
    /// Writes f32 partial sums of a part of k.
    pub split: bool,
    /// Of bytes: the sums of each stage are added to others in f32, since the tensor cores of Hopper keep only about 14 bits of
    /// a sum of 8-bit floats (DeepSeek-V3 Technical Report, 3.3.2). Block scales need it.
    pub promote: bool,
    /// Of bytes: a first launch copies rows that TMA cannot address to rows it can, and turns b as `[k, n]` into `[n, k]`.
    pub pad: bool,
}

/// The Ampere kernel, also Hopper's for rows TMA cannot address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MmaConfig {
    /// Rows of a CTA's tile.
    pub bm: u32,
    /// Columns of the accumulator (for swiglu gate and up together).
    pub bn: u32,
    /// k of a stage.
    pub bk: u32,
    /// Stages of the ring.
    pub stages: u32,
    /// Warps along m.
    pub warps_m: u32,
    /// Warps along n.
    pub warps_n: u32,
    /// Rows of tiles walked together.
    pub raster: u32,
    /// Rows of a and b are multiples of this many elements, for cp.async of 16, 8 or 4 bytes; 1 for anything.
    pub load_align: u32,
    /// n is a multiple of this: 2 allows paired accesses.
    pub n_align: u32,
    /// Writes f32 partial sums of a part of k.
    pub split: bool,
}

/// The kernel that sums partials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReduceConfig {
    /// Rows of a CTA's tile.
    pub rows: u32,
    /// Columns of a CTA's tile.
    pub cols: u32,
    /// n is a multiple of this.
    pub n_align: u32,
}

/// A point of the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GemmConfig {
    /// TMA and wgmma.
    Wgmma(WgmmaConfig),
    /// cp.async and mma.sync.
    Mma(MmaConfig),
    /// Packed weights as the A operand of wgmma.
    WeightWgmma(WeightWgmmaConfig),
    /// Packed weights as the A operand of mma.sync.
    WeightMma(WeightMmaConfig),
}

/// Why a config is illegal, or no config at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Breaks a constraint.
    #[error("config {id}: {why}")]
    Illegal {
        /// The config.
        id: String,
        /// The constraint.
        why: String,
    },
    /// Not the text of a config.
    #[error("`{text}` is no gemm config: {why}; see `gen list`")]
    Text {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

const GROUPS_SPLIT: &str = "a grouped gemm does not split k: how many tiles there are is known on the device only";

impl WgmmaConfig {
    /// A tile `[bm, bn, bk]` that `math_wgs` warpgroups share, with nothing besides: no cluster, 8 rows of tiles at a time, TMA
    /// stores.
    pub fn new([bm, bn, bk]: [u32; 3], stages: u32, math_wgs: u32) -> Self {
        WgmmaConfig {
            bm,
            bn,
            bk,
            stages,
            math_wgs,
            schedule: Schedule::Cooperative,
            cluster: Cluster::One,
            raster: 8,
            n_align: 8,
            split: false,
            promote: false,
            pad: false,
        }
    }

    /// The same with as many stages as fit beside the epilogue's buffers, 8 at most: depth is derived, not searched.
    pub fn deepest(self, p: &GemmProblem) -> Self {
        let staging = if p.output.bytes() == 2 { 2 * self.math_wgs * 64 * self.chunk(p) * 2 } else { 0 };
        let stage = (self.bm + self.bn) * self.bk * p.input.bytes();
        WgmmaConfig { stages: (RING_BYTES.saturating_sub(staging) / stage).min(8), ..self }
    }

    /// Registers a thread: producer, math. Together with the warpgroups they fill what `.reqntid` leaves, as
    /// FlashAttention-3 and CUTLASS divide it.
    pub fn registers(&self) -> (u32, u32) {
        match self.math_wgs {
            1 => (56, 240),
            2 => (40, 232),
            _ => (32, 160),
        }
    }

    /// Rows of a stage's A tile that one warpgroup multiplies.
    pub fn warpgroup_rows(&self) -> u32 {
        if self.schedule == Schedule::PingPong { self.bm } else { self.bm / self.math_wgs.max(1) }
    }

    /// Output columns a CTA writes.
    pub fn out_cols(&self, p: &GemmProblem) -> u32 {
        self.bn / p.gates()
    }

    /// Output tile of a cluster.
    pub fn cluster_tile(&self, p: &GemmProblem) -> [u32; 2] {
        [self.bm * self.cluster.sharing_b(), self.out_cols(p) * self.cluster.sharing_a()]
    }

    /// True if the output leaves through shared memory and TMA.
    pub fn tma_store(&self, p: &GemmProblem) -> bool {
        !self.split && self.n_align.is_multiple_of(8) && p.output.bytes() == 2
    }

    /// Columns the epilogue handles at once: one swizzle span where it divides the tile.
    pub fn chunk(&self, p: &GemmProblem) -> u32 {
        let cols = self.out_cols(p);
        // All chunks of a quantised row are held until its factor is known.
        if p.quant && cols.is_multiple_of(16) {
            return 16;
        }
        [64, 32, 16, 8].into_iter().find(|c| cols.is_multiple_of(*c)).unwrap_or(8)
    }

    fn why_illegal(&self, p: &GemmProblem) -> Option<String> {
        let rows = self.warpgroup_rows();
        // Sums of the stage and sums of all, 64 rows over 128 threads.
        let sums = rows / 64 * self.bn;
        let cols = self.out_cols(p);
        let bytes = p.bytes();
        // Bytes as [k, n] are copied to [n, k] first.
        let kn = p.b == BLayout::Kn && !bytes;
        let row_step = if kn { 16 } else { 8 };
        let share = |tile: u32, by: u32| by == 1 || (tile / by).is_multiple_of(8);
        let b_rows = if kn { self.bk } else { cols };
        let elements = 128 / p.input.bytes();
        let rules = [
            (!(1..=3).contains(&self.math_wgs), format!("{} math warpgroups: 1 to 3", self.math_wgs)),
            (self.schedule == Schedule::PingPong && self.math_wgs != 2, "ping-pong takes two warpgroups".to_string()),
            (
                self.schedule == Schedule::PingPong && self.split,
                "ping-pong cannot split k: warpgroups skip each other's stages by a fixed count".to_string(),
            ),
            (rows == 0 || !rows.is_multiple_of(64), format!("{rows} rows a warpgroup: wgmma multiplies 64 at a time")),
            (
                !self.bn.is_multiple_of(p.gates() * row_step) || cols == 0 || cols > 256,
                format!("{cols} columns: wgmma takes 8 to 256 in steps of {row_step} for this layout of b"),
            ),
            (
                self.bk != elements,
                format!("bk = {}: a stage's rows fill one 128-byte swizzle span, {elements} elements", self.bk),
            ),
            (!(2..=12).contains(&self.stages), format!("{} stages: 2 to 12", self.stages)),
            (!share(self.bm, self.cluster.sharing_a()), "half an a tile must be whole swizzle patterns of 8 rows".to_string()),
            (!share(b_rows, self.cluster.sharing_b()), "half a b tile must be whole swizzle patterns of 8 rows".to_string()),
            (p.groups != Groups::Batch && self.split, GROUPS_SPLIT.to_string()),
            (
                p.groups != Groups::Batch && self.cluster == Cluster::TwoM,
                "two CTAs along m share b, and tiles that follow each other in a list may belong to two experts".to_string(),
            ),
            ((self.promote || self.pad) && !bytes, "promote and pad are for 8-bit operands".to_string()),
            (
                bytes && p.b == BLayout::Kn && !self.pad,
                "b as [k, n] of bytes: wgmma takes bytes with k contiguous only; pad=1 turns b first".to_string(),
            ),
            (self.pad && p.groups != Groups::Batch, "a grouped gemm has no copies of its operands".to_string()),
            (p.block_scaled() && !self.promote, "block scales multiply the sums of each stage: promote=1".to_string()),
            (
                self.promote && p.sums() == DType::I32,
                "integer sums are exact: promote=1 is for 8-bit floats and block scales".to_string(),
            ),
            (
                self.promote && sums + 40 > self.registers().1,
                format!("two sets of sums, {sums} registers a thread, beside 40 others: smaller tiles or more warpgroups"),
            ),
            (
                p.b_scale == Scale::Block && (cols == 0 || !128u32.is_multiple_of(cols)),
                format!("{cols} columns: a tile lies inside one block of 128 columns of b"),
            ),
            (
                p.quant && (cols != 128 || self.split),
                format!("{cols} columns: a quantised output has a factor for each row of a tile of 128 columns"),
            ),
            (
                p.input == DType::I8 && cols > 32 && !cols.is_multiple_of(16),
                format!("{cols} columns: wgmma of i8 takes 8, 16, 24, 32, then steps of 16"),
            ),
            (self.raster == 0, "raster must be at least 1".to_string()),
            (!matches!(self.n_align, 1 | 2 | 8), format!("n_align = {}: 1, 2 or 8", self.n_align)),
        ];
        rules.into_iter().find(|(broken, _)| *broken).map(|(_, why)| why)
    }
}

impl MmaConfig {
    fn why_illegal(&self, p: &GemmProblem) -> Option<String> {
        let cols = self.bn / p.gates();
        let (wm, wn) = (self.warps_m, self.warps_n);
        let rules = [
            (wm == 0 || wn == 0 || wm * wn > 16, format!("{wm} x {wn} warps: 1 to 16")),
            (
                wm > 0 && !self.bm.is_multiple_of(16 * wm),
                format!("bm = {} is not a multiple of 16 rows for each of {wm} warps", self.bm),
            ),
            (
                wn > 0 && (cols == 0 || !self.bn.is_multiple_of(p.gates() * 8 * wn)),
                format!("{cols} columns are not a multiple of 8 for each of {wn} warps"),
            ),
            (
                p.b == BLayout::Kn && !cols.is_multiple_of(16),
                format!("{cols} columns: b as [k, n] is stored in rows of a multiple of 16"),
            ),
            (![32, 64, 128].contains(&(self.bk * p.input.bytes())), format!("bk = {}: 32, 64 or 128 bytes", self.bk)),
            (!(2..=8).contains(&self.stages), format!("{} stages: 2 to 8", self.stages)),
            (p.groups != Groups::Batch && self.split, GROUPS_SPLIT.to_string()),
            (p.input.is_fp8(), format!("multiplies 16-bit operands and i8, not {}", p.input)),
            (p.input == DType::I8 && p.b == BLayout::Kn, "bytes are read with k contiguous: give b as [n, k]".to_string()),
            (p.block_scaled(), "block scales need the kernel of TMA and wgmma".to_string()),
            (p.quant, "a quantised output needs the kernel of TMA and wgmma".to_string()),
            (self.raster == 0, "raster must be at least 1".to_string()),
            (
                self.load_align != 1
                    && (!self.load_align.is_power_of_two() || !(4..=16).contains(&(self.load_align * p.input.bytes()))),
                format!("load_align = {}: 1, or copies of 4, 8 or 16 bytes", self.load_align),
            ),
            (!matches!(self.n_align, 1 | 2), format!("n_align = {}: 1 or 2", self.n_align)),
        ];
        rules.into_iter().find(|(broken, _)| *broken).map(|(_, why)| why)
    }
}

impl GemmConfig {
    /// Checks the constraints that do not need the compiler.
    pub fn check(&self, p: &GemmProblem) -> Result<(), ConfigError> {
        let why = match self {
            GemmConfig::Wgmma(_) | GemmConfig::Mma(_) if p.weight != Weight::Same => {
                Some(format!("multiplies weights in a's dtype, not {}", p.weight))
            }
            GemmConfig::Wgmma(c) => c.why_illegal(p),
            GemmConfig::Mma(c) => c.why_illegal(p),
            GemmConfig::WeightWgmma(c) => c.why_illegal(p),
            GemmConfig::WeightMma(c) => c.why_illegal(p),
        };
        why.map_or(Ok(()), |why| Err(ConfigError::Illegal { id: self.to_string(), why }))
    }

    /// True for kernels that write partial sums.
    pub fn split(&self) -> bool {
        match self {
            GemmConfig::Wgmma(c) => c.split,
            GemmConfig::Mma(c) => c.split,
            GemmConfig::WeightWgmma(_) => false,
            GemmConfig::WeightMma(c) => c.split,
        }
    }

    /// The same with or without a split k; packed weights have `stream` for it.
    pub fn with_split(self, split: bool) -> Self {
        match self {
            GemmConfig::Wgmma(c) => GemmConfig::Wgmma(WgmmaConfig { split, ..c }),
            GemmConfig::Mma(c) => GemmConfig::Mma(MmaConfig { split, ..c }),
            GemmConfig::WeightWgmma(_) => self,
            GemmConfig::WeightMma(c) => GemmConfig::WeightMma(WeightMmaConfig { split, ..c }),
        }
    }
}
