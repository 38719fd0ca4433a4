//! Directed rounding of f32 and f64 sums and products, through round-to-odd intermediates.
//!
//! A value rounded to odd at p bits rounds correctly, in any mode, to any format of at most p - 2 bits
//! (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008). f64 has 53 bits, f32 needs 24.

/// The four rounding modes of float arithmetic.
pub const RN: u8 = 0;
pub const RZ: u8 = 1;
pub const RM: u8 = 2;
pub const RP: u8 = 3;

fn step_up(x: f64) -> f64 {
    x.next_up()
}

fn step_down(x: f64) -> f64 {
    x.next_down()
}

/// `value + error` rounded to odd, where `value` is their sum rounded to nearest.
fn odd(value: f64, error: f64) -> f64 {
    if error == 0.0 || !value.is_finite() || error.is_nan() || value.to_bits() & 1 == 1 {
        return value;
    }
    if error > 0.0 { step_up(value) } else { step_down(value) }
}

/// The exact error of `a + b` rounded to nearest (Knuth's TwoSum).
fn sum_error(a: f64, b: f64, sum: f64) -> f64 {
    let bb = sum - a;
    (a - (sum - bb)) + (b - bb)
}

/// `a + b` rounded to odd.
pub fn odd_sum(a: f64, b: f64) -> f64 {
    let sum = a + b;
    odd(sum, sum_error(a, b, sum))
}

/// `a / b` rounded to odd.
pub fn odd_div(a: f64, b: f64) -> f64 {
    let q = a / b;
    let remainder = (-q).mul_add(b, a);
    odd(q, if b < 0.0 { -remainder } else { remainder })
}

/// The square root rounded to odd.
pub fn odd_sqrt(a: f64) -> f64 {
    let root = a.sqrt();
    odd(root, (-root).mul_add(root, a))
}

/// A round-to-odd (or exact) value to f32.
pub fn to_f32(x: f64, mode: u8) -> f32 {
    let near = x as f32;
    if mode == RN || f64::from(near) == x || x.is_nan() {
        return near;
    }
    let above = f64::from(near) > x;
    let down = match mode {
        RZ => x > 0.0,
        RM => true,
        _ => false,
    };
    match (down, above) {
        (true, true) => near.next_down(),
        (false, false) => near.next_up(),
        _ => near,
    }
}

/// The nearest f64 `value` and the sign of what it lost, to another mode.
pub fn direct_f64(value: f64, error: f64, mode: u8) -> f64 {
    if mode == RN || error == 0.0 || error.is_nan() {
        return value;
    }
    if value.is_infinite() {
        // Overflow of finite operands: the directed modes towards zero stop at the largest finite value.
        let stays = match mode {
            RZ => false,
            RM => value < 0.0,
            _ => value > 0.0,
        };
        return if stays { value } else { f64::MAX.copysign(value) };
    }
    let up = error > 0.0;
    match mode {
        RZ if value > 0.0 && !up => step_down(value),
        RZ if value < 0.0 && up => step_up(value),
        RM if !up => step_down(value),
        RP if up => step_up(value),
        _ => value,
    }
}

/// The sign of an exact zero sum differs by mode: x + (-x) is -0 only when rounding down, of zeros too.
fn zero_sum_f32(result: f32, a: f64, b: f64, mode: u8) -> f32 {
    if result == 0.0 && are_opposite(a, b) && mode == RM { -0.0 } else { result }
}

fn are_opposite(a: f64, b: f64) -> bool {
    a == -b && a.is_sign_negative() != b.is_sign_negative()
}

pub fn add_f32(a: f32, b: f32, mode: u8) -> f32 {
    if mode == RN {
        return a + b;
    }
    let (a, b) = (f64::from(a), f64::from(b));
    zero_sum_f32(to_f32(odd_sum(a, b), mode), a, b, mode)
}

pub fn mul_f32(a: f32, b: f32, mode: u8) -> f32 {
    // The product of two f32 is exact in f64.
    to_f32(f64::from(a) * f64::from(b), mode)
}

pub fn fma_f32(a: f32, b: f32, c: f32, mode: u8) -> f32 {
    if mode == RN {
        return a.mul_add(b, c);
    }
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    zero_sum_f32(to_f32(odd_sum(product, c), mode), product, c, mode)
}

pub fn div_f32(a: f32, b: f32, mode: u8) -> f32 {
    if mode == RN { a / b } else { to_f32(odd_div(f64::from(a), f64::from(b)), mode) }
}

pub fn sqrt_f32(a: f32, mode: u8) -> f32 {
    if mode == RN { a.sqrt() } else { to_f32(odd_sqrt(f64::from(a)), mode) }
}

pub fn add_f64(a: f64, b: f64, mode: u8) -> f64 {
    let sum = a + b;
    if mode == RN {
        return sum;
    }
    if sum.is_infinite() && a.is_finite() && b.is_finite() {
        return direct_f64(sum, -sum, mode);
    }
    if are_opposite(a, b) && mode == RM {
        return -0.0;
    }
    direct_f64(sum, sum_error(a, b, sum), mode)
}
