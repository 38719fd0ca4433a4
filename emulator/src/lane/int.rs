//! Integer arithmetic. Shift amounts clamp instead of wrapping, and division by zero gives all ones, as the hardware does.

pub fn sx16(x: u32) -> i32 {
    x as u16 as i16 as i32
}

pub fn shl32(a: u32, b: u32) -> u32 {
    if b > 31 { 0 } else { a << b }
}

pub fn shr_u32(a: u32, b: u32) -> u32 {
    if b > 31 { 0 } else { a >> b }
}

pub fn shr_s32(a: u32, b: u32) -> u32 {
    ((a as i32) >> b.min(31)) as u32
}

pub fn shl64(a: u64, b: u32) -> u64 {
    if b > 63 { 0 } else { a << b }
}

pub fn shr_u64(a: u64, b: u32) -> u64 {
    if b > 63 { 0 } else { a >> b }
}

pub fn shr_s64(a: u64, b: u32) -> u64 {
    ((a as i64) >> b.min(63)) as u64
}

pub fn mul_hi_u32(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}

pub fn mul_hi_s32(a: u32, b: u32) -> u32 {
    ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32
}

pub fn mul_hi_u64(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

pub fn mul_hi_s64(a: u64, b: u64) -> u64 {
    ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64
}

fn mul24(a: u32, b: u32, signed: bool) -> u64 {
    if signed {
        let sx = |x: u32| i64::from(((x << 8) as i32) >> 8);
        (sx(a) * sx(b)) as u64
    } else {
        u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)
    }
}

pub fn mul24_lo_u(a: u32, b: u32) -> u32 {
    mul24(a, b, false) as u32
}

pub fn mul24_lo_s(a: u32, b: u32) -> u32 {
    mul24(a, b, true) as u32
}

pub fn mul24_hi_u(a: u32, b: u32) -> u32 {
    (mul24(a, b, false) >> 16) as u32
}

pub fn mul24_hi_s(a: u32, b: u32) -> u32 {
    (mul24(a, b, true) >> 16) as u32
}

pub fn div_u32(a: u32, b: u32) -> u32 {
    a.checked_div(b).unwrap_or(u32::MAX)
}

pub fn div_s32(a: u32, b: u32) -> u32 {
    if b == 0 { u32::MAX } else { (a as i32).wrapping_div(b as i32) as u32 }
}

pub fn rem_u32(a: u32, b: u32) -> u32 {
    a.checked_rem(b).unwrap_or(a)
}

pub fn rem_s32(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 }
}

pub fn div_u64(a: u64, b: u64) -> u64 {
    a.checked_div(b).unwrap_or(u64::MAX)
}

pub fn div_s64(a: u64, b: u64) -> u64 {
    if b == 0 { u64::MAX } else { (a as i64).wrapping_div(b as i64) as u64 }
}

pub fn rem_u64(a: u64, b: u64) -> u64 {
    a.checked_rem(b).unwrap_or(a)
}

pub fn rem_s64(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 }
}

pub fn sad_u32(a: u32, b: u32, c: u32) -> u32 {
    c.wrapping_add(a.abs_diff(b))
}

pub fn sad_s32(a: u32, b: u32, c: u32) -> u32 {
    c.wrapping_add((a as i32).abs_diff(b as i32))
}

/// `bfe`: `pos` and `len` are the low bytes of b and c; past the top, the sign (or zero) fills in.
pub fn bfe_u32(a: u32, b: u32, c: u32) -> u32 {
    let (pos, len) = (b & 0xff, c & 0xff);
    if len == 0 || pos > 31 {
        return 0;
    }
    let field = a >> pos;
    if len >= 32 { field } else { field & ((1 << len) - 1) }
}

pub fn bfe_s32(a: u32, b: u32, c: u32) -> u32 {
    let (pos, len) = (b & 0xff, c & 0xff);
    if len == 0 {
        return 0;
    }
    let sign = (a >> (pos + len - 1).min(31)) & 1;
    let fill = if sign == 1 { u32::MAX } else { 0 };
    if pos > 31 {
        return fill;
    }
    let kept = len.min(32 - pos);
    let field = a >> pos;
    if kept >= 32 {
        return field;
    }
    let mask = (1u32 << kept) - 1;
    (field & mask) | (fill & !mask)
}

