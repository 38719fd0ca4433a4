//! `gen run gemm_grouped`: its keys and tensors, and a config that fits them.

use super::super::super::ask::{Ask, dtype_of, safetensors_dtype};
use super::super::super::case::Request;
use super::super::case::Weights;
use super::super::request::{MOST_BYTES, promotes};
use super::super::scales;
use super::case::{Sizes, case, ints, numbers};
use super::weight;
use crate::error::{Res, bad_input, usage};
use safetensors::Dtype;
use std::rc::Rc;
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::*;

const KEYS: [&str; 6] = ["out", "act", "alpha", "b", "config", "quant"];
/// Tensors besides the weights.
pub const TENSORS: [&str; 6] = ["a", "offsets", "counts", "bias", "residual", "gather"];
/// Dense weights and what goes with them.
const DENSE: [&str; 3] = ["b", "a_scale", "b_scale"];

/// Checks keys and tensors against each other.
pub fn request(ask: Ask) -> Res<Request> {
    let packed = ask.key("weight").is_some();
    if packed {
        weight::check_words(&ask)?;
    } else {
        ask.only_keys(&KEYS)?;
        let known = |n: &str| DENSE.contains(&n) || TENSORS.contains(&n);
        if let Some(name) = ask.tensors.keys().find(|n| !known(n)) {
            return usage(format!(
                "unknown tensor `{name}`: expected a, b, offsets or counts, and optionally {}",
                "bias, residual, gather, a_scale, b_scale"
            ));
        }
    }
    let groups = match (ask.tensors.contains_key("offsets"), ask.tensors.contains_key("counts")) {
        (true, false) => Groups::Offsets,
        (false, true) => Groups::Counts,
        (true, true) => return usage("tensors `offsets` and `counts`: expected one of them, the rows are sorted or masked"),
        (false, false) => return usage("tensors `offsets` and `counts` are missing: expected one, which rows are whose"),
    };
    let inputs = [DType::BF16, DType::F16, DType::E4M3, DType::E5M2, DType::I8];
    let input = dtype_of("a", ask.need("a")?, if packed { &inputs[..2] } else { &inputs })?;
    let layout = ask.parsed("b")?.unwrap_or(BLayout::Nk);
    let act = ask.parsed("act")?.unwrap_or(Act::None);
    let wide = [DType::BF16, DType::F16, DType::F32];
    let outputs = |d: &DType| wide.contains(d) || !packed && matches!(d, DType::E4M3 | DType::I32);
    let expected = if packed { "bf16, f16 or f32" } else { "bf16, f16, f32, e4m3 or i32" };
    let narrow = matches!(input, DType::BF16 | DType::F16);
    let output = ask.value("out", expected, outputs)?.unwrap_or(if narrow { input } else { DType::BF16 });
    let (bias, residual) = (ask.tensors.contains_key("bias"), ask.tensors.contains_key("residual"));
    let plain = GemmProblem { output, b: layout, act, bias, residual, groups, ..GemmProblem::plain(input) };
    let (rows, k) = rows(&ask, groups)?;
    let (wide, found) = if packed {
        let found = weight::find(&ask, &plain, rows.counts.len(), k)?;
        (found.rows, Some(found))
    } else {
        (dense_rows(&ask, &plain, rows.counts.len(), k)?, None)
    };
    if !wide.is_multiple_of(plain.gates() as usize) {
        return usage(format!("act=swiglu: an expert's weight has {wide} rows, which are not gate and up of equal number"));
    }
    let s = Sizes { n: wide / plain.gates() as usize, k, ..rows };
    let e = s.counts.len();
    if [e, s.all_rows(&plain), wide, k].iter().any(|x| *x > i32::MAX as usize / 4) {
        return usage(format!("{e} experts, n = {}, k = {k}: sizes are limited to {}", s.n, i32::MAX / 4));
    }
    if bias {
        ask.expect("bias", safetensors_dtype(plain.bias_dtype()), &[e, wide])?;
    }
    if residual {
        let rows = if groups == Groups::Offsets { vec![s.tokens(), s.n] } else { vec![e, s.max_m, s.n] };
        ask.expect("residual", safetensors_dtype(output), &rows)?;
    }
    let plain = with_scales(&ask, plain, &s)?;
    if output == DType::I32 && ask.key("alpha").is_some() {
        return usage("key `alpha`: out=i32 gives the sums as they are");
    }
    let alpha = ask.value("alpha", "a number", |_| true)?.unwrap_or(1.0);
    let config: Option<GemmConfig> = ask.parsed("config")?;
    match found {
        Some(found) => weight::request(ask, plain, s, found, alpha, config),
        None => request_of(ask, plain, s, alpha, config),
    }
}

