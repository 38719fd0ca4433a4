//! The sums of tensor cores against the model's formula, written out in exact arithmetic on the codes.
//!
//! The oracle shares nothing with the code under test: it decodes codes by the printed field widths, keeps fractions as
//! integers over a power of two in 512 bits, and cuts off by division.

use super::Random;
use crate::tensor::descriptor::{Descriptor, Major, SharedOperand};
use crate::tensor::element::{AccumulatorType, ElementType};
use crate::tensor::fragment::*;
use crate::tensor::mma::{MmaKind, mma};
use crate::tensor::panel::Panel;
use crate::tensor::wgmma::{Accumulators, Scale, WgmmaKind, wgmma};
use crate::tensor::{Arithmetic, Chip, WarpReg};
use std::cmp::Ordering;

/// A nonnegative integer of 1024 bits, low word first.
#[derive(Clone, PartialEq, Eq)]
struct Wide([u64; 16]);

impl Wide {
    fn shifted(value: u64, shift: usize) -> Wide {
        let mut words = [0; 16];
        let (word, bit) = (shift / 64, shift % 64);
        words[word] = value << bit;
        if bit > 0 && word + 1 < 16 {
            words[word + 1] = value >> (64 - bit);
        }
        Wide(words)
    }

    fn add(&self, other: &Wide) -> Wide {
        let mut carry = 0;
        Wide(std::array::from_fn(|i| {
            let sum = u128::from(self.0[i]) + u128::from(other.0[i]) + carry;
            carry = sum >> 64;
            sum as u64
        }))
    }

    /// For `self >= other`.
    fn sub(&self, other: &Wide) -> Wide {
        let mut borrow = false;
        Wide(std::array::from_fn(|i| {
            let (x, under) = self.0[i].overflowing_sub(other.0[i]);
            let (x, under_again) = x.overflowing_sub(borrow.into());
            borrow = under || under_again;
            x
        }))
    }

    fn cmp(&self, other: &Wide) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }

    fn bit(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn without_bits_below(&self, at: usize) -> Wide {
        let mut wide = self.clone();
        for bit in 0..at.min(1024) {
            wide.0[bit / 64] &= !(1 << (bit % 64));
        }
        wide
    }

    fn top_bit(&self) -> Option<usize> {
        (0..1024).rev().find(|at| self.bit(*at))
    }
}

/// The weight of bit 0 of a [`Wide`].
const ORIGIN: i32 = -450;

/// A finite operand: sign, significand, the weight of its last bit, and the exponent the tensor core gives it.
#[derive(Clone, Copy, Debug)]
struct Part {
    negative: bool,
    significand: u64,
    last: i32,
    exponent: i32,
}

#[derive(Clone, Copy, Debug)]
enum Number {
    Finite(Part),
    Infinite(bool),
    Nan,
}

fn decode(code: u32, exponent_bits: u32, mantissa_bits: u32, has_infinity: bool) -> Number {
    let bias = (1 << (exponent_bits - 1)) - 1;
    let negative = code >> (exponent_bits + mantissa_bits) & 1 == 1;
    let field = code >> mantissa_bits & ((1 << exponent_bits) - 1);
    let mantissa = u64::from(code & ((1 << mantissa_bits) - 1));
    let all_ones = field == (1 << exponent_bits) - 1;
    if all_ones && has_infinity {
        return if mantissa == 0 { Number::Infinite(negative) } else { Number::Nan };
    }
    if all_ones && mantissa == (1 << mantissa_bits) - 1 {
        return Number::Nan;
    }
    let exponent = field.max(1) as i32 - bias;
    let significand = mantissa | if field > 0 { 1 << mantissa_bits } else { 0 };
    let exponent_of_it = if significand == 0 { -126 } else { exponent };
    Number::Finite(Part { negative, significand, last: exponent - mantissa_bits as i32, exponent: exponent_of_it })
}

fn operand(ty: ElementType, code: u32) -> Number {
    match ty {
        ElementType::F16 => decode(code & 0xffff, 5, 10, true),
        ElementType::Bf16 => decode(code & 0xffff, 8, 7, true),
        ElementType::Tf32 => decode(code >> 13, 8, 10, true),
        ElementType::E5m2 => decode(code & 0xff, 5, 2, true),
        ElementType::E4m3 => decode(code & 0xff, 4, 3, false),
        _ => unreachable!(),
    }
}

