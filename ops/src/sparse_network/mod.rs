//! Networks of sparse convolutions as one plan.
//!
//! | file | holds |
//! |---|---|
//! | `request` | tensors against the layers of a network |
//! | `case` | a network with its data; the comparison |
//! | `random` | made-up runs for verification |

mod case;
mod random;
mod request;

use super::{About, Family};
use crate::error::{Fail, Res, bad_input, failure, usage};
use serde_json::json;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::dispatch::Dispatch;
use tilewright_templates::plan::{OpPlan, TemplateKernel};
use tilewright_templates::sparse_conv::network::{Network, NetworkChoice, SHIPPED, network_plan, shipped};

/// Its row.
pub const FAMILY: Family = Family {
    op: "sparse_network",
    about: || About {
        templates: vec!["wgmma", "mma", "maps", "lists"],
        inputs: vec!["f16", "bf16", "f32"],
        outputs: vec!["f16", "bf16", "f32"],
        keys: vec![
            ("network", json!(SHIPPED.map(|s| s.0))),
            ("choice", json!("DATAFLOW/CONFIG for all groups of layers, then GROUP=DATAFLOW/CONFIG for others")),
        ],
    },
    configs: |_| Vec::new(),
    class: "network=minkunet_w1,dtype=f16",
    request: request::request,
    plans: |arch, entry| {
        let (network, d) = from_class(&entry.class)?;
        let standard = [NetworkChoice::standard(arch, &network, d)];
        let own = entry.configs.iter().map(|text| text.parse().map_err(bad_input)).collect::<Res<Vec<_>>>()?;
        let choices = if own.is_empty() { &standard[..] } else { &own };
        choices.iter().map(|choice| plan(arch, &network, d, choice)).collect()
    },
    kernel: |arch, class, config| {
        let (network, d) = from_class(class)?;
        let kernels = plan(arch, &network, d, &config.parse().map_err(bad_input)?)?.kernels;
        let multiplies = |k: &TemplateKernel| k.id.starts_with("sparse_core");
        kernels.into_iter().rfind(multiplies).ok_or_else(|| failure("a plan that does not multiply"))
    },
    table: |_, class, plans| Ok(Dispatch::single("sparse_network", class, plans.iter().map(|p| p.0).collect())),
    cases: random::cases,
};

/// A network that is shipped.
fn network(name: &str) -> Res<Network> {
    let names = || SHIPPED.map(|s| s.0).join(", ");
    let found = shipped(name).ok_or_else(|| Fail::Usage(format!("network = `{name}`: expected one of {}", names())))?;
    found.map_err(bad_input)
}

fn plan(arch: Arch, network: &Network, d: DType, choice: &NetworkChoice) -> Res<OpPlan> {
    network_plan(arch, network, d, choice).map_err(bad_input)
}

/// `network=minkunet_w1,dtype=f16`.
fn class(network: &Network, d: DType) -> String {
    format!("network={},dtype={d}", network.name)
}

fn from_class(text: &str) -> Res<(Network, DType)> {
    let read = || {
        let (name, d) = text.strip_prefix("network=")?.split_once(",dtype=")?;
        let d: DType = d.parse().ok()?;
        matches!(d, DType::F16 | DType::BF16 | DType::F32).then_some((name, d))
    };
    let Some((name, d)) = read() else {
        return usage(format!("`{text}` is no class of networks: expected network=..,dtype=f16|bf16|f32"));
    };
    Ok((network(name)?, d))
}