pub fn bfe_u64(a: u64, b: u32, c: u32) -> u64 {
    let (pos, len) = (b & 0xff, c & 0xff);
    if len == 0 || pos > 63 {
        return 0;
    }
    let field = a >> pos;
    if len >= 64 { field } else { field & ((1 << len) - 1) }
}

pub fn bfe_s64(a: u64, b: u32, c: u32) -> u64 {
    let (pos, len) = (b & 0xff, c & 0xff);
    if len == 0 {
        return 0;
    }
    let fill = if (a >> (pos + len - 1).min(63)) & 1 == 1 { u64::MAX } else { 0 };
    if pos > 63 {
        return fill;
    }
    let kept = len.min(64 - pos);
    let field = a >> pos;
    if kept >= 64 {
        return field;
    }
    let mask = (1u64 << kept) - 1;
    (field & mask) | (fill & !mask)
}

pub fn bfi32(a: u32, b: u32, c: u32, d: u32) -> u32 {
    let (pos, len) = (c & 0xff, d & 0xff);
    if len == 0 || pos > 31 {
        return b;
    }
    let mask = (if len >= 32 { u32::MAX } else { (1 << len) - 1 }) << pos;
    (b & !mask) | ((a << pos) & mask)
}

pub fn bfi64(a: u64, b: u64, c: u32, d: u32) -> u64 {
    let (pos, len) = (c & 0xff, d & 0xff);
    if len == 0 || pos > 63 {
        return b;
    }
    let mask = (if len >= 64 { u64::MAX } else { (1 << len) - 1 }) << pos;
    (b & !mask) | ((a << pos) & mask)
}

pub fn bfind_u32(a: u32) -> u32 {
    if a == 0 { u32::MAX } else { 31 - a.leading_zeros() }
}

pub fn bfind_s32(a: u32) -> u32 {
    bfind_u32(if (a as i32) < 0 { !a } else { a })
}

pub fn bfind_u64(a: u64) -> u32 {
    if a == 0 { u32::MAX } else { 63 - a.leading_zeros() }
}

pub fn bfind_s64(a: u64) -> u32 {
    bfind_u64(if (a as i64) < 0 { !a } else { a })
}

fn shift_amount(bit: u32, top: u32) -> u32 {
    if bit == u32::MAX { bit } else { top - bit }
}

pub fn bfind_shift_u32(a: u32) -> u32 {
    shift_amount(bfind_u32(a), 31)
}

pub fn bfind_shift_s32(a: u32) -> u32 {
    shift_amount(bfind_s32(a), 31)
}

pub fn bfind_shift_u64(a: u64) -> u32 {
    shift_amount(bfind_u64(a), 63)
}

pub fn bfind_shift_s64(a: u64) -> u32 {
    shift_amount(bfind_s64(a), 63)
}

/// `fns.b32`: the position of the n-th set bit from `base`, negative n searching downwards.
pub fn fns(mask: u32, base: u32, offset: u32) -> u32 {
    let offset = offset as i32;
    let step: i32 = if offset < 0 { -1 } else { 1 };
    let mut left = if offset == 0 { 1 } else { offset.unsigned_abs() };
    let mut at = base as i32;
    while (0..32).contains(&at) {
        let set = (mask >> at) & 1 == 1;
        if offset == 0 {
            return if set { base } else { u32::MAX };
        }
        if set {
            left -= 1;
            if left == 0 {
                return at as u32;
            }
        }
        at += step;
    }
    u32::MAX
}

/// `bmsk`: `len` ones from bit `pos`; the wrapping form takes both modulo 32.
pub fn bmsk_clamp(pos: u32, len: u32) -> u32 {
    if pos > 31 || len == 0 {
        return 0;
    }
    (if len >= 32 { u32::MAX } else { (1 << len) - 1 }) << pos
}

pub fn bmsk_wrap(pos: u32, len: u32) -> u32 {
    bmsk_clamp(pos & 31, len & 31)
}

pub fn szext_clamp_u(a: u32, b: u32) -> u32 {
    if b > 31 { a } else { a & ((1 << b) - 1) }
}

pub fn szext_clamp_s(a: u32, b: u32) -> u32 {
    match b {
        0 => 0,
        1..=31 => (((a << (32 - b)) as i32) >> (32 - b)) as u32,
        _ => a,
    }
}

