//! `cvt` as instructions, for every source of 16 bits or fewer, against plain Rust and tables built from the formats'
//! printed layouts.

mod common;

use common::kernel::{bytes32, module, run, words};

/// Runs an instruction from `%r1` (its low half also in `%h1`) to `%r4` or, for `half` results, `%h4`; all lanes.
fn apply(instruction: &str, half: bool, inputs: &[u32]) -> Vec<u32> {
    let body = format!(
        "ld.param.u64 %d1, [a];\nld.param.u64 %d2, [y];\nmov.u32 %r60, %tid.x;\nmov.u32 %r62, 0;\n\
         loop:\nmad.lo.s32 %r61, %r62, 1024, %r60;\n\
         mul.wide.u32 %d3, %r61, 4;\nadd.s64 %d4, %d1, %d3;\nadd.s64 %d5, %d2, %d3;\n\
         ld.global.b32 %r1, [%d4];\ncvt.u16.u32 %h1, %r1;\n{instruction}\n{}st.global.b32 [%d5], %r4;\n\
         add.s32 %r62, %r62, 1;\nsetp.lt.u32 %p1, %r62, {};\n@%p1 bra loop;\nret;",
        if half { "cvt.u32.u16 %r4, %h4;\n" } else { "" },
        inputs.len() / 1024,
    );
    let (out, report) = run(&module("sm_100a", &["a", "y"], &body), 1024, &[bytes32(inputs), vec![0; 4 * inputs.len()]]);
    assert!(report.findings.is_empty(), "{instruction}: {:?}", report.findings);
    words(&out[1])
}

fn check(instruction: &str, half: bool, inputs: &[u32], want: impl Fn(u32) -> u32) {
    for (x, got) in inputs.iter().zip(apply(instruction, half, inputs)) {
        assert_eq!(got, want(*x), "{instruction} of {x:#x}: {got:#x}, expected {:#x}", want(*x));
    }
}

fn all_halves() -> Vec<u32> {
    (0..=0xffff).collect()
}

/// A format by its fields.
#[derive(Clone, Copy)]
struct Format {
    name: &'static str,
    exponent_bits: u32,
    mantissa_bits: u32,
    /// Codes of the largest value, of what overflows, and of NaN, without sign.
    max: u32,
    infinity: u32,
    nan: u32,
}

const F16: Format = Format { name: "f16", exponent_bits: 5, mantissa_bits: 10, max: 0x7bff, infinity: 0x7c00, nan: 0x7fff };
const BF16: Format = Format { name: "bf16", exponent_bits: 8, mantissa_bits: 7, max: 0x7f7f, infinity: 0x7f80, nan: 0x7fff };
const E4M3: Format = Format { name: "e4m3", exponent_bits: 4, mantissa_bits: 3, max: 0x7e, infinity: 0x7f, nan: 0x7f };
const E5M2: Format = Format { name: "e5m2", exponent_bits: 5, mantissa_bits: 2, max: 0x7b, infinity: 0x7c, nan: 0x7f };
const E3M2: Format = Format { name: "e3m2", exponent_bits: 3, mantissa_bits: 2, max: 0x1f, infinity: 0x1f, nan: 0x1f };
const E2M3: Format = Format { name: "e2m3", exponent_bits: 2, mantissa_bits: 3, max: 0x1f, infinity: 0x1f, nan: 0x1f };

impl Format {
    fn sign(self) -> u32 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    /// The value of a magnitude code up to `max`.
    fn magnitude(self, code: u32) -> f64 {
        let bias = (1 << (self.exponent_bits - 1)) - 1;
        let (field, mantissa) = (code >> self.mantissa_bits, code & ((1 << self.mantissa_bits) - 1));
        let significand = mantissa | if field > 0 { 1 << self.mantissa_bits } else { 0 };
        f64::from(significand) * 2f64.powi(field.max(1) as i32 - bias - self.mantissa_bits as i32)
    }

    fn value(self, code: u32) -> f64 {
        let magnitude = code & (self.sign() - 1);
        let value = match magnitude {
            m if m <= self.max => self.magnitude(m),
            m if m == self.infinity && m != self.nan => f64::INFINITY,
            _ => return f64::NAN,
        };
        if code & self.sign() != 0 { -value } else { value }
    }

