//! Which launches a candidate takes, and what they cost together.

use super::core::{Multiply, cost};
use super::traffic::Traffic;
use super::{LaunchCost, lists, maps};
use crate::device::DeviceProfile;
use crate::sparse::candidate::{Candidate, Flow, Tile};
use crate::sparse::space::is_tall;
use crate::sparse::work::{CopyShape, GroupStats, LayerShape, NetworkWork, Precision, ViewStats, Way};
use serde::Serialize;

/// Times on one device.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// The device.
    pub device: &'a DeviceProfile,
}

/// Modelled times of a group's launches.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GroupCost {
    /// Making the map: the same for every candidate.
    pub map: Vec<LaunchCost>,
    /// What the dataflow makes of it, once for all layers.
    pub lists: Vec<LaunchCost>,
    /// The layers.
    pub layers: Vec<LaunchCost>,
}

/// Bytes of a number, and of a sum.
const WORD: f64 = 4.0;

impl GroupCost {
    /// Seconds of the map, of the lists, of the layers.
    pub fn parts(&self) -> [f64; 3] {
        [&self.map, &self.lists, &self.layers].map(|l| l.iter().map(|c| c.seconds).sum())
    }

    /// Seconds of everything.
    pub fn seconds(&self) -> f64 {
        self.parts().iter().sum()
    }

    /// What its candidate decides: lists and layers.
    pub fn chosen_seconds(&self) -> f64 {
        let [_, lists, layers] = self.parts();
        lists + layers
    }

    /// Every launch.
    pub fn launches(&self) -> impl Iterator<Item = &LaunchCost> {
        self.map.iter().chain(&self.lists).chain(&self.layers)
    }
}

impl Model<'_> {
    /// Times of a group whose layers are done by `c`. The candidate must be one of the space's for this group: what has no
    /// statistics is left out.
    pub fn group(&self, work: &NetworkWork, group: usize, c: &Candidate) -> GroupCost {
        let (d, g) = (self.device, &work.groups[group]);
        let back = work.layers_of(group).any(|l| l.way == Way::Transposed);
        let there = work.layers_of(group).any(|l| l.way == Way::Forward);
        let mut all = GroupCost { map: maps::cost(d, g), ..GroupCost::default() };
        if back {
            all.lists.push(lists::transpose(d, g));
        }
        let ways = [(there, Way::Forward), (back, Way::Transposed)];
        for view in ways.into_iter().filter(|w| w.0).filter_map(|w| g.view(w.1)) {
            match c.flow {
                Flow::GatherScatter { .. } => all.lists.extend(lists::pairs(d, g, view, true, 2)),
                Flow::FetchOnDemand { fused } => all.lists.extend(lists::pairs(d, g, view, false, fused.into())),
                Flow::Implicit | Flow::ImplicitSorted { .. } => {
                    let Some(cut) = view.cut(c.flow.order(), c.flow.splits(), c.tile.bm) else { continue };
                    all.lists.extend(lists::tiles(d, g, view, cut, c.flow));
                }
            }
        }
        for l in work.layers_of(group) {
            let Some(view) = g.view(l.way) else { continue };
            let at = Layer { d, p: work.precision, g, view, l, tile: c.tile.for_layer(work.precision, l.cin, l.cout) };
            let mut launches = at.pads(!matches!(c.flow, Flow::GatherScatter { .. }));
            match c.flow {
                Flow::GatherScatter { eps, short } => launches.extend(at.gather_scatter(eps, short)),
                Flow::FetchOnDemand { fused } => launches.extend(at.fetch_on_demand(fused)),
                Flow::Implicit | Flow::ImplicitSorted { .. } => launches.extend(at.implicit(c.flow)),
            }
            all.layers.extend(launches.into_iter().map(|c| LaunchCost { layer: Some(l.name.clone()), ..c }));
        }
        all
    }

    /// Times of what stands between convolutions.
    pub fn copies(&self, work: &NetworkWork) -> Vec<LaunchCost> {
        let copy = |c: &CopyShape| {
            let bytes = c.rows as f64 * f64::from(c.channels) * f64::from(work.precision.bytes());
            let t = Traffic { near: 2.0 * bytes, chain: 1.0, ..Traffic::default() };
            LaunchCost { layer: Some(c.name.clone()), ..t.cost(self.device, "concatenate", 2) }
        };
        work.copies.iter().map(copy).collect()
    }

    /// Time of a network from points to features, maps made, a candidate for each group. Seconds.
    pub fn network(&self, work: &NetworkWork, choice: &[Candidate]) -> f64 {
        let groups: f64 = choice.iter().enumerate().map(|(g, c)| self.group(work, g, c).seconds()).sum();
        groups + self.copies(work).iter().map(|c| c.seconds).sum::<f64>()
    }
}

