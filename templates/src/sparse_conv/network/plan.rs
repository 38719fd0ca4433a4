//! One plan for a network or a block of it: all hash tables, voxels of levels, maps and lists first, once, then the layers.
//!
//! Nothing of it needs the host between launches: how many voxels a level has is on the device, grids depend on capacities. So a
//! captured graph serves every scan that fits.

use super::super::coords::{CoordsError, build_map, downsample, insert_set, status};
use super::super::core::{ConvIo, CoreError, Flow, conv};
use super::super::geometry::Mode;
use super::super::lists::{Grouping, ListError, PairLists, TileConfig, pair_tiles, pair_tiles_grouped, pairs, tiles, transpose};
use super::super::pieces::{CoordSet, MapSet, PairTiles, Pairs, PlanBuilder, Sets, Tiles};
use super::super::problem::{ConvProblem, Dataflow};
use super::choice::{GroupChoice, NetworkChoice};
use super::concat::{WIDE, place_id, place_kernel};
use super::graph::{Concat, Conv, Feed, GroupId, Kind, Layer, LayerId, LevelId, Network};
use crate::manifest::dtype;
use crate::plan::OpPlan;
use std::collections::BTreeMap;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::expr::ParseError;
use tilewright_runtime::plan::Role;

/// Why a network has no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// Voxels or maps cannot be made.
    #[error(transparent)]
    Coords(#[from] CoordsError),
    /// Lists cannot be made.
    #[error(transparent)]
    Lists(#[from] ListError),
    /// A layer cannot be multiplied as chosen.
    #[error("layer `{layer}`: {source}")]
    Layer {
        /// The layer.
        layer: String,
        /// Why.
        source: CoreError,
    },
    /// A choice for a group that is not there.
    #[error("a choice for group {group}: network {network} has groups 0 to {}", groups - 1)]
    Group {
        /// The group.
        group: usize,
        /// The network.
        network: String,
        /// How many it has.
        groups: usize,
    },
    /// A tile has no layout: a mistake in a template.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// An expression does not parse.
    #[error("plan expression: {0}")]
    Expr(#[from] ParseError),
}

/// The plan of a network.
///
/// Inputs: `coords` I32 `[rows0, 4]` and their `count` I32 `[1]`; `features [rows0, channels]`; for each convolution `LAYER.weight
/// [taps, cin, cout]`, and where the layer has them `LAYER.bias`, `LAYER.bn_scale` and `LAYER.bn_shift`, F32 `[cout]`. Features and
/// weights are F16, BF16 or F32 (multiplied as tf32).
///
/// Outputs: `features_out [rows, channels]` of the last layer; `status` I32 `[4]`, i32::MAX where all is well (see [`status`]); where the
/// last layer stands on voxels of its own `coords_out` I32 `[rows, 4]` and `count_out` I32 `[1]`, else those of the input in their order.
///
/// Variables: `rows0`, `rows1`, .. capacities of levels; `pairs0`, .. capacities in pairs of groups that walk pairs. Rows of
/// features past a level's count are undefined. [`super::NetworkMaps::variables`] gives exact ones.
///
/// The output of layer L is tensor `L.y`, concatenations included, but for the last one's.
pub fn network_plan(arch: Arch, network: &Network, d: DType, choice: &NetworkChoice) -> Result<OpPlan, NetworkError> {
    let class = format!("network={},dtype={d}", network.name);
    if let Some(group) = choice.groups.keys().find(|g| g.0 >= network.groups.len()) {
        return Err(NetworkError::Group { group: group.0, network: network.name.clone(), groups: network.groups.len() });
    }
    let id = format!("sparse_network_{}_{d}_by_{}", network.name, slug(choice));
    let mut draft = Draft {
        pb: PlanBuilder::new(arch, "sparse_network", &id, &class),
        network,
        d,
        choice,
        levels: Vec::new(),
        maps: Vec::new(),
        lists: BTreeMap::new(),
    };
    draft.inputs()?;
    draft.levels_and_maps()?;
    draft.all_lists()?;
    for id in 0..network.layers.len() {
        draft.layer(LayerId(id))?;
    }
    Ok(draft.pb.finish()?)
}

/// Lists of a map, seen from one side.
enum Lists {
    Tiles(Tiles),
    /// With tiles of pairs: tall ones, and short ones where there are some. None where each tap is a launch.
    Pairs(Pairs, Vec<PairTiles>),
}

struct Draft<'a> {
    pb: PlanBuilder,
    network: &'a Network,
    d: DType,
    choice: &'a NetworkChoice,
    levels: Vec<CoordSet>,
    maps: Vec<MapSet>,
    /// By group, and whether it is walked backwards.
    lists: BTreeMap<(GroupId, bool), Lists>,
}

const FEATURES: &str = "features";
const OUTPUT: &str = "features_out";

impl Draft<'_> {
    /// Declares what the caller gives and gets.
    fn inputs(&mut self) -> Result<(), NetworkError> {
        let (pb, network, d) = (&mut self.pb, self.network, dtype(self.d));
        pb.tensor("coords", Dtype::I32, &["rows0", "4"], Role::Input)?;
        pb.tensor("count", Dtype::I32, &["1"], Role::Input)?;
        pb.tensor(FEATURES, d, &["rows0", &network.channels.to_string()], Role::Input)?;
        for layer in &network.layers {
            let Kind::Conv(conv) = &layer.kind else { continue };
            let (cin, cout) = (layer.cin.to_string(), layer.cout.to_string());
            let taps = network.group(conv.group).geometry.taps().to_string();
            pb.tensor(&part(layer, "weight"), d, &[&taps, &cin, &cout], Role::Input)?;
            for (name, there) in [("bias", conv.bias), ("bn_scale", conv.bn), ("bn_shift", conv.bn)] {
                if there {
                    pb.tensor(&part(layer, name), Dtype::F32, &[&cout], Role::Input)?;
                }
            }
        }
        let Some(last) = network.layers.last() else { return Ok(()) };
        let rows = rows(last.level);
        pb.tensor(OUTPUT, d, &[&rows, &last.cout.to_string()], Role::Output)?;
        if last.level != LevelId(0) {
            pb.tensor("coords_out", Dtype::I32, &[&rows, "4"], Role::Output)?;
            pb.tensor("count_out", Dtype::I32, &["1"], Role::Output)?;
        }
        Ok(())
    }

    /// Adds tables, voxels of the coarser levels and a map for each group.
    fn levels_and_maps(&mut self) -> Result<(), NetworkError> {
        let (pb, network) = (&mut self.pb, self.network);
        let last = network.layers.last().map(|l| l.level);
        for id in (0..network.levels.len()).map(LevelId) {
            let (coords, count) = match id {
                LevelId(0) => ("coords".to_string(), "count".to_string()),
                _ if Some(id) == last => ("coords_out".into(), "count_out".into()),
                LevelId(i) => (format!("level{i}"), format!("level{i}_count")),
            };
            self.levels.push(CoordSet { count, ..CoordSet::named(&coords, &rows(id)) });
        }
        status(pb)?;
        insert_set(pb, &self.levels[0], 0, &[])?;
        for (i, group) in network.groups.iter().enumerate() {
            let sets: Sets = group.geometry.scalars().into_iter().map(|(n, v)| (n, v.to_string())).collect();
            let (fine, coarse) = (&self.levels[group.fine.0], &self.levels[group.coarse.0]);
            if group.mode != Mode::Submanifold {
                downsample(pb, group.mode, fine, coarse, &sets)?;
            }
            self.maps.push(build_map(pb, group.mode, fine, coarse, &format!("map{i}"), &sets)?);
        }
        Ok(())
    }

    /// Adds the lists of every group and way that a layer goes.
    fn all_lists(&mut self) -> Result<(), NetworkError> {
        for layer in &self.network.layers {
            let Kind::Conv(conv) = &layer.kind else { continue };
            let key = (conv.group, conv.up);
            if !self.lists.contains_key(&key) {
                let lists = self.lists_of(conv)?;
                self.lists.insert(key, lists);
            }
        }
        Ok(())
    }

    fn lists_of(&mut self, conv: &Conv) -> Result<Lists, NetworkError> {
        let (pb, group, choice) = (&mut self.pb, self.network.group(conv.group), self.choice.of(conv.group));
        let (number, [bm, _]) = (conv.group.0, choice.config.tile());
        let mut map = self.maps[number].clone();
        let mut name = format!("group{number}");
        if conv.up {
            // Only now is it known that somebody goes back.
            let fine = &self.levels[group.fine.0];
            map = transpose(pb, &format!("map{number}_back"), &map, &fine.rows, &fine.count)?;
            name.push_str("_back");
        }
        let (taps, capacity) = (group.geometry.taps() as u32, format!("pairs{number}"));
        let lists = |outputs, positions| PairLists { outputs, positions };
        Ok(match choice.flow {
            Dataflow::Implicit | Dataflow::ImplicitSorted { .. } => {
                let order = matches!(choice.flow, Dataflow::ImplicitSorted { .. }).then_some(choice.order);
                let splits = choice.flow.splits().min(taps);
                Lists::Tiles(tiles(pb, &name, &map, TileConfig { order, splits, bm, most_taps: taps })?)
            }
            Dataflow::FetchOnDemand { fused } => {
                let pairs = pairs(pb, &name, &map, &capacity, lists(true, false))?;
                let tiles = if fused { vec![pair_tiles(pb, &name, &pairs, bm)?] } else { Vec::new() };
                Lists::Pairs(pairs, tiles)
            }
            Dataflow::GatherScatter => {
                let pairs = pairs(pb, &name, &map, &capacity, lists(false, true))?;
                let tiles = match choice.short {
                    None => vec![pair_tiles(pb, &name, &pairs, bm)?],
                    Some(s) => {
                        let grouping = Grouping { tall: bm, short: s.rows, eps_thousandths: s.eps_thousandths };
                        pair_tiles_grouped(pb, &name, &pairs, grouping)?.into()
                    }
                };
                Lists::Pairs(pairs, tiles)
            }
        })
    }

    fn layer(&mut self, id: LayerId) -> Result<(), NetworkError> {
        let layer = self.network.layer(id);
        let y = self.name_of(Feed::Layer(id));
        if y != OUTPUT {
            self.pb.workspace(&y, dtype(self.d), &[&rows(layer.level), &layer.cout.to_string()])?;
        }
        match &layer.kind {
            Kind::Conv(conv) => {
                self.conv(layer, conv, &y).map_err(|source| NetworkError::Layer { layer: layer.name.clone(), source })
            }
            Kind::Concat(concat) => self.concat(layer, concat, &y),
        }
    }

    fn conv(&mut self, layer: &Layer, c: &Conv, y: &str) -> Result<(), CoreError> {
        let (network, d, choice) = (self.network, self.d, self.choice.of(c.group));
        let vec = 16 / d.bytes();
        let vector = |there: bool| there.then_some(DType::F32);
        let problem = ConvProblem {
            dtype: d,
            mode: network.mode_of(c),
            target: c.up,
            bias: vector(c.bias),
            bn: vector(c.bn),
            act: c.act,
            residual: c.residual.is_some(),
        };
        let [weight, bias, scale, shift] = ["weight", "bias", "bn_scale", "bn_shift"].map(|name| part(layer, name));
        let (x, residual) = (self.name_of(layer.input), c.residual.map(|feed| self.name_of(feed)));
        let (n, prefix) = (rows(network.level_in(c)), part(layer, ""));
        let io = ConvIo {
            x: &x,
            weight: &weight,
            bias: c.bias.then_some(&bias),
            bn: c.bn.then_some([&scale, &shift]),
            residual: residual.as_deref(),
            y,
            n: &n,
            cin: &layer.cin.to_string(),
            cout: &layer.cout.to_string(),
            pad_cin: !layer.cin.is_multiple_of(vec),
            n_align: [vec, 2, 1].into_iter().find(|a| layer.cout.is_multiple_of(*a)).unwrap_or(1),
            prefix: &prefix,
        };
        let taps = network.group(c.group).geometry.taps() as u32;
        multiply(&mut self.pb, &problem, choice, &self.lists[&(c.group, c.up)], taps, [layer.cin, layer.cout], &io)
    }

    fn concat(&mut self, layer: &Layer, c: &Concat, y: &str) -> Result<(), NetworkError> {
        let (d, rows, width) = (self.d, rows(layer.level), layer.cout);
        let count = self.levels[layer.level.0].count.clone();
        for (feed, cols, at) in [(layer.input, layer.cin, 0), (c.with, c.channels, layer.cin)] {
            let wide = [cols, at, width].into_iter().all(|n| n.is_multiple_of(WIDE));
            let x = self.name_of(feed);
            let sizes =
                [("rows", rows.clone()), ("cols", cols.to_string()), ("width", width.to_string()), ("at", at.to_string())];
            let sets: Sets = sizes.into_iter().map(|(n, v)| (n.to_string(), v)).collect();
            let binds = [("x", x.as_str()), ("count", &count), ("y", y)];
            self.pb.launch(&place_id(d, wide), |arch| place_kernel(arch, d, wide), &binds, &sets)?;
        }
        Ok(())
    }

    /// The tensor that holds features.
    fn name_of(&self, feed: Feed) -> String {
        match feed {
            Feed::Input => FEATURES.into(),
            Feed::Layer(id) if id.0 + 1 == self.network.layers.len() => OUTPUT.into(),
            Feed::Layer(id) => part(self.network.layer(id), "y"),
        }
    }
}

