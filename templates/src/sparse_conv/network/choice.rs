//! How the layers of a group are done. The layers of a network that share a kernel map share the lists made of it too, so that what
//! is chosen is chosen for all of them.

use super::super::core::{CoreConfig, CoreError, MmaConfig, WgmmaConfig};
use super::super::problem::{Dataflow, RowOrder};
use super::graph::{Group, GroupId, Network};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
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

/// A text that is no choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no way to do a group of layers: expected DATAFLOW/CONFIG with gather_scatter, gather_scatter_eEPS_tROWS, \
     fetch_on_demand_fused, fetch_on_demand_by_tap, implicit or implicit_sorted_sSPLITS_ORDER (plain, rare, gray_rare), and a config \
     such as mma_64x64x32_s3_w2x2; a network takes one for all, then GROUP=.. for others, with commas between"
)]
pub struct ChoiceError {
    text: String,
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

    /// Where nobody measured: maps that many channels go through are sorted, where sorting costs less than what it saves; others
    /// are walked as they are. Hopper multiplies 16-bit features by wgmma.
    pub fn standard(arch: Arch, network: &Network, dtype: DType) -> Self {
        let hopper = arch.caps().name == "sm90" && dtype.bytes() == 2;
        let choice = |flow, bm| {
            let wgmma = CoreConfig::Wgmma(WgmmaConfig { bm, bn: 128, bk: 64, stages: 3 });
            let plain = GroupChoice::plain(dtype, flow);
            if hopper { GroupChoice { config: wgmma, ..plain } } else { plain }
        };
        let wide = |g: &Group| g.layers.iter().map(|l| network.layer(*l)).any(|l| l.cin * l.cout >= 64 * 64);
        let sorted = network.groups.iter().enumerate().filter(|(_, g)| wide(g) && g.geometry.taps() > 1);
        let groups = sorted.map(|(i, _)| (GroupId(i), choice(Dataflow::ImplicitSorted { splits: 1 }, 128))).collect();
        NetworkChoice { groups, otherwise: choice(Dataflow::Implicit, 64) }
    }

    /// A group's choice.
    pub fn of(&self, group: GroupId) -> &GroupChoice {
        self.groups.get(&group).unwrap_or(&self.otherwise)
    }
}

/// `implicit_sorted_s2_gray_rare/mma_64x64x32_s3_w2x2`; `gather_scatter_e25_t32/..` with short tiles of 32 rows for taps that others
/// would pad by more than 25 percent.
impl fmt::Display for GroupChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flow {
            Dataflow::GatherScatter => match self.short {
                None => f.write_str("gather_scatter")?,
                Some(s) => write!(f, "gather_scatter_e{}_t{}", s.eps_thousandths / 10, s.rows)?,
            },
            Dataflow::FetchOnDemand { fused: true } => f.write_str("fetch_on_demand_fused")?,
            Dataflow::FetchOnDemand { fused: false } => f.write_str("fetch_on_demand_by_tap")?,
            Dataflow::Implicit => f.write_str("implicit")?,
            Dataflow::ImplicitSorted { splits } => write!(f, "implicit_sorted_s{splits}_{}", self.order)?,
        }
        write!(f, "/{}", self.config)
    }
}

impl FromStr for GroupChoice {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        let read = || {
            let (flow, config) = text.split_once('/')?;
            let config = config.parse().ok()?;
            let plain = |flow| GroupChoice { flow, order: RowOrder::default(), config, short: None };
            Some(match flow {
                "gather_scatter" => plain(Dataflow::GatherScatter),
                "fetch_on_demand_fused" => plain(Dataflow::FetchOnDemand { fused: true }),
                "fetch_on_demand_by_tap" => plain(Dataflow::FetchOnDemand { fused: false }),
                "implicit" => plain(Dataflow::Implicit),
                _ => match (flow.strip_prefix("gather_scatter_e"), flow.strip_prefix("implicit_sorted_s")) {
                    (Some(rest), _) => {
                        let (eps, rows) = rest.split_once("_t")?;
                        let (eps, rows): (u32, u32) = (eps.parse().ok()?, rows.parse().ok()?);
                        let short = ShortTiles { rows, eps_thousandths: eps.checked_mul(10)? };
                        GroupChoice { short: Some(short), ..plain(Dataflow::GatherScatter) }
                    }
                    (_, Some(rest)) => {
                        let (splits, order) = rest.split_once('_')?;
                        let splits = splits.parse().ok().filter(|s| *s >= 1)?;
                        GroupChoice { order: RowOrder::from_name(order)?, ..plain(Dataflow::ImplicitSorted { splits }) }
                    }
                    _ => return None,
                },
            })
        };
        read().ok_or_else(|| ChoiceError { text: text.into() })
    }
}

/// The choice for all, then those of groups: `implicit/..,3=gather_scatter/..`.
impl fmt::Display for NetworkChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.otherwise.fmt(f)?;
        self.groups.iter().try_for_each(|(group, choice)| write!(f, ",{}={choice}", group.0))
    }
}

impl FromStr for NetworkChoice {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        let mut parts = text.split(',');
        let mut choice = NetworkChoice::all(parts.next().unwrap_or_default().parse()?);
        for part in parts {
            let error = || ChoiceError { text: part.into() };
            let (group, own) = part.split_once('=').ok_or_else(error)?;
            let group = GroupId(group.parse().map_err(|_| error())?);
            if choice.groups.insert(group, own.parse()?).is_some() {
                return Err(error());
            }
        }
        Ok(choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_back() {
        let flows = [
            "gather_scatter",
            "gather_scatter_e25_t32",
            "fetch_on_demand_fused",
            "fetch_on_demand_by_tap",
            "implicit",
            "implicit_sorted_s3_rare",
        ];
        for flow in flows {
            let text = format!("{flow}/mma_64x64x32_s3_w2x2");
            assert_eq!(text.parse::<GroupChoice>().unwrap().to_string(), text);
            let network = format!("implicit/mma_32x32x16_s2_w2x2,0={text},12={text}");
            assert_eq!(network.parse::<NetworkChoice>().unwrap().to_string(), network);
        }
        for bad in ["", "implicit", "implicit/mma", "implicit_sorted_s0_rare/mma_64x64x32_s3_w2x2", "x/mma_64x64x32_s3_w2x2"] {
            assert!(bad.parse::<GroupChoice>().unwrap_err().to_string().contains("expected DATAFLOW/CONFIG"), "{bad}");
        }
        let one = "implicit/mma_64x64x32_s3_w2x2";
        for bad in [format!("{one},{one}"), format!("{one},1={one},1={one}"), format!("{one},x={one}")] {
            assert!(bad.parse::<NetworkChoice>().is_err(), "{bad}");
        }
    }

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
