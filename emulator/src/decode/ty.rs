//! Instruction types.

use crate::tensor::convert::FloatFormat;

/// A type modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ty {
    Pred,
    B(u32),
    U(u32),
    S(u32),
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    F32,
    F32x2,
    F64,
    U16x2,
    S16x2,
    /// A pair of narrow floats.
    Pair(FloatFormat),
}

impl Ty {
    pub fn parse(name: &str) -> Option<Ty> {
        Some(match name {
            "pred" => Ty::Pred,
            "b8" => Ty::B(8),
            "b16" => Ty::B(16),
            "b32" => Ty::B(32),
            "b64" => Ty::B(64),
            "b128" => Ty::B(128),
            "u8" => Ty::U(8),
            "u16" => Ty::U(16),
            "u32" => Ty::U(32),
            "u64" => Ty::U(64),
            "s8" => Ty::S(8),
            "s16" => Ty::S(16),
            "s32" => Ty::S(32),
            "s64" => Ty::S(64),
            "f16" => Ty::F16,
            "f16x2" => Ty::F16x2,
            "bf16" => Ty::Bf16,
            "bf16x2" => Ty::Bf16x2,
            "tf32" => Ty::Tf32,
            "f32" => Ty::F32,
            "f32x2" => Ty::F32x2,
            "f64" => Ty::F64,
            "u16x2" => Ty::U16x2,
            "s16x2" => Ty::S16x2,
            "e4m3x2" => Ty::Pair(FloatFormat::E4m3),
            "e5m2x2" => Ty::Pair(FloatFormat::E5m2),
            "e3m2x2" => Ty::Pair(FloatFormat::E3m2),
            "e2m3x2" => Ty::Pair(FloatFormat::E2m3),
            "ue8m0x2" => Ty::Pair(FloatFormat::Ue8m0),
            _ => return None,
        })
    }

    /// Bits in a register or in memory.
    pub fn bits(self) -> u32 {
        match self {
            Ty::Pred => 1,
            Ty::B(bits) | Ty::U(bits) | Ty::S(bits) => bits,
            Ty::F16 | Ty::Bf16 | Ty::Pair(_) => 16,
            Ty::F16x2 | Ty::Bf16x2 | Ty::Tf32 | Ty::F32 | Ty::U16x2 | Ty::S16x2 => 32,
            Ty::F32x2 | Ty::F64 => 64,
        }
    }

    pub fn signed(self) -> bool {
        matches!(self, Ty::S(_) | Ty::S16x2)
    }

    pub fn is_int(self) -> bool {
        matches!(self, Ty::B(_) | Ty::U(_) | Ty::S(_))
    }
}
