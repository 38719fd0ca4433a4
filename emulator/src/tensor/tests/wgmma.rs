use super::Random;
use crate::tensor::descriptor::{Descriptor, DescriptorError, Major, SharedOperand};
use crate::tensor::element::{AccumulatorType, ElementType};
use crate::tensor::fragment::*;
use crate::tensor::panel::Panel;
use crate::tensor::swizzle::Swizzle;
use crate::tensor::tma::{Interleave, OobFill, TensorDType, TensorMap};
use crate::tensor::wgmma::{Accumulators, Scale, WgmmaError, WgmmaKind, wgmma};
use crate::tensor::{Arithmetic, WarpReg};

fn parse(text: &str) -> Result<WgmmaKind, WgmmaError> {
    let modifiers: Vec<&str> = ["mma_async", "sync", "aligned"].into_iter().chain(text.split('.')).collect();
    WgmmaKind::parse(&modifiers)
}

/// One mode of a CuTe layout: (extent, stride) pairs, the coordinate running through the first fastest.
fn cute(mode: &[(u32, u32)], mut coordinate: u32) -> u32 {
    let mut offset = 0;
    for (i, (extent, stride)) in mode.iter().enumerate() {
        let last = i + 1 == mode.len();
        offset += stride * if last { coordinate } else { coordinate % extent };
        coordinate /= extent;
    }
    offset
}

/// The byte offset of (mn, k) by the table of PTX ISA 9.7.15.5.1.2.1.3, strides in elements, then Swizzle<B, 4, 3>.
fn canonical(major: Major, swizzle: Swizzle, e: u32, [lbo, sbo]: [u32; 2], mn: u32, k: u32) -> u32 {
    let (t, lbo, sbo) = (16 / e, lbo / e, sbo / e);
    let bits = match swizzle {
        Swizzle::None => 0,
        Swizzle::B32 => 1,
        Swizzle::B64 => 2,
        Swizzle::B128 => 3,
    };
    let w = 1 << bits;
    let offset = match (major, swizzle) {
        (Major::Mn, Swizzle::None) => cute(&[(t, 1), (1, t), (u32::MAX, sbo)], mn) + cute(&[(8, t), (u32::MAX, lbo)], k),
        (Major::Mn, _) => cute(&[(t, 1), (w, t), (u32::MAX, lbo)], mn) + cute(&[(8, w * t), (u32::MAX, sbo)], k),
        (Major::K, Swizzle::None) => cute(&[(8, t), (u32::MAX, sbo)], mn) + cute(&[(t, 1), (u32::MAX, lbo)], k),
        (Major::K, _) => cute(&[(8, w * t), (u32::MAX, sbo)], mn) + cute(&[(t, 1), (u32::MAX, t)], k),
    };
    let bytes = offset * e;
    (0..bits).fold(bytes, |moved, bit| moved ^ (bytes >> (7 + bit) & 1) << (4 + bit))
}

#[test]
fn tensor_wgmma_addresses_are_the_canonical_layouts() {
    let mut random = Random(11);
    for swizzle in Swizzle::ALL {
        for (major, e) in [(Major::K, 1), (Major::K, 2), (Major::K, 4), (Major::Mn, 2)] {
            for mn in [8, 64, 72, 256] {
                for _ in 0..4 {
                    let pattern = swizzle.pattern_bytes();
                    let [lbo, sbo] = [0; 2].map(|_| (1 + random.next() % 6) * pattern.max(128));
                    let start = 8 * pattern.max(128);
                    let descriptor = Descriptor { start, lbo, sbo, swizzle };
                    assert_eq!(Descriptor::decode(descriptor.encode()), Ok(descriptor));
                    let operand = SharedOperand::new(descriptor, major, mn, e).unwrap();
                    let mut touched = Vec::new();
                    for row in 0..mn {
                        for k in 0..32 / e {
                            let want = start + canonical(major, swizzle, e, [lbo, sbo], row, k);
                            assert_eq!(operand.element_address(row, k), want, "{descriptor:?} {major:?} {e} ({row}, {k})");
                            touched.push(want & !15);
                        }
                    }
                    touched.sort_unstable();
                    touched.dedup();
                    assert_eq!(operand.chunks(), touched);
                }
            }
        }
    }
}

