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
}

const NAMES: &[(DType, &str, u32)] = &[
    (DType::I1, "i1", 1),
    (DType::U8, "u8", 1),
    (DType::I32, "i32", 4),
    (DType::I64, "i64", 8),
    (DType::F16, "f16", 2),
    (DType::BF16, "bf16", 2),
    (DType::F32, "f32", 4),
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
        matches!(self, DType::F16 | DType::BF16 | DType::F32)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A dtype name nobody knows.
#[derive(Clone, Debug, thiserror::Error)]
#[error("unknown dtype `{0}`: expected one of i1, u8, i32, i64, f16, bf16, f32")]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        NAMES.iter().find(|r| r.1 == s).map(|r| r.0).ok_or_else(|| UnknownDType(s.to_string()))
    }
}
