//! The ring: arithmetic in which the order of a sum does not matter.
//!
//! Under [`Numerics::Ring`](crate::Numerics::Ring) there are no floats. A register or memory cell of a float type holds
//! a *payload*, an integer modulo 2^w with w its width in bits: 64, 32, 16 (f16 and bf16) or 8 (every 8-bit format).
//! Sums and products wrap. They are associative, commutative and distributive, so a kernel may tile, reorder, split or
//! pipeline a computation as it likes and must still give exactly the bits of the naive loop written in the same
//! algebra. One `==` then finds every wrong index, lost term, stale buffer and double count, and rounding hides nothing.
//! The idea is FpSan's, of the Triton compiler.
//!
//! ```
//! use tilewright_emulator::ring;
//! // Payloads of two bf16 rows, as they lie in memory: any bits will do.
//! let (a, b) = ([0x3f80u16, 0xc1a7, 0x0001], [0x8000u16, 0x1234, 0xffff]);
//! let forward = ring::dot(0, a.iter().zip(&b).map(|(a, b)| (*a, *b)));
//! let backward = ring::dot(0, a.iter().zip(&b).rev().map(|(a, b)| (*a, *b)));
//! assert_eq!(forward, backward);
//! // Constants: a kernel that multiplies with 1.0 and adds 0.0 changes nothing.
//! assert_eq!(ring::fma(forward, ring::of_f32(1.0), ring::of_f32(0.0)), forward);
//! // exp2 turns sums into products, so that an online softmax may rescale.
//! assert_eq!(ring::ex2(ring::add(7u32, 9)), ring::mul(ring::ex2(7u32), ring::ex2(9)));
//! ```
//!
//! # What is kept and what is not
//!
//! | instruction | in the ring |
//! |---|---|
//! | `add sub mul mad fma neg`, `mma`, `wgmma`, `atom.add`, `red.add` | wrapping integers; rounding and `.ftz` have no meaning |
//! | narrowing `cvt` | cuts high bits off: a homomorphism, so it may come before or after a sum; `.satfinite` does nothing |
//! | widening `cvt`, 8- and 16-bit operands of `mma` | sign extension, which is *not* one: a kernel that widens before a sum differs from one that widens after it |
//! | `ex2` | g^x for an odd g: `ex2(a + b) = ex2(a) ex2(b)`, `ex2(0) = 1`; narrowing commutes with it |
//! | `min max abs`, `setp`, `set`, `slct` | payloads as signed integers: any order of a max gives the same, `abs(-x) = abs(x)`; nothing is a NaN |
//! | `rcp div` | `rcp` of an odd payload is its true inverse, `div(a, b) = a rcp(b)`; see [`rcp`] for even ones |
//! | `sqrt lg2 sin cos tanh`, `.sat` | tags: a hash of the payload, with 0 and 1 (and signs) kept where the function keeps them |
//! | `rsqrt` | `rcp(sqrt(x))` |
//! | integer to float and back | the integer itself, modulo 2^w; rounding to an integral float changes nothing |
//! | `tf32` | all 32 bits of the register |
//!
//! Everything that is not arithmetic (loads, copies, shuffles, `mov`, integer and bit operations, integer `mma`) is as
//! ever. Data in memory are payloads as they are: fill inputs with random bits, or with [`of_f32`] where numbers are
//! meant. [`Arg::F32`](crate::Arg::F32) and floating literals of the text (`0f3F800000`, `0d..`, `1.5`) are numbers and
//! go through [`of`]. A 16-bit constant that the text spells as an integer cannot be told from one; it stays as it is.
//!
//! `redux.abs` on f32 is refused, with its line.
//!
//! Infinity is no annihilator: a kernel that masks with minus infinity before `ex2` does not get zeros, and its
//! reference has to mask in the same way. Minus infinity is neutral under `max`, though, and so starts a running maximum.

