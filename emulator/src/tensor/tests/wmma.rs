use super::Random;
use crate::tensor::element::{AccumulatorType, ElementType};
use crate::tensor::wmma::*;
use crate::tensor::{Arithmetic, WarpReg};

/// Element [row, column] of memory in the matrix's layout, without a stride beyond its lines.
fn from_memory(of: &WmmaMatrix, memory: &Image, row: u32, column: u32) -> u64 {
    let index = if of.layout == Layout::Row { row * of.columns + column } else { column * of.rows + row };
    let mut code = 0;
    for bit in 0..of.bits {
        let at = (index * of.bits + bit) as usize;
        code |= u64::from(memory[at / 8] >> (at % 8) & 1) << bit;
    }
    code
}

fn value(ty: Multiplicand, code: u64) -> f64 {
    match ty {
        Multiplicand::Bit => unreachable!("bits are not multiplied"),
        Multiplicand::Element(ElementType::F64) => f64::from_bits(code),
        Multiplicand::Element(ty) => ty.value(code as u32).into(),
    }
}

/// Bytes that are tame values of the type.
fn memory(random: &mut Random, ty: &str) -> Image {
    let mut image = [0; IMAGE_BYTES];
    for bytes in image.chunks_exact_mut(8) {
        let small = f64::from(random.next() as i32 >> 20) / 64.0;
        let half = |x: f64| u64::from(half::f16::from_f64(x).to_bits());
        let code = match ty {
            "f64" => small.to_bits(),
            "f32" | "tf32" => u64::from((small as f32).to_bits()) | u64::from((0.5 - small as f32).to_bits()) << 32,
            "f16" => half(small) | half(small / 3.0) << 16 | half(1.0 - small) << 32 | half(-small) << 48,
            "bf16" => u64::from((small as f32).to_bits() >> 16) * 0x0001_0001_0001_0001,
            _ => u64::from(random.next()) | u64::from(random.next()) << 32,
        };
        bytes.copy_from_slice(&code.to_le_bytes());
    }
    image
}

/// From memory to registers, as `wmma.load` does.
fn load(of: &WmmaMatrix, memory: &Image) -> Vec<WarpReg> {
    let mut words = vec![[0; 32]; of.words];
    of.to_lanes(&of.reorder(memory, false), &mut words);
    words
}

fn check(text: &str, shape: &str, [d, a, c]: [&str; 3]) {
    let kind = WmmaKind::parse(&text.split('.').collect::<Vec<_>>()).unwrap();
    let mut random = Random(11);
    let memories = [memory(&mut random, a), memory(&mut random, a), memory(&mut random, c)];
    let of_a = WmmaMatrix::parse("a", kind.a_layout, shape, a).unwrap();
    let of_b = WmmaMatrix::parse("b", kind.b_layout, shape, a).unwrap();
    for layout in [Layout::Row, Layout::Column] {
        let of_c = WmmaMatrix::parse("c", layout, shape, c).unwrap();
        let of_d = WmmaMatrix::parse("d", layout, shape, d).unwrap();
        let fragments = [load(&of_a, &memories[0]), load(&of_b, &memories[1]), load(&of_c, &memories[2])];
        let mut out = vec![[0; 32]; of_d.words];
        wmma(&kind, Arithmetic::Fast, [&fragments[0], &fragments[1], &fragments[2]], &mut out).unwrap();
        let result = of_d.reorder(&of_d.of_lanes(&out), true);
        let [m, n, depth] = kind.shape;
        for row in 0..m {
            for column in 0..n {
                let got = from_memory(&of_d, &result, row, column);
                let start = from_memory(&of_c, &memories[2], row, column);
                let codes = |k| (from_memory(&of_a, &memories[0], row, k), from_memory(&of_b, &memories[1], k, column));
                let terms = || (0..depth).map(|k| (value(kind.ty, codes(k).0), value(kind.ty, codes(k).1)));
                let f32_sum = |start: f32| terms().fold(start, |sum, (a, b)| (a as f32).mul_add(b as f32, sum));
                let narrow = |code: u64, ty| match ty {
                    AccumulatorType::F16 => half::f16::from_bits(code as u16).to_f32(),
                    _ => f32::from_bits(code as u32),
                };
                let want = match (kind.ty, kind.d) {
                    (Multiplicand::Bit, _) => {
                        let op = |k| {
                            let (a, b) = codes(k);
                            if kind.op == Some(BitOp::Xor) { a ^ b } else { a & b }
                        };
                        u64::from((start as u32).wrapping_add((0..depth).map(op).sum::<u64>() as u32))
                    }
                    (_, AccumulatorType::S32) => {
                        let exact = i64::from(start as u32 as i32) + terms().map(|(a, b)| a * b).sum::<f64>() as i64;
                        let clamped = exact.clamp(i32::MIN.into(), i32::MAX.into());
                        u64::from(if kind.satfinite { clamped } else { exact } as u32)
                    }
                    (_, AccumulatorType::F64) => terms().fold(f64::from_bits(start), |sum, (a, b)| a.mul_add(b, sum)).to_bits(),
                    (_, AccumulatorType::F32) => f32_sum(narrow(start, kind.c)).to_bits().into(),
                    (_, AccumulatorType::F16) => half::f16::from_f32(f32_sum(narrow(start, kind.c))).to_bits().into(),
                };
                assert_eq!(got, want, "{text} {layout:?} [{row}, {column}]");
            }
        }
    }
}

