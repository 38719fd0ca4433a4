//! The space of attention over a paged cache.

use super::Point;
use super::attention::target;
use super::listed::{Family, with_defaults};
use super::rule::{Kind, Line, Rule};
use crate::device::DeviceProfile;
use crate::estimate::{Counts, Estimate};
use crate::model::decode::{Parts, Sizes, estimate};
use crate::task::Task;
use std::str::FromStr;
use tilewright_ir::Arch;
use tilewright_templates::attention::{DecodeConfig, DecodeProblem, decode_plan};
use tilewright_templates::plan::OpPlan;

/// One class of `attention_decode`.
pub(super) struct Decode {
    arch: Arch,
    problem: DecodeProblem,
}

/// A point, read.
pub(super) struct DecodePoint {
    config: DecodeConfig,
    /// Parts of a sequence go to several CTAs and are merged.
    split: bool,
}

impl Decode {
    pub fn new(arch: Arch, class: &str) -> Result<Self, String> {
        let problem = DecodeProblem::from_class(class).map_err(|e| e.to_string())?;
        problem.check().map_err(|e| e.to_string())?;
        Ok(Decode { arch, problem })
    }
}

impl Family for Decode {
    type Config = DecodePoint;
    const RULES: &'static [Rule<Self, DecodePoint>] = &[
        Rule { name: "target", why: |f, _, _, c| target(f.arch, matches!(c.config, DecodeConfig::Wgmma(_))) },
        Rule { name: "config", why: |f, _, _, c| c.config.check(f.arch, &f.problem).err().map(|e| e.to_string()) },
        Rule {
            name: "sizes",
            why: |_, t, _, _| {
                Sizes::of(t)
                    .is_none()
                    .then(|| "decode has sizes batch, hq, hkv, page, max_pages, perhaps sq, splits and split_size".into())
            },
        },
        Rule { name: "page", why: |_, t, _, c| page(t, c) },
        Rule { name: "parts", why: |_, t, _, c| parts(t, c.split) },
    ];
    const DERIVED: &'static [&'static str] = &[];

    fn arch(&self) -> Arch {
        self.arch
    }

    fn op_and_class(&self) -> (&'static str, String) {
        ("attention_decode", self.problem.class())
    }

    fn complete(&self, task: &Task) -> Task {
        let m = task.size("hkv").zip(task.size("batch")).map(|(heads, batch)| heads * batch);
        // Each sequence has its own pages, unless the task says how many there are.
        let pages = task.size("batch").zip(task.size("max_pages")).map(|(batch, pages)| batch * pages);
        with_defaults(
            task,
            [("pages", pages), ("m", m), ("sq", Some(1)), ("splits", Some(0)), ("split_size", Some(0)), ("page", Some(64))],
        )
    }

    fn kinds(&self) -> Vec<Kind> {
        let split = || Line::one(&["split"], [0, 1]);
        let mut kinds = Vec::new();
        if self.arch.is_hopper() {
            kinds.push(Kind {
                fixed: vec![("kind", "wgmma".to_string())],
                lines: vec![
                    Line::one(&["bn"], [16, 32, 48, 64, 96, 128]),
                    Line::one(&["box"], [8, 16, 32, 64, 128]),
                    Line::one(&["stages"], [1, 2, 3, 4, 5, 6]),
                    Line::one(&["ctas"], [1, 2]),
                    split(),
                ],
            });
        }
        kinds.push(Kind {
            fixed: vec![("kind", "mma".to_string())],
            lines: vec![
                Line::tied(
                    &["bm", "warps"],
                    &[["16", "1"], ["32", "1"], ["32", "2"], ["64", "2"], ["64", "4"], ["128", "4"], ["128", "8"], ["256", "8"]],
                ),
                Line::one(&["bn"], [16, 32, 48, 64, 96, 128]),
                Line::one(&["stages"], [1, 2, 3, 4]),
                split(),
            ],
        });
        kinds
    }

    fn tied(&self, _: &Point) -> Option<String> {
        None
    }

    fn derive(&self, p: Point) -> Point {
        p
    }

    fn config(&self, p: &Point) -> Result<DecodePoint, String> {
        let axes: Vec<String> = p.axes().filter(|(axis, _)| *axis != "split").map(|(axis, v)| format!("{axis}={v}")).collect();
        let config = DecodeConfig::from_str(&axes.join(",")).map_err(|e| e.to_string())?;
        Ok(DecodePoint { config, split: p.get("split") == Some("1") })
    }

    fn plan(&self, c: &DecodePoint) -> Result<OpPlan, String> {
        decode_plan(self.arch, &self.problem, &c.config, c.split).map_err(|e| e.to_string())
    }

    fn estimate(&self, device: &DeviceProfile, task: &Task, c: &DecodePoint, counts: Option<&Counts>) -> Estimate {
        let Some(s) = Sizes::of(task) else { return Estimate::never() };
        let [splits, size] = ["splits", "split_size"].map(|name| task.size(name).unwrap_or(0));
        let count = |n: f64| Parts::Count(n as u32);
        let parts = match (c.split, size > 0, splits > 0) {
            (false, ..) => Parts::One,
            (true, true, _) => count((s.sk / size as f64).ceil()),
            (true, false, true) => count(splits as f64),
            (true, false, false) => Parts::Chosen,
        };
        estimate(device, &self.problem, &c.config, parts, &s, counts)
    }
}

/// Boxes that are as long as a page and a block allow: shorter ones are more copies of the same bytes.
fn page(task: &Task, c: &DecodePoint) -> Option<String> {
    let (DecodeConfig::Wgmma(w), Some(page)) = (&c.config, task.size("page")) else { return None };
    let longest = [128, 64, 32, 16, 8].into_iter().find(|b| page % i64::from(*b) == 0 && w.bn.is_multiple_of(*b));
    match longest {
        None => Some(format!("pages of {page} tokens: TMA brings 8 or more of one page")),
        Some(_) if page % i64::from(w.box_rows) != 0 => {
            Some(format!("box={}: a page of {page} tokens is no multiple", w.box_rows))
        }
        Some(b) if b > w.box_rows => {
            Some(format!("box={}: pages of {page} tokens allow {b}, fewer copies of the same bytes", w.box_rows))
        }
        Some(_) => None,
    }
}

/// What the task says of parts.
fn parts(task: &Task, split: bool) -> Option<String> {
    let [splits, size] = ["splits", "split_size"].map(|name| task.size(name).unwrap_or(0));
    match split {
        true if splits == 1 => Some("split=1: the task asks for one part".into()),
        false if splits > 1 || size > 0 => Some("split=0: the task asks for several parts".into()),
        _ => None,
    }
}
