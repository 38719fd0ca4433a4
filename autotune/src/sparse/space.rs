//! Which candidates a group has, and why a point of the space is none.

use super::candidate::{Candidate, Core, Flow, Tile};
use super::work::{GroupStats, LayerShape, NetworkWork, Precision, Rows};
use tilewright_ir::Arch;
use tilewright_templates::sparse_conv::lists::Grouping;

/// What candidates are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Space {
    /// Target.
    pub arch: Arch,
    /// Whether only sums with the same bits from run to run are wanted.
    pub deterministic: bool,
    /// Most bytes of workspace a layer may take.
    pub workspace_bytes: u64,
}

/// Why a point of the space is no candidate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Illegal {
    /// tf32 is multiplied by mma.sync.
    #[error("wgmma kernels multiply 16-bit features, not tf32")]
    WgmmaTf32,
    /// A tile that no kernel has.
    #[error("{0}")]
    Kernel(String),
    /// The same kernels as another point.
    #[error("no layer has more than {cout} columns: the same kernels as with {narrower}")]
    Wide {
        /// Most columns.
        cout: u32,
        /// What serves as well.
        narrower: u32,
    },
    /// The same kernels as another point.
    #[error("no layer has more than {cin} channels: the same kernels as with {shallower} a stage")]
    Deep {
        /// Most channels.
        cin: u32,
        /// What serves as well.
        shallower: u32,
    },
    /// More ranges than taps.
    #[error("{splits} ranges of {taps} taps")]
    Splits {
        /// Ranges.
        splits: u32,
        /// Taps.
        taps: u32,
    },
    /// A map with one tap.
    #[error("one tap: there is nothing to {0}")]
    OneTap(&'static str),
    /// Sums in any order.
    #[error("atomics sum in any order, and the same bits from run to run were asked for")]
    Nondeterministic,
    /// More workspace than allowed.
    #[error("layer {layer} needs {need} bytes of workspace, {most} are allowed")]
    Workspace {
        /// Layer.
        layer: String,
        /// Bytes.
        need: u64,
        /// Bytes.
        most: u64,
    },
    /// The same lists as another point.
    #[error("the same taps go to short tiles as with eps {0}")]
    SameTaps(u32),
    /// Short tiles that are not short.
    #[error("tiles of {short} rows are no shorter than those of {bm}")]
    NotShort {
        /// The short tile.
        short: u32,
        /// The other.
        bm: u32,
    },
    /// Statistics nobody made.
    #[error("the map has no statistics for rows {order} in {splits} ranges cut by {height}")]
    NoStatistics {
        /// Order.
        order: Rows,
        /// Ranges.
        splits: u32,
        /// Rows of a tile.
        height: u32,
    },
}

/// What a constraint looks at.
struct At<'a> {
    space: &'a Space,
    precision: Precision,
    group: &'a GroupStats,
    layers: Vec<&'a LayerShape>,
}

type Constraint = fn(&At, &Candidate) -> Result<(), Illegal>;

/// Every rule, the cheapest reason first.
const CONSTRAINTS: [Constraint; 9] = [kernel, wide, deep, splits, one_tap, determinism, short_tiles, workspace, statistics];

/// Percentages that are tried.
const EPS: [u32; 4] = [0, 10, 25, 50];
/// Rows of short tiles.
const SHORT: u32 = 32;
/// Ranges of taps that are tried.
const SPLITS: [u32; 4] = [1, 2, 3, 4];

impl Space {
    /// The whole space of a target: nothing is ruled out for its sums, workspace up to 4 GiB.
    pub fn new(arch: Arch) -> Self {
        Space { arch, deterministic: false, workspace_bytes: 4 << 30 }
    }

    /// Every point, legal or not, by ascending id.
    pub fn points(&self, precision: Precision) -> Vec<Candidate> {
        let mut flows = vec![Flow::Implicit, Flow::FetchOnDemand { fused: true }, Flow::FetchOnDemand { fused: false }];
        for splits in SPLITS {
            flows.extend(Rows::SORTED.map(|order| Flow::ImplicitSorted { splits, order }));
        }
        flows.extend(EPS.map(|eps| Flow::GatherScatter { eps, short: SHORT }));
        let tiles = tiles(precision);
        let mut points: Vec<_> =
            flows.iter().flat_map(|flow| tiles.iter().map(|tile| Candidate { flow: *flow, tile: *tile })).collect();
        points.sort_by_cached_key(Candidate::to_string);
        points
    }

    /// The candidates of a group by ascending id, and the points that are none with the reason.
    pub fn candidates(&self, work: &NetworkWork, group: usize) -> (Vec<Candidate>, Vec<(Candidate, Illegal)>) {
        let (precision, layers) = (work.precision, work.layers_of(group).collect());
        let at = At { space: self, precision, group: &work.groups[group], layers };
        let (mut legal, mut illegal) = (Vec::new(), Vec::new());
        for c in self.points(precision) {
            match CONSTRAINTS.iter().try_for_each(|rule| rule(&at, &c)) {
                Ok(()) => legal.push(c),
                Err(why) => illegal.push((c, why)),
            }
        }
        (legal, illegal)
    }
}

