//! `gen run gemm_grouped` against sums in f64: sorted, masked and gathered rows; and what it refuses.

use crate::common::*;
use half::bf16;
use safetensors::tensor::Dtype;

type Tensor = (&'static str, Dtype, Vec<usize>, Vec<u8>);

fn i32s(v: &[i32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// What a run left behind.
struct Ran {
    /// Exit status.
    code: i32,
    /// The last line of stderr.
    line: String,
    /// Shape and elements of d, where the run succeeded.
    d: Option<(Vec<usize>, Vec<f64>)>,
    report: serde_json::Value,
}

/// Runs the op on tensors.
fn run(target: &str, tensors: &[Tensor], set: &[&str]) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (input, output, report) = (path("in"), path("out"), path("report"));
    save(input.as_ref(), tensors);
    let mut args = vec!["run", "gemm_grouped", "--target", target, "--input", &input, "--output", &output, "--report", &report];
    set.iter().for_each(|s| args.extend(["--set", s]));
    let out = gen_in(&root(), &args);
    let (code, line) = outcome(&out);
    let d = (code == 0).then(|| load(output.as_ref(), "d"));
    assert!(code == 0 || !dir.path().join("out").exists(), "an output was written");
    let report = std::fs::read(&report).map_or(serde_json::Value::Null, |b| serde_json::from_slice(&b).unwrap());
    Ran { code, line, d, report }
}

struct Layer {
    counts: Vec<usize>,
    /// Rows there is room for in each expert's matrix; 0: the rows are sorted.
    max_m: usize,
    n: usize,
    k: usize,
    swiglu: bool,
    /// Rows that an index picks from.
    gather: Option<usize>,
    bias: bool,
    /// Weights are 4-bit codes in groups of this many.
    int4: Option<usize>,
}

impl Layer {
    /// The row of a that goes into row `i` of expert `e`; `None` for zeros.
    fn source(&self, e: usize, i: usize) -> Option<usize> {
        let sorted = self.counts[..e].iter().sum::<usize>() + i;
        match self.gather {
            Some(_) if sorted % 5 == 4 => None,
            Some(rows) => Some(sorted * 7 % rows),
            None if self.max_m > 0 => Some(e * self.max_m + i),
            None => Some(sorted),
        }
    }

    /// Runs it; gives the kernels that ran.
    fn check(&self, target: &str, set: &[&str]) -> String {
        let (e, tokens) = (self.counts.len(), self.counts.iter().sum::<usize>());
        let wide = if self.swiglu { 2 * self.n } else { self.n };
        let masked = self.max_m > 0;
        let rows = self.gather.unwrap_or(if masked { e * self.max_m } else { tokens });
        let (mut a, mut b, bias) = (random(rows * self.k, 1), random(e * wide * self.k, 2), random(e * wide, 3));
        if masked {
            // Nobody's rows must not be felt.
            for (expert, count) in self.counts.iter().enumerate() {
                let (from, to) = (expert * self.max_m + count, (expert + 1) * self.max_m);
                a[from * self.k..to * self.k].fill(f64::NAN);
            }
        }
        let shape = if masked { vec![e, self.max_m, self.k] } else { vec![rows, self.k] };
        let mut tensors = vec![("a", Dtype::BF16, shape, bf16_bytes(&a))];
        if let Some(group) = self.int4 {
            let groups = self.k / group;
            let code = |i: usize| (i * 7 + i / 13) % 16;
            let (scale, zero): (Vec<f64>, Vec<u8>) =
                (0..e * wide * groups).map(|i| ((1 + i * 5 % 31) as f64 / 128.0, (i * 3 % 16) as u8)).unzip();
            for (i, w) in b.iter_mut().enumerate() {
                let g = i / self.k * groups + i % self.k / group;
                *w = bf16::from_f64((code(i) as f64 - f64::from(zero[g])) * scale[g]).to_f64();
            }
            let q = (0..b.len()).step_by(2).map(|i| (code(i) | code(i + 1) << 4) as u8).collect();
            tensors.push(("q", Dtype::U8, vec![e, wide, self.k / 2], q));
            tensors.push(("scale", Dtype::BF16, vec![e, wide, groups], bf16_bytes(&scale)));
            tensors.push(("zero", Dtype::U8, vec![e, wide, groups], zero));
        } else {
            tensors.push(("b", Dtype::BF16, vec![e, wide, self.k], bf16_bytes(&b)));
        }
        if masked {
            let counts: Vec<i32> = self.counts.iter().map(|c| *c as i32).collect();
            tensors.push(("counts", Dtype::I32, vec![e], i32s(&counts)));
        } else {
            let ends: Vec<i32> = (0..=e).map(|i| self.counts[..i].iter().sum::<usize>() as i32).collect();
            tensors.push(("offsets", Dtype::I32, vec![e + 1], i32s(&ends)));
        }
        if self.bias {
            tensors.push(("bias", Dtype::BF16, vec![e, wide], bf16_bytes(&bias)));
        }
        if self.gather.is_some() {
            let index = (0..e).flat_map(|x| (0..self.counts[x]).map(move |i| self.source(x, i).map_or(-1, |row| row as i32)));
            tensors.push(("gather", Dtype::I32, vec![tokens], i32s(&index.collect::<Vec<_>>())));
        }
        let Ran { code, line, d, report } = run(target, &tensors, set);
        assert_eq!(code, 0, "{line}");
        assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{report}");
        let (shape, d) = d.unwrap();
        assert_eq!(shape, if masked { vec![e, self.max_m, self.n] } else { vec![tokens, self.n] });
        for expert in 0..e {
            for i in 0..self.counts[expert] {
                let row = if masked { expert * self.max_m + i } else { self.counts[..expert].iter().sum::<usize>() + i };
                let sum = |col: usize| -> f64 {
                    let w = &b[(expert * wide + col) * self.k..][..self.k];
                    let x =
                        self.source(expert, i).map_or(0.0, |s| a[s * self.k..][..self.k].iter().zip(w).map(|(x, w)| x * w).sum());
                    x + if self.bias { bias[expert * wide + col] } else { 0.0 }
                };
                for col in 0..self.n {
                    let x = sum(col);
                    let want = if self.swiglu { x / (1.0 + (-x).exp()) * sum(self.n + col) } else { x };
                    let found = d[row * self.n + col];
                    assert!(
                        (found - want).abs() <= want.abs() / 256.0 + 1e-4,
                        "expert {expert} row {i} col {col}: {found} {want}"
                    );
                }
            }
        }
        report["kernel"].to_string()
    }
}

const PLAIN: Layer = Layer { counts: Vec::new(), max_m: 0, n: 72, k: 136, swiglu: false, gather: None, bias: false, int4: None };

#[test]
fn sorted_masked_and_gathered_rows() {
    let counts = || vec![3, 0, 70, 1, 64];
    Layer { counts: counts(), ..PLAIN }.check("sm90", &[]);
    Layer { counts: counts(), max_m: 71, swiglu: true, bias: true, ..PLAIN }.check("sm90", &["act=swiglu"]);
    Layer { counts: counts(), gather: Some(9), ..PLAIN }.check("sm90", &[]);
    Layer { counts: counts(), bias: true, n: 37, k: 51, ..PLAIN }.check("sm90", &[]);
    Layer { counts: counts(), max_m: 70, n: 40, k: 64, ..PLAIN }.check("sm80", &[]);
    Layer { counts: vec![400], gather: Some(33), n: 33, k: 66, swiglu: true, ..PLAIN }.check("sm80", &["act=swiglu"]);
    let config = "config=kind=wgmma,bm=64,bn=64,bk=64,stages=3,wgs=2,schedule=pingpong,cluster=1x2,raster=4,n_align=8,split=0";
    Layer { counts: vec![1; 30], ..PLAIN }.check("sm90", &[config]);
}

#[test]
fn codes_of_experts_are_decoded_or_unpacked() {
    let int4 = |counts: Vec<usize>| Layer { counts, k: 128, int4: Some(32), ..PLAIN };
    let decodes = |ran: &str| ran.contains("_wwgmma_") || ran.contains("_w_mma_");
    let config = "config=kind=weight_wgmma,bm=16,bn=128,bk=128,stages=3,raster=8,n_align=8,stream=0";
    let ran = int4(vec![3, 0, 20, 1]).check("sm90", &["weight=int4", config]);
    assert!(ran.contains("_wwgmma_16x128_"), "{ran}");
    let ran = Layer { bias: true, ..int4(vec![3, 0, 20, 1]) }.check("sm90", &["weight=int4"]);
    assert!(ran.contains("gemm_pack_") && decodes(&ran), "{ran}");
    let layer = Layer { max_m: 40, swiglu: true, ..int4(vec![9, 40, 0]) };
    let ran = layer.check("sm90", &["weight=int4", "act=swiglu"]);
    assert!(decodes(&ran), "{ran}");
    let ran = layer.check("sm90", &["weight=int4", "act=swiglu", "path=dequantised"]);
    assert!(ran.contains("gemm_unpack_") && !decodes(&ran), "{ran}");
    let ran = Layer { gather: Some(8), ..int4(vec![0, 70]) }.check("sm90", &["weight=int4"]);
    assert!(ran.contains("gemm_gather_") && decodes(&ran), "{ran}");
    let ran = int4(vec![7, 2]).check("sm80", &["weight=int4"]);
    assert!(ran.contains("_w_mma_"), "{ran}");
    let ran = int4(vec![17, 0]).check("sm80", &["weight=int4", "path=dequantised"]);
    assert!(ran.contains("gemm_unpack_"), "{ran}");
}

/// Every form of a checkpoint with a leading e, and what packing made of one: the op compares with what the form means.
#[test]
fn checkpoints_of_experts() {
    let (e, n, k, groups) = (2usize, 72usize, 128usize, 2usize);
    let ends = [0, 9, 20];
    let a = ("a", Dtype::BF16, vec![20, k], bf16_bytes(&random(20 * k, 1)));
    let offsets = ("offsets", Dtype::I32, vec![e + 1], i32s(&ends));
    let word = |i: i32| i.wrapping_mul(-1_640_531_535) ^ (i << 7);
    let words = |name, shape: Vec<usize>| {
        let data = i32s(&(0..shape.iter().product::<usize>() as i32).map(word).collect::<Vec<_>>());
        (name, Dtype::I32, shape, data)
    };
    let halves = |shape: Vec<usize>| {
        let data =
            (0..shape.iter().product::<usize>()).flat_map(|i| half::f16::from_f32((1 + i % 7) as f32 / 64.0).to_le_bytes());
        ("scales", Dtype::F16, shape.clone(), data.collect::<Vec<u8>>())
    };
    let scales = halves(vec![e, groups, n]);
    let awq = [words("qweight", vec![e, k, n / 8]), words("qzeros", vec![e, groups, n / 8]), scales.clone()];
    let gptq = [words("qweight", vec![e, k / 8, n]), words("qzeros", vec![e, groups, n / 8]), scales.clone()];
    let gptq8 = [words("qweight", vec![e, k / 4, n]), words("qzeros", vec![e, groups, n / 4]), scales];
    for (parts, set) in [
        (&awq, &["weight=awq"][..]),
        (&gptq, &["weight=gptq"]),
        (&gptq, &["weight=gptq", "gptq_version=2"]),
        (&gptq8, &["weight=gptq", "path=dequantised"]),
    ] {
        let Ran { code, line, report, .. } = run("sm90", &[&[a.clone(), offsets.clone()], &parts[..]].concat(), set);
        assert_eq!(code, 0, "{set:?}: {line}");
        assert_eq!(report["verified_against"]["reference"], "f64", "{set:?}: {report}");
    }
    let bytes = |name, shape: Vec<usize>| {
        let data = (0..shape.iter().product::<usize>()).map(|i| (i * 89 % 256) as u8).collect();
        (name, Dtype::U8, shape, data)
    };
    let scale = random(e * n * groups, 3).iter().map(|x| x.abs() / 32.0).collect::<Vec<_>>();
    let int8 = [bytes("q", vec![e, n, k]), ("scale", Dtype::BF16, vec![e, n, groups], bf16_bytes(&scale))];
    let from_codes = run("sm90", &[&[a.clone(), offsets.clone()], &int8[..]].concat(), &["weight=int8"]);
    assert_eq!(from_codes.code, 0, "{}", from_codes.line);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (input, output) = (path("in"), path("out"));
    save(input.as_ref(), &int8);
    let set = ["--set", "weight=int8"];
    let args = [&["run", "gemm_pack", "--target", "sm90", "--input", &input, "--output", &output][..], &set].concat();
    let (code, line) = outcome(&gen_in(&root(), &args));
    assert_eq!(code, 0, "{line}");
    let (shape, packed) = load(output.as_ref(), "packed");
    let packed = ("packed", Dtype::I32, shape, i32s(&packed.iter().map(|x| *x as i32).collect::<Vec<_>>()));
    let set = ["weight=packed", "bits=8", "group=64", "zero=false", "n=72"];
    let from_packed = run("sm90", &[a, offsets, packed], &set);
    assert_eq!(from_packed.code, 0, "{}", from_packed.line);
    assert_eq!(from_packed.d, from_codes.d);
}

/// DeepSeek's: 1 x 128 activations, 128 x 128 weights; and a factor for each token and each column.
#[test]
fn bytes_of_experts_with_their_factors() {
    let (counts, n, k) = ([3usize, 0, 66, 1], 136usize, 272usize);
    let (e, tokens, source) = (counts.len(), 70, 50usize);
    let bytes =
        |n: usize, by: usize| -> Vec<u8> { (0..n).map(|i| (i * by % 113) as u8 | (((i * by / 7) & 1) << 7) as u8).collect() };
    let value = |b: u8| {
        let magnitude = match (b >> 3 & 15, b & 7) {
            (0, m) => f64::from(m) / 512.0,
            (x, m) => (1.0 + f64::from(m) / 8.0) * 2f64.powi(i32::from(x) - 7),
        };
        if b & 0x80 == 0 { magnitude } else { -magnitude }
    };
    let (a, b) = (bytes(source * k, 5), bytes(e * n * k, 11));
    let f32s = |v: &[f64]| v.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect::<Vec<u8>>();
    let ends: Vec<i32> = (0..=e).map(|i| counts[..i].iter().sum::<usize>() as i32).collect();
    let index: Vec<i32> = (0..tokens).map(|i| (i * 7 % source) as i32).collect();
    for blocks in [true, false] {
        let shapes = if blocks { [vec![source, 3], vec![e, 2, 3]] } else { [vec![source], vec![e, n]] };
        let factors =
            |i: usize| (0..shapes[i].iter().product()).map(|j: usize| (1 + j * 5 % 9) as f64 / 64.0).collect::<Vec<f64>>();
        let (a_scale, b_scale) = (factors(0), factors(1));
        let tensors = [
            ("a", Dtype::F8_E4M3, vec![source, k], a.clone()),
            ("b", Dtype::F8_E4M3, vec![e, n, k], b.clone()),
            ("offsets", Dtype::I32, vec![e + 1], i32s(&ends)),
            ("gather", Dtype::I32, vec![tokens], i32s(&index)),
            ("a_scale", Dtype::F32, shapes[0].clone(), f32s(&a_scale)),
            ("b_scale", Dtype::F32, shapes[1].clone(), f32s(&b_scale)),
        ];
        let Ran { code, line, d, report } = run("sm90", &tensors, &[]);
        assert_eq!(code, 0, "{line}");
        assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{report}");
        let (shape, d) = d.unwrap();
        assert_eq!(shape, [tokens, n]);
        for row in 0..tokens {
            let expert = (0..e).find(|x| row < ends[x + 1] as usize).unwrap();
            let from = index[row] as usize;
            for col in 0..n {
                let (mut want, mut magnitude) = (0.0, 0.0);
                for i in 0..k {
                    let factor = if blocks {
                        a_scale[from * 3 + i / 128] * b_scale[(expert * 2 + col / 128) * 3 + i / 128]
                    } else {
                        a_scale[from] * b_scale[expert * n + col]
                    };
                    let x = value(a[from * k + i]) * value(b[(expert * n + col) * k + i]) * factor;
                    (want, magnitude) = (want + x, magnitude + x.abs());
                }
                let found = d[row * n + col];
                assert!((found - want).abs() <= want.abs() / 256.0 + magnitude / 4096.0, "row {row} col {col}: {found} {want}");
            }
        }
    }
    let zeros = |name, dtype, shape: &[usize], bytes: usize| {
        (name, dtype, shape.to_vec(), vec![0u8; bytes * shape.iter().product::<usize>()])
    };
    let of = |dtype, k: usize| {
        let (a, b) = (zeros("a", dtype, &[tokens, k], 1), zeros("b", dtype, &[e, 8, k], 1));
        vec![a, b, ("offsets", Dtype::I32, vec![e + 1], i32s(&ends))]
    };
    let base = |k| of(Dtype::I8, k);
    let refused = |tensors: Vec<Tensor>, target: &str, words: &[&str]| {
        let Ran { code, line, .. } = run(target, &tensors, &[]);
        assert_eq!(code, 2, "{line}");
        words.iter().for_each(|w| assert!(line.contains(w), "`{w}` is not in: {line}"));
    };
    let with = |name, shape: &[usize]| [base(32), vec![zeros(name, Dtype::F32, shape, 4)]].concat();
    refused(of(Dtype::F8_E4M3, 24), "sm90", &["k = 24", "multiple of 16"]);
    refused(of(Dtype::F8_E5M2, 32), "sm80", &["8-bit floats", "sm90"]);
    refused(base(1 << 17), "sm90", &["k = 131072", "131071 products"]);
    refused(with("b_scale", &[e, 1, 1]), "sm80", &["block scales", "sm90"]);
    refused(with("a_scale", &[7]), "sm90", &["`a_scale` is F32 [7]", "[70], [70, 1]"]);
    refused(with("b_scale", &[8]), "sm90", &["`b_scale` is F32 [8]", "[4, 8], [4, 1, 1]"]);
}

/// The first layer of an expert in 8 bits: what leaves it is what the second takes.
#[test]
fn quantised_outputs_of_experts() {
    let (counts, max_m, n, k) = ([3usize, 0, 65], 66usize, 136usize, 64usize);
    let (a, b) = (random(3 * max_m * k, 1), random(3 * 2 * n * k, 2));
    let counts_i32: Vec<i32> = counts.iter().map(|c| *c as i32).collect();
    let tensors = [
        ("a", Dtype::BF16, vec![3, max_m, k], bf16_bytes(&a)),
        ("b", Dtype::BF16, vec![3, 2 * n, k], bf16_bytes(&b)),
        ("counts", Dtype::I32, vec![3], i32s(&counts_i32)),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (input, output) = (path("in"), path("out"));
    save(input.as_ref(), &tensors);
    let mut args = vec!["run", "gemm_grouped", "--target", "sm90", "--input", &input, "--output", &output];
    ["act=swiglu", "out=e4m3", "quant=128"].iter().for_each(|s| args.extend(["--set", s]));
    let (code, line) = outcome(&gen_in(&root(), &args));
    assert_eq!(code, 0, "{line}");
    let ((shape, d), (scale_shape, scale)) = (load(output.as_ref(), "d"), load(output.as_ref(), "d_scale"));
    assert_eq!((shape, scale_shape), (vec![3, max_m, n], vec![3, max_m, 2]));
    for (e, count) in counts.iter().enumerate() {
        for row in (0..*count).map(|i| e * max_m + i) {
            let sum = |col: usize| -> f64 { (0..k).map(|i| a[row * k + i] * b[(e * 2 * n + col) * k + i]).sum() };
            let want: Vec<f64> = (0..n).map(|c| sum(c) / (1.0 + (-sum(c)).exp()) * sum(n + c)).collect();
            for (block, want) in want.chunks(128).enumerate() {
                let amax = want.iter().fold(0.0f64, |a, x| a.max(x.abs()));
                let factor = scale[row * 2 + block];
                assert!((factor * 448.0 - amax).abs() <= amax * 1e-4 + 1e-5, "row {row} block {block}: {factor} {amax}");
                for (i, x) in want.iter().enumerate() {
                    let found = d[row * n + block * 128 + i] * factor;
                    assert!((found - x).abs() <= x.abs() / 15.0 + amax / 448.0 / 500.0, "row {row} col {i}: {found} {x}");
                }
            }
        }
    }
}

/// Integers on both targets, any k; their sums are exact.
#[test]
fn integers_of_experts() {
    let counts = [3usize, 0, 66, 1];
    let (e, tokens, n) = (counts.len(), 70, 40usize);
    let ends: Vec<i32> = (0..=e).map(|i| counts[..i].iter().sum::<usize>() as i32).collect();
    for (target, k) in [("sm80", 80), ("sm80", 51), ("sm90", 51), ("sm90", 128)] {
        let bytes = |n: usize, by: usize| (0..n).map(|i| (i * by % 251) as u8).collect::<Vec<u8>>();
        let (a, b) = (bytes(tokens * k, 7), bytes(e * n * k, 13));
        let tensors = [
            ("a", Dtype::I8, vec![tokens, k], a.clone()),
            ("b", Dtype::I8, vec![e, n, k], b.clone()),
            ("offsets", Dtype::I32, vec![e + 1], i32s(&ends)),
        ];
        let Ran { code, line, d, .. } = run(target, &tensors, &["out=i32"]);
        assert_eq!(code, 0, "{target} k {k}: {line}");
        let (_, d) = d.unwrap();
        for row in 0..tokens {
            let expert = (0..e).find(|x| row < ends[x + 1] as usize).unwrap();
            for col in 0..n {
                let w = &b[(expert * n + col) * k..][..k];
                let want: i32 = a[row * k..][..k].iter().zip(w).map(|(x, w)| i32::from(*x as i8) * i32::from(*w as i8)).sum();
                assert_eq!(d[row * n + col], f64::from(want), "{target} k {k}: row {row} col {col}");
            }
        }
    }
}

#[test]
fn no_rows_at_all() {
    for target in ["sm80", "sm90"] {
        Layer { counts: vec![0; 4], ..PLAIN }.check(target, &[]);
        Layer { counts: vec![0; 4], max_m: 9, ..PLAIN }.check(target, &[]);
        Layer { counts: vec![0; 4], gather: Some(3), ..PLAIN }.check(target, &[]);
    }
}

#[test]
fn refusals_say_what_was_expected() {
    let zeros =
        |name: &'static str, shape: &[usize]| (name, Dtype::BF16, shape.to_vec(), vec![0u8; 2 * shape.iter().product::<usize>()]);
    let numbers = |name: &'static str, v: &[i32]| (name, Dtype::I32, vec![v.len()], i32s(v));
    let (a, b) = (zeros("a", &[10, 16]), zeros("b", &[3, 8, 16]));
    let masked = zeros("a", &[3, 4, 16]);
    let good = numbers("offsets", &[0, 4, 4, 10]);
    let base = || vec![a.clone(), b.clone(), good.clone()];
    let refused = |tensors: Vec<Tensor>, set: &[&str], words: &[&str]| {
        let Ran { code, line, .. } = run("sm90", &tensors, set);
        assert_eq!(code, 2, "{line}");
        words.iter().for_each(|w| assert!(line.contains(w), "`{w}` is not in: {line}"));
    };
    let offsets = |v: &[i32]| vec![a.clone(), b.clone(), numbers("offsets", v)];
    refused(offsets(&[0, 5, 4, 10]), &[], &["`offsets` does not ascend", "5 at 1, then 4"]);
    refused(offsets(&[1, 5, 6, 10]), &[], &["`offsets` starts at 1", "0"]);
    refused(offsets(&[0, 5, 6, 9]), &[], &["`offsets` ends at 9", "10"]);
    refused(offsets(&[0, 5, 6, 11]), &[], &["`offsets` ends at 11", "10"]);
    refused(offsets(&[0, 5, 10]), &[], &["experts differ: b is [3, 8, 16]"]);
    refused(offsets(&[0]), &[], &["`offsets` is I32 [1]", "at least one expert"]);
    refused(vec![a.clone(), b.clone(), zeros("offsets", &[4])], &[], &["`offsets` is BF16", "I32"]);
    refused(vec![a.clone(), b.clone()], &[], &["`offsets` and `counts` are missing"]);
    refused([base(), vec![numbers("counts", &[1, 2, 3])]].concat(), &[], &["one of them"]);
    let counts = |v: &[i32]| vec![masked.clone(), b.clone(), numbers("counts", v)];
    refused(counts(&[1, 5, 0]), &[], &["`counts` is 5 for expert 1", "0 to 4"]);
    refused(counts(&[1, -1, 0]), &[], &["`counts` is -1 for expert 1"]);
    refused(counts(&[1, 2]), &[], &["experts differ: a is [3, 4, 16], `counts` has 2"]);
    refused(vec![a.clone(), b.clone(), numbers("counts", &[1, 2, 3])], &[], &["`a` is BF16 [10, 16]", "[e, max_m, k]"]);
    refused(vec![zeros("a", &[2, 4, 16]), b.clone(), numbers("counts", &[1, 2, 3])], &[], &["experts differ"]);
    refused(vec![a.clone(), zeros("b", &[2, 8, 16]), good.clone()], &[], &["experts differ: b is [2, 8, 16]"]);
    refused(vec![masked.clone(), b.clone(), good.clone()], &[], &["`a` is BF16 [3, 4, 16]", "[tokens, k]"]);
    refused(vec![a.clone(), zeros("b", &[8, 16]), good.clone()], &[], &["`b` is BF16 [8, 16]", "[e, n, k]"]);
    refused(vec![a.clone(), zeros("b", &[3, 8, 24]), good.clone()], &[], &["k = 16", "k = 24"]);
    refused(vec![a.clone(), zeros("b", &[3, 9, 16]), good.clone()], &["act=swiglu"], &["gate and up"]);
    refused([base(), vec![zeros("bias", &[8])]].concat(), &[], &["`bias` is BF16 [8]", "[3, 8]"]);
    refused([base(), vec![zeros("residual", &[8, 10])]].concat(), &[], &["`residual`", "[10, 8]"]);
    refused([base(), vec![zeros("c", &[1])]].concat(), &[], &["unknown tensor `c`"]);
    refused([base(), vec![numbers("gather", &[0; 9])]].concat(), &[], &["`offsets` ends at 10", "9"]);
    refused(
        [base(), vec![numbers("gather", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 10])]].concat(),
        &[],
        &["`gather` is 10 at 9", "10 rows"],
    );
    refused([counts(&[1, 2, 3]), vec![numbers("gather", &[0])]].concat(), &[], &["`gather` goes with `offsets`"]);
    refused(base(), &["split_k=2"], &["unknown key `split_k`"]);
    refused(base(), &["weight=int4"], &["unknown tensor `b`", "q, scale, zero"]);
    refused(base(), &["quant=128"], &["a quantised output is e4m3"]);
    refused(base(), &["weight=nf4"], &["weight = `nf4`", "int4"]);
    let bytes = |name, shape: &[usize]| (name, Dtype::U8, shape.to_vec(), vec![0u8; shape.iter().product()]);
    let coded = |q, scale: &[usize]| vec![a.clone(), good.clone(), bytes("q", q), zeros("scale", scale)];
    refused(coded(&[2, 8, 8], &[2, 8, 1]), &["weight=int4"], &["`q` is U8 [2, 8, 8]", "the first 3"]);
    refused(coded(&[3, 8, 16], &[3, 8, 1]), &["weight=int4"], &["`q` is U8 [3, 8, 16]", "k = 16"]);
    refused(coded(&[3, 8, 8], &[3, 8, 3]), &["weight=int4"], &["3 groups do not divide k = 16"]);
    refused(coded(&[3, 8, 8], &[3, 9, 1]), &["weight=int4"], &["`scale` is BF16 [3, 9, 1]"]);
    refused(coded(&[3, 8, 8], &[3, 8, 1]), &["weight=int4", "b=kn"], &["key `b`"]);
    refused(coded(&[3, 8, 8], &[3, 8, 1]), &["weight=int4", "path=fast"], &["path = `fast`"]);
    refused(coded(&[3, 8, 8], &[3, 8, 1]), &["weight=int4", "out=e4m3"], &["out = `e4m3`", "bf16, f16 or f32"]);
    refused(coded(&[3, 8, 8], &[3, 8, 1]), &["weight=int4", "bits=4"], &["key `bits` goes with weight=packed"]);
    let pair = "config=kind=wgmma,bm=64,bn=64,bk=64,stages=3,wgs=1,schedule=coop,cluster=2x1,raster=4,n_align=8,split=0";
    refused(base(), &[pair], &["two experts"]);
}
