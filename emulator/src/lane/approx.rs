//! The approximate functions: the hardware's own bits are not specified, only their bounds (PTX ISA 9.7.3 and 9.7.4).
//!
//! All of them are computed in f64 and rounded once, so they are correctly rounded but where the truth lies within f64's
//! own error of a midpoint: half a unit of the last place, where the ISA allows 1 (`rcp`), 2 (`ex2`, `div`) or a relative
//! 2^-22 or so (`lg2`, `rsqrt`, `sqrt`), 2^-11 (`tanh`), or an absolute 2^-20.5 (`sin`, `cos`). A kernel that depends on
//! the errors of the hardware will differ.

use super::float::{canonical, f, flush};

fn ftz<const FTZ: bool>(x: f32) -> f32 {
    if FTZ { flush(x) } else { x }
}

fn through<const FTZ: bool>(a: u32, g: impl Fn(f64) -> f64) -> u32 {
    canonical(ftz::<FTZ>(g(f64::from(ftz::<FTZ>(f(a)))) as f32))
}

/// 2^x to well below an f32 ulp, without branches so that a loop over lanes vectorises.
#[inline(always)]
pub fn exp2(x: f32) -> f32 {
    // Past these the result is 0 or infinity; NaN passes through the clamp by falling out of both comparisons.
    let x = f64::from(x);
    let x = if x > 200.0 { 200.0 } else { x };
    let x = if x < -200.0 { -200.0 } else { x };
    // Adding 1.5 * 2^52 leaves the nearest integer in the low mantissa bits.
    let magic = 6_755_399_441_055_744.0;
    let shifted = x + magic;
    let whole = shifted - magic;
    let r = (x - whole) * std::f64::consts::LN_2;
    // The Taylor series of e^r for |r| <= 0.35: the next term is below 2^-56.
    let mut p = 1.0 / 6_227_020_800.0;
    for c in [
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        p = p * r + c;
    }
    let scale = f64::from_bits((shifted.to_bits().wrapping_add(1023)) << 52);
    (p * scale) as f32
}

pub fn rsqrt<const FTZ: bool>(a: u32) -> u32 {
    through::<FTZ>(a, |x| 1.0 / x.sqrt())
}

pub fn sqrt_approx<const FTZ: bool>(a: u32) -> u32 {
    through::<FTZ>(a, f64::sqrt)
}

pub fn sin<const FTZ: bool>(a: u32) -> u32 {
    through::<FTZ>(a, f64::sin)
}

pub fn cos<const FTZ: bool>(a: u32) -> u32 {
    through::<FTZ>(a, f64::cos)
}

pub fn lg2<const FTZ: bool>(a: u32) -> u32 {
    through::<FTZ>(a, f64::log2)
}

pub fn tanh(a: u32) -> u32 {
    through::<false>(a, f64::tanh)
}

/// `div.approx`: above 2^126 the reciprocal of the divisor is zero (PTX ISA 9.7.3.8).
pub fn div<const FTZ: bool>(a: u32, b: u32) -> u32 {
    let (a, b) = (ftz::<FTZ>(f(a)), ftz::<FTZ>(f(b)));
    let large = b.is_finite() && b.abs() > 2f32.powi(126);
    canonical(ftz::<FTZ>(if large { a * 0f32.copysign(b) } else { a / b }))
}

/// The upper half of an f64 without subnormals, which is all that the `.approx.ftz.f64` functions take and give.
fn high(x: u64) -> u64 {
    let x = x & 0xffff_ffff_0000_0000;
    if x & 0x7ff0_0000_0000_0000 == 0 { x & (1 << 63) } else { x }
}

/// `rcp.approx.ftz.f64`
pub fn rcp64_high(a: u64) -> u64 {
    high(super::float::canonical64(1.0 / f64::from_bits(high(a))))
}

/// `rsqrt.approx.ftz.f64`
pub fn rsqrt64_high(a: u64) -> u64 {
    high(super::float::canonical64(1.0 / f64::from_bits(high(a)).sqrt()))
}

/// `rsqrt.approx.f64`
pub fn rsqrt64(a: u64) -> u64 {
    super::float::canonical64(1.0 / f64::from_bits(a).sqrt())
}

#[cfg(test)]
mod tests {
    //! The bounds of PTX ISA 9.7.3 and 9.7.4, against oracles that take another way than the functions do.

    use super::super::half::{Bf16, F16, Half, unary};
    use super::*;
    use std::f64::consts::{FRAC_PI_2, LN_2, PI};

