//! The space of the attention forward.

use super::Point;
use super::listed::{Family, with_defaults};
use super::rule::{Kind, Line, Rule};
use crate::device::DeviceProfile;
use crate::estimate::{Counts, Estimate};
use crate::model::attention::{Sizes, estimate};
use crate::task::Task;
use std::str::FromStr;
use tilewright_ir::Arch;
use tilewright_templates::attention::{AttentionConfig, AttentionProblem, forward_plan};
use tilewright_templates::plan::OpPlan;

/// One class of `attention`.
pub(super) struct Attention {
    arch: Arch,
    problem: AttentionProblem,
    prefix: bool,
}

impl Attention {
    pub fn new(arch: Arch, class: &str) -> Result<Self, String> {
        let (text, prefix) = class.strip_suffix(",prefix=1").map_or((class, false), |text| (text, true));
        let problem = AttentionProblem::from_class(text).map_err(|e| e.to_string())?;
        problem.check().map_err(|e| e.to_string())?;
        Ok(Attention { arch, problem, prefix })
    }

    fn sizes(&self, task: &Task) -> Option<Sizes> {
        Sizes::of(task).filter(|_| !self.prefix || task.size("prefix").is_some())
    }
}

impl Family for Attention {
    type Config = AttentionConfig;
    const RULES: &'static [Rule<Self, AttentionConfig>] = &[
        Rule { name: "target", why: |f, _, _, c| target(f.arch, matches!(c, AttentionConfig::Wgmma(_))) },
        Rule { name: "config", why: |f, _, _, c| c.check(f.arch, &f.problem).err().map(|e| e.to_string()) },
        Rule {
            name: "sizes",
            why: |f, t, _, _| {
                let prefix = if f.prefix { ", prefix" } else { "" };
                f.sizes(t).is_none().then(|| format!("attention has sizes sq, hq, hkv{prefix}, perhaps batch and sk"))
            },
        },
        Rule { name: "rows", why: |_, t, _, c| rows(t, c) },
    ];
    const DERIVED: &'static [&'static str] = &[];

    fn arch(&self) -> Arch {
        self.arch
    }

    fn op_and_class(&self) -> (&'static str, String) {
        ("attention", format!("{}{}", self.problem.class(), if self.prefix { ",prefix=1" } else { "" }))
    }

    fn complete(&self, task: &Task) -> Task {
        let (sq, total) = (task.size("sq"), task.size("total_q"));
        let whole = |each: Option<i64>| each.map(|s| s * task.size("batch").unwrap_or(1));
        let totals = [("total_q", total.or(whole(sq))), ("total_k", total.or(whole(task.size("sk").or(sq))))];
        with_defaults(task, [("batch", Some(1)), ("sq", sq.or(total)), ("sk", sq.or(total))].into_iter().chain(totals))
    }

    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        if self.arch.is_hopper() {
            kinds.push(Kind {
                fixed: vec![("kind", "wgmma".to_string())],
                lines: vec![
                    Line::tied(&["bm", "wgs"], &[["64", "1"], ["128", "2"], ["192", "3"]]),
                    Line::one(&["bn"], (1..=16).map(|n| 16 * n)),
                    Line::one(&["stages"], [1, 2, 3, 4]),
                    Line::one(&["overlap"], [0, 1]),
                    Line::one(&["pingpong"], [0, 1]),
                    Line::one(&["persistent"], [0, 1]),
                    Line::one(&["exp_fma"], [0, 2, 4, 8]),
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
                Line::one(&["stages"], [1, 2, 3]),
            ],
        });
        kinds
    }

    fn tied(&self, p: &Point) -> Option<String> {
        let on = |axis: &str| p.get(axis) == Some("1");
        let whole = p.get("pingpong") == Some("1") && p.get("overlap") == Some("0");
        if whole {
            return Some(
                "pingpong=1 without overlap: turns at the tensor cores are for softmaxes that hide under the other's".into(),
            );
        }
        // Four stages hold blocks that nobody waits for: a block of keys lasts longer than its load.
        let deep = p.get("stages") == Some("4") && !on("overlap") && p.get("overlap").is_some();
        deep.then(|| "stages=4 without overlap: one block is in use, one on its way; more wait for nothing".into())
    }

    fn derive(&self, p: Point) -> Point {
        p
    }

    fn config(&self, p: &Point) -> Result<AttentionConfig, String> {
        AttentionConfig::from_str(&p.to_string()).map_err(|e| e.to_string())
    }

    fn plan(&self, c: &AttentionConfig) -> Result<OpPlan, String> {
        forward_plan(self.arch, &self.problem, c, self.prefix).map_err(|e| e.to_string())
    }

    fn estimate(&self, device: &DeviceProfile, task: &Task, c: &AttentionConfig, counts: Option<&Counts>) -> Estimate {
        let Some(s) = self.sizes(task) else { return Estimate::never() };
        let own = estimate(device, &self.problem, c, &s, counts);
        match task.size("prefix").filter(|_| self.prefix) {
            // All queries as those of one sequence, none masked.
            Some(prefix) => {
                let all = Sizes { batch: 1.0, sq: s.batch * s.sq, sk: prefix as f64, ..s };
                estimate(device, &AttentionProblem { causal: false, ..self.problem }, c, &all, counts).then(own)
            }
            None => own,
        }
    }
}

/// Whether the target has the instructions.
pub(super) fn target(arch: Arch, hopper: bool) -> Option<String> {
    (hopper && !arch.is_hopper()).then(|| format!("wgmma needs sm90, the target is {arch}"))
}

/// Tiles that no task fills: twice as many rows as there are queries, where a smaller tile holds them.
fn rows(task: &Task, c: &AttentionConfig) -> Option<String> {
    let ([bm, _], sq) = (c.tile(), task.size("sq")?);
    let least = if matches!(c, AttentionConfig::Wgmma(_)) { 64 } else { 16 };
    let empty = i64::from(bm) >= 2 * sq.max(1) && bm > least;
    empty.then(|| format!("bm={bm} for {sq} queries: half of each tile is empty, smaller ones hold them"))
}
