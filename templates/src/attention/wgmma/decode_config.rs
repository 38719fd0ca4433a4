//! The config space of the Hopper decode, and why a point is illegal.

use crate::attention::config::{AttentionConfigError, AxisReader};
use crate::attention::decode_problem::{DecodeProblem, Select};
use std::fmt;
use std::str::FromStr;

/// Shared memory of an SM that CTAs may have between them, bytes: 1 KiB of the 228 is the system's for each CTA.
const SMEM_BYTES: u32 = 228 * 1024;

/// The Hopper paged decode: 64 rows of (token, head) a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WgmmaDecodeConfig {
    /// Keys of a block.
    pub bn: u32,
    /// Depth of the rings of K and V.
    pub stages: u32,
    /// Tokens one copy brings; divides the page.
    pub box_rows: u32,
    /// CTAs that share an SM.
    pub ctas: u32,
}

impl WgmmaDecodeConfig {
    /// Registers a thread of the producer and of the math warpgroup.
    pub fn registers(&self) -> (u32, u32) {
        if self.ctas == 1 { (56, 240) } else { (56, 200) }
    }

    /// Checks the config for a class.
    pub fn check(&self, p: &DecodeProblem) -> Result<(), AttentionConfigError> {
        let axis = |axis, value, rule: &str| Err(AttentionConfigError::Axis { axis, value, rule: rule.to_string() });
        if p.select != Select::None {
            return Err(AttentionConfigError::Text { text: self.to_string(), why: "pages selected are for kind=mma".into() });
        }
        if !self.bn.is_multiple_of(16) || !(16..=256).contains(&self.bn) {
            return axis("bn", self.bn, "16 to 256 in steps of 16");
        }
        if !self.box_rows.is_multiple_of(8) || self.box_rows == 0 || !self.bn.is_multiple_of(self.box_rows) {
            return axis("box", self.box_rows, "a multiple of 8 that divides bn");
        }
        if !(1..=8).contains(&self.stages) {
            return axis("stages", self.stages, "1 to 8");
        }
        if !(1..=2).contains(&self.ctas) {
            return axis("ctas", self.ctas, "1 or 2: more have too few registers");
        }
        let need = self.ctas * (p.dtype.bytes() * self.stages * self.bn * (p.d + p.dv) + 2048);
        if need > SMEM_BYTES {
            return Err(AttentionConfigError::Smem { need, have: SMEM_BYTES });
        }
        let (_, have) = self.registers();
        let need = p.d / 4 + self.bn / 2 + p.dv / 2 + 32;
        if need > have {
            return Err(AttentionConfigError::Registers { need, have });
        }
        Ok(())
    }

    /// Name and value of every axis, sorted by name.
    pub fn axes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("bn", self.bn.to_string()),
            ("box", self.box_rows.to_string()),
            ("ctas", self.ctas.to_string()),
            ("kind", "wgmma".to_string()),
            ("stages", self.stages.to_string()),
        ]
    }

    /// A short name for entries and files: `wgmma_64_s3_b16_c2`.
    pub fn slug(&self) -> String {
        format!("wgmma_{}_s{}_b{}_c{}", self.bn, self.stages, self.box_rows, self.ctas)
    }
}

impl fmt::Display for WgmmaDecodeConfig {
    /// The config's id: axes sorted by name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes: Vec<String> = self.axes().into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        f.write_str(&axes.join(","))
    }
}

impl FromStr for WgmmaDecodeConfig {
    type Err = AttentionConfigError;

    /// Reads an id; axes in any order, each exactly once.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut a = AxisReader::new(text)?;
        a.kind("wgmma")?;
        let config = WgmmaDecodeConfig {
            bn: a.number("bn")?,
            stages: a.number("stages")?,
            box_rows: a.number("box")?,
            ctas: a.number("ctas")?,
        };
        a.end()?;
        Ok(config)
    }
}
