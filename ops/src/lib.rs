//! The op families: one row each, which everything else reads. Knows neither a compiler nor a device.
//!
//! | file | holds |
//! |---|---|
//! | `error`, `files`, `tensors`, `level` | what commands share: two ways to fail, files that appear whole, safetensors |
//! | `task`, `point` | problems without tensors: from keys, as variables; plans as points of their spaces |
//! | `records` | what was tuned, as plans and entries of dispatch tables |
//! | `library`, `dispatch` | `library.toml` as plans; plans as dispatch tables |
//! | `execute` | a case on a device |
//! | `ask` | keys and tensors of `gen run`, and the refusals every op shares |
//! | `case` | one problem with its data and what must come out of it |
//! | `tuned` | problems at the sizes of the tuner's tasks |
//! | `attention/` | attention: forward, decode, merge, page selection |
//! | `quantize` | numbers as 8-bit codes with factors |
//! | `sparse_conv/` | sparse convolution and its kernel maps |
//! | `sparse_network/` | networks of sparse convolutions as one plan |
//! | `gemm/` | matrix multiplication, dense and grouped by expert |

pub mod ask;
mod attention;
pub mod case;
pub mod dispatch;
pub mod error;
pub mod execute;
pub mod files;
mod gemm;
pub mod level;
pub mod library;
pub mod point;
mod quantize;
pub mod records;
mod sparse_conv;
mod sparse_network;
pub mod task;
pub mod tensors;
pub mod tuned;

use crate::error::{Res, usage};
use crate::library::Entry;
use ask::Ask;
use case::{Case, Request, Trial};
use serde_json::Value;
use tilewright_ir::Arch;
use tilewright_runtime::dispatch::{Dispatch, PlanIndex};
use tilewright_templates::plan::{OpPlan, TemplateKernel};

/// What the command needs to know of an op.
pub struct Family {
    /// Its name: in `gen run`, in `library.toml`, in manifests.
    pub op: &'static str,
    /// Templates, dtypes and keys, for `gen list`.
    pub about: fn() -> About,
    /// The axes of every config there is for a target, for `gen list`.
    pub configs: fn(Arch) -> Vec<Axes>,
    /// The class `gen show` takes where none is given.
    pub class: &'static str,
    /// Checks keys and tensors against each other.
    pub request: fn(Ask) -> Res<Request>,
    /// The plans of a library entry for a target.
    pub plans: fn(Arch, &Entry) -> Res<Vec<OpPlan>>,
    /// The main kernel of a class and a config, both as text.
    pub kernel: fn(Arch, &str, &str) -> Res<TemplateKernel>,
    /// The dispatch table of one class.
    pub table: fn(Arch, &str, &[Indexed<'_>]) -> Res<Dispatch>,
    /// What a plan is verified on.
    pub cases: fn(&Trial<'_>) -> Res<Vec<Case>>,
}

/// Name and value of every axis of a config.
pub type Axes = Vec<(&'static str, String)>;

/// A plan and its position in the manifest.
pub type Indexed<'a> = (PlanIndex, &'a OpPlan);

/// An op as `gen list` tells it.
pub struct About {
    /// Kernel templates.
    pub templates: Vec<&'static str>,
    /// Dtypes of inputs.
    pub inputs: Vec<&'static str>,
    /// Dtypes of outputs.
    pub outputs: Vec<&'static str>,
    /// Key to what it takes.
    pub keys: Vec<(&'static str, Value)>,
}

/// Every op.
pub static OPS: [Family; 12] = [
    gemm::FAMILY,
    gemm::GROUPED,
    gemm::PACK,
    quantize::FAMILY,
    attention::FORWARD,
    attention::DECODE,
    attention::MERGE,
    attention::STATS,
    attention::SELECT,
    sparse_conv::CONV,
    sparse_conv::MAP,
    sparse_network::FAMILY,
];

/// The op of a name.
pub fn find(op: &str) -> Res<&'static Family> {
    OPS.iter().find(|f| f.op == op).map_or_else(
        || {
            let names: Vec<&str> = OPS.iter().map(|f| f.op).collect();
            usage(format!("op `{op}`: expected {}; the other ops are not built yet", names.join(", ")))
        },
        Ok,
    )
}
