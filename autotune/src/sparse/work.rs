//! What there is to tune: the layers of a network, and exact statistics of the kernel maps they share.

use serde::{Deserialize, Serialize};
use std::fmt;
use tilewright_ir::DType;
use tilewright_templates::sparse_conv::RowOrder;

/// What features are multiplied as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 16-bit floats.
    F16,
    /// bfloat16.
    Bf16,
    /// f32 in memory, rounded to tf32 on the way to the tensor cores.
    Tf32,
}

/// What the rows of an output are sorted by before they are cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rows {
    /// Not sorted.
    Given,
    /// The mask of taps as a number.
    Plain,
    /// As a number whose top bits are the rarest taps.
    Rare,
    /// As the place of that number in Gray's code.
    GrayRare,
}

/// Which way a layer goes through its group's map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From the map's inputs to its outputs.
    Forward,
    /// Back: the layer undoes one of the group.
    Transposed,
}

/// A network and the maps its layers go through, of one scene.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkWork {
    /// Name of the network.
    pub network: String,
    /// What its features are multiplied as.
    pub precision: Precision,
    /// Kernel maps, each with the layers that share it.
    pub groups: Vec<GroupStats>,
    /// Convolutions in the order they run.
    pub layers: Vec<LayerShape>,
    /// What layers between them copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<CopyShape>,
}

/// A layer that only moves features: a concatenation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyShape {
    /// Name.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Channels of its output.
    pub channels: u32,
}

/// One convolution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerShape {
    /// Name.
    pub name: String,
    /// Position of its group in [`NetworkWork::groups`].
    pub group: usize,
    /// Which way through the map.
    pub way: Way,
    /// Channels of its input.
    pub cin: u32,
    /// Channels of its output.
    pub cout: u32,
    /// Whether a residual is added.
    pub residual: bool,
}

/// One kernel map: what making it takes, and what it looks like from either side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupStats {
    /// Name, `submanifold k3 at 1`.
    pub name: String,
    /// Taps of the kernel.
    pub taps: u32,
    /// What making the map takes.
    pub map: MapWork,
    /// Entries of the map, tap by tap.
    pub pairs_per_tap: Vec<u64>,
    /// The map as it is.
    pub forward: ViewStats,
    /// The map from its outputs back to its inputs, where a layer goes that way.
    pub transposed: Option<ViewStats>,
}

/// What making a map takes. Tables and coordinates that another group made are counted there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapWork {
    /// Rows inserted into a hash table of voxels.
    pub inserted: u64,
    /// Voxels that inputs and taps lead to, among which the outputs are found; 0 where the outputs are known.
    pub candidates: u64,
    /// Entries of the map that are looked up: all of them, or half where the others are their mirror images.
    pub probes: u64,
    /// Entries that are cleared first, because not each is looked up in its place: all of a map from a set of voxels to itself.
    pub cleared: u64,
}

/// A map seen from one side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewStats {
    /// Rows that are read.
    pub n: u64,
    /// Rows that are written.
    pub m: u64,
    /// What cutting the rows into tiles leads to, for each way to do it.
    pub tiles: Vec<TileStats>,
}

/// Rows of an output cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TileStats {
    /// What rows are sorted by.
    pub order: Rows,
    /// Ranges of taps, each sorted for itself.
    pub splits: u32,
    /// Rows of a tile.
    pub height: u32,
    /// Rows multiplied: the height times the taps that some row of a tile has, over all tiles and ranges.
    pub executed: u64,
    /// Tiles with a tap, over all ranges.
    pub items: u64,
    /// Most taps of a tile.
    pub longest: u32,
    /// Different input rows of a tile, summed over all.
    pub unique: u64,
}

/// Work that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// A layer of no group.
    #[error("layer {layer}: there is no group {group}, only {groups}")]
    Group {
        /// Its name.
        layer: String,
        /// What it names.
        group: usize,
        /// How many there are.
        groups: usize,
    },
    /// A layer that goes back through a map whose transpose has no statistics.
    #[error("layer {layer} goes back through the map of group {group}, which has no statistics of its transpose")]
    Transpose {
        /// Its name.
        layer: String,
        /// The group.
        group: String,
    },
    /// A layer without channels.
    #[error("layer {0}: cin and cout are at least 1")]
    Channels(String),
    /// A name that stands twice.
    #[error("{what} {name} stands twice: names are how records find them")]
    Twice {
        /// Layer or group.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Statistics that cannot be of one map.
    #[error("group {group}: {why}")]
    Stats {
        /// The group.
        group: String,
        /// What contradicts what.
        why: String,
    },
}

