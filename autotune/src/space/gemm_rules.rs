//! Constraints of the multiplications that need no compiler.

use super::gemm_point::GemmPoint;
use super::weight::unpacked;
use crate::device::DeviceProfile;
use tilewright_ir::Arch;
use tilewright_templates::gemm::weight::WeightWgmmaConfig;
use tilewright_templates::gemm::{BLayout, GemmConfig, GemmProblem};

/// Sizes of a multiplication.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sized {
    /// Rows, of each of the batch.
    pub m: i64,
    /// Columns.
    pub n: i64,
    /// Depth.
    pub k: i64,
    /// How many.
    pub batch: i64,
}

/// Whether the target has the instructions.
pub(super) fn target(arch: Arch, c: &GemmPoint) -> Option<String> {
    let hopper = matches!(c.config, GemmConfig::Wgmma(_) | GemmConfig::WeightWgmma(_));
    (hopper && !arch.is_hopper()).then(|| format!("wgmma needs sm90, the target is {arch}"))
}

/// The template's own check.
pub(super) fn config(p: &GemmProblem, c: &GemmPoint) -> Option<String> {
    let p = if c.unpack { unpacked(p) } else { *p };
    c.config.check(&p).err().map(|e| e.to_string())
}

/// Accesses no wider than rows allow, and no narrower: the same kernel with narrower ones is never faster.
pub(super) fn alignment(p: &GemmProblem, c: &GemmPoint, s: &Sized) -> Option<String> {
    let widest = |axis: &str, given: u32, choices: &[u32], what: &str, size: i64| {
        let fits = choices.iter().copied().filter(|a| size % i64::from((*a).max(1)) == 0).max().unwrap_or(1);
        match given {
            a if a > fits => Some(format!("{axis}={a}: {what} = {size} is no multiple of it")),
            a if a < fits => Some(format!("{axis}={a}: {what} = {size} allows {fits}, and narrower accesses are never faster")),
            _ => None,
        }
    };
    let bytes = p.input.bytes();
    let kn = p.b == BLayout::Kn && !c.unpack;
    // What rows of a and b have in common.
    let row = if kn { gcd(s.k, s.n) } else { s.k };
    match &c.config {
        GemmConfig::Wgmma(w) => {
            let whole = row * i64::from(bytes) % 16 == 0;
            let needed = !whole || p.bytes() && kn;
            let pad = match (needed, w.pad) {
                (true, false) => Some(format!("rows of {} bytes: TMA takes multiples of 16", row * i64::from(bytes))),
                (false, true) => Some("pad=1: TMA can address these rows, there is nothing to copy".to_string()),
                _ => None,
            };
            pad.or_else(|| widest("n_align", w.n_align, &[1, 2, 8], "n", s.n))
        }
        GemmConfig::Mma(m) => {
            let loads = [1, 4 / bytes, 8 / bytes, 16 / bytes];
            let what = if kn { "the common divisor of n and k" } else { "k" };
            widest("load_align", m.load_align, &loads, what, row).or_else(|| widest("n_align", m.n_align, &[1, 2], "n", s.n))
        }
        GemmConfig::WeightWgmma(w) => {
            let rows = (s.k % 8 != 0).then(|| format!("rows of {} bytes: TMA takes multiples of 16", s.k * i64::from(bytes)));
            rows.or_else(|| widest("n_align", w.n_align, &[1, 8], "n", s.n))
        }
        GemmConfig::WeightMma(m) => widest("load_align", m.load_align, &[1, 2, 4, 8], "k", s.k),
    }
}

/// Parts of k where there are tiles enough, or blocks too few.
pub(super) fn parts(arch: Arch, p: &GemmProblem, c: &GemmPoint, s: &Sized) -> Option<String> {
    if c.splits <= 1 {
        return None;
    }
    let (bm, bn, bk) = match &c.config {
        GemmConfig::Wgmma(w) => (w.bm, w.bn / p.gates(), w.bk),
        GemmConfig::Mma(m) => (m.bm, m.bn / p.gates(), m.bk),
        GemmConfig::WeightWgmma(w) => (w.bm, w.bn, WeightWgmmaConfig::BK),
        GemmConfig::WeightMma(w) => (w.bm, w.out_cols(p), WeightWgmmaConfig::BK),
    };
    let up = |a: i64, b: u32| (a + i64::from(b) - 1) / i64::from(b.max(1));
    let (tiles, blocks, sms) = (up(s.m, bm) * up(s.n, bn) * s.batch, up(s.k, bk), i64::from(DeviceProfile::typical(arch).sms));
    if blocks < 2 * i64::from(c.splits) {
        return Some(format!("{} parts of {blocks} blocks of k: fewer than two each", c.splits));
    }
    (tiles >= 2 * sms).then(|| format!("{tiles} tiles keep {sms} SMs busy: parts only add traffic"))
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
