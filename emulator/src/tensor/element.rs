//! The element types of matrix operands and their values.

use std::fmt;
use std::sync::LazyLock;

use super::WarpReg;
use super::convert::FloatFormat;

/// Element type of a multiplicand, `.atype` or `.btype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// `.f16`
    F16,
    /// `.bf16`
    Bf16,
    /// `.tf32`: 32 bits of which the low 13 are ignored.
    Tf32,
    /// `.e4m3`
    E4m3,
    /// `.e5m2`
    E5m2,
    /// `.s8`
    S8,
    /// `.u8`
    U8,
    /// `.s4`
    S4,
    /// `.u4`
    U4,
    /// `.f64`
    F64,
}

/// Element type of C and D.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccumulatorType {
    /// `.f16`: two neighbouring columns in a register.
    F16,
    /// `.f32`
    F32,
    /// `.s32`
    S32,
    /// `.f64`: two words in a register.
    F64,
}

/// What the codes of a float operand stand for. Integers are values either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// Numbers.
    #[default]
    Values,
    /// Payloads of the [`ring`](crate::ring): the code as a signed integer, widened to 32 bits and carried as the bits
    /// of an f32, which moves leave alone. A tf32 has all 32.
    Payloads,
}

impl ElementType {
    const NAMES: [(ElementType, &'static str); 10] = [
        (ElementType::F16, "f16"),
        (ElementType::Bf16, "bf16"),
        (ElementType::Tf32, "tf32"),
        (ElementType::E4m3, "e4m3"),
        (ElementType::E5m2, "e5m2"),
        (ElementType::S8, "s8"),
        (ElementType::U8, "u8"),
        (ElementType::S4, "s4"),
        (ElementType::U4, "u4"),
        (ElementType::F64, "f64"),
    ];

    /// The type with this PTX name, without the dot.
    pub fn parse(name: &str) -> Option<ElementType> {
        Self::NAMES.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Width in bits.
    pub const fn bits(self) -> u32 {
        match self {
            ElementType::S4 | ElementType::U4 => 4,
            ElementType::E4m3 | ElementType::E5m2 | ElementType::S8 | ElementType::U8 => 8,
            ElementType::F16 | ElementType::Bf16 => 16,
            ElementType::Tf32 => 32,
            ElementType::F64 => 64,
        }
    }

    /// Whether products are summed in s32.
    pub const fn is_integer(self) -> bool {
        matches!(self, ElementType::S8 | ElementType::U8 | ElementType::S4 | ElementType::U4)
    }

    /// The value of a code of at most 32 bits; f32 holds all of them exactly. Bits above the width are ignored.
    #[inline(always)]
    pub fn value(self, code: u32) -> f32 {
        match self {
            ElementType::F16 => f16_to_f32(code),
            ElementType::Bf16 => f32::from_bits(code << 16),
            ElementType::Tf32 => f32::from_bits(code & 0xffff_e000),
            ElementType::E4m3 => E4M3[code as usize & 0xff],
            ElementType::E5m2 => E5M2[code as usize & 0xff],
            ElementType::S8 => f32::from(code as u8 as i8),
            ElementType::U8 => f32::from(code as u8),
            ElementType::S4 => ((code << 28) as i32 >> 28) as f32,
            ElementType::U4 => (code & 0xf) as f32,
            ElementType::F64 => unreachable!("f64 elements are read as 64-bit registers"),
        }
    }

    /// The values of element `j` of a register, by lane.
    #[inline(always)]
    pub(super) fn register_values(self, reading: Reading, register: &WarpReg, j: u32) -> [f32; 32] {
        let shift = self.bits() * j;
        let mut values = [0.0; 32];
        self.for_each_code(reading, &mut values, |lane| register[lane] >> shift);
        values
    }

    /// `values[i] = self.value(code(i))`, with the choice of type outside of the loop so that it vectorises.
    #[inline(always)]
    pub(super) fn for_each_code(self, reading: Reading, values: &mut [f32], code: impl Fn(usize) -> u32) {
        if reading == Reading::Payloads && !self.is_integer() {
            let unused = 32 - self.bits();
            for (i, value) in values.iter_mut().enumerate() {
                *value = f32::from_bits(((code(i) << unused) as i32 >> unused) as u32);
            }
            return;
        }
        macro_rules! each {
            ($ty:expr) => {
                for (i, value) in values.iter_mut().enumerate() {
                    *value = $ty.value(code(i));
                }
            };
        }
        match self {
            ElementType::F16 => each!(ElementType::F16),
            ElementType::Bf16 => each!(ElementType::Bf16),
            ElementType::Tf32 => each!(ElementType::Tf32),
            ElementType::E4m3 => look_up(&E4M3, values, code),
            ElementType::E5m2 => look_up(&E5M2, values, code),
            ElementType::S8 => each!(ElementType::S8),
            ElementType::U8 => each!(ElementType::U8),
            ElementType::S4 => each!(ElementType::S4),
            ElementType::U4 => each!(ElementType::U4),
            ElementType::F64 => unreachable!("f64 elements are read as 64-bit registers"),
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|row| row.0 == *self).map_or("?", |row| row.1))
    }
}

impl AccumulatorType {
    /// The type with this PTX name, without the dot.
    pub fn parse(name: &str) -> Option<AccumulatorType> {
        match name {
            "f16" => Some(AccumulatorType::F16),
            "f32" => Some(AccumulatorType::F32),
            "s32" => Some(AccumulatorType::S32),
            "f64" => Some(AccumulatorType::F64),
            _ => None,
        }
    }

