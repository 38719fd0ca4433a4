//! Attention asked for wrongly: a line that names what is wrong, exit status 2, nothing launched, nothing written.

use crate::common::attention::{Named, i32_bytes};
use crate::common::*;
use safetensors::tensor::Dtype;

fn zeros(name: &'static str, dtype: Dtype, shape: &[usize]) -> Named {
    let size = match dtype {
        Dtype::F32 | Dtype::I32 => 4,
        Dtype::BF16 | Dtype::F16 => 2,
        _ => 1,
    };
    (name, dtype, shape.to_vec(), vec![0; shape.iter().product::<usize>() * size])
}

fn half(name: &'static str, shape: &[usize]) -> Named {
    zeros(name, Dtype::BF16, shape)
}

fn ints(name: &'static str, shape: &[usize], values: &[i32]) -> Named {
    (name, Dtype::I32, shape.to_vec(), i32_bytes(values))
}

/// Replaces tensors of the same names, adds others.
fn with(mut base: Vec<Named>, change: Vec<Named>) -> Vec<Named> {
    for t in change {
        base.retain(|b| b.0 != t.0);
        base.push(t);
    }
    base
}

/// Each request must be refused with all of the words.
fn refused(op: &str, tensors: &[Named], set: &[&str], words: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let path = |n: &str| dir.path().join(n).to_str().unwrap().to_string();
    save(&dir.path().join("in"), tensors);
    let (input, output, report) = (path("in"), path("out"), path("report"));
    let mut args = vec!["run", op, "--target", "sm90", "--input", &input, "--output", &output, "--report", &report];
    set.iter().for_each(|s| args.extend(["--set", s]));
    let out = gen_in(&root(), &args);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let (code, line) = outcome(&out);
    assert_eq!(code, 2, "{set:?}: {text}");
    for w in words {
        assert!(line.contains(w), "`{w}` is not in: {line}");
    }
    assert!(text.lines().count() == 1 && !text.contains("internal error"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something was written: {line}");
}

/// q, k, v of 2 sequences, 5 queries, 9 keys, 4 and 2 heads of 64.
fn dense() -> Vec<Named> {
    vec![half("q", &[2, 5, 4, 64]), half("k", &[2, 9, 2, 64]), half("v", &[2, 9, 2, 64])]
}

fn varlen() -> Vec<Named> {
    let (q, k, v) = (half("q", &[6, 4, 64]), half("k", &[10, 2, 64]), half("v", &[10, 2, 64]));
    vec![q, k, v, ints("cu_q", &[3], &[0, 4, 6]), ints("cu_k", &[3], &[0, 3, 10])]
}

#[test]
fn sizes_and_dtypes_that_do_not_fit() {
    let no = |change: Vec<Named>, words: &[&str]| refused("attention", &with(dense(), change), &[], words);
    refused("attention", &dense()[..2], &[], &["tensor `v` is missing"]);
    no(vec![half("q", &[2, 5, 3, 64])], &["hq = 3", "hkv = 2"]);
    no(vec![half("k", &[2, 9, 2, 32])], &["d differs", "64 in q", "32 in k"]);
    no(vec![half("v", &[2, 8, 2, 64])], &["sk differs", "9 in k", "8 in v"]);
    no(vec![half("v", &[2, 9, 4, 64])], &["hkv differs"]);
    no(vec![half("k", &[3, 9, 2, 64])], &["b differs", "2 in q", "3 in k"]);
    no(vec![half("v", &[2, 9, 2, 128])], &["dv = 128 with d = 64"]);
    no(
        vec![half("q", &[2, 5, 4, 80]), half("k", &[2, 9, 2, 80]), half("v", &[2, 9, 2, 80])],
        &["d = 80", "64, 96, 128, 192, 256"],
    );
    no(vec![half("q", &[5, 4, 64])], &["tensor `q` is BF16 [5, 4, 64]", "[b, sq, hq, d]"]);
    no(vec![half("q", &[2, 0, 4, 64])], &["tensor `q`", "from 1"]);
    no(vec![zeros("q", Dtype::F32, &[2, 5, 4, 64])], &["tensor `q` is F32", "BF16 or F16"]);
    no(vec![zeros("q", Dtype::F8_E4M3, &[2, 5, 4, 64])], &["8-bit attention is not built yet"]);
    no(vec![zeros("k", Dtype::F16, &[2, 9, 2, 64])], &["tensor `k` is F16", "q's dtype, BF16"]);
    no(vec![zeros("alibi", Dtype::F32, &[2])], &["tensor `alibi` is F32 [2]", "[4]"]);
    no(vec![zeros("sink", Dtype::BF16, &[4])], &["tensor `sink` is BF16 [4]", "F32"]);
    no(vec![zeros("bias", Dtype::F32, &[2, 4, 5, 8])], &["tensor `bias`", "[2, 4, 5, 9]"]);
    no(vec![zeros("bias", Dtype::F16, &[5, 9])], &["tensor `bias` is F16", "F32 or BF16"]);
}

#[test]
fn keys_that_are_wrong_and_what_is_not_built() {
    let no = |set: &[&str], words: &[&str]| refused("attention", &dense(), set, words);
    no(&["causal=yes"], &["causal = `yes`", "true or false"]);
    no(&["window_left=-1"], &["window_left = `-1`", "from 0"]);
    no(&["window_right=-3"], &["window_right = `-3`"]);
    no(&["softcap=0"], &["softcap = `0`", "above 0"]);
    no(&["softcap=-2"], &["softcap = `-2`"]);
    no(&["chunk=0"], &["chunk = `0`", "from 1"]);
    no(&["scale=x"], &["scale = `x`"]);
    no(&["scale=0"], &["scale = `0`"]);
    no(&["colour=red"], &["unknown key `colour`", "causal"]);
    no(&["config=kind=wgmma"], &["is missing"]);
    no(&["na_window=3"], &["key `na_window`", "neighbourhood attention is not built yet"]);
    no(&["shape=4,4"], &["key `shape`", "not built yet"]);
    let extra = |t: Named, words: &[&str]| refused("attention", &with(dense(), vec![t]), &[], words);
    extra(zeros("q_scale", Dtype::F32, &[1]), &["tensor `q_scale`", "8-bit attention is not built yet"]);
    extra(zeros("var_q", Dtype::I32, &[1]), &["tensor `var_q`", "variable blocks are not built yet"]);
    extra(half("w", &[1]), &["unknown tensor `w`", "block_mask"]);
}

#[test]
fn sequences_that_do_not_line_up() {
    let no = |change: Vec<Named>, words: &[&str]| refused("attention", &with(varlen(), change), &[], words);
    no(vec![ints("cu_q", &[3], &[0, 5, 4])], &["tensor `cu_q` falls from 5 to 4", "ascending"]);
    no(vec![ints("cu_q", &[3], &[1, 4, 6])], &["tensor `cu_q` starts with 1", "expected 0"]);
    no(vec![ints("cu_k", &[3], &[0, 3, 9])], &["tensor `cu_k` ends with 9", "expected 10"]);
    no(vec![ints("cu_k", &[4], &[0, 3, 4, 10])], &["b + 1 differs", "3 in cu_q", "4 in cu_k"]);
    no(vec![zeros("cu_q", Dtype::F32, &[3])], &["tensor `cu_q` is F32", "I32"]);
    let missing: Vec<Named> = varlen().into_iter().filter(|t| t.0 != "cu_k").collect();
    refused("attention", &missing, &[], &["tensor `cu_k` is missing"]);
    refused("attention", &with(varlen(), vec![half("q", &[2, 3, 4, 64])]), &[], &["tensor `q`", "[total, hq, d]"]);
}

#[test]
fn masks_and_head_types_that_do_not_fit() {
    let mask = |shape: &[usize]| zeros("block_mask", Dtype::U8, shape);
    let no = |change: Vec<Named>, set: &[&str], words: &[&str]| refused("attention", &with(dense(), change), set, words);
    no(vec![mask(&[1, 1, 2, 3])], &[], &["tensor `block_mask` needs keys `block_m` and `block_n`"]);
    no(vec![mask(&[1, 1, 2, 3])], &["block_m=4"], &["`block_n`"]);
    no(vec![mask(&[1, 1, 2, 3])], &["block_m=0", "block_n=4"], &["block_m = `0`"]);
    no(vec![mask(&[1, 1, 2, 2])], &["block_m=4", "block_n=4"], &["tensor `block_mask` is U8 [1, 1, 2, 2]", "2, 3]"]);
    no(vec![mask(&[1, 3, 2, 3])], &["block_m=4", "block_n=4"], &["tensor `block_mask`", "4 or 1"]);
    no(vec![mask(&[3, 1, 2, 3])], &["block_m=4", "block_n=4"], &["tensor `block_mask`", "2 or 1"]);
    no(vec![zeros("block_mask", Dtype::I32, &[1, 1, 2, 3])], &["block_m=4", "block_n=4"], &["tensor `block_mask` is I32", "U8"]);
    no(vec![], &["block_m=4", "block_n=4"], &["tensor `block_mask` is missing"]);
    no(vec![], &["sink_tokens=4"], &["tensor `head_type` is missing"]);
    no(vec![ints("head_type", &[3], &[0; 3])], &[], &["tensor `head_type`", "[4]"]);
    no(vec![ints("head_type", &[4], &[0, -2, 0, 0])], &[], &["head_type -2 of head 1"]);
    no(vec![ints("head_type", &[4], &[0, 1, 0, 0])], &[], &["head_type 1 of head 1", "block_mask"]);
    no(vec![ints("head_type", &[4], &[0, -1, 0, 0])], &["sink_tokens=4"], &["`sink_tokens` and `recent_tokens`"]);
    let both = vec![mask(&[1, 2, 2, 3]), ints("head_type", &[4], &[0, 3, 0, 0])];
    no(both, &["block_m=4", "block_n=4"], &["head_type 3 of head 1 is beyond block_mask's head dim, which is 2"]);
    let prefix = vec![half("k_prefix", &[7, 2, 64]), half("v_prefix", &[7, 2, 64])];
    no(prefix.clone(), &["window_left=3"], &["tensor `k_prefix`", "window_left"]);
    no(vec![prefix[0].clone()], &[], &["tensor `v_prefix` is missing"]);
    no(vec![prefix[0].clone(), half("v_prefix", &[6, 2, 64])], &[], &["tensor `v_prefix`", "[7, 2, 64]"]);
}

/// 2 sequences of 5 and 3 tokens in pages of 4: 6 pages, 3 of them a sequence may have.
fn paged() -> Vec<Named> {
    vec![
        half("q", &[2, 1, 4, 64]),
        half("k_pages", &[6, 4, 2, 64]),
        half("v_pages", &[6, 4, 2, 64]),
        ints("page_table", &[2, 3], &[5, 0, -1, 2, 9, 9]),
        ints("kv_len", &[2], &[5, 3]),
    ]
}

#[test]
fn caches_that_do_not_fit() {
    let no = |change: Vec<Named>, set: &[&str], words: &[&str]| refused("attention_decode", &with(paged(), change), set, words);
    no(vec![ints("page_table", &[2, 3], &[5, 6, 0, 2, 0, 0])], &[], &["page_table[0, 1] = 6", "0 to 5"]);
    no(vec![ints("page_table", &[2, 3], &[5, 0, 0, -1, 0, 0])], &[], &["page_table[1, 0] = -1"]);
    no(vec![ints("kv_len", &[2], &[5, -1])], &[], &["kv_len[1] = -1", "negative"]);
    no(vec![ints("kv_len", &[2], &[13, 3])], &[], &["kv_len[0] = 13", "12", "3 pages of 4 tokens"]);
    no(vec![ints("kv_len", &[3], &[5, 3, 0])], &[], &["b differs", "3 in kv_len"]);
    no(vec![half("q", &[2, 9, 4, 64])], &[], &["sq = 9", "1 to 8"]);
    no(vec![half("q", &[2, 1, 3, 64])], &[], &["hq = 3", "hkv = 2"]);
    no(vec![half("v_pages", &[6, 8, 2, 64])], &[], &["page differs", "4 in k_pages", "8 in v_pages"]);
    no(vec![zeros("k_pages", Dtype::I8, &[6, 4, 2, 64])], &[], &["tensor `k_pages` is I8", "quantised cache is not built yet"]);
    no(vec![zeros("k_scale", Dtype::F32, &[6, 4, 2])], &[], &["tensor `k_scale`", "not built yet"]);
    no(vec![], &["mla=true"], &["key `mla`", "latent attention is not built yet"]);
    no(vec![], &["splits=-1"], &["splits = `-1`"]);
    no(vec![], &["splits=2", "split_size=4"], &["splits = 2 and split_size = 4"]);
    no(vec![], &["softcap=0"], &["softcap"]);
    no(vec![], &["block_m=4"], &["unknown key `block_m`"]);
    let select = |values: &[i32]| ints("select", &[2, 2, 2], values);
    no(vec![select(&[0, 1, 0, 3, 0, -1, 0, -1])], &[], &["select[0, 1][1] = 3", "3 pages"]);
    no(vec![select(&[0, 1, 0, -2, 0, -1, 0, -1])], &[], &["select[0, 1][1] = -2"]);
    no(vec![select(&[0, 1, 1, 1, 0, -1, 0, -1])], &[], &["select[0, 1] names page 1 twice"]);
    no(vec![ints("select", &[2, 3, 1], &[0; 6])], &[], &["tensor `select`", "2 or 4"]);
    // Of a page that is not selected the id is not looked at.
    let far = ints("page_table", &[2, 3], &[5, 77, -1, 2, 9, 9]);
    no(vec![far, select(&[0, -1, 1, 0, 0, -1, 0, -1])], &[], &["page_table[0, 1] = 77"]);
}

#[test]
fn pages_and_parts_that_do_not_fit() {
    let keys = || vec![half("k_pages", &[6, 4, 2, 64])];
    refused("page_stats", &keys(), &["sub=3"], &["sub = 3", "page of 4 tokens"]);
    refused("page_stats", &keys(), &["sub=0"], &["sub = `0`"]);
    refused("page_stats", &[zeros("k_pages", Dtype::F32, &[6, 4, 2, 64])], &[], &["tensor `k_pages` is F32", "BF16 or F16"]);
    refused("page_stats", &[half("k_pages", &[6, 4, 2, 80])], &[], &["d = 80"]);
    let select = || {
        let (q, low, high) = (half("q", &[2, 1, 4, 64]), half("page_min", &[6, 2, 64]), half("page_max", &[6, 2, 64]));
        vec![q, low, high, ints("page_table", &[2, 3], &[5, 0, -1, 2, 9, 9]), ints("kv_len", &[2], &[5, 3])]
    };
    let no = |change: Vec<Named>, set: &[&str], words: &[&str]| refused("page_select", &with(select(), change), set, words);
    no(vec![], &["page=4"], &["key `top` is missing"]);
    no(vec![], &["page=4", "top=0"], &["top = `0`"]);
    no(vec![half("q", &[2, 3, 4, 64])], &["page=4", "top=2"], &["tensor `q`", "[b, 1, hq, d]"]);
    no(vec![half("page_max", &[6, 2, 96])], &["page=4", "top=2"], &["tensor `page_max`", "[6, 2, 64]"]);
    no(vec![half("q", &[2, 1, 3, 64])], &["page=4", "top=2"], &["hq = 3", "hkv = 2"]);
    no(vec![ints("page_table", &[2, 3], &[5, 6, 0, 2, 0, 0])], &["page=4", "top=2"], &["page_table[0, 1] = 6"]);
    no(vec![ints("kv_len", &[2], &[5, 13])], &["page=4", "top=2"], &["kv_len[1] = 13"]);
    let parts = |lse: &[usize]| vec![half("o", &[3, 2, 5, 4, 64]), zeros("lse", Dtype::F32, lse)];
    refused("attention_merge", &parts(&[3, 2, 5, 4]), &[], &["hq differs", "4 in o", "5 in lse"]);
    refused("attention_merge", &parts(&[2, 2, 4, 5]), &[], &["s differs"]);
    refused("attention_merge", &parts(&[3, 2, 4]), &[], &["tensor `lse`", "[s, b, hq, sq]"]);
    refused("attention_merge", &parts(&[3, 2, 4, 5]), &["out=i8"], &["out = `i8`"]);
    refused("attention_merge", &parts(&[3, 2, 4, 5])[..1], &[], &["tensor `lse` is missing"]);
}