/// Adds a convolution's launches as its group's choice says.
fn multiply(
    pb: &mut PlanBuilder,
    p: &ConvProblem,
    choice: &GroupChoice,
    lists: &Lists,
    taps: u32,
    channels: [u32; 2],
    io: &ConvIo,
) -> Result<(), CoreError> {
    let config = choice.config_for(pb.arch(), p.dtype, channels)?;
    match (lists, choice.flow) {
        (Lists::Tiles(tiles), _) => conv(pb, p, Flow::Implicit { tiles, config }, io),
        (Lists::Pairs(pairs, tiles), Dataflow::GatherScatter) => {
            let short = choice.short_config_for(pb.arch(), p.dtype, channels)?;
            let launches: Vec<_> = tiles.iter().cloned().zip([config].into_iter().chain(short)).collect();
            conv(pb, p, Flow::GatherScatter { pairs, launches: &launches }, io)
        }
        (Lists::Pairs(pairs, tiles), _) => match tiles.first() {
            Some(tiles) => conv(pb, p, Flow::FetchFused { pairs, tiles, config }, io),
            None => conv(pb, p, Flow::FetchByTap { pairs, taps, config }, io),
        },
    }
}

/// A choice in ids of plans: that of all groups, and a number (FNV-1a) that tells those of single groups apart.
fn slug(choice: &NetworkChoice) -> String {
    let all = choice.otherwise.to_string().replace('/', "_");
    if choice.groups.is_empty() {
        return all;
    }
    let hash = choice.to_string().bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    format!("{all}_but_{}_groups_{hash:08x}", choice.groups.len())
}

/// A tensor of a layer.
fn part(layer: &Layer, name: &str) -> String {
    format!("{}.{name}", layer.name)
}

/// The capacity of a level.
fn rows(level: LevelId) -> String {
    format!("rows{}", level.0)
}
