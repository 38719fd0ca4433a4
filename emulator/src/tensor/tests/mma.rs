use super::Random;
use crate::tensor::element::{AccumulatorType, ElementType};
use crate::tensor::fragment::*;
use crate::tensor::mma::{MmaError, MmaKind, mma};
use crate::tensor::{Arithmetic, WarpReg};

const KINDS: &[&str] = &[
    "m16n8k8.row.col.f32.f16.f16.f32",
    "m16n8k8.row.col.f16.f16.f16.f16",
    "m16n8k16.row.col.f32.f16.f16.f32",
    "m16n8k16.row.col.f16.f16.f16.f16",
    "m16n8k8.row.col.f32.bf16.bf16.f32",
    "m16n8k16.row.col.f32.bf16.bf16.f32",
    "m16n8k4.row.col.f32.tf32.tf32.f32",
    "m16n8k8.row.col.f32.tf32.tf32.f32",
    "m16n8k16.row.col.f32.e5m2.e4m3.f32",
    "m16n8k32.row.col.f32.e4m3.e5m2.f32",
    "m16n8k32.row.col.f16.e4m3.e4m3.f16",
    "m16n8k32.row.col.kind::f8f6f4.f32.e4m3.e4m3.f32",
    "m8n8k16.row.col.s32.s8.u8.s32",
    "m16n8k16.row.col.satfinite.s32.u8.u8.s32",
    "m16n8k32.row.col.s32.s8.s8.s32",
    "m8n8k32.row.col.satfinite.s32.s4.u4.s32",
    "m16n8k32.row.col.s32.u4.s4.s32",
    "m16n8k64.row.col.s32.s4.s4.s32",
    "m8n8k4.row.col.f64.f64.f64.f64",
    "m16n8k4.row.col.f64.f64.f64.f64.rn",
    "m16n8k8.row.col.f64.f64.f64.f64",
    "m16n8k16.row.col.f64.f64.f64.f64",
];

fn parse(text: &str) -> Result<MmaKind, MmaError> {
    let modifiers: Vec<&str> = ["sync", "aligned"].into_iter().chain(text.split('.')).collect();
    MmaKind::parse(&modifiers)
}

fn register64(words: &[WarpReg], reg: usize, lane: usize) -> u64 {
    u64::from(words[2 * reg][lane]) | u64::from(words[2 * reg + 1][lane]) << 32
}

/// Element [row, k] of a multiplicand as f64, by searching the fragment map for its holder.
fn element(kind: &MmaKind, words: &[WarpReg], is_a: bool, row: u32, k: u32) -> f64 {
    let ty = if is_a { kind.a } else { kind.b };
    let wide = ty == ElementType::F64;
    let registers = if wide { words.len() / 2 } else { words.len() };
    for lane in 0..32 {
        for reg in 0..registers {
            for j in 0..elements_per_register(ty.bits()) {
                let held = match (is_a, kind.m) {
                    (true, 16) => a_element(ty.bits(), lane, reg as u32, j),
                    (true, _) => a_element_m8(ty.bits(), lane, reg as u32, j),
                    (false, _) => b_element(ty.bits(), lane, reg as u32, j),
                };
                if held == [row, k] {
                    return if wide {
                        f64::from_bits(register64(words, reg, lane as usize))
                    } else {
                        ty.value(extract(&words[reg], ty.bits(), lane as usize, j)).into()
                    };
                }
            }
        }
    }
    panic!("no lane holds [{row}, {k}]")
}

/// Random registers without NaN or infinity for `bits`-wide elements of a float type.
fn registers(random: &mut Random, count: usize, ty: Option<ElementType>) -> Vec<WarpReg> {
    let tame = |word: u32, index: usize| match ty {
        Some(ElementType::F16) => word & 0xbfff_bfff,
        Some(ElementType::Bf16) => word & 0x83ff_83ff | 0x3c00_3c00,
        Some(ElementType::Tf32) => word & 0x83ff_ffff | 0x3c00_0000,
        Some(ElementType::E4m3 | ElementType::E5m2) => word & 0xbbbb_bbbb,
        Some(ElementType::F64) if index % 2 == 1 => word & 0x803f_ffff | 0x3fc0_0000,
        _ => word,
    };
    (0..count).map(|index| std::array::from_fn(|_| tame(random.next(), index))).collect()
}

