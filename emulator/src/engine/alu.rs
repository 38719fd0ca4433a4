//! The hot loop: register-only instructions and uniform branches, until something needs the rest of the engine. What is
//! worth no loop of its own is in `rare`.
//!
//! The loop is compiled twice. With AVX2 and FMA a row of 32 lanes is four vector registers and a fused multiply-add
//! is one instruction; without, `mul_add` is a library call.

use super::rare::rare;
use super::regs::{FULL, Regs, Row, Row64};
use crate::lane::{approx, float, int};
use crate::program::op::{Bin32, Bin64, Cmp, Logic, SetpTail, Shift, Tri32, Un32};
use crate::program::{Kernel, Op, P};

/// Why the loop returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The instruction at the returned place is not one of ours.
    Engine,
    /// The reconvergence point was reached.
    Join,
    /// The budget is used up.
    Budget,
    /// The guard is undefined in an active lane.
    UndefinedGuard,
    /// The instruction touches registers of an unfinished `wgmma`.
    Held,
}

#[derive(Clone, Copy, Debug)]
pub struct Ran {
    pub pc: u32,
    pub alu: u32,
    pub branches: u32,
    pub why: Why,
}

/// Runs from `pc` for the lanes of `mask`, at most `budget` instructions, not past `stop`.
pub fn run(regs: &mut Regs, kernel: &Kernel, pc: u32, mask: u32, stop: u32, budget: u32) -> Ran {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has AVX2 and FMA.
        return unsafe { run_avx2(regs, kernel, pc, mask, stop, budget) };
    }
    run_body(regs, kernel, pc, mask, stop, budget)
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("bmi2")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
fn run_avx2(regs: &mut Regs, kernel: &Kernel, pc: u32, mask: u32, stop: u32, budget: u32) -> Ran {
    run_body(regs, kernel, pc, mask, stop, budget)
}

#[inline(always)]
fn run_body(regs: &mut Regs, kernel: &Kernel, start: u32, mask: u32, stop: u32, budget: u32) -> Ran {
    let mut pc = start;
    let mut branches = 0;
    let mut left = budget;
    let done = |pc, left: u32, branches, why| Ran { pc, alu: budget - left - branches, branches, why };
    loop {
        if pc == stop {
            return done(pc, left, branches, Why::Join);
        }
        if left == 0 {
            return done(pc, left, branches, Why::Budget);
        }
        let inst = &kernel.code[pc as usize];
        let m = match inst.guard {
            None => mask,
            Some(guard) => {
                if mask & !regs.pdef(guard.reg) != 0 {
                    return done(pc, left, branches, Why::UndefinedGuard);
                }
                mask & regs.pred((guard.reg, guard.negated))
            }
        };
        if let Op::Bra(target) = inst.op {
            if m == mask {
                pc = target;
            } else if m == 0 {
                pc += 1;
            } else {
                return done(pc, left, branches, Why::Engine);
            }
            branches += 1;
            left -= 1;
            continue;
        }
        if inst.watch != 0 && m != 0 && !regs.may_touch(&kernel.watch, inst) {
            return done(pc, left, branches, Why::Held);
        }
        if !one(regs, &inst.op, m) {
            return done(pc, left, branches, Why::Engine);
        }
        left -= 1;
        pc += 1;
    }
}

