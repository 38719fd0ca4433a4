//! Which configs there are.

use super::config::WgmmaAttentionConfig;
use super::decode_problem::DecodeProblem;
use super::kernel::{AttentionConfig, DecodeConfig};
use super::mma::MmaAttentionConfig;
use super::problem::AttentionProblem;
use super::wgmma::WgmmaDecodeConfig;
use tilewright_ir::Arch;

/// Every config for a target and a class.
pub fn space(arch: Arch, p: &AttentionProblem) -> Vec<AttentionConfig> {
    let mut list = Vec::new();
    if arch.is_hopper() {
        for (warpgroups, bn) in (1..=3).flat_map(|w| (1..=16).map(move |n| (w, 16 * n))) {
            for (stages, overlap, ping_pong) in
                [(1, false, false), (2, false, false), (2, true, false), (2, true, true), (3, true, true)]
            {
                for (persistent, exp_fma) in [(true, 0), (true, 4), (false, 0)] {
                    let bm = 64 * warpgroups;
                    let c = WgmmaAttentionConfig { bm, bn, warpgroups, stages, overlap, ping_pong, persistent, exp_fma };
                    list.push(AttentionConfig::Wgmma(c));
                }
            }
        }
    }
    let rows = [1, 2].into_iter().flat_map(|tiles| [1, 2, 4, 8].map(|warps| (16 * tiles * warps, warps)));
    for (bm, warps) in rows {
        for (bn, stages) in [16, 32, 48, 64, 96, 128].into_iter().flat_map(|bn| [1, 2, 3].map(|stages| (bn, stages))) {
            list.push(AttentionConfig::Mma(MmaAttentionConfig { bm, bn, stages, warps }));
        }
    }
    list.retain(|c| c.check(arch, p).is_ok());
    list
}

/// Configs for a class where nothing was measured, best first: tiles as FlashAttention-3 has them, fewer queries where there are
/// few. What a class needs of registers is known to the assembler only, so smaller tiles follow for those that do not fit.
pub fn default_configs(arch: Arch, p: &AttentionProblem, sq: usize) -> Vec<AttentionConfig> {
    let mut list = Vec::new();
    if arch.is_hopper() {
        // Blocks whose elements are masked or changed one by one are kept narrower.
        let masked = p.causal || p.window || p.chunk || p.sparse.is_some();
        let wide = !(masked || p.softcap || p.alibi || p.bias.is_some());
        let bn: &[u32] = match (p.d, wide) {
            (64, true) => &[192, 128, 64],
            (96, true) => &[144, 96, 64],
            (64 | 96, false) => &[128, 96, 64],
            (128, true) => &[176, 128, 96, 64],
            (128, false) => &[128, 96, 64],
            (192, _) => &[112, 96, 64, 48],
            _ => &[80, 64, 32],
        };
        for (warpgroups, bn) in [2, 1].into_iter().flat_map(|w| bn.iter().map(move |n| (w, *n))) {
            let (bm, ping_pong) = (64 * warpgroups, warpgroups == 2);
            // Long and short tiles even out when each CTA walks many; equal ones need no walk, whose divisions cost registers.
            for persistent in if masked { &[true, false][..] } else { &[false] } {
                let (persistent, overlap) = (*persistent, true);
                let c = WgmmaAttentionConfig { bm, bn, warpgroups, stages: 2, overlap, ping_pong, persistent, exp_fma: 0 };
                list.push(AttentionConfig::Wgmma(c));
            }
        }
    }
    for (bm, warps) in [(128, 8), (128, 4), (64, 4), (32, 2)] {
        for (bn, stages) in [(64, 2), (48, 2), (32, 2), (32, 1)] {
            list.push(AttentionConfig::Mma(MmaAttentionConfig { bm, bn, stages, warps }));
        }
    }
    list.retain(|c| c.check(arch, p).is_ok());
    if sq <= 64 {
        // wgmma first where there is any, then the smallest tile that holds all queries.
        list.sort_by_key(|c| (matches!(c, AttentionConfig::Mma(_)), c.tile()[0] < sq as u32, c.tile()[0]));
    }
    list
}

/// Configs for decode where nothing was measured, best first: pages by TMA where a page allows, else the smallest tile that
/// holds the rows of a group of heads. `rows` is tokens times heads of a group, `page` the tokens of a page.
pub fn default_decode_configs(arch: Arch, p: &DecodeProblem, rows: usize, page: usize) -> Vec<DecodeConfig> {
    let mut list = Vec::new();
    let box_rows = [64, 32, 16, 8].into_iter().find(|n| page.is_multiple_of(*n as usize));
    if arch.is_hopper()
        && let Some(box_rows) = box_rows
    {
        for (bn, stages, ctas) in [(64, 4, 2), (64, 3, 2), (64, 2, 2), (64, 3, 1), (32, 3, 1), (16, 4, 1)] {
            list.push(DecodeConfig::Wgmma(WgmmaDecodeConfig { bn, stages, box_rows: box_rows.min(bn), ctas }));
        }
    }
    let mut tiles = [(16, 1), (32, 2), (64, 4), (128, 8)];
    tiles.sort_by_key(|(bm, _)| (*bm < rows, *bm));
    for (bm, warps) in tiles {
        // A CTA of one or two warps leaves most of an SM to others: shorter blocks let more of them in.
        let blocks = if warps <= 2 {
            [(32, 3), (32, 2), (64, 2), (16, 3), (16, 2)]
        } else {
            [(64, 3), (64, 2), (32, 3), (32, 2), (16, 2)]
        };
        for (bn, stages) in blocks {
            list.push(DecodeConfig::Mma(MmaAttentionConfig { bm: bm as u32, bn, stages, warps }));
        }
    }
    list.retain(|c| c.check(arch, p).is_ok());
    list
}

/// Every decode config for a target and a class.
pub fn decode_space(arch: Arch, p: &DecodeProblem) -> Vec<DecodeConfig> {
    let mut list = Vec::new();
    if arch.is_hopper() {
        for (bn, box_rows) in [16, 32, 64, 128].into_iter().flat_map(|bn| [8, 16, 32, 64, 128].map(|rows| (bn, rows))) {
            for (stages, ctas) in (1..=6).flat_map(|stages| [1, 2].map(|ctas| (stages, ctas))) {
                list.push(DecodeConfig::Wgmma(WgmmaDecodeConfig { bn, stages, box_rows, ctas }));
            }
        }
    }
    for (bm, warps) in [1, 2].into_iter().flat_map(|tiles| [1, 2, 4, 8].map(|warps| (16 * tiles * warps, warps))) {
        for (bn, stages) in [16, 32, 64, 128].into_iter().flat_map(|bn| [1, 2, 3, 4].map(|stages| (bn, stages))) {
            list.push(DecodeConfig::Mma(MmaAttentionConfig { bm, bn, stages, warps }));
        }
    }
    list.retain(|c| c.check(arch, p).is_ok());
    list
}