struct Layer<'a> {
    d: &'a DeviceProfile,
    p: Precision,
    g: &'a GroupStats,
    view: &'a ViewStats,
    l: &'a LayerShape,
    tile: Tile,
}

impl Layer<'_> {
    fn element(&self) -> f64 {
        self.p.bytes().into()
    }

    /// Bytes of an output's rows in the features' dtype.
    fn output(&self) -> f64 {
        self.view.m as f64 * f64::from(self.l.cout) * self.element()
    }

    /// Bytes of the residual, if there is one.
    fn residual(&self) -> f64 {
        if self.l.residual { self.output() } else { 0.0 }
    }

    fn base(&self, what: &'static str) -> Multiply {
        Multiply {
            what,
            tile: self.tile,
            cin: self.l.cin.into(),
            cout: self.l.cout.into(),
            taps: self.g.taps.into(),
            items: 0.0,
            item_taps: 0.0,
            longest: 1.0,
            gathered: self.g.pairs() as f64,
            unique: self.g.pairs() as f64,
            rows: self.view.n.min(self.g.pairs()) as f64,
            out_bytes: 0.0,
            added_bytes: 0.0,
        }
    }

    /// Rows that are no whole 16-byte accesses: the weight is copied to wider ones, and features of odd width, unless they are gathered.
    fn pads(&self, fetched: bool) -> Vec<LaunchCost> {
        let align = 16 / self.p.bytes();
        let (cin, cout) = (self.l.cin, self.l.cout);
        let [odd_in, odd_out] = [cin, cout].map(|c| !c.is_multiple_of(align));
        let wide = |c: u32| f64::from(c.next_multiple_of(align)) * self.element();
        let features = Traffic { near: 2.0 * self.view.n as f64 * wide(cin), chain: 1.0, ..Traffic::default() };
        let weight = f64::from(self.g.taps) * f64::from(cin) * wide(cout);
        let weight = Traffic { far: weight, near: weight, chain: 1.0, ..Traffic::default() };
        let mut list = Vec::new();
        if odd_in && fetched {
            list.push(features.cost(self.d, "pad features", 1));
        }
        if odd_in || odd_out {
            list.push(weight.cost(self.d, "pad weight", 1));
        }
        list
    }

    fn implicit(&self, flow: Flow) -> Vec<LaunchCost> {
        let Some(cut) = self.view.cut(flow.order(), flow.splits(), self.tile.bm) else { return Vec::new() };
        let splits = f64::from(cut.splits);
        let sums = splits * self.view.m as f64 * f64::from(self.l.cout) * WORD;
        let written = if cut.splits > 1 { sums } else { self.output() + self.residual() };
        let w = Multiply {
            items: cut.items as f64,
            item_taps: cut.executed as f64 / f64::from(cut.height),
            longest: cut.longest.into(),
            unique: cut.unique as f64,
            out_bytes: written + cut.executed as f64 * WORD,
            ..self.base("multiply")
        };
        let mut list = vec![cost(self.d, self.p, &w, 1)];
        if cut.splits > 1 {
            list.push(self.finish(sums));
        }
        list
    }

    /// Sums of f32 to outputs.
    fn finish(&self, sums: f64) -> LaunchCost {
        let t = Traffic { near: sums + self.output() + self.residual(), chain: 1.0, ..Traffic::default() };
        t.cost(self.d, "finish", 1)
    }

    fn fetch_on_demand(&self, fused: bool) -> Vec<LaunchCost> {
        let sums = self.view.m as f64 * f64::from(self.l.cout) * WORD;
        let added = self.g.pairs() as f64 * f64::from(self.l.cout) * WORD;
        let bm = u64::from(self.tile.bm);
        let items: u64 = self.g.pairs_per_tap.iter().map(|p| p.div_ceil(bm)).sum();
        let items = items as f64;
        let base = Multiply { items, item_taps: items, ..self.base("multiply and add") };
        let zero = Traffic { near: sums, ..Traffic::default() }.cost(self.d, "zeros", 1);
        let main = if fused {
            cost(self.d, self.p, &Multiply { added_bytes: added, ..base }, 1)
        } else {
            cost(self.d, self.p, &Multiply { out_bytes: 2.0 * added, ..base }, self.g.taps)
        };
        vec![zero, main, self.finish(sums)]
    }

    fn gather_scatter(&self, eps: u32, short: u32) -> Vec<LaunchCost> {
        let (pairs, cin, cout) = (self.g.pairs() as f64, f64::from(self.l.cin), f64::from(self.l.cout));
        let gathered = pairs * cin * self.element();
        let source = self.view.n as f64 * cin * self.element();
        let gather = Traffic {
            near: gathered + pairs * WORD,
            random: pairs,
            random_bytes: cin * self.element(),
            footprint: source,
            chain: 2.0,
            ..Traffic::default()
        };
        let mut list = vec![gather.cost(self.d, "gather", 1)];
        for (tall, bm) in [(true, self.tile.bm), (false, short)] {
            let taps: Vec<u64> =
                self.g.pairs_per_tap.iter().copied().filter(|p| *p > 0 && is_tall(*p, self.tile.bm, eps) == tall).collect();
            // A list without a tap is launched too: only the device knows.
            let items: u64 = taps.iter().map(|p| p.div_ceil(bm.into())).sum();
            let mine: u64 = taps.iter().sum();
            let (items, mine) = (items as f64, mine as f64);
            let w = Multiply {
                tile: Tile { bm, ..self.tile },
                taps: taps.len() as f64,
                items,
                item_taps: items,
                gathered: mine,
                unique: mine,
                rows: mine,
                out_bytes: mine * cout * WORD,
                ..self.base(if tall { "multiply" } else { "multiply short taps" })
            };
            list.push(cost(self.d, self.p, &w, 1));
        }
        let scatter = Traffic {
            near: self.view.m as f64 * f64::from(self.g.taps) * WORD + self.output() + self.residual(),
            random: pairs,
            random_bytes: cout * WORD,
            footprint: pairs * cout * WORD,
            chain: 2.0,
            ..Traffic::default()
        };
        list.push(scatter.cost(self.d, "scatter and sum", 1));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::samples::{KITTI, minkunet};
    use crate::sparse::space::Space;

    fn best(d: &DeviceProfile, work: &NetworkWork, group: usize) -> (Candidate, f64) {
        let (legal, _) = Space::new(d.arch).candidates(work, group);
        let times = legal.into_iter().map(|c| (c, Model { device: d }.group(work, group, &c).chosen_seconds()));
        times.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
    }

    fn family(d: &DeviceProfile, work: &NetworkWork, group: usize, wanted: &str) -> f64 {
        let (legal, _) = Space::new(d.arch).candidates(work, group);
        let of = legal.into_iter().filter(|c| c.to_string().starts_with(wanted));
        of.map(|c| Model { device: d }.group(work, group, &c).chosen_seconds()).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn no_layer_is_faster_than_what_it_multiplies_or_its_weight() {
        for (d, p) in DeviceProfile::all().iter().flat_map(|d| [(d, Precision::F16), (d, Precision::Tf32)]) {
            let work = minkunet(&KITTI, 1.0, p);
            let rate = d.tensor_flops * f64::from(d.sms) * d.clock_hz * 2.0 / f64::from(p.bytes());
            for (i, g) in work.groups.iter().enumerate() {
                let layer = |l: &LayerShape| f64::from(l.cin) * f64::from(l.cout);
                let flops: f64 = work.layers_of(i).map(|l| 2.0 * g.pairs() as f64 * layer(l)).sum();
                let bytes: f64 = work.layers_of(i).map(|l| f64::from(g.taps) * layer(l) * f64::from(p.bytes())).sum();
                let (legal, _) = Space::new(d.arch).candidates(&work, i);
                for c in legal {
                    let [_, _, layers] = Model { device: d }.group(&work, i, &c).parts();
                    assert!(layers > flops / rate && layers > bytes / d.memory_bytes, "{} {c}", g.name);
                }
            }
        }
    }

    #[test]
    fn sorting_pays_where_channels_are_many_and_not_where_launches_are_all() {
        for d in DeviceProfile::all() {
            // 60 thousand voxels, 96 to 128 channels: a third of the rows executed is worth twelve launches of a sort.
            let wide = minkunet(&KITTI, 1.0, Precision::F16);
            assert!(family(d, &wide, 1, "implicit_sorted") < family(d, &wide, 1, "implicit/"), "{}", d.name);
            // One layer of few channels on a hundredth of the voxels.
            let mut few = wide.clone();
            few.layers.retain(|l| l.group == 1 && l.name == "stage0a.1");
            let g = &mut few.groups[1];
            let hundredth = |v: &mut u64| *v /= 100;
            g.pairs_per_tap.iter_mut().for_each(hundredth);
            [&mut g.forward.n, &mut g.forward.m].into_iter().for_each(hundredth);
            for t in &mut g.forward.tiles {
                let taps = t.executed / u64::from(t.height) / 100 + 1;
                (t.executed, t.items, t.unique) = (taps * u64::from(t.height), t.items / 100 + 1, t.unique / 100);
            }
            let narrow = family(d, &few, 1, "implicit/");
            assert!(
                narrow < family(d, &few, 1, "implicit_sorted") && narrow < family(d, &few, 1, "fetch"),
                "{} {narrow} {} {}",
                d.name,
                family(d, &few, 1, "implicit_sorted"),
                family(d, &few, 1, "fetch")
            );
        }
    }

    #[test]
    fn slower_multiplying_makes_less_waste_worth_more() {
        for d in DeviceProfile::all() {
            let gain = |p| {
                let work = minkunet(&KITTI, 1.0, p);
                family(d, &work, 2, "implicit/") / family(d, &work, 2, "implicit_sorted")
            };
            assert!(
                gain(Precision::Tf32) > gain(Precision::F16),
                "{} {} {}",
                d.name,
                gain(Precision::Tf32),
                gain(Precision::F16)
            );
        }
    }

    #[test]
    fn only_what_is_launched_is_charged() {
        let (d, work) = (&DeviceProfile::all()[0], minkunet(&KITTI, 1.0, Precision::F16));
        let (legal, _) = Space::new(d.arch).candidates(&work, 5);
        let model = Model { device: d };
        let names = |c: &Candidate| model.group(&work, 5, c).launches().map(|l| l.what).collect::<Vec<_>>();
        for c in &legal {
            let names = names(c);
            let has = |what: &str| names.iter().any(|n| n.starts_with(what));
            assert_eq!(has("sort"), c.flow.order() != crate::sparse::Rows::Given, "{c}");
            assert_eq!(has("pairs"), !c.flow.is_implicit(), "{c}");
            assert_eq!(has("finish"), c.flow.splits() > 1 || c.flow.family() == "fetch_on_demand", "{c}");
            assert_eq!(has("gather"), c.flow.family() == "gather_scatter", "{c}");
            // The layer back up goes through the transpose, from which it has lists of its own.
            assert!(has("map: transpose") && has("outputs") && has("map"), "{c}");
            let cut = names.iter().filter(|n| ["tiles", "pairs: lists"].contains(n)).count();
            assert_eq!(cut, 2, "{c}");
        }
        // The input has 4 channels: 8 bytes a row.
        let padded: Vec<_> =
            model.group(&work, 0, &best(d, &work, 0).0).layers.into_iter().filter(|l| l.what.starts_with("pad")).collect();
        assert_eq!(padded.iter().map(|l| l.layer.as_deref()).collect::<Vec<_>>(), [Some("stem.0"), Some("stem.0")]);
    }
}