#[inline(always)]
fn one(regs: &mut Regs, op: &Op, m: u32) -> bool {
    match op {
        Op::Nop => {}
        Op::Mov32(d, a) => {
            let (row, defined) = (*regs.r(*a), regs.rdef(*a));
            regs.put(*d, &row, m, defined);
        }
        Op::Mov64(d, a) => {
            let (row, defined) = (*regs.q(*a), regs.qdef(*a));
            regs.put64(*d, &row, m, defined);
        }
        Op::MovP { d, a, negated } => {
            let (bits, defined) = (regs.pred((*a, *negated)), regs.pdef(*a));
            regs.put_pred(*d, bits, m, defined);
        }
        Op::B32(f, d, a, b) => match f {
            Bin32::Add => map2!(regs, m, *d, *a, *b, |x, y| x.wrapping_add(y)),
            Bin32::Sub => map2!(regs, m, *d, *a, *b, |x, y| x.wrapping_sub(y)),
            Bin32::MulLo => map2!(regs, m, *d, *a, *b, |x, y| x.wrapping_mul(y)),
            Bin32::MinU => map2!(regs, m, *d, *a, *b, |x, y| x.min(y)),
            Bin32::MaxU => map2!(regs, m, *d, *a, *b, |x, y| x.max(y)),
            Bin32::MinS => map2!(regs, m, *d, *a, *b, |x, y| (x as i32).min(y as i32) as u32),
            Bin32::MaxS => map2!(regs, m, *d, *a, *b, |x, y| (x as i32).max(y as i32) as u32),
            Bin32::And => map2!(regs, m, *d, *a, *b, |x, y| x & y),
            Bin32::Or => map2!(regs, m, *d, *a, *b, |x, y| x | y),
            Bin32::Xor => map2!(regs, m, *d, *a, *b, |x, y| x ^ y),
            Bin32::Shl => map2!(regs, m, *d, *a, *b, |x, y| if y > 31 { 0 } else { x << (y & 31) }),
            Bin32::ShrU => map2!(regs, m, *d, *a, *b, |x, y| if y > 31 { 0 } else { x >> (y & 31) }),
            Bin32::ShrS => map2!(regs, m, *d, *a, *b, |x, y| ((x as i32) >> y.min(31)) as u32),
            Bin32::FAdd => map2!(regs, m, *d, *a, *b, |x, y| float::canonical(float::f(x) + float::f(y))),
            Bin32::FSub => map2!(regs, m, *d, *a, *b, |x, y| float::canonical(float::f(x) - float::f(y))),
            Bin32::FMul => map2!(regs, m, *d, *a, *b, |x, y| float::canonical(float::f(x) * float::f(y))),
            Bin32::FDiv => map2!(regs, m, *d, *a, *b, |x, y| float::canonical(float::f(x) / float::f(y))),
            Bin32::FAddFtz => {
                map2!(regs, m, *d, *a, *b, |x, y| flushed(float::flush(float::f(x)) + float::flush(float::f(y))))
            }
            Bin32::FSubFtz => {
                map2!(regs, m, *d, *a, *b, |x, y| flushed(float::flush(float::f(x)) - float::flush(float::f(y))))
            }
            Bin32::FMulFtz => {
                map2!(regs, m, *d, *a, *b, |x, y| flushed(float::flush(float::f(x)) * float::flush(float::f(y))))
            }
            Bin32::FMin => map2!(regs, m, *d, *a, *b, |x, y| min_max(x, y, false)),
            Bin32::FMax => map2!(regs, m, *d, *a, *b, |x, y| min_max(x, y, true)),
            Bin32::PackBf16 => map2!(regs, m, *d, *a, *b, |x, y| (to_bf16(x) << 16) | to_bf16(y)),
            Bin32::PackF16 => map2!(regs, m, *d, *a, *b, |x, y| (to_f16(x) << 16) | to_f16(y)),
        },
        Op::U32(f, d, a) => match f {
            Un32::Not => map1!(regs, m, *d, *a, |x| !x),
            Un32::NegI => map1!(regs, m, *d, *a, |x| x.wrapping_neg()),
            Un32::NegF => map1!(regs, m, *d, *a, |x| x ^ 0x8000_0000),
            Un32::AbsF => map1!(regs, m, *d, *a, |x| x & 0x7fff_ffff),
            Un32::Rcp => map1!(regs, m, *d, *a, |x| float::canonical(1.0 / float::f(x))),
            Un32::Ex2 => map1!(regs, m, *d, *a, |x| float::canonical(approx::exp2(float::f(x)))),
            Un32::Ex2Ftz => map1!(regs, m, *d, *a, |x| flushed(approx::exp2(float::flush(float::f(x))))),
            Un32::OfS32 => map1!(regs, m, *d, *a, |x| (x as i32 as f32).to_bits()),
            Un32::OfU32 => map1!(regs, m, *d, *a, |x| (x as f32).to_bits()),
            Un32::FromBf16 => map1!(regs, m, *d, *a, |x| float::canonical(float::f(x << 16))),
            Un32::FromF16 => map1!(regs, m, *d, *a, |x| float::canonical(half::f16::from_bits(x as u16).to_f32())),
            Un32::ToBf16 => map1!(regs, m, *d, *a, |x| to_bf16(x)),
            Un32::ToF16 => map1!(regs, m, *d, *a, |x| to_f16(x)),
        },
        Op::T32(f, d, a, b, c) => match f {
            Tri32::MadLo => map3!(regs, m, *d, *a, *b, *c, |x, y, z| x.wrapping_mul(y).wrapping_add(z)),
            Tri32::Fma => {
                map3!(regs, m, *d, *a, *b, *c, |x, y, z| float::canonical(float::f(x).mul_add(float::f(y), float::f(z))))
            }
            Tri32::FmaFtz => map3!(regs, m, *d, *a, *b, *c, |x, y, z| flushed(
                float::flush(float::f(x)).mul_add(float::flush(float::f(y)), float::flush(float::f(z)))
            )),
        },
        Op::Lop3 { lut, d, a, b, c } => {
            // One mask for each row of the truth table, so that the lanes need no branches.
            let table: [u32; 8] = std::array::from_fn(|k| if (lut >> k) & 1 == 1 { FULL } else { 0 });
            map3!(regs, m, *d, *a, *b, *c, |x, y, z| {
                (table[0] & !x & !y & !z)
                    | (table[1] & !x & !y & z)
                    | (table[2] & !x & y & !z)
                    | (table[3] & !x & y & z)
                    | (table[4] & x & !y & !z)
                    | (table[5] & x & !y & z)
                    | (table[6] & x & y & !z)
                    | (table[7] & x & y & z)
            });
        }
        Op::B64(f, d, a, b) => match f {
            Bin64::Add => quad2!(regs, m, *d, *a, *b, |x, y| x.wrapping_add(y)),
            Bin64::Sub => quad2!(regs, m, *d, *a, *b, |x, y| x.wrapping_sub(y)),
            Bin64::MulLo => quad2!(regs, m, *d, *a, *b, |x, y| x.wrapping_mul(y)),
            Bin64::And => quad2!(regs, m, *d, *a, *b, |x, y| x & y),
            Bin64::Or => quad2!(regs, m, *d, *a, *b, |x, y| x | y),
            Bin64::Xor => quad2!(regs, m, *d, *a, *b, |x, y| x ^ y),
            Bin64::FAdd => quad2!(regs, m, *d, *a, *b, |x, y| float::canonical64(float::ff(x) + float::ff(y))),
            Bin64::FSub => quad2!(regs, m, *d, *a, *b, |x, y| float::canonical64(float::ff(x) - float::ff(y))),
            Bin64::FMul => quad2!(regs, m, *d, *a, *b, |x, y| float::canonical64(float::ff(x) * float::ff(y))),
        },
        Op::MadLo64(d, a, b, c) => quad3!(regs, m, *d, *a, *b, *c, |x, y, z| x.wrapping_mul(y).wrapping_add(z)),
        Op::Fma64(d, a, b, c) => {
            quad3!(regs, m, *d, *a, *b, *c, |x, y, z| float::canonical64(float::ff(x).mul_add(float::ff(y), float::ff(z))))
        }
        Op::Shift64(shift, d, a, b) => {
            let (row, amount) = (regs.q(*a), regs.r(*b));
            let mut out: Row64 = [0; 32];
            for lane in 0..32 {
                out[lane] = match shift {
                    Shift::Left => int::shl64(row[lane], amount[lane]),
                    Shift::RightU => int::shr_u64(row[lane], amount[lane]),
                    Shift::RightS => int::shr_s64(row[lane], amount[lane]),
                };
            }
            let defined = regs.qdef(*a) & regs.rdef(*b);
            regs.put64(*d, &out, m, defined);
        }
        Op::MulWide { signed, d, a, b } => {
            let (x, y) = (regs.r(*a), regs.r(*b));
            let out = mul_wide(x, y, *signed);
            let defined = regs.rdef(*a) & regs.rdef(*b);
            regs.put64(*d, &out, m, defined);
        }
        Op::MadWide { signed, d, a, b, c } => {
            let mut out = mul_wide(regs.r(*a), regs.r(*b), *signed);
            let addend = regs.q(*c);
            for lane in 0..32 {
                out[lane] = out[lane].wrapping_add(addend[lane]);
            }
            let defined = regs.rdef(*a) & regs.rdef(*b) & regs.qdef(*c);
            regs.put64(*d, &out, m, defined);
        }
        Op::ExtU(d, a) => {
            let out = regs.r(*a).map(u64::from);
            let defined = regs.rdef(*a);
            regs.put64(*d, &out, m, defined);
        }
        Op::ExtS(d, a) => {
            let out = regs.r(*a).map(|x| i64::from(x as i32) as u64);
            let defined = regs.rdef(*a);
            regs.put64(*d, &out, m, defined);
        }
        Op::Trunc(d, a) => {
            let out = regs.q(*a).map(|x| x as u32);
            let defined = regs.qdef(*a);
            regs.put(*d, &out, m, defined);
        }
        Op::Sel32 { d, a, b, p, negated } => {
            let bits = regs.pred((*p, *negated));
            let (x, y) = (regs.r(*a), regs.r(*b));
            let mut out: Row = [0; 32];
            for lane in 0..32 {
                let keep = 0u32.wrapping_sub((bits >> lane) & 1);
                out[lane] = (x[lane] & keep) | (y[lane] & !keep);
            }
            let defined = choose_defined(bits, regs.rdef(*a), regs.rdef(*b)) & regs.pdef(*p);
            regs.put(*d, &out, m, defined);
        }
        Op::Sel64 { d, a, b, p, negated } => {
            let bits = regs.pred((*p, *negated));
            let (x, y) = (regs.q(*a), regs.q(*b));
            let mut out: Row64 = [0; 32];
            for lane in 0..32 {
                out[lane] = if (bits >> lane) & 1 == 1 { x[lane] } else { y[lane] };
            }
            let defined = choose_defined(bits, regs.qdef(*a), regs.qdef(*b)) & regs.pdef(*p);
            regs.put64(*d, &out, m, defined);
        }
        Op::Setp32 { cmp, a, b, tail } => {
            let bits = compare32(*cmp, regs.r(*a), regs.r(*b));
            let defined = regs.rdef(*a) & regs.rdef(*b);
            set_predicates(regs, tail, bits, !bits, m, defined);
        }
        Op::Setp64 { cmp, a, b, tail } => {
            let bits = compare64(*cmp, regs.q(*a), regs.q(*b));
            let defined = regs.qdef(*a) & regs.qdef(*b);
            set_predicates(regs, tail, bits, !bits, m, defined);
        }
        Op::ActiveMask(d) => regs.put(*d, &[m; 32], m, FULL),
        other => return rare(regs, other, m),
    }
    true
}

