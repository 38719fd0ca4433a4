//! Conversions between number formats with the roundings of `cvt` (PTX ISA 9.7.9.21) and the formats of PTX ISA 5.2.3.
//!
//! Floats travel as `f64` or `f32` values, which hold every narrow format exactly; a conversion rounds once. NaN
//! results are the canonical NaN of their format: positive, mantissa all ones.

/// `.rn` and friends. The integer roundings `.rni .rzi .rmi .rpi` are the first four.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// To nearest, ties to even.
    #[default]
    Rn,
    /// Toward zero.
    Rz,
    /// Toward minus infinity.
    Rm,
    /// Toward plus infinity.
    Rp,
    /// To nearest, ties away from zero.
    Rna,
}

/// The modifiers of a conversion to a float format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options {
    /// The rounding modifier.
    pub rounding: Rounding,
    /// `.satfinite`: beyond the largest finite value, infinities included, becomes that value.
    pub satfinite: bool,
    /// `.relu`: negative results become +0.
    pub relu: bool,
    /// `.ftz`: f32 subnormals, as input or result, become zeros of their sign.
    pub ftz: bool,
}

impl Options {
    /// Only a rounding.
    pub const fn rounding(rounding: Rounding) -> Options {
        Options { rounding, satfinite: false, relu: false, ftz: false }
    }
}

/// A float format of 32 bits or fewer. Codes sit in the low bits of a `u32`; [`FloatFormat::Tf32`] keeps the position
/// of an f32, low 13 bits zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloatFormat {
    /// IEEE binary32.
    F32,
    /// 8 exponent and 10 mantissa bits in the place of an f32.
    Tf32,
    /// 8 exponent and 7 mantissa bits.
    Bf16,
    /// IEEE binary16.
    F16,
    /// 8 bits with infinities, largest finite value 57344.
    E5m2,
    /// 8 bits, no infinity, NaN only `0x7f` and `0xff`, largest value 448.
    E4m3,
    /// 6 bits, finite, largest value 28.
    E3m2,
    /// 6 bits, finite, largest value 7.5.
    E2m3,
    /// 4 bits, finite, largest value 6.
    E2m1,
    /// 8 bits of exponent: the powers of two from 2^-127 to 2^127, `0xff` is NaN.
    Ue8m0,
}

/// A signed or unsigned integer register type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IntType {
    /// 8, 16, 32 or 64.
    pub bits: u32,
    /// `.s` rather than `.u`.
    pub signed: bool,
}

impl FloatFormat {
    /// The code of `x`, rounded once. `.ftz` flushes subnormal results of [`FloatFormat::F32`]; what concerns an f32
    /// *input* is in [`FloatFormat::encode_f32`].
    ///
    /// Formats without infinities turn what overflows into NaN (e4m3, ue8m0), or into their largest value where they
    /// have no NaN either, for which PTX requires `.satfinite`.
    pub fn encode(self, x: f64, options: Options) -> u32 {
        if self == FloatFormat::Ue8m0 {
            return encode_ue8m0(x, options);
        }
        let layout = self.layout();
        let negative = x.is_sign_negative();
        let magnitude = if x.is_nan() {
            layout.nan
        } else if options.relu && negative {
            return 0;
        } else if x.is_infinite() {
            if options.satfinite { layout.max } else { layout.infinity }
        } else {
            let (significand, exponent) = parts(x);
            layout.round(negative, significand, exponent, options)
        };
        let flushed = self == FloatFormat::F32 && options.ftz && magnitude < 1 << 23;
        let magnitude = if flushed { 0 } else { magnitude };
        // NaN is positive; of the formats without one, only a NaN input is.
        let positive = x.is_nan() || magnitude > layout.max && magnitude == layout.nan;
        let sign = if negative && !positive { 1 << layout.sign_bit } else { 0 };
        let code = magnitude as u32 | sign;
        if self == FloatFormat::Tf32 { code << 13 } else { code }
    }