    /// Every exponent, both signs, awkward mantissas and random ones.
    fn sweep() -> impl Iterator<Item = f32> {
        let special = [0.0, 1.0, 0.5, 2.0, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), f32::NAN];
        let special = special.into_iter().flat_map(|x| [x, -x, x.next_up(), x.next_down()]);
        (0..=u32::MAX).step_by(2039).map(f32::from_bits).chain(special)
    }

    /// The distance between `got` and the real `want` in units of the last place of the f32 nearest to `want`.
    fn ulps(got: f32, want: f64) -> f64 {
        let near = want as f32;
        if near.is_infinite() || near.is_nan() {
            return if got == near || got.is_nan() && near.is_nan() { 0.0 } else { f64::INFINITY };
        }
        let place = f64::from(near.abs().max(f32::MIN_POSITIVE)).log2().floor() as i32 - 23;
        (f64::from(got) - want).abs() / 2f64.powi(place)
    }

    /// All functions are within half a unit of the truth, give or take what the oracle errs.
    const NEAREST: f64 = 0.500_001;

    fn nearest(name: &str, g: fn(u32) -> u32, oracle: impl Fn(f64) -> f64) {
        for x in sweep() {
            let (got, want) = (f(g(x.to_bits())), oracle(x.into()));
            assert!(ulps(got, want) <= NEAREST, "{name}({x:e}) = {got:e}, not {want:e}");
        }
    }

    #[test]
    fn approximate_functions_are_correctly_rounded() {
        nearest("ex2", |x| canonical(exp2(f(x))), |x| (x * LN_2).exp());
        nearest("sqrt", sqrt_approx::<false>, |x| if x > 0.0 { (x.ln() / 2.0).exp() } else { x.sqrt() });
        nearest("rsqrt", rsqrt::<false>, |x| if x > 0.0 { (-x.ln() / 2.0).exp() } else { 1.0 / x.sqrt() });
        nearest("lg2", lg2::<false>, |x| if x == 1.0 { 0.0 } else { x.ln() / LN_2 });
        nearest("rcp", super::super::float::rcp::<0, false, false>, |x| x.powi(-1));
        nearest("tanh", tanh, |x| {
            let e = (-2.0 * x.abs()).exp_m1();
            if x == 0.0 || x.is_nan() { x } else { (-e / (2.0 + e)).copysign(x) }
        });
    }

    /// Where the absolute error counts: 2^-20.5 up to 2 pi, 2^-14.7 up to 100 pi.
    #[test]
    fn sines_are_within_their_bounds() {
        for x in sweep().filter(|x| f64::from(x.abs()) <= 100.0 * PI) {
            let wide = f64::from(x);
            // The oracles fold the angle into the first quadrant themselves.
            let turns = (wide / FRAC_PI_2).round();
            let angle = turns.mul_add(-6.123_233_995_736_766e-17, turns.mul_add(-FRAC_PI_2, wide));
            let (s, c) = (angle.sin(), angle.cos());
            let (want_sin, want_cos) = match (turns as i64).rem_euclid(4) {
                0 => (s, c),
                1 => (c, -s),
                2 => (-s, -c),
                _ => (-c, s),
            };
            for (got, want) in [(sin::<false>(x.to_bits()), want_sin), (cos::<false>(x.to_bits()), want_cos)] {
                let error = (f64::from(f(got)) - want).abs();
                assert!(error <= 2f64.powi(-25) * 1.01, "{x:e}: {} for {want}", f(got));
            }
        }
        for x in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!((sin::<false>(x.to_bits()), cos::<true>(x.to_bits())), (0x7fff_ffff, 0x7fff_ffff));
        }
        assert_eq!((sin::<false>(1 << 31), cos::<false>(1 << 31)), (1 << 31, 1f32.to_bits()));
    }

    #[test]
    fn division_is_within_two_units_where_it_has_to_be() {
        let mut words = (0..=u32::MAX).step_by(99_991).map(f32::from_bits);
        let divisors: Vec<f32> = sweep().step_by(997).collect();
        for (i, a) in words.by_ref().enumerate() {
            let b = divisors[i * 31 % divisors.len()];
            let (got, want) = (f(div::<false>(a.to_bits(), b.to_bits())), f64::from(a) / f64::from(b));
            if b.abs() <= 2f32.powi(126) || !b.is_finite() {
                assert!(ulps(got, want) <= NEAREST, "{a:e} / {b:e} = {got:e}, not {want:e}");
            } else if a.is_infinite() {
                assert!(got.is_nan());
            } else if !a.is_nan() {
                let sign = a.is_sign_negative() != b.is_sign_negative();
                assert_eq!((got, got.is_sign_negative()), (0.0, sign), "{a:e} / {b:e}");
            }
        }
        let two_to_127 = 2f32.powi(127).to_bits();
        assert_eq!(div::<false>(f32::INFINITY.to_bits(), two_to_127), 0x7fff_ffff);
        assert_eq!(div::<false>((-1f32).to_bits(), two_to_127), 1 << 31);
        assert_eq!(div::<true>(1, 1f32.to_bits()), 0);
    }

    #[test]
    fn flushing_variants_see_and_give_no_subnormals() {
        let functions = [sqrt_approx::<true>, rsqrt::<true>, sin::<true>, cos::<true>, lg2::<true>];
        let plain = [sqrt_approx::<false>, rsqrt::<false>, sin::<false>, cos::<false>, lg2::<false>];
        for x in sweep() {
            for (flushing, plain) in functions.iter().zip(plain) {
                let want = canonical(flush(f(plain(flush(x).to_bits()))));
                assert_eq!(flushing(x.to_bits()), want, "{x:e}");
            }
        }
    }

    #[test]
    fn doubles_use_their_upper_halves() {
        for (x, want) in [(4.0, 0.25), (-0.5, -2.0), (0.0, f64::INFINITY), (f64::NEG_INFINITY, -0.0), (2e-308, f64::INFINITY)] {
            assert_eq!(rcp64_high(f64::to_bits(x)), f64::to_bits(want), "{x:e}");
        }
        for (x, want) in [(4.0, 0.5), (0.0, f64::INFINITY), (-2e-308, f64::NEG_INFINITY), (f64::INFINITY, 0.0)] {
            assert_eq!(rsqrt64_high(f64::to_bits(x)), f64::to_bits(want), "{x:e}");
        }
        for bits in (0..=u64::MAX).step_by(7_777_777_777_777_777) {
            let x = f64::from_bits(bits);
            if x.is_subnormal() {
                continue;
            }
            for (got, want) in [(rcp64_high(bits), 1.0 / x), (rsqrt64_high(bits), 1.0 / x.sqrt())] {
                let got = f64::from_bits(got);
                let close = (got - want).abs() <= want.abs() * 2f64.powi(-19);
                assert!(close || got == want || got.is_nan() && want.is_nan() || want.abs() < 2.3e-308, "{x:e}");
                assert_eq!(got.to_bits() as u32, 0);
            }
        }
    }

    /// The f32 nearest to a 16-bit format's truth, for every code.
    fn every_half<H: Half>(relative: Option<f64>, absolute: Option<f64>, g: impl Fn(u16) -> u16, oracle: fn(f64) -> f64) {
        for code in 0..=u16::MAX {
            let (x, got) = (f64::from(H::widen(code)), f64::from(H::widen(g(code))));
            let want = oracle(x);
            if want.is_nan() {
                assert_eq!(g(code), H::CANONICAL_NAN);
                continue;
            }
            // The code nearest to the truth, found by looking at the neighbours.
            let error = (got - want).abs();
            let neighbours = [g(code).wrapping_sub(1), g(code).wrapping_add(1)].map(|n| f64::from(H::widen(n)));
            if got.is_finite() && got != 0.0 {
                for other in neighbours.into_iter().filter(|other| other.is_finite()) {
                    assert!(error <= (other - want).abs() * 1.000_001, "{x}: {got} for {want}");
                }
                let subnormal = got.abs() < f64::from(f32::MIN_POSITIVE).max(if H::narrow(1.0) == 0x3c00 { 6.2e-5 } else { 0.0 });
                assert!(relative.is_none_or(|bound| subnormal || error <= bound * want.abs()), "{x}: {got} for {want}");
                assert!(absolute.is_none_or(|bound| error <= bound), "{x}: {got} for {want}");
            }
        }
    }

    #[test]
    fn halves_are_nearest_for_every_code() {
        every_half::<F16>(Some(2f64.powf(-9.9)), None, |x| unary::<F16, false>(x, f64::exp2), |x| (x * LN_2).exp());
        every_half::<Bf16>(Some(2f64.powi(-7)), None, |x| unary::<Bf16, false>(x, f64::exp2), |x| (x * LN_2).exp());
        let tanh = |x: f64| if x.abs() > 30.0 { x.signum() } else { x.sinh() / x.cosh() };
        every_half::<F16>(None, Some(2f64.powf(-10.987)), |x| unary::<F16, false>(x, f64::tanh), tanh);
        every_half::<Bf16>(None, Some(2f64.powi(-8)), |x| unary::<Bf16, false>(x, f64::tanh), tanh);
        // `.ftz`: what would be subnormal is zero, on either side.
        for code in 0..=u16::MAX {
            let got = unary::<Bf16, true>(code, f64::exp2);
            let plain = unary::<Bf16, false>(code, f64::exp2);
            assert_eq!(got, if plain & 0x7f80 == 0 { 0 } else { plain }, "{code:#x}");
        }
    }
}
