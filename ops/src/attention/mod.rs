//! Attention: the forward, decode over a paged cache, and what goes with them.
//!
//! | file | holds |
//! |---|---|
//! | `terms` | masks, score terms and refusals that ops share |
//! | `forward`, `forward_case`, `forward_random` | `attention`: keys and tensors; data and reference; made-up data |
//! | `compare` | outputs against the references |
//! | `merge` | `attention_merge` |
//! | `pages` | `page_stats`, `page_select` |
//! | `decode`, `decode_case`, `decode_random` | `attention_decode`, likewise |
//! | `tuned` | both at the sizes of a tuner's task |

mod compare;
mod decode;
mod decode_case;
mod decode_random;
mod forward;
mod forward_case;
mod forward_random;
mod merge;
mod pages;
mod terms;
mod tuned;

pub use tuned::{tuned_decode, tuned_forward};

use super::{About, Family, Indexed};
use crate::error::{Res, bad_input, failure};
use crate::library::Entry;
use serde_json::{Value, json};
use tilewright_ir::{Arch, DType};
use tilewright_runtime::dispatch::{ChosenBy, Dispatch, TableBuilder};
use tilewright_templates::attention::{
    AttentionConfig, AttentionError, AttentionProblem, DecodeConfig, DecodeProblem, MergeProblem, PageProblem, decode_kernel,
    decode_space, forward_kernel, merge_kernel, merge_plan, page_select_plan, page_stats_plan, space,
};
use tilewright_templates::plan::{OpPlan, TemplateKernel};

