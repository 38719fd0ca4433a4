//! Grouped GEMM: rows sorted by expert.
//!
//! | file | holds |
//! |---|---|
//! | `request` | keys and tensors of a run, and the config for it |
//! | `case` | sizes, the comparison with the reference |
//! | `weight` | the same with weights of a few bits instead of b |
//! | `random` | made-up routings and the sizes a plan is verified on |
//! | `tuned` | the sizes of a tuner's task |

mod case;
mod random;
mod request;
mod tuned;
mod weight;

pub use tuned::tuned;

use super::super::{About, Family, Indexed};
use crate::error::{Res, bad_input, failure};
use crate::library::Entry;
use serde_json::json;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::dispatch::{ChosenBy, Dispatch, TableBuilder};
use tilewright_templates::gemm::weight::WeightClass;
use tilewright_templates::gemm::{
    GemmConfig, GemmError, GemmProblem, Groups, build, grouped_class, grouped_dequantised_plan, grouped_plan, space,
};
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
    table: |_, class, plans| by_rows(class, plans),
    cases: random::cases,
};

fn plain() -> GemmProblem {
    GemmProblem { groups: Groups::Offsets, ..GemmProblem::plain(DType::BF16) }
}

fn about() -> About {
    About {
        templates: vec!["wgmma", "mma", "weight_wgmma", "tiles", "gather"],
        inputs: vec!["bf16", "f16", "e4m3", "e5m2", "i8"],
        outputs: vec!["bf16", "f16", "f32", "e4m3", "i32"],
        keys: vec![
            ("out", json!(["bf16", "f16", "f32", "e4m3", "i32"])),
            ("act", json!(["none", "relu", "gelu", "silu", "swiglu"])),
            ("alpha", json!("f32")),
            ("b", json!(["nk", "kn"])),
            ("quant", json!(["128"])),
            ("config", json!("a config id")),
        ]
        .into_iter()
        .chain(super::weight_keys())
        .collect(),
    }
}

/// A class, and whether its rows are gathered first.
fn problem(class: &str) -> Res<(WeightClass, bool)> {
    let (text, gather) = class.strip_suffix(",gather=1").map_or((class, false), |text| (text, true));
    Ok((WeightClass::from_class(text).map_err(bad_input)?, gather))
}

fn plans(arch: Arch, entry: &Entry) -> Res<Vec<OpPlan>> {
    let (class, gather) = problem(&entry.class)?;
    let plan = |text: &String| {
        let config: GemmConfig = text.parse().map_err(bad_input)?;
        let plan = complete(arch, &class, &config, gather, false);
        plan.map_err(|e| bad_input(format!("{}: {e}", entry.class)))
    };
    entry.configs.iter().map(plan).collect()
}

/// The plan of a class with what stands before its multiplication; `unpack` gives the one that unpacks the weights first.
fn complete(arch: Arch, class: &WeightClass, c: &GemmConfig, gather: bool, unpack: bool) -> Result<OpPlan, GemmError> {
    let make = if unpack { grouped_dequantised_plan } else { grouped_plan };
    let mut op = class.complete(arch, make(arch, &class.problem, c, gather)?)?;
    op.plan.class = grouped_class(&class.class(), gather);
    Ok(op)
}

fn kernel(arch: Arch, class: &str, config: &str) -> Res<TemplateKernel> {
    let (class, _) = problem(class)?;
    build(arch, &class.problem, &config.parse().map_err(bad_input)?).map_err(bad_input)
}

/// Buckets of the rows an expert is expected to have: first the lowest tiles that hold them, then lower ones, highest first. Where
/// no tile holds them, of the highest the widest first.
fn by_rows(class: &str, plans: &[Indexed<'_>]) -> Res<Dispatch> {
    const EDGES: [i64; 5] = [8, 16, 32, 64, 128];
    let axis = |p: &OpPlan, name: &str| p.kernels.last().and_then(|k| k.config.get(name)?.parse::<i64>().ok()).unwrap_or(0);
    let order = |expected: i64| {
        let mut list: Vec<&Indexed<'_>> = plans.iter().collect();
        list.sort_by_key(|(_, p)| match axis(p, "bm") {
            rows if rows >= expected => (0, rows, 0),
            rows => (1, -rows, -axis(p, "bn")),
        });
        list.into_iter().map(|p| p.0).collect()
    };
    // In the open bucket no tile holds them.
    let expected = |m: i64| if EDGES.contains(&m) { m } else { i64::MAX };
    let table = TableBuilder::new("gemm_grouped", class).axis("m", &EDGES);
    table.build(ChosenBy::Model, |s| order(expected(s[0]))).map_err(failure)
}