/// Figures of PTX ISA 9.7.15.5.1.2.1.3: where a few elements of the 16-bit and tf32 examples are.
#[test]
fn tensor_wgmma_addresses_of_the_figures() {
    let at = |swizzle, major, e, lbo, sbo, mn, k| {
        let descriptor = Descriptor { start: 0, lbo, sbo, swizzle };
        SharedOperand::new(descriptor, major, 64, e).unwrap().element_address(mn, k) / e
    };
    // ((8,2),(4,4)):((4,32),(1,64)) in tf32.
    assert_eq!(at(Swizzle::None, Major::K, 4, 64 * 4, 32 * 4, 9, 5), 4 + 32 + 1 + 64);
    // Swizzle<1,4,3> o ((8,2),(4,4)):((8,64),(1,4)): row 4 is in the second line, whose two chunks are exchanged.
    assert_eq!(at(Swizzle::B32, Major::K, 4, 16, 64 * 4, 4, 0), 4 * 8 + 4);
    // Swizzle<2,4,3> o ((8,4,2),(8,2)):((1,8,256),(32,512)) in bf16.
    assert_eq!(at(Swizzle::B64, Major::Mn, 2, 256 * 2, 512 * 2, 33, 9), (1 + 256 + 32 + 512));
}

#[test]
fn tensor_wgmma_descriptor_errors() {
    let good = Descriptor { start: 0x8000, lbo: 16, sbo: 1024, swizzle: Swizzle::B128 };
    assert_eq!(good.encode(), 0x4000_0040_0001_0800);
    assert_eq!(Descriptor::decode(good.encode() | 1 << 49), Err(DescriptorError::BaseOffset { base_offset: 1 }));
    let undefined = Descriptor::decode(good.encode() | 1 << 46);
    assert!(matches!(undefined, Err(DescriptorError::UndefinedBits { bits, .. }) if bits == 1 << 46));
    // Steps along k stay within the first row of the pattern.
    for step in [32, 64, 96] {
        assert!(Descriptor::decode(Descriptor { start: good.start + step, ..good }.encode()).is_ok());
    }
    for (swizzle, start) in [(Swizzle::B128, 128), (Swizzle::B64, 64), (Swizzle::B64, 256), (Swizzle::B32, 128)] {
        let error = Descriptor::decode(Descriptor { start, swizzle, ..good }.encode()).unwrap_err();
        assert_eq!(error, DescriptorError::PatternAlignment { start, offset: start, swizzle });
    }
    let crossing = Descriptor { start: 112, ..good };
    assert!(matches!(SharedOperand::new(crossing, Major::K, 64, 2), Err(DescriptorError::RowOverrun { left: 16, .. })));
    assert!(matches!(SharedOperand::new(crossing, Major::Mn, 64, 2), Err(DescriptorError::RowOverrun { .. })));
    assert!(SharedOperand::new(crossing, Major::Mn, 8, 2).is_ok());
    assert_eq!(SharedOperand::new(good, Major::Mn, 64, 1), Err(DescriptorError::MajorElement { element_bytes: 1 }));
}

