//! Helpers of the tests.
#![allow(dead_code)] // each test uses its part

pub mod case;
pub mod kernel;
