//! Why each group does what it does: statistics, choice, modelled times, what was passed over.

use super::candidate::Candidate;
use super::cost::{Bound, GroupCost, LaunchCost};
use super::search::Search;
use super::work::{GroupStats, Precision, Rows, Way};
use serde::Serialize;
use std::collections::BTreeMap;

/// A network's choices in numbers. Times are microseconds of the model, which is fitted to nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Network.
    pub network: String,
    /// What its features are multiplied as.
    pub precision: Precision,
    /// Device profile.
    pub device: String,
    /// Groups in order.
    pub groups: Vec<GroupExplanation>,
    /// Layers that only move features.
    pub copies_us: f64,
    /// Sums over groups.
    pub total: Parts,
}

/// Times of a group or network, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Parts {
    /// Making the maps.
    pub map_us: f64,
    /// Pairs, sorting, tiles.
    pub lists_us: f64,
    /// Layers.
    pub layers_us: f64,
    /// All of it, with what layers between convolutions move.
    pub all_us: f64,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupExplanation {
    /// Name.
    pub group: String,
    /// Its layers: name and channels, `stem.0 4-32`.
    pub layers: Vec<String>,
    /// Taps.
    pub taps: u32,
    /// Rows read.
    pub n: u64,
    /// Rows written.
    pub m: u64,
    /// Entries of the map.
    pub pairs: u64,
    /// Rows executed over pairs at the tile height of the choice, for each way to sort.
    pub waste: Vec<Waste>,
    /// The candidate chosen.
    pub choice: String,
    /// Its times.
    pub times: Parts,
    /// What its launches wait for, with the time of those that do, most first.
    pub bound: Vec<(Bound, f64)>,
    /// Its launches, those alike together.
    pub launches: Vec<LaunchSum>,
    /// The best candidate of each other dataflow, order and number of ranges, and the next tile of the same; best first.
    pub passed_over: Vec<PassedOver>,
    /// Points of the space that are no candidates.
    pub illegal: usize,
    /// Why, with one of them.
    pub illegal_reasons: Vec<(String, String)>,
}

/// Rows executed over pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Waste {
    /// Which way through the map.
    pub way: Way,
    /// What rows are sorted by.
    pub order: Rows,
    /// Ranges of taps.
    pub splits: u32,
    /// Rows of a tile.
    pub height: u32,
    /// Rows executed.
    pub rows: u64,
    /// Over pairs.
    pub waste: f64,
}

/// Launches alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LaunchSum {
    /// What they do.
    pub what: &'static str,
    /// How many.
    pub launches: u32,
    /// All of them, microseconds.
    pub us: f64,
    /// What most of that waits for.
    pub bound: Bound,
}

/// A candidate that was not chosen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PassedOver {
    /// The candidate.
    pub id: String,
    /// How much more it takes, microseconds; below 0 where the choice is not the model's.
    pub more_us: f64,
    /// Where the difference comes from.
    pub why: String,
}

impl Explanation {
    /// Explains a choice: the model's own, or that of a record.
    pub fn new(search: &Search, choice: &[Candidate]) -> Explanation {
        let (work, model) = (search.work, search.model);
        let groups: Vec<_> = choice.iter().enumerate().map(|(g, c)| group(search, g, c)).collect();
        let copies_us = model.copies(work).iter().map(|c| c.seconds * 1e6).sum();
        let sum = |f: fn(&Parts) -> f64| groups.iter().map(|g| f(&g.times)).sum::<f64>();
        let total = Parts {
            map_us: sum(|p| p.map_us),
            lists_us: sum(|p| p.lists_us),
            layers_us: sum(|p| p.layers_us),
            all_us: sum(|p| p.all_us) + copies_us,
        };
        let (network, device) = (work.network.clone(), model.device.name.clone());
        Explanation { network, precision: work.precision, device, groups, copies_us, total }
    }
}

