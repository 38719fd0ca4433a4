//! Published beside modelled, as a table.

use super::best::{Best, BestError, Spaces, best_of};
use super::points::{Group, Published, Unit};
use crate::device::DeviceProfile;
use crate::model::quality::{kendall, regret};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A point and what the model says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The point.
    pub label: String,
    /// Its value.
    pub published: f64,
    /// The model's, of its best config.
    pub modelled: f64,
    /// How much faster the model is: above 1 it promises more than was published.
    pub ratio: f64,
    /// Rates of both, for orders: FLOP or bytes a second, or the value itself.
    pub rates: [f64; 2],
    /// The modelled config and what bounds it.
    pub config: String,
}

/// A group's points together.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Geometric mean of the ratios.
    pub geomean: f64,
    /// The ratio furthest from 1.
    pub worst: f64,
    /// Kendall's tau of the rates over its points.
    pub tau: Option<f64>,
    /// Top-1 regret, where several configs of one problem were published.
    pub regret: Option<f64>,
}

/// The points of a group beside the model.
pub fn compare(group: &Group) -> Result<Vec<Compared>, BestError> {
    points(group, &mut Spaces::new())
}

fn points(g: &Group, spaces: &mut Spaces) -> Result<Vec<Compared>, BestError> {
    let Some(d) = DeviceProfile::named(&g.device) else {
        let why = format!("no device profile `{}`", g.device);
        return Err(BestError::Class { op: g.op.clone(), class: g.class.clone(), why });
    };
    g.points.iter().map(|p| one(d, g, p, spaces)).collect()
}

fn one(d: &DeviceProfile, g: &Group, p: &Published, spaces: &mut Spaces) -> Result<Compared, BestError> {
    let label = p.label();
    let published = p.value;
    if g.unit == Unit::Speedup {
        let wide: String = g.class.split(',').filter(|f| !f.starts_with("weight=")).collect::<Vec<_>>().join(",");
        let mut sums = [0.0; 2];
        for [n, k] in &p.layers {
            let mut at = p.clone();
            at.sizes.extend([("n".to_string(), *n), ("k".to_string(), *k)]);
            sums[0] += best_of(d, &g.op, &wide, &at, spaces)?.estimate.seconds;
            sums[1] += best_of(d, &g.op, &g.class, &at, spaces)?.estimate.seconds;
        }
        let modelled = sums[0] / sums[1];
        let (ratio, rates) = (modelled / published, [published, modelled]);
        return Ok(Compared { label, published, modelled, ratio, rates, config: String::new() });
    }
    let Best { config, estimate } = best_of(d, &g.op, &g.class, p, spaces)?;
    let work = work(g, p);
    let (seconds, modelled) = match g.unit {
        Unit::Us => (published * 1e-6, estimate.seconds * 1e6),
        _ => (work / (published * 1e12), work / estimate.seconds / 1e12),
    };
    let bound = estimate.bound().map(|b| format!(", bound by {b}")).unwrap_or_default();
    Ok(Compared {
        label,
        published,
        modelled,
        ratio: seconds / estimate.seconds,
        rates: [work / seconds, work / estimate.seconds],
        config: format!("`{config}`{bound}"),
    })
}

/// FLOP of a point, by the convention of its field; of a decode, bytes of keys and values.
fn work(g: &Group, p: &Published) -> f64 {
    let field = |name: &str| g.class.split(',').find_map(|f| f.strip_prefix(name)?.strip_prefix('=')?.parse::<f64>().ok());
    let heads = field("d").unwrap_or(0.0) + field("dv").unwrap_or(0.0);
    match g.op.as_str() {
        "attention" => {
            let half = if field("causal") == Some(1.0) { 0.5 } else { 1.0 };
            2.0 * half * p.size("batch") * p.size("hq") * p.size("sq") * p.size("sk") * heads
        }
        "attention_decode" => 2.0 * p.size("batch") * p.size("sk") * p.size("hkv") * heads,
        _ => 2.0 * p.size("m") * p.size("n") * p.size("k"),
    }
}

