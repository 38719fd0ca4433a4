//! Element types of tensors and tiles.

use std::fmt;
use std::str::FromStr;

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DType {
    /// A truth value.
    I1,
    /// A byte, in memory only: registers hold it as `I32`.
    U8,
    /// Signed byte; four of a register tile share a register.
    I8,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    BF16,
    /// IEEE binary32.
    F32,
    /// 8-bit float with 4 exponent bits, no infinities, 448 the largest (OCP 8-bit Floating Point Specification).
    E4M3,
    /// 8-bit float with 5 exponent bits, 57344 the largest.
    E5M2,
}

const NAMES: &[(DType, &str, u32)] = &[
    (DType::I1, "i1", 1),
    (DType::U8, "u8", 1),
    (DType::I8, "i8", 1),
    (DType::I32, "i32", 4),
    (DType::I64, "i64", 8),
    (DType::F16, "f16", 2),
    (DType::BF16, "bf16", 2),
    (DType::F32, "f32", 4),
    (DType::E4M3, "e4m3", 1),
    (DType::E5M2, "e5m2", 1),
];

impl DType {
    /// Size in memory, bytes.
    pub fn bytes(self) -> u32 {
        NAMES.iter().find(|r| r.0 == self).expect("every DType has a row").2
    }

    /// The name used in the IR, in configs and in manifests.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|r| r.0 == self).expect("every DType has a row").1
    }

    /// True for floating-point types.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32) || self.is_fp8()
    }

    /// True for the 8-bit floats.
    pub fn is_fp8(self) -> bool {
        matches!(self, DType::E4M3 | DType::E5M2)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A dtype name nobody knows.
#[derive(Clone, Debug, thiserror::Error)]
#[error("unknown dtype `{0}`: expected one of i1, u8, i8, i32, i64, f16, bf16, f32, e4m3, e5m2")]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        NAMES.iter().find(|r| r.1 == s).map(|r| r.0).ok_or_else(|| UnknownDType(s.to_string()))
    }
}