#[inline(always)]
fn flushed(x: f32) -> u32 {
    float::canonical(float::flush(x))
}

#[inline(always)]
fn min_max(x: u32, y: u32, max: bool) -> u32 {
    // As sign-magnitude integers floats compare like integers, -0 below +0; NaN loses.
    let key = |bits: u32| (bits ^ ((((bits as i32) >> 31) as u32) >> 1)) as i32;
    let is_nan = |bits: u32| (bits & 0x7fff_ffff) > 0x7f80_0000;
    let take_x = (key(x) < key(y)) != max;
    let chosen = if take_x { x } else { y };
    let chosen = if is_nan(x) { y } else { chosen };
    let chosen = if is_nan(y) { x } else { chosen };
    if is_nan(x) & is_nan(y) { float::CANONICAL_NAN } else { chosen }
}

#[inline(always)]
fn to_bf16(x: u32) -> u32 {
    let rounded = x.wrapping_add(0x7fff + ((x >> 16) & 1)) >> 16;
    if (x & 0x7fff_ffff) > 0x7f80_0000 { 0x7fff } else { rounded }
}

#[inline(always)]
fn to_f16(x: u32) -> u32 {
    let is_nan = (x & 0x7fff_ffff) > 0x7f80_0000;
    if is_nan { 0x7fff } else { u32::from(half::f16::from_f32(f32::from_bits(x)).to_bits()) }
}