/// How an oracle's tensor core adds.
#[derive(Clone, Copy, Debug)]
struct Model {
    fraction_bits: i32,
    step: usize,
    /// 8-bit floats are widened to f16 first.
    widen: bool,
    out_bits: i32,
    out_f16: bool,
}

fn dot(model: &Model, a: &[Number], b: &[Number], c: u32) -> u32 {
    let mut c = c;
    for (a, b) in a.chunks(model.step).zip(b.chunks(model.step)) {
        c = one_step(model, a, b, c);
    }
    c
}

fn one_step(model: &Model, a: &[Number], b: &[Number], c: u32) -> u32 {
    let c = if model.out_f16 { decode(c, 5, 10, true) } else { decode(c, 8, 23, true) };
    let (mut nan, mut infinite) = (false, [false; 2]);
    let mut terms = Vec::new();
    match c {
        Number::Finite(part) => terms.push(part),
        Number::Infinite(negative) => infinite[usize::from(negative)] = true,
        Number::Nan => nan = true,
    }
    for (a, b) in a.iter().zip(b) {
        match (a, b) {
            (Number::Nan, _) | (_, Number::Nan) => nan = true,
            (Number::Finite(a), Number::Finite(b)) => terms.push(Part {
                negative: a.negative != b.negative,
                significand: a.significand * b.significand,
                last: a.last + b.last,
                exponent: a.exponent + b.exponent,
            }),
            (Number::Infinite(sign), Number::Finite(other)) | (Number::Finite(other), Number::Infinite(sign)) => {
                nan |= other.significand == 0;
                infinite[usize::from(*sign != other.negative)] = true;
            }
            (Number::Infinite(x), Number::Infinite(y)) => infinite[usize::from(x != y)] = true,
        }
    }
    let (sign_bit, infinity, canonical) =
        if model.out_f16 { (1 << 15, 0x7c00, 0x7fff) } else { (1u32 << 31, 0x7f80_0000, 0x7fff_ffff) };
    match (nan, infinite) {
        (true, _) | (_, [true, true]) => return canonical,
        (_, [true, false]) => return infinity,
        (_, [false, true]) => return infinity | sign_bit,
        _ => {}
    }
    let top = terms.iter().map(|part| part.exponent).max().unwrap();
    let cut = (top - model.fraction_bits - ORIGIN) as usize;
    let mut sums = [Wide([0; 16]), Wide([0; 16])];
    for part in &terms {
        let aligned = Wide::shifted(part.significand, (part.last - ORIGIN) as usize).without_bits_below(cut);
        let sum = &mut sums[usize::from(part.negative)];
        *sum = sum.add(&aligned);
    }
    let [plus, minus] = &sums;
    let negative = plus.cmp(minus) == Ordering::Less;
    let magnitude = if negative { minus.sub(plus) } else { plus.sub(minus) };
    let Some(leading) = magnitude.top_bit() else { return 0 };
    let leading = leading as i32 + ORIGIN;
    let (least, most, mantissa_bits) = if model.out_f16 { (-14, 15, 10) } else { (-126, 127, 23) };
    let kept_bits = if model.out_f16 { 10 } else { model.out_bits };
    let last = leading.max(least) - kept_bits;
    let at = (last - ORIGIN) as usize;
    let mut kept = magnitude.without_bits_below(at);
    if model.out_f16 {
        let rest = magnitude.sub(&kept);
        let half = Wide::shifted(1, at - 1);
        let odd = magnitude.bit(at);
        if rest.cmp(&half) == Ordering::Greater || rest == half && odd {
            kept = kept.add(&Wide::shifted(1, at));
        }
    }
    let sign = if negative { sign_bit } else { 0 };
    let Some(leading) = kept.top_bit() else { return 0 };
    let leading = leading as i32 + ORIGIN;
    if leading > most {
        return infinity | sign;
    }
    // Count in units of the last mantissa bit there is.
    let unit = leading.max(least) - mantissa_bits;
    let mut mantissa = 0u32;
    for bit in 0..=mantissa_bits {
        let at = unit + bit - ORIGIN;
        mantissa |= u32::from(at >= 0 && kept.bit(at as usize)) << bit;
    }
    let field = if leading < least { 0 } else { (leading - least + 1) as u32 };
    sign | field << mantissa_bits | mantissa & ((1 << mantissa_bits) - 1)
}

