//! Tiles of the core, and why a point is illegal.

use super::class::{CoreError, vec_of};
use std::fmt;
use std::str::FromStr;
use tilewright_ir::layout::blocked;
use tilewright_ir::{Arch, DType};

/// cp.async and mma.sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MmaConfig {
    /// Rows of a CTA's tile.
    pub bm: u32,
    /// Columns of a CTA's tile.
    pub bn: u32,
    /// Channels of a stage.
    pub bk: u32,
    /// Stages of the ring.
    pub stages: u32,
    /// Warps along rows.
    pub warps_m: u32,
    /// Warps along columns.
    pub warps_n: u32,
}

/// cp.async and wgmma.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WgmmaConfig {
    /// Rows of a CTA's tile: 64 for each warpgroup that multiplies.
    pub bm: u32,
    /// Columns of a CTA's tile.
    pub bn: u32,
    /// Channels of a stage.
    pub bk: u32,
    /// Stages of the ring.
    pub stages: u32,
}

/// A point of the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoreConfig {
    /// cp.async and mma.sync.
    Mma(MmaConfig),
    /// cp.async and wgmma, on Hopper.
    Wgmma(WgmmaConfig),
}

/// Shared memory of a CTA that every target has (sm86 and sm89; CUDA C++ Programming Guide, compute capabilities).
const SMEM_BYTES: u32 = 99 * 1024;
/// Shared memory of a CTA on Hopper, less what barriers take.
const HOPPER_SMEM_BYTES: u32 = 226 * 1024;

impl MmaConfig {
    /// A tile `[bm, bn, bk]` over warps that are as near to a square of the tile as they get: eight for tiles of 128 x 128, else
    /// four, fewer where a stage's rows are too few copies for them.
    pub fn new([bm, bn, bk]: [u32; 3], stages: u32) -> Self {
        let most = if bm * bn >= 128 * 128 { 8 } else { 4 };
        let grids = [[4, 2], [2, 2], [4, 1], [2, 1], [1, 2], [1, 1]];
        let fits = |[wm, wn]: &[u32; 2]| {
            wm * wn <= most && bm.is_multiple_of(16 * wm) && bn.is_multiple_of(16 * wn) && bm * bk / 8 >= 32 * wm * wn
        };
        // Where columns are few, warps share them.
        let mut grids: Vec<[u32; 2]> = grids.into_iter().filter(fits).collect();
        grids.sort_by_key(|[wm, wn]| (std::cmp::Reverse(wm * wn), (bm / wm).abs_diff(bn / wn)));
        let [warps_m, warps_n] = grids.first().copied().unwrap_or([1, 1]);
        MmaConfig { bm, bn, bk, stages, warps_m, warps_n }
    }

    /// Bytes of the ring.
    pub fn smem_bytes(&self, dtype: DType) -> u32 {
        (self.bm + self.bn) * self.bk * dtype.bytes() * self.stages
    }

    fn why_illegal(&self, dtype: DType) -> Option<String> {
        let (wm, wn, vec) = (self.warps_m, self.warps_n, vec_of(dtype));
        let threads = 32 * wm * wn;
        let columns = if dtype == DType::F32 { 8 } else { 16 };
        let rules = [
            (wm == 0 || wn == 0 || wm * wn > 16, format!("{wm} x {wn} warps: 1 to 16")),
            (
                wm > 0 && !self.bm.is_multiple_of(16 * wm),
                format!("bm = {} is not a multiple of 16 rows for each of {wm} warps", self.bm),
            ),
            (
                wn > 0 && (self.bn == 0 || !self.bn.is_multiple_of(8 * wn) || !self.bn.is_multiple_of(columns)),
                format!("bn = {} is not a multiple of {columns}, and of 8 for each of {wn} warps", self.bn),
            ),
            (
                ![32, 64, 128].contains(&(self.bk * dtype.bytes())),
                format!("bk = {}: rows of a stage are 32, 64 or 128 bytes", self.bk),
            ),
            (!(2..=8).contains(&self.stages), format!("{} stages: 2 to 8", self.stages)),
            (
                threads > 0 && self.bm > 0 && blocked(threads, [self.bm, self.bk], vec).is_err(),
                format!(
                    "{} rows of bk = {} are no whole number of 16-byte copies for each of {threads} threads",
                    self.bm, self.bk
                ),
            ),
            (
                threads > 0 && self.bm * self.bn / threads.max(1) > 128,
                format!("{} sums a thread: at most 128 leave registers for operands", self.bm * self.bn / threads.max(1)),
            ),
            (
                self.smem_bytes(dtype) > SMEM_BYTES,
                format!("{} bytes of shared memory: at most {SMEM_BYTES}", self.smem_bytes(dtype)),
            ),
        ];
        rules.into_iter().find(|(broken, _)| *broken).map(|(_, why)| why)
    }
}

impl WgmmaConfig {
    /// Bytes of the ring.
    pub fn smem_bytes(&self, dtype: DType) -> u32 {
        (self.bm + self.bn) * self.bk * dtype.bytes() * self.stages
    }

