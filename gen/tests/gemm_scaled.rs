//! `gen run gemm` on 8-bit operands with scales, against sums in f64 of what the codes mean; and what is refused.

use crate::common::*;
use safetensors::tensor::Dtype;
use tilewright_runtime::fp8::Fp8;

struct Case {
    target: &'static str,
    dtype: Dtype,
    /// None: a's.
    b_dtype: Option<Dtype>,
    /// Batch, m, n, k.
    shape: [usize; 4],
    a_scale: &'static str,
    b_scale: &'static str,
    set: &'static [&'static str],
}

type Named = (&'static str, Dtype, Vec<usize>, Vec<u8>);

fn codes(dtype: Dtype, n: usize, seed: u64) -> (Vec<u8>, Vec<f64>) {
    let fp8 = |f: Fp8, scale: f64| {
        let codes: Vec<u8> = random(n, seed).iter().map(|x| f.encode(scale * x)).collect();
        let values = codes.iter().map(|c| f.decode(*c).into()).collect();
        (codes, values)
    };
    match dtype {
        Dtype::F8_E4M3 => fp8(Fp8::E4M3, 448.0),
        Dtype::F8_E5M2 => fp8(Fp8::E5M2, 8.0),
        _ => random(n, seed).iter().map(|x| (127.0 * x).round()).map(|x| (x as i8 as u8, x)).unzip(),
    }
}

fn f32s(v: &[f64]) -> Vec<u8> {
    v.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect()
}

/// A tensor of factors, and the factor of each row and k.
fn scale(name: &'static str, kind: &str, [batch, rows, k]: [usize; 3], block: usize, seed: u64) -> (Option<Named>, Vec<f64>) {
    let (nb, kb) = (rows.div_ceil(block), k.div_ceil(128));
    let shape = match kind {
        "none" => return (None, vec![1.0; batch * rows * k]),
        "tensor" => vec![1],
        "row" => vec![rows],
        "led" => vec![batch, rows],
        _ => vec![nb, kb],
    };
    let values: Vec<f64> = random(shape.iter().product(), seed).iter().map(|x| f64::from(((1.1 + x) / 300.0) as f32)).collect();
    let each = (0..batch * rows * k).map(|i| {
        let (z, row, at) = (i / k / rows, i / k % rows, i % k);
        match kind {
            "tensor" => values[0],
            "row" => values[row],
            "led" => values[z * rows + row],
            _ => values[row / block * kb + at / 128],
        }
    });
    let each = each.collect();
    (Some((name, Dtype::F32, shape, f32s(&values))), each)
}

fn run(tensors: &[Named], set: &[&str], folder: &std::path::Path, target: &str) -> std::process::Output {
    let (input, output) = (folder.join("in"), folder.join("out"));
    save(&input, tensors);
    let (i, o) = (input.to_str().unwrap(), output.to_str().unwrap());
    let mut args = vec!["run", "gemm", "--target", target, "--input", i, "--output", o];
    args.extend(set.iter().flat_map(|s| ["--set", s]));
    gen_in(&root(), &args)
}

fn check(c: &Case) {
    let [batch, m, n, k] = c.shape;
    let name = format!("{:?} {:?} {} {} {:?}", c.dtype, c.shape, c.a_scale, c.b_scale, c.set);
    let swiglu = c.set.contains(&"act=swiglu");
    let wide = if swiglu { 2 * n } else { n };
    let kn = c.set.contains(&"b=kn");
    let (a, a_values) = codes(c.dtype, batch * m * k, 1);
    let b_dtype = c.b_dtype.unwrap_or(c.dtype);
    let (b, b_values) = codes(b_dtype, batch * wide * k, 2);
    let b_file: Vec<u8> = if kn {
        (0..batch * wide * k)
            .map(|i| (i / (k * wide), i / wide % k, i % wide))
            .map(|(z, j, r)| b[(z * wide + r) * k + j])
            .collect()
    } else {
        b
    };
    let led = |shape: [usize; 2]| if batch > 1 { vec![batch, shape[0], shape[1]] } else { shape.to_vec() };
    let b_shape = if kn { [k, wide] } else { [wide, k] };
    let mut tensors = vec![("a", c.dtype, led([m, k]), a), ("b", b_dtype, led(b_shape), b_file)];
    let (a_scale, a_factors) = scale("a_scale", c.a_scale, [batch, m, k], 1, 3);
    let (b_scale, b_factors) = scale("b_scale", c.b_scale, [batch, wide, k], 128, 4);
    tensors.extend(a_scale.into_iter().chain(b_scale));
    let dir = tempfile::tempdir().unwrap();
    let out = run(&tensors, c.set, dir.path(), c.target);
    assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
    let (shape, d) = load(&dir.path().join("out"), "d");
    assert_eq!(shape, led([m, n]), "{name}");
    let step = if c.set.contains(&"out=e4m3") { 2f64.powi(-4) } else { 2f64.powi(-8) };
    for (i, d) in d.iter().enumerate() {
        let (z, row, col) = (i / n / m, i / n % m, i % n);
        let dot = |col: usize| {
            let (x, y) = ((z * m + row) * k, (z * wide + col) * k);
            (0..k).fold((0.0, 0.0), |(s, size), j| {
                let t = a_values[x + j] * a_factors[x + j] * b_values[y + j] * b_factors[y + j];
                (s + t, size + t.abs())
            })
        };
        let (x, size) = dot(col);
        let (want, slack) = if swiglu {
            let (up, up_size) = dot(n + col);
            let gate = x / (1.0 + (-x).exp());
            (gate * up, size * up_size * 2f64.powi(-18))
        } else {
            (x, size * 2f64.powi(-20))
        };
        let bound = want.abs() * step + slack + if step > 0.01 { 2f64.powi(-10) } else { 0.0 };
        assert!((d - want).abs() <= bound, "{name}: [{z}, {row}, {col}] is {d}, not {want} within {bound:e}");
    }
}

const PLAIN: Case = Case {
    target: "sm90",
    b_dtype: None,
    dtype: Dtype::F8_E4M3,
    shape: [1, 1, 1, 1],
    a_scale: "tensor",
    b_scale: "tensor",
    set: &[],
};

#[test]
fn scales_of_every_kind_and_any_sizes() {
    for (a_scale, b_scale, shape) in [
        ("tensor", "tensor", [1, 1, 1, 1]),
        ("row", "row", [1, 3, 129, 100]),
        ("block", "block", [1, 8, 130, 261]),
        ("none", "row", [1, 65, 7, 272]),
        ("block", "row", [2, 5, 40, 144]),
        ("row", "led", [2, 9, 33, 48]),
    ] {
        check(&Case { a_scale, b_scale, shape, ..PLAIN });
    }
    check(&Case { b_dtype: Some(Dtype::F8_E5M2), a_scale: "row", b_scale: "block", shape: [1, 7, 20, 150], ..PLAIN });
    check(&Case { dtype: Dtype::F8_E5M2, a_scale: "row", b_scale: "row", shape: [1, 17, 31, 77], ..PLAIN });
}

#[test]
fn long_k_that_is_no_multiple_of_16_and_split_k() {
    check(&Case { a_scale: "block", b_scale: "block", shape: [1, 3, 65, 3884], ..PLAIN });
    for (a_scale, b_scale) in [("row", "row"), ("block", "block")] {
        check(&Case { a_scale, b_scale, shape: [1, 8, 72, 2880], set: &["split_k=3"], ..PLAIN });
    }
    check(&Case { dtype: Dtype::I8, a_scale: "row", b_scale: "row", shape: [1, 8, 72, 1000], set: &["split_k=2"], ..PLAIN });
}

#[test]
fn epilogues_layouts_and_outputs() {
    for (dtype, a_scale, b_scale, set) in [
        (Dtype::F8_E4M3, "block", "block", &["act=swiglu"][..]),
        (Dtype::F8_E4M3, "row", "row", &["b=kn"]),
        (Dtype::F8_E4M3, "row", "row", &["out=e4m3"]),
        (Dtype::I8, "row", "row", &["act=swiglu", "out=f32"]),
        (Dtype::I8, "row", "tensor", &["b=kn"]),
        (Dtype::I8, "none", "none", &["out=i32"]),
    ] {
        check(&Case { dtype, a_scale, b_scale, set, shape: [1, 18, 101, 180], ..PLAIN });
    }
}

#[test]
fn integers_on_ampere() {
    for (shape, a_scale, b_scale, set) in [
        ([1, 33, 70, 208], "row", "row", &[][..]),
        ([2, 3, 9, 77], "tensor", "led", &["act=swiglu"]),
        ([1, 5, 130, 1000], "row", "row", &["split_k=3"]),
        ([1, 17, 20, 36], "none", "none", &["out=i32"]),
    ] {
        check(&Case { target: "sm80", dtype: Dtype::I8, shape, a_scale, b_scale, set, ..PLAIN });
    }
}

/// Codes and factors of a quantised output mean what the same run gives in f32, half a code off at the most.
#[test]
fn a_quantised_output_and_its_factors() {
    let (m, n, k) = (20, 200, 96);
    let (a, _) = codes(Dtype::F8_E4M3, m * k, 1);
    let (b, _) = codes(Dtype::F8_E4M3, n * k, 2);
    let tensors = [("a", Dtype::F8_E4M3, vec![m, k], a), ("b", Dtype::F8_E4M3, vec![n, k], b)];
    let [whole, quant] = [&["out=f32"][..], &["out=e4m3", "quant=128"]].map(|set| {
        let dir = tempfile::tempdir().unwrap();
        let out = run(&tensors, set, dir.path(), "sm90");
        assert!(out.status.success(), "{set:?}: {}", String::from_utf8_lossy(&out.stderr));
        dir
    });
    let file = |dir: &tempfile::TempDir, name| load(&dir.path().join("out"), name);
    let (exact, d) = (file(&whole, "d").1, file(&quant, "d"));
    let (shape, scale) = file(&quant, "d_scale");
    assert_eq!((d.0, shape), (vec![m, n], vec![m, 2]));
    for (i, (code, x)) in d.1.iter().zip(&exact).enumerate() {
        let s = scale[i / n * 2 + i % n / 128];
        assert!((code * s - x).abs() <= (x.abs() * 2f64.powi(-4)).max(s * 2f64.powi(-10)) * 1.001, "{i}: {code} * {s} and {x}");
    }
}

#[test]
fn quantisers() {
    let (m, k) = (9, 300);
    let x: Vec<f64> = random(m * k, 3);
    for (set, block, dtype, top) in [
        (&[][..], k, Dtype::F8_E4M3, 448.0),
        (&["to=e4m3", "block=128"], 128, Dtype::F8_E4M3, 448.0),
        (&["to=int8"], k, Dtype::I8, 127.0),
        (&["to=int8", "block=128"], 128, Dtype::I8, 127.0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (input, output) = (dir.path().join("in"), dir.path().join("out"));
        save(&input, &[("x", Dtype::BF16, vec![m, k], bf16_bytes(&x))]);
        let mut args = vec!["run", "quantize", "--target", "sm90", "--input", input.to_str().unwrap()];
        args.extend(["--output", output.to_str().unwrap()]);
        args.extend(set.iter().flat_map(|s| ["--set", s]));
        let out = gen_in(&root(), &args);
        assert!(out.status.success(), "{set:?}: {}", String::from_utf8_lossy(&out.stderr));
        let ((shape, q), (scale_shape, scale)) = (load(&output, "q"), load(&output, "scale"));
        let blocks = k.div_ceil(block);
        assert_eq!((shape, scale_shape), (vec![m, k], if block == k { vec![m] } else { vec![m, blocks] }));
        let whole = &x;
        for (i, (q, x)) in q.iter().zip(whole).enumerate() {
            let (row, at) = (i / k, i % k / block);
            let part = &whole[row * k + at * block..row * k + (at * block + block).min(k)];
            let amax = part.iter().fold(0.0f64, |a, v| a.max(v.abs()));
            let s = scale[row * blocks + at];
            assert!((s - amax / top).abs() <= s * 1e-7, "{set:?} {i}");
            let half = if dtype == Dtype::I8 { 0.5 * s } else { (x.abs() * 2f64.powi(-4)).max(s * 2f64.powi(-10)) };
            assert!((q * s - x).abs() <= half * 1.00001, "{set:?} {i}: {q} * {s} and {x}");
        }
    }
    let refused = |x: Named, set: &[&str], target: &str, word: &str| {
        let dir = tempfile::tempdir().unwrap();
        let (input, output) = (dir.path().join("in"), dir.path().join("out"));
        save(&input, &[x]);
        let mut args = vec!["run", "quantize", "--target", target, "--input", input.to_str().unwrap()];
        args.extend(["--output", output.to_str().unwrap()]);
        args.extend(set.iter().flat_map(|s| ["--set", s]));
        let (code, line) = outcome(&gen_in(&root(), &args));
        assert!(code == 2 && line.contains(word), "{code}: {line}");
    };
    let zeros = |shape: &[usize]| ("x", Dtype::BF16, shape.to_vec(), vec![0; 2 * shape.iter().product::<usize>()]);
    refused(zeros(&[4, 8]), &["to=e5m2"], "sm90", "to = `e5m2`: expected e4m3 or int8");
    refused(zeros(&[4, 8]), &["block=64"], "sm90", "block = `64`: expected row or 128");
    refused(zeros(&[4, 8, 2]), &[], "sm90", "expected [m, k]");
    refused(zeros(&[4, 8]), &[], "sm80", "need sm89");
}

#[test]
fn what_does_not_fit_is_named() {
    let bytes = |name, dtype, shape: &[usize]| (name, dtype, shape.to_vec(), vec![0x38; shape.iter().product()]);
    let scale = |name, shape: &[usize], v: f64| (name, Dtype::F32, shape.to_vec(), f32s(&vec![v; shape.iter().product()]));
    let ok = || vec![bytes("a", Dtype::F8_E4M3, &[4, 256]), bytes("b", Dtype::F8_E4M3, &[8, 256])];
    let refused = |tensors: Vec<Named>, set: &[&str], target: &str, words: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let out = run(&tensors, set, dir.path(), target);
        let (code, line) = outcome(&out);
        assert_eq!(code, 2, "{line}");
        for w in words {
            assert!(line.contains(w), "`{w}` is not in: {line}");
        }
        assert_eq!(String::from_utf8_lossy(&out.stderr).lines().count(), 1);
        assert!(!dir.path().join("out").exists());
    };
    let with = |t: Named| [ok(), vec![t]].concat();
    refused(with(scale("a_scale", &[3], 1.0)), &[], "sm90", &["tensor `a_scale` is F32 [3]", "[1], [4], [4, 2]"]);
    refused(with(scale("b_scale", &[8, 2], 1.0)), &[], "sm90", &["tensor `b_scale` is F32 [8, 2]", "[1], [8], [1, 2]"]);
    refused(with(scale("a_scale", &[4], f64::NAN)), &[], "sm90", &["`a_scale`: element 0 is NaN"]);
    refused(with(scale("b_scale", &[1], f64::INFINITY)), &[], "sm90", &["`b_scale`: element 0 is inf"]);
    refused(with(("a_scale", Dtype::F16, vec![1], vec![0; 2])), &[], "sm90", &["`a_scale` is F16 [1]: expected F32"]);
    refused(ok(), &["quant=64", "out=e4m3"], "sm90", &["quant = `64`: expected 128"]);
    refused(ok(), &["quant=128"], "sm90", &["a quantised output is e4m3, not bf16"]);
    refused(ok(), &["quant=128", "out=e4m3", "split_k=2"], "sm90", &["split_k is 1"]);
    refused(ok(), &["out=i32"], "sm90", &["i32 is the output of i8 x i8 alone"]);
    refused(ok(), &[], "sm80", &["8-bit floats: only sm90's kernels multiply these, the target is sm_80"]);
    let mixed = vec![bytes("a", Dtype::F8_E4M3, &[4, 256]), bytes("b", Dtype::I8, &[8, 256])];
    refused(mixed, &[], "sm90", &["tensor `b` is I8 [8, 256]: expected a's dtype"]);
    let wide = |name, rows| (name, Dtype::BF16, vec![rows, 16], vec![0; rows * 32]);
    let scaled = vec![wide("a", 4), wide("b", 8), scale("a_scale", &[1], 1.0)];
    refused(scaled, &[], "sm90", &["tensor `a_scale`: only F8_E4M3, F8_E5M2 and I8 operands have scales"]);
    let ints = vec![bytes("a", Dtype::I8, &[4, 256]), bytes("b", Dtype::I8, &[8, 256])];
    refused(ints, &["out=i32", "alpha=2"], "sm90", &["key `alpha`: out=i32 gives the sums as they are"]);
    let long = vec![bytes("a", Dtype::I8, &[1, 131_072]), bytes("b", Dtype::I8, &[1, 131_072])];
    refused(long, &[], "sm90", &["k = 131072: sums of more than 131071 products of I8 do not fit 32 bits"]);
    let batched =
        vec![bytes("a", Dtype::F8_E4M3, &[2, 2, 256]), bytes("b", Dtype::F8_E4M3, &[2, 8, 256]), scale("a_scale", &[2, 2], 1.0)];
    refused(batched, &[], "sm90", &["tensor `a_scale` is F32 [2, 2]", "give [batch, ..]"]);
}
