//! 8-bit floats on the host (OCP 8-bit Floating Point Specification, revision 1.0): what a code means, and the nearest code.
//!
//! ```
//! use tilewright_runtime::fp8::Fp8;
//!
//! assert_eq!(Fp8::E4M3.decode(0x7e), 448.0);
//! assert_eq!(Fp8::E4M3.encode(1e9), 0x7e); // saturates
//! assert_eq!(Fp8::E5M2.decode(Fp8::E5M2.encode(-0.3)), -0.3125);
//! ```

/// One of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fp8 {
    /// 4 exponent bits, bias 7, no infinities.
    E4M3,
    /// 5 exponent bits, bias 15, with infinities.
    E5M2,
}

impl Fp8 {
    /// Bits of the mantissa and the exponent's bias.
    const fn form(self) -> (u32, i32) {
        match self {
            Fp8::E4M3 => (3, 7),
            Fp8::E5M2 => (2, 15),
        }
    }

    /// The code of the largest number, without its sign: 448 or 57344.
    pub const fn largest(self) -> u8 {
        match self {
            Fp8::E4M3 => 0x7e,
            Fp8::E5M2 => 0x7b,
        }
    }

    /// The number a code means.
    pub fn decode(self, code: u8) -> f32 {
        let (mantissa, bias) = self.form();
        let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
        let magnitude = code & 0x7f;
        if magnitude > self.largest() {
            return if self == Fp8::E5M2 && magnitude == 0x7c { sign * f32::INFINITY } else { f32::NAN };
        }
        let exponent = i32::from(magnitude >> mantissa);
        let fraction = f32::from(magnitude & ((1 << mantissa) - 1)) / (1u32 << mantissa) as f32;
        let value = if exponent == 0 { fraction * 2f32.powi(1 - bias) } else { (1.0 + fraction) * 2f32.powi(exponent - bias) };
        sign * value
    }

    /// The nearest code, ties to even; what is too large, infinities too, becomes the largest number; a NaN stays one.
    pub fn encode(self, x: f64) -> u8 {
        if x.is_nan() {
            return 0x7f;
        }
        let sign = if x.is_sign_negative() { 0x80 } else { 0 };
        let x = x.abs();
        // Codes of positive numbers ascend with what they mean.
        let (mut low, mut high) = (0u8, self.largest());
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if f64::from(self.decode(middle)) <= x { low = middle } else { high = middle - 1 }
        }
        if low == self.largest() {
            return sign | low;
        }
        let (below, above) = (f64::from(self.decode(low)), f64::from(self.decode(low + 1)));
        let up = match (x - below).total_cmp(&(above - x)) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => low & 1 == 1,
            std::cmp::Ordering::Greater => true,
        };
        sign | (low + u8::from(up))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_encodes_to_itself_and_halves_go_to_even() {
        for format in [Fp8::E4M3, Fp8::E5M2] {
            for code in 0..=255u8 {
                let x = format.decode(code);
                if x.is_finite() {
                    assert_eq!(format.encode(x.into()), code, "{format:?} {code:#x}");
                }
            }
            for code in 0..format.largest() {
                let middle = f64::midpoint(format.decode(code).into(), format.decode(code + 1).into());
                assert_eq!(format.encode(middle), code + (code & 1), "{format:?} {code:#x}");
                assert_eq!(format.encode(middle * (1.0 + 1e-9)), code + 1, "{format:?} {code:#x}");
            }
            assert_eq!(format.encode(f64::NEG_INFINITY), 0x80 | format.largest());
            assert!(format.decode(format.encode(f64::NAN)).is_nan());
        }
        assert_eq!(Fp8::E4M3.decode(0x38), 1.0);
        assert_eq!(Fp8::E5M2.decode(0x3c), 1.0);
        assert_eq!(Fp8::E4M3.decode(0x01), 2f32.powi(-9));
        assert_eq!(Fp8::E5M2.decode(0x7b), 57344.0);
    }
}