/// The class with the scales that the tensors are of.
fn with_scales(ask: &Ask, p: GemmProblem, s: &Sizes) -> Res<GemmProblem> {
    if let Some(name) = ["a_scale", "b_scale"].into_iter().find(|n| !p.bytes() && ask.tensors.contains_key(*n)) {
        let a = ask.need("a")?;
        return usage(format!("tensor `{name}`: only F8_E4M3, F8_E5M2 and I8 operands have scales, a is {:?}", a.dtype));
    }
    let blocks = |x: usize| x.div_ceil(BLOCK as usize);
    let (e, wide) = (s.counts.len(), s.n * p.gates() as usize);
    let rows = match p.groups {
        Groups::Counts => vec![e, s.max_m],
        _ => vec![s.rows.unwrap_or(s.tokens())],
    };
    let of_a = [(vec![1], Scale::Tensor), (rows.clone(), Scale::Row), ([rows, vec![blocks(s.k)]].concat(), Scale::Block)];
    let of_b = [(vec![1], Scale::Tensor), (vec![e, wide], Scale::Row), (vec![e, blocks(wide), blocks(s.k)], Scale::Block)];
    let (a_scale, b_scale) = (scales::of_groups(ask, "a_scale", of_a)?, scales::of_groups(ask, "b_scale", of_b)?);
    let quant = ask.value("quant", "128", |q: &u32| *q == 128)?.is_some();
    let p = GemmProblem { a_scale, b_scale, quant, ..p };
    p.check().map_err(bad_input)?;
    if p.sums() == DType::I32 && s.k > MOST_BYTES {
        return usage(format!("k = {}: sums of more than {MOST_BYTES} products of I8 do not fit 32 bits", s.k));
    }
    // Integers without factors of blocks have a kernel for any k.
    let any_k = p.input == DType::I8 && !p.block_scaled() && !p.quant;
    if p.bytes() && (p.b == BLayout::Kn || !s.k.is_multiple_of(16) && !any_k) {
        return usage(format!(
            "b={}, k = {}: bytes of experts are multiplied as [e, n, k] with k a multiple of 16: pad a and b with zeros",
            p.b, s.k
        ));
    }
    Ok(p)
}

/// A run on matrices in the dtype of a.
fn request_of(ask: Ask, p: GemmProblem, s: Sizes, alpha: f32, config: Option<GemmConfig>) -> Res<Request> {
    let chosen = s.clone();
    let weights: Weights = Rc::new(|inputs| numbers(inputs, "b"));
    Ok(Request {
        case: case(p, s, alpha, ask.tensors, weights)?,
        pinned: config.is_some(),
        plans: Box::new(move |arch| {
            let missing =
                [(p.input.is_fp8(), "8-bit floats"), (p.block_scaled(), "block scales"), (p.quant, "a quantised output")];
            if let Some((_, what)) = missing.into_iter().find(|(is, _)| *is && !arch.is_hopper()) {
                return usage(format!("{what}: only sm90's kernels have them, the target is {arch}"));
            }
            let config = config.unwrap_or_else(|| default_config(arch, &p, &chosen));
            Ok(vec![grouped_plan(arch, &p, &config, chosen.rows.is_some()).map_err(bad_input)?])
        }),
    })
}

/// Rows of each expert, of sizes whose columns are to come, and k; names what is wrong with offsets, counts and gather.
fn rows(ask: &Ask, groups: Groups) -> Res<(Sizes, usize)> {
    let a = ask.need("a")?;
    let (offsets, gather) = (groups == Groups::Offsets, ask.tensors.contains_key("gather"));
    let form = match (offsets, gather) {
        (true, false) => "[tokens, k] with `offsets`",
        (true, true) => "[rows, k] with `gather`",
        (false, false) => "[e, max_m, k] with `counts`",
        (false, true) => return usage("tensor `gather` goes with `offsets`: masked rows lie where they are"),
    };
    let rank = if offsets { 2 } else { 3 };
    if a.shape.len() != rank || a.shape[rank - 1] == 0 {
        return usage(format!("tensor `a` is {}: expected {form}, k at least 1", a.describe()));
    }
    let k = a.shape[rank - 1];
    let name = if offsets { "offsets" } else { "counts" };
    let len = ask.need(name)?;
    let e = match len.shape[..] {
        [len] if len > usize::from(offsets) => len - usize::from(offsets),
        _ => {
            let form = if offsets { "[e+1]" } else { "[e]" };
            return usage(format!("tensor `{name}` is {}: expected I32 {form}, of at least one expert", len.describe()));
        }
    };
    if offsets {
        let tokens = if gather { gathered_tokens(ask, a.shape[0])? } else { a.shape[0] };
        let counts = by_offsets(ask, e, tokens)?;
        return Ok((Sizes { counts, max_m: 0, n: 0, k, rows: gather.then_some(a.shape[0]) }, k));
    }
    if a.shape[0] != e {
        return usage(format!("experts differ: a is {:?}, `counts` has {e}", a.shape));
    }
    let max_m = a.shape[1];
    Ok((Sizes { counts: by_counts(ask, e, max_m)?, max_m, n: 0, k, rows: None }, k))
}

