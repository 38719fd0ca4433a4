//! The forward's and decode's kernels: which there are, and one of them made.

use super::config::{AttentionConfigError, WgmmaAttentionConfig};
use super::decode_problem::DecodeProblem;
use super::mma::{self, MmaAttentionConfig};
use super::plan::AttentionError;
use super::problem::AttentionProblem;
use super::score::Mods;
use super::wgmma::{self, WgmmaDecodeConfig};
use crate::plan::TemplateKernel;
use std::fmt;
use std::str::FromStr;
use tilewright_ir::Arch;
use tilewright_ir::tile::KernelBuilder;

/// The family's name in manifests.
const TEMPLATE: &str = "attention";

/// How a forward is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttentionConfig {
    /// Hopper: TMA, warp roles, wgmma.
    Wgmma(WgmmaAttentionConfig),
    /// Ampere and up: cp.async, mma.sync.
    Mma(MmaAttentionConfig),
}

impl AttentionConfig {
    /// Checks the config for a class on a target.
    pub fn check(&self, arch: Arch, p: &AttentionProblem) -> Result<(), AttentionConfigError> {
        match self {
            AttentionConfig::Wgmma(c) => c.check(p),
            AttentionConfig::Mma(c) => c.check(arch, p.dtype, p.d, p.dv),
        }
    }

    /// Queries and keys of a tile.
    pub fn tile(&self) -> [u32; 2] {
        match self {
            AttentionConfig::Wgmma(c) => [c.bm, c.bn],
            AttentionConfig::Mma(c) => [c.bm, c.bn],
        }
    }

    /// Name and value of every axis, sorted by name.
    pub fn axes(&self) -> Vec<(&'static str, String)> {
        match self {
            AttentionConfig::Wgmma(c) => c.axes(),
            AttentionConfig::Mma(c) => c.axes(),
        }
    }

    /// A short name for entries and files.
    pub fn slug(&self) -> String {
        match self {
            AttentionConfig::Wgmma(c) => c.slug(),
            AttentionConfig::Mma(c) => c.slug(),
        }
    }
}

impl fmt::Display for AttentionConfig {
    /// The config's id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttentionConfig::Wgmma(c) => c.fmt(f),
            AttentionConfig::Mma(c) => c.fmt(f),
        }
    }
}

impl FromStr for AttentionConfig {
    type Err = AttentionConfigError;

    /// Reads an id; `kind` says whose.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if is_mma(text) { AttentionConfig::Mma(text.parse()?) } else { AttentionConfig::Wgmma(text.parse()?) })
    }
}

/// How a decode is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DecodeConfig {
    /// Hopper: pages by TMA, wgmma.
    Wgmma(WgmmaDecodeConfig),
    /// Ampere and up: pages gathered by cp.async, mma.sync.
    Mma(MmaAttentionConfig),
}

impl DecodeConfig {
    /// Checks the config for a class on a target.
    pub fn check(&self, arch: Arch, p: &DecodeProblem) -> Result<(), AttentionConfigError> {
        match self {
            DecodeConfig::Wgmma(c) => c.check(p),
            DecodeConfig::Mma(c) => c.check(arch, p.dtype, p.d, p.dv),
        }
    }

    /// Name and value of every axis, sorted by name.
    pub fn axes(&self) -> Vec<(&'static str, String)> {
        match self {
            DecodeConfig::Wgmma(c) => c.axes(),
            DecodeConfig::Mma(c) => c.axes(),
        }
    }

    /// A short name for entries and files.
    pub fn slug(&self) -> String {
        match self {
            DecodeConfig::Wgmma(c) => c.slug(),
            DecodeConfig::Mma(c) => c.slug(),
        }
    }
}

impl fmt::Display for DecodeConfig {
    /// The config's id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeConfig::Wgmma(c) => c.fmt(f),
            DecodeConfig::Mma(c) => c.fmt(f),
        }
    }
}

impl FromStr for DecodeConfig {
    type Err = AttentionConfigError;

    /// Reads an id; `kind` says whose.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if is_mma(text) { DecodeConfig::Mma(text.parse()?) } else { DecodeConfig::Wgmma(text.parse()?) })
    }
}

fn is_mma(text: &str) -> bool {
    text.split(',').any(|axis| axis.trim() == "kind=mma")
}

/// The forward kernel of a class and a config.
pub fn forward_kernel(arch: Arch, p: &AttentionProblem, c: &AttentionConfig) -> Result<TemplateKernel, AttentionError> {
    p.check()?;
    c.check(arch, p)?;
    let id = format!("attention_{}_{}", p.slug(), c.slug());
    let mut k = KernelBuilder::new(&id, arch);
    match c {
        AttentionConfig::Wgmma(_) if !arch.is_hopper() => {
            return Err(AttentionError::Target { config: c.to_string(), arch });
        }
        AttentionConfig::Wgmma(c) => wgmma::forward(&mut k, p, c, &Mods::default())?,
        AttentionConfig::Mma(c) => mma::forward(&mut k, p, c, &Mods::default())?,
    }
    let (main_loop_wgmmas, hides_exponentials) = match c {
        // Scores over d, P V over the block's keys, in steps of 16.
        AttentionConfig::Wgmma(c) => (Some((p.d + c.bn) / 16), c.overlap),
        AttentionConfig::Mma(_) => (None, false),
    };
    Ok(TemplateKernel { main_loop_wgmmas, hides_exponentials, ..kernel(id, c.axes(), "blocks.seq", k) })
}

/// The decode kernel of a class and a config.
pub fn decode_kernel(arch: Arch, p: &DecodeProblem, c: &DecodeConfig) -> Result<TemplateKernel, AttentionError> {
    p.check()?;
    c.check(arch, p)?;
    let id = format!("attention_decode_{}_{}", p.slug(), c.slug());
    let mut k = KernelBuilder::new(&id, arch);
    match c {
        DecodeConfig::Wgmma(_) if !arch.is_hopper() => {
            return Err(AttentionError::Target { config: c.to_string(), arch });
        }
        DecodeConfig::Wgmma(c) => wgmma::decode(&mut k, p, c, &Mods::default())?,
        DecodeConfig::Mma(c) => mma::decode(&mut k, p, c, &Mods::default())?,
    }
    let main_loop_wgmmas = match c {
        DecodeConfig::Wgmma(c) => Some((p.d + c.bn) / 16),
        DecodeConfig::Mma(_) => None,
    };
    Ok(TemplateKernel { main_loop_wgmmas, ..kernel(id, c.axes(), "blocks.seq", k) })
}

/// A kernel with what the manifest says of it.
pub(super) fn kernel(id: String, axes: Vec<(&str, String)>, order: &str, k: KernelBuilder) -> TemplateKernel {
    TemplateKernel::plain(id, TEMPLATE, axes, order, k)
}
