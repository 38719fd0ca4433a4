use super::Random;
use crate::tensor::element::{AccumulatorType, ElementType};
use crate::tensor::fragment::*;
use crate::tensor::sparse::{BadCode, SparseKind, mma_sp};
use crate::tensor::{Arithmetic, WarpReg};

fn parse(text: &str) -> SparseKind {
    SparseKind::parse(&text.split('.').collect::<Vec<_>>()).unwrap()
}

/// Lane within its four and bit of the code for a chunk of row g or g + 8, written out shape by shape.
fn figure(kind: &SparseKind, selector: u32, lower: bool, first_k: u32) -> (u32, u32) {
    let upper_half = if lower { 16 } else { 0 };
    let second = u32::from(lower);
    match (kind.half.a, kind.k()) {
        (ElementType::F16 | ElementType::Bf16, 16) => (selector, first_k + upper_half),
        (ElementType::F16 | ElementType::Bf16, _) => (2 * selector + first_k / 16, first_k % 16 + upper_half),
        (ElementType::Tf32, 8) => (selector, 2 * first_k + upper_half),
        (ElementType::Tf32, _) => (2 * selector + first_k / 8, 2 * (first_k % 8) + upper_half),
        (ElementType::S4 | ElementType::U4, 64) => (2 * selector + second, first_k / 2),
        (ElementType::S4 | ElementType::U4, _) => (2 * (first_k / 64) + second, first_k % 64 / 2),
        (_, 32) => (2 * selector + second, first_k),
        _ => (2 * (first_k / 32) + second, first_k % 32),
    }
}

fn tame(ty: ElementType, random: &mut Random) -> u32 {
    let small = (random.next() as i32 >> 22) as f32 / 32.0;
    match ty {
        ElementType::F16 => half::f16::from_f32(small).to_bits().into(),
        ElementType::Bf16 => small.to_bits() >> 16,
        ElementType::Tf32 => small.to_bits() & 0xffff_e000,
        ElementType::E4m3 | ElementType::E5m2 => random.next() & 0xbb,
        ty => random.next() & ((1 << ty.bits()) - 1),
    }
}

fn check(text: &str, selector: u32) {
    let kind = parse(text);
    let mut random = Random(u64::from(selector) + 3);
    let (ty, depth) = (kind.half.a, kind.k());
    let (chunk, group) = match ty.bits() {
        32 => (2, 1),
        4 => (8, 2),
        _ => (4, 1),
    };
    // Dense A, None where nothing is stored, and the metadata; rubbish in the lanes that are not selected.
    let mut a = vec![vec![None; depth as usize]; 16];
    let mut metadata: WarpReg = std::array::from_fn(|lane| if kind.contributes(selector, lane as u32) { 0 } else { u32::MAX });
    for row in 0..16u32 {
        for first in (0..depth).step_by(chunk) {
            let (code, kept): (u32, Vec<u32>) = if ty == ElementType::Tf32 {
                if random.next() & 1 == 0 { (0b0100, vec![0]) } else { (0b1110, vec![1]) }
            } else {
                let pairs = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)];
                let (low, high) = pairs[random.next() as usize % 6];
                let kept = [low, high].iter().flat_map(|unit| (0..group).map(move |i| unit * group + i)).collect();
                (low | high << 2, kept)
            };
            let (lane, bit) = figure(&kind, selector, row >= 8, first);
            metadata[(row % 8 * 4 + lane) as usize] |= code << bit;
            for at in kept {
                a[row as usize][(first + at) as usize] = Some(tame(ty, &mut random));
            }
        }
    }
    assert_eq!(kind.bad_code(selector, &metadata), None, "{text}");
    let bits = ty.bits();
    let each = elements_per_register(bits);
    let mut packed = vec![[0; 32]; kind.half.a_regs()];
    for (reg, words) in packed.iter_mut().enumerate() {
        for (lane, word) in words.iter_mut().enumerate() {
            for j in 0..each {
                let [row, stored] = a_element(bits, lane as u32, reg as u32, j);
                let value = a[row as usize].iter().flatten().nth(stored as usize).unwrap();
                *word |= value << (bits * j);
            }
        }
    }
    let mut b_words = vec![[0; 32]; kind.b_regs()];
    let mut b = vec![[0; 8]; depth as usize];
    for (reg, words) in b_words.iter_mut().enumerate() {
        for (lane, word) in words.iter_mut().enumerate() {
            for j in 0..each {
                let [column, k] = b_element(bits, lane as u32, reg as u32, j);
                let code = tame(kind.half.b, &mut random);
                b[k as usize][column as usize] = code;
                *word |= code << (bits * j);
            }
        }
    }
    let halves = kind.half.d == AccumulatorType::F16;
    let c: Vec<WarpReg> = (0..kind.half.c_regs())
        .map(|_| {
            std::array::from_fn(|_| match kind.half.d {
                AccumulatorType::F32 => tame(ElementType::Tf32, &mut random),
                AccumulatorType::F16 => tame(ElementType::F16, &mut random) * 0x10001,
                _ => random.next(),
            })
        })
        .collect();
    let mut d = c.clone();
    mma_sp(&kind, selector, Arithmetic::Fast, [&packed, &b_words, &c], &metadata, &mut d).unwrap();
    for lane in 0..32u32 {
        for reg in 0..4 {
            let [row, column] = c_element(lane, reg);
            let get = |words: &[WarpReg]| {
                if halves {
                    words[reg as usize / 2][lane as usize] >> (16 * (reg % 2)) & 0xffff
                } else {
                    words[reg as usize][lane as usize]
                }
            };
            let terms = || {
                let row = a[row as usize].iter().zip(&b);
                row.filter_map(|(a, b)| Some((ty.value((*a)?), kind.half.b.value(b[column as usize]))))
            };
            let start = get(&c);
            let sum = |start: f32| terms().fold(start, |sum, (a, b)| a.mul_add(b, sum));
            let want = match kind.half.d {
                AccumulatorType::F32 => sum(f32::from_bits(start)).to_bits(),
                AccumulatorType::F16 => half::f16::from_f32(sum(half::f16::from_bits(start as u16).to_f32())).to_bits().into(),
                _ => {
                    let exact = i64::from(start as i32) + terms().map(|(a, b)| i64::from((a * b) as i32)).sum::<i64>();
                    (if kind.half.satfinite { exact.clamp(i32::MIN.into(), i32::MAX.into()) } else { exact }) as u32
                }
            };
            assert_eq!(get(&d), want, "{text} selector {selector} [{row}, {column}]");
        }
    }
}