    /// Rounds by walking between neighbours: "rn", "rz", "rm", "rp".
    fn round(self, x: f64, rounding: &str, satfinite: bool, relu: bool) -> u32 {
        if x.is_nan() {
            return self.nan;
        }
        if relu && x.is_sign_negative() {
            return 0;
        }
        let sign = if x.is_sign_negative() { self.sign() } else { 0 };
        let a = x.abs();
        let overflow = if satfinite { self.max } else { self.infinity };
        let signed = |code: u32| if code == self.nan && code != self.max { code } else { code | sign };
        if a.is_infinite() {
            return signed(overflow);
        }
        // The largest code not above a, by bisection.
        let (mut low, mut high) = (0, self.max + 1);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if self.magnitude(middle) <= a { low = middle } else { high = middle }
        }
        let below = self.magnitude(low);
        if below == a {
            return low | sign;
        }
        let above = if low == self.max { 2.0 * below - self.magnitude(low - 1) } else { self.magnitude(low + 1) };
        let up = match rounding {
            "rz" => false,
            "rm" => sign != 0,
            "rp" => sign == 0,
            _ => above - a < a - below || above - a == a - below && low & 1 == 1,
        };
        match (up, low == self.max) {
            (false, _) => low | sign,
            (true, true) => signed(overflow),
            (true, false) => (low + 1) | sign,
        }
    }
}

fn f32_bits(x: f64) -> u32 {
    if x.is_nan() { 0x7fff_ffff } else { (x as f32).to_bits() }
}

#[test]
fn every_half_widens() {
    let inputs = all_halves();
    check("cvt.f32.f16 %r4, %h1;", false, &inputs, |x| f32_bits(F16.value(x)));
    check("cvt.f32.bf16 %r4, %h1;", false, &inputs, |x| f32_bits(BF16.value(x)));
    check("cvt.f64.f16 %d9, %h1;\ncvt.rn.f32.f64 %r4, %d9;", false, &inputs, |x| f32_bits(F16.value(x)));
    check("cvt.sat.f32.f16 %r4, %h1;", false, &inputs, |x| {
        let x = F16.value(x);
        f32_bits(if x > 0.0 { x.min(1.0) } else { 0.0 })
    });
}

#[test]
fn every_half_rounds_to_an_integral_half() {
    let inputs = all_halves();
    type Round = fn(f64) -> f64;
    let modes: [(&str, Round); 4] = [("rni", f64::round_ties_even), ("rzi", f64::trunc), ("rmi", f64::floor), ("rpi", f64::ceil)];
    for (mode, round) in modes {
        check(&format!("cvt.{mode}.f16.f16 %h4, %h1;"), true, &inputs, |x| F16.round(round(F16.value(x)), "rn", false, false));
        for (name, low, high) in [
            ("s8", -128.0, 127.0),
            ("u8", 0.0, 255.0),
            ("s16", -32768.0, 32767.0),
            ("u16", 0.0, 65535.0),
            ("s32", f64::from(i32::MIN), f64::from(i32::MAX)),
            ("u32", 0.0, f64::from(u32::MAX)),
        ] {
            let narrow = !name.ends_with("32");
            let target = if narrow { "%h4" } else { "%r4" };
            let want = |value: f64| {
                let clamped = if value.is_nan() { 0.0 } else { round(value).clamp(low, high) };
                let bits = clamped as i64 as u32;
                if narrow { bits & 0xffff } else { bits }
            };
            check(&format!("cvt.{mode}.{name}.f16 {target}, %h1;"), narrow, &inputs, |x| want(F16.value(x)));
            check(&format!("cvt.{mode}.{name}.bf16 {target}, %h1;"), narrow, &inputs, |x| want(BF16.value(x)));
        }
    }
}

#[test]
fn every_short_integer_becomes_a_float() {
    let inputs = all_halves();
    for rounding in ["rn", "rz", "rm", "rp"] {
        for format in [F16, BF16] {
            let name = format.name;
            check(&format!("cvt.{rounding}.{name}.u16 %h4, %h1;"), true, &inputs, |x| {
                format.round(f64::from(x), rounding, false, false)
            });
            check(&format!("cvt.{rounding}.{name}.s16 %h4, %h1;"), true, &inputs, |x| {
                format.round(f64::from(x as i16), rounding, false, false)
            });
        }
        check(&format!("cvt.{rounding}.f32.u16 %r4, %h1;"), false, &inputs, |x| (x as f32).to_bits());
        check(&format!("cvt.{rounding}.f32.s16 %r4, %h1;"), false, &inputs, |x| f32::from(x as i16).to_bits());
    }
}

/// Every f16 and bf16, their midpoints to the next, and the f32 on either side of both.
fn around_halves() -> Vec<u32> {
    let mut inputs = Vec::new();
    for code in 0..=0xffff {
        let f16 = half::f16::from_bits(code as u16).to_f32().to_bits();
        for exact in [f16, f16.wrapping_add(0x1000), code << 16, code << 16 | 0x8000] {
            inputs.extend([exact, exact.wrapping_add(1), exact.wrapping_sub(1)]);
        }
    }
    inputs.resize(inputs.len().next_multiple_of(1024), 0);
    inputs
}

