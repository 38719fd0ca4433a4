//! Which configs of the kernels for packed weights there are.

use super::config::WeightMmaConfig;
use crate::gemm::config::GemmConfig;

/// Points of the mma.sync kernel, legal or not.
pub(in crate::gemm) fn mma_space(list: &mut Vec<GemmConfig>) {
    for bm in [8, 16, 32, 64] {
        for bn in [32, 64, 128, 256] {
            for (wgs, ctas) in [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1)] {
                for (stages, depth) in [(3, 1), (4, 1), (3, 2)] {
                    for load_align in [1, 2, 4, 8] {
                        for split in [false, true] {
                            let c = WeightMmaConfig { bm, bn, wgs, stages, depth, load_align, ctas, split };
                            list.push(GemmConfig::WeightMma(c));
                        }
                    }
                }
            }
        }
    }
}
