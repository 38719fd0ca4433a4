//! From the layers of a network and its maps of one scene to what there is to tune: every number counted, none estimated.

use super::work::{CopyShape, GroupStats, LayerShape, MapWork, NetworkWork, Precision, Rows, TileStats, ViewStats, Way};
use rayon::prelude::*;
use tilewright_templates::sparse_conv::lists::{ListError, TileConfig};
use tilewright_templates::sparse_conv::network::{Conv, Group, GroupId, Kind, LevelId, Network, NetworkMaps};
use tilewright_templates::sparse_conv::{KernelMap, MapError, MapStats, Mode, TileStats as Counted};

/// Rows of the tiles that candidates have.
const HEIGHTS: [u32; 3] = [32, 64, 128];
/// Most ranges of taps.
const SPLITS: u32 = 4;

/// Maps that cannot be counted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExactError {
    /// A map.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Tiles.
    #[error(transparent)]
    List(#[from] ListError),
}

impl NetworkWork {
    /// Counts a network's maps of one scene: pairs, rows executed, tiles and different rows read, for each order, number of ranges
    /// and tile height.
    pub fn exact(network: &Network, maps: &NetworkMaps, precision: Precision) -> Result<Self, ExactError> {
        let groups = (0..network.groups.len()).map(|g| group(network, maps, GroupId(g))).collect::<Result<_, _>>()?;
        let (mut layers, mut copies) = (Vec::new(), Vec::new());
        for l in &network.layers {
            let (name, cout) = (l.name.clone(), l.cout);
            match l.kind {
                Kind::Conv(c) => layers.push(LayerShape {
                    name,
                    group: c.group.0,
                    way: if c.up { Way::Transposed } else { Way::Forward },
                    cin: l.cin,
                    cout,
                    residual: c.residual.is_some(),
                }),
                Kind::Concat(_) => copies.push(CopyShape { name, rows: maps.rows(l.level) as u64, channels: cout }),
            }
        }
        Ok(NetworkWork { network: network.name.clone(), precision, groups, layers, copies })
    }
}

fn group(network: &Network, maps: &NetworkMaps, id: GroupId) -> Result<GroupStats, ExactError> {
    let (g, map) = (network.group(id), &maps.maps[id.0]);
    let up = network.layers.iter().find_map(|l| match &l.kind {
        Kind::Conv(c) if c.group == id && c.up => Some(*c),
        _ => None,
    });
    let (n, m) = (maps.rows(g.fine) as u64, maps.rows(g.coarse) as u64);
    let transposed = up.map(|c: Conv| maps.of(network, &c)).transpose()?;
    let transposed = transposed.map(|t| Ok::<_, ListError>(ViewStats { n: m, m: n, tiles: tiles(&t)? })).transpose()?;
    // The table of the input is made where it is first looked up; finding the voxels of a coarser level leaves theirs.
    let first = network.groups.iter().position(|o| o.fine == LevelId(0)) == Some(id.0);
    let own = g.mode == Mode::Submanifold;
    let mirrored = own && g.geometry.kernel.iter().all(|k| k % 2 == 1);
    Ok(GroupStats {
        name: name(g),
        taps: map.taps as u32,
        map: MapWork {
            inserted: if first { n } else { 0 },
            candidates: if own { 0 } else { candidates(g, maps) },
            // From a voxel to another leads a tap if and only if its mirror image leads back; the middle one is known.
            probes: m * if mirrored { map.taps / 2 } else { map.taps } as u64,
            cleared: if own { m * map.taps as u64 } else { 0 },
        },
        pairs_per_tap: MapStats::new(map).pairs_per_tap,
        forward: ViewStats { n, m, tiles: tiles(map)? },
        transposed,
    })
}

/// Input rows and taps that lead to an output.
fn candidates(g: &Group, maps: &NetworkMaps) -> u64 {
    let of = |c: &[i32; 4]| {
        let xyz = [c[1], c[2], c[3]].map(i64::from);
        (0..g.geometry.taps()).filter(|k| g.geometry.coarse(xyz, *k).is_some()).count() as u64
    };
    maps.levels[g.fine.0].rows().iter().map(of).sum()
}

/// What a group is called: `submanifold k3 on level 0`; what is the same along all axes stands once.
fn name(g: &Group) -> String {
    let axes = |v: [u32; 3]| if v[0] == v[1] && v[1] == v[2] { v[0].to_string() } else { v.map(|n| n.to_string()).join("x") };
    let mut text = format!("{} k{}", g.mode, axes(g.geometry.kernel));
    if g.mode != Mode::Submanifold {
        text += &format!(" s{} p{}", axes(g.geometry.stride), axes(g.geometry.padding));
    }
    if g.geometry.dilation != [1; 3] {
        text += &format!(" d{}", axes(g.geometry.dilation));
    }
    format!("{text} on level {}", g.fine.0)
}

