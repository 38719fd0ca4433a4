//! `gen run gemm --set weight=...` against f64: every form of weight, both paths, ragged sizes, adversarial numbers.

use crate::common::weight::{Entry, Kind, Numbers};
use crate::common::*;
use half::{bf16, f16};
use safetensors::tensor::Dtype;
use std::path::Path;

fn bytes(v: &[f64], bf: bool) -> Vec<u8> {
    v.iter().flat_map(|x| if bf { bf16::from_f64(*x).to_le_bytes() } else { f16::from_f64(*x).to_le_bytes() }).collect()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// Runs gemm on a weight's tensors and holds d to f64; gives the report.
fn check(what: &str, target: &str, m: usize, bf: bool, w: &Numbers, tensors: Vec<Entry>, set: &[&str]) -> serde_json::Value {
    let (dir, gates) = (tempfile::tempdir().unwrap(), if set.contains(&"act=swiglu") { 2 } else { 1 });
    let (input, output, report) = (dir.path().join("in"), dir.path().join("out"), dir.path().join("report"));
    let (n, k) = (w.rows / gates, w.k);
    let a = random(m * k, 1);
    let dtype = if bf { Dtype::BF16 } else { Dtype::F16 };
    let mut all = tensors;
    all.push(("a", dtype, vec![m, k], bytes(&a, bf)));
    save(&input, &all);
    let path = |p: &Path| p.to_str().unwrap().to_string();
    let (i, o, r) = (path(&input), path(&output), path(&report));
    let mut args = vec!["run", "gemm", "--target", target, "--input", &i, "--output", &o, "--report", &r];
    set.iter().for_each(|s| args.extend(["--set", s]));
    let out = gen_in(&root(), &args);
    assert!(out.status.success(), "{what}: {}", String::from_utf8_lossy(&out.stderr));
    let (shape, d) = load(&output, "d");
    assert_eq!(shape, [m, n], "{what}");
    for i in 0..m * n {
        let dot = |row: usize| {
            let products = (0..k).map(|j| a[i / n * k + j] * w.weight(row, j, bf));
            products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + f64::abs(p)))
        };
        let (mut want, mut size) = dot(i % n);
        if gates == 2 {
            let (up, up_size) = dot(n + i % n);
            (want, size) = (silu(want) * up, size * (1.0 + up.abs()) + silu(want).abs() * up_size);
        }
        let bound = want.abs() / if bf { 128.0 } else { 1024.0 } + size / f64::from(1 << 18) + 1e-7;
        assert!((d[i] - want).abs() <= bound, "{what}: element {i} is {}, not {want} (bound {bound})", d[i]);
    }
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["findings"].as_array().map(|f| f.iter().filter(|f| f["severity"] == "error").count()), Some(0), "{what}");
    assert_eq!(report["verified_against"]["reference"], "f64", "{what}: {report}");
    report
}

const ALL: [Kind; 3] = [Kind::Random, Kind::Extreme, Kind::Constant];

#[test]
fn rows_of_codes_unpacked_first() {
    for (i, (bits, zero, m, shape, bf, target)) in [
        (4, true, 3, [40, 128, 32], true, "sm90"),
        (4, false, 17, [24, 172, 172], false, "sm90"),
        (4, true, 1, [67, 192, 64], false, "sm80"),
        (8, false, 8, [33, 256, 128], true, "sm90"),
        (8, true, 5, [10, 133, 133], true, "sm80"),
        (8, true, 66, [72, 96, 48], false, "sm90"),
    ]
    .into_iter()
    .enumerate()
    {
        let w = Numbers::new(bits, shape, ALL[i % 3], zero, i as u64);
        let what = format!("int{bits} {shape:?} zero {zero} m {m}");
        let weight = format!("weight=int{bits}");
        let report = check(&what, target, m, bf, &w, w.raw(bf, zero), &[&weight, "path=dequantised"]);
        assert_eq!(report["verified_against"]["path"], "dequantised", "{what}");
        assert_eq!(report["kernel"].as_array().map(Vec::len), Some(3), "{what}: pack, unpack, multiply");
    }
}

