//! setp, set, selp, slct, testp.

use super::decoder::{Decoder, Result};
use super::modifiers::Modifiers;
use super::ring;
use super::ty::Ty;
use crate::lane::float;
use crate::lane::half::{Bf16, F16, Half, compare};
use crate::lane::int::sx16;
use crate::parse::ast::Operand;
use crate::program::Op;
use crate::program::op::{Cmp, Logic, SetpTail};

const COMPARISONS: [&str; 18] =
    ["eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];

/// How to compare two values of a type.
enum Comparison {
    Hot32(Cmp),
    Hot64(Cmp),
    Fn32(fn(u32, u32) -> bool),
    Fn64(fn(u64, u64) -> bool),
    Halves(fn(u32, u32) -> bool),
}

fn float_compare(name: &str) -> Option<Cmp> {
    Some(match name {
        "eq" => Cmp::FEq,
        "ne" => Cmp::FNe,
        "lt" => Cmp::FLt,
        "le" => Cmp::FLe,
        "gt" => Cmp::FGt,
        "ge" => Cmp::FGe,
        "equ" => Cmp::FEqU,
        "neu" => Cmp::FNeU,
        "ltu" => Cmp::FLtU,
        "leu" => Cmp::FLeU,
        "gtu" => Cmp::FGtU,
        "geu" => Cmp::FGeU,
        "num" => Cmp::FNum,
        "nan" => Cmp::FNan,
        _ => return None,
    })
}

fn int_compare(name: &str, signed: bool) -> Option<Cmp> {
    Some(match (name, signed) {
        ("eq", _) => Cmp::Eq,
        ("ne", _) => Cmp::Ne,
        ("lt", true) => Cmp::LtS,
        ("le", true) => Cmp::LeS,
        ("gt", true) => Cmp::GtS,
        ("ge", true) => Cmp::GeS,
        ("lt" | "lo", false) => Cmp::LtU,
        ("le" | "ls", false) => Cmp::LeU,
        ("gt" | "hi", false) => Cmp::GtU,
        ("ge" | "hs", false) => Cmp::GeU,
        _ => return None,
    })
}

fn s16_compare(name: &str) -> Option<fn(u32, u32) -> bool> {
    Some(match name {
        "lt" => |a, b| sx16(a) < sx16(b),
        "le" => |a, b| sx16(a) <= sx16(b),
        "gt" => |a, b| sx16(a) > sx16(b),
        "ge" => |a, b| sx16(a) >= sx16(b),
        _ => return None,
    })
}

fn f32_compare<const FTZ: bool>(name: &str) -> Option<fn(u32, u32) -> bool> {
    macro_rules! flushed {
        ($op:expr) => {{
            let f: fn(u32, u32) -> bool = |a, b| {
                let test: fn(f32, f32) -> bool = $op;
                if FTZ { test(float::flush(float::f(a)), float::flush(float::f(b))) } else { test(float::f(a), float::f(b)) }
            };
            f
        }};
    }
    Some(match name {
        "eq" => flushed!(|a, b| a == b),
        "ne" => flushed!(|a, b| a.partial_cmp(&b).is_some_and(|order| order.is_ne())),
        "lt" => flushed!(|a, b| a < b),
        "le" => flushed!(|a, b| a <= b),
        "gt" => flushed!(|a, b| a > b),
        "ge" => flushed!(|a, b| a >= b),
        "equ" => flushed!(|a, b| a == b || a.is_nan() || b.is_nan()),
        "neu" => flushed!(|a, b| a != b),
        "ltu" => flushed!(|a, b| a < b || a.is_nan() || b.is_nan()),
        "leu" => flushed!(|a, b| a <= b || a.is_nan() || b.is_nan()),
        "gtu" => flushed!(|a, b| a > b || a.is_nan() || b.is_nan()),
        "geu" => flushed!(|a, b| a >= b || a.is_nan() || b.is_nan()),
        "num" => flushed!(|a, b| !a.is_nan() && !b.is_nan()),
        "nan" => flushed!(|a, b| a.is_nan() || b.is_nan()),
        _ => return None,
    })
}

fn f64_compare(name: &str) -> Option<fn(u64, u64) -> bool> {
    macro_rules! double {
        ($op:expr) => {{
            let f: fn(u64, u64) -> bool = |a, b| {
                let test: fn(f64, f64) -> bool = $op;
                test(f64::from_bits(a), f64::from_bits(b))
            };
            f
        }};
    }
    Some(match name {
        "eq" => double!(|a, b| a == b),
        "ne" => double!(|a, b| a.partial_cmp(&b).is_some_and(|order| order.is_ne())),
        "lt" => double!(|a, b| a < b),
        "le" => double!(|a, b| a <= b),
        "gt" => double!(|a, b| a > b),
        "ge" => double!(|a, b| a >= b),
        "equ" => double!(|a, b| a == b || a.is_nan() || b.is_nan()),
        "neu" => double!(|a, b| a != b),
        "ltu" => double!(|a, b| a < b || a.is_nan() || b.is_nan()),
        "leu" => double!(|a, b| a <= b || a.is_nan() || b.is_nan()),
        "gtu" => double!(|a, b| a > b || a.is_nan() || b.is_nan()),
        "geu" => double!(|a, b| a >= b || a.is_nan() || b.is_nan()),
        "num" => double!(|a, b| !a.is_nan() && !b.is_nan()),
        "nan" => double!(|a, b| a.is_nan() || b.is_nan()),
        _ => return None,
    })
}

fn half_compare<H: Half>(name: &str) -> Option<fn(u32, u32) -> bool> {
    macro_rules! half {
        ($name:literal) => {{
            let f: fn(u32, u32) -> bool = |a, b| float::compare($name).is_some_and(|test| compare::<H>(test, a as u16, b as u16));
            f
        }};
    }
    Some(match name {
        "eq" => half!("eq"),
        "ne" => half!("ne"),
        "lt" => half!("lt"),
        "le" => half!("le"),
        "gt" => half!("gt"),
        "ge" => half!("ge"),
        "equ" => half!("equ"),
        "neu" => half!("neu"),
        "ltu" => half!("ltu"),
        "leu" => half!("leu"),
        "gtu" => half!("gtu"),
        "geu" => half!("geu"),
        "num" => half!("num"),
        "nan" => half!("nan"),
        _ => return None,
    })
}

fn ring_comparison(name: &str, ty: Ty) -> Option<Comparison> {
    Some(match ty {
        Ty::F32 => match ring::comparison(name) {
            Some(cmp) => Comparison::Hot32(cmp),
            None => Comparison::Fn32(ring::half_comparison(name)?),
        },
        Ty::F64 => match (ring::comparison(name), name) {
            (Some(cmp), _) => Comparison::Hot64(cmp),
            (None, "num") => Comparison::Fn64(|_, _| true),
            (None, "nan") => Comparison::Fn64(|_, _| false),
            _ => return None,
        },
        Ty::F16 | Ty::Bf16 => Comparison::Fn32(ring::half_comparison(name)?),
        Ty::F16x2 | Ty::Bf16x2 => Comparison::Halves(ring::half_comparison(name)?),
        _ => return None,
    })
}

fn comparison(name: &str, ty: Ty, ftz: bool) -> Option<Comparison> {
    Some(match ty {
        Ty::F32 if ftz => Comparison::Fn32(f32_compare::<true>(name)?),
        Ty::F32 => Comparison::Hot32(float_compare(name)?),
        Ty::F64 => Comparison::Fn64(f64_compare(name)?),
        Ty::F16 => Comparison::Fn32(half_compare::<F16>(name)?),
        Ty::Bf16 => Comparison::Fn32(half_compare::<Bf16>(name)?),
        Ty::F16x2 => Comparison::Halves(half_compare::<F16>(name)?),
        Ty::Bf16x2 => Comparison::Halves(half_compare::<Bf16>(name)?),
        Ty::S(16) if !matches!(name, "eq" | "ne") => Comparison::Fn32(s16_compare(name)?),
        Ty::B(16 | 32 | 64) if !matches!(name, "eq" | "ne") => return None,
        _ if !ty.is_int() => return None,
        _ if ty.bits() == 64 => Comparison::Hot64(int_compare(name, ty.signed())?),
        _ if matches!(ty.bits(), 16 | 32) => Comparison::Hot32(int_compare(name, ty.signed())?),
        _ => return None,
    })
}

/// The comparison of integers as a function; `$signed` is the signed type of the width.
macro_rules! integer_test {
    ($cmp:expr, $signed:ty) => {
        match $cmp {
            Cmp::Eq => |a, b| a == b,
            Cmp::Ne => |a, b| a != b,
            Cmp::LtU => |a, b| a < b,
            Cmp::LeU => |a, b| a <= b,
            Cmp::GtU => |a, b| a > b,
            Cmp::GeU => |a, b| a >= b,
            Cmp::LtS => |a, b| (a as $signed) < b as $signed,
            Cmp::LeS => |a, b| a as $signed <= b as $signed,
            Cmp::GtS => |a, b| a as $signed > b as $signed,
            _ => |a, b| a as $signed >= b as $signed,
        }
    };
}

impl Decoder<'_> {
    pub(super) fn compare(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        match root {
            "setp" => self.setp(m, ops),
            "set" => self.set(m, ops),
            "selp" => self.selp(m, ops),
            "slct" => self.slct(m, ops),
            _ => self.testp(m, ops),
        }
    }

    fn setp(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let Some(name) = COMPARISONS.iter().find(|name| m.take(name)) else {
            return self.unknown();
        };
        let combine = m.choose(&[("and", Logic::And), ("or", Logic::Or), ("xor", Logic::Xor)]);
        let ftz = m.take("ftz");
        let ty = self.ty(m)?;
        self.expect_operands(ops, if combine.is_some() { 4 } else { 3 })?;
        let (d, q) = self.pair(&ops[0]);
        let (d, q) = (self.dst_pred(d)?, self.dst_pred(q)?);
        let combine = match combine {
            Some(logic) => {
                let (p, negated) = self.src_pred(&ops[3])?;
                Some((logic, p, negated))
            }
            None => None,
        };
        let tail = SetpTail { d, q, combine };
        let comparison = if self.ring && ring::is_float(ty) { ring_comparison(name, ty) } else { comparison(name, ty, ftz) };
        let Some(comparison) = comparison else { return self.unknown() };
        Ok(match comparison {
            Comparison::Hot32(cmp) => Op::Setp32 { cmp, a: self.src32(&ops[1], ty)?, b: self.src32(&ops[2], ty)?, tail },
            Comparison::Fn32(f) => Op::SetpFn32 { f, a: self.src32(&ops[1], ty)?, b: self.src32(&ops[2], ty)?, tail },
            Comparison::Halves(f) => Op::SetpHalves { f, a: self.src32(&ops[1], ty)?, b: self.src32(&ops[2], ty)?, tail },
            Comparison::Hot64(cmp) => Op::Setp64 { cmp, a: self.src64(&ops[1])?, b: self.src64(&ops[2])?, tail },
            Comparison::Fn64(f) => Op::SetpFn64 { f, a: self.src64(&ops[1])?, b: self.src64(&ops[2])?, tail },
        })
    }

    /// `set.cmp.dtype.stype`: all ones or 1.0 when true.
    fn set(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let Some(name) = COMPARISONS.iter().find(|name| m.take(name)) else {
            return self.unknown();
        };
        let combine = m.choose(&[("and", Logic::And), ("or", Logic::Or), ("xor", Logic::Xor)]);
        let ftz = m.take("ftz");
        let (dtype, stype) = (self.ty(m)?, self.ty(m)?);
        self.expect_operands(ops, if combine.is_some() { 4 } else { 3 })?;
        let combine = match combine {
            Some(logic) => {
                let (p, negated) = self.src_pred(&ops[3])?;
                Some((logic, p, negated))
            }
            None => None,
        };
        if matches!(dtype, Ty::F16x2 | Ty::Bf16x2) != matches!(stype, Ty::F16x2 | Ty::Bf16x2) {
            return self.unknown();
        }
        let one = match dtype {
            Ty::F32 | Ty::F16 | Ty::Bf16 | Ty::F16x2 | Ty::Bf16x2 if self.ring => 1,
            Ty::U(32) | Ty::S(32) => u32::MAX,
            Ty::F32 => 1f32.to_bits(),
            Ty::U(16) | Ty::S(16) => 0xffff,
            Ty::F16 | Ty::F16x2 => 0x3c00,
            Ty::Bf16 | Ty::Bf16x2 => 0x3f80,
            _ => return self.unknown(),
        };
        let d = self.dst32(&ops[0])?;
        let comparison = match stype {
            _ if self.ring && ring::is_float(stype) => ring_comparison(name, stype),
            Ty::F32 if !ftz => f32_compare::<false>(name).map(Comparison::Fn32),
            _ => comparison(name, stype, ftz),
        };
        match comparison {
            Some(Comparison::Fn32(f)) => {
                let (a, b) = (self.src32(&ops[1], stype)?, self.src32(&ops[2], stype)?);
                Ok(Op::Compare32 { f, d, a, b, one, combine })
            }
            Some(Comparison::Hot32(cmp)) => {
                let (a, b) = (self.src32(&ops[1], stype)?, self.src32(&ops[2], stype)?);
                Ok(Op::Compare32 { f: integer_test!(cmp, i32), d, a, b, one, combine })
            }
            Some(Comparison::Fn64(f)) => {
                Ok(Op::Compare64 { f, d, a: self.src64(&ops[1])?, b: self.src64(&ops[2])?, one, combine })
            }
            Some(Comparison::Hot64(cmp)) => Ok(Op::Compare64 {
                f: integer_test!(cmp, i64),
                d,
                a: self.src64(&ops[1])?,
                b: self.src64(&ops[2])?,
                one,
                combine,
            }),
            Some(Comparison::Halves(f)) => {
                let (a, b) = (self.src32(&ops[1], stype)?, self.src32(&ops[2], stype)?);
                Ok(Op::CompareHalves { f, d, a, b, one, combine })
            }
            None => self.unknown(),
        }
    }

    fn selp(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let ty = self.ty(m)?;
        self.expect_operands(ops, 4)?;
        let (p, negated) = self.src_pred(&ops[3])?;
        match ty {
            Ty::Pred => {
                let (a, b) = (self.src_pred(&ops[1])?, self.src_pred(&ops[2])?);
                Ok(Op::SelP { d: self.dst_pred(&ops[0])?, a, b, p: (p, negated) })
            }
            _ if ty.bits() == 64 => {
                Ok(Op::Sel64 { d: self.dst64(&ops[0])?, a: self.src64(&ops[1])?, b: self.src64(&ops[2])?, p, negated })
            }
            _ if ty.bits() <= 32 => {
                let (a, b) = (self.src32(&ops[1], ty)?, self.src32(&ops[2], ty)?);
                Ok(Op::Sel32 { d: self.dst32(&ops[0])?, a, b, p, negated })
            }
            _ => self.unknown(),
        }
    }

    /// `slct.dtype.{s32,f32} d, a, b, c`: a when c >= 0.
    fn slct(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let ftz = m.take("ftz");
        let (dtype, ctype) = (self.ty(m)?, self.ty(m)?);
        self.expect_operands(ops, 4)?;
        let c = self.src32(&ops[3], ctype)?;
        let float_test = match ctype {
            Ty::S(32) => false,
            // A payload's sign is that of the integer.
            Ty::F32 if self.ring => false,
            Ty::F32 => true,
            _ => return self.unknown(),
        };
        if ftz && ctype != Ty::F32 {
            return self.unknown();
        }
        if dtype.bits() == 64 {
            let f: fn(u64, u64, u32, u32) -> u64 = if float_test {
                |a, b, c, _| if f32::from_bits(c) >= 0.0 { a } else { b }
            } else {
                |a, b, c, _| if c as i32 >= 0 { a } else { b }
            };
            return Ok(Op::Mixed(f, self.dst64(&ops[0])?, self.src64(&ops[1])?, self.src64(&ops[2])?, c, c));
        }
        let f: fn(u32, u32, u32) -> u32 = match (float_test, ftz) {
            (true, false) => |a, b, c| if f32::from_bits(c) >= 0.0 { a } else { b },
            (true, true) => |a, b, c| if float::flush(f32::from_bits(c)) >= 0.0 { a } else { b },
            (false, _) => |a, b, c| if c as i32 >= 0 { a } else { b },
        };
        let (a, b) = (self.src32(&ops[1], dtype)?, self.src32(&ops[2], dtype)?);
        Ok(Op::L3(f, self.dst32(&ops[0])?, a, b, c))
    }

    fn testp(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let names = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
        let Some(name) = names.into_iter().find(|name| m.take(name)) else { return self.unknown() };
        let ty = self.ty(m)?;
        self.expect_operands(ops, 2)?;
        let d = self.dst_pred(&ops[0])?;
        match ty {
            // Every payload is a finite number.
            Ty::F32 if self.ring => {
                let f: fn(u32) -> bool = match name {
                    "finite" | "number" => |_| true,
                    "normal" => |a| a != 0,
                    _ => |_| false,
                };
                Ok(Op::PredOf { f, d, a: self.src32(&ops[1], ty)? })
            }
            Ty::F64 if self.ring => {
                let f: fn(u64) -> bool = match name {
                    "finite" | "number" => |_| true,
                    "normal" => |a| a != 0,
                    _ => |_| false,
                };
                Ok(Op::PredOf64 { f, d, a: self.src64(&ops[1])? })
            }
            Ty::F32 => {
                let f: fn(u32) -> bool = match name {
                    "finite" => |a| f32::from_bits(a).is_finite(),
                    "infinite" => |a| f32::from_bits(a).is_infinite(),
                    "number" => |a| !f32::from_bits(a).is_nan(),
                    "notanumber" => |a| f32::from_bits(a).is_nan(),
                    "normal" => |a| f32::from_bits(a).is_normal(),
                    _ => |a| f32::from_bits(a).is_subnormal(),
                };
                Ok(Op::PredOf { f, d, a: self.src32(&ops[1], ty)? })
            }
            Ty::F64 => {
                let f: fn(u64) -> bool = match name {
                    "finite" => |a| f64::from_bits(a).is_finite(),
                    "infinite" => |a| f64::from_bits(a).is_infinite(),
                    "number" => |a| !f64::from_bits(a).is_nan(),
                    "notanumber" => |a| f64::from_bits(a).is_nan(),
                    "normal" => |a| f64::from_bits(a).is_normal(),
                    _ => |a| f64::from_bits(a).is_subnormal(),
                };
                Ok(Op::PredOf64 { f, d, a: self.src64(&ops[1])? })
            }
            _ => self.unknown(),
        }
    }
}
