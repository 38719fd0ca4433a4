//! What packed weights add to the space of multiplications.

use super::gemm_point::dense_kinds;
use super::rule::{Kind, Line};
use crate::device::DeviceProfile;
use crate::estimate::{Estimate, Term};
use crate::model::weight::bytes_a_weight;
use tilewright_ir::Arch;
use tilewright_templates::gemm::weight::{self, WeightWgmmaConfig};
use tilewright_templates::gemm::{GemmProblem, Packed, Weight};

/// The class that is left when the weight is unpacked first.
pub(super) fn unpacked(p: &GemmProblem) -> GemmProblem {
    weight::dense(p)
}

/// Unpacking so many weights: codes and scales in, 16 bits out.
pub(super) fn unpacking(device: &DeviceProfile, p: Packed, weights: f64) -> Estimate {
    let memory = weights * (bytes_a_weight(p) + 2.0) / device.memory_bytes;
    let terms = vec![(Term::Memory, memory), (Term::Launch, device.launch_seconds)];
    Estimate { seconds: 0.0, terms: Vec::new() }.then(Estimate { seconds: memory + device.launch_seconds, terms })
}

/// Stages that fit.
pub(super) fn deepest(p: &GemmProblem, c: WeightWgmmaConfig) -> u32 {
    match p.weight {
        Weight::Packed(packed) => c.deepest(p, packed).stages,
        Weight::Same => c.stages,
    }
}

/// Kernels that multiply by a packed weight, and dense ones after unpacking.
pub(super) fn packed_kinds(arch: Arch, p: &GemmProblem, splits: bool) -> Vec<Kind> {
    let bk = || ("bk", WeightWgmmaConfig::BK.to_string());
    let mut kinds = Vec::new();
    if arch.is_hopper() {
        let tokens = [8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256];
        kinds.push(Kind {
            fixed: vec![("kind", "weight_wgmma".to_string()), bk()],
            lines: vec![
                Line::one(&["bm"], tokens),
                Line::one(&["bn"], [64, 128, 192]),
                Line::one(&["raster"], [8, 16]),
                Line::one(&["n_align"], [1, 8]),
                Line::one(&["stream"], [0, 1]),
            ],
        });
    }
    let mut lines = vec![
        Line::one(&["bm"], [8, 16, 32, 64]),
        Line::one(&["bn"], [32, 64, 128, 256]),
        Line::one(&["wgs"], [1, 2, 4, 8]),
        Line::one(&["ctas"], [1, 2, 4]),
        Line::tied(&["stages", "depth"], &[["3", "1"], ["4", "1"], ["3", "2"]]),
        Line::one(&["load_align"], [1, 2, 4, 8]),
    ];
    lines.extend(splits.then(|| Line::one(&["splits"], [1, 2, 4, 8])));
    kinds.push(Kind { fixed: vec![("kind", "weight_mma".to_string()), bk()], lines });
    // Many tokens share the work of unpacking; then tiles are many, and no k is split.
    kinds.extend(dense_kinds(arch, &unpacked(p), false).into_iter().map(|mut k| {
        k.fixed.push(("unpack", "1".to_string()));
        k
    }));
    kinds
}