/// Codes of a type, from a family of nasty ones.
fn code(random: &mut Random, ty: ElementType, family: u32) -> u32 {
    let word = random.next();
    let (exponent_bits, mantissa_bits) = match ty {
        ElementType::F16 => (5, 10),
        ElementType::Bf16 => (8, 7),
        ElementType::Tf32 => (8, 10),
        ElementType::E5m2 => (5, 2),
        ElementType::E4m3 => (4, 3),
        _ => unreachable!(),
    };
    let bits = 1 + exponent_bits + mantissa_bits;
    let bias = (1u32 << (exponent_bits - 1)) - 1;
    let build = |field: u32| {
        let field = field.min((1 << exponent_bits) - 2);
        (word & 1) << (bits - 1) | field << mantissa_bits | (word >> 1) & ((1 << mantissa_bits) - 1)
    };
    let code = match family {
        // Alike in size: carries and cancellation.
        0 => build(bias + (word >> 16) % 3),
        1 => build(bias - 2 + (word >> 16) % 5),
        // Any finite number.
        2 => build((word >> 16) % ((1 << exponent_bits) - 1)),
        // Subnormals among small ones.
        3 => build((word >> 16) % 3),
        // Zeros of both signs among others.
        4 => {
            if word >> 16 & 1 == 1 {
                (word & 1) << (bits - 1)
            } else {
                build(bias + (word >> 17) % 4)
            }
        }
        // Largest numbers.
        5 => build((1 << exponent_bits) - 2 - (word >> 16) % 2),
        // Full significands, where sums are largest.
        6 => (word & 1) << (bits - 1) | bias << mantissa_bits | ((1 << mantissa_bits) - 1),
        // All of the largest sum with one sign.
        7 => bias << mantissa_bits | ((1 << mantissa_bits) - 1),
        // Any bits: infinities and NaN too.
        _ => word >> 3 & ((1u64 << bits) - 1) as u32,
    };
    if ty == ElementType::Tf32 { code << 13 | word >> 19 } else { code }
}

fn accumulator(random: &mut Random, f16: bool, family: u32) -> u32 {
    let word = random.next();
    let (exponent_bits, mantissa_bits) = if f16 { (5, 10) } else { (8, 23) };
    let bias = (1u32 << (exponent_bits - 1)) - 1;
    let build = |field: u32| {
        let sign = word & 1;
        sign << (exponent_bits + mantissa_bits) | field << mantissa_bits | random_mantissa(word) & ((1 << mantissa_bits) - 1)
    };
    match family {
        0 | 6 | 7 => build(bias + (word >> 24) % 4),
        1 => build(bias + 4 - (word >> 24) % 12),
        2 => build((word >> 24) % ((1 << exponent_bits) - 1)),
        3 => build((word >> 24) % 3),
        4 => (word & 1) << (exponent_bits + mantissa_bits),
        5 => build((1 << exponent_bits) - 2 - (word >> 24) % 2),
        _ => word & if f16 { 0xffff } else { u32::MAX },
    }
}

fn random_mantissa(word: u32) -> u32 {
    word.wrapping_mul(0x9e37_79b9) ^ word >> 5
}

const FAMILIES: u32 = 9;

const CHIPS: [Chip; 6] = [Chip::Turing, Chip::Ampere, Chip::Ada, Chip::Hopper, Chip::Blackwell, Chip::BlackwellRtx];

