//! The config space of GEMM, and why a point is illegal.

use super::problem::{BLayout, GemmProblem};
use std::fmt;
use std::str::FromStr;
use tilewright_ir::{Arch, DType};

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
    /// Rows of a and b are multiples of this many elements: 8, 4 or 2 for cp.async of 16, 8 or 4 bytes, 1 for anything.
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

impl WgmmaConfig {
    /// Registers a thread: producer, math. Together with the warpgroups they fill what `.reqntid` leaves, as
    /// FlashAttention-3 and CUTLASS divide it.
    pub fn registers(&self) -> (u32, u32) {
        match self.math_wgs {
            1 => (56, 240),
            2 => (40, 232),
            _ => (32, 160),
        }
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
        [64, 32, 16, 8].into_iter().find(|c| cols.is_multiple_of(*c)).unwrap_or(8)
    }

    fn why_illegal(&self, p: &GemmProblem) -> Option<String> {
        let rows = if self.schedule == Schedule::PingPong { self.bm } else { self.bm / self.math_wgs.max(1) };
        let cols = self.out_cols(p);
        let row_step = if p.b == BLayout::Kn { 16 } else { 8 };
        let share = |tile: u32, by: u32| by == 1 || (tile / by).is_multiple_of(8);
        let b_rows = if p.b == BLayout::Kn { self.bk } else { cols };
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
            (self.bk != 64, format!("bk = {}: a stage's rows fill one 128-byte swizzle span, 64 elements", self.bk)),
            (!(2..=12).contains(&self.stages), format!("{} stages: 2 to 12", self.stages)),
            (!share(self.bm, self.cluster.sharing_a()), "half an a tile must be whole swizzle patterns of 8 rows".to_string()),
            (!share(b_rows, self.cluster.sharing_b()), "half a b tile must be whole swizzle patterns of 8 rows".to_string()),
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
            (
                !self.bk.is_multiple_of(16) || !self.bk.is_power_of_two() || self.bk > 64,
                format!("bk = {}: 16, 32 or 64", self.bk),
            ),
            (!(2..=8).contains(&self.stages), format!("{} stages: 2 to 8", self.stages)),
            (self.raster == 0, "raster must be at least 1".to_string()),
            (!matches!(self.load_align, 1 | 2 | 4 | 8), format!("load_align = {}: 1, 2, 4 or 8", self.load_align)),
            (!matches!(self.n_align, 1 | 2), format!("n_align = {}: 1 or 2", self.n_align)),
        ];
        rules.into_iter().find(|(broken, _)| *broken).map(|(_, why)| why)
    }
}

impl GemmConfig {
    /// Checks the constraints that do not need the compiler.
    pub fn check(&self, p: &GemmProblem) -> Result<(), ConfigError> {
        let why = match self {
            GemmConfig::Wgmma(c) => c.why_illegal(p),
            GemmConfig::Mma(c) => c.why_illegal(p),
        };
        why.map_or(Ok(()), |why| Err(ConfigError::Illegal { id: self.to_string(), why }))
    }

    /// True for kernels that write partial sums.
    pub fn split(&self) -> bool {
        match self {
            GemmConfig::Wgmma(c) => c.split,
            GemmConfig::Mma(c) => c.split,
        }
    }

    /// The same with or without a split k.
    pub fn with_split(self, split: bool) -> Self {
        match self {
            GemmConfig::Wgmma(c) => GemmConfig::Wgmma(WgmmaConfig { split, ..c }),
            GemmConfig::Mma(c) => GemmConfig::Mma(MmaConfig { split, ..c }),
        }
    }

