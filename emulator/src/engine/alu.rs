//! The hot loop: register-only instructions and uniform branches, until something needs the rest of the engine.
//!
//! The loop is compiled twice. With AVX2 and FMA a row of 32 lanes is four vector registers and a fused multiply-add
//! is one instruction; without, `mul_add` is a library call.

use super::regs::{FULL, Regs, Row, Row64};
use crate::lane::{approx, float, int};
use crate::program::op::{Bin32, Bin64, Carry, Cmp, Logic, Parts, SetpTail, Shift, Tri32, Un32};
use crate::program::{Inst, Op, P};

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
}

#[derive(Clone, Copy, Debug)]
pub struct Ran {
    pub pc: u32,
    pub alu: u32,
    pub branches: u32,
    pub why: Why,
}

/// Runs from `pc` for the lanes of `mask`, at most `budget` instructions, not past `stop`.
pub fn run(regs: &mut Regs, code: &[Inst], pc: u32, mask: u32, stop: u32, budget: u32) -> Ran {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has AVX2 and FMA.
        return unsafe { run_avx2(regs, code, pc, mask, stop, budget) };
    }
    run_body(regs, code, pc, mask, stop, budget)
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("bmi2")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
fn run_avx2(regs: &mut Regs, code: &[Inst], pc: u32, mask: u32, stop: u32, budget: u32) -> Ran {
    run_body(regs, code, pc, mask, stop, budget)
}

macro_rules! map1 {
    ($regs:ident, $m:ident, $d:expr, $a:expr, |$x:ident| $body:expr) => {{
        let row = $regs.r($a);
        let mut out: Row = [0; 32];
        for lane in 0..32 {
            let $x = row[lane];
            out[lane] = $body;
        }
        let defined = $regs.rdef($a);
        $regs.put($d, &out, $m, defined);
    }};
}

macro_rules! map2 {
    ($regs:ident, $m:ident, $d:expr, $a:expr, $b:expr, |$x:ident, $y:ident| $body:expr) => {{
        let (left, right) = ($regs.r($a), $regs.r($b));
        let mut out: Row = [0; 32];
        for lane in 0..32 {
            let ($x, $y) = (left[lane], right[lane]);
            out[lane] = $body;
        }
        let defined = $regs.rdef($a) & $regs.rdef($b);
        $regs.put($d, &out, $m, defined);
    }};
}

macro_rules! map3 {
    ($regs:ident, $m:ident, $d:expr, $a:expr, $b:expr, $c:expr, |$x:ident, $y:ident, $z:ident| $body:expr) => {{
        let (first, second, third) = ($regs.r($a), $regs.r($b), $regs.r($c));
        let mut out: Row = [0; 32];
        for lane in 0..32 {
            let ($x, $y, $z) = (first[lane], second[lane], third[lane]);
            out[lane] = $body;
        }
        let defined = $regs.rdef($a) & $regs.rdef($b) & $regs.rdef($c);
        $regs.put($d, &out, $m, defined);
    }};
}

macro_rules! quad2 {
    ($regs:ident, $m:ident, $d:expr, $a:expr, $b:expr, |$x:ident, $y:ident| $body:expr) => {{
        let (left, right) = ($regs.q($a), $regs.q($b));
        let mut out: Row64 = [0; 32];
        for lane in 0..32 {
            let ($x, $y) = (left[lane], right[lane]);
            out[lane] = $body;
        }
        let defined = $regs.qdef($a) & $regs.qdef($b);
        $regs.put64($d, &out, $m, defined);
    }};
}

macro_rules! quad3 {
    ($regs:ident, $m:ident, $d:expr, $a:expr, $b:expr, $c:expr, |$x:ident, $y:ident, $z:ident| $body:expr) => {{
        let (first, second, third) = ($regs.q($a), $regs.q($b), $regs.q($c));
        let mut out: Row64 = [0; 32];
        for lane in 0..32 {
            let ($x, $y, $z) = (first[lane], second[lane], third[lane]);
            out[lane] = $body;
        }
        let defined = $regs.qdef($a) & $regs.qdef($b) & $regs.qdef($c);
        $regs.put64($d, &out, $m, defined);
    }};
}

macro_rules! test2 {
    ($left:expr, $right:expr, |$x:ident, $y:ident| $body:expr) => {{
        let (left, right) = ($left, $right);
        let mut bits = [0u32; 32];
        for lane in 0..32 {
            let ($x, $y) = (left[lane], right[lane]);
            bits[lane] = u32::from($body) << lane;
        }
        bits.iter().fold(0, |all, bit| all | bit)
    }};
}

#[inline(always)]
fn run_body(regs: &mut Regs, code: &[Inst], start: u32, mask: u32, stop: u32, budget: u32) -> Ran {
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
        let inst = &code[pc as usize];
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

/// The register-only operations that are worth no loop of their own.
#[inline(never)]
fn rare(regs: &mut Regs, op: &Op, m: u32) -> bool {
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
        Op::Compare32 { f, d, a, b, one } => {
            map2!(regs, m, *d, *a, *b, |x, y| if f(x, y) { *one } else { 0 });
        }
        Op::Compare64 { f, d, a, b, one } => {
            let (x, y) = (regs.q(*a), regs.q(*b));
            let out = std::array::from_fn(|lane| if f(x[lane], y[lane]) { *one } else { 0 });
            let defined = regs.qdef(*a) & regs.qdef(*b);
            regs.put(*d, &out, m, defined);
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
fn choose_defined(bits: u32, a: u32, b: u32) -> u32 {
    (bits & a) | (!bits & b)
}

#[inline(always)]
fn mul_wide(x: &Row, y: &Row, signed: bool) -> Row64 {
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

fn logic(op: Logic, x: u32, y: u32) -> u32 {
    match op {
        Logic::And => x & y,
        Logic::Or => x | y,
        Logic::Xor => x ^ y,
    }
}

#[inline(always)]
fn set_predicates(regs: &mut Regs, tail: &SetpTail, yes: u32, no: u32, m: u32, defined: u32) {
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