/// A box that TMA wrote is the operand that a descriptor of the same mode reads, for every step along k.
#[test]
fn tensor_wgmma_reads_what_tma_writes() {
    let mut random = Random(13);
    for swizzle in [Swizzle::B32, Swizzle::B64, Swizzle::B128] {
        for (dtype, ty, e) in [
            (TensorDType::U8, ElementType::E4m3, 1),
            (TensorDType::U8, ElementType::S8, 1),
            (TensorDType::Bf16, ElementType::Bf16, 2),
            (TensorDType::F16, ElementType::F16, 2),
            (TensorDType::F32, ElementType::Tf32, 4),
        ] {
            for major in [Major::K, Major::Mn] {
                if major == Major::Mn && e != 2 {
                    continue;
                }
                let span = swizzle.span_bytes();
                // The contiguous dimension is one span wide; K-major tiles are 64 rows, MN-major ones 32 steps of k.
                let other = if major == Major::K { 64 } else { 32 };
                let map = TensorMap {
                    dtype,
                    base: 0,
                    dims: vec![300, 200],
                    strides: vec![304 * u64::from(e)],
                    box_dims: vec![span / e, other],
                    element_strides: vec![1, 1],
                    swizzle,
                    interleave: Interleave::None,
                    oob_fill: OobFill::Zero,
                };
                map.validate().unwrap();
                let global: Vec<u8> = (0..map.strides[0] * 200).map(|_| random.next() as u8).collect();
                let code = |x: i32, y: i32| {
                    let inside = (0..300).contains(&x) && (0..200).contains(&y);
                    let at = if inside { y as usize * 304 * e as usize + x as usize * e as usize } else { 0 };
                    let byte = |i: u32| if inside { u32::from(global[at + i as usize]) } else { 0 };
                    (0..e).fold(0, |code, i| code | byte(i) << (8 * i))
                };
                // Two boxes side by side along mn for the MN-major case, so that LBO matters.
                let (x, y) = (290 - span as i32, -3);
                let (tile, tiles) = (map.box_bytes(), if major == Major::K { 1 } else { 2 });
                let destination = 0x2400 / swizzle.pattern_bytes() * swizzle.pattern_bytes();
                let mut shared = vec![0u8; 0x8000];
                for t in 0..tiles {
                    map.for_each_run(&[x + (t * span / e) as i32, y], |run| {
                        for i in 0..run.bytes {
                            let to = swizzle.apply(destination + t * tile + run.shared_offset + i);
                            shared[to as usize] = run.global.map_or(0, |at| global[(at + u64::from(i)) as usize]);
                        }
                    })
                    .unwrap();
                }
                let read = |at: u32| -> [u8; 16] { shared[at as usize..][..16].try_into().unwrap() };
                let mut panel = Panel::new();
                let steps = if major == Major::K { span / 32 } else { 2 };
                for step in 0..steps {
                    let advance = if major == Major::K { 32 * step } else { step * 16 * span };
                    let raw = Descriptor { start: destination + advance, lbo: tile, sbo: 8 * span, swizzle }.encode();
                    let mn = if major == Major::K { 64 } else { tiles * span / e };
                    let operand = SharedOperand::new(Descriptor::decode(raw).unwrap(), major, mn, e).unwrap();
                    panel.load_shared(ty, &operand, read);
                    assert_eq!((panel.mn(), panel.k()), (mn as usize, 32 / e as usize));
                    for mn in 0..mn as i32 {
                        for k in 0..32 / e as i32 {
                            let deep = (step * 32 / e) as i32 + k;
                            let code = if major == Major::K { code(x + deep, y + mn) } else { code(x + mn, y + deep) };
                            let (want, got) = (ty.value(code), panel.value(mn as usize, k as usize));
                            assert_eq!(got.to_bits(), want.to_bits(), "{swizzle:?} {ty} {major:?} {step} ({mn}, {k})");
                        }
                    }
                }
            }
        }
    }
}

/// An operand with random tame values in a plain K-major layout, without any shared memory behind it.
fn panel(random: &mut Random, ty: ElementType, mn: u32) -> Panel {
    let mut panel = Panel::new();
    let descriptor = Descriptor { start: 0, lbo: 128, sbo: 256, swizzle: Swizzle::None };
    let e = ty.bits() / 8;
    let tame = match ty {
        ElementType::F16 => 0xbfff_bfff,
        ElementType::Bf16 => 0xbfff_bfff,
        ElementType::Tf32 => 0xbfff_ffff,
        ElementType::E4m3 | ElementType::E5m2 => 0xbbbb_bbbb,
        _ => u32::MAX,
    };
    panel.load_shared(ty, &SharedOperand::new(descriptor, Major::K, mn, e).unwrap(), |_| {
        let mut chunk = [0; 16];
        for word in chunk.chunks_exact_mut(4) {
            word.copy_from_slice(&(random.next() & tame).to_le_bytes());
        }
        chunk
    });
    panel
}