#[test]
fn f32_narrows_to_halves_in_every_mode() {
    let inputs = around_halves();
    for format in [F16, BF16] {
        for rounding in ["rn", "rz"] {
            for (modifier, satfinite, relu) in
                [("", false, false), (".relu", false, true), (".satfinite", true, false), (".relu.satfinite", true, true)]
            {
                let name = format.name;
                let instruction = format!("cvt.{rounding}{modifier}.{name}.f32 %h4, %r1;");
                check(&instruction, true, &inputs, |x| format.round(f32::from_bits(x).into(), rounding, satfinite, relu));
            }
        }
    }
    for rounding in ["rm", "rp"] {
        let instruction = format!("cvt.{rounding}.f16.f32 %h4, %r1;");
        check(&instruction, true, &inputs, |x| F16.round(f32::from_bits(x).into(), rounding, false, false));
    }
}

#[test]
fn pairs_narrow_with_the_first_source_high() {
    let inputs: Vec<u32> = around_halves().into_iter().step_by(3).collect();
    let inputs = &inputs[..inputs.len() / 1024 * 1024];
    // The second source is the first one's bits turned around.
    let other = |x: u32| x.rotate_left(16);
    let pair =
        |x: u32, bits: u32, f: &dyn Fn(f64) -> u32| f(f32::from_bits(x).into()) << bits | f(f32::from_bits(other(x)).into());
    let turn = "shf.l.wrap.b32 %r2, %r1, %r1, 16;\n";
    for format in [E4M3, E5M2, E3M2, E2M3] {
        for (modifier, relu) in [("", false), (".relu", true)] {
            let name = format.name;
            let instruction = format!("{turn}cvt.rn.satfinite{modifier}.{name}x2.f32 %h4, %r1, %r2;");
            check(&instruction, true, inputs, |x| pair(x, 8, &|v| format.round(v, "rn", true, relu)));
        }
    }
    for format in [F16, BF16] {
        for (modifier, satfinite, relu) in [("", false, false), (".relu", false, true), (".satfinite", true, false)] {
            for rounding in ["rn", "rz"] {
                let instruction = format!("{turn}cvt.{rounding}{modifier}.{}x2.f32 %r4, %r1, %r2;", format.name);
                check(&instruction, false, inputs, |x| pair(x, 16, &|v| format.round(v, rounding, satfinite, relu)));
            }
        }
    }
}

#[test]
fn every_pair_of_narrow_floats_widens() {
    let inputs = all_halves();
    for format in [E4M3, E5M2, E3M2, E2M3] {
        for (modifier, relu) in [("", false), (".relu", true)] {
            let element = |code: u32| F16.round(format.value(code), "rn", false, relu);
            let instruction = format!("cvt.rn{modifier}.f16x2.{}x2 %r4, %h1;", format.name);
            check(&instruction, false, &inputs, |x| element(x >> 8) << 16 | element(x & 0xff));
        }
    }
}

#[test]
fn every_half_narrows_to_a_pair() {
    let inputs: Vec<u32> = all_halves().into_iter().map(|x| x << 16 | x.rotate_left(8) & 0xffff ^ x & 0x80).collect();
    for format in [E4M3, E5M2] {
        for (modifier, relu) in [("", false), (".relu", true)] {
            let element = |code: u32| format.round(F16.value(code), "rn", true, relu);
            let instruction = format!("cvt.rn.satfinite{modifier}.{}x2.f16x2 %h4, %r1;", format.name);
            check(&instruction, true, &inputs, |x| element(x >> 16) << 8 | element(x & 0xffff));
        }
    }
}

/// Powers of two only: the exponent of a bf16.
#[test]
fn scale_factors_are_exponents() {
    let inputs = all_halves();
    check("cvt.rn.bf16x2.ue8m0x2 %r4, %h1;", false, &inputs, |x| {
        let element = |code: u32| match code {
            0xff => 0x7fff,
            0 => 0x0040,
            code => code << 7,
        };
        element(x >> 8) << 16 | element(x & 0xff)
    });
    let inputs: Vec<u32> = inputs.into_iter().map(|x| x << 16 | 1).collect();
    for (rounding, up) in [("rz", 0), ("rp", 1)] {
        let instruction = format!("mov.b32 %r2, 0f3F800000;\ncvt.{rounding}.satfinite.ue8m0x2.f32 %h4, %r1, %r2;");
        check(&instruction, true, &inputs, |x| {
            let (field, rest) = (x >> 23 & 0xff, x & 0x7f_ffff);
            let code = match field {
                0xff if rest != 0 => 0xff,
                // Below 2^-127 there is nothing but that power.
                0 if rest < 1 << 22 => 0,
                0 => u32::from(up == 1 && rest > 1 << 22),
                _ => (field + up).min(0xfe),
            };
            code << 8 | 0x7f
        });
    }
}
