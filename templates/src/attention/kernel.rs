//! The forward's kernels: which there are, and one of them made.

use super::config::{AttentionConfigError, WgmmaAttentionConfig};
use super::plan::AttentionError;
use super::problem::AttentionProblem;
use super::score::Mods;
use super::wgmma;
use crate::plan::TemplateKernel;
use std::fmt;
use std::str::FromStr;
use tilewright_ir::Arch;
use tilewright_ir::tile::KernelBuilder;
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::manifest::Numerics;

/// The family's name in manifests.
pub(super) const TEMPLATE: &str = "attention";

/// How a forward is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttentionConfig {
    /// Hopper: TMA, warp roles, wgmma.
    Wgmma(WgmmaAttentionConfig),
}

impl AttentionConfig {
    /// Checks the config for a class.
    pub fn check(&self, p: &AttentionProblem) -> Result<(), AttentionConfigError> {
        match self {
            AttentionConfig::Wgmma(c) => c.check(p),
        }
    }

    /// Queries and keys of a tile.
    pub fn tile(&self) -> [u32; 2] {
        match self {
            AttentionConfig::Wgmma(c) => [c.bm, c.bn],
        }
    }

    /// Name and value of every axis, sorted by name.
    pub fn axes(&self) -> Vec<(&'static str, String)> {
        match self {
            AttentionConfig::Wgmma(c) => c.axes(),
        }
    }

    /// A short name for entries and files.
    pub fn slug(&self) -> String {
        match self {
            AttentionConfig::Wgmma(c) => c.slug(),
        }
    }
}

impl fmt::Display for AttentionConfig {
    /// The config's id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttentionConfig::Wgmma(c) => c.fmt(f),
        }
    }
}

impl FromStr for AttentionConfig {
    type Err = AttentionConfigError;

    /// Reads an id; `kind` says whose.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(AttentionConfig::Wgmma(text.parse()?))
    }
}

/// The forward kernel of a class and a config.
pub fn forward_kernel(arch: Arch, p: &AttentionProblem, c: &AttentionConfig) -> Result<TemplateKernel, AttentionError> {
    p.check()?;
    c.check(p)?;
    let id = format!("attention_{}_{}", p.slug(), c.slug());
    let mut k = KernelBuilder::new(&id, arch);
    match c {
        AttentionConfig::Wgmma(_) if !arch.is_hopper() => {
            return Err(AttentionError::Target { config: c.to_string(), arch });
        }
        AttentionConfig::Wgmma(c) => wgmma::forward(&mut k, p, c, &Mods::default())?,
    }
    let config = c.axes().into_iter().map(|(k, v)| (k.to_string(), v)).collect();
    Ok(TemplateKernel {
        id,
        template: TEMPLATE,
        config,
        numerics: numerics("blocks.seq"),
        main_loop_wgmmas: None,
        kernel: k.finish(),
    })
}

/// Numerics for the manifest: sums in f32 in an order that the batch has no part in.
pub(super) fn numerics(order: &str) -> Numerics {
    Numerics { accumulator: Dtype::F32, order: order.into(), batch_invariant: true, gelu: None }
}