fn group(search: &Search, g: usize, choice: &Candidate) -> GroupExplanation {
    let (work, stats) = (search.work, &search.work.groups[g]);
    let cost = search.model.group(work, g, choice);
    let (_, illegal) = search.space.candidates(work, g);
    let mut reasons: BTreeMap<String, String> = BTreeMap::new();
    for (c, why) in &illegal {
        reasons.entry(why.to_string()).or_insert_with(|| c.to_string());
    }
    GroupExplanation {
        group: stats.name.clone(),
        layers: work.layers_of(g).map(|l| format!("{} {}-{}", l.name, l.cin, l.cout)).collect(),
        taps: stats.taps,
        n: stats.forward.n,
        m: stats.forward.m,
        pairs: stats.pairs(),
        waste: waste(stats, choice.tile.bm),
        choice: choice.to_string(),
        times: parts(&cost),
        bound: bounds(&cost),
        launches: sums(&cost),
        passed_over: passed_over(search, g, choice, &cost),
        illegal: illegal.len(),
        illegal_reasons: reasons.into_iter().collect(),
    }
}

fn parts(c: &GroupCost) -> Parts {
    let [map_us, lists_us, layers_us] = c.parts().map(|s| s * 1e6);
    Parts { map_us, lists_us, layers_us, all_us: map_us + lists_us + layers_us }
}

fn waste(g: &GroupStats, height: u32) -> Vec<Waste> {
    let views = [(Way::Forward, Some(&g.forward)), (Way::Transposed, g.transposed.as_ref())];
    let views = views.into_iter().filter_map(|(way, v)| Some((way, v?)));
    let of = |(way, v): (Way, &super::work::ViewStats)| {
        let cuts = v.tiles.iter().filter(|t| t.height == height).copied().collect::<Vec<_>>();
        let pairs = g.pairs().max(1) as f64;
        cuts.into_iter().map(move |t| Waste {
            way,
            order: t.order,
            splits: t.splits,
            height,
            rows: t.executed,
            waste: t.executed as f64 / pairs,
        })
    };
    views.flat_map(of).collect()
}

fn bounds(c: &GroupCost) -> Vec<(Bound, f64)> {
    let mut all: BTreeMap<Bound, f64> = BTreeMap::new();
    for l in c.launches() {
        *all.entry(l.bound).or_default() += l.seconds * 1e6;
    }
    let mut list: Vec<_> = all.into_iter().collect();
    list.sort_by(|a, b| b.1.total_cmp(&a.1));
    list
}

fn sums(c: &GroupCost) -> Vec<LaunchSum> {
    let mut list: Vec<(LaunchSum, f64)> = Vec::new();
    for l in c.launches() {
        let LaunchCost { what, launches, seconds, bound, .. } = *l;
        match list.iter_mut().find(|(s, _)| s.what == what) {
            // The bound of the longest of them.
            Some((sum, longest)) => {
                sum.launches += launches;
                sum.us += seconds * 1e6;
                if seconds > *longest {
                    (sum.bound, *longest) = (bound, seconds);
                }
            }
            None => list.push((LaunchSum { what, launches, us: seconds * 1e6, bound }, seconds)),
        }
    }
    list.into_iter().map(|s| s.0).collect()
}

fn passed_over(search: &Search, g: usize, choice: &Candidate, cost: &GroupCost) -> Vec<PassedOver> {
    let mut seen = Vec::new();
    let mut list = Vec::new();
    for (c, _) in search.ranked(g) {
        if c == choice {
            continue;
        }
        // Of gather and scatter all percentages are one neighbour.
        let kind = (c.flow.family(), c.flow.splits(), c.flow.order(), c.flow.is_deterministic());
        if seen.contains(&kind) {
            continue;
        }
        seen.push(kind);
        let other = search.model.group(search.work, g, c);
        let more_us = (other.seconds() - cost.seconds()) * 1e6;
        list.push(PassedOver { id: c.to_string(), more_us, why: why(search, g, [choice, c], [cost, &other]) });
    }
    list
}