impl Precision {
    /// Bytes of an element in memory.
    pub fn bytes(self) -> u32 {
        if self == Precision::Tf32 { 4 } else { 2 }
    }

    /// The dtype of features in memory.
    pub fn dtype(self) -> DType {
        match self {
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
            Precision::Tf32 => DType::F32,
        }
    }

    /// Its name in keys.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
            Precision::Tf32 => "tf32",
        }
    }
}

impl Rows {
    /// The orders that sort.
    pub const SORTED: [Rows; 3] = [Rows::Plain, Rows::Rare, Rows::GrayRare];

    /// The order of a plan, where there is one.
    pub fn order(self) -> Option<RowOrder> {
        match self {
            Rows::Given => None,
            Rows::Plain => Some(RowOrder::Plain),
            Rows::Rare => Some(RowOrder::Rare),
            Rows::GrayRare => Some(RowOrder::GrayRare),
        }
    }

    /// Its name in keys.
    pub fn name(self) -> &'static str {
        match self {
            Rows::Given => "given",
            Rows::Plain => "plain",
            Rows::Rare => "rare",
            Rows::GrayRare => "gray_rare",
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ViewStats {
    /// The statistics of one way to cut the rows.
    pub fn cut(&self, order: Rows, splits: u32, height: u32) -> Option<&TileStats> {
        self.tiles.iter().find(|t| (t.order, t.splits, t.height) == (order, splits, height))
    }
}

impl GroupStats {
    /// Entries of the map.
    pub fn pairs(&self) -> u64 {
        self.pairs_per_tap.iter().sum()
    }

    /// The map from the side a layer goes.
    pub fn view(&self, way: Way) -> Option<&ViewStats> {
        match way {
            Way::Forward => Some(&self.forward),
            Way::Transposed => self.transposed.as_ref(),
        }
    }

    fn check(&self) -> Result<(), WorkError> {
        let bad = |why: String| Err(WorkError::Stats { group: self.name.clone(), why });
        if self.taps == 0 || self.pairs_per_tap.len() != self.taps as usize {
            return bad(format!("{} taps, but pairs of {}", self.taps, self.pairs_per_tap.len()));
        }
        if let Some(t) = &self.transposed
            && (t.n, t.m) != (self.forward.m, self.forward.n)
        {
            return bad(format!("its transpose reads {} and writes {} rows, not the other way round", t.n, t.m));
        }
        for view in [Some(&self.forward), self.transposed.as_ref()].into_iter().flatten() {
            let most = view.n.min(view.m);
            if let Some(tap) = self.pairs_per_tap.iter().position(|p| *p > most) {
                return bad(format!("tap {tap} has {} pairs of {} and {} rows", self.pairs_per_tap[tap], view.n, view.m));
            }
            for t in &view.tiles {
                let cut = format!("{} in {} ranges, tiles of {}", t.order, t.splits, t.height);
                let tiles = view.m.div_ceil(u64::from(t.height.max(1))) * u64::from(t.splits);
                let most = t.items * u64::from(t.longest) * u64::from(t.height);
                if t.height == 0 || t.splits == 0 || t.longest > self.taps.div_ceil(t.splits) || t.items > tiles {
                    return bad(format!("{cut}: {} tiles with at most {} taps", t.items, t.longest));
                }
                if t.executed < self.pairs() || t.executed > most || !t.executed.is_multiple_of(t.height.into()) {
                    return bad(format!("{cut}: {} rows executed for {} pairs", t.executed, self.pairs()));
                }
                if t.unique > self.pairs() {
                    return bad(format!("{cut}: {} different rows read for {} pairs", t.unique, self.pairs()));
                }
            }
        }
        Ok(())
    }
}

impl NetworkWork {
    /// The layers of a group, in the order they run.
    pub fn layers_of(&self, group: usize) -> impl Iterator<Item = &LayerShape> {
        self.layers.iter().filter(move |l| l.group == group)
    }

    /// Checks that layers have their groups and that statistics can be those of maps.
    pub fn check(&self) -> Result<(), WorkError> {
        for (i, g) in self.groups.iter().enumerate() {
            g.check()?;
            if self.groups[..i].iter().any(|o| o.name == g.name) {
                return Err(WorkError::Twice { what: "group", name: g.name.clone() });
            }
        }
        for (i, l) in self.layers.iter().enumerate() {
            let Some(group) = self.groups.get(l.group) else {
                return Err(WorkError::Group { layer: l.name.clone(), group: l.group, groups: self.groups.len() });
            };
            if group.view(l.way).is_none() {
                return Err(WorkError::Transpose { layer: l.name.clone(), group: group.name.clone() });
            }
            if l.cin == 0 || l.cout == 0 {
                return Err(WorkError::Channels(l.name.clone()));
            }
            if self.layers[..i].iter().any(|o| o.name == l.name) {
                return Err(WorkError::Twice { what: "layer", name: l.name.clone() });
            }
        }
        Ok(())
    }

    /// What a record of this network names it by: changes with layers, channels, taps and precision, not with the scene.
    pub fn shape_fingerprint(&self) -> String {
        let groups: Vec<_> = self.groups.iter().map(|g| (&g.name, g.taps, g.transposed.is_some())).collect();
        digest(&(&self.network, self.precision, groups, &self.layers))
    }

    /// What the statistics of one scene are named by.
    pub fn stats_fingerprint(&self) -> String {
        digest(self)
    }
}

/// 16 hexadecimal digits of a value's JSON.
pub(super) fn digest(value: &impl Serialize) -> String {
    // Plain data without maps or floats of its own: always the same text, and never an error.
    let text = serde_json::to_vec(value).unwrap_or_default();
    blake3::hash(&text).to_hex()[..16].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::samples::{KITTI, minkunet};

    #[test]
    fn work_survives_its_file_and_is_named_by_what_it_holds() {
        let work = minkunet(&KITTI, 1.0, Precision::F16);
        let back: NetworkWork = serde_json::from_str(&serde_json::to_string(&work).unwrap()).unwrap();
        assert_eq!(back, work);
        let mut other = work.clone();
        other.groups[0].forward.tiles[0].unique -= 1;
        assert_eq!(other.shape_fingerprint(), work.shape_fingerprint(), "another scene");
        assert_ne!(other.stats_fingerprint(), work.stats_fingerprint());
        other.layers[3].cout += 8;
        assert_ne!(other.shape_fingerprint(), work.shape_fingerprint(), "another network");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let says = |change: &dyn Fn(&mut NetworkWork), why: &str| {
            let mut work = minkunet(&KITTI, 1.0, Precision::F16);
            change(&mut work);
            let error = work.check().unwrap_err().to_string();
            assert!(error.contains(why), "{error}, expected {why}");
        };
        assert_eq!(minkunet(&KITTI, 1.0, Precision::F16).check(), Ok(()));
        says(&|w| w.layers[0].group = 99, "layer stem.0: there is no group 99, only 9");
        says(&|w| w.layers[0].way = Way::Transposed, "which has no statistics of its transpose");
        says(&|w| w.layers[1].name = "stem.0".into(), "layer stem.0 stands twice");
        says(&|w| w.layers[1].cout = 0, "cin and cout are at least 1");
        says(&|w| w.groups[2].pairs_per_tap.truncate(26), "27 taps, but pairs of 26");
        says(&|w| w.groups[2].pairs_per_tap[3] = 40_000, "tap 3 has 40000 pairs");
        says(&|w| w.groups[2].forward.tiles[0].executed = 32, "32 rows executed for");
        says(&|w| w.groups[2].forward.tiles[0].longest = 28, "at most 28 taps");
        says(&|w| w.groups[2].forward.tiles[0].unique = 1 << 40, "different rows read");
        says(&|w| w.groups[5].transposed.as_mut().unwrap().n += 1, "not the other way round");
    }
}
