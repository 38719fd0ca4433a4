use super::Random;
use crate::tensor::convert::*;

use FloatFormat::*;

const ROUNDINGS: [Rounding; 5] = [Rounding::Rn, Rounding::Rz, Rounding::Rm, Rounding::Rp, Rounding::Rna];

/// (format, exponent bits, mantissa bits, largest value) of PTX ISA 5.2.3.
const FORMATS: [(FloatFormat, u32, u32, f64); 7] = [
    (F16, 5, 10, 65504.0),
    (Bf16, 8, 7, 3.3895313892515355e38),
    (E5m2, 5, 2, 57344.0),
    (E4m3, 4, 3, 448.0),
    (E3m2, 3, 2, 28.0),
    (E2m3, 2, 3, 7.5),
    (E2m1, 2, 1, 6.0),
];

/// (-1)^s * 2^(e - bias) * 1.m, or 0.m for e = 0: what a finite code means.
fn printed_value(exponent_bits: u32, mantissa_bits: u32, code: u32) -> f64 {
    let bias = (1 << (exponent_bits - 1)) - 1;
    let mantissa = (code % (1 << mantissa_bits)) as f64 / (1 << mantissa_bits) as f64;
    let exponent = (code >> mantissa_bits) % (1 << exponent_bits);
    let sign = if code >> (mantissa_bits + exponent_bits) & 1 == 1 { -1.0 } else { 1.0 };
    match exponent {
        0 => sign * mantissa * 2f64.powi(1 - bias),
        e => sign * (1.0 + mantissa) * 2f64.powi(e as i32 - bias),
    }
}

#[test]
fn tensor_decode_every_narrow_code() {
    for (format, exponent_bits, mantissa_bits, max) in FORMATS {
        let sign = 1 << (exponent_bits + mantissa_bits);
        assert_eq!(f64::from(format.max_finite()), max, "{format:?}");
        for code in 0..2 * sign {
            let want = printed_value(exponent_bits, mantissa_bits, code);
            let got = format.decode(code);
            if want.abs() <= max {
                assert_eq!(f64::from(got).to_bits(), want.to_bits(), "{format:?} {code:#x}");
                let flushed = if got == 0.0 { code & sign } else { code };
                assert_eq!(format.encode_f32(got, Options::default()), flushed, "{format:?} {code:#x}");
            } else if matches!(format, F16 | Bf16 | E5m2) && code % (1 << mantissa_bits) == 0 {
                assert_eq!(got, if code & sign == 0 { f32::INFINITY } else { f32::NEG_INFINITY });
                assert_eq!(format.encode_f32(got, Options::default()), code);
            } else {
                assert_eq!(got.to_bits(), 0x7fff_ffff, "{format:?} {code:#x}");
                assert_eq!(format.encode_f32(got, Options::default()), sign - 1);
            }
        }
    }
    for code in 0..=u16::MAX {
        let half = half::f16::from_bits(code).to_f32();
        assert!(F16.decode(code.into()) == half || half.is_nan());
    }
    assert_eq!((E4m3.decode(0x7f).is_nan(), E4m3.decode(0xff).is_nan(), E4m3.decode(0x7e)), (true, true, 448.0));
    assert_eq!([0, 127, 254].map(|code| Ue8m0.decode(code)), [2f32.powi(-127), 1.0, 2f32.powi(127)]);
}

/// Rounds by searching the table of magnitudes, whose last row stands for overflow.
fn search(magnitudes: &[f64], x: f64, rounding: Rounding) -> usize {
    let a = x.abs();
    let above = magnitudes.partition_point(|m| *m <= a);
    if above == magnitudes.len() {
        return match rounding {
            Rounding::Rz => above - 2,
            Rounding::Rm if x > 0.0 => above - 2,
            Rounding::Rp if x < 0.0 => above - 2,
            _ => above - 1,
        };
    }
    let below = above - 1;
    if magnitudes[below] == a {
        return below;
    }
    let (down, up) = (a - magnitudes[below], magnitudes[above] - a);
    let nearest = |tie| {
        if down == up {
            tie
        } else if down < up {
            below
        } else {
            above
        }
    };
    match rounding {
        Rounding::Rn => nearest(if below % 2 == 0 { below } else { above }),
        Rounding::Rna => nearest(above),
        Rounding::Rz => below,
        Rounding::Rm => {
            if x < 0.0 {
                above
            } else {
                below
            }
        }
        Rounding::Rp => {
            if x < 0.0 {
                below
            } else {
                above
            }
        }
    }
}

