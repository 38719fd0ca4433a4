//! What decoding may cost a warp on Hopper, so that memory stays what limits the kernels.

use crate::gemm::problem::Packed;
use crate::plan::LoopBudget;

/// Bytes a second that an H200's memory gives at most.
const BANDWIDTH: f64 = 4.8e12;
/// Multiprocessors and their clock under load.
const CLOCKS: f64 = 132.0 * 1.83e9;
/// Lanes that a multiprocessor serves a clock: of any instruction, and of integers, shifts and byte permutations (CUDA C++
/// programming guide, table of arithmetic throughput, compute capability 9.0).
const LANES: f64 = 128.0;
const INT_LANES: f64 = 64.0;
/// Weights of a thread that one m64k16 multiply of a warpgroup eats, or one m16k16 of a warp.
const WEIGHTS: f64 = 8.0;

/// The budget of a multiply: all its instructions fit the issue slots that pass while memory brings its weights, its integers
/// three quarters of their pipe.
pub fn budget(p: Packed) -> LoopBudget {
    let numbers = if p.zero { 2.0 } else { 1.0 };
    let bytes = f64::from(p.bits) / 8.0 + 2.0 * numbers / f64::from(p.group);
    let clocks_a_weight = CLOCKS / (BANDWIDTH / bytes);
    let most = |lanes: f64| WEIGHTS * clocks_a_weight * lanes;
    LoopBudget { instructions: Some(most(LANES)), int: Some(0.75 * most(INT_LANES)), ..LoopBudget::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_bytes_leave_more_time() {
        let of = |bits, group, zero| budget(Packed { bits, group, zero });
        let int4 = of(4, 128, false);
        // 9.3e12 weights a second against 15.5e12 integer operations.
        assert!((int4.int.unwrap() / 0.75 - 8.0 * 15.46 / 9.31).abs() < 0.1, "{int4:?}");
        assert!((int4.instructions.unwrap() - 26.6).abs() < 0.1, "{int4:?}");
        let growing = [int4, of(4, 128, true), of(4, 32, false), of(8, 128, false)].map(|b| b.int.unwrap());
        assert!(growing.is_sorted(), "{growing:?}");
    }
}
