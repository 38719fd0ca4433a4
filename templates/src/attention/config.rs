//! The config space of attention, and why a point is illegal.

use super::problem::AttentionProblem;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Shared memory a CTA of Hopper may have, bytes.
const SMEM_BYTES: u32 = 227 * 1024;

/// The Hopper forward kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WgmmaAttentionConfig {
    /// Queries of a tile, 64 a warpgroup.
    pub bm: u32,
    /// Keys of a block.
    pub bn: u32,
    /// Warpgroups that multiply.
    pub warpgroups: u32,
    /// Depth of the rings of K and V.
    pub stages: u32,
    /// Multiply the next scores under this softmax.
    pub overlap: bool,
    /// Warpgroups take turns at the tensor cores.
    pub ping_pong: bool,
    /// As many CTAs as fit walk all tiles; else one CTA a tile.
    pub persistent: bool,
    /// Sixteenths of the exponentials done on the FMA pipe.
    pub exp_fma: u32,
}

/// A config that is illegal, with the reason; or a text that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttentionConfigError {
    /// An axis outside its range.
    #[error("{axis} = {value}: {rule}")]
    Axis {
        /// The axis.
        axis: &'static str,
        /// Its value.
        value: u32,
        /// What is wrong.
        rule: String,
    },
    /// Too much shared memory.
    #[error("{need} bytes of shared memory, a CTA has {have}: fewer stages or smaller tiles")]
    Smem {
        /// Needed.
        need: u32,
        /// Available.
        have: u32,
    },
    /// Too many registers.
    #[error("about {need} registers a thread, a warpgroup has {have}: fewer keys in a block, or more warpgroups")]
    Registers {
        /// Needed.
        need: u32,
        /// Available.
        have: u32,
    },
    /// A text that is no config.
    #[error("config `{text}`: {why}")]
    Text {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

impl WgmmaAttentionConfig {
    /// Registers a thread of the producer and of the math warpgroups. A producer that finds its tiles by division, or its
    /// blocks in lists, needs more than the 24 of one that is told by the grid.
    pub fn registers(&self, p: &AttentionProblem) -> (u32, u32) {
        match (self.warpgroups, self.persistent || p.sparse.is_some()) {
            (1, _) => (56, 240),
            (2, false) => (24, 240),
            (2, true) => (32, 232),
            _ => (32, 160),
        }
    }

    /// Checks the config for a class.
    pub fn check(&self, p: &AttentionProblem) -> Result<(), AttentionConfigError> {
        let axis = |axis, value, rule: &str| Err(AttentionConfigError::Axis { axis, value, rule: rule.to_string() });
        if !(1..=3).contains(&self.warpgroups) || self.bm != 64 * self.warpgroups {
            return axis("bm", self.bm, "64 queries for each of 1 to 3 warpgroups");
        }
        if !self.bn.is_multiple_of(16) || !(16..=256).contains(&self.bn) {
            return axis("bn", self.bn, "16 to 256 in steps of 16");
        }
        if !(1..=8).contains(&self.stages) {
            return axis("stages", self.stages, "1 to 8");
        }
        if self.overlap && self.stages < 2 {
            return axis("stages", self.stages, "overlap holds two blocks at once: at least 2");
        }
        if self.ping_pong && self.warpgroups != 2 {
            return axis("wgs", self.warpgroups, "ping-pong is for 2 warpgroups");
        }
        if self.exp_fma > 16 {
            return axis("exp_fma", self.exp_fma, "sixteenths: 0 to 16");
        }
        let need = p.dtype.bytes() * (self.bm * p.d + self.stages * self.bn * (p.d + p.dv)) + 1024;
        if need > SMEM_BYTES {
            return Err(AttentionConfigError::Smem { need, have: SMEM_BYTES });
        }
        // Scores in f32, the last P in 16 bits beside them when overlapped, the output; and some for addresses and rows.
        let (_, have) = self.registers(p);
        let need = self.bn / 2 + if self.overlap { self.bn / 4 } else { 0 } + p.dv / 2 + 24;
        if need > have {
            return Err(AttentionConfigError::Registers { need, have });
        }
        Ok(())
    }

    /// Name and value of every axis, sorted by name.
    pub fn axes(&self) -> Vec<(&'static str, String)> {
        let flag = |b: bool| u8::from(b).to_string();
        vec![
            ("bm", self.bm.to_string()),
            ("bn", self.bn.to_string()),
            ("exp_fma", self.exp_fma.to_string()),
            ("kind", "wgmma".to_string()),
            ("overlap", flag(self.overlap)),
            ("persistent", flag(self.persistent)),
            ("pingpong", flag(self.ping_pong)),
            ("stages", self.stages.to_string()),
            ("wgs", self.warpgroups.to_string()),
        ]
    }

    /// A short name for entries and files: `wgmma_128x176_s2_w2_ov_pp_ps_e0`.
    pub fn slug(&self) -> String {
        let flags = [(self.overlap, "_ov"), (self.ping_pong, "_pp"), (self.persistent, "_ps")];
        let flags: String = flags.iter().filter(|f| f.0).map(|f| f.1).collect();
        format!("wgmma_{}x{}_s{}_w{}{flags}_e{}", self.bm, self.bn, self.stages, self.warpgroups, self.exp_fma)
    }
}

impl fmt::Display for WgmmaAttentionConfig {
    /// The config's id: `bm=128,bn=176,...`, axes sorted by name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes: Vec<String> = self.axes().into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        f.write_str(&axes.join(","))
    }
}