/// The table of `exact`, once more.
fn mma_model(chip: Chip, kind: &MmaKind) -> Model {
    let out_f16 = kind.d == AccumulatorType::F16;
    let fp8 = matches!(kind.a, ElementType::E4m3 | ElementType::E5m2);
    let k = kind.k as usize;
    let plain = Model { fraction_bits: 25, step: k, widen: false, out_bits: 23, out_f16 };
    match (chip, fp8) {
        (Chip::Ada, true) => Model { fraction_bits: 13, step: 16, out_bits: 13, ..plain },
        (Chip::Hopper | Chip::Blackwell, true) => Model { step: 16, widen: true, ..plain },
        (Chip::Turing | Chip::Ampere, true) => Model { fraction_bits: 24, step: k / (k / 16), widen: true, ..plain },
        (Chip::Turing | Chip::Ampere | Chip::Ada, false) => {
            let halves = matches!((kind.a, k), (ElementType::Tf32, 8) | (ElementType::F16 | ElementType::Bf16, 16));
            Model { fraction_bits: 24, step: if halves { k / 2 } else { k }, ..plain }
        }
        _ => plain,
    }
}

/// An operand as the tensor core sees it.
fn seen(model: &Model, ty: ElementType, code: u32) -> Number {
    let number = operand(ty, code);
    match number {
        Number::Finite(part) if model.widen && part.significand != 0 => {
            // As f16 the exponent is that of the leading bit, down to -14.
            let leading = part.last + 63 - part.significand.leading_zeros() as i32;
            Number::Finite(Part { exponent: leading.max(-14), ..part })
        }
        _ => number,
    }
}

#[test]
fn exact_mma_is_the_model_bit_for_bit() {
    let kinds = [
        "m16n8k8.row.col.f32.f16.f16.f32",
        "m16n8k16.row.col.f32.f16.f16.f32",
        "m16n8k16.row.col.f16.f16.f16.f16",
        "m16n8k8.row.col.f32.bf16.bf16.f32",
        "m16n8k16.row.col.f32.bf16.bf16.f32",
        "m16n8k4.row.col.f32.tf32.tf32.f32",
        "m16n8k8.row.col.f32.tf32.tf32.f32",
        "m16n8k16.row.col.f32.e5m2.e4m3.f32",
        "m16n8k32.row.col.f32.e4m3.e4m3.f32",
        "m16n8k32.row.col.f32.e4m3.e5m2.f32",
        "m16n8k32.row.col.f16.e5m2.e4m3.f16",
    ];
    let mut random = Random(11);
    for text in kinds {
        let modifiers: Vec<&str> = ["sync", "aligned"].into_iter().chain(text.split('.')).collect();
        let kind = MmaKind::parse(&modifiers).unwrap();
        for round in 0..4 * FAMILIES {
            let (family_a, family_c) = (round % FAMILIES, if round < FAMILIES { round } else { random.next() % FAMILIES });
            let family_b = if round < 2 * FAMILIES { family_a } else { random.next() % FAMILIES };
            let (m, k) = (kind.m as usize, kind.k as usize);
            let codes_a: Vec<u32> = (0..m * k).map(|_| code(&mut random, kind.a, family_a)).collect();
            let codes_b: Vec<u32> = (0..8 * k).map(|_| code(&mut random, kind.b, family_b)).collect();
            let half = kind.d == AccumulatorType::F16;
            let codes_c: Vec<u32> = (0..m * 8).map(|_| accumulator(&mut random, half, family_c)).collect();
            let (bits_a, bits_b) = (kind.a.bits(), kind.b.bits());
            let (mut a, mut b) = (vec![[0; 32]; kind.a_regs()], vec![[0; 32]; kind.b_regs()]);
            let (mut c, mut d) = (vec![[0; 32]; kind.c_regs()], vec![[0; 32]; kind.d_regs()]);
            for lane in 0..32u32 {
                for (reg, word) in a.iter_mut().enumerate() {
                    for j in 0..elements_per_register(bits_a) {
                        let [row, step] = a_element(bits_a, lane, reg as u32, j);
                        word[lane as usize] |= codes_a[row as usize * k + step as usize] << (bits_a % 32 * j);
                    }
                }
                for (reg, word) in b.iter_mut().enumerate() {
                    for j in 0..elements_per_register(bits_b) {
                        let [column, step] = b_element(bits_b, lane, reg as u32, j);
                        word[lane as usize] |= codes_b[column as usize * k + step as usize] << (bits_b % 32 * j);
                    }
                }
                for_each_c(half, c.len(), lane, |reg, shift, [row, column]| {
                    c[reg][lane as usize] |= codes_c[row * 8 + column] << shift;
                });
            }
            for chip in CHIPS {
                let model = mma_model(chip, &kind);
                mma(&kind, Arithmetic::Exact(chip), &a, &b, &c, &mut d).unwrap();
                for lane in 0..32u32 {
                    for_each_c(half, d.len(), lane, |reg, shift, [row, column]| {
                        let mask = if half { 0xffff } else { u32::MAX };
                        let got = d[reg][lane as usize] >> shift & mask;
                        let a: Vec<Number> = (0..k).map(|s| seen(&model, kind.a, codes_a[row * k + s])).collect();
                        let b: Vec<Number> = (0..k).map(|s| seen(&model, kind.b, codes_b[column * k + s])).collect();
                        let c = codes_c[row * 8 + column];
                        let want = dot(&model, &a, &b, c);
                        assert_eq!(
                            got, want,
                            "{text} on {chip:?}, families {family_a} {family_b} {family_c}: {got:#x} for {want:#x}\n\
                             c {c:#x} a {a:?}\nb {b:?}"
                        );
                    });
                }
            }
        }
    }
}