    /// Width in bits.
    pub const fn bits(self) -> u32 {
        match self {
            AccumulatorType::F16 => 16,
            AccumulatorType::F32 | AccumulatorType::S32 => 32,
            AccumulatorType::F64 => 64,
        }
    }
}

impl fmt::Display for AccumulatorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccumulatorType::F16 => "f16",
            AccumulatorType::F32 => "f32",
            AccumulatorType::S32 => "s32",
            AccumulatorType::F64 => "f64",
        })
    }
}

/// f16 to f32 in arithmetic that vectorises: the exponent is rebased with one exact multiplication.
#[inline(always)]
pub(super) fn f16_to_f32(code: u32) -> f32 {
    let two_to_112 = f32::from_bits((127 + 112) << 23);
    let rebased = (f32::from_bits((code & 0x7fff) << 13) * two_to_112).to_bits();
    // Exponent 31 stood for infinity and NaN.
    let special = if code & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(rebased | special | (code & 0x8000) << 16)
}

/// f32 to f16, to nearest even, in arithmetic that vectorises; NaN becomes the canonical one.
#[inline(always)]
pub(super) fn f32_to_f16_bits(x: f32) -> u32 {
    let magnitude = x.to_bits() & 0x7fff_ffff;
    // Normal results: rebase the exponent, then round off 13 bits by adding just under half, or half if odd.
    let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0xfff + (magnitude >> 13 & 1)) >> 13;
    // Subnormal results: adding 0.5 lets the FPU round at 2^-24, which is where the mantissa of 0.5 ends.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let finite = if magnitude < 113 << 23 { subnormal } else { normal };
    // From 65520 on, everything rounds to infinity.
    let code = if magnitude >= 0x477f_f000 { 0x7c00 } else { finite };
    if x.is_nan() { 0x7fff } else { code | x.to_bits() >> 16 & 0x8000 }
}

#[inline(always)]
fn look_up(table: &[f32; 256], values: &mut [f32], code: impl Fn(usize) -> u32) {
    for (i, value) in values.iter_mut().enumerate() {
        *value = table[code(i) as usize & 0xff];
    }
}

static E4M3: LazyLock<[f32; 256]> = LazyLock::new(|| table(FloatFormat::E4m3));
static E5M2: LazyLock<[f32; 256]> = LazyLock::new(|| table(FloatFormat::E5m2));

fn table(format: FloatFormat) -> [f32; 256] {
    std::array::from_fn(|code| format.decode(code as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_f16_values_agree_with_half() {
        for code in 0..=u16::MAX {
            let want = half::f16::from_bits(code).to_f32();
            let got = ElementType::F16.value(code.into());
            assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{code:#x}");
        }
    }

    #[test]
    fn tensor_f16_rounding_agrees_with_half() {
        // Every f16, and the f32 around it and around the midpoints to its neighbours.
        for code in 0..=u16::MAX {
            let exact = half::f16::from_bits(code).to_f32().to_bits();
            for step in (-0x2000..=0x2000).step_by(0x800) {
                for nudge in -1..=1 {
                    let x = f32::from_bits(exact.wrapping_add_signed(step + nudge));
                    let want = if x.is_nan() { 0x7fff } else { half::f16::from_f32(x).to_bits().into() };
                    assert_eq!(f32_to_f16_bits(x), want, "{x:e}");
                }
            }
        }
        for bits in (0..=u32::MAX).step_by(4099) {
            let x = f32::from_bits(bits);
            let want = if x.is_nan() { 0x7fff } else { half::f16::from_f32(x).to_bits().into() };
            assert_eq!(f32_to_f16_bits(x), want, "{x:e}");
        }
    }

    #[test]
    fn tensor_registers_hold_their_elements() {
        let register = std::array::from_fn(|lane| (lane as u32 + 1).wrapping_mul(0x9e37_79b9));
        for (ty, _) in ElementType::NAMES {
            assert_eq!(ElementType::parse(&ty.to_string()), Some(ty));
            for j in 0..32 / ty.bits() {
                for (word, value) in register.iter().zip(ty.register_values(Reading::Values, &register, j)) {
                    assert_eq!(value.to_bits(), ty.value(word >> (ty.bits() * j)).to_bits(), "{ty}");
                }
            }
        }
        assert_eq!(ElementType::S4.value(0xf), -1.0);
        assert_eq!(ElementType::S8.value(0x80), -128.0);
    }
}
