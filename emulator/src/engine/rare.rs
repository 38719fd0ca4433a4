//! Register-only operations that are rare enough to go through a function pointer for each lane.

use super::alu::{choose_defined, logic, mul_wide, set_predicates};
use super::regs::{FULL, Regs, Row, Row64};
use crate::program::op::{Carry, Logic, Parts};
use crate::program::{Op, P};

/// A comparison's lanes joined with a predicate.
fn combined(regs: &Regs, bits: u32, defined: u32, combine: Option<(Logic, P, bool)>) -> (u32, u32) {
    match combine {
        None => (bits, defined),
        Some((op, p, negated)) => (logic(op, bits, regs.pred((p, negated))), defined & regs.pdef(p)),
    }
}

/// The register-only operations that are worth no loop of their own.
#[inline(never)]
pub(super) fn rare(regs: &mut Regs, op: &Op, m: u32) -> bool {
    match op {
        Op::SetpFn32 { f, a, b, tail } => {
            let bits = test2!(regs.r(*a), regs.r(*b), |x, y| f(x, y));
            let defined = regs.rdef(*a) & regs.rdef(*b);
            set_predicates(regs, tail, bits, !bits, m, defined);
        }
        Op::SetpFn64 { f, a, b, tail } => {
            let bits = test2!(regs.q(*a), regs.q(*b), |x, y| f(x, y));
            let defined = regs.qdef(*a) & regs.qdef(*b);
            set_predicates(regs, tail, bits, !bits, m, defined);
        }
        Op::SetpHalves { f, a, b, tail } => {
            let low = test2!(regs.r(*a), regs.r(*b), |x, y| f(x & 0xffff, y & 0xffff));
            let high = test2!(regs.r(*a), regs.r(*b), |x, y| f(x >> 16, y >> 16));
            let defined = regs.rdef(*a) & regs.rdef(*b);
            set_predicates(regs, tail, low, high, m, defined);
        }
        Op::PredLogic { op, d, a, b } => {
            let (x, y) = (regs.pred(*a), regs.pred(*b));
            let bits = logic(*op, x, y);
            let defined = regs.pdef(a.0) & regs.pdef(b.0);
            // A constant side decides an `and` or `or` whatever the other side is.
            let decided = match op {
                Logic::And => (!x & regs.pdef(a.0)) | (!y & regs.pdef(b.0)),
                Logic::Or => (x & regs.pdef(a.0)) | (y & regs.pdef(b.0)),
                Logic::Xor => 0,
            };
            regs.put_pred(*d, bits, m, defined | decided);
        }
        Op::SelP { d, a, b, p } => {
            let bits = regs.pred(*p);
            let value = (regs.pred(*a) & bits) | (regs.pred(*b) & !bits);
            let defined = choose_defined(bits, regs.pdef(a.0), regs.pdef(b.0)) & regs.pdef(p.0);
            regs.put_pred(*d, value, m, defined);
        }
        Op::Pack32 { d, low, high } => map2!(regs, m, *d, *low, *high, |x, y| (x & 0xffff) | (y << 16)),
        Op::Unpack32 { low, high, a } => {
            let (row, defined) = (*regs.r(*a), regs.rdef(*a));
            regs.put(*low, &row.map(|x| x & 0xffff), m, defined);
            regs.put(*high, &row.map(|x| x >> 16), m, defined);
        }
        Op::Pack64 { d, low, high } => {
            let (x, y) = (regs.r(*low), regs.r(*high));
            let out = std::array::from_fn(|lane| u64::from(x[lane]) | (u64::from(y[lane]) << 32));
            let defined = regs.rdef(*low) & regs.rdef(*high);
            regs.put64(*d, &out, m, defined);
        }
        Op::Unpack64 { low, high, a } => {
            let (row, defined) = (*regs.q(*a), regs.qdef(*a));
            regs.put(*low, &row.map(|x| x as u32), m, defined);
            regs.put(*high, &row.map(|x| (x >> 32) as u32), m, defined);
        }
        Op::Gather(parts) => gather(regs, parts, m),
        Op::Scatter(parts) => scatter(regs, parts, m),
        Op::L1(f, d, a) => map1!(regs, m, *d, *a, |x| f(x)),
        Op::L2(f, d, a, b) => map2!(regs, m, *d, *a, *b, |x, y| f(x, y)),
        Op::L3(f, d, a, b, c) => map3!(regs, m, *d, *a, *b, *c, |x, y, z| f(x, y, z)),
        Op::L4(f, d, [a, b, c, e]) => {
            let rows = [a, b, c, e].map(|r| regs.r(*r));
            let out = std::array::from_fn(|lane| f(rows[0][lane], rows[1][lane], rows[2][lane], rows[3][lane]));
            let defined = [a, b, c, e].iter().fold(FULL, |all, r| all & regs.rdef(**r));
            regs.put(*d, &out, m, defined);
        }
        Op::Q1(f, d, a) => {
            let out = regs.q(*a).map(f);
            let defined = regs.qdef(*a);
            regs.put64(*d, &out, m, defined);
        }
        Op::Q2(f, d, a, b) => quad2!(regs, m, *d, *a, *b, |x, y| f(x, y)),
        Op::Q3(f, d, a, b, c) => quad3!(regs, m, *d, *a, *b, *c, |x, y, z| f(x, y, z)),
        Op::Mixed(f, d, a, b, c, e) => {
            let (x, y, z, w) = (regs.q(*a), regs.q(*b), regs.r(*c), regs.r(*e));
            let out = std::array::from_fn(|lane| f(x[lane], y[lane], z[lane], w[lane]));
            let defined = regs.qdef(*a) & regs.qdef(*b) & regs.rdef(*c) & regs.rdef(*e);
            regs.put64(*d, &out, m, defined);
        }
        Op::Narrow(f, d, a) => {
            let out = regs.q(*a).map(f);
            let defined = regs.qdef(*a);
            regs.put(*d, &out, m, defined);
        }
        Op::Compare32 { f, d, a, b, one, combine } => {
            let bits = test2!(regs.r(*a), regs.r(*b), |x, y| f(x, y));
            let (bits, defined) = combined(regs, bits, regs.rdef(*a) & regs.rdef(*b), *combine);
            regs.put(*d, &std::array::from_fn(|lane| if (bits >> lane) & 1 == 1 { *one } else { 0 }), m, defined);
        }
        Op::Compare64 { f, d, a, b, one, combine } => {
            let bits = test2!(regs.q(*a), regs.q(*b), |x, y| f(x, y));
            let (bits, defined) = combined(regs, bits, regs.qdef(*a) & regs.qdef(*b), *combine);
            regs.put(*d, &std::array::from_fn(|lane| if (bits >> lane) & 1 == 1 { *one } else { 0 }), m, defined);
        }
        Op::CompareHalves { f, d, a, b, one, combine } => {
            let low = test2!(regs.r(*a), regs.r(*b), |x, y| f(x & 0xffff, y & 0xffff));
            let high = test2!(regs.r(*a), regs.r(*b), |x, y| f(x >> 16, y >> 16));
            let sources = regs.rdef(*a) & regs.rdef(*b);
            let (low, defined) = combined(regs, low, sources, *combine);
            let (high, _) = combined(regs, high, sources, *combine);
            let half = |bits: u32, lane: usize| if (bits >> lane) & 1 == 1 { *one } else { 0 };
            regs.put(*d, &std::array::from_fn(|lane| half(low, lane) | (half(high, lane) << 16)), m, defined);
        }
        Op::Lop3P(op) => {
            let rows = op.sources.map(|r| regs.r(r));
            let table = |lane: usize| {
                (0..32).fold(0u32, |out, bit| {
                    let index = rows.iter().fold(0, |index, row| (index << 1) | ((row[lane] >> bit) & 1));
                    out | (u32::from(op.lut >> index & 1) << bit)
                })
            };
            let out: Row = std::array::from_fn(table);
            let set = (0..32).fold(0, |bits, lane| bits | (u32::from(out[lane] != 0) << lane));
            let defined = op.sources.iter().fold(FULL, |all, r| all & regs.rdef(*r));
            let (bits, p_defined) = combined(regs, set, defined, Some((op.op, op.q.0, op.q.1)));
            regs.put(op.d, &out, m, defined);
            regs.put_pred(op.p, bits, m, p_defined);
        }
        Op::MadCarry64(op) => {
            let (a, b) = (regs.q(op.a), regs.q(op.b));
            let product = |lane: usize| {
                let wide = if op.signed {
                    (i128::from(a[lane] as i64) * i128::from(b[lane] as i64)) as u128
                } else {
                    u128::from(a[lane]) * u128::from(b[lane])
                };
                (if op.high { wide >> 64 } else { wide }) as u64
            };
            let x: Row64 = std::array::from_fn(product);
            let y = *regs.q(op.c);
            let (out, flags) = add_carry(regs, op.carry, &x, &y, 64);
            let sources = regs.qdef(op.a) & regs.qdef(op.b) & regs.qdef(op.c);
            let defined = carry_defined(regs, op.carry, sources);
            regs.put64(op.d, &out, m, defined);
            finish_carry(regs, op.carry, flags, m, defined);
        }
        Op::AddCarry32(carry, d, a, b) => {
            let (x, y) = (regs.r(*a).map(u64::from), regs.r(*b).map(u64::from));
            let (out, flags) = add_carry(regs, *carry, &x, &y, 32);
            let defined = carry_defined(regs, *carry, regs.rdef(*a) & regs.rdef(*b));
            regs.put(*d, &out.map(|v| v as u32), m, defined);
            finish_carry(regs, *carry, flags, m, defined);
        }
        Op::AddCarry64(carry, d, a, b) => {
            let (x, y) = (*regs.q(*a), *regs.q(*b));
            let (out, flags) = add_carry(regs, *carry, &x, &y, 64);
            let defined = carry_defined(regs, *carry, regs.qdef(*a) & regs.qdef(*b));
            regs.put64(*d, &out, m, defined);
            finish_carry(regs, *carry, flags, m, defined);
        }
        Op::MadCarry32 { carry, high, signed, d, a, b, c } => {
            let product = mul_wide(regs.r(*a), regs.r(*b), *signed);
            let x = product.map(|p| if *high { p >> 32 } else { p & 0xffff_ffff });
            let y = regs.r(*c).map(u64::from);
            let (out, flags) = add_carry(regs, *carry, &x, &y, 32);
            let sources = regs.rdef(*a) & regs.rdef(*b) & regs.rdef(*c);
            let defined = carry_defined(regs, *carry, sources);
            regs.put(*d, &out.map(|v| v as u32), m, defined);
            finish_carry(regs, *carry, flags, m, defined);
        }
        Op::PredOf { f, d, a } => {
            let row = regs.r(*a);
            let bits = test2!(row, row, |x, _y| f(x));
            let defined = regs.rdef(*a);
            regs.put_pred(*d, bits, m, defined);
        }
        Op::PredOf64 { f, d, a } => {
            let row = regs.q(*a);
            let bits = test2!(row, row, |x, _y| f(x));
            let defined = regs.qdef(*a);
            regs.put_pred(*d, bits, m, defined);
        }
        Op::Convert(convert) => {
            for lane in (0..32).filter(|lane| (m >> lane) & 1 == 1) {
                let value = convert.apply(regs.lane(convert.a, lane) as u64);
                regs.set_lane(convert.d, lane, u128::from(value));
            }
            let defined = regs.defined(convert.a);
            regs.set_defined(convert.d, m, defined);
        }
        Op::ConvertPack(pack) => {
            map2!(regs, m, pack.d, pack.high, pack.low, |x, y| pack.apply(x, y));
        }
        Op::ConvertUnpack(unpack) => map1!(regs, m, unpack.d, unpack.a, |x| unpack.apply(x)),
        _ => return false,
    }
    true
}