/// Where two candidates differ: lists, layers, and of these the rows executed.
fn why(search: &Search, g: usize, [chosen, other]: [&Candidate; 2], costs: [&GroupCost; 2]) -> String {
    let [[_, lists, layers], [_, other_lists, other_layers]] = costs.map(|c| c.parts().map(|s| s * 1e6));
    let mut text = format!("layers {:+.1} us, lists {:+.1} us", other_layers - layers, other_lists - lists);
    let [a, b] = [chosen, other].map(|c| executed(&search.work.groups[g], c));
    if (a - b).abs() > 0.01 {
        text += &format!("; {b:.2} rows executed a pair, not {a:.2}");
    }
    let [a, b] = costs.map(|c| c.launches().map(|l| l.launches).sum::<u32>());
    if a != b {
        text += &format!("; {b} launches, not {a}");
    }
    let [a, b] = costs.map(|c| bounds(c).first().map(|b| b.0));
    if let (Some(a), Some(b)) = (a, b)
        && a != b
    {
        text += &format!("; waits for {b}, not {a}");
    }
    text
}

/// Rows a candidate executes for each pair, forward where there are two ways.
fn executed(g: &GroupStats, c: &Candidate) -> f64 {
    let (pairs, bm) = (g.pairs().max(1) as f64, u64::from(c.tile.bm));
    if c.flow.is_implicit() {
        let cut = g.forward.cut(c.flow.order(), c.flow.splits(), c.tile.bm);
        return cut.map_or(0.0, |t| t.executed as f64 / pairs);
    }
    g.pairs_per_tap.iter().map(|p| p.next_multiple_of(bm)).sum::<u64>() as f64 / pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceProfile;
    use crate::sparse::cost::Model;
    use crate::sparse::samples::{KITTI, minkunet};
    use crate::sparse::search::Settings;
    use crate::sparse::space::Space;

    #[test]
    fn the_parts_add_up_and_nothing_passed_over_is_better() {
        let work = minkunet(&KITTI, 1.0, Precision::F16);
        let device = &DeviceProfile::all()[0];
        let s = Search::new(&work, Model { device }, Space::new(device.arch), Settings::default()).unwrap();
        let e = Explanation::new(&s, &s.modelled());
        assert!((e.total.all_us - s.model.network(&work, &s.modelled()) * 1e6).abs() < 1e-3);
        for g in &e.groups {
            let t = g.times;
            assert!((t.map_us + t.lists_us + t.layers_us - t.all_us).abs() < 1e-6);
            assert!((g.launches.iter().map(|l| l.us).sum::<f64>() - t.all_us).abs() < 1e-6);
            assert!((g.bound.iter().map(|b| b.1).sum::<f64>() - t.all_us).abs() < 1e-6);
            // Ties within a percent of what the group decides go to the smaller id.
            let tie = -0.011 * (t.lists_us + t.layers_us);
            assert!(g.passed_over.iter().all(|p| p.more_us > tie && p.id != g.choice), "{}", g.group);
            assert!(g.passed_over.windows(2).all(|w| w[0].more_us <= w[1].more_us));
            // Sorted ways: 4 ranges of 3 orders; unsorted; two of fetch on demand; gather and scatter.
            assert_eq!(g.passed_over.len(), 16, "{}", g.group);
            assert!(g.illegal > 0 && !g.illegal_reasons.is_empty());
        }
        // Down and up: waste from either side, 13 ways each.
        assert_eq!([0, 5].map(|g| e.groups[g].waste.len()), [13, 26]);
        let first = &e.groups[0];
        let plain = first.waste.iter().find(|w| w.order == Rows::Plain && w.splits == 1 && w.height == 128).unwrap();
        assert!((plain.waste - 2.17).abs() < 0.01, "as measured");
    }
}