/// Inputs around everything that matters to a format: its values, the midpoints, and their f64 and f32 neighbours.
fn probes(magnitudes: &[f64]) -> Vec<f64> {
    let mut probes = vec![f64::from(f32::MAX), f64::MIN_POSITIVE, 1e-320, 1e300];
    for pair in magnitudes.windows(2) {
        let middle = (pair[0] + pair[1]) / 2.0;
        for x in [pair[0], pair[0] * 0.75 + pair[1] * 0.25, middle, pair[1]] {
            probes.extend([x, x.next_up(), x.next_down().max(0.0)]);
        }
    }
    probes
}

#[test]
fn tensor_encode_is_nearest_by_search() {
    for (format, exponent_bits, mantissa_bits, max) in FORMATS {
        let sign = 1u32 << (exponent_bits + mantissa_bits);
        let mut magnitudes: Vec<f64> =
            (0..sign).map(|code| printed_value(exponent_bits, mantissa_bits, code)).take_while(|m| *m <= max).collect();
        let last = magnitudes.len() - 1;
        magnitudes.push(2.0 * magnitudes[last] - magnitudes[last - 1]);
        let infinity = match format {
            F16 => 0x7c00,
            Bf16 => 0x7f80,
            E5m2 => 0x7c,
            E4m3 => 0x7f,
            _ => last as u32,
        };
        for magnitude in probes(&magnitudes) {
            for x in [magnitude, -magnitude] {
                for rounding in ROUNDINGS {
                    let code = search(&magnitudes, x, rounding);
                    let negative = if x.is_sign_negative() { sign } else { 0 };
                    let plain = match code > last {
                        // e4m3 has only one NaN that cvt produces.
                        true if format == E4m3 => infinity,
                        true => infinity | negative,
                        false => code as u32 | negative,
                    };
                    let saturated = code.min(last) as u32 | negative;
                    let options = Options::rounding(rounding);
                    assert_eq!(format.encode(x, options), plain, "{format:?} {x:e} {rounding:?}");
                    let satfinite = Options { satfinite: true, ..options };
                    assert_eq!(format.encode(x, satfinite), saturated, "{format:?} {x:e} {rounding:?} satfinite");
                    let relu = Options { relu: true, ..satfinite };
                    let want = if x.is_sign_negative() { 0 } else { saturated };
                    assert_eq!(format.encode(x, relu), want, "{format:?} {x:e} {rounding:?} relu");
                }
            }
        }
    }
}

#[test]
fn tensor_encode_special_inputs() {
    let plain = Options::default();
    let satfinite = Options { satfinite: true, ..plain };
    let relu = Options { relu: true, ..plain };
    let rows = [
        (F16, 0x7fff, 0x7c00, 0xfc00, 0x7bff),
        (Bf16, 0x7fff, 0x7f80, 0xff80, 0x7f7f),
        (E5m2, 0x7f, 0x7c, 0xfc, 0x7b),
        (E4m3, 0x7f, 0x7f, 0x7f, 0x7e),
        (E3m2, 0x1f, 0x1f, 0x3f, 0x1f),
        (E2m3, 0x1f, 0x1f, 0x3f, 0x1f),
        (E2m1, 0x7, 0x7, 0xf, 0x7),
        (F32, 0x7fff_ffff, 0x7f80_0000, 0xff80_0000, 0x7f7f_ffff),
        (Tf32, 0x7fff_e000, 0x7f80_0000, 0xff80_0000, 0x7f7f_e000),
    ];
    for (format, nan, infinity, minus_infinity, max) in rows {
        for nan_input in [f64::NAN, -f64::NAN] {
            for options in [plain, satfinite, relu] {
                assert_eq!(format.encode(nan_input, options), nan, "{format:?}");
            }
        }
        assert_eq!(format.encode(f64::INFINITY, plain), infinity, "{format:?}");
        assert_eq!(format.encode(f64::NEG_INFINITY, plain), minus_infinity, "{format:?}");
        assert_eq!(format.encode(f64::INFINITY, satfinite), max, "{format:?}");
        assert_eq!(format.encode(f64::NEG_INFINITY, relu), 0, "{format:?}");
        assert_eq!(format.encode(-0.0, relu), 0, "{format:?}");
    }
}

