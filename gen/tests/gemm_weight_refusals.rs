//! Bad weights: one line that names the tensor or key and the sizes, exit status 2, nothing written.

use crate::common::weight::{Entry, Kind, Numbers};
use crate::common::*;
use half::f16;
use safetensors::tensor::Dtype;

fn refused(op: &str, tensors: &[Entry], set: &[&str], words: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in"), dir.path().join("out"));
    save(&input, tensors);
    let (i, o) = (input.to_str().unwrap(), output.to_str().unwrap());
    let mut args = vec!["run", op, "--target", "sm90", "--input", i, "--output", o];
    set.iter().for_each(|s| args.extend(["--set", s]));
    let out = gen_in(&root(), &args);
    let (code, line) = outcome(&out);
    let all = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(code == 2 && all.lines().count() == 1 && !all.contains("panicked"), "{set:?}: {code} {all}");
    for w in words {
        assert!(line.contains(w), "`{w}` is not in: {line}");
    }
    assert!(!output.exists());
}

fn a(m: usize, k: usize) -> Entry {
    ("a", Dtype::F16, vec![m, k], vec![0; m * k * 2])
}

/// With a tensor replaced, or added.
fn with(mut list: Vec<Entry>, name: &'static str, dtype: Dtype, shape: &[usize], data: Vec<u8>) -> Vec<Entry> {
    list.retain(|e| e.0 != name);
    list.push((name, dtype, shape.to_vec(), data));
    list
}

fn int4() -> Vec<Entry> {
    let mut list = Numbers::new(4, [16, 128, 32], Kind::Random, true, 1).raw(false, true);
    list.push(a(2, 128));
    list
}

fn gptq() -> Vec<Entry> {
    let mut list = Numbers::new(4, [16, 128, 32], Kind::Random, true, 1).gptq(1);
    list.push(a(2, 128));
    list
}

fn awq() -> Vec<Entry> {
    let mut list = Numbers::new(4, [16, 128, 32], Kind::Random, true, 1).awq();
    list.push(a(2, 128));
    list
}

fn halves(n: usize, at: usize, x: f32) -> Vec<u8> {
    (0..n).flat_map(|i| f16::from_f32(if i == at { x } else { 0.5 }).to_le_bytes()).collect()
}