pub fn szext_wrap_u(a: u32, b: u32) -> u32 {
    szext_clamp_u(a, b & 31)
}

pub fn szext_wrap_s(a: u32, b: u32) -> u32 {
    szext_clamp_s(a, b & 31)
}

/// One byte of `prmt`'s pool, sign-replicated when bit 3 of the selector is set.
fn pool_byte(pool: u64, selector: u32) -> u32 {
    let byte = ((pool >> (8 * (selector & 7))) & 0xff) as u32;
    if selector & 8 == 0 {
        byte
    } else if byte & 0x80 != 0 {
        0xff
    } else {
        0
    }
}

fn pool(a: u32, b: u32) -> u64 {
    (u64::from(b) << 32) | u64::from(a)
}

fn gather(pool: u64, selectors: [u32; 4]) -> u32 {
    (0..4).fold(0, |out, i| out | (pool_byte(pool, selectors[i as usize]) << (8 * i)))
}

pub fn prmt(a: u32, b: u32, c: u32) -> u32 {
    gather(pool(a, b), [c & 15, (c >> 4) & 15, (c >> 8) & 15, (c >> 12) & 15])
}

pub fn prmt_f4e(a: u32, b: u32, c: u32) -> u32 {
    let s = c & 3;
    gather(pool(a, b), [s, s + 1, s + 2, s + 3])
}

pub fn prmt_b4e(a: u32, b: u32, c: u32) -> u32 {
    let s = c & 3;
    gather(pool(a, b), [s, (s + 7) & 7, (s + 6) & 7, (s + 5) & 7])
}

pub fn prmt_rc8(a: u32, b: u32, c: u32) -> u32 {
    gather(pool(a, b), [c & 3; 4])
}

pub fn prmt_ecl(a: u32, b: u32, c: u32) -> u32 {
    let s = c & 3;
    gather(pool(a, b), [s, s.max(1), s.max(2), 3])
}

pub fn prmt_ecr(a: u32, b: u32, c: u32) -> u32 {
    let s = c & 3;
    gather(pool(a, b), [0, s.min(1), s.min(2), s])
}

pub fn prmt_rc16(a: u32, b: u32, c: u32) -> u32 {
    let s = 2 * (c & 1);
    gather(pool(a, b), [s, s + 1, s, s + 1])
}

/// Funnel shifts of `[b : a]`.
pub fn shf_l_clamp(a: u32, b: u32, c: u32) -> u32 {
    let n = c.min(32);
    ((pool(a, b) << n) >> 32) as u32
}

pub fn shf_r_clamp(a: u32, b: u32, c: u32) -> u32 {
    (pool(a, b) >> c.min(32)) as u32
}

pub fn shf_l_wrap(a: u32, b: u32, c: u32) -> u32 {
    shf_l_clamp(a, b, c & 31)
}

pub fn shf_r_wrap(a: u32, b: u32, c: u32) -> u32 {
    shf_r_clamp(a, b, c & 31)
}

fn byte(x: u32, i: u32, signed: bool) -> i64 {
    let raw = (x >> (8 * i)) as u8;
    if signed { i64::from(raw as i8) } else { i64::from(raw) }
}

fn half_word(x: u32, i: u32, signed: bool) -> i64 {
    let raw = (x >> (16 * i)) as u16;
    if signed { i64::from(raw as i16) } else { i64::from(raw) }
}

pub fn dp4a<const A: bool, const B: bool>(a: u32, b: u32, c: u32) -> u32 {
    (0..4).fold(c, |sum, i| sum.wrapping_add((byte(a, i, A) * byte(b, i, B)) as u32))
}

pub fn dp2a<const A: bool, const B: bool, const HI: bool>(a: u32, b: u32, c: u32) -> u32 {
    let at = if HI { 2 } else { 0 };
    (0..2).fold(c, |sum, i| sum.wrapping_add((half_word(a, i, A) * byte(b, i + at, B)) as u32))
}

/// Both halves of a packed 16-bit pair.
pub fn halves(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    let low = f(a as u16, b as u16);
    let high = f((a >> 16) as u16, (b >> 16) as u16);
    (u32::from(high) << 16) | u32::from(low)
}