#[test]
fn tensor_tf32_rounds_off_thirteen_bits() {
    let mut random = Random(1);
    for _ in 0..200_000 {
        let x = f32::from_bits(random.next());
        if !x.is_finite() {
            continue;
        }
        let bits = x.to_bits();
        let (down, rest) = (bits & !0x1fff, bits & 0x1fff);
        let away = down + 0x2000;
        let want = |rounding| match rounding {
            Rounding::Rz => down,
            Rounding::Rna => {
                if rest >= 0x1000 {
                    away
                } else {
                    down
                }
            }
            _ => {
                if rest > 0x1000 || rest == 0x1000 && bits >> 13 & 1 == 1 {
                    away
                } else {
                    down
                }
            }
        };
        for rounding in [Rounding::Rn, Rounding::Rz, Rounding::Rna] {
            assert_eq!(Tf32.encode_f32(x, Options::rounding(rounding)), want(rounding), "{x:e} {rounding:?}");
        }
    }
    assert_eq!(Tf32.decode(0x3f80_1fff), 1.0);
}

#[test]
fn tensor_f32_sources_agree_with_half() {
    let mut random = Random(2);
    for _ in 0..300_000 {
        let x = f32::from_bits(random.next());
        if x.is_nan() {
            continue;
        }
        // The general path, which encode_f32 shortcuts.
        assert_eq!(F16.encode(x.into(), Options::default()), half::f16::from_f32(x).to_bits().into());
        assert_eq!(Bf16.encode(x.into(), Options::default()), half::bf16::from_f32(x).to_bits().into());
        assert_eq!(F32.encode(x.into(), Options::default()), x.to_bits());
    }
}

#[test]
fn tensor_f64_to_f32_brackets() {
    let mut random = Random(3);
    for i in 0..300_000 {
        let word = u64::from(random.next()) << 32 | u64::from(random.next());
        // Half of the inputs near the range of f32, where all the branches are.
        let exponent = (1023 - 160 + u64::from(random.next()) % 300) << 52;
        let x = f64::from_bits(if i % 2 == 0 { word } else { word & !(0x7ff << 52) | exponent });
        if x.is_nan() {
            continue;
        }
        let nearest = x as f32;
        assert_eq!(f64_to_f32(x, Options::default()).to_bits(), nearest.to_bits(), "{x:e}");
        let low = if f64::from(nearest) > x { nearest.next_down() } else { nearest };
        let high = if f64::from(nearest) < x { nearest.next_up() } else { nearest };
        let rounded = |rounding| f64_to_f32(x, Options::rounding(rounding));
        assert_eq!(rounded(Rounding::Rm), low, "{x:e}");
        assert_eq!(rounded(Rounding::Rp), high, "{x:e}");
        assert_eq!(rounded(Rounding::Rz), if x < 0.0 { high } else { low }, "{x:e}");
        let ftz = f64_to_f32(x, Options { ftz: true, ..Options::default() });
        assert_eq!(ftz.to_bits(), if nearest.is_subnormal() { 0f32.copysign(nearest) } else { nearest }.to_bits());
    }
    let subnormal = f32::from_bits(1);
    assert_eq!(Bf16.encode_f32(subnormal, Options { ftz: true, rounding: Rounding::Rp, ..Options::default() }), 0);
    assert_eq!(Bf16.encode_f32(subnormal, Options::rounding(Rounding::Rp)), 1);
}

#[test]
fn tensor_ue8m0_is_the_exponent() {
    for code in 0..0xff_u32 {
        let power = 2f64.powi(code as i32 - 127);
        for (rounding, between) in [(Rounding::Rz, code), (Rounding::Rp, code + 1)] {
            let options = Options { rounding, satfinite: true, ..Options::default() };
            assert_eq!(Ue8m0.encode(power, options), code);
            assert_eq!(Ue8m0.encode(power * 1.25, options), between.min(0xfe));
            assert_eq!(f64::from(Ue8m0.decode(code)), power);
        }
    }
    let rp = Options::rounding(Rounding::Rp);
    assert_eq!([f64::NAN, f64::INFINITY, 0.0, 1e-300].map(|x| Ue8m0.encode(x, rp)), [0xff, 0xff, 0, 0]);
}

#[test]
fn tensor_packs_put_the_first_source_high() {
    let plain = Options::default();
    assert_eq!(F16.pack(1.0, -2.0, plain), 0x3c00_c000);
    assert_eq!(F16.unpack(0x3c00_c000), [-2.0, 1.0]);
    assert_eq!(E4m3.pack(1.0, -2.0, plain), 0x38c0);
    assert_eq!(E2m1.pack(6.0, -0.5, plain), 0x79);
    assert_eq!(E2m1.unpack(0x79), [-0.5, 6.0]);
    assert_eq!(E3m2.pack(28.0, -28.0, plain), 0x1f3f);
}

