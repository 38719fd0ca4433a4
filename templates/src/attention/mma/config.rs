//! The config space of the mma.sync kernels, and why a point is illegal.

use crate::attention::config::{AttentionConfigError, AxisReader};
use std::fmt;
use std::str::FromStr;
use tilewright_ir::{Arch, DType};

/// The Ampere forward kernel and paged decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MmaAttentionConfig {
    /// Rows of a tile: queries, in decode (query, head of a group) pairs. 16 or 32 a warp.
    pub bm: u32,
    /// Keys of a block.
    pub bn: u32,
    /// Depth of the rings of K and V.
    pub stages: u32,
    /// Warps; rows are divided among them.
    pub warps: u32,
}

impl MmaAttentionConfig {
    /// True if Q stays in registers; else its fragments are read again for every block.
    pub(super) fn holds_q(&self, d: u32) -> bool {
        self.row_tiles() == 1 && d <= 128
    }

    /// 16-row tiles of a warp.
    fn row_tiles(&self) -> u32 {
        self.bm / (16 * self.warps.max(1))
    }

    /// Shared memory, bytes.
    fn smem_bytes(&self, dtype: DType, d: u32, dv: u32) -> u32 {
        dtype.bytes() * (self.bm * d + self.stages * self.bn * (d + dv))
    }

    /// Registers a thread, about: scores, the output, Q; fragments of one step; row numbers of the next copies; addresses.
    fn registers(&self, d: u32, dv: u32) -> u32 {
        let q = if self.holds_q(d) { self.row_tiles() * d / 4 } else { 4 * self.row_tiles() };
        let rows = self.bn * d / (256 * self.warps);
        self.row_tiles() * (self.bn / 2 + dv / 2) + q + dv.max(self.bn) / 8 + rows + 40
    }

    /// Checks the config for head dims on a target.
    pub fn check(&self, arch: Arch, dtype: DType, d: u32, dv: u32) -> Result<(), AttentionConfigError> {
        let axis = |axis, value, rule: String| Err(AttentionConfigError::Axis { axis, value, rule });
        if !matches!(self.warps, 1 | 2 | 4 | 8) {
            return axis("warps", self.warps, "1, 2, 4 or 8".into());
        }
        if self.bm != 16 * self.warps && self.bm != 32 * self.warps {
            return axis("bm", self.bm, format!("16 or 32 rows for each of {} warps", self.warps));
        }
        if !self.bn.is_multiple_of(16) || !(16..=256).contains(&self.bn) {
            return axis("bn", self.bn, "16 to 256 in steps of 16".into());
        }
        if !(1..=8).contains(&self.stages) {
            return axis("stages", self.stages, "1 to 8".into());
        }
        // Each thread copies whole 16-byte pieces of the tiles.
        for (name, rows) in [("bm", self.bm), ("bn", self.bn)] {
            for cols in [d, dv] {
                if !(rows * cols / 8).is_multiple_of(32 * self.warps) {
                    let rule = format!("{} threads do not share a tile of {rows}x{cols} evenly", 32 * self.warps);
                    return axis(name, rows, rule);
                }
            }
        }
        let (need, have) = (self.smem_bytes(dtype, d, dv), arch.caps().max_smem_bytes);
        if need > have {
            return Err(AttentionConfigError::Smem { need, have });
        }
        let (need, have) = (self.registers(d, dv), 255.min(arch.caps().registers_per_sm / (32 * self.warps)));
        if need > have {
            return Err(AttentionConfigError::Registers { need, have });
        }
        Ok(())
    }

    /// Name and value of every axis, sorted by name.
    pub fn axes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("bm", self.bm.to_string()),
            ("bn", self.bn.to_string()),
            ("kind", "mma".to_string()),
            ("stages", self.stages.to_string()),
            ("warps", self.warps.to_string()),
        ]
    }

    /// A short name for entries and files: `mma_64x64_s2_w4`.
    pub fn slug(&self) -> String {
        format!("mma_{}x{}_s{}_w{}", self.bm, self.bn, self.stages, self.warps)
    }
}

impl fmt::Display for MmaAttentionConfig {
    /// The config's id: `bm=64,bn=64,...`, axes sorted by name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes: Vec<String> = self.axes().into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        f.write_str(&axes.join(","))
    }
}

impl FromStr for MmaAttentionConfig {
    type Err = AttentionConfigError;

    /// Reads an id; axes in any order, each exactly once.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut a = AxisReader::new(text)?;
        let kind = a.word("kind")?;
        if kind != "mma" {
            return Err(AttentionConfigError::Text { text: text.into(), why: format!("kind = `{kind}`: expected mma") });
        }
        let config = MmaAttentionConfig {
            bm: a.number("bm")?,
            bn: a.number("bn")?,
            stages: a.number("stages")?,
            warps: a.number("warps")?,
        };
        a.end()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: MmaAttentionConfig = MmaAttentionConfig { bm: 64, bn: 64, stages: 2, warps: 4 };

    #[test]
    fn ids_read_back() {
        assert_eq!(GOOD.to_string(), "bm=64,bn=64,kind=mma,stages=2,warps=4");
        assert_eq!(GOOD.to_string().parse(), Ok(GOOD));
        assert_eq!("warps=4,kind=mma,stages=2,bn=64,bm=64".parse(), Ok(GOOD));
        assert_eq!(GOOD.slug(), "mma_64x64_s2_w4");
        for bad in ["", "bm=64", "bm=64,bn=64,kind=wgmma,stages=2,warps=4", "bm=x,bn=64,kind=mma,stages=2,warps=4"] {
            assert!(bad.parse::<MmaAttentionConfig>().is_err(), "{bad}");
        }
        assert!(format!("{GOOD},bk=64").parse::<MmaAttentionConfig>().is_err());
    }

    #[test]
    fn refusals_name_the_reason() {
        for d in crate::attention::HEAD_DIMS {
            MmaAttentionConfig { bn: 32, ..GOOD }.check(Arch::Sm80, DType::BF16, d, d).unwrap();
        }
        for (c, d, words) in [
            (MmaAttentionConfig { warps: 3, ..GOOD }, 64, "warps = 3: 1, 2, 4 or 8"),
            (MmaAttentionConfig { bm: 96, ..GOOD }, 64, "bm = 96: 16 or 32 rows for each of 4 warps"),
            (MmaAttentionConfig { bn: 40, ..GOOD }, 64, "bn = 40: 16 to 256 in steps of 16"),
            (MmaAttentionConfig { stages: 0, ..GOOD }, 64, "stages = 0: 1 to 8"),
            (MmaAttentionConfig { bm: 128, bn: 16, stages: 2, warps: 8 }, 96, "bn = 16: 256 threads do not share"),
            (MmaAttentionConfig { stages: 4, ..GOOD }, 256, "294912 bytes of shared memory, a CTA has 166912"),
            (MmaAttentionConfig { bm: 128, ..GOOD }, 128, "about 264 registers a thread"),
        ] {
            let error = c.check(Arch::Sm80, DType::BF16, d, d).expect_err(words).to_string();
            assert!(error.contains(words), "`{words}` is not in: {error}");
        }
    }
}
