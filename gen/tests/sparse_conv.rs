//! `gen run sparse_conv` and `kernel_map`: every mode and dataflow from files to files, and what is refused.

use crate::common::attention::{Named, f32_bytes, i32_bytes, output, run};
use crate::common::*;
use half::f16;
use safetensors::tensor::Dtype;
use serde_json::Value;
use std::collections::BTreeSet;

/// Voxels in a box, two batches, some at negative coordinates.
fn cloud(n: usize, seed: usize) -> Vec<i32> {
    let mut taken = BTreeSet::new();
    let mut state = seed as u64 + 1;
    let mut list = Vec::new();
    while taken.len() < n {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let axis = |shift: u32| (state >> shift & 7) as i32 - 4;
        let c = [(state >> 60 & 1) as i32, axis(30), axis(40), axis(50)];
        if taken.insert(c) {
            list.extend(c);
        }
    }
    list
}

fn coords(name: &'static str, c: &[i32]) -> Named {
    (name, Dtype::I32, vec![c.len() / 4, 4], i32_bytes(c))
}

/// Numbers of f16 or f32.
fn numbers(name: &'static str, dtype: Dtype, shape: &[usize], seed: u64) -> Named {
    let v = random(shape.iter().product(), seed);
    let bytes =
        if dtype == Dtype::F32 { f32_bytes(&v) } else { v.iter().flat_map(|x| f16::from_f64(*x).to_le_bytes()).collect() };
    (name, dtype, shape.to_vec(), bytes)
}

/// Coordinates, features and weight of a layer.
fn layer(n: usize, [taps, cin, cout]: [usize; 3], dtype: Dtype) -> Vec<Named> {
    vec![
        coords("coords", &cloud(n, 1)),
        numbers("features", dtype, &[n, cin], 2),
        numbers("weight", dtype, &[taps, cin, cout], 3),
    ]
}

fn keys(set: &str) -> Vec<String> {
    set.split(' ').map(String::from).collect()
}

/// Runs an op; the command itself compares coordinates with the host's map and features with f64.
fn ran(op: &str, target: &str, tensors: &[Named], set: &str) -> (tempfile::TempDir, Value) {
    let (dir, report) = run(op, target, tensors, &keys(set));
    for name in ["n", "m", "taps", "pairs"] {
        assert!(report["map"][name].is_u64(), "{name}: {report:#}");
    }
    (dir, report)
}

#[test]
fn every_mode_and_dataflow() {
    let f16 = |n, shape| layer(n, shape, Dtype::F16);
    let with = |mut tensors: Vec<Named>, more: &[Named]| {
        tensors.extend(more.iter().cloned());
        tensors
    };
    let epilogue = |m: usize, cout: usize| {
        vec![
            coords("coords_target", &cloud(m, 7)),
            numbers("bias", Dtype::F32, &[cout], 4),
            numbers("bn_scale", Dtype::F16, &[cout], 5),
            numbers("bn_shift", Dtype::F32, &[cout], 6),
            numbers("residual", Dtype::F16, &[m, cout], 7),
        ]
    };
    let cases = [
        ("sm90", f16(150, [27, 32, 64]), "mode=submanifold", "implicit"),
        ("sm90", f16(70, [8, 16, 32]), "mode=strided kernel=2 stride=2 dataflow=implicit_sorted splits=3", "implicit_sorted"),
        (
            "sm80",
            layer(65, [6, 5, 7], Dtype::F32),
            "mode=generative kernel=1,2,3 stride=2 dataflow=gather_scatter",
            "gather_scatter",
        ),
        (
            "sm80",
            with(f16(90, [27, 8, 24]), &epilogue(64, 24)),
            "mode=transposed stride=2 padding=1 dataflow=fetch_on_demand act=silu",
            "fetch_on_demand",
        ),
        (
            "sm90",
            with(f16(33, [8, 20, 4]), &epilogue(97, 4)),
            "mode=inverse kernel=2 stride=2 act=relu dataflow=implicit",
            "implicit",
        ),
        (
            "sm80",
            f16(40, [3, 8, 8]),
            "mode=submanifold kernel=3,1,1 dilation=2 dataflow=fetch_on_demand fused=false",
            "fetch_on_demand",
        ),
        ("sm90", f16(0, [27, 32, 32]), "mode=strided stride=3 dataflow=gather_scatter", "gather_scatter"),
        ("sm80", f16(1, [125, 4, 16]), "mode=submanifold kernel=5 dataflow=implicit_sorted order=plain", "implicit_sorted"),
    ];
    for (target, tensors, set, flow) in cases {
        let (dir, report) = ran("sparse_conv", target, &tensors, set);
        let m = report["map"]["m"].as_u64().unwrap() as usize;
        assert_eq!(report["dataflow"], flow, "{set}");
        // Padded rows hold the pairs, and no rows no pairs.
        let [rows, pairs, tile] = ["rows", "pairs", "tile"].map(|n| report["map"][n].as_u64().unwrap());
        assert!(rows >= pairs && (rows == 0) == (pairs == 0) && tile >= 32, "{set}: {}", report["map"]);
        assert_eq!(output(&dir, "coords_out").0, [m, 4], "{set}");
        let cout = tensors[2].2[2];
        assert_eq!(output(&dir, "features_out").0, [m, cout], "{set}");
        if let Some(target) = tensors.iter().find(|t| t.0 == "coords_target") {
            assert_eq!(output(&dir, "coords_out").1, target.3.chunks(4).map(i32_of).collect::<Vec<_>>());
        }
        // Nothing else is in the file.
        let bytes = std::fs::read(dir.path().join("out")).unwrap();
        let names: BTreeSet<_> =
            safetensors::SafeTensors::deserialize(&bytes).unwrap().names().into_iter().map(String::from).collect();
        assert_eq!(names, BTreeSet::from(["coords_out".to_string(), "features_out".to_string()]));
    }
}

