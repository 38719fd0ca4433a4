//! Ways to do the layers of a group, and their ids.

use super::work::{Precision, Rows};
use std::fmt;
use tilewright_templates::sparse_conv::core::{CoreConfig, MmaConfig, WgmmaConfig};
use tilewright_templates::sparse_conv::network::{GroupChoice, ShortTiles};
use tilewright_templates::sparse_conv::{Dataflow, RowOrder};

/// How gathering, multiplying and summing are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flow {
    /// Gather the rows of all pairs, multiply tap by tap, sum by output row. Taps that the tile would pad by more than `eps`
    /// percent of their pairs are multiplied in tiles of `short` rows.
    GatherScatter {
        /// Percent.
        eps: u32,
        /// Rows of the other tile.
        short: u32,
    },
    /// Multiply rows as they are fetched, add to the output.
    FetchOnDemand {
        /// All taps in one launch, sums by atomics; else a launch each.
        fused: bool,
    },
    /// An output tile a CTA over the taps that it has, rows as they come.
    Implicit,
    /// The same with rows sorted by which taps they have.
    ImplicitSorted {
        /// Ranges of taps, each sorted for itself.
        splits: u32,
        /// What by.
        order: Rows,
    },
}

/// Instructions that multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Core {
    /// `mma.sync`, operands copied by cp.async.
    Mma,
    /// `wgmma`, rows gathered by cp.async, the weight by TMA.
    Wgmma,
}

/// The tile of a CTA. Layers with fewer channels take the same kernel with a narrower tile: [`Tile::for_layer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// What multiplies.
    pub core: Core,
    /// Rows; the lists of the group are cut by it.
    pub bm: u32,
    /// Most columns.
    pub bn: u32,
    /// Most channels of a stage.
    pub bk: u32,
    /// Stages of the ring.
    pub stages: u32,
}

/// One way to do all layers of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Candidate {
    /// Dataflow.
    pub flow: Flow,
    /// Tile of its multiplications.
    pub tile: Tile,
}

/// Widths of accumulators.
const WIDTHS: [u32; 7] = [16, 32, 64, 96, 128, 192, 256];
/// Bytes of a stage's row.
const DEPTHS: [u32; 3] = [32, 64, 128];

impl Flow {
    /// Ranges of taps.
    pub fn splits(self) -> u32 {
        if let Flow::ImplicitSorted { splits, .. } = self { splits } else { 1 }
    }

    /// What rows are sorted by.
    pub fn order(self) -> Rows {
        if let Flow::ImplicitSorted { order, .. } = self { order } else { Rows::Given }
    }

    /// Whether it walks the lists of output tiles; the others walk pairs.
    pub fn is_implicit(self) -> bool {
        matches!(self, Flow::Implicit | Flow::ImplicitSorted { .. })
    }

    /// Whether sums have the same bits from run to run.
    pub fn is_deterministic(self) -> bool {
        self != Flow::FetchOnDemand { fused: true }
    }

    /// The dataflow without its parameters, as the key `dataflow` has it.
    pub fn family(self) -> &'static str {
        match self {
            Flow::GatherScatter { .. } => "gather_scatter",
            Flow::FetchOnDemand { .. } => "fetch_on_demand",
            Flow::Implicit => "implicit",
            Flow::ImplicitSorted { .. } => "implicit_sorted",
        }
    }
}

impl Tile {
    /// The tile that a layer of so many channels gets: no wider and no deeper than the layer needs.
    pub fn for_layer(self, precision: Precision, cin: u32, cout: u32) -> Tile {
        let fit = |list: &[u32], need: u32, most: u32| list.iter().copied().find(|v| *v >= need).map_or(most, |v| v.min(most));
        let depths = DEPTHS.map(|bytes| bytes / precision.bytes());
        Tile { bn: fit(&WIDTHS, cout, self.bn), bk: fit(&depths, cin, self.bk), ..self }
    }

    /// The kernel's config.
    pub fn config(self) -> CoreConfig {
        let (bm, bn, bk, stages) = (self.bm, self.bn, self.bk, self.stages);
        match self.core {
            Core::Mma => CoreConfig::Mma(MmaConfig::new([bm, bn, bk], stages)),
            Core::Wgmma => CoreConfig::Wgmma(WgmmaConfig { bm, bn, bk, stages }),
        }
    }

    /// Shared memory of its ring, bytes, for elements of so many.
    pub fn smem_bytes(self, element: u32) -> u32 {
        self.stages * (self.bm + self.bn) * self.bk * element
    }
}

impl Candidate {
    /// The same for the plan of a network.
    pub fn choice(self) -> GroupChoice {
        let short = match self.flow {
            Flow::GatherScatter { eps, short } => Some(ShortTiles { rows: short, eps_thousandths: eps * 10 }),
            _ => None,
        };
        let (flow, order) = match self.flow {
            Flow::GatherScatter { .. } => (Dataflow::GatherScatter, RowOrder::default()),
            Flow::FetchOnDemand { fused } => (Dataflow::FetchOnDemand { fused }, RowOrder::default()),
            Flow::Implicit => (Dataflow::Implicit, RowOrder::default()),
            Flow::ImplicitSorted { splits, order } => (Dataflow::ImplicitSorted { splits }, order.order().unwrap_or_default()),
        };
        GroupChoice { flow, order, config: self.tile.config(), short }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = if self.core == Core::Mma { "mma" } else { "wgmma" };
        write!(f, "{core}_{}x{}x{}_s{}", self.bm, self.bn, self.bk, self.stages)
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Flow::GatherScatter { eps, short } => write!(f, "gather_scatter_e{eps}_t{short}"),
            Flow::FetchOnDemand { fused: true } => f.write_str("fetch_on_demand_fused"),
            Flow::FetchOnDemand { fused: false } => f.write_str("fetch_on_demand_by_tap"),
            Flow::Implicit => f.write_str("implicit"),
            Flow::ImplicitSorted { splits, order } => write!(f, "implicit_sorted_s{splits}_{order}"),
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.flow, self.tile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::Arch;

    #[test]
    fn a_network_plan_gets_the_same_tiles_and_dataflow() {
        let tile = Tile { core: Core::Mma, bm: 128, bn: 128, bk: 32, stages: 3 };
        let of = |flow| Candidate { flow, tile }.choice();
        for [cin, cout] in [[4, 32], [32, 96], [96, 128], [256, 256]] {
            for p in [Precision::F16, Precision::Bf16, Precision::Tf32] {
                let fit = of(Flow::Implicit).config_for(Arch::Sm80, p.dtype(), [cin, cout]).unwrap();
                assert_eq!(fit, tile.for_layer(p, cin, cout).config(), "{cin} {cout}");
            }
        }
        let sorted = of(Flow::ImplicitSorted { splits: 3, order: Rows::Rare });
        assert_eq!((sorted.flow, sorted.order), (Dataflow::ImplicitSorted { splits: 3 }, RowOrder::Rare));
        let gathered = of(Flow::GatherScatter { eps: 25, short: 32 });
        assert_eq!(gathered.short, Some(ShortTiles { rows: 32, eps_thousandths: 250 }));
        assert_eq!(of(Flow::FetchOnDemand { fused: true }).flow, Dataflow::FetchOnDemand { fused: true });
    }
}
