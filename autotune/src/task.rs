//! What is tuned.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One problem of an op.
///
/// Its text, `gemm a=bf16,b=nk,... k=4096 m=16 n=4096`, is what logs and records name it by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The op, as `gen list` names it.
    pub op: String,
    /// The class, as plans spell it.
    pub class: String,
    /// Sizes by the variables of plans, without `sms`: m, n, k; batch, sq, sk, hq, hkv; ...
    pub sizes: BTreeMap<String, i64>,
}

impl Task {
    /// A size; `None` where the task does not name it.
    pub fn size(&self, name: &str) -> Option<i64> {
        self.sizes.get(name).copied()
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.op, self.class)?;
        self.sizes.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_one_line_with_sorted_sizes() {
        let sizes = [("n", 4096), ("m", 16)].map(|(k, v)| (k.to_string(), v)).into();
        let task = Task { op: "gemm".into(), class: "a=bf16".into(), sizes };
        assert_eq!(task.to_string(), "gemm a=bf16 m=16 n=4096");
        assert_eq!((task.size("m"), task.size("k")), (Some(16), None));
    }
}
