//! Helpers of the tests.
#![allow(dead_code)] // each test uses its part

pub mod case;
pub mod gemm;
pub mod kernel;
pub mod numbers;
pub mod spec;