fn for_each_c(half: bool, registers: usize, lane: u32, mut visit: impl FnMut(usize, u32, [usize; 2])) {
    for reg in 0..registers {
        for j in 0..if half { 2 } else { 1 } {
            let held = if half { c_element_f16(lane, reg as u32, j) } else { c_element(lane, reg as u32) };
            visit(reg, 16 * j, held.map(|x| x as usize));
        }
    }
}

#[test]
fn exact_wgmma_is_the_model_bit_for_bit() {
    let kinds = [
        "m64n8k16.f32.f16.f16",
        "m64n16k16.f32.bf16.bf16",
        "m64n8k16.f16.f16.f16",
        "m64n8k8.f32.tf32.tf32",
        "m64n8k32.f32.e4m3.e4m3",
        "m64n8k32.f32.e5m2.e4m3",
        "m64n8k32.f16.e4m3.e5m2",
    ];
    let mut random = Random(5);
    for text in kinds {
        let modifiers: Vec<&str> = ["mma_async", "sync", "aligned"].into_iter().chain(text.split('.')).collect();
        let kind = WgmmaKind::parse(&modifiers).unwrap();
        let (k, n, half) = (kind.k() as usize, kind.n as usize, kind.d == AccumulatorType::F16);
        let fp8 = kind.a.bits() == 8;
        let model = Model {
            fraction_bits: if fp8 { 13 } else { 25 },
            step: k,
            widen: false,
            out_bits: if fp8 { 13 } else { 23 },
            out_f16: half,
        };
        for round in 0..2 * FAMILIES {
            let family = round % FAMILIES;
            let other = if round < FAMILIES { family } else { random.next() % FAMILIES };
            let codes_a: Vec<u32> = (0..64 * k).map(|_| code(&mut random, kind.a, family)).collect();
            let codes_b: Vec<u32> = (0..n * k).map(|_| code(&mut random, kind.b, other)).collect();
            let codes_d: Vec<u32> = (0..64 * n).map(|_| accumulator(&mut random, half, other)).collect();
            let [a, b] = [(&codes_a, 64, kind.a), (&codes_b, n, kind.b)].map(|(codes, mn, ty)| panel(codes, mn, k, ty));
            let registers = kind.d_regs();
            let mut files: [Vec<WarpReg>; 4] = std::array::from_fn(|_| vec![[0; 32]; registers]);
            let each = |mut visit: Visit<'_>| {
                for warp in 0..4u32 {
                    for lane in 0..32 {
                        for reg in 0..registers as u32 {
                            for j in 0..if half { 2 } else { 1 } {
                                let held =
                                    if half { wgmma_d_element_f16(warp, lane, reg, j) } else { wgmma_d_element(warp, lane, reg) };
                                visit(warp as usize, lane as usize, reg as usize, 16 * j, held.map(|x| x as usize));
                            }
                        }
                    }
                }
            };
            each(Box::new(|warp, lane, reg, shift, [row, column]| {
                files[warp][reg][lane] |= codes_d[row * n + column] << shift;
            }));
            let keep = round % 3 != 0;
            let negate_a = round % 4 == 1;
            let slots: Vec<u32> = (0..registers as u32).collect();
            let scale = Scale { d: keep, negate_a, negate_b: false };
            let [w0, w1, w2, w3] = &mut files;
            let accumulators = Accumulators { files: [w0, w1, w2, w3], slots: &slots };
            wgmma(&kind, Arithmetic::Exact(Chip::Hopper), &a, &b, scale, accumulators).unwrap();
            each(Box::new(|warp, lane, reg, shift, [row, column]| {
                let got = files[warp][reg][lane] >> shift & if half { 0xffff } else { u32::MAX };
                let flip = if negate_a { 1 << (kind.a.bits() - 1) } else { 0 };
                let a: Vec<Number> = (0..k).map(|s| operand(kind.a, codes_a[row * k + s] ^ flip)).collect();
                let b: Vec<Number> = (0..k).map(|s| operand(kind.b, codes_b[column * k + s])).collect();
                let c = if keep { codes_d[row * n + column] } else { 0 };
                let want = dot(&model, &a, &b, c);
                assert_eq!(got, want, "{text}, families {family} {other}: {got:#x} for {want:#x}");
            }));
        }
    }
}

