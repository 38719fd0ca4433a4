//! Grouped GEMM: rows sorted by expert.
//!
//! | file | holds |
//! |---|---|
//! | `request` | keys and tensors of a run, and the config for it |
//! | `case` | sizes, the comparison with the reference |
//! | `random` | made-up routings and the sizes a plan is verified on |

mod case;
mod random;
mod request;

use super::super::{About, Family, Indexed};
use crate::error::{Res, bad_input};
use crate::library::Entry;
use serde_json::json;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::dispatch::{ChosenBy, Dispatch};
use tilewright_templates::gemm::{GemmConfig, GemmProblem, Groups, build, grouped_plan, space};
use tilewright_templates::plan::{OpPlan, TemplateKernel};

/// The row of `gemm_grouped`.
pub const FAMILY: Family = Family {
    op: "gemm_grouped",
    about,
    configs: |arch| space(arch, &plain()).iter().map(GemmConfig::axes).collect(),
    class: "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0,groups=offsets",
    request: request::request,
    plans,
    kernel,
    table: |_, class, plans| Ok(by_rows(class, plans)),
    cases: random::cases,
};

fn plain() -> GemmProblem {
    GemmProblem { groups: Groups::Offsets, ..GemmProblem::plain(DType::BF16) }
}

fn about() -> About {
    About {
        templates: vec!["wgmma", "mma", "tiles", "gather"],
        inputs: vec!["bf16", "f16"],
        outputs: vec!["bf16", "f16", "f32"],
        keys: vec![
            ("out", json!(["bf16", "f16", "f32"])),
            ("act", json!(["none", "relu", "gelu", "silu", "swiglu"])),
            ("alpha", json!("f32")),
            ("b", json!(["nk", "kn"])),
            ("config", json!("a config id")),
        ],
    }
}

/// A class and whether its rows are gathered first.
fn problem(class: &str) -> Res<(GemmProblem, bool)> {
    let (text, gather) = class.strip_suffix(",gather=1").map_or((class, false), |text| (text, true));
    Ok((GemmProblem::from_class(text).map_err(bad_input)?, gather))
}

fn plans(arch: Arch, entry: &Entry) -> Res<Vec<OpPlan>> {
    let (p, gather) = problem(&entry.class)?;
    let plan = |text: &String| {
        let config: GemmConfig = text.parse().map_err(bad_input)?;
        grouped_plan(arch, &p, &config, gather).map_err(|e| bad_input(format!("{}: {e}", entry.class)))
    };
    entry.configs.iter().map(plan).collect()
}

fn kernel(arch: Arch, class: &str, config: &str) -> Res<TemplateKernel> {
    let (p, _) = problem(class)?;
    build(arch, &p, &config.parse().map_err(bad_input)?).map_err(bad_input)
}

/// Buckets of the rows an expert is expected to have: first the lowest tiles that hold them, then lower ones, highest first.
fn by_rows(class: &str, plans: &[Indexed<'_>]) -> Dispatch {
    const EDGES: [i64; 5] = [8, 16, 32, 64, 128];
    let rows = |p: &OpPlan| p.kernels.last().and_then(|k| k.config.get("bm")?.parse::<i64>().ok()).unwrap_or(0);
    let order = |expected: i64| {
        let mut list: Vec<&Indexed<'_>> = plans.iter().collect();
        list.sort_by_key(|(_, p)| if rows(p) >= expected { (0, rows(p)) } else { (1, -rows(p)) });
        list.into_iter().map(|p| p.0).collect()
    };
    Dispatch {
        op: "gemm_grouped".into(),
        class: class.into(),
        m_edges: EDGES.to_vec(),
        n_edges: Vec::new(),
        k_edges: Vec::new(),
        cells: EDGES.into_iter().chain([i64::MAX]).map(order).collect(),
        chosen_by: ChosenBy::Model,
    }
}