#[test]
fn tensor_wmma_is_a_matrix_product() {
    for layouts in ["row.row", "row.col", "col.row", "col.col"] {
        let mma = |shape: &str, tail: &str| format!("mma.sync.aligned.{layouts}.{shape}.{tail}");
        for shape in ["m16n16k16", "m8n32k16", "m32n8k16"] {
            for (d, c) in [("f32", "f32"), ("f16", "f16"), ("f32", "f16"), ("f16", "f32")] {
                check(&mma(shape, &format!("{d}.{c}")), shape, [d, "f16", c]);
            }
            check(&mma(shape, "f32.bf16.bf16.f32"), shape, ["f32", "bf16", "f32"]);
            check(&mma(shape, "s32.u8.u8.s32"), shape, ["s32", "u8", "s32"]);
            check(&mma(shape, "s32.s8.s8.s32.satfinite"), shape, ["s32", "s8", "s32"]);
        }
        check(&mma("m16n16k8", "f32.tf32.tf32.f32"), "m16n16k8", ["f32", "tf32", "f32"]);
        check(&mma("m8n8k4", "f64.f64.f64.f64"), "m8n8k4", ["f64", "f64", "f64"]);
        check(&mma("m8n8k4", "rn.f64.f64.f64.f64"), "m8n8k4", ["f64", "f64", "f64"]);
    }
    check("mma.sync.aligned.row.col.m8n8k32.s32.s4.s4.s32", "m8n8k32", ["s32", "s4", "s32"]);
    check("mma.sync.aligned.row.col.m8n8k32.s32.u4.u4.s32.satfinite", "m8n8k32", ["s32", "u4", "s32"]);
    check("mma.xor.popc.sync.aligned.row.col.m8n8k128.s32.b1.b1.s32", "m8n8k128", ["s32", "b1", "s32"]);
    check("mma.and.popc.sync.aligned.row.col.m8n8k128.s32.b1.b1.s32", "m8n8k128", ["s32", "b1", "s32"]);
}

#[test]
fn tensor_wmma_refuses_what_it_does_not_know() {
    for text in [
        "mma.sync.aligned.row.col.m16n16k16.f32.f16.f16.f32",
        "mma.sync.aligned.row.col.m16n16k16.s32.s8.u8.s32",
        "mma.sync.aligned.row.col.m16n16k16.f16.f16.satfinite",
        "mma.sync.aligned.row.col.m8n8k4.rz.f64.f64.f64.f64",
        "mma.sync.aligned.row.row.m8n8k32.s32.s4.s4.s32",
        "mma.sync.aligned.row.col.m8n8k128.s32.b1.b1.s32",
        "mma.sync.aligned.row.col.m16n8k16.f32.f32",
        "mma.sync.aligned.row.col.m16n16k16.f32.tf32.tf32.f32",
    ] {
        assert!(WmmaKind::parse(&text.split('.').collect::<Vec<_>>()).is_err(), "{text}");
    }
    assert_eq!(WmmaMatrix::parse("b", Layout::Row, "m8n8k32", "s4"), None);
    assert_eq!(WmmaMatrix::parse("c", Layout::Row, "m16n16k8", "f16"), None);
}
