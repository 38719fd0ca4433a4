//! Dense matrix multiplication.
//!
//! | file | holds |
//! |---|---|
//! | `request` | keys and tensors of a run, and the config for it |
//! | `scales` | scales of 8-bit operands |
//! | `case` | inputs, the comparison with the reference, verification shapes |
//! | `weight` | the same with weights of a few bits instead of b |
//! | `weight_case` | what plans of packed weights are verified on |
//! | `checkpoint` | weights of a few bits as files have them |
//! | `pack` | the op that packs weights |
//! | `tuned` | the sizes of a tuner's task, and some elements of large products |
//! | `dispatch` | the order of plans by the performance model |
//! | `grouped/` | `gemm_grouped`: rows sorted by expert |

mod case;
mod checkpoint;
mod dispatch;
mod grouped;
mod pack;
mod request;
mod scales;
mod tuned;
mod weight;
mod weight_case;

pub use grouped::FAMILY as GROUPED;
pub use grouped::tuned as tuned_grouped;
pub use pack::FAMILY as PACK;
pub use tuned::tuned;

use super::{About, Family};
use crate::error::{Res, bad_input};
use crate::library::Entry;
use serde_json::{Value, json};
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::weight::{WeightClass, dequantised_plan};
use tilewright_templates::gemm::{GemmConfig, GemmProblem, build, plan, space};
use tilewright_templates::plan::{OpPlan, TemplateKernel};

/// The row of `gemm`.
pub const FAMILY: Family = Family {
    op: "gemm",
    about,
    configs: |arch| {
        let classes = [DType::BF16, DType::E4M3].map(GemmProblem::plain);
        classes.iter().flat_map(|p| space(arch, p)).map(|c| c.axes()).collect()
    },
    class: "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0",
    request: request::request,
    plans,
    kernel,
    table: dispatch::table,
    cases: case::cases,
};

/// The keys of weights of a few bits, in every op that takes them.
fn weight_keys() -> [(&'static str, Value); 7] {
    [
        ("weight", json!(["int4", "int8", "awq", "gptq", "packed"])),
        ("path", json!(["auto", "packed", "dequantised"])),
        ("gptq_version", json!([1, 2])),
        ("bits", json!([4, 8])),
        ("group", json!([16, 32, 64, 128])),
        ("zero", json!("bool")),
        ("n", json!("integer")),
    ]
}

fn about() -> About {
    About {
        templates: vec!["wgmma", "mma", "weight_wgmma", "weight_mma", "unpack", "reduce"],
        inputs: vec!["bf16", "f16", "e4m3", "e5m2", "i8"],
        outputs: vec!["bf16", "f16", "f32", "e4m3", "i32"],
        keys: vec![
            ("out", json!(["bf16", "f16", "f32", "e4m3", "i32"])),
            ("act", json!(["none", "relu", "gelu", "silu", "swiglu"])),
            ("alpha", json!("f32")),
            ("b", json!(["nk", "kn"])),
            ("quant", json!(["128"])),
            ("split_k", json!("integer")),
            ("config", json!("a config id")),
            ("prefix", json!("what the names of one layer's tensors begin with")),
        ]
        .into_iter()
        .chain(weight_keys())
        .collect(),
    }
}

fn plans(arch: Arch, entry: &Entry) -> Res<Vec<OpPlan>> {
    let class = WeightClass::from_class(&entry.class).map_err(bad_input)?;
    let problem = class.problem;
    let mut list = Vec::new();
    for text in &entry.configs {
        let config: GemmConfig = text.parse().map_err(bad_input)?;
        let splits: &[u32] = if entry.splits.is_empty() { &[1] } else { &entry.splits };
        for &s in splits {
            // A dense config of a packed class is its other path: unpack, then multiply.
            let unpacks = class.packed().is_some() && config.check(&problem).is_err();
            let made = if unpacks { dequantised_plan(arch, &problem, &config, s) } else { plan(arch, &problem, &config, s) };
            let made = made.and_then(|p| if class.packed().is_some() { class.complete(arch, p) } else { Ok(p) });
            list.push(made.map_err(|e| bad_input(format!("{}: {e}", entry.class)))?);
        }
    }
    Ok(list)
}

fn kernel(arch: Arch, class: &str, config: &str) -> Res<TemplateKernel> {
    let problem = GemmProblem::from_class(class).map_err(bad_input)?;
    let config: GemmConfig = config.parse().map_err(bad_input)?;
    build(arch, &problem, &config).map_err(bad_input)
}