    /// [`FloatFormat::encode`] of an f32 source, whose subnormals `.ftz` flushes.
    pub fn encode_f32(self, x: f32, options: Options) -> u32 {
        let x = if options.ftz { flush_subnormal(x) } else { x };
        if options == Options::default() {
            match self {
                FloatFormat::F16 if !x.is_nan() => return half::f16::from_f32(x).to_bits().into(),
                FloatFormat::Bf16 if !x.is_nan() => return half::bf16::from_f32(x).to_bits().into(),
                _ => {}
            }
        }
        self.encode(x.into(), options)
    }

    /// The value of a code, exactly. Bits above the format's width are ignored, as are the low 13 of a tf32.
    pub fn decode(self, bits: u32) -> f32 {
        match self {
            FloatFormat::F32 => return canonical(f32::from_bits(bits)),
            FloatFormat::Tf32 => return canonical(f32::from_bits(bits & 0xffff_e000)),
            FloatFormat::Bf16 => return canonical(f32::from_bits(bits << 16)),
            FloatFormat::F16 => return canonical(half::f16::from_bits(bits as u16).to_f32()),
            FloatFormat::Ue8m0 => {
                return match bits & 0xff {
                    0xff => CANONICAL_NAN,
                    code => 2f32.powi(code as i32 - 127),
                };
            }
            _ => {}
        }
        let layout = self.layout();
        let magnitude = u64::from(bits) & ((1 << layout.sign_bit) - 1);
        let negative = bits >> layout.sign_bit & 1 == 1;
        if magnitude > layout.max {
            return match (magnitude == layout.infinity && magnitude != layout.nan, negative) {
                (false, _) => CANONICAL_NAN,
                (true, false) => f32::INFINITY,
                (true, true) => f32::NEG_INFINITY,
            };
        }
        let field = (magnitude >> layout.mantissa_bits) as i32;
        let mantissa = (magnitude & ((1 << layout.mantissa_bits) - 1)) as f32;
        let implicit = if field > 0 { (1u32 << layout.mantissa_bits) as f32 } else { 0.0 };
        let exponent = layout.min_exponent + field.max(1) - 1 - layout.mantissa_bits as i32;
        let value = (implicit + mantissa) * 2f32.powi(exponent);
        if negative { -value } else { value }
    }

    /// `cvt` to a packed pair (`.f16x2`, `.e4m3x2`, `.e2m1x2`, ..): `a`, the first source, takes the high half. Each
    /// half is [`FloatFormat::container_bits`] wide.
    pub fn pack(self, a: f32, b: f32, options: Options) -> u32 {
        self.encode_f32(a, options) << self.container_bits() | self.encode_f32(b, options)
    }

    /// The values of a packed pair, `[low, high]`.
    pub fn unpack(self, bits: u32) -> [f32; 2] {
        [self.decode(bits), self.decode(bits >> self.container_bits())]
    }

    /// Bits one element of a packed pair occupies: 4 (e2m1), 8, 16, or 32 for the formats that do not pack.
    pub const fn container_bits(self) -> u32 {
        match self {
            FloatFormat::F32 | FloatFormat::Tf32 => 32,
            FloatFormat::Bf16 | FloatFormat::F16 => 16,
            FloatFormat::E2m1 => 4,
            _ => 8,
        }
    }

    /// The largest finite value.
    pub fn max_finite(self) -> f32 {
        match self {
            FloatFormat::Ue8m0 => 2f32.powi(127),
            FloatFormat::Tf32 => self.decode((self.layout().max as u32) << 13),
            _ => self.decode(self.layout().max as u32),
        }
    }