impl Summary {
    /// Of a group's points.
    pub fn of(g: &Group, list: &[Compared]) -> Self {
        let logs: Vec<f64> = list.iter().map(|c| c.ratio.ln()).collect();
        let worst = logs.iter().copied().fold(0.0f64, |w, l| if l.abs() > w.abs() { l } else { w });
        let rates = |i: usize| list.iter().map(|c| c.rates[i]).collect::<Vec<_>>();
        // Times of the configs of one problem.
        let mut same: BTreeMap<_, Vec<[f64; 2]>> = BTreeMap::new();
        for (p, c) in g.points.iter().zip(list).filter(|(p, _)| p.config.is_some()) {
            same.entry(&p.sizes).or_default().push(c.rates.map(|r| 1.0 / r));
        }
        let of = |times: &[[f64; 2]], i: usize| times.iter().map(|t| t[i]).collect::<Vec<_>>();
        let regrets = same.values().filter_map(|times| regret(&of(times, 1), &of(times, 0), 1));
        Summary {
            geomean: (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp(),
            worst: worst.exp(),
            tau: kendall(&rates(0), &rates(1)),
            regret: regrets.reduce(f64::max),
        }
    }
}

/// Every group as Markdown: first a line a group, then its points.
pub fn table(groups: &[Group]) -> Result<String, BestError> {
    let mut spaces = Spaces::new();
    let mut lists = Vec::new();
    for g in groups {
        lists.push(points(g, &mut spaces)?);
    }
    let mut text = String::from("| group | points | geomean | worst | tau | top-1 regret |\n|---|---|---|---|---|---|\n");
    for (g, list) in groups.iter().zip(&lists) {
        let s = Summary::of(g, list);
        let tau = s.tau.map_or("-".into(), |t| format!("{t:.2}"));
        let regret = s.regret.map_or("-".into(), |r| format!("{:.1} %", 100.0 * r));
        let _ = writeln!(text, "| {} | {} | {:.2} | {:.2} | {tau} | {regret} |", g.name, list.len(), s.geomean, s.worst);
    }
    for (g, list) in groups.iter().zip(&lists) {
        let unit = match g.unit {
            Unit::Tflops => "TFLOP/s",
            Unit::Us => "us",
            Unit::Speedup => "speedup",
        };
        let note = g.note.as_ref().map(|n| format!(" ({n})")).unwrap_or_default();
        let _ = write!(text, "\n### {}\n\nSource: {}{note}. Profile {}, {unit}.\n\n", g.name, g.source, g.device);
        text += "| point | published | modelled | ratio | best config of the model |\n|---|---|---|---|---|\n";
        for c in list {
            let Compared { label, published, modelled, ratio, config, .. } = c;
            let digits = |v: f64| if v < 20.0 { format!("{v:.2}") } else { format!("{v:.0}") };
            let config = if config.is_empty() { "-" } else { config };
            let _ = writeln!(text, "| {label} | {} | {} | {ratio:.2} | {config} |", digits(*published), digits(*modelled));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::groups;
    use super::*;

    /// Where the table stands.
    const DOC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/model.md");

    #[test]
    fn the_document_holds_the_table_as_it_is_printed() {
        let doc = std::fs::read_to_string(DOC).unwrap();
        let now = table(&groups().unwrap()).unwrap();
        let lines = |t: &str| t.lines().map(str::to_string).collect::<Vec<_>>();
        let start = doc.find("| group |").expect("docs/model.md has the table");
        for (line, (found, expected)) in lines(&doc[start..]).into_iter().zip(lines(&now)).enumerate() {
            assert_eq!(
                found, expected,
                "line {line} of the table: print it again with `cargo run -p tilewright-autotune --example published`"
            );
        }
        assert_eq!(doc[start..].trim_end(), now.trim_end());
    }

    #[test]
    fn every_group_has_a_source_and_a_profile() {
        let groups = groups().unwrap();
        assert!(groups.iter().map(|g| g.points.len()).sum::<usize>() > 90);
        for g in &groups {
            assert!(!g.source.is_empty() && DeviceProfile::named(&g.device).is_some(), "{}", g.name);
            assert!(g.points.iter().all(|p| p.value > 0.0 && (g.unit == Unit::Speedup) != p.layers.is_empty()), "{}", g.name);
        }
    }

    #[test]
    fn a_group_of_nobody_is_refused() {
        let mut g = groups().unwrap().remove(0);
        g.device = "H300".into();
        assert!(compare(&g).unwrap_err().to_string().contains("no device profile `H300`"));
        g.device = "H100".into();
        g.class = "a=bf16".into();
        assert!(compare(&g).is_err());
        g.op = "sort".into();
        assert!(compare(&g).unwrap_err().to_string().contains("op `sort`"));
    }
}