/// Gets warp, lane, register, shift in it and `[row, column]` of an element of D.
type Visit<'v> = Box<dyn FnMut(usize, usize, usize, u32, [usize; 2]) + 'v>;

fn panel(codes: &[u32], mn: usize, k: usize, ty: ElementType) -> Panel {
    load_panel(Panel::new(), codes, mn, k, ty)
}

/// K-major without a swizzle: 16 bytes of k a chunk, eight rows a block.
pub(super) fn load_panel(mut panel: Panel, codes: &[u32], mn: usize, k: usize, ty: ElementType) -> Panel {
    let bytes = ty.bits() as usize / 8;
    let across = 16 / bytes;
    let mut memory = vec![0u8; mn * k * bytes];
    let stride = k / across * 128;
    for row in 0..mn {
        for at in 0..k {
            let offset = row % 8 * 16 + row / 8 * stride + at / across * 128 + at % across * bytes;
            memory[offset..offset + bytes].copy_from_slice(&codes[row * k + at].to_le_bytes()[..bytes]);
        }
    }
    let start = 1024u64;
    let descriptor = start >> 4 | (128 >> 4) << 16 | (stride as u64 >> 4) << 32;
    let shape = SharedOperand::new(Descriptor::decode(descriptor).unwrap(), Major::K, mn as u32, bytes as u32).unwrap();
    panel.load_shared(ty, &shape, |address| {
        let at = address as usize - start as usize;
        memory[at..at + 16].try_into().unwrap()
    });
    panel
}

/// What the short accumulator of Hopper's fp8 is known for: a small addend disappears.
#[test]
fn fp8_on_hopper_loses_what_f16_keeps() {
    let sum = |shape: &str, ty: ElementType, one: u32| {
        let modifiers: Vec<&str> = ["mma_async", "sync", "aligned"].into_iter().chain(shape.split('.')).collect();
        let kind = WgmmaKind::parse(&modifiers).unwrap();
        let k = kind.k() as usize;
        let [a, b] = [64, 8].map(|mn| panel(&vec![one; mn * k], mn, k, ty));
        let mut files: [Vec<WarpReg>; 4] = std::array::from_fn(|_| vec![[2f32.powi(-10).to_bits(); 32]; 4]);
        let [w0, w1, w2, w3] = &mut files;
        let d = Accumulators { files: [w0, w1, w2, w3], slots: &[0, 1, 2, 3] };
        let scale = Scale { d: true, negate_a: false, negate_b: false };
        wgmma(&kind, Arithmetic::Exact(Chip::Hopper), &a, &b, scale, d).unwrap();
        f32::from_bits(files[3][2][17])
    };
    assert_eq!(sum("m64n8k32.f32.e4m3.e4m3", ElementType::E4m3, 0x38), 32.0);
    assert_eq!(sum("m64n8k16.f32.f16.f16", ElementType::F16, 0x3c00), 16.0 + 2f32.powi(-10));
}