    const fn layout(self) -> Layout {
        match self {
            FloatFormat::F32 => Layout::ieee(8, 23),
            FloatFormat::Tf32 => Layout::ieee(8, 10),
            FloatFormat::Bf16 => Layout::ieee(8, 7),
            FloatFormat::F16 => Layout::ieee(5, 10),
            FloatFormat::E5m2 => Layout::ieee(5, 2),
            FloatFormat::E4m3 => Layout { mantissa_bits: 3, min_exponent: -6, max: 0x7e, infinity: 0x7f, nan: 0x7f, sign_bit: 7 },
            FloatFormat::E3m2 => Layout::finite(2, -2, 5),
            FloatFormat::E2m3 => Layout::finite(3, 0, 5),
            FloatFormat::E2m1 => Layout::finite(1, 0, 3),
            FloatFormat::Ue8m0 => {
                // One above the codes: see encode_ue8m0.
                Layout { mantissa_bits: 0, min_exponent: -127, max: 0xff, infinity: 0x100, nan: 0x100, sign_bit: 8 }
            }
        }
    }
}

/// `cvt.{rn,rz,rm,rp}{.ftz}.f32.f64`.
pub fn f64_to_f32(x: f64, options: Options) -> f32 {
    f32::from_bits(FloatFormat::F32.encode(x, options))
}

/// `cvt.{rni,rzi,rmi,rpi}{.ftz}` to an integer from f32 (or f16, bf16, which widen exactly): clamped to the range of
/// `to`, NaN is 0 or, for 64-bit results, 1 << 63. The result's bits, zero above `to.bits`.
pub fn f32_to_int(x: f32, to: IntType, rounding: Rounding) -> u64 {
    float_to_int(x.into(), to, rounding, to.bits == 64)
}

/// The same from f64, where NaN is always `1 << (to.bits - 1)`.
pub fn f64_to_int(x: f64, to: IntType, rounding: Rounding) -> u64 {
    float_to_int(x, to, rounding, true)
}

/// `cvt.{rn,rz,rm,rp}.f32` from the integer `x`.
pub fn int_to_f32(x: i128, rounding: Rounding) -> f32 {
    let bits = FloatFormat::F32.layout().round(x < 0, x.unsigned_abs(), 0, Options::rounding(rounding));
    f32::from_bits(bits as u32 | ((x < 0) as u32) << 31)
}

/// `cvt.{rn,rz,rm,rp}.f64` from the integer `x`.
pub fn int_to_f64(x: i128, rounding: Rounding) -> f64 {
    let bits = Layout::ieee(11, 52).round(x < 0, x.unsigned_abs(), 0, Options::rounding(rounding));
    f64::from_bits(bits | ((x < 0) as u64) << 63)
}

/// The code of the integer `x` in `format`, for `cvt` to f16 and bf16. Rounded once.
pub fn int_to_narrow(format: FloatFormat, x: i128, rounding: Rounding) -> u32 {
    let layout = format.layout();
    let code = layout.round(x < 0, x.unsigned_abs(), 0, Options::rounding(rounding)) as u32;
    code | ((x < 0) as u32) << layout.sign_bit
}

/// `cvt.{rni,rzi,rmi,rpi}` between floats of one size: an integral value of the sign of `x`.
pub fn round_to_integral(x: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Rn => x.round_ties_even(),
        Rounding::Rz => x.trunc(),
        Rounding::Rm => x.floor(),
        Rounding::Rp => x.ceil(),
        Rounding::Rna => x.round(),
    }
}

/// `.sat` on a float: clamped to [+0, 1], NaN is +0.
pub fn saturate_unit(x: f64) -> f64 {
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}