/// Rows of each expert's matrix of b.
fn dense_rows(ask: &Ask, p: &GemmProblem, e: usize, k: usize) -> Res<usize> {
    let b = ask.need("b")?;
    let order = if p.b == BLayout::Nk { "[e, n, k]" } else { "[e, k, n]" };
    if dtype_of("b", b, &[p.input]).is_err() {
        let want = safetensors_dtype(p.input);
        return usage(format!("tensor `b` is {}: expected a's dtype, {want:?}", b.describe()));
    }
    let [experts, rows, cols] = b.shape[..] else {
        return usage(format!("tensor `b` is {}: expected {order}", b.describe()));
    };
    if experts != e {
        return usage(format!("experts differ: b is {:?}, `offsets` or `counts` are of {e}", b.shape));
    }
    let (wide, kb) = if p.b == BLayout::Nk { (rows, cols) } else { (cols, rows) };
    if kb != k {
        return usage(format!("k differs: a has k = {k}, b is {:?} as {order} with k = {kb}", b.shape));
    }
    if wide == 0 {
        return usage(format!("tensor `b` is {}: every size must be at least 1", b.describe()));
    }
    Ok(wide)
}

/// Rows of each expert from offsets that ascend from 0 to `tokens`.
fn by_offsets(ask: &Ask, e: usize, tokens: usize) -> Res<Vec<usize>> {
    ask.expect("offsets", Dtype::I32, &[e + 1])?;
    let ends = ints(&ask.tensors, "offsets");
    if ends[0] != 0 {
        return usage(format!("tensor `offsets` starts at {}: expected 0", ends[0]));
    }
    if let Some(i) = (0..e).find(|i| ends[i + 1] < ends[*i]) {
        return usage(format!("tensor `offsets` does not ascend: {} at {i}, then {}", ends[i], ends[i + 1]));
    }
    if ends[e] as usize != tokens {
        return usage(format!("tensor `offsets` ends at {}: expected {tokens}, the sorted rows", ends[e]));
    }
    Ok(ends.windows(2).map(|w| (w[1] - w[0]) as usize).collect())
}

/// Rows of each expert from counts in 0..=`max_m`.
fn by_counts(ask: &Ask, e: usize, max_m: usize) -> Res<Vec<usize>> {
    ask.expect("counts", Dtype::I32, &[e])?;
    let counts = ints(&ask.tensors, "counts");
    if let Some(i) = counts.iter().position(|c| *c < 0 || *c as usize > max_m) {
        return usage(format!("tensor `counts` is {} for expert {i}: expected 0 to {max_m}, the rows a has for each", counts[i]));
    }
    Ok(counts.into_iter().map(|c| c as usize).collect())
}

/// Sorted rows, from an index of rows of a; a negative number asks for a row of zeros.
fn gathered_tokens(ask: &Ask, rows: usize) -> Res<usize> {
    let t = ask.need("gather")?;
    let [tokens] = t.shape[..] else { return usage(format!("tensor `gather` is {}: expected I32 [tokens]", t.describe())) };
    ask.expect("gather", Dtype::I32, &[tokens])?;
    let index = ints(&ask.tensors, "gather");
    if let Some(i) = index.iter().position(|row| *row >= 0 && *row as usize >= rows) {
        return usage(format!("tensor `gather` is {} at {i}: a has {rows} rows", index[i]));
    }
    Ok(tokens)
}

/// A config that fits the sizes: tiles of 64 rows where an expert has few.
pub fn default_config(arch: Arch, p: &GemmProblem, s: &Sizes) -> GemmConfig {
    let multiple = |x: usize, of: &[u32]| of.iter().copied().find(|a| x.is_multiple_of(*a as usize)).unwrap_or(1);
    let few = s.tokens().div_ceil(s.counts.len()) <= 64;
    let vector = 16 / p.input.bytes() as usize;
    let rows_aligned = s.k.is_multiple_of(vector) && (p.b == BLayout::Nk || s.n.is_multiple_of(vector));
    if arch.is_hopper() && rows_aligned {
        let (bm, math_wgs) = if few { (64, 1) } else { (128, 2) };
        let promote = promotes(p);
        let bn = if promote { 128 } else { 128 * p.gates() };
        let tile = WgmmaConfig::new([bm, bn, 128 / p.input.bytes()], 2, math_wgs);
        return GemmConfig::Wgmma(WgmmaConfig { n_align: multiple(s.n, &[8, 2]), promote, ..tile }.deepest(p));
    }
    let common = if p.b == BLayout::Nk { s.k } else { s.k | s.n };
    // Both k and n where b lies as [k, n]: the lowest bit that either has set divides both.
    let copies: &[u32] = if p.bytes() { &[16, 8, 4] } else { &[8, 4, 2] };
    let load_align = multiple(1 << common.trailing_zeros().min(4), copies);
    GemmConfig::Mma(MmaConfig {
        bm: if few { 16 } else { 64 },
        bn: 64,
        bk: 64 / p.input.bytes(),
        stages: 3,
        warps_m: if few { 1 } else { 2 },
        warps_n: if few { 4 } else { 2 },
        raster: 8,
        load_align,
        n_align: multiple(s.n, &[2]),
        split: false,
    })
}
