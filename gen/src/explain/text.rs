//! An explanation in words.

use super::From;
use std::fmt::Write as _;
use tilewright_autotune::sparse::{Explanation, Fit, GroupExplanation, Rows, Source, Waste, Way};

/// Candidates passed over that are printed.
const SHOWN: usize = 6;

/// The whole text.
pub fn words(e: &Explanation, from: &From) -> String {
    let mut t = format!("{} in {} on {}\n", e.network, e.precision.name(), e.device);
    let by = match from.source {
        Source::Model => "the model",
        Source::Measured => "measurements",
        Source::Simulated => "a simulated device, which is good for tests only",
    };
    let _ = write!(t, "chosen by {by}");
    if let Some(us) = from.record_us {
        let _ = write!(t, "; the record says {us:.1} us");
    }
    if let Fit::Near(factor) = from.fit {
        let _ = write!(t, "; made with another scene, whose sizes differ by up to a factor of {factor:.2}");
    }
    t += "\ntimes below are the model's: microseconds, fitted to no measurement\n";
    for g in &e.groups {
        group(&mut t, g);
    }
    let s = &e.total;
    let _ = writeln!(
        t,
        "\nend to end {:.1} us: maps {:.1}, lists {:.1}, layers {:.1}, copies {:.1}; {:.1} us with the maps at hand",
        s.all_us,
        s.map_us,
        s.lists_us,
        s.layers_us,
        e.copies_us,
        s.all_us - s.map_us
    );
    t
}

fn group(t: &mut String, g: &GroupExplanation) {
    let _ = writeln!(t, "\n{}", g.group);
    let _ = writeln!(t, "  layers    {}", g.layers.join(", "));
    let density = g.pairs as f64 / g.m.max(1) as f64;
    let _ = writeln!(t, "  map       n {}, m {}, {} taps, {} pairs, {density:.2} a row", g.n, g.m, g.taps, g.pairs);
    for way in [Way::Forward, Way::Transposed] {
        let of: Vec<&Waste> = g.waste.iter().filter(|w| w.way == way).collect();
        let Some(first) = of.first() else { continue };
        let back = if way == Way::Transposed { ", back" } else { "" };
        let _ = write!(t, "  executed  rows a pair in tiles of {}{back}:", first.height);
        for order in [Rows::Given, Rows::Plain, Rows::Rare, Rows::GrayRare] {
            let mut list: Vec<_> = of.iter().filter(|w| w.order == order).collect();
            list.sort_by_key(|w| w.splits);
            let numbers: Vec<String> = list.iter().map(|w| format!("{:.2}", w.waste)).collect();
            if !numbers.is_empty() {
                let _ = write!(t, " {order} {};", numbers.join(" "));
            }
        }
        t.pop();
        t.push('\n');
    }
    let _ = writeln!(t, "  chosen    {}", g.choice);
    let p = &g.times;
    let _ = writeln!(t, "  time      {:.1}: map {:.1}, lists {:.1}, layers {:.1}", p.all_us, p.map_us, p.lists_us, p.layers_us);
    let bounds: Vec<String> = g.bound.iter().map(|(b, us)| format!("{b} {:.0} %", 100.0 * us / p.all_us)).collect();
    let _ = writeln!(t, "  waits for {}", bounds.join(", "));
    for l in &g.launches {
        let _ = writeln!(t, "    {:<22} {:>3} launches {:>8.1}  {}", l.what, l.launches, l.us, l.bound);
    }
    let _ = writeln!(t, "  passed over");
    for o in g.passed_over.iter().take(SHOWN) {
        let _ = writeln!(t, "    {:>+8.1}  {}: {}", o.more_us, o.id, o.why);
    }
    if g.passed_over.len() > SHOWN {
        let _ = writeln!(t, "    and {} kinds more", g.passed_over.len() - SHOWN);
    }
    if let Some((why, id)) = g.illegal_reasons.first() {
        let _ = writeln!(
            t,
            "  none      {} points are no candidates, for {} reasons; {id}: {why}",
            g.illegal,
            g.illegal_reasons.len()
        );
    }
}