    /// Name and value of every axis, sorted by name.
    pub fn axes(&self) -> Vec<(&'static str, String)> {
        let mut list: Vec<(&'static str, String)> = match self {
            GemmConfig::Wgmma(c) => vec![
                ("kind", "wgmma".into()),
                ("bm", c.bm.to_string()),
                ("bn", c.bn.to_string()),
                ("bk", c.bk.to_string()),
                ("stages", c.stages.to_string()),
                ("wgs", c.math_wgs.to_string()),
                ("schedule", if c.schedule == Schedule::PingPong { "pingpong" } else { "coop" }.into()),
                ("cluster", ["1x1", "2x1", "1x2"][c.cluster as usize].into()),
                ("raster", c.raster.to_string()),
                ("n_align", c.n_align.to_string()),
                ("split", u8::from(c.split).to_string()),
            ],
            GemmConfig::Mma(c) => vec![
                ("kind", "mma".into()),
                ("bm", c.bm.to_string()),
                ("bn", c.bn.to_string()),
                ("bk", c.bk.to_string()),
                ("stages", c.stages.to_string()),
                ("warps", format!("{}x{}", c.warps_m, c.warps_n)),
                ("raster", c.raster.to_string()),
                ("load_align", c.load_align.to_string()),
                ("n_align", c.n_align.to_string()),
                ("split", u8::from(c.split).to_string()),
            ],
        };
        list.sort_unstable();
        list
    }

    /// A short name for entries and files: `wgmma_128x256x64_s4_w2_coop_2x1_a8`.
    pub fn slug(&self) -> String {
        let split = if self.split() { "_split" } else { "" };
        match self {
            GemmConfig::Wgmma(c) => {
                let schedule = if c.schedule == Schedule::PingPong { "pp" } else { "coop" };
                let cluster = ["1x1", "2x1", "1x2"][c.cluster as usize];
                format!(
                    "wgmma_{}x{}x{}_s{}_w{}_{schedule}_{cluster}_g{}_a{}{split}",
                    c.bm, c.bn, c.bk, c.stages, c.math_wgs, c.raster, c.n_align
                )
            }
            GemmConfig::Mma(c) => {
                format!(
                    "mma_{}x{}x{}_s{}_w{}x{}_g{}_l{}_a{}{split}",
                    c.bm, c.bn, c.bk, c.stages, c.warps_m, c.warps_n, c.raster, c.load_align, c.n_align
                )
            }
        }
    }
}

impl fmt::Display for GemmConfig {
    /// The config's id: `bk=64,bm=128,...`, axes sorted by name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes: Vec<String> = self.axes().into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        f.write_str(&axes.join(","))
    }
}

impl FromStr for GemmConfig {
    type Err = ConfigError;

    /// Reads an id; axes in any order, each exactly once.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |why: String| ConfigError::Text { text: text.to_string(), why };
        let mut fields = std::collections::BTreeMap::new();
        for part in text.split(',') {
            let (k, v) = part.split_once('=').ok_or_else(|| fail(format!("`{part}` is not axis=value")))?;
            if fields.insert(k.trim(), v.trim()).is_some() {
                return Err(fail(format!("axis `{k}` stands twice")));
            }
        }
        let mut take = |key: &str| fields.remove(key).ok_or_else(|| fail(format!("axis `{key}` is missing")));
        let number = |key: &str, v: &str| v.parse::<u32>().map_err(|_| fail(format!("{key} = `{v}` is not a number")));
        let choice = |key: &str, v: &str, names: &[&str]| {
            names.iter().position(|n| *n == v).ok_or_else(|| fail(format!("{key} = `{v}`: expected one of {}", names.join(", "))))
        };
        let kind = choice("kind", take("kind")?, &["wgmma", "mma"])?;
        let mut n = |key: &str| take(key).and_then(|v| number(key, v));
        let (bm, bn, bk, stages, raster, n_align, split) =
            (n("bm")?, n("bn")?, n("bk")?, n("stages")?, n("raster")?, n("n_align")?, n("split")? != 0);
        let config = if kind == 0 {
            let math_wgs = n("wgs")?;
            let schedule =
                [Schedule::Cooperative, Schedule::PingPong][choice("schedule", take("schedule")?, &["coop", "pingpong"])?];
            let cluster =
                [Cluster::One, Cluster::TwoM, Cluster::TwoN][choice("cluster", take("cluster")?, &["1x1", "2x1", "1x2"])?];
            GemmConfig::Wgmma(WgmmaConfig { bm, bn, bk, stages, math_wgs, schedule, cluster, raster, n_align, split })
        } else {
            let load_align = n("load_align")?;
            let warps = take("warps")?;
            let (wm, wn) = warps.split_once('x').ok_or_else(|| fail(format!("warps = `{warps}` is not such as 2x4")))?;
            let (warps_m, warps_n) = (number("warps", wm)?, number("warps", wn)?);
            GemmConfig::Mma(MmaConfig { bm, bn, bk, stages, warps_m, warps_n, raster, load_align, n_align, split })
        };
        match fields.keys().next() {
            Some(k) => Err(fail(format!("unknown axis `{k}`"))),
            None => Ok(config),
        }
    }
}