fn i32_of(bytes: &[u8]) -> f64 {
    f64::from(i32::from_le_bytes(bytes.try_into().unwrap()))
}

/// The map of a convolution by its definition, and the convolution's own outputs in the same order.
#[test]
fn a_kernel_map_is_the_convolutions() {
    let tensors = layer(60, [27, 8, 8], Dtype::F16);
    let set = "mode=strided stride=2 padding=1";
    let (conv, _) = ran("sparse_conv", "sm80", &tensors, &format!("{set} dataflow=implicit"));
    let (dir, report) = run_map(&tensors[..1], set);
    let ((shape, map), (_, out)) = (output(&dir, "map"), output(&dir, "coords_out"));
    assert_eq!(output(&conv, "coords_out").1, out);
    let input: Vec<f64> = tensors[0].3.chunks(4).map(i32_of).collect();
    let (m, mut pairs) = (shape[0], 0);
    assert_eq!((shape[1], out.len()), (27, m * 4));
    for (row, k) in (0..m).flat_map(|row| (0..27).map(move |k| (row, k))) {
        let (q, o) = (&out[row * 4..][..4], [k / 9, k / 3 % 3, k % 3]);
        // f = 2q - 1 + o on every axis, batches equal.
        let want = [q[0], 2.0 * q[1] - 1.0 + o[0] as f64, 2.0 * q[2] - 1.0 + o[1] as f64, 2.0 * q[3] - 1.0 + o[2] as f64];
        let found = input.chunks(4).position(|c| c == want).map_or(-1.0, |j| j as f64);
        assert_eq!(map[row * 27 + k], found, "[{row}, {k}]");
        pairs += u64::from(found >= 0.0);
    }
    assert_eq!(report["map"]["pairs"].as_u64(), Some(pairs));
}

/// As [`ran`]; the map is compared with the host's instead of with f64.
fn run_map(tensors: &[Named], set: &str) -> (tempfile::TempDir, Value) {
    let dir = tempfile::tempdir().unwrap();
    let path = |n: &str| dir.path().join(n).to_str().unwrap().to_string();
    save(&dir.path().join("in"), tensors);
    let (input, output, report) = (path("in"), path("out"), path("report"));
    let mut args = vec!["run", "kernel_map", "--target", "sm90", "--input", &input, "--output", &output, "--report", &report];
    let keys = keys(set);
    keys.iter().for_each(|s| args.extend(["--set", s]));
    let o = gen_in(&root(), &args);
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    (dir, serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap())
}

/// Refused with exit status 2 and one line that has these words.
#[track_caller]
fn refused(tensors: &[Named], set: &str, words: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    save(&input, tensors);
    let out = dir.path().join("out");
    let mut args =
        vec!["run", "sparse_conv", "--target", "sm90", "--input", input.to_str().unwrap(), "--output", out.to_str().unwrap()];
    let keys = keys(set);
    keys.iter().filter(|s| !s.is_empty()).for_each(|s| args.extend(["--set", s]));
    let o = gen_in(&root(), &args);
    let (code, line) = outcome(&o);
    assert!(code == 2 && words.iter().all(|w| line.contains(w)) && !out.exists(), "{words:?} are not in: {code} {line}");
}

