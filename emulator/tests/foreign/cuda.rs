//! Launches and references of the CUDA C++ kernels.

use super::Row;

pub const KERNELS: &[Row] = &[];