#[inline(always)]
pub(super) fn choose_defined(bits: u32, a: u32, b: u32) -> u32 {
    (bits & a) | (!bits & b)
}

#[inline(always)]
pub(super) fn mul_wide(x: &Row, y: &Row, signed: bool) -> Row64 {
    let mut out: Row64 = [0; 32];
    if signed {
        for lane in 0..32 {
            out[lane] = (i64::from(x[lane] as i32).wrapping_mul(i64::from(y[lane] as i32))) as u64;
        }
    } else {
        for lane in 0..32 {
            out[lane] = u64::from(x[lane]).wrapping_mul(u64::from(y[lane]));
        }
    }
    out
}

pub(super) fn logic(op: Logic, x: u32, y: u32) -> u32 {
    match op {
        Logic::And => x & y,
        Logic::Or => x | y,
        Logic::Xor => x ^ y,
    }
}

#[inline(always)]
pub(super) fn set_predicates(regs: &mut Regs, tail: &SetpTail, yes: u32, no: u32, m: u32, defined: u32) {
    match tail.combine {
        None => {
            regs.put_pred(tail.d, yes, m, defined);
            if tail.q != P::SINK {
                regs.put_pred(tail.q, no, m, defined);
            }
        }
        Some((op, p, negated)) => {
            let other = regs.pred((p, negated));
            let defined = defined & regs.pdef(p);
            regs.put_pred(tail.d, logic(op, yes, other), m, defined);
            if tail.q != P::SINK {
                regs.put_pred(tail.q, logic(op, no, other), m, defined);
            }
        }
    }
}

