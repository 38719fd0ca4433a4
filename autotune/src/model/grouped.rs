//! GEMMs of experts: rows of each meet its own matrix.

use super::gemm::{Sizes, kernel};
use super::work::{Tiles, Work};
use crate::device::DeviceProfile;
use crate::estimate::{Counts, Estimate};
use tilewright_templates::gemm::{GemmConfig, GemmProblem};

/// Rows of each expert.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    /// `tokens` rows go to `experts` experts, evenly as far as they can.
    Even {
        /// Rows of all.
        tokens: u64,
        /// Experts.
        experts: u64,
    },
    /// Rows of expert e.
    Each(Vec<u64>),
}

impl Rows {
    /// Runs of experts with the same rows: `(rows, experts)`.
    fn runs(&self) -> Vec<(u64, u64)> {
        match self {
            Rows::Even { tokens, experts } => {
                let experts = (*experts).max(1);
                let more = tokens % experts;
                vec![(tokens / experts + 1, more), (tokens / experts, experts - more)]
            }
            Rows::Each(rows) => rows.iter().map(|r| (*r, 1)).collect(),
        }
    }

    /// Rows of all.
    pub fn tokens(&self) -> u64 {
        self.runs().iter().map(|(rows, experts)| rows * experts).sum()
    }
}

/// Modelled time of a grouped GEMM, with the launch that lists its tiles: `n` columns of d, `k` deep.
pub fn estimate(
    d: &DeviceProfile,
    p: &GemmProblem,
    config: &GemmConfig,
    rows: &Rows,
    [n, k]: [f64; 2],
    counts: Option<&Counts>,
) -> Estimate {
    let some: Vec<(u64, u64)> = rows.runs().into_iter().filter(|r| r.0 > 0 && r.1 > 0).collect();
    let Some(t) = kernel(d, p, config, counts) else { return packed(d, p, config, &some, [n, k], counts) };
    let (bytes, wide) = (f64::from(p.input.bytes()), n * f64::from(p.gates()));
    let across = (wide / (t.bn * t.share_a)).ceil() * t.share_a;
    let tiles: f64 = some.iter().map(|(rows, experts)| (*rows as f64 / t.bm).ceil() * *experts as f64).sum();
    let experts: f64 = some.iter().map(|r| r.1 as f64).sum();
    let tokens = rows.tokens() as f64;
    // An expert's tiles follow each other, so its weight comes once.
    let memory = tokens * k * bytes + experts * wide * k * bytes + tokens * n * f64::from(p.output.bytes());
    Work {
        block: t.block,
        tiles: Tiles::Equal { count: tiles * across, blocks: (k / t.bk).ceil() },
        stages: t.stages,
        resident: t.resident,
        persistent: t.persistent,
        edges: t.edges,
        start: 0.0,
        memory,
        launches: 2.0,
        beside: 0.0,
    }
    .estimate(d)
}

/// Packed weights: an expert is a small GEMM; their tiles fill the GPU together.
fn packed(
    d: &DeviceProfile,
    p: &GemmProblem,
    config: &GemmConfig,
    runs: &[(u64, u64)],
    [n, k]: [f64; 2],
    counts: Option<&Counts>,
) -> Estimate {
    let work = |m: f64| match config {
        GemmConfig::WeightMma(c) => super::weight::mma(d, p, c, 1, Sizes { m, n, k }, counts),
        GemmConfig::WeightWgmma(c) => super::weight::wgmma(d, p, c, Sizes { m, n, k }, counts),
        GemmConfig::Wgmma(_) | GemmConfig::Mma(_) => None,
    };
    let mut all: Option<Work> = None;
    for (rows, experts) in runs {
        let Some(one) = work(*rows as f64) else { return Estimate::never() };
        let Tiles::Equal { count, .. } = one.tiles else { return Estimate::never() };
        let (count, memory) = (count * *experts as f64, one.memory * *experts as f64);
        match &mut all {
            None => {
                let Tiles::Equal { blocks, .. } = one.tiles else { return Estimate::never() };
                all = Some(Work { tiles: Tiles::Equal { count, blocks }, memory, launches: 2.0, ..one });
            }
            Some(sum) => {
                if let Tiles::Equal { count: tiles, .. } = &mut sum.tiles {
                    *tiles += count;
                }
                sum.memory += memory;
            }
        }
    }
    let launches = Estimate { seconds: 2.0 * d.launch_seconds, terms: Vec::new() };
    all.map_or(launches, |w| w.estimate(d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::DType;
    use tilewright_templates::gemm::{Groups, WgmmaConfig};

    #[test]
    fn skew_costs_no_less_and_idle_experts_cost_nothing() {
        let d = DeviceProfile::named("H200").unwrap();
        let p = GemmProblem { groups: Groups::Offsets, ..GemmProblem::plain(DType::BF16) };
        let config = GemmConfig::Wgmma(WgmmaConfig::new([128, 256, 64], 4, 2));
        let time = |rows: &Rows| estimate(d, &p, &config, rows, [4096.0, 4096.0], None).seconds;
        let even = time(&Rows::Even { tokens: 8192, experts: 8 });
        assert_eq!(even, time(&Rows::Each(vec![1024; 8])));
        let mut skewed = vec![100; 8];
        skewed[3] = 8192 - 700;
        assert!(time(&Rows::Each(skewed)) > even);
        let alone = time(&Rows::Each(vec![1024]));
        let mut idle = vec![0; 64];
        idle[7] = 1024;
        assert_eq!(time(&Rows::Each(idle)), alone);
        assert!(time(&Rows::Each(Vec::new())) < alone);
    }

    #[test]
    fn many_experts_of_few_tokens_are_bound_by_their_weights() {
        let d = DeviceProfile::named("H200").unwrap();
        let p = GemmProblem { groups: Groups::Offsets, ..GemmProblem::plain(DType::BF16) };
        let config = GemmConfig::Wgmma(WgmmaConfig::new([64, 128, 64], 6, 1));
        let e = estimate(d, &p, &config, &Rows::Even { tokens: 256, experts: 256 }, [4096.0, 7168.0], None);
        assert!(e.seconds > 256.0 * 4096.0 * 7168.0 * 2.0 / d.memory_bytes, "{}", e.seconds);
        assert_eq!(e.bound(), Some(crate::estimate::Term::Memory));
    }
}