    fn why_illegal(&self, dtype: DType) -> Option<String> {
        let rules = [
            (dtype.bytes() != 2, format!("wgmma multiplies rows of f16 and bf16, {dtype} is multiplied by mma configs")),
            (![64, 128].contains(&self.bm), format!("bm = {}: 64 rows for each of one or two warpgroups", self.bm)),
            (
                !self.bn.is_multiple_of(16) || !(16..=256).contains(&self.bn),
                format!("bn = {}: a multiple of 16 up to 256", self.bn),
            ),
            (![16, 32, 64].contains(&self.bk), format!("bk = {}: rows of a stage are 16, 32 or 64 channels", self.bk)),
            (!(3..=8).contains(&self.stages), format!("{} stages: 3 to 8", self.stages)),
            (
                self.smem_bytes(dtype) > HOPPER_SMEM_BYTES,
                format!("{} bytes of shared memory: at most {HOPPER_SMEM_BYTES}", self.smem_bytes(dtype)),
            ),
        ];
        rules.into_iter().find(|(broken, _)| *broken).map(|(_, why)| why)
    }
}

impl CoreConfig {
    /// Rows and columns of a tile.
    pub fn tile(&self) -> [u32; 2] {
        match self {
            CoreConfig::Mma(c) => [c.bm, c.bn],
            CoreConfig::Wgmma(c) => [c.bm, c.bn],
        }
    }

    /// Checks the constraints that do not need the compiler.
    pub fn check(&self, arch: Arch, dtype: DType) -> Result<(), CoreError> {
        let why = match self {
            CoreConfig::Mma(c) => c.why_illegal(dtype),
            CoreConfig::Wgmma(_) if !arch.is_hopper() => return Err(CoreError::Target { config: self.to_string(), arch }),
            CoreConfig::Wgmma(c) => c.why_illegal(dtype),
        };
        why.map_or(Ok(()), |why| Err(CoreError::Config { id: self.to_string(), why }))
    }

    /// Name and value of every axis.
    pub fn axes(&self) -> Vec<(&'static str, String)> {
        let axes = |kind: &str, sizes: [u32; 4]| {
            let [bm, bn, bk, stages] = sizes.map(|v| v.to_string());
            vec![("kind", kind.to_string()), ("bm", bm), ("bn", bn), ("bk", bk), ("stages", stages)]
        };
        match self {
            CoreConfig::Mma(c) => {
                let mut list = axes("mma", [c.bm, c.bn, c.bk, c.stages]);
                list.push(("warps", format!("{}x{}", c.warps_m, c.warps_n)));
                list
            }
            CoreConfig::Wgmma(c) => axes("wgmma", [c.bm, c.bn, c.bk, c.stages]),
        }
    }
}

/// `mma_64x64x32_s4_w2x2`, `wgmma_128x64x64_s4`.
impl fmt::Display for CoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoreConfig::Mma(c) => {
                write!(f, "mma_{}x{}x{}_s{}_w{}x{}", c.bm, c.bn, c.bk, c.stages, c.warps_m, c.warps_n)
            }
            CoreConfig::Wgmma(c) => write!(f, "wgmma_{}x{}x{}_s{}", c.bm, c.bn, c.bk, c.stages),
        }
    }
}

impl FromStr for CoreConfig {
    type Err = CoreError;

    fn from_str(text: &str) -> Result<Self, CoreError> {
        let read = || {
            let parts: Vec<&str> = text.split('_').collect();
            let sizes = |part: &str| part.split('x').map(|n| n.parse().ok()).collect::<Option<Vec<u32>>>();
            let (kind, rest) = parts.split_first()?;
            let [bm, bn, bk] = sizes(rest.first()?)?[..] else { return None };
            let stages = rest.get(1)?.strip_prefix('s')?.parse().ok()?;
            match (*kind, rest.get(2..)?) {
                ("mma", [warps]) => {
                    let [warps_m, warps_n] = sizes(warps.strip_prefix('w')?)?[..] else { return None };
                    Some(CoreConfig::Mma(MmaConfig { bm, bn, bk, stages, warps_m, warps_n }))
                }
                ("wgmma", []) => Some(CoreConfig::Wgmma(WgmmaConfig { bm, bn, bk, stages })),
                _ => None,
            }
        };
        let why = "expected mma_BMxBNxBK_sSTAGES_wMxN or wgmma_BMxBNxBK_sSTAGES";
        read().ok_or_else(|| CoreError::Text { text: text.into(), why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back() {
        for text in ["mma_64x96x32_s3_w2x2", "wgmma_128x64x64_s4"] {
            assert_eq!(text.parse::<CoreConfig>().unwrap().to_string(), text);
        }
        for text in ["mma_64x96x32_s3", "wgmma_128x64_s4", "mma_64x96x32_s3_w2x2_x", "", "mma_64x96xq_s3_w2x2"] {
            assert!(text.parse::<CoreConfig>().is_err(), "{text}");
        }
    }

    #[test]
    fn common_tiles_are_legal_and_others_say_why() {
        for bm in [16, 32, 64, 128] {
            for bn in [16, 32, 64, 96, 128] {
                for bk in [16, 32, 64] {
                    for dtype in [DType::BF16, DType::F32] {
                        let bk = bk * 2 / dtype.bytes();
                        let c = CoreConfig::Mma(MmaConfig::new([bm, bn, bk], 3));
                        assert_eq!(c.check(Arch::Sm80, dtype), Ok(()), "{c}");
                    }
                }
            }
        }
        let bad = MmaConfig { bk: 24, ..MmaConfig::new([64, 64, 32], 3) };
        let why = CoreConfig::Mma(bad).check(Arch::Sm80, DType::F16).unwrap_err().to_string();
        assert!(why.contains("bk = 24"), "{why}");
        let wgmma = CoreConfig::Wgmma(WgmmaConfig { bm: 128, bn: 64, bk: 64, stages: 4 });
        assert!(matches!(wgmma.check(Arch::Sm80, DType::F16), Err(CoreError::Target { .. })));
    }
}
