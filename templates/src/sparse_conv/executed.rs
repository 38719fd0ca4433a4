//! How many rows a recipe multiplies, counted on the host.

use super::host::KernelMap;
use super::lists::{ListError, TileConfig};
use super::multiply::grouping;
use super::problem::Dataflow;
use super::recipe::Recipe;
use super::stats::{MapStats, TileStats};

impl Recipe {
    /// The lists that implicit GEMM walks.
    pub(super) fn tile_config(&self) -> TileConfig {
        let order = self.sorts().then_some(self.order);
        TileConfig { order, splits: self.flow.splits(), bm: self.config.tile()[0], most_taps: self.taps }
    }
}

/// Rows that are multiplied: tile-padded rows times the taps they are multiplied by.
///
/// # Errors
/// Tiles of a height that no list is made for.
pub fn executed_rows(map: &KernelMap, r: &Recipe) -> Result<u64, ListError> {
    Ok(match (r.flow, r.short()) {
        (Dataflow::Implicit | Dataflow::ImplicitSorted { .. }, _) => TileStats::new(map, &r.tile_config())?.executed(),
        (Dataflow::GatherScatter, Some(_)) => MapStats::new(map).grouped_pair_rows(grouping(r)),
        _ => MapStats::new(map).pair_rows(r.config.tile()[0]),
    })
}

#[cfg(test)]
mod tests {
    use super::super::core::CoreConfig;
    use super::super::problem::RowOrder;
    use super::*;

    fn recipe(flow: Dataflow, order: RowOrder, config: &str) -> Recipe {
        Recipe { flow, order, taps: 27, config: config.parse::<CoreConfig>().unwrap(), ragged: false }
    }

    /// 64 rows, tap 0 in all of them, tap 1 in every second, tap 2 in row 5 only, tap 3 in none.
    fn map() -> KernelMap {
        let row = |m: i32| [m, if m % 2 == 0 { m } else { -1 }, if m == 5 { 0 } else { -1 }, -1];
        KernelMap { taps: 4, coords_out: vec![[0; 4]; 64], map: (0..64).flat_map(row).collect() }
    }

    #[test]
    fn rows_by_hand() {
        let rows = |flow, order| executed_rows(&map(), &recipe(flow, order, "mma_32x16x16_s3_w2x1")).unwrap();
        // Two tiles: taps 0, 1, 2 and taps 0, 1.
        assert_eq!(rows(Dataflow::Implicit, RowOrder::Plain), 5 * 32);
        // Row 5 is first, 31 rows of taps 0 and 1 with it, one of these and the others with tap 0 alone after it.
        assert_eq!(rows(Dataflow::ImplicitSorted { splits: 1 }, RowOrder::Rare), 5 * 32);
        // Gray's code: row 5 (111..), tap 0 alone, then taps 0 and 1: the second tile has no tap 2.
        assert_eq!(rows(Dataflow::ImplicitSorted { splits: 1 }, RowOrder::GrayRare), 5 * 32);
        // Ranges of taps (0, 1) and (2, 3): one tile with tap 0 and 1, one with tap 0; one with tap 2.
        assert_eq!(rows(Dataflow::ImplicitSorted { splits: 2 }, RowOrder::Plain), 4 * 32);
        // 64, 32 and 1 pairs.
        assert_eq!(rows(Dataflow::FetchOnDemand { fused: true }, RowOrder::Plain), 64 + 32 + 32);
        let grouped = recipe(Dataflow::GatherScatter, RowOrder::Plain, "mma_64x16x16_s3_w4x1");
        assert_eq!(executed_rows(&map(), &grouped), Ok(64 + 32 + 32));
    }

    #[test]
    fn an_empty_map_multiplies_nothing() {
        let none = KernelMap { taps: 27, coords_out: Vec::new(), map: Vec::new() };
        for flow in [Dataflow::Implicit, Dataflow::ImplicitSorted { splits: 3 }, Dataflow::GatherScatter] {
            assert_eq!(executed_rows(&none, &recipe(flow, RowOrder::GrayRare, "mma_64x16x16_s3_w4x1")), Ok(0));
        }
    }
}
