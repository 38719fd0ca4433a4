//! What the sizes of an op's tasks are called.

use std::collections::BTreeMap;
use tilewright_templates::attention::{AttentionProblem, DecodeProblem};
use tilewright_templates::gemm::weight::WeightClass;

/// An op that a workload may name.
pub(super) struct Op {
    pub name: &'static str,
    /// Sizes a task must have.
    pub needs: &'static [&'static str],
    /// Sizes it may have.
    pub may: &'static [&'static str],
    /// Whether a class is one.
    pub class: fn(&str) -> Result<(), String>,
    /// Sizes that follow from the others where they are not given.
    pub complete: fn(&mut BTreeMap<String, i64>),
}

/// Every op that is tuned.
pub(super) const OPS: [Op; 5] = [
    Op { name: "gemm", needs: &["m", "n", "k"], may: &["batch"], class: gemm, complete: |_| () },
    // m is the rows an expert may expect, which is what its plans are chosen by.
    Op {
        name: "gemm_grouped",
        needs: &["tokens", "e", "n", "k"],
        may: &["m"],
        class: |text| gemm(text.strip_suffix(",gather=1").unwrap_or(text)),
        complete: |sizes| {
            let (tokens, experts) = (sizes["tokens"], sizes["e"]);
            // Both are at least 1.
            let expected = (tokens - 1) / experts + 1;
            sizes.entry("m".into()).or_insert(expected);
        },
    },
    Op {
        name: "attention",
        needs: &["batch", "sq", "hq", "hkv"],
        may: &["sk"],
        class: |text| told(AttentionProblem::from_class(text.strip_suffix(",prefix=1").unwrap_or(text))),
        complete: |sizes| {
            let queries = sizes["sq"];
            sizes.entry("sk".into()).or_insert(queries);
        },
    },
    Op {
        name: "attention_decode",
        needs: &["batch", "sq", "hq", "hkv", "page", "max_pages"],
        may: &[],
        class: |text| told(DecodeProblem::from_class(text)),
        complete: |_| (),
    },
    // Its sizes are those of a scene.
    Op { name: "sparse_network", needs: &[], may: &[], class: network, complete: |_| () },
];

fn gemm(text: &str) -> Result<(), String> {
    told(WeightClass::from_class(text))
}

fn network(text: &str) -> Result<(), String> {
    match text.strip_prefix("network=").and_then(|t| t.split_once(",dtype=")) {
        Some((name, "f16" | "bf16" | "f32")) if !name.is_empty() => Ok(()),
        _ => Err(format!("`{text}` is no class of a network: expected network=..,dtype=.. of f16, bf16 or f32")),
    }
}

fn told<T>(found: Result<T, impl ToString>) -> Result<(), String> {
    found.map(|_| ()).map_err(|e| e.to_string())
}