fn tiles(precision: Precision) -> Vec<Tile> {
    // A stage of 64 bytes or 128: rows of fewer waste sectors.
    let depths = if precision == Precision::Tf32 { [16, 32] } else { [32, 64] };
    let mut list = Vec::new();
    for bm in [32, 64, 128] {
        for bn in [64, 128] {
            list.extend(depths.map(|bk| Tile { core: Core::Mma, bm, bn, bk, stages: 3 }));
        }
    }
    for bm in [64, 128] {
        list.extend([64, 128, 256].map(|bn| Tile { core: Core::Wgmma, bm, bn, bk: 64, stages: 4 }));
    }
    list
}

fn kernel(at: &At, c: &Candidate) -> Result<(), Illegal> {
    if c.tile.core == Core::Wgmma && at.precision == Precision::Tf32 {
        return Err(Illegal::WgmmaTf32);
    }
    let dtype = at.precision.dtype();
    // Narrower tiles of the same group are checked too: each layer gets one.
    let tiles = at.layers.iter().map(|l| c.tile.for_layer(at.precision, l.cin, l.cout)).chain([c.tile]);
    let why = tiles.filter_map(|t| t.config().check(at.space.arch, dtype).err()).next();
    why.map_or(Ok(()), |why| Err(Illegal::Kernel(why.to_string())))
}

fn wide(at: &At, c: &Candidate) -> Result<(), Illegal> {
    let cout = at.layers.iter().map(|l| l.cout).max().unwrap_or(0);
    let narrower = c.tile.bn / 2;
    // 64 is the narrowest there is.
    if c.tile.bn > 64 && cout <= narrower { Err(Illegal::Wide { cout, narrower }) } else { Ok(()) }
}

fn deep(at: &At, c: &Candidate) -> Result<(), Illegal> {
    let cin = at.layers.iter().map(|l| l.cin).max().unwrap_or(0);
    let shallowest = if at.precision == Precision::Tf32 { 16 } else { 32 };
    let shallower = c.tile.bk / 2;
    let pointless = c.tile.core == Core::Mma && c.tile.bk > shallowest && cin <= shallower;
    if pointless { Err(Illegal::Deep { cin, shallower }) } else { Ok(()) }
}

fn splits(at: &At, c: &Candidate) -> Result<(), Illegal> {
    let (splits, taps) = (c.flow.splits(), at.group.taps);
    if splits > taps.max(1) { Err(Illegal::Splits { splits, taps }) } else { Ok(()) }
}

fn one_tap(at: &At, c: &Candidate) -> Result<(), Illegal> {
    match c.flow {
        _ if at.group.taps > 1 => Ok(()),
        Flow::Implicit => Ok(()),
        Flow::ImplicitSorted { .. } => Err(Illegal::OneTap("sort by")),
        Flow::FetchOnDemand { .. } | Flow::GatherScatter { .. } => Err(Illegal::OneTap("sum over")),
    }
}

fn determinism(at: &At, c: &Candidate) -> Result<(), Illegal> {
    if at.space.deterministic && !c.flow.is_deterministic() { Err(Illegal::Nondeterministic) } else { Ok(()) }
}

fn short_tiles(at: &At, c: &Candidate) -> Result<(), Illegal> {
    let Flow::GatherScatter { eps, short } = c.flow else { return Ok(()) };
    let bm = c.tile.bm;
    if short >= bm {
        return Err(Illegal::NotShort { short, bm });
    }
    let tall = |eps| at.group.pairs_per_tap.iter().map(|p| is_tall(*p, bm, eps)).collect::<Vec<_>>();
    match EPS.into_iter().find(|e| *e < eps && tall(*e) == tall(eps)) {
        Some(same) => Err(Illegal::SameTaps(same)),
        None => Ok(()),
    }
}

/// Whether tiles of `bm` rows pad a tap's pairs by at most `eps` percent.
pub(super) fn is_tall(pairs: u64, bm: u32, eps: u32) -> bool {
    Grouping { tall: bm, short: SHORT, eps_thousandths: eps * 10 }.is_tall(pairs)
}

fn workspace(at: &At, c: &Candidate) -> Result<(), Illegal> {
    let (pairs, element) = (at.group.pairs(), u64::from(at.precision.bytes()));
    for l in &at.layers {
        let Some(view) = at.group.view(l.way) else { continue };
        let (cin, cout) = (u64::from(l.cin), u64::from(l.cout));
        let need = match c.flow {
            Flow::GatherScatter { .. } => pairs * (cin * element + cout * 4),
            Flow::FetchOnDemand { .. } => view.m * cout * 4,
            Flow::ImplicitSorted { splits, .. } if splits > 1 => u64::from(splits) * view.m * cout * 4,
            Flow::Implicit | Flow::ImplicitSorted { .. } => 0,
        };
        let most = at.space.workspace_bytes;
        if need > most {
            return Err(Illegal::Workspace { layer: l.name.clone(), need, most });
        }
    }
    Ok(())
}