#[test]
fn what_does_not_fit_is_named() {
    let good = || layer(5, [27, 8, 16], Dtype::F16);
    let replaced = |at: usize, t: Named| {
        let mut all = good();
        all[at] = t;
        all
    };
    let plus = |t: Named| {
        let mut all = good();
        all.push(t);
        all
    };
    let sub = "mode=submanifold";
    let five = |edit: &dyn Fn(&mut Vec<i32>)| {
        let mut c = cloud(5, 1);
        edit(&mut c);
        replaced(0, coords("coords", &c))
    };
    refused(&five(&|c| c.copy_within(0..4, 16)), sub, &["tensor `coords`: rows 0 and 4 are the same voxel"]);
    refused(&five(&|c| c[8] = -1), sub, &["tensor `coords`", "row 2", "-1"]);
    refused(&five(&|c| c[5] = i32::MAX), "mode=generative stride=2", &["tensor `coords`", "row 1", "32-bit"]);
    let mut twice = cloud(3, 2);
    twice.copy_within(0..4, 4);
    refused(&plus(coords("coords_target", &twice)), "mode=transposed", &["tensor `coords_target`: rows 0 and 1"]);
    refused(&replaced(0, numbers("coords", Dtype::F32, &[5, 4], 1)), sub, &["tensor `coords` is F32", "I32"]);
    refused(&replaced(0, coords("coords", &cloud(4, 1))), sub, &["tensor `features` is F16 [5, 8]: expected 4 rows"]);
    refused(
        &replaced(2, numbers("weight", Dtype::F16, &[8, 8, 16], 1)),
        sub,
        &["`weight` is F16 [8, 8, 16]", "K = 27", "kernel=3,3,3"],
    );
    refused(&replaced(2, numbers("weight", Dtype::F16, &[27, 9, 16], 1)), sub, &["`weight`", "8 channels"]);
    refused(&replaced(2, numbers("weight", Dtype::F16, &[27, 128], 1)), sub, &["`weight`", "[K, cin, cout]"]);
    refused(&replaced(2, numbers("weight", Dtype::F32, &[27, 8, 16], 1)), sub, &["`weight` is F32", "F16"]);
    refused(&replaced(1, coords("features", &[0; 8])), sub, &["`features` is I32", "F16 or BF16 or F32"]);
    refused(&good()[..2], sub, &["tensor `weight` is missing"]);
    refused(&plus(numbers("bias", Dtype::F16, &[8], 1)), sub, &["`bias` is F16 [8]", "[16]"]);
    refused(&plus(numbers("bn_scale", Dtype::F16, &[16], 1)), sub, &["tensor `bn_shift` is missing"]);
    refused(&plus(numbers("residual", Dtype::F16, &[5, 16], 1)), "mode=strided", &["tensor `residual` needs mode=submanifold"]);
    refused(&plus(numbers("residual", Dtype::F16, &[4, 16], 1)), sub, &["`residual` is F16 [4, 16]", "[5, 16]"]);
    refused(&plus(numbers("colour", Dtype::F16, &[5], 1)), sub, &["unknown tensor `colour`"]);
    refused(&plus(coords("coords_target", &cloud(3, 2))), sub, &["coords_target", "outputs are the inputs"]);
    for (set, words) in [
        ("kernel=3", &["key `mode` is missing"][..]),
        ("mode=sideways", &["mode = `sideways`", "submanifold"]),
        ("mode=submanifold padding=1", &["padding with mode=submanifold"]),
        ("mode=submanifold stride=2", &["stride 1, not 2"]),
        ("mode=inverse", &["`coords_target` is missing"]),
        ("mode=strided kernel=8", &["kernel = 8", "1 to 7"]),
        ("mode=strided kernel=3,3", &["kernel = `3,3`", "x,y,z"]),
        ("mode=strided stride=0", &["stride = 0"]),
        ("mode=strided groups=2", &["groups = 2", "not built yet"]),
        ("mode=strided act=swiglu", &["act = `swiglu`"]),
        ("mode=strided dataflow=magic", &["dataflow = `magic`"]),
        ("mode=strided splits=2", &["splits goes with dataflow=implicit_sorted"]),
        ("mode=strided dataflow=implicit order=rare", &["order goes with"]),
        ("mode=strided dataflow=implicit_sorted splits=28", &["splits = `28`", "1 to 27"]),
        ("mode=strided dataflow=implicit config=mma_9x9", &["`mma_9x9`", "mma_BMxBNxBK"]),
        ("mode=strided dataflow=implicit config=mma_48x64x32_s3_w2x2", &["config mma_48x64x32_s3_w2x2"]),
        ("mode=strided colour=red", &["unknown key `colour`"]),
    ] {
        refused(&good(), set, words);
    }
}
