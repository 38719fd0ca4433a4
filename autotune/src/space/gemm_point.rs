//! Points of the multiplications: a config, parts of k, and whether a packed weight is unpacked first.

use super::Point;
use super::rule::{Kind, Line};
use super::weight;
use std::str::FromStr;
use tilewright_ir::Arch;
use tilewright_templates::gemm::weight::WeightWgmmaConfig;
use tilewright_templates::gemm::{GemmConfig, GemmProblem, WgmmaConfig};

/// A point, read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GemmPoint {
    /// The kernel's config; its `split` follows from `splits`.
    pub config: GemmConfig,
    /// Parts of k.
    pub splits: u32,
    /// A packed weight is unpacked first and multiplied densely.
    pub unpack: bool,
}

/// Parts of k.
const SPLITS: [u32; 8] = [1, 2, 3, 4, 6, 8, 12, 16];

/// Columns of wgmma: each step where tiles are narrow, every other where they are wide.
fn widths() -> impl Iterator<Item = u32> {
    (8..=256).step_by(8).filter(|n| *n <= 64 || n % 16 == 0)
}

impl GemmPoint {
    pub fn read(p: &Point) -> Result<Self, String> {
        let number = |axis: &str, or: u32| {
            p.get(axis).map_or(Ok(or), |v| v.parse().map_err(|_| format!("{axis} = `{v}` is not a number")))
        };
        let (splits, unpack) = (number("splits", 1)?, p.get("unpack") == Some("1"));
        let mut axes: Vec<String> =
            p.axes().filter(|(axis, _)| !["splits", "unpack"].contains(axis)).map(|(axis, v)| format!("{axis}={v}")).collect();
        if p.get("kind") != Some("weight_wgmma") {
            axes.push(format!("split={}", u8::from(splits > 1)));
        }
        let config = GemmConfig::from_str(&axes.join(",")).map_err(|e| e.to_string())?;
        Ok(GemmPoint { config, splits, unpack })
    }
}

/// The dense kernels of a target.
pub(super) fn dense_kinds(arch: Arch, p: &GemmProblem, splits: bool) -> Vec<Kind> {
    let bytes = p.input.bytes();
    let parts: &[u32] = if splits { &SPLITS } else { &SPLITS[..1] };
    let parts = || splits.then(|| Line::one(&["splits"], parts));
    let mut kinds = Vec::new();
    if arch.is_hopper() {
        let mut lines = vec![
            Line::tied(
                &["bm", "wgs", "schedule"],
                &[
                    ["64", "1", "coop"],
                    ["64", "2", "pingpong"],
                    ["128", "1", "coop"],
                    ["128", "2", "coop"],
                    ["128", "2", "pingpong"],
                    ["192", "3", "coop"],
                    ["256", "2", "coop"],
                ],
            ),
            Line::one(&["bn"], widths()),
            Line::one(&["cluster"], ["1x2", "1x1", "2x1"]),
            // Bytes have four kernels a tile: one raster keeps their space in thousands.
            Line::one(&["raster"], if p.bytes() { &[8][..] } else { &[8, 16] }),
            Line::one(&["n_align"], [1, 2, 8]),
        ];
        lines.splice(0..0, parts());
        let fixed = vec![("kind", "wgmma".to_string()), ("bk", (128 / bytes).to_string())];
        // Set where they are, as config ids have it.
        let rows: &[&[&str]] = if p.bytes() { &[&[], &["pad"], &["promote"], &["pad", "promote"]] } else { &[&[]] };
        for row in rows {
            let mut fixed = fixed.clone();
            let name = |axis: &str| if axis == "pad" { "pad" } else { "promote" };
            fixed.extend(row.iter().map(|axis| (name(axis), "1".to_string())));
            kinds.push(Kind { fixed, lines: lines.clone() });
        }
        // A point of two of them names the one with more axes.
        kinds.reverse();
    }
    let aligns = [1, 4 / bytes, 8 / bytes, 16 / bytes];
    let mut lines = vec![
        Line::tied(
            &["bm", "bn", "warps"],
            &[
                ["16", "64", "1x4"],
                ["32", "64", "1x4"],
                ["64", "64", "2x2"],
                ["64", "128", "2x2"],
                ["128", "64", "2x2"],
                ["128", "128", "2x4"],
                ["128", "256", "2x4"],
                ["256", "128", "4x2"],
            ],
        ),
        Line::one(&["bk"], [64 / bytes, 128 / bytes]),
        Line::one(&["stages"], [2, 3, 4]),
        Line::one(&["load_align"], aligns),
        Line::one(&["n_align"], [1, 2]),
    ];
    lines.splice(0..0, parts());
    let fixed = vec![("kind", "mma".to_string()), ("raster", "8".to_string())];
    kinds.push(Kind { fixed, lines });
    kinds
}

/// Points that are never better than another one.
pub(super) fn tied(p: &Point) -> Option<String> {
    let parts = p.get("splits").is_some_and(|s| s != "1");
    let other = |axis: &str, to: &str| p.get(axis).is_some_and(|v| v != to).then(|| p.get(axis).unwrap_or_default().to_string());
    let wide = parts && p.get("kind") == Some("wgmma");
    if let Some(c) = other("cluster", "1x1").filter(|_| wide) {
        return Some(format!("cluster={c} with splits: k is split where tiles are few, and a cluster needs them by twos"));
    }
    if let Some(r) = other("raster", "8").filter(|_| wide) {
        return Some(format!("raster={r} with splits: few tiles are walked in one group, whatever its height"));
    }
    if let Some(s) = other("schedule", "coop").filter(|_| wide) {
        return Some(format!("schedule={s} with splits: warpgroups of ping-pong skip each other's stages by a fixed count"));
    }
    None
}

/// Stages of Hopper's kernels: as many as fit. A point that is none stays as it is.
pub(super) fn derive(problem: &GemmProblem, p: Point) -> Point {
    let number = |axis: &str| p.get(axis).and_then(|v| v.parse::<u32>().ok());
    let stages = match (p.get("kind"), number("bm"), number("bn"), number("bk")) {
        (Some("wgmma"), Some(bm), Some(bn), Some(bk)) if bm * bn * bk > 0 => {
            let problem = if p.get("unpack").is_some() { weight::unpacked(problem) } else { *problem };
            number("wgs").map(|wgs| WgmmaConfig::new([bm, bn, bk], 2, wgs).deepest(&problem).stages)
        }
        (Some("weight_wgmma"), Some(bm), Some(bn), _) if bm * bn > 0 => {
            let (raster, stream) = (8, false);
            number("n_align")
                .map(|n_align| weight::deepest(problem, WeightWgmmaConfig { bm, bn, stages: 2, raster, n_align, stream }))
        }
        _ => None,
    };
    match stages {
        Some(stages) => p.with("stages", stages.to_string()),
        None => p,
    }
}