/// An integer modulo a power of two that stands for a float: `u8`, `u16`, `u32` or `u64`.
pub trait Payload: Copy + Eq + sealed::Sealed {
    /// Width in bits.
    const BITS: u32;
    /// Sign-extended.
    fn widened(self) -> i64;
    /// The low bits.
    fn cut(x: i64) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! payloads {
    ($($ty:ty, $signed:ty;)*) => {$(
        impl sealed::Sealed for $ty {}
        impl Payload for $ty {
            const BITS: u32 = <$ty>::BITS;
            #[inline(always)]
            fn widened(self) -> i64 {
                i64::from(self as $signed)
            }
            #[inline(always)]
            fn cut(x: i64) -> Self {
                x as $ty
            }
        }
    )*};
}

payloads! {
    u8, i8;
    u16, i16;
    u32, i32;
    u64, i64;
}

/// Stands for 1/2. Odd, so that no product with it loses information.
const HALF: i64 = 0x9e37_79b9_7f4a_7c15_u64 as i64;
/// Stands for 2 in numbers too large for the width.
const LARGE: i64 = 0xd1b5_4a32_d192_ed03_u64 as i64;
/// The base of [`ex2`], a generator of the odd numbers that are 1 modulo 4.
const BASE: i64 = 5;

/// The payload of a number: integers below 2^(w-1) are themselves; halving multiplies with a fixed odd number, so that
/// of(1.5) of(0.25) = of(0.375); of(-x) = -of(x). Infinities are the extremes, NaN is a tag.
pub fn of<P: Payload>(x: f64) -> P {
    let most = i64::MAX >> (64 - P::BITS);
    if x.is_nan() {
        return tag(P::cut(0), 1);
    }
    if x.is_infinite() {
        return P::cut(if x > 0.0 { most } else { !most });
    }
    if x == 0.0 {
        return P::cut(0);
    }
    let bits = x.abs().to_bits();
    let field = (bits >> 52) as i32;
    let significand = (bits & ((1 << 52) - 1)) as i64 | if field > 0 { 1 << 52 } else { 0 };
    let zeros = significand.trailing_zeros() as i32;
    let (odd, exponent) = (significand >> zeros, field.max(1) - 1075 + zeros);
    let magnitude = if exponent < 0 {
        odd.wrapping_mul(HALF.wrapping_pow(exponent.unsigned_abs()))
    } else if x.abs() <= most as f64 && exponent < 64 {
        odd << exponent
    } else {
        odd.wrapping_mul(LARGE.wrapping_pow(exponent.unsigned_abs()))
    };
    P::cut(if x < 0.0 { magnitude.wrapping_neg() } else { magnitude })
}

/// [`of`] for an f32.
pub fn of_f32(x: f32) -> u32 {
    of(x.into())
}

/// [`of`] for an f64.
pub fn of_f64(x: f64) -> u64 {
    of(x)
}

/// [`of`] for an f16 or bf16.
pub fn of_half(x: f32) -> u16 {
    of(x.into())
}

/// a + b
#[inline(always)]
pub fn add<P: Payload>(a: P, b: P) -> P {
    P::cut(a.widened().wrapping_add(b.widened()))
}

/// a - b
#[inline(always)]
pub fn sub<P: Payload>(a: P, b: P) -> P {
    P::cut(a.widened().wrapping_sub(b.widened()))
}

/// a b
#[inline(always)]
pub fn mul<P: Payload>(a: P, b: P) -> P {
    P::cut(a.widened().wrapping_mul(b.widened()))
}

/// a b + c
#[inline(always)]
pub fn fma<P: Payload>(a: P, b: P, c: P) -> P {
    add(mul(a, b), c)
}

/// -a
#[inline(always)]
pub fn neg<P: Payload>(a: P) -> P {
    P::cut(a.widened().wrapping_neg())
}

/// `cvt` between float widths: low bits, or sign extension.
#[inline(always)]
pub fn convert<P: Payload, Q: Payload>(x: P) -> Q {
    Q::cut(x.widened())
}

/// `c + Σ a b` as `mma` and `wgmma` compute it: operands widened to the accumulator's width first.
pub fn dot<P: Payload, Q: Payload>(c: Q, pairs: impl IntoIterator<Item = (P, P)>) -> Q {
    pairs.into_iter().fold(c, |sum, (a, b)| fma(convert(a), convert(b), sum))
}

/// The larger of two signed integers.
#[inline(always)]
pub fn max<P: Payload>(a: P, b: P) -> P {
    if a.widened() >= b.widened() { a } else { b }
}

/// The smaller of two signed integers.
#[inline(always)]
pub fn min<P: Payload>(a: P, b: P) -> P {
    if a.widened() <= b.widened() { a } else { b }
}

/// The magnitude of a signed integer; the least one is its own.
#[inline(always)]
pub fn abs<P: Payload>(a: P) -> P {
    P::cut(a.widened().wrapping_abs())
}

/// |b| with the sign of a, as `copysign` has its operands.
pub fn copysign<P: Payload>(a: P, b: P) -> P {
    if a.widened() < 0 { neg(abs(b)) } else { abs(b) }
}

/// g^x for an odd g, a homomorphism from sums to products.
pub fn ex2<P: Payload>(x: P) -> P {
    // The order of g divides 2^62, so the exponent's sign extension does not matter.
    let (mut power, mut left, mut square) = (1i64, x.widened() as u64, BASE);
    while left != 0 && square != 1 {
        if left & 1 == 1 {
            power = power.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        left >>= 1;
    }
    P::cut(power)
}

/// 1 / x: the inverse of an odd payload. An even one, 2^k m, becomes of(2^-k) / m, so that rcp(of(2)) = of(0.5), and 0
/// becomes infinity.
pub fn rcp<P: Payload>(x: P) -> P {
    let x = x.widened();
    if x == 0 {
        return of(f64::INFINITY);
    }
    let k = x.trailing_zeros();
    let odd = x >> k;
    // Newton's iteration doubles the right bits; an odd number is its own inverse modulo 8.
    let mut inverse = odd;
    for _ in 0..5 {
        inverse = inverse.wrapping_mul(2i64.wrapping_sub(odd.wrapping_mul(inverse)));
    }
    P::cut(inverse.wrapping_mul(HALF.wrapping_pow(k)))
}

/// a / b, which is a rcp(b).
pub fn div<P: Payload>(a: P, b: P) -> P {
    mul(a, rcp(b))
}

/// A tag that keeps 0 and 1.
pub fn sqrt<P: Payload>(x: P) -> P {
    if matches!(x.widened(), 0 | 1) { x } else { tag(x, 2) }
}

/// rcp(sqrt(x))
pub fn rsqrt<P: Payload>(x: P) -> P {
    rcp(sqrt(x))
}

/// A tag; lg2(1) = 0.
pub fn lg2<P: Payload>(x: P) -> P {
    if x.widened() == 1 { P::cut(0) } else { tag(x, 3) }
}

/// A tag; sin(0) = 0 and sin(-x) = -sin(x).
pub fn sin<P: Payload>(x: P) -> P {
    odd_tag(x, 4)
}

/// A tag; cos(0) = 1 and cos(-x) = cos(x).
pub fn cos<P: Payload>(x: P) -> P {
    if x.widened() == 0 { P::cut(1) } else { tag(abs(x), 5) }
}

/// A tag; tanh(0) = 0 and tanh(-x) = -tanh(x).
pub fn tanh<P: Payload>(x: P) -> P {
    odd_tag(x, 6)
}

/// `.sat`, a tag that keeps 0 and 1.
pub fn sat<P: Payload>(x: P) -> P {
    if matches!(x.widened(), 0 | 1) { x } else { tag(x, 7) }
}

/// `.relu`
pub fn relu<P: Payload>(x: P) -> P {
    max(x, P::cut(0))
}

fn odd_tag<P: Payload>(x: P, salt: u64) -> P {
    match x.widened() {
        0 => x,
        1.. => tag(x, salt),
        _ => neg(tag(neg(x), salt)),
    }
}

/// A hash (the finaliser of SplitMix64).
fn tag<P: Payload>(x: P, salt: u64) -> P {
    let mut h = (x.widened() as u64).wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    h = (h ^ h >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ h >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    P::cut((h ^ h >> 31) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_and_products_form_a_ring(a: u32, b: u32, c: u32) {
            prop_assert_eq!(add(add(a, b), c), add(a, add(b, c)));
            prop_assert_eq!(mul(mul(a, b), c), mul(a, mul(b, c)));
            prop_assert_eq!(mul(a, add(b, c)), add(mul(a, b), mul(a, c)));
            prop_assert_eq!(add(a, neg(a)), 0);
            prop_assert_eq!(sub(a, b), add(a, neg(b)));
        }

        #[test]
        fn ex2_turns_sums_into_products_at_every_width(a: u64, b: u64) {
            prop_assert_eq!(ex2(add(a, b)), mul(ex2(a), ex2(b)));
            prop_assert_eq!(ex2(a as u32), ex2(a) as u32);
            prop_assert_eq!(ex2(a as u16), ex2(a) as u16);
            prop_assert_eq!(ex2(a as u8), ex2(a) as u8);
        }

        #[test]
        fn narrowing_commutes(a: u32, b: u32) {
            let narrow = convert::<u32, u16>;
            prop_assert_eq!(narrow(mul(a, b)), mul(narrow(a), narrow(b)));
            prop_assert_eq!(narrow(add(a, b)), add(narrow(a), narrow(b)));
            prop_assert_eq!(convert::<u16, u32>(a as u16) as u16, a as u16);
        }

        #[test]
        fn odd_payloads_have_inverses(a: u32, b: u32) {
            let odd = a | 1;
            prop_assert_eq!(mul(odd, rcp(odd)), 1);
            prop_assert_eq!(div(mul(b, odd), odd), b);
        }

        #[test]
        fn maxima_come_in_any_order(a: u16, b: u16, c: u16) {
            prop_assert_eq!(max(max(a, b), c), max(a, max(c, b)));
            prop_assert_eq!(max(a, of(f64::NEG_INFINITY)), a);
            prop_assert_eq!(min(a, of(f64::INFINITY)), a);
            prop_assert_eq!(abs(neg(a)), abs(a));
            prop_assert_eq!(tanh(neg(a)), neg(tanh(a)));
        }

        /// Values of one kind multiply as numbers do: halves of odd numbers, and integers.
        #[test]
        fn constants_multiply(a in -1000i32..1000, b in -1000i32..1000, j in 0i32..20, k in 0i32..20) {
            let (x, y) = (f64::from(2 * a + 1) / f64::from(1 << j), f64::from(2 * b + 1) / f64::from(1 << k));
            prop_assert_eq!(mul(of_f64(x), of_f64(y)), of_f64(x * y));
            prop_assert_eq!(mul(of_f32(x as f32), of_f32(y as f32)), of_f32((x * y) as f32));
            prop_assert_eq!(mul(of_f32(a as f32), of_f32(b as f32)), a.wrapping_mul(b) as u32);
            prop_assert_eq!(add(of_f32(a as f32), of_f32(b as f32)), a.wrapping_add(b) as u32);
            prop_assert_eq!(of_f32(-x as f32), neg(of_f32(x as f32)));
        }
    }

    #[test]
    fn constants() {
        assert_eq!((of_f32(0.0), of_f32(-0.0), of_f32(1.0), of_f32(-1.0), of_f32(7.0)), (0, 0, 1, u32::MAX, 7));
        assert_eq!((of_half(1.0), of::<u8>(-2.0), of_f64(3e9)), (1, 0xfe, 3_000_000_000));
        assert_eq!(rcp(of_f32(2.0)), of_f32(0.5));
        assert_eq!(rcp(of_f32(8.0)), of_f32(0.125));
        assert_eq!((of_f32(f32::NEG_INFINITY), of_f32(f32::INFINITY)), (0x8000_0000, 0x7fff_ffff));
        // What does not fit does not become zero.
        assert_ne!(of_f32(2f32.powi(40)), 0);
        assert_ne!(of_f32(f32::MIN_POSITIVE), 0);
        assert_eq!((ex2(0u32), cos(0u16), sqrt(1u32), lg2(1u32), sat(1u32)), (1, 1, 1, 0, 1));
    }
}
