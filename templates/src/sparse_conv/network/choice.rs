//! How the layers of a group are done. The layers of a network that share a kernel map share the lists made of it too, so that what
//! is chosen is chosen for all of them.

use super::super::core::{CoreConfig, CoreError, MmaConfig, WgmmaConfig};
use super::super::problem::{Dataflow, RowOrder};
use super::graph::GroupId;
use std::collections::BTreeMap;
use tilewright_ir::{Arch, DType};

/// How the layers of one group are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupChoice {
    /// How gathering, multiplying and scattering are arranged.
    pub flow: Dataflow,
    /// What rows are sorted by; of [`Dataflow::ImplicitSorted`] only.
    pub order: RowOrder,
    /// The tile of a layer with many channels. Its rows are those of the group's lists; layers with fewer channels take it
    /// narrower and shallower.
    pub config: CoreConfig,
    /// Of [`Dataflow::GatherScatter`]: taps that the tile's rows would pad much take shorter tiles.
    pub short: Option<ShortTiles>,
}

/// Tiles for taps with few pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortTiles {
    /// Their rows.
    pub rows: u32,
    /// Thousandths of a tap's pairs that the other tiles may pad.
    pub eps_thousandths: u32,
}

/// How the layers of a network are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkChoice {
    /// Groups with a choice of their own.
    pub groups: BTreeMap<GroupId, GroupChoice>,
    /// All others.
    pub otherwise: GroupChoice,
}

/// Widths of tiles.
const WIDTHS: [u32; 7] = [16, 32, 64, 96, 128, 192, 256];

impl GroupChoice {
    /// A dataflow with tiles that every target has: 64 rows, up to 64 columns.
    pub fn plain(dtype: DType, flow: Dataflow) -> Self {
        let config = CoreConfig::Mma(MmaConfig::new([64, 64, 64 / dtype.bytes()], 3));
        GroupChoice { flow, order: RowOrder::default(), config, short: None }
    }

    /// The tile of a layer with so many channels: as the group's, no wider and no deeper than the layer needs.
    ///
    /// # Errors
    /// No such tile is legal on the target.
    pub fn config_for(&self, arch: Arch, dtype: DType, [cin, cout]: [u32; 2]) -> Result<CoreConfig, CoreError> {
        self.fitted(arch, dtype, self.config, [cin, cout])
    }

    /// The short tiles of a layer, where the group has some.
    pub fn short_config_for(&self, arch: Arch, dtype: DType, channels: [u32; 2]) -> Result<Option<CoreConfig>, CoreError> {
        let Some(short) = self.short else { return Ok(None) };
        let (bn, bk, stages) = match self.config {
            CoreConfig::Mma(c) => (c.bn, c.bk, c.stages),
            CoreConfig::Wgmma(c) => (c.bn.min(128), c.bk, c.stages.min(3)),
        };
        self.fitted(arch, dtype, CoreConfig::Mma(MmaConfig::new([short.rows, bn, bk], stages)), channels).map(Some)
    }

    fn fitted(&self, arch: Arch, dtype: DType, most: CoreConfig, [cin, cout]: [u32; 2]) -> Result<CoreConfig, CoreError> {
        let narrow = |bn: u32| WIDTHS.into_iter().find(|w| *w >= cout).map_or(bn, |w| w.min(bn));
        // Rows of a stage are 32, 64 or 128 bytes.
        let shallow =
            |bk: u32| [32, 64, 128].map(|bytes| bytes / dtype.bytes()).into_iter().find(|d| *d >= cin).map_or(bk, |d| d.min(bk));
        let config = match most {
            CoreConfig::Mma(c) => {
                let fit = MmaConfig::new([c.bm, narrow(c.bn), shallow(c.bk)], c.stages);
                // The group's own tile keeps its warps.
                CoreConfig::Mma(if (fit.bn, fit.bk) == (c.bn, c.bk) { c } else { fit })
            }
            CoreConfig::Wgmma(c) => CoreConfig::Wgmma(WgmmaConfig { bn: narrow(c.bn), bk: shallow(c.bk), ..c }),
        };
        config.check(arch, dtype)?;
        Ok(config)
    }
}

impl NetworkChoice {
    /// The same for every group.
    pub fn all(choice: GroupChoice) -> Self {
        NetworkChoice { groups: BTreeMap::new(), otherwise: choice }
    }

    /// A group's choice.
    pub fn of(&self, group: GroupId) -> &GroupChoice {
        self.groups.get(&group).unwrap_or(&self.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_no_wider_and_no_deeper_than_a_layer() {
        let text = |c: CoreConfig| c.to_string();
        let choice = GroupChoice {
            config: "mma_128x128x32_s3_w4x2".parse().unwrap(),
            ..GroupChoice::plain(DType::F16, Dataflow::Implicit)
        };
        let fit = |cin, cout| choice.config_for(Arch::Sm80, DType::F16, [cin, cout]).map(text);
        assert_eq!(fit(256, 256), Ok("mma_128x128x32_s3_w4x2".into()));
        assert!(fit(4, 32).unwrap().starts_with("mma_128x32x16_s3"));
        assert!(fit(32, 96).unwrap().starts_with("mma_128x96x32_s3"));
        for cin in [4, 16, 20, 32, 96, 128, 256] {
            for cout in [4, 16, 20, 32, 96, 128, 256] {
                assert!(fit(cin, cout).is_ok(), "{:?}", fit(cin, cout));
                let plain = GroupChoice::plain(DType::F32, Dataflow::Implicit);
                assert!(plain.config_for(Arch::Sm80, DType::F32, [cin, cout]).is_ok());
            }
        }
        let wgmma = GroupChoice { config: "wgmma_128x256x64_s3".parse().unwrap(), ..choice };
        assert_eq!(wgmma.config_for(Arch::Sm90a, DType::F16, [32, 96]).map(text), Ok("wgmma_128x96x32_s3".into()));
        assert!(wgmma.config_for(Arch::Sm80, DType::F16, [32, 96]).is_err());
    }
}
