//! The workloads under `workloads/`.

use super::file::{Workload, WorkloadError};
use std::path::Path;

/// Name and text of each.
const SHIPPED: [(&str, &str); 5] = [
    ("deepseek_v3", include_str!("../../../workloads/deepseek_v3.toml")),
    ("llama3_70b", include_str!("../../../workloads/llama3_70b.toml")),
    ("llama3_8b", include_str!("../../../workloads/llama3_8b.toml")),
    ("minkunet", include_str!("../../../workloads/minkunet.toml")),
    ("mixtral_8x7b", include_str!("../../../workloads/mixtral_8x7b.toml")),
];

/// Names of the workloads that come with the program.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|s| s.0)
}

impl Workload {
    /// A workload of the program by its name, or one from a TOML file.
    ///
    /// # Errors
    /// There is neither, or the file is no workload.
    pub fn named(name: &str) -> Result<Workload, WorkloadError> {
        match SHIPPED.iter().find(|s| s.0 == name) {
            Some((name, text)) => Workload::parse(&format!("workloads/{name}.toml"), text),
            None if Path::new(name).extension().is_some_and(|e| e == "toml") => Workload::load(Path::new(name)),
            None => Err(WorkloadError::Unknown { name: name.into(), known: names().collect::<Vec<_>>().join(", ") }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(name: &str, layer: &str) -> Vec<String> {
        let w = Workload::named(name).unwrap();
        w.items()
            .iter()
            .filter(|i| i.layer == layer)
            .map(|i| i.task.to_string().rsplit_once(",").unwrap().1.to_string())
            .collect()
    }

    #[test]
    fn every_shipped_workload_reads_and_is_called_as_its_file() {
        for name in names() {
            let w = Workload::named(name).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(w.name, name);
            assert!(!w.tasks().is_empty() && w.source.starts_with("https://"));
        }
        let unknown = Workload::named("gpt5").unwrap_err().to_string();
        assert!(unknown.contains("deepseek_v3, llama3_70b, llama3_8b, minkunet, mixtral_8x7b"), "{unknown}");
    }

    #[test]
    fn an_eighth_of_a_model_has_an_eighth_of_the_sizes_that_are_cut() {
        assert_eq!(sizes("llama3_8b", "qkv")[0], "residual=0 k=4096 m=1 n=6144");
        assert_eq!(sizes("llama3_70b", "qkv")[0], "residual=0 k=8192 m=1 n=1280");
        assert_eq!(sizes("llama3_70b", "down")[13], "residual=0 k=3584 m=8192 n=8192");
        assert_eq!(sizes("llama3_70b", "prefill")[0], "sparse=none batch=1 hkv=1 hq=8 sk=512 sq=512");
        assert_eq!(sizes("deepseek_v3", "experts_down")[1], "groups=offsets e=32 k=2048 m=1 n=7168 tokens=2");
        assert_eq!(sizes("mixtral_8x7b", "experts_gate_up")[13], "groups=offsets e=8 k=4096 m=2048 n=14336 tokens=16384");
    }

    #[test]
    fn calls_of_a_step_add_up_to_the_layers_of_the_model() {
        // One row of decoding: four products in each of 32 layers, and the head.
        let w = Workload::named("llama3_8b").unwrap();
        let at_one = w.tasks().into_iter().filter(|t| t.0.op == "gemm" && t.0.size("m") == Some(1));
        assert_eq!(at_one.map(|t| t.1).sum::<f64>(), 4.0 * 32.0 + 1.0);
        // The latent projections of every layer, the experts of all but the first three.
        let w = Workload::named("deepseek_v3").unwrap();
        let calls = |layer: &str| w.items().iter().find(|i| i.layer == layer).map(|i| i.weight);
        assert_eq!((calls("q_b"), calls("experts_down"), calls("dense_down")), (Some(61.0), Some(58.0), Some(3.0)));
    }
}
