//! What the sizes of an op's tasks are called.

use crate::task::Task;
use std::collections::BTreeMap;
use tilewright_templates::attention::{AttentionProblem, DecodeProblem};
use tilewright_templates::gemm::weight::WeightClass;

/// The largest size: kernels count in 32 bits.
pub(super) const MAX_SIZE: i64 = i32::MAX as i64 / 4;

/// What is wrong with a task: a key and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct TaskError {
    /// `op`, `class`, or a size.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
}

impl TaskError {
    pub(super) fn new(key: impl Into<String>, why: impl Into<String>) -> Self {
        TaskError { key: key.into(), why: why.into() }
    }
}

/// An op that is tuned.
struct Op {
    name: &'static str,
    /// Sizes a task must have.
    needs: &'static [&'static str],
    /// Sizes it may have.
    may: &'static [&'static str],
    /// Whether a class is one.
    class: fn(&str) -> Result<(), String>,
    /// Sizes that follow from the others where they are not given.
    complete: fn(&mut BTreeMap<String, i64>),
}

/// A task of an op, with the sizes that follow from those given: m of `gemm_grouped`, sk of `attention`.
///
/// # Errors
/// An op that is not tuned, a class that is none, a size that is missing, too much, or out of range.
pub fn task(op: &str, class: &str, mut sizes: BTreeMap<String, i64>) -> Result<Task, TaskError> {
    let Some(found) = OPS.iter().find(|o| o.name == op) else {
        let names: Vec<&str> = OPS.iter().map(|o| o.name).collect();
        return Err(TaskError::new("op", format!("`{op}`: expected one of {}", names.join(", "))));
    };
    (found.class)(class).map_err(|why| TaskError::new("class", why))?;
    if let Some(missing) = found.needs.iter().find(|name| !sizes.contains_key(**name)) {
        return Err(TaskError::new(*missing, format!("missing: {op} needs {}", found.needs.join(", "))));
    }
    if let Some(stranger) = sizes.keys().find(|name| !found.sizes().any(|known| known == name.as_str())) {
        let known: Vec<&str> = found.sizes().collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        return Err(TaskError::new(stranger, format!("no size of {op}: expected {known}")));
    }
    if let Some((name, value)) = sizes.iter().find(|(_, v)| !(1..=MAX_SIZE).contains(*v)) {
        return Err(TaskError::new(name, format!("{value}: expected 1 to {MAX_SIZE}")));
    }
    if let (Some(hq), Some(hkv)) = (sizes.get("hq"), sizes.get("hkv"))
        && hq % hkv != 0
    {
        return Err(TaskError::new("hq", format!("{hq} query heads are no multiple of hkv = {hkv} key heads")));
    }
    (found.complete)(&mut sizes);
    Ok(Task { op: op.into(), class: class.into(), sizes })
}

/// Names of the sizes that tasks of an op have; none of an op that is not tuned.
pub fn sizes_of(op: &str) -> Vec<&'static str> {
    OPS.iter().find(|o| o.name == op).map_or_else(Vec::new, |o| o.sizes().collect())
}

impl Op {
    fn sizes(&self) -> impl Iterator<Item = &'static str> {
        self.needs.iter().chain(self.may).copied()
    }
}

/// Every op that is tuned.
const OPS: [Op; 5] = [
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
        may: &["sk", "window_left", "window_right", "chunk"],
        class: |text| told(AttentionProblem::from_class(text.strip_suffix(",prefix=1").unwrap_or(text))),
        complete: |sizes| {
            let queries = sizes["sq"];
            sizes.entry("sk".into()).or_insert(queries);
        },
    },
    Op {
        name: "attention_decode",
        needs: &["batch", "sq", "hq", "hkv", "page", "max_pages"],
        may: &["window_left", "window_right", "chunk"],
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