/// `.ftz` on an f32: subnormals become zeros of their sign.
pub fn flush_subnormal(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// The NaN that f32 instructions produce (PTX ISA 9.7.3).
pub const CANONICAL_NAN: f32 = f32::from_bits(0x7fff_ffff);

/// Magnitude codes of a format: everything but the sign.
struct Layout {
    mantissa_bits: u32,
    /// Exponent of the smallest normal number.
    min_exponent: i32,
    /// Largest finite code.
    max: u64,
    /// What overflow becomes; the NaN code or the largest value where there is no infinity.
    infinity: u64,
    nan: u64,
    sign_bit: u32,
}

impl Layout {
    const fn ieee(exponent_bits: u32, mantissa_bits: u32) -> Layout {
        let infinity = ((1 << exponent_bits) - 1) << mantissa_bits;
        Layout {
            mantissa_bits,
            min_exponent: 2 - (1 << (exponent_bits - 1)),
            max: infinity - 1,
            infinity,
            nan: infinity | ((1 << mantissa_bits) - 1),
            sign_bit: exponent_bits + mantissa_bits,
        }
    }

    /// NaN has no code of its own: `cvt` makes it the largest value.
    const fn finite(mantissa_bits: u32, min_exponent: i32, sign_bit: u32) -> Layout {
        let max = (1 << sign_bit) - 1;
        Layout { mantissa_bits, min_exponent, max, infinity: max, nan: max, sign_bit }
    }

    /// The magnitude code nearest to `significand * 2^exponent` in the direction that `options` say.
    fn round(&self, negative: bool, significand: u128, exponent: i32, options: Options) -> u64 {
        if significand == 0 {
            return 0;
        }
        let leading = 127 - significand.leading_zeros() as i32 + exponent;
        let binade = leading.max(self.min_exponent);
        let dropped = binade - self.mantissa_bits as i32 - exponent;
        let (kept, half, inexact) = match dropped {
            ..=0 => (significand << -dropped, std::cmp::Ordering::Less, false),
            1..=127 => {
                let rest = significand & ((1 << dropped) - 1);
                (significand >> dropped, rest.cmp(&(1 << (dropped - 1))), rest != 0)
            }
            _ => (0, std::cmp::Ordering::Less, true),
        };
        let up = match options.rounding {
            Rounding::Rn => half.is_gt() || half.is_eq() && kept & 1 == 1,
            Rounding::Rna => half.is_ge(),
            Rounding::Rz => false,
            Rounding::Rm => negative && inexact,
            Rounding::Rp => !negative && inexact,
        } && inexact;
        // The implicit bit of `kept` carries into the exponent field by itself.
        let code = ((binade - self.min_exponent) as u64) << self.mantissa_bits;
        let code = code.saturating_add(kept as u64 + up as u64);
        if code <= self.max {
            return code;
        }
        let to_infinity = match options.rounding {
            Rounding::Rn | Rounding::Rna => true,
            Rounding::Rz => false,
            Rounding::Rm => negative,
            Rounding::Rp => !negative,
        };
        if options.satfinite || !to_infinity { self.max } else { self.infinity }
    }
}

/// The sign is dropped, which is all the format can do with it.
fn encode_ue8m0(x: f64, options: Options) -> u32 {
    if x.is_nan() {
        return 0xff;
    }
    if x.is_infinite() {
        return if options.satfinite { 0xfe } else { 0xff };
    }
    let (significand, exponent) = parts(x);
    if significand == 0 {
        return 0;
    }
    // With no mantissa the leading one is the whole significand, and code 0 is a power of two rather than zero.
    let code = FloatFormat::Ue8m0.layout().round(false, significand, exponent, options);
    if x.abs() < 2f64.powi(-127) { 0 } else { code as u32 - 1 }
}

/// `|x| = significand * 2^exponent` for finite x.
fn parts(x: f64) -> (u128, i32) {
    let bits = x.to_bits();
    let field = (bits >> 52 & 0x7ff) as i32;
    let implicit = if field > 0 { 1 << 52 } else { 0 };
    (u128::from(bits & ((1 << 52) - 1) | implicit), field.max(1) - 1075)
}

fn float_to_int(x: f64, to: IntType, rounding: Rounding, nan_is_top_bit: bool) -> u64 {
    if x.is_nan() {
        return if nan_is_top_bit { 1 << (to.bits - 1) } else { 0 };
    }
    let (low, high) = match to.signed {
        true => (-(1i128 << (to.bits - 1)), (1i128 << (to.bits - 1)) - 1),
        false => (0, (1i128 << to.bits) - 1),
    };
    let value = (round_to_integral(x, rounding) as i128).clamp(low, high);
    value as u64 & (u64::MAX >> (64 - to.bits))
}

fn canonical(x: f32) -> f32 {
    if x.is_nan() { CANONICAL_NAN } else { x }
}
