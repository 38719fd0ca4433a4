//! f64 arithmetic in every rounding mode, on integers: exact results rounded once (IEEE 754-2019, 4.3).

use super::round::{RM, RN, RP};

/// A finite number other than zero as `mantissa * 2^exponent`.
fn unpack(x: f64) -> (bool, u64, i32) {
    let bits = x.to_bits();
    let (fraction, biased) = (bits & ((1 << 52) - 1), (bits >> 52) as i32 & 0x7ff);
    let (mantissa, exponent) = if biased == 0 { (fraction, -1074) } else { (fraction | (1 << 52), biased - 1075) };
    (x.is_sign_negative(), mantissa, exponent)
}

/// The same with the top bit of the mantissa at bit 125. The mantissa is not 0.
fn raise(mantissa: u128, exponent: i32) -> (u128, i32) {
    let shift = mantissa.leading_zeros() as i32 - 2;
    (mantissa << shift, exponent - shift)
}

/// Rounds `mantissa * 2^exponent`; the lowest bit may stand for all that is below it.
fn round(negative: bool, mantissa: u128, exponent: i32, mode: u8) -> f64 {
    let top = 127 - mantissa.leading_zeros() as i32 + exponent;
    let lowest = (top - 52).max(-1074);
    let shift = lowest - exponent;
    let (mut kept, above_half, exact) = match shift {
        ..=0 => ((mantissa << -shift) as u64, None, true),
        1..=127 => {
            let (kept, lost) = ((mantissa >> shift) as u64, mantissa & ((1 << shift) - 1));
            (kept, Some(lost.cmp(&(1 << (shift - 1)))), lost == 0)
        }
        _ => (0, Some(std::cmp::Ordering::Less), false),
    };
    let away = match mode {
        RN => match above_half {
            Some(std::cmp::Ordering::Greater) => true,
            Some(std::cmp::Ordering::Equal) => kept & 1 == 1,
            _ => false,
        },
        RM => negative && !exact,
        RP => !negative && !exact,
        _ => false,
    };
    kept += u64::from(away);
    // A carry into the next power of two lands in the exponent by itself.
    let biased = (lowest + 1074) as u64;
    let bits = if biased == 0 { kept } else { (biased << 52) + kept };
    if bits >= 0x7ff0_0000_0000_0000 {
        let to_infinity = match mode {
            RN => true,
            RM => negative,
            RP => !negative,
            _ => false,
        };
        return if to_infinity { f64::INFINITY } else { f64::MAX }.copysign(if negative { -1.0 } else { 1.0 });
    }
    f64::from_bits(bits | (u64::from(negative) << 63))
}

/// A zero that two opposite numbers make.
fn zero_of(mode: u8) -> f64 {
    if mode == RM { -0.0 } else { 0.0 }
}

pub fn fma(a: f64, b: f64, c: f64, mode: u8) -> f64 {
    if !(a.is_finite() && b.is_finite() && c.is_finite()) || mode == RN {
        return a.mul_add(b, c);
    }
    let negative = a.is_sign_negative() != b.is_sign_negative();
    if a == 0.0 || b == 0.0 {
        return match c == 0.0 && negative != c.is_sign_negative() {
            true => zero_of(mode),
            false => c,
        };
    }
    let ((_, ma, ea), (_, mb, eb)) = (unpack(a), unpack(b));
    let product = raise(u128::from(ma) * u128::from(mb), ea + eb);
    if c == 0.0 {
        return round(negative, product.0, product.1, mode);
    }
    let (c_negative, mc, ec) = unpack(c);
    let addend = raise(u128::from(mc), ec);
    let product_first = (product.1, product.0) >= (addend.1, addend.0);
    let ((big, exponent), (small, low)) = if product_first { (product, addend) } else { (addend, product) };
    let sign = if product_first { negative } else { c_negative };
    let distance = exponent - low;
    // What is shifted out leaves its trace in the lowest bit.
    let small = match distance {
        0..=126 => (small >> distance) | u128::from(small & ((1 << distance) - 1) != 0),
        _ => 1,
    };
    let sum = if negative == c_negative { big + small } else { big - small };
    if sum == 0 { zero_of(mode) } else { round(sign, sum, exponent, mode) }
}