#[test]
fn tensor_mma_is_a_matrix_product() {
    let mut random = Random(7);
    for text in KINDS {
        let kind = parse(text).unwrap();
        let a = registers(&mut random, kind.a_regs(), Some(kind.a));
        let b = registers(&mut random, kind.b_regs(), Some(kind.b));
        let like = match kind.d {
            AccumulatorType::F16 => Some(ElementType::F16),
            AccumulatorType::F32 => Some(ElementType::Tf32),
            AccumulatorType::F64 => Some(ElementType::F64),
            AccumulatorType::S32 => None,
        };
        let c = registers(&mut random, kind.c_regs(), like);
        let mut d = c.clone();
        mma(&kind, Arithmetic::Fast, &a, &b, &c, &mut d).unwrap();
        for lane in 0..32u32 {
            let l = lane as usize;
            for reg in 0..kind.m / 4 {
                let [row, column] = c_element(lane, reg);
                let terms = || (0..kind.k).map(|k| (element(&kind, &a, true, row, k), element(&kind, &b, false, column, k)));
                let r = reg as usize;
                let f32_sum = |start: f32| terms().fold(start, |sum, (a, b)| (a as f32).mul_add(b as f32, sum));
                match kind.d {
                    AccumulatorType::F32 => {
                        let want = f32_sum(f32::from_bits(c[r][l]));
                        assert_eq!(d[r][l], want.to_bits(), "{text} [{row}, {column}]");
                    }
                    AccumulatorType::F16 => {
                        let half = |word: u32| half::f16::from_bits((word >> (16 * (reg % 2))) as u16);
                        let want = half::f16::from_f32(f32_sum(half(c[r / 2][l]).to_f32()));
                        assert_eq!(half(d[r / 2][l]).to_bits(), want.to_bits(), "{text} [{row}, {column}]");
                    }
                    AccumulatorType::S32 => {
                        let sum: f64 = terms().map(|(a, b)| a * b).sum();
                        let exact = sum as i64 + i64::from(c[r][l] as i32);
                        let clamped = exact.clamp(i32::MIN.into(), i32::MAX.into());
                        let want = if kind.satfinite { clamped } else { exact } as u32;
                        assert_eq!(d[r][l], want, "{text} [{row}, {column}]");
                    }
                    AccumulatorType::F64 => {
                        let start = f64::from_bits(register64(&c, r, l));
                        let want = terms().fold(start, |sum, (a, b)| a.mul_add(b, sum));
                        assert_eq!(register64(&d, r, l), want.to_bits(), "{text} [{row}, {column}]");
                    }
                }
            }
        }
    }
}

#[test]
fn tensor_mma_integers_wrap_or_clamp() {
    for (text, want) in [
        ("m16n8k32.row.col.s32.s8.s8.s32", (i32::MAX as u32).wrapping_add(32)),
        ("m16n8k32.row.col.satfinite.s32.s8.s8.s32", i32::MAX as u32),
    ] {
        let kind = parse(text).unwrap();
        let ones = [[0x0101_0101; 32]; 4];
        let mut d = [[0; 32]; 4];
        mma(&kind, Arithmetic::Fast, &ones, &ones[..2], &[[i32::MAX as u32; 32]; 4], &mut d).unwrap();
        assert_eq!(d, [[want; 32]; 4]);
    }
}

#[test]
fn tensor_mma_nan_is_canonical() {
    let kind = parse("m16n8k8.row.col.f32.f16.f16.f32").unwrap();
    let mut d = [[0; 32]; 4];
    let ones = [[0x3c00_3c00; 32]; 2];
    mma(&kind, Arithmetic::Fast, &[[0xfe01_3c00; 32]; 2], &ones[..1], &[[0; 32]; 4], &mut d).unwrap();
    assert_eq!(d, [[0x7fff_ffff; 32]; 4]);
}

#[test]
fn tensor_mma_register_counts() {
    let counts = |text| {
        let kind = parse(text).unwrap();
        (kind.a_regs(), kind.b_regs(), kind.c_regs(), kind.d_regs())
    };
    assert_eq!(counts("m16n8k16.row.col.f32.bf16.bf16.f32"), (4, 2, 4, 4));
    assert_eq!(counts("m16n8k16.row.col.f16.f16.f16.f16"), (4, 2, 2, 2));
    assert_eq!(counts("m16n8k64.row.col.s32.s4.s4.s32"), (4, 2, 4, 4));
    assert_eq!(counts("m8n8k16.row.col.s32.s8.s8.s32"), (1, 1, 2, 2));
    assert_eq!(counts("m16n8k16.row.col.f64.f64.f64.f64"), (16, 8, 8, 8));
    assert_eq!(counts("m8n8k4.row.col.f64.f64.f64.f64"), (2, 2, 4, 4));
    let kind = parse("m16n8k16.row.col.f32.bf16.bf16.f32").unwrap();
    let short = mma(&kind, Arithmetic::Fast, &[[0; 32]; 3], &[[0; 32]; 2], &[[0; 32]; 4], &mut [[0; 32]; 4]);
    assert_eq!(short, Err(MmaError::RegisterCount { kind, operand: 'a', want: 4, got: 3 }));
}

#[test]
fn tensor_mma_refuses_what_it_does_not_know() {
    for text in [
        "m8n8k4.row.col.f32.f16.f16.f32",
        "m16n8k16.row.row.f32.f16.f16.f32",
        "m16n8k16.row.col.f32.f16.f16.f16",
        "m16n8k16.row.col.f32.f16.bf16.f32",
        "m16n8k16.row.col.f16.bf16.bf16.f16",
        "m16n8k16.row.col.satfinite.f32.f16.f16.f32",
        "m16n8k16.row.col.f32.tf32.tf32.f32",
        "m16n8k32.row.col.s32.s8.u4.s32",
        "m16n8k128.row.col.s32.b1.b1.s32.xor.popc",
        "m16n8k32.row.col.kind::f8f6f4.f32.e3m2.e2m3.f32",
        "m16n8k16.row.col.kind::f8f6f4.f32.e4m3.e4m3.f32",
        "m16n8k16.row.col.f32.f16.f16.f32.rn",
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}