#[test]
fn checkpoints_unpacked_first() {
    let w = Numbers::new(4, [48, 128, 64], Kind::Random, true, 5);
    check("awq", "sm90", 9, false, &w, w.awq(), &["weight=awq", "path=dequantised"]);
    let w = Numbers::new(4, [16, 96, 96], Kind::Extreme, true, 6);
    check("awq in bf16", "sm80", 2, true, &w, w.awq(), &["weight=awq", "path=dequantised"]);
    for (bits, version, dealt) in [(4, 1, false), (4, 2, true), (8, 1, true), (8, 2, false)] {
        let w = Numbers::new(bits, [24, 128, 32], Kind::Random, true, 7);
        let w = if dealt { w.dealt() } else { w };
        let version_key = format!("gptq_version={version}");
        let what = format!("gptq of {bits} bits, version {version}, dealt {dealt}");
        let report = check(&what, "sm90", 4, true, &w, w.gptq(version), &["weight=gptq", &version_key, "path=dequantised"]);
        assert_eq!(report["plan"].as_str().map(|p| p.contains("_perm")), Some(dealt), "{report}");
    }
}

#[test]
fn zero_points_that_are_all_half_the_range_are_left_out() {
    for (bits, version) in [(4, 1), (8, 2)] {
        let w = Numbers::new(bits, [16, 128, 64], Kind::Random, false, 11);
        let version = format!("gptq_version={version}");
        let report =
            check("symmetric gptq", "sm90", 3, true, &w, w.gptq(if bits == 4 { 1 } else { 2 }), &["weight=gptq", &version]);
        let plan = report["plan"].as_str().unwrap();
        assert!(plan.contains(&format!("int{bits}g64_")), "{plan}");
    }
    let w = Numbers::new(4, [16, 128, 64], Kind::Random, true, 12);
    let report = check("awq", "sm90", 3, true, &w, w.awq(), &["weight=awq"]);
    assert!(report["plan"].as_str().is_some_and(|p| p.contains("int4g64z_")), "{report}");
}

#[test]
fn a_layer_s_bias_comes_with_its_prefix() {
    let w = Numbers::new(4, [16, 64, 64], Kind::Random, true, 17);
    let bias: Vec<f64> = (0..16).map(|i| f64::from(i) / 8.0 - 1.0).collect();
    let dir = tempfile::tempdir().unwrap();
    let (a, halves) = (("a", Dtype::BF16, vec![2, 64], bytes(&random(128, 1), true)), bytes(&bias, false));
    let mut plain = w.awq();
    plain.extend([a.clone(), ("bias", Dtype::BF16, vec![16], bytes(&bias, true))]);
    let mut layer: Vec<Entry> = w
        .awq()
        .into_iter()
        .map(|(name, d, s, b)| {
            (
                ["l.1.qweight", "l.1.qzeros", "l.1.scales"]
                    [["qweight", "qzeros", "scales"].iter().position(|n| *n == name).unwrap()],
                d,
                s,
                b,
            )
        })
        .collect();
    layer.extend([a, ("l.1.bias", Dtype::F16, vec![16], halves), ("l.2.bias", Dtype::F16, vec![3], vec![0; 6])]);
    let run = |tensors: &[Entry], set: &[&str]| {
        let (input, output) = (dir.path().join("in"), dir.path().join("out"));
        save(&input, tensors);
        let (i, o) = (input.to_str().unwrap(), output.to_str().unwrap());
        let mut args = vec!["run", "gemm", "--target", "sm80", "--input", i, "--output", o, "--set", "weight=awq"];
        set.iter().for_each(|s| args.extend(["--set", s]));
        let out = gen_in(&root(), &args);
        (out.status.code(), outcome(&out).1, load_if(&output))
    };
    let (direct, by_prefix) = (run(&plain, &[]), run(&layer, &["prefix=l.1."]));
    assert_eq!((direct.0, by_prefix.0), (Some(0), Some(0)), "{} {}", direct.1, by_prefix.1);
    assert_eq!(direct.2, by_prefix.2);
    layer.push(("bias", Dtype::BF16, vec![16], vec![0; 32]));
    let twice = run(&layer, &["prefix=l.1."]);
    assert!(twice.0 == Some(2) && twice.1.contains("tensors `bias` and `l.1.bias`"), "{}", twice.1);
}