/// The axes of a config's text, each taken once.
pub(super) struct AxisReader<'t> {
    text: &'t str,
    fields: BTreeMap<&'t str, &'t str>,
}

impl<'t> AxisReader<'t> {
    /// Splits `name=value,...`.
    pub fn new(text: &'t str) -> Result<Self, AttentionConfigError> {
        let mut reader = AxisReader { text, fields: BTreeMap::new() };
        for part in text.split(',') {
            let (k, v) = part.split_once('=').ok_or_else(|| reader.error(format!("`{part}` is not axis=value")))?;
            if reader.fields.insert(k.trim(), v.trim()).is_some() {
                return Err(reader.error(format!("axis `{k}` stands twice")));
            }
        }
        Ok(reader)
    }

    /// An axis as text.
    pub fn word(&mut self, axis: &str) -> Result<&'t str, AttentionConfigError> {
        self.fields.remove(axis).ok_or_else(|| self.error(format!("axis `{axis}` is missing")))
    }

    /// Takes the axis `kind`, which must be `want`.
    pub fn kind(&mut self, want: &str) -> Result<(), AttentionConfigError> {
        match self.word("kind")? {
            kind if kind == want => Ok(()),
            kind => Err(self.error(format!("kind = `{kind}`: expected {want}"))),
        }
    }

    /// An axis as a number.
    pub fn number(&mut self, axis: &str) -> Result<u32, AttentionConfigError> {
        let v = self.word(axis)?;
        v.parse().map_err(|_| self.error(format!("{axis} = `{v}` is not a number")))
    }

    /// An axis that is 0 or 1.
    pub fn flag(&mut self, axis: &str) -> Result<bool, AttentionConfigError> {
        match self.number(axis)? {
            0 => Ok(false),
            1 => Ok(true),
            n => Err(self.error(format!("{axis} = {n}: 0 or 1"))),
        }
    }

    /// Refuses axes nobody asked for.
    pub fn end(self) -> Result<(), AttentionConfigError> {
        match self.fields.keys().next() {
            Some(k) => Err(self.error(format!("unknown axis `{k}`"))),
            None => Ok(()),
        }
    }

    fn error(&self, why: String) -> AttentionConfigError {
        AttentionConfigError::Text { text: self.text.to_string(), why }
    }
}

impl FromStr for WgmmaAttentionConfig {
    type Err = AttentionConfigError;

    /// Reads an id; axes in any order, each exactly once.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut a = AxisReader::new(text)?;
        a.kind("wgmma")?;
        let config = WgmmaAttentionConfig {
            bm: a.number("bm")?,
            bn: a.number("bn")?,
            warpgroups: a.number("wgs")?,
            stages: a.number("stages")?,
            overlap: a.flag("overlap")?,
            ping_pong: a.flag("pingpong")?,
            persistent: a.flag("persistent")?,
            exp_fma: a.number("exp_fma")?,
        };
        a.end()?;
        Ok(config)
    }
}