#[test]
fn tensor_sparse_mma_is_the_product_of_what_is_stored() {
    for (text, selectors) in [
        ("sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", 4),
        ("sp.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16", 4),
        ("sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32", 2),
        ("sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f16.f16.f16.f16", 2),
        ("sp.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", 4),
        ("sp::ordered_metadata.sync.aligned.m16n8k16.row.col.f32.tf32.tf32.f32", 2),
        ("sp.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32", 2),
        ("sp::ordered_metadata.sync.aligned.m16n8k64.row.col.satfinite.s32.u8.s8.s32", 1),
        ("sp.sync.aligned.m16n8k64.row.col.s32.s4.u4.s32", 2),
        ("sp::ordered_metadata.sync.aligned.m16n8k128.row.col.satfinite.s32.u4.u4.s32", 1),
        ("sp::ordered_metadata.sync.aligned.m16n8k64.row.col.f32.e4m3.e5m2.f32", 1),
    ] {
        assert_eq!(parse(text).selectors(), selectors, "{text}");
        (0..selectors).for_each(|selector| check(text, selector));
    }
}

#[test]
fn tensor_sparse_zeros_meet_no_infinities() {
    let kind = parse("sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
    // Elements 0 and 1 of each chunk are stored; B is infinite in rows 2 and 3, and one elsewhere.
    let row = |lane: usize| if lane % 4 == 1 { 0x7c00_7c00 } else { 0x3c00_3c00 };
    let b = [std::array::from_fn(row), [0x3c00_3c00; 32]];
    let mut d = [[0; 32]; 4];
    let ones = [[0x3c00_3c00; 32]; 2];
    mma_sp(&kind, 0, Arithmetic::Fast, [&ones, &b, &[[0; 32]; 4]], &[0x4444_4444; 32], &mut d).unwrap();
    assert_eq!(d, [[8f32.to_bits(); 32]; 4]);
}

#[test]
fn tensor_sparse_codes_without_meaning() {
    let plain = parse("sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
    let ordered = parse("sp::ordered_metadata.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
    let tf32 = parse("sp.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32");
    for code in 0..16u32 {
        let mut metadata = [0x4444_4444; 32];
        metadata[13] = 0x4444_4444 & !(0xf << 20) | code << 20;
        let bad = |kind: &SparseKind| kind.bad_code(1, &metadata);
        let found = Some(BadCode { lane: 13, row: 11, code });
        assert_eq!(bad(&plain), if [0b0000, 0b0101, 0b1010, 0b1111].contains(&code) { found } else { None });
        let meaningful = [0b0100, 0b1000, 0b1001, 0b1100, 0b1101, 0b1110];
        assert_eq!(bad(&ordered), if meaningful.contains(&code) { None } else { found });
        assert_eq!(bad(&tf32), if [0b0100, 0b1110].contains(&code) { None } else { found });
        assert_eq!(plain.bad_code(0, &metadata), None);
    }
    for text in [
        "sp.sync.aligned.m16n8k32.row.col.f32.tf32.tf32.f32",
        "sp.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32",
        "sp.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32",
        "sp.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64",
        "sp.sync.aligned.m8n8k32.row.col.s32.s8.s8.s32",
        "sp.sync.aligned.m16n8k17.row.col.f32.f16.f16.f32",
    ] {
        assert!(SparseKind::parse(&text.split('.').collect::<Vec<_>>()).is_err(), "{text}");
    }
}