#[inline(always)]
fn compare32(cmp: Cmp, x: &Row, y: &Row) -> u32 {
    use float::f;
    match cmp {
        Cmp::Eq => test2!(x, y, |a, b| a == b),
        Cmp::Ne => test2!(x, y, |a, b| a != b),
        Cmp::LtU => test2!(x, y, |a, b| a < b),
        Cmp::LeU => test2!(x, y, |a, b| a <= b),
        Cmp::GtU => test2!(x, y, |a, b| a > b),
        Cmp::GeU => test2!(x, y, |a, b| a >= b),
        Cmp::LtS => test2!(x, y, |a, b| (a as i32) < b as i32),
        Cmp::LeS => test2!(x, y, |a, b| a as i32 <= b as i32),
        Cmp::GtS => test2!(x, y, |a, b| a as i32 > b as i32),
        Cmp::GeS => test2!(x, y, |a, b| a as i32 >= b as i32),
        Cmp::FEq => test2!(x, y, |a, b| f(a) == f(b)),
        Cmp::FNe => test2!(x, y, |a, b| (f(a) < f(b)) | (f(a) > f(b))),
        Cmp::FLt => test2!(x, y, |a, b| f(a) < f(b)),
        Cmp::FLe => test2!(x, y, |a, b| f(a) <= f(b)),
        Cmp::FGt => test2!(x, y, |a, b| f(a) > f(b)),
        Cmp::FGe => test2!(x, y, |a, b| f(a) >= f(b)),
        Cmp::FEqU => !test2!(x, y, |a, b| (f(a) < f(b)) | (f(a) > f(b))),
        Cmp::FNeU => test2!(x, y, |a, b| f(a) != f(b)),
        Cmp::FLtU => !test2!(x, y, |a, b| f(a) >= f(b)),
        Cmp::FLeU => !test2!(x, y, |a, b| f(a) > f(b)),
        Cmp::FGtU => !test2!(x, y, |a, b| f(a) <= f(b)),
        Cmp::FGeU => !test2!(x, y, |a, b| f(a) < f(b)),
        Cmp::FNum => test2!(x, y, |a, b| !f(a).is_nan() & !f(b).is_nan()),
        Cmp::FNan => test2!(x, y, |a, b| f(a).is_nan() | f(b).is_nan()),
    }
}

#[inline(always)]
fn compare64(cmp: Cmp, x: &Row64, y: &Row64) -> u32 {
    match cmp {
        Cmp::Eq => test2!(x, y, |a, b| a == b),
        Cmp::Ne => test2!(x, y, |a, b| a != b),
        Cmp::LtU => test2!(x, y, |a, b| a < b),
        Cmp::LeU => test2!(x, y, |a, b| a <= b),
        Cmp::GtU => test2!(x, y, |a, b| a > b),
        Cmp::GeU => test2!(x, y, |a, b| a >= b),
        Cmp::LtS => test2!(x, y, |a, b| (a as i64) < b as i64),
        Cmp::LeS => test2!(x, y, |a, b| a as i64 <= b as i64),
        Cmp::GtS => test2!(x, y, |a, b| a as i64 > b as i64),
        _ => test2!(x, y, |a, b| a as i64 >= b as i64),
    }
}