/// d of an output file, where there is one.
fn load_if(path: &Path) -> Option<(Vec<usize>, Vec<f64>)> {
    let d = path.exists().then(|| load(path, "d"));
    std::fs::remove_file(path).ok();
    d
}

#[test]
fn layers_of_models() {
    // gpt-oss' 2880, a k that only one group divides, DeepSeek-V2-Lite's 10944.
    let w = Numbers::new(4, [24, 2880, 32], Kind::Random, true, 13);
    check("k = 2880", "sm90", 3, true, &w, w.gptq(1), &["weight=gptq"]);
    let w = Numbers::new(8, [9, 3884, 3884], Kind::Extreme, true, 14);
    check("k = 3884", "sm90", 2, false, &w, w.raw(false, true), &["weight=int8"]);
    check("k = 3884, unpacked", "sm80", 2, false, &w, w.raw(false, true), &["weight=int8", "path=dequantised"]);
    let w = Numbers::new(4, [10944, 64, 64], Kind::Random, false, 15);
    check("n = 10944", "sm90", 1, true, &w, w.raw(true, false), &["weight=int4"]);
    let w = Numbers::new(4, [16, 10944, 64], Kind::Random, true, 16);
    check("k = 10944", "sm90", 8, false, &w, w.awq(), &["weight=awq"]);
}

#[test]
fn gate_and_up_alternate_in_the_packed_form_only() {
    let w = Numbers::new(4, [2 * 70, 128, 128], Kind::Random, true, 9);
    check("swiglu", "sm90", 5, true, &w, w.raw(true, true), &["weight=int4", "act=swiglu", "path=dequantised"]);
}

#[test]
fn the_packed_kernel_multiplies_what_was_packed() {
    for (i, (bits, m, shape, bf)) in
        [(4, 1, [72, 256, 64], true), (4, 9, [130, 384, 384], false), (8, 3, [64, 128, 32], true), (8, 20, [40, 200, 200], false)]
            .into_iter()
            .enumerate()
    {
        let zero = i % 2 == 0;
        let w = Numbers::new(bits, shape, ALL[i % 3], zero, 30 + i as u64);
        let what = format!("int{bits} {shape:?} zero {zero} m {m}");
        let report = check(&what, "sm90", m, bf, &w, w.raw(bf, zero), &[&format!("weight=int{bits}")]);
        assert_eq!(report["verified_against"]["path"], "packed", "{what}");
    }
    // mma.sync: Ampere, and rows of a that TMA does not take.
    let w = Numbers::new(4, [72, 256, 64], Kind::Extreme, true, 40);
    check("int4 on sm80", "sm80", 7, true, &w, w.raw(true, true), &["weight=int4", "path=packed"]);
    let w = Numbers::new(8, [40, 150, 150], Kind::Random, true, 40);
    check("int8 of odd k", "sm90", 11, false, &w, w.raw(false, true), &["weight=int8", "path=packed"]);
    let w = Numbers::new(4, [64, 256, 32], Kind::Random, true, 41).dealt();
    check("gptq by order", "sm90", 6, false, &w, w.gptq(1), &["weight=gptq", "path=packed"]);
    let w = Numbers::new(4, [2 * 72, 128, 128], Kind::Random, true, 42);
    check("swiglu", "sm90", 5, true, &w, w.awq(), &["weight=awq", "act=swiglu", "path=packed"]);
}
