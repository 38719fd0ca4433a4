//! Sparse convolution and its kernel maps.
//!
//! | file | holds |
//! |---|---|
//! | `keys` | keys: geometry, dataflow |
//! | `request` | tensors against keys; the map on the host |
//! | `case` | a layer with its data; the comparison |
//! | `facts` | what a report says beside it |
//! | `random` | made-up layers for verification |

mod case;
mod facts;
mod keys;
mod random;
mod request;

use super::{About, Family, Indexed};
use crate::error::{Res, bad_input, failure};
use crate::library::Entry;
use serde_json::{Value, json};
use tilewright_ir::{Arch, DType};
use tilewright_runtime::dispatch::{ChosenBy, Dispatch, TableBuilder};
use tilewright_templates::plan::{OpPlan, TemplateKernel};
use tilewright_templates::sparse_conv::{ConvProblem, Mode, Recipe, conv_plan, from_map_class, map_plan, recipes};

/// Keys of both ops, with what they take.
fn keys() -> Vec<(&'static str, Value)> {
    let axes = json!("a whole number, or x,y,z");
    vec![
        ("mode", json!(Mode::ALL.map(Mode::name))),
        ("kernel", axes.clone()),
        ("stride", axes.clone()),
        ("dilation", axes.clone()),
        ("padding", axes),
        ("dataflow", json!(["auto", "gather_scatter", "fetch_on_demand", "implicit", "implicit_sorted"])),
        ("splits", json!("ranges of taps, with dataflow=implicit_sorted")),
        ("order", json!(["plain", "rare", "gray_rare"])),
        ("fused", json!("true, false: all taps in one launch, with dataflow=fetch_on_demand")),
        ("act", json!(["none", "relu", "gelu", "silu"])),
        ("groups", json!([1])),
        ("config", json!("tiles of the multiplication")),
    ]
}

/// The row of `sparse_conv`.
pub const CONV: Family = Family {
    op: "sparse_conv",
    about: || About {
        templates: vec!["wgmma", "mma", "maps", "lists"],
        inputs: vec!["f16", "bf16", "f32"],
        outputs: vec!["f16", "bf16", "f32"],
        keys: keys(),
    },
    configs: |arch| {
        let p = ConvProblem::plain(DType::F16, Mode::Submanifold);
        recipes(arch, &p, [64, 64], None).iter().map(Recipe::axes).collect()
    },
    class: "dtype=f16,mode=submanifold,target=0,bias=none,bn=none,act=none,residual=0",
    request: request::conv_request,
    plans: |arch, entry| {
        let p = ConvProblem::from_class(&entry.class).map_err(bad_input)?;
        let plan = |text: &String| conv_plan(arch, &p, &text.parse().map_err(bad_input)?).map_err(bad_input);
        entry.configs.iter().map(plan).collect()
    },
    kernel: |arch, class, config| {
        let p = ConvProblem::from_class(class).map_err(bad_input)?;
        let recipe: Recipe = config.parse().map_err(bad_input)?;
        let kernels = conv_plan(arch, &p, &recipe).map_err(bad_input)?.kernels;
        let multiplies = |k: &TemplateKernel| k.id.contains(&recipe.config.to_string());
        kernels.into_iter().find(multiplies).ok_or_else(|| failure("a plan that does not multiply"))
    },
    table: |_, class, plans| by_work(class, plans),
    cases: random::conv_cases,
};

/// The row of `kernel_map`.
pub const MAP: Family = Family {
    op: "kernel_map",
    about: || About { templates: vec!["maps"], inputs: vec!["i32"], outputs: vec!["i32"], keys: keys() },
    configs: |_| Vec::new(),
    class: "mode=submanifold,target=0",
    request: request::map_request,
    plans: |arch, entry: &Entry| Ok(vec![plan_of_map(arch, &entry.class)?]),
    kernel: |arch, class, _| {
        let kernels = plan_of_map(arch, class)?.kernels;
        kernels.into_iter().next_back().ok_or_else(|| failure("a plan without kernels"))
    },
    table: |_, class, plans| Ok(in_order("kernel_map", class, plans)),
    cases: random::map_cases,
};

fn plan_of_map(arch: Arch, class: &str) -> Res<OpPlan> {
    let (mode, target) = from_map_class(class).map_err(bad_input)?;
    map_plan(arch, mode, target).map_err(bad_input)
}

/// Sorted rows first where there are many, and channels whose products are worth the sort; else as the library has them.
fn by_work(class: &str, plans: &[Indexed<'_>]) -> Res<Dispatch> {
    const FEW: i64 = 4096;
    const NARROW: i64 = 63;
    let sorts = |p: &OpPlan| Recipe::of_plan(&p.plan.id).is_some_and(|r| r.sorts());
    let order = |worth: bool| {
        let mut list: Vec<&Indexed<'_>> = plans.iter().collect();
        list.sort_by_key(|(_, p)| sorts(p) != worth);
        list.into_iter().map(|p| p.0).collect()
    };
    let table = TableBuilder::new("sparse_conv", class).axis("m", &[FEW]).axis("n", &[NARROW]).axis("k", &[NARROW]);
    table.build(ChosenBy::Model, |s| order(s[0] > FEW && s[1] > NARROW && s[2] > NARROW)).map_err(failure)
}

/// The first plan of the library that fits.
fn in_order(op: &str, class: &str, plans: &[Indexed<'_>]) -> Dispatch {
    Dispatch::single(op, class, plans.iter().map(|p| p.0).collect())
}