fn tiles(map: &KernelMap) -> Result<Vec<TileStats>, ListError> {
    let taps = map.taps as u32;
    let mut ways = vec![(Rows::Given, 1)];
    if taps > 1 {
        ways.extend((1..=SPLITS.min(taps)).flat_map(|s| Rows::SORTED.map(|order| (order, s))));
    }
    let cuts: Vec<_> = HEIGHTS.into_iter().flat_map(|bm| ways.iter().map(move |w| (bm, *w))).collect();
    let count = |(bm, (order, splits)): (u32, (Rows, u32))| {
        let t = Counted::new(map, &TileConfig { order: order.order(), splits, bm, most_taps: taps })?;
        Ok(TileStats {
            order,
            splits,
            height: bm,
            executed: t.executed(),
            items: t.taps.iter().filter(|c| **c > 0).count() as u64,
            longest: t.taps.iter().copied().max().unwrap_or(0),
            unique: t.unique.iter().map(|u| u64::from(*u)).sum(),
        })
    };
    cuts.into_par_iter().map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceProfile;
    use crate::sparse::candidate::Candidate;
    use crate::sparse::cost::Model;
    use crate::sparse::search::{Search, Settings};
    use crate::sparse::space::Space;
    use tilewright_templates::sparse_conv::network::{GroupChoice, NetworkChoice, network_plan, shipped};
    use tilewright_templates::sparse_conv::{Dataflow, Points};

    /// A shell of voxels: every group has maps that are neither dense nor empty.
    fn shell() -> Points {
        let at = |x: i32, y: i32| [0, x, y, ((x * x + y * y) / 24) % 11 - 3];
        Points::new((-12..12).flat_map(|x| (-12..12).map(move |y| at(x, y))).collect()).unwrap()
    }

    #[test]
    fn every_shipped_network_has_work_that_does_not_contradict_itself() {
        for name in ["minkunet_w05", "centerpoint", "second"] {
            let network = shipped(name).unwrap().unwrap();
            let maps = NetworkMaps::build(&network, shell()).unwrap();
            let work = NetworkWork::exact(&network, &maps, Precision::Bf16).unwrap();
            assert_eq!(work.check(), Ok(()), "{name}");
            assert_eq!(work.layers.len() + work.copies.len(), network.layers.len());
            assert_eq!(
                work.groups.iter().map(|g| g.map.inserted).sum::<u64>(),
                shell().rows().len() as u64,
                "one table is filled"
            );
            for (g, stats) in network.groups.iter().zip(&work.groups) {
                let ups = network.layers.iter().any(|l| matches!(l.kind, Kind::Conv(c) if c.up && network.group(c.group) == g));
                assert_eq!(stats.transposed.is_some(), ups, "{}", stats.name);
                assert_eq!(stats.pairs(), maps.maps[work.groups.iter().position(|o| o == stats).unwrap()].pairs() as u64);
                // Outputs are looked for where there are new ones.
                assert_eq!(stats.map.candidates > 0, g.mode != Mode::Submanifold, "{}", stats.name);
                let kinds = if stats.taps == 1 { 1 } else { 1 + 3 * stats.taps.min(4) as usize };
                assert_eq!(stats.forward.tiles.len(), 3 * kinds, "{}", stats.name);
                for t in &stats.forward.tiles {
                    // Never more than all taps for all rows.
                    assert!(t.executed <= stats.forward.m.next_multiple_of(t.height.into()) * u64::from(stats.taps));
                }
            }
        }
    }

    #[test]
    fn groups_are_called_by_what_they_are() {
        let network = shipped("second").unwrap().unwrap();
        let names: Vec<_> = network.groups.iter().map(name).collect();
        assert_eq!(names[0], "submanifold k3 on level 0");
        assert_eq!(names[1], "strided k3 s2 p1 on level 0");
        assert!(names.contains(&"strided k3 s2 p1x1x0 on level 2".to_string()), "{names:?}");
        assert!(names.contains(&"strided k1x1x3 s1x1x2 p0 on level 3".to_string()), "{names:?}");
    }

    /// The model charges each launch of the plan and no other.
    #[test]
    fn the_model_has_the_launches_of_the_plan() {
        for (name, p) in [("minkunet_w05", Precision::F16), ("second", Precision::Tf32)] {
            let network = shipped(name).unwrap().unwrap();
            let maps = NetworkMaps::build(&network, shell()).unwrap();
            let work = NetworkWork::exact(&network, &maps, p).unwrap();
            let device = &DeviceProfile::all()[0];
            let s = Search::new(&work, Model { device }, Space::new(device.arch), Settings::default()).unwrap();
            for family in ["implicit", "implicit_sorted", "fetch_on_demand", "gather_scatter"] {
                // Each group by its best of this dataflow; maps of one tap have only the first.
                let of =
                    |g: usize| s.ranked(g).iter().map(|r| r.0).find(|c| c.flow.family() == family).unwrap_or(s.ranked(g)[0].0);
                let choice: Vec<Candidate> = (0..work.groups.len()).map(of).collect();
                let groups = choice.iter().enumerate().map(|(i, c)| (GroupId(i), c.choice())).collect();
                let otherwise = GroupChoice::plain(p.dtype(), Dataflow::Implicit);
                let plan = network_plan(device.arch, &network, p.dtype(), &NetworkChoice { groups, otherwise }).unwrap();
                let costs: Vec<_> = choice.iter().enumerate().map(|(g, c)| s.model.group(&work, g, c)).collect();
                let modelled =
                    costs.iter().flat_map(|c| c.launches()).chain(&s.model.copies(&work)).map(|l| l.launches).sum::<u32>();
                let what: Vec<_> = costs.iter().map(|c| c.launches().map(|l| (l.what, l.launches)).collect::<Vec<_>>()).collect();
                let ids: Vec<_> = plan.plan.launches.iter().map(|l| l.kernel.as_str()).collect();
                // The plan's first sets the status.
                assert_eq!(ids.len(), modelled as usize + 1, "{name} {family}: {ids:#?} {what:#?}");
            }
        }
    }
}