/// Whether `got` is x rounded to an integer, told from distances alone.
fn rounds(x: f64, got: f64, rounding: Rounding) -> bool {
    let off = got - x;
    match rounding {
        Rounding::Rn => off.abs() < 0.5 || off.abs() == 0.5 && got % 2.0 == 0.0,
        Rounding::Rna => off.abs() < 0.5 || off.abs() == 0.5 && got.abs() > x.abs(),
        Rounding::Rz => off.abs() < 1.0 && got.abs() <= x.abs(),
        Rounding::Rm => off <= 0.0 && off > -1.0,
        Rounding::Rp => (0.0..1.0).contains(&off),
    }
}

#[test]
fn tensor_floats_to_integers() {
    let mut random = Random(4);
    for bits in [8, 16, 32, 64] {
        for signed in [false, true] {
            let to = IntType { bits, signed };
            let (low, high) = if signed {
                (-(2f64.powi(bits as i32 - 1)), 2f64.powi(bits as i32 - 1) - 1.0)
            } else {
                (0.0, 2f64.powi(bits as i32) - 1.0)
            };
            for i in 0..20_000 {
                let scale = 2f64.powi((random.next() % 70) as i32);
                let random_value = (f64::from(random.next()) / 2f64.powi(31) - 1.0) * scale;
                let x = if i % 3 == 0 { (random_value * 2.0).round() / 2.0 } else { random_value };
                for rounding in ROUNDINGS {
                    let raw = f64_to_int(x, to, rounding);
                    let value = if signed { (raw as i64) << (64 - bits) >> (64 - bits) } else { 0 };
                    let value = if signed { value as f64 } else { raw as f64 };
                    if value > low && value < high {
                        assert!(rounds(x, value, rounding), "{x} {rounding:?} -> {value}");
                    } else {
                        assert!(x <= low + 1.0 && value == low || x >= high - 1.0 && value == high, "{x} -> {value}");
                    }
                }
            }
            let top = 1u64 << (bits - 1);
            assert_eq!(f32_to_int(f32::NAN, to, Rounding::Rz), if bits == 64 { top } else { 0 });
            assert_eq!(f64_to_int(f64::NAN, to, Rounding::Rz), top);
            let max = if signed { top - 1 } else { u64::MAX >> (64 - bits) };
            assert_eq!(f32_to_int(f32::INFINITY, to, Rounding::Rn), max);
            assert_eq!(f32_to_int(f32::NEG_INFINITY, to, Rounding::Rn), if signed { top } else { 0 });
        }
    }
    assert_eq!(round_to_integral(2.5, Rounding::Rn), 2.0);
    assert_eq!(round_to_integral(-0.3, Rounding::Rp).to_bits(), (-0.0f64).to_bits());
    assert_eq!([f64::NAN, -1.0, 0.25, 7.0].map(saturate_unit), [0.0, 0.0, 0.25, 1.0]);
}

#[test]
fn tensor_integers_to_floats() {
    let mut random = Random(5);
    for _ in 0..200_000 {
        let word = u64::from(random.next()) << 32 | u64::from(random.next());
        let x = i128::from(word as i64 >> (random.next() % 64));
        let nearest = x as f32;
        assert_eq!(int_to_f32(x, Rounding::Rn), nearest);
        assert_eq!(int_to_f64(x, Rounding::Rn), x as f64);
        let low = if nearest as i128 > x { nearest.next_down() } else { nearest };
        let high = if (nearest as i128) < x { nearest.next_up() } else { nearest };
        assert_eq!(int_to_f32(x, Rounding::Rm), low);
        assert_eq!(int_to_f32(x, Rounding::Rp), high);
        assert_eq!(int_to_f32(x, Rounding::Rz), if x < 0 { high } else { low });
    }
    assert_eq!(int_to_f32(u64::MAX.into(), Rounding::Rz), (u64::MAX >> 40 << 40) as f32);
    for x in -70_000..70_000_i128 {
        assert_eq!(int_to_narrow(F16, x, Rounding::Rn), half::f16::from_f64(x as f64).to_bits().into());
        assert_eq!(int_to_narrow(Bf16, x, Rounding::Rn), half::bf16::from_f64(x as f64).to_bits().into());
    }
}
