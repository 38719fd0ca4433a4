//! What one lane computes: pure functions of register bits, chosen when an instruction is decoded.

pub mod approx;
pub mod float;
pub mod half;
pub mod int;
pub mod round;
pub mod soft64;