/// Keys of masks and score terms, then an op's own.
fn with_terms(own: &[(&'static str, &str)]) -> Vec<(&'static str, Value)> {
    let terms = [
        ("causal", "true, false"),
        ("window_left", "tokens"),
        ("window_right", "tokens"),
        ("softcap", "f32"),
        ("scale", "f32"),
        ("chunk", "tokens"),
    ];
    terms.iter().chain(own).map(|(k, v)| (*k, json!(v))).collect()
}

/// The row of `attention`.
pub const FORWARD: Family = Family {
    op: "attention",
    about: || About {
        templates: vec!["wgmma", "mma", "blocks", "merge"],
        inputs: vec!["bf16", "f16"],
        outputs: vec!["bf16", "f16", "f32"],
        keys: with_terms(&[
            ("block_m", "tokens"),
            ("block_n", "tokens"),
            ("sink_tokens", "tokens"),
            ("recent_tokens", "tokens"),
            ("config", "a config id"),
        ]),
    },
    configs: |arch| space(arch, &AttentionProblem::plain(DType::BF16, 128)).iter().map(AttentionConfig::axes).collect(),
    class: "dtype=bf16,out=bf16,d=128,dv=128,causal=0,window=0,chunk=0,softcap=0,alibi=0,sink=0,bias=none,varlen=0,sparse=none",
    request: forward::request,
    plans: forward_plans,
    kernel: |arch, class, config| {
        let (p, _) = forward_case::problem(class)?;
        forward_kernel(arch, &p, &config.parse().map_err(bad_input)?).map_err(bad_input)
    },
    table: |_, class, plans| by_queries(class, plans),
    cases: forward_case::cases,
};

/// The row of `attention_decode`.
pub const DECODE: Family = Family {
    op: "attention_decode",
    about: || About {
        templates: vec!["wgmma", "mma", "merge"],
        inputs: vec!["bf16", "f16"],
        outputs: vec!["bf16", "f16", "f32"],
        keys: with_terms(&[("splits", "parts, 0 chooses"), ("split_size", "tokens of a part"), ("config", "a config id")]),
    },
    configs: |arch| decode_space(arch, &DecodeProblem::plain(DType::BF16, 128)).iter().map(DecodeConfig::axes).collect(),
    class: "dtype=bf16,out=bf16,d=128,dv=128,causal=1,window=0,chunk=0,softcap=0,alibi=0,sink=0,select=none",
    request: decode::request,
    plans: decode_case::plans,
    kernel: |arch, class, config| {
        let p = DecodeProblem::from_class(class).map_err(bad_input)?;
        decode_kernel(arch, &p, &config.parse().map_err(bad_input)?).map_err(bad_input)
    },
    table: decode_case::table,
    cases: decode_case::cases,
};

/// The row of `attention_merge`.
pub const MERGE: Family = Family {
    op: "attention_merge",
    about: || About {
        templates: vec!["merge"],
        inputs: vec!["f32", "bf16", "f16"],
        outputs: vec!["f32", "bf16", "f16"],
        keys: vec![("out", json!(["f32", "bf16", "f16"]))],
    },
    configs: |_| Vec::new(),
    class: "in=f32,out=bf16,token_major=1,sink=0,align=4",
    request: merge::request,
    plans: |arch, entry| {
        let p = MergeProblem::from_class(&entry.class).map_err(bad_input)?;
        Ok(vec![merge_plan(arch, &p).map_err(bad_input)?])
    },
    kernel: |arch, class, _| merge_kernel(arch, &MergeProblem::from_class(class).map_err(bad_input)?).map_err(bad_input),
    table: |_, class, plans| Ok(in_order("attention_merge", class, plans)),
    cases: merge::cases,
};

/// The row of `page_stats`.
pub const STATS: Family = Family {
    op: "page_stats",
    about: || About {
        templates: vec!["page_stats"],
        inputs: vec!["bf16", "f16"],
        outputs: vec!["bf16", "f16", "f32"],
        keys: vec![("sub", json!("logical pages of a page")), ("bounds", json!(["f32", "the dtype of k_pages"]))],
    },
    configs: |_| Vec::new(),
    class: "dtype=bf16,bounds=bf16,d=128,logical=0",
    request: pages::stats_request,
    plans: |arch, entry| Ok(vec![page_stats_plan(arch, &pages_of(&entry.class)?).map_err(bad_input)?]),
    kernel: |arch, class, _| first_kernel(page_stats_plan(arch, &pages_of(class)?)),
    table: |_, class, plans| Ok(in_order("page_stats", class, plans)),
    cases: pages::stats_cases,
};

/// The row of `page_select`.
pub const SELECT: Family = Family {
    op: "page_select",
    about: || About {
        templates: vec!["page_scores", "page_top"],
        inputs: vec!["bf16", "f16", "f32"],
        outputs: vec!["i32"],
        keys: vec![("page", json!("tokens of a page")), ("top", json!("pages"))],
    },
    configs: |_| Vec::new(),
    class: "dtype=bf16,bounds=bf16,d=128,logical=0",
    request: pages::select_request,
    plans: |arch, entry| Ok(vec![page_select_plan(arch, &pages_of(&entry.class)?).map_err(bad_input)?]),
    kernel: |arch, class, _| first_kernel(page_select_plan(arch, &pages_of(class)?)),
    table: |_, class, plans| Ok(in_order("page_select", class, plans)),
    cases: pages::select_cases,
};

fn pages_of(class: &str) -> Res<PageProblem> {
    PageProblem::from_class(class).map_err(bad_input)
}

fn first_kernel(plan: Result<OpPlan, AttentionError>) -> Res<TemplateKernel> {
    let kernels = plan.map_err(bad_input)?.kernels;
    kernels.into_iter().next().ok_or_else(|| failure("a plan without kernels"))
}

fn forward_plans(arch: Arch, entry: &Entry) -> Res<Vec<OpPlan>> {
    let (p, prefix) = forward_case::problem(&entry.class)?;
    let plan = |text: &String| {
        let config = text.parse().map_err(bad_input)?;
        forward_case::plan(arch, &p, &config, prefix)
    };
    entry.configs.iter().map(plan).collect()
}

/// Tiles of at most 64 queries first where there are no more of them, larger ones first elsewhere; else as the library has them.
fn by_queries(class: &str, plans: &[Indexed<'_>]) -> Res<Dispatch> {
    const FEW: i64 = 64;
    let small = |p: &OpPlan| p.kernels.iter().filter_map(|k| k.config.get("bm")?.parse::<i64>().ok()).all(|bm| bm <= FEW);
    let order = |few: bool| {
        let mut list: Vec<&Indexed<'_>> = plans.iter().collect();
        list.sort_by_key(|(_, p)| small(p) != few);
        list.into_iter().map(|p| p.0).collect()
    };
    let table = TableBuilder::new("attention", class).axis("m", &[FEW]);
    table.build(ChosenBy::Model, |s| order(s[0] <= FEW)).map_err(failure)
}

/// A table of one cell: the first plan of the library that fits.
fn in_order(op: &str, class: &str, plans: &[Indexed<'_>]) -> Dispatch {
    Dispatch::single(op, class, plans.iter().map(|p| p.0).collect())
}
