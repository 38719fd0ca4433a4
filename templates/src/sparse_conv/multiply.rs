//! From a map to features: the lists that a dataflow walks, then its launches.

use super::core::{ConvIo, CoreConfig, Flow, MmaConfig, conv};
use super::lists::{Grouping, PairLists, pair_tiles, pair_tiles_grouped, pairs, tiles};
use super::pieces::{MapSet, PlanBuilder};
use super::plan::ConvError;
use super::problem::{ConvProblem, Dataflow};
use super::recipe::Recipe;

/// Rows of the tiles of taps that higher ones would pad too much.
const SHORT: u32 = 32;
/// Padding that is too much, in thousandths of a tap's pairs: a quarter is what reading a tap's weights twice as often costs at 64
/// channels.
const EPS_THOUSANDTHS: u32 = 250;

impl Recipe {
    /// Tiles for taps with few pairs, where those of the recipe are higher.
    pub(super) fn short(&self) -> Option<CoreConfig> {
        let (bn, bk, stages) = match self.config {
            CoreConfig::Mma(c) => (c.bn, c.bk, c.stages),
            CoreConfig::Wgmma(c) => (c.bn.min(128), c.bk, c.stages.min(3)),
        };
        (self.config.tile()[0] > SHORT).then(|| CoreConfig::Mma(MmaConfig::new([SHORT, bn, bk], stages)))
    }
}

/// Which taps of gather-GEMM-scatter go to which tiles.
pub(super) fn grouping(r: &Recipe) -> Grouping {
    Grouping { tall: r.config.tile()[0], short: SHORT, eps_thousandths: EPS_THOUSANDTHS }
}

/// Adds the launches of a recipe: `features`, `weight` and the epilogue's tensors -> `features_out`.
pub(super) fn multiply(pb: &mut PlanBuilder, p: &ConvProblem, r: &Recipe, map: &MapSet) -> Result<(), ConvError> {
    let (config, [bm, _]) = (r.config, r.config.tile());
    let io = ConvIo {
        x: "features",
        weight: "weight",
        bias: p.bias.map(|_| "bias"),
        bn: p.bn.map(|_| ["bn_scale", "bn_shift"]),
        residual: p.residual.then_some("residual"),
        y: "features_out",
        n: "inputs",
        cin: "k",
        cout: "n",
        pad_cin: r.ragged,
        n_align: if r.ragged { 1 } else { 16 / p.dtype.bytes() },
        prefix: "conv_",
    };
    let lists = |outputs, positions| PairLists { outputs, positions };
    match r.flow {
        Dataflow::Implicit | Dataflow::ImplicitSorted { .. } => {
            let tiles = tiles(pb, "tile", map, r.tile_config())?;
            conv(pb, p, Flow::Implicit { tiles: &tiles, config }, &io)?;
        }
        Dataflow::FetchOnDemand { fused: true } => {
            let pairs = pairs(pb, "pair", map, "pairs", lists(true, false))?;
            let tiles = pair_tiles(pb, "pair", &pairs, bm)?;
            conv(pb, p, Flow::FetchFused { pairs: &pairs, tiles: &tiles, config }, &io)?;
        }
        Dataflow::FetchOnDemand { fused: false } => {
            // As many launches as the kernel has taps.
            pb.require(format!("taps == {}", r.taps));
            let pairs = pairs(pb, "pair", map, "pairs", lists(true, false))?;
            conv(pb, p, Flow::FetchByTap { pairs: &pairs, taps: r.taps, config }, &io)?;
        }
        Dataflow::GatherScatter => {
            let pairs = pairs(pb, "pair", map, "pairs", lists(false, true))?;
            let launches = match r.short() {
                None => vec![(pair_tiles(pb, "pair", &pairs, bm)?, config)],
                Some(short) => {
                    let [tall, small] = pair_tiles_grouped(pb, "pair", &pairs, grouping(r))?;
                    vec![(tall, config), (small, short)]
                }
            };
            conv(pb, p, Flow::GatherScatter { pairs: &pairs, launches: &launches }, &io)?;
        }
    }
    Ok(())
}