fn statistics(at: &At, c: &Candidate) -> Result<(), Illegal> {
    if !c.flow.is_implicit() {
        return Ok(());
    }
    let (order, splits, height) = (c.flow.order(), c.flow.splits(), c.tile.bm);
    let missing = at.layers.iter().filter_map(|l| at.group.view(l.way)).any(|v| v.cut(order, splits, height).is_none());
    if missing { Err(Illegal::NoStatistics { order, splits, height }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::samples::{KITTI, minkunet};

    fn reasons(space: &Space, work: &NetworkWork, group: usize) -> Vec<(String, String)> {
        let (_, illegal) = space.candidates(work, group);
        illegal.into_iter().map(|(c, why)| (c.to_string(), why.to_string())).collect()
    }

    #[test]
    fn ids_are_sorted_and_name_one_point_each() {
        for p in [Precision::F16, Precision::Tf32] {
            let ids: Vec<_> = Space::new(Arch::Sm90a).points(p).iter().map(Candidate::to_string).collect();
            assert!(ids.windows(2).all(|w| w[0] < w[1]), "{ids:?}");
        }
        let ids: Vec<_> = Space::new(Arch::Sm80).points(Precision::F16).iter().map(Candidate::to_string).collect();
        assert!(ids.contains(&"implicit_sorted_s3_gray_rare/mma_128x64x32_s3".to_string()));
        assert!(ids.contains(&"gather_scatter_e10_t32/wgmma_128x256x64_s4".to_string()));
    }

    #[test]
    fn every_rule_has_a_point_it_rules_out() {
        let mut work = minkunet(&KITTI, 1.0, Precision::F16);
        let space = Space { deterministic: true, ..Space::new(Arch::Sm80) };
        let says = |space: &Space, work: &NetworkWork, group, id: &str, why: &str| {
            let list = reasons(space, work, group);
            let found = list.iter().find(|(i, _)| i == id);
            assert!(found.is_some_and(|(_, w)| w.contains(why)), "{id}: {found:?}, expected {why}");
        };
        says(&space, &work, 0, "implicit/wgmma_64x64x64_s4", "needs sm90, the target is");
        says(&space, &work, 1, "fetch_on_demand_fused/mma_64x64x32_s3", "atomics sum in any order");
        says(&space, &work, 1, "gather_scatter_e10_t32/mma_32x64x32_s3", "no shorter");
        says(&space, &work, 1, "gather_scatter_e50_t32/mma_64x64x32_s3", "as with eps");
        let hopper = Space { workspace_bytes: 1 << 20, ..Space::new(Arch::Sm90a) };
        says(&hopper, &work, 1, "implicit/wgmma_64x256x64_s4", "no layer has more than 96 columns");
        says(&hopper, &work, 1, "implicit_sorted_s2_plain/mma_64x64x32_s3", "bytes of workspace, 1048576 are allowed");
        work.groups[1].forward.tiles.retain(|t| t.height != 32);
        says(&hopper, &work, 1, "implicit/mma_32x64x32_s3", "no statistics for rows given in 1 ranges cut by 32");
        let g = &mut work.groups[1];
        (g.taps, g.pairs_per_tap) = (1, vec![g.forward.m]);
        says(&hopper, &work, 1, "implicit_sorted_s2_plain/mma_64x64x32_s3", "2 ranges of 1 taps");
        says(&hopper, &work, 1, "implicit_sorted_s1_plain/mma_64x64x32_s3", "one tap: there is nothing to sort by");
        says(&Space::new(Arch::Sm90a), &minkunet(&KITTI, 1.0, Precision::Tf32), 0, "implicit/wgmma_64x64x64_s4", "not tf32");
        let narrow = minkunet(&KITTI, 0.25, Precision::F16);
        says(&hopper, &narrow, 5, "implicit/mma_64x64x64_s3", "no layer has more than 24 channels");
    }

    #[test]
    fn an_empty_map_has_candidates() {
        let mut work = minkunet(&KITTI, 1.0, Precision::F16);
        let g = &mut work.groups[0];
        g.pairs_per_tap.fill(0);
        (g.forward.n, g.forward.m, g.map) = (0, 0, Default::default());
        g.forward.tiles.iter_mut().for_each(|t| (t.executed, t.items, t.unique, t.longest) = (0, 0, 0, 0));
        assert_eq!(work.check(), Ok(()));
        let (legal, _) = Space::new(Arch::Sm90a).candidates(&work, 0);
        let model = crate::sparse::Model { device: &crate::DeviceProfile::all()[0] };
        assert!(legal.len() > 100);
        for c in legal {
            let t = model.group(&work, 0, &c).seconds();
            assert!(t.is_finite() && t > 0.0, "{c}: {t}");
        }
    }
}