fn ints(v: &[i32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn weights_and_keys_that_are_not_there() {
    refused("gemm", &int4(), &["weight=nf4"], &["weight = `nf4`", "not built yet", "int4, int8, awq, gptq, packed"]);
    refused("gemm", &int4(), &["weight=w4a8"], &["`w4a8`", "not built yet"]);
    refused("gemm", &int4(), &["weight=int5"], &["weight = `int5`: expected one of int4"]);
    refused("gemm_pack", &int4(), &["weight=packed"], &["weight = `packed`: expected one of"]);
    refused("gemm_pack", &int4(), &[], &["key `weight` is missing"]);
    refused("gemm", &int4(), &["weight=int4", "b=kn"], &["key `b`"]);
    refused("gemm", &int4(), &["weight=int4", "gptq_version=2"], &["`gptq_version` goes with weight=gptq"]);
    refused("gemm", &gptq(), &["weight=gptq", "gptq_version=3"], &["gptq_version = `3`: expected 1 or 2"]);
    refused("gemm", &int4(), &["weight=int4", "path=best"], &["path = `best`: expected auto, packed or dequantised"]);
    refused("gemm", &int4(), &["weight=int4", "n=16"], &["key `n` goes with weight=packed"]);
    refused("gemm", &int4(), &["weight=int4", "prefix=layer.7."], &["prefix = `layer.7.`", "layer.7.{q, scale, zero}"]);
    refused("gemm", &int4()[1..], &["weight=int4"], &["tensor `q` is missing"]);
    let more = with(int4(), "g_idx", Dtype::I32, &[128], vec![0; 512]);
    refused("gemm", &more, &["weight=int4"], &["unknown tensor `g_idx`"]);
}

#[test]
fn rows_of_codes_that_do_not_fit() {
    let set = ["weight=int4"];
    let bad = with(int4(), "q", Dtype::U8, &[16, 128], vec![0; 16 * 128]);
    refused("gemm", &bad, &set, &["tensor `q` is U8 [16, 128]", "[n, 64]", "k = 128"]);
    let bad = with(int4(), "q", Dtype::I8, &[16, 64], vec![0; 16 * 64]);
    refused("gemm", &bad, &set, &["tensor `q` is I8 [16, 64]", "U8"]);
    let odd = vec![a(1, 9), ("q", Dtype::U8, vec![4, 4], vec![0; 16]), ("scale", Dtype::F16, vec![4, 1], halves(4, 9, 0.0))];
    refused("gemm", &odd, &set, &["tensor `q` is U8 [4, 4]", "an even k", "k = 9"]);
    let bad = with(int4(), "scale", Dtype::F16, &[16, 3], halves(48, 99, 0.0));
    refused("gemm", &bad, &set, &["tensor `scale` is F16 [16, 3]", "3 groups do not divide k = 128"]);
    let bad = with(int4(), "scale", Dtype::F16, &[16, 16], halves(256, 999, 0.0));
    refused("gemm", &bad, &set, &["tensor `scale` is F16 [16, 16]", "groups of 8", "k = 128"]);
    let bad = with(int4(), "scale", Dtype::F16, &[8, 4], halves(32, 99, 0.0));
    refused("gemm", &bad, &set, &["tensor `scale` is F16 [8, 4]", "[16, k/g]"]);
    let bad = with(int4(), "scale", Dtype::BF16, &[16, 4], halves(64, 99, 0.0));
    refused("gemm", &bad, &set, &["tensor `scale` is BF16 [16, 4]", "F16, as a has"]);
    let bad = with(int4(), "scale", Dtype::F16, &[16, 4], halves(64, 13, f32::NAN));
    refused("gemm", &bad, &set, &["tensor `scale`: element 13 is NaN"]);
    let bad = with(int4(), "scale", Dtype::F16, &[16, 4], halves(64, 63, f32::NEG_INFINITY));
    refused("gemm", &bad, &set, &["tensor `scale`: element 63 is -inf"]);
    let bad = with(int4(), "zero", Dtype::U8, &[16, 2], vec![0; 32]);
    refused("gemm", &bad, &set, &["tensor `zero` is U8 [16, 2]", "U8 [16, 4]"]);
    let bad = with(int4(), "zero", Dtype::U8, &[16, 4], vec![16; 64]);
    refused("gemm", &bad, &set, &["tensor `zero`: element 0 is 16", "0 to 15"]);
    let bad = with(int4(), "a", Dtype::F16, &[3, 2, 128], vec![0; 3 * 2 * 256]);
    refused("gemm", &bad, &set, &["tensor `q`", "no batch", "a has a batch of 3"]);
    let bad = with(int4(), "bias", Dtype::F16, &[8], vec![0; 16]);
    refused("gemm", &bad, &set, &["tensor `bias` is F16 [8]", "[16]"]);
    refused("gemm", &with(int4(), "a", Dtype::F32, &[2, 128], vec![0; 1024]), &set, &["tensor `a` is F32"]);
}

#[test]
fn checkpoints_that_do_not_fit() {
    let bad = with(awq(), "qweight", Dtype::I32, &[64, 4], vec![0; 1024]);
    refused("gemm", &bad, &["weight=awq"], &["tensor `qweight` is I32 [64, 4]", "[128, n/8]", "k = 128"]);
    let bad = with(awq(), "qzeros", Dtype::I32, &[4, 4], vec![0; 64]);
    refused("gemm", &bad, &["weight=awq"], &["tensor `qzeros` is I32 [4, 4]", "I32 [4, 2]"]);
    let bad = with(awq(), "scales", Dtype::BF16, &[4, 16], vec![0; 128]);
    refused("gemm", &bad, &["weight=awq"], &["tensor `scales` is BF16 [4, 16]", "expected F16"]);
    let bad = with(awq(), "scales", Dtype::F16, &[16, 4], vec![0; 128]);
    refused("gemm", &bad, &["weight=awq"], &["tensor `scales` is F16 [16, 4]", "[k/g, 16]"]);
    let bad = with(gptq(), "qweight", Dtype::I32, &[24, 16], vec![0; 24 * 64]);
    refused("gemm", &bad, &["weight=gptq"], &["tensor `qweight` is I32 [24, 16]", "[k/8, n]", "k = 128"]);
    let g = |f: &dyn Fn(i32) -> i32| ints(&(0..128).map(f).collect::<Vec<_>>());
    let bad = with(gptq(), "g_idx", Dtype::I32, &[128], g(&|i| if i == 5 { 4 } else { i / 32 }));
    refused("gemm", &bad, &["weight=gptq"], &["tensor `g_idx`: element 5 is 4", "0 to 3"]);
    let bad = with(gptq(), "g_idx", Dtype::I32, &[128], g(&|i| if i == 0 { 1 } else { i / 32 }));
    refused("gemm", &bad, &["weight=gptq"], &["tensor `g_idx`: group 0 has 31 columns", "needs 32"]);
    let bad = with(gptq(), "g_idx", Dtype::I32, &[64], vec![0; 256]);
    refused("gemm", &bad, &["weight=gptq"], &["tensor `g_idx` is I32 [64]", "I32 [128]"]);
    let narrow = vec![
        a(1, 32),
        ("qweight", Dtype::I32, vec![4, 12], vec![0; 192]),
        ("qzeros", Dtype::I32, vec![1, 2], vec![0; 8]),
        ("scales", Dtype::F16, vec![1, 12], vec![0; 24]),
    ];
    refused("gemm", &narrow, &["weight=gptq"], &["n = 12 is no multiple of the 8 codes of a word"]);
}

#[test]
fn packed_weights_that_do_not_fit() {
    let keys = ["weight=packed", "bits=4", "group=128", "zero=false"];
    let set = |n: &'static str| [keys[0], keys[1], keys[2], keys[3], n];
    let packed =
        |blocks: usize| -> Vec<Entry> { vec![a(2, 128), ("packed", Dtype::I32, vec![blocks, 1, 1056], vec![0; blocks * 4224])] };
    refused("gemm", &packed(1), &keys, &["key `n` is missing"]);
    refused("gemm", &packed(1), &set("n=65"), &["tensor `packed` is I32 [1, 1, 1056]", "[2, 1, 1056]", "n = 65"]);
    refused("gemm", &packed(1), &["weight=packed", "bits=3"], &["bits = `3`: expected 4 or 8"]);
    let bad = with(packed(1), "packed", Dtype::I32, &[1, 1, 1056], vec![0xff; 4224]);
    refused("gemm", &bad, &set("n=64"), &["tensor `packed`", "NaN or infinite"]);
    let bad = with(packed(1), "perm", Dtype::I32, &[128], vec![0; 512]);
    refused("gemm", &bad, &set("n=64"), &["tensor `perm` is I32 [128]", "once"]);
    refused(
        "gemm",
        &packed(1),
        &["weight=packed", "bits=4", "group=128", "zero=false", "n=64", "split_k=2", "act=swiglu"],
        &["packed"],
    );
}
