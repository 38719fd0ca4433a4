//! Kernel templates, one folder per op family. Every family has the same rooms: `problem` (what is asked), `config` (the
//! space of ways to do it, with constraints that say why a point is illegal), the DSL kernels, `reference` (f64, naive)
//! and `plan` (launches as data). Templates know no LLVM and no GPU.

pub mod attention;
pub mod gemm;
pub mod manifest;
pub mod plan;
pub mod quantize;
pub mod sparse_conv;