/// Legal configs for a target, sorted by id; the compiler's own limits (shared memory, registers) come on top.
pub fn space(arch: Arch, p: &GemmProblem) -> Vec<GemmConfig> {
    let mut list = Vec::new();
    if arch.is_hopper() {
        wgmma_space(p, &mut list);
    }
    mma_space(arch, &mut list);
    list.retain(|c| c.check(p).is_ok());
    list.sort_by_key(GemmConfig::to_string);
    list.dedup();
    list
}

fn wgmma_space(p: &GemmProblem, list: &mut Vec<GemmConfig>) {
    let out_bytes = if p.output == DType::F32 { 0 } else { 2 };
    for (bm, math_wgs, schedule) in [
        (64, 1, Schedule::Cooperative),
        (128, 1, Schedule::Cooperative),
        (128, 2, Schedule::Cooperative),
        (192, 3, Schedule::Cooperative),
        (256, 2, Schedule::Cooperative),
        (64, 2, Schedule::PingPong),
        (128, 2, Schedule::PingPong),
    ] {
        for bn in (8..=256).step_by(8).filter(|n| *n <= 64 || n % 16 == 0) {
            for cluster in [Cluster::One, Cluster::TwoM, Cluster::TwoN] {
                // As many stages as fit beside the epilogue's buffers: depth is derived, not searched.
                let stage = (bm + bn) * 64 * 2;
                let probe =
                    WgmmaConfig { bm, bn, bk: 64, stages: 2, math_wgs, schedule, cluster, raster: 8, n_align: 8, split: false };
                let staging = 2 * math_wgs * 64 * probe.chunk(p) * out_bytes;
                let stages = ((227 * 1024 - 1024 - staging) / stage).min(8);
                for n_align in [1, 2, 8] {
                    for raster in [8, 16] {
                        for split in [false, true] {
                            list.push(GemmConfig::Wgmma(WgmmaConfig {
                                bm,
                                bn,
                                bk: 64,
                                stages,
                                math_wgs,
                                schedule,
                                cluster,
                                raster,
                                n_align,
                                split,
                            }));
                        }
                    }
                }
            }
        }
    }
}

fn mma_space(arch: Arch, list: &mut Vec<GemmConfig>) {
    let smem = arch.caps().max_smem_bytes;
    for (bm, bn, warps_m, warps_n) in [
        (16, 64, 1, 4),
        (32, 64, 1, 4),
        (64, 64, 2, 2),
        (64, 128, 2, 2),
        (128, 64, 2, 2),
        (128, 128, 2, 4),
        (128, 256, 2, 4),
        (256, 128, 4, 2),
    ] {
        for bk in [32, 64] {
            let stages = (smem / ((bm + bn) * bk * 2)).min(4);
            for load_align in [1, 2, 4, 8] {
                for n_align in [1, 2] {
                    for split in [false, true] {
                        list.push(GemmConfig::Mma(MmaConfig {
                            bm,
                            bn,
                            bk,
                            stages,
                            warps_m,
                            warps_n,
                            raster: 8,
                            load_align,
                            n_align,
                            split,
                        }));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_refusals_say_why() {
        let p = GemmProblem::plain(DType::BF16);
        let all = space(Arch::Sm90a, &p);
        assert!(all.len() > 1000, "{}", all.len());
        for c in &all {
            assert_eq!(c.to_string().parse::<GemmConfig>().as_ref(), Ok(c));
        }
        let GemmConfig::Wgmma(c) = all.iter().find(|c| matches!(c, GemmConfig::Wgmma(_))).copied().unwrap() else { panic!() };
        let bad = GemmConfig::Wgmma(WgmmaConfig { bm: 96, math_wgs: 2, schedule: Schedule::Cooperative, ..c });
        assert!(bad.check(&p).unwrap_err().to_string().contains("48 rows a warpgroup"));
        assert!("kind=wgmma,bm=128".parse::<GemmConfig>().unwrap_err().to_string().contains("axis `bn` is missing"));
    }
}