fn run(kind: &WgmmaKind, a: &Panel, b: &Panel, scale: Scale, files: &mut [Vec<WarpReg>], slots: &[u32]) {
    let [w0, w1, w2, w3] = files else { panic!("four warps") };
    let d = Accumulators { files: [w0, w1, w2, w3], slots };
    wgmma(kind, Arithmetic::Fast, a, b, scale, d).unwrap();
}

#[test]
fn tensor_wgmma_is_a_matrix_product() {
    let mut random = Random(17);
    for text in [
        "m64n8k16.f32.f16.f16",
        "m64n256k16.f32.bf16.bf16",
        "m64n40k16.f16.f16.f16",
        "m64n24k8.f32.tf32.tf32",
        "m64n64k32.f32.e4m3.e5m2",
        "m64n16k32.f16.e5m2.e5m2",
        "m64n48k32.s32.s8.u8",
        "m64n24k32.satfinite.s32.u8.u8",
    ] {
        let kind = parse(text).unwrap();
        let (a, b) = (panel(&mut random, kind.a, 64), panel(&mut random, kind.b, kind.n));
        // Slots out of order, with gaps.
        let slots: Vec<u32> = (0..kind.d_regs() as u32).map(|r| 3 * (kind.d_regs() as u32 - 1 - r) + 1).collect();
        let old: Vec<Vec<WarpReg>> = (0..4)
            .map(|_| (0..3 * kind.d_regs()).map(|_| std::array::from_fn(|_| random.next() & 0xb7ff_b7ff)).collect())
            .collect();
        for (keep, negate_a, negate_b) in
            [(true, false, false), (false, false, false), (true, true, false), (true, true, true), (false, false, true)]
        {
            let mut new = old.clone();
            run(&kind, &a, &b, Scale { d: keep, negate_a, negate_b }, &mut new, &slots);
            let sign = if negate_a != negate_b && kind.has_scale() { -1.0 } else { 1.0 };
            for warp in 0..4 {
                for lane in 0..32 {
                    let word = |file: &[Vec<WarpReg>], reg: u32| file[warp as usize][slots[reg as usize] as usize][lane as usize];
                    for reg in 0..kind.n / 2 {
                        let [row, column] = wgmma_d_element(warp, lane, reg);
                        let terms = || (0..a.k()).map(|k| (sign * a.value(row as usize, k), b.value(column as usize, k)));
                        let sum = |start: f32| terms().fold(start, |sum, (a, b)| a.mul_add(b, sum));
                        let (got, want) = match kind.d {
                            AccumulatorType::F32 => {
                                let start = if keep { f32::from_bits(word(&old, reg)) } else { 0.0 };
                                (word(&new, reg), sum(start).to_bits())
                            }
                            AccumulatorType::F16 => {
                                let half = |w: u32| w >> (16 * (reg % 2)) & 0xffff;
                                let start = half::f16::from_bits(half(word(&old, reg / 2)) as u16).to_f32();
                                let want = half::f16::from_f32(sum(if keep { start } else { 0.0 }));
                                (half(word(&new, reg / 2)), want.to_bits().into())
                            }
                            _ => {
                                let exact = terms().map(|(a, b)| a as i64 * b as i64).sum::<i64>()
                                    + if keep { i64::from(word(&old, reg) as i32) } else { 0 };
                                let clamped = exact.clamp(i32::MIN.into(), i32::MAX.into());
                                (word(&new, reg), if kind.satfinite { clamped } else { exact } as u32)
                            }
                        };
                        assert_eq!(got, want, "{text} [{row}, {column}] keep {keep}");
                    }
                }
            }
            // Nothing else in the files changes.
            for (old, new) in old.iter().zip(&new) {
                for slot in (0..old.len()).filter(|slot| slot % 3 != 1) {
                    assert_eq!(old[slot], new[slot]);
                }
            }
        }
    }
}