/// Sums (or differences) and the lanes that carried (or borrowed).
fn add_carry(regs: &Regs, carry: Carry, x: &Row64, y: &Row64, bits: u32) -> (Row64, u32) {
    let flags = if carry.reads { regs.p[P::CARRY.0 as usize] } else { 0 };
    let mut out = [0; 32];
    let mut carried = 0;
    for lane in 0..32 {
        let (a, b, c) = (u128::from(x[lane]), u128::from(y[lane]), u128::from((flags >> lane) & 1));
        let value = if carry.subtracts { a.wrapping_sub(b).wrapping_sub(c) } else { a + b + c };
        out[lane] = value as u64;
        carried |= (((value >> bits) & 1) as u32) << lane;
    }
    (out, carried)
}

fn carry_defined(regs: &Regs, carry: Carry, sources: u32) -> u32 {
    if carry.reads { sources & regs.pdef(P::CARRY) } else { sources }
}

fn finish_carry(regs: &mut Regs, carry: Carry, flags: u32, m: u32, defined: u32) {
    if carry.writes {
        regs.put_pred(P::CARRY, flags, m, defined);
    }
}

fn gather(regs: &mut Regs, parts: &Parts, m: u32) {
    let part_mask = if parts.part_bits >= 128 { u128::MAX } else { (1u128 << parts.part_bits) - 1 };
    for lane in (0..32).filter(|lane| (m >> lane) & 1 == 1) {
        let value =
            parts.parts.iter().rev().fold(0u128, |all, part| (all << parts.part_bits) | (regs.lane(*part, lane) & part_mask));
        regs.set_lane(parts.whole, lane, value);
    }
    let defined = parts.parts.iter().fold(FULL, |all, part| all & regs.defined(*part));
    regs.set_defined(parts.whole, m, defined);
}

fn scatter(regs: &mut Regs, parts: &Parts, m: u32) {
    let part_mask = (1u128 << parts.part_bits) - 1;
    let defined = regs.defined(parts.whole);
    let values: [u128; 32] = std::array::from_fn(|lane| regs.lane(parts.whole, lane));
    for (index, part) in parts.parts.iter().enumerate() {
        for lane in (0..32).filter(|lane| (m >> lane) & 1 == 1) {
            regs.set_lane(*part, lane, (values[lane] >> (parts.part_bits * index as u32)) & part_mask);
        }
        regs.set_defined(*part, m, defined);
    }
}