pub fn mul(a: f64, b: f64, mode: u8) -> f64 {
    if mode == RN || !(a.is_finite() && b.is_finite()) || a == 0.0 || b == 0.0 {
        return a * b;
    }
    let ((_, ma, ea), (_, mb, eb)) = (unpack(a), unpack(b));
    round(a.is_sign_negative() != b.is_sign_negative(), u128::from(ma) * u128::from(mb), ea + eb, mode)
}

pub fn div(a: f64, b: f64, mode: u8) -> f64 {
    if mode == RN || !(a.is_finite() && b.is_finite()) || a == 0.0 || b == 0.0 {
        return a / b;
    }
    let ((_, ma, ea), (_, mb, eb)) = (unpack(a), unpack(b));
    let (dividend, exponent) = raise(u128::from(ma), ea);
    let divisor = u128::from(mb);
    let quotient = dividend / divisor;
    let sticky = u128::from(dividend % divisor != 0);
    round(a.is_sign_negative() != b.is_sign_negative(), (quotient << 1) | sticky, exponent - eb - 1, mode)
}

pub fn sqrt(a: f64, mode: u8) -> f64 {
    // Also NaN.
    if mode == RN || !a.is_finite() || a <= 0.0 {
        return a.sqrt();
    }
    let (_, mantissa, exponent) = unpack(a);
    let (mut mantissa, mut exponent) = raise(u128::from(mantissa), exponent);
    if exponent % 2 != 0 {
        (mantissa, exponent) = (mantissa << 1, exponent - 1);
    }
    let root = mantissa.isqrt();
    let sticky = u128::from(root * root != mantissa);
    round(false, (root << 1) | sticky, exponent / 2 - 1, mode)
}

#[cfg(test)]
mod tests {
    use super::super::round::RZ;
    use super::*;
    use proptest::prelude::*;

    /// Awkward and ordinary numbers, near each other often enough to cancel and to underflow.
    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (-1e3..1e3f64),
            (any::<bool>(), 0u64..2046, 0u64..16)
                .prop_map(|(sign, exponent, low)| { f64::from_bits((u64::from(sign) << 63) | (exponent << 52) | low) }),
            (any::<bool>(), 0u64..200).prop_map(|(sign, low)| f64::from_bits((u64::from(sign) << 63) | low)),
            prop::sample::select(vec![0.0, -0.0, 1.0, -1.0, f64::MAX, f64::MIN_POSITIVE, f64::INFINITY, f64::NAN]),
        ]
    }

    /// Down and up enclose the nearest, and are neighbours unless the result is exact.
    fn enclosed(near: f64, of: impl Fn(u8) -> f64) {
        if near.is_nan() {
            assert!([RM, RP, RZ].iter().all(|mode| of(*mode).is_nan()));
            return;
        }
        let (down, up, cut) = (of(RM), of(RP), of(RZ));
        assert!(down <= near && near <= up, "{down:e} {near:e} {up:e}");
        assert!(down == up || down.next_up() == up, "{down:e} and {up:e} are no neighbours");
        assert!(near == down || near == up);
        assert_eq!(cut, if cut < 0.0 || (cut == 0.0 && up == 0.0) { up } else { down });
    }

    proptest! {
        #[test]
        fn directed_results_enclose_the_exact_one(a in number(), b in number(), c in number()) {
            enclosed(a.mul_add(b, c), |mode| fma(a, b, c, mode));
            enclosed(a.mul_add(b, -a), |mode| fma(a, b, -a, mode));
            enclosed(a * b, |mode| mul(a, b, mode));
            enclosed(a / b, |mode| div(a, b, mode));
            enclosed(a.sqrt(), |mode| sqrt(a, mode));
        }

        /// The rounding itself against the processor's.
        #[test]
        fn nearest_is_what_the_processor_gives(a in number(), b in number()) {
            if a.is_finite() && b.is_finite() && a != 0.0 && b != 0.0 {
                let ((_, ma, ea), (_, mb, eb)) = (unpack(a), unpack(b));
                let product = round((a < 0.0) != (b < 0.0), u128::from(ma) * u128::from(mb), ea + eb, RN);
                prop_assert_eq!(product.to_bits(), (a * b).to_bits());
            }
        }
    }
}