#[test]
fn tensor_wgmma_a_in_registers() {
    let mut random = Random(19);
    for ty in [ElementType::F16, ElementType::Bf16, ElementType::Tf32, ElementType::E5m2, ElementType::U8] {
        let files: Vec<Vec<WarpReg>> = (0..4).map(|_| (0..6).map(|_| std::array::from_fn(|_| random.next())).collect()).collect();
        let slots = [5, 0, 3, 1];
        let mut panel = Panel::new();
        panel.load_registers(ty, [&files[0], &files[1], &files[2], &files[3]], &slots);
        assert_eq!((panel.mn(), panel.k(), panel.ty()), (64, 256 / ty.bits() as usize, Some(ty)));
        for warp in 0..4 {
            for lane in 0..32 {
                for reg in 0..4 {
                    for j in 0..elements_per_register(ty.bits()) {
                        let [row, k] = wgmma_a_element(ty.bits(), warp, lane, reg, j);
                        let register = &files[warp as usize][slots[reg as usize] as usize];
                        let want = ty.value(extract(register, ty.bits(), lane as usize, j));
                        assert_eq!(panel.value(row as usize, k as usize).to_bits(), want.to_bits());
                    }
                }
            }
        }
    }
}

#[test]
fn tensor_wgmma_kinds() {
    let kind = parse("m64n128k16.f32.bf16.bf16").unwrap();
    assert_eq!((kind.n, kind.k(), kind.d_regs(), kind.has_trans(), kind.has_scale()), (128, 16, 64, true, true));
    assert_eq!(parse("m64n128k32.f16.e4m3.e4m3").unwrap().d_regs(), 32);
    assert!(parse("m64n256k32.satfinite.s32.s8.s8").unwrap().satfinite);
    assert_eq!(parse("m64n8k32.s32.s8.s8.satfinite"), parse("m64n8k32.satfinite.s32.s8.s8"));
    for text in [
        "m64n12k16.f32.f16.f16",
        "m64n264k16.f32.f16.f16",
        "m64n0k16.f32.f16.f16",
        "m64n40k32.s32.s8.s8",
        "m64n64k8.f32.f16.f16",
        "m64n64k16.f32.f16.bf16",
        "m64n64k16.f16.bf16.bf16",
        "m64n64k16.f32.s8.s8",
        "m64n64k8.satfinite.f32.tf32.tf32",
        "m64n64k64.s32.s4.s4",
        "m64n64k256.s32.b1.b1.and.popc",
        "m128n64k16.f32.f16.f16",
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    let sparse = WgmmaKind::parse(&["mma_async", "sp", "sync", "aligned", "m64n8k32", "f32", "f16", "f16"]);
    assert!(sparse.unwrap_err().to_string().contains("sparse"));
}

#[test]
fn tensor_wgmma_checks_its_operands() {
    let mut random = Random(23);
    let kind = parse("m64n8k16.f32.f16.f16").unwrap();
    let (a, b) = (panel(&mut random, kind.a, 64), panel(&mut random, kind.b, 8));
    let scale = Scale { d: true, negate_a: false, negate_b: false };
    let mut files = vec![vec![[0; 32]; 4]; 4];
    let mut call = |a: &Panel, b: &Panel, slots: &[u32]| {
        let [w0, w1, w2, w3] = &mut files[..] else { unreachable!() };
        wgmma(&kind, Arithmetic::Fast, a, b, scale, Accumulators { files: [w0, w1, w2, w3], slots })
    };
    assert_eq!(call(&a, &b, &[0, 1, 2, 3]), Ok(()));
    assert!(matches!(call(&a, &b, &[0, 1, 2]), Err(WgmmaError::RegisterCount { want: 4, got: 3, .. })));
    assert!(matches!(call(&a, &b, &[0, 1, 2, 4]), Err(WgmmaError::Slot { slot: 4, warp: 0, registers: 4 })));
    assert!(matches!(call(&b, &b, &[0, 1, 2, 3]), Err(WgmmaError::PanelShape { operand: 'a', .. })));
    let other = panel(&mut random, ElementType::Bf16, 8);
    assert!(matches!(call(&a, &other, &[0, 1, 2, 3]), Err(WgmmaError::PanelShape { operand: 'b', .. })));
    assert!(matches!(call(&Panel::new(), &b, &[0, 1, 2, 3]), Err(WgmmaError::PanelShape { got: None, .. })));
}
