//! `gen run gemm`: its keys and tensors, and a config that fits them.

use super::super::ask::{Ask, dtype_of, safetensors_dtype};
use super::super::case::Request;
use super::case::{Shape, case};
use super::scales;
use crate::error::{Res, bad_input, failure, usage};
use crate::tensors::Tensor;
use tilewright_autotune::{Candidate, DeviceProfile, Sizes, rank};
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::*;

/// Products of two bytes, at most 2^14, whose sum surely fits 32 bits.
pub(super) const MOST_BYTES: usize = (1 << 17) - 1;

/// Checks keys and tensors against each other.
pub fn request(mut ask: Ask) -> Res<Request> {
    if ask.key("weight").is_some() {
        return super::weight::request(ask);
    }
    ask.only_keys(&["out", "act", "alpha", "b", "split_k", "config", "quant", "weight"])?;
    const TENSORS: [&str; 6] = ["a", "b", "bias", "residual", "a_scale", "b_scale"];
    if let Some(name) = ask.tensors.keys().find(|n| !TENSORS.contains(&n.as_str())) {
        return usage(format!("unknown tensor `{name}`: expected a, b, and optionally bias, residual, a_scale, b_scale"));
    }
    let (a, b) = (ask.need("a")?, ask.need("b")?);
    let input = dtype_of("a", a, &[DType::BF16, DType::F16, DType::E4M3, DType::E5M2, DType::I8])?;
    let layout = ask.parsed("b")?.unwrap_or(BLayout::Nk);
    let act = ask.parsed("act")?.unwrap_or(Act::None);
    let outputs = |d: &DType| matches!(d, DType::BF16 | DType::F16 | DType::F32 | DType::E4M3 | DType::I32);
    let narrow = matches!(input, DType::BF16 | DType::F16);
    let output = ask.value("out", "bf16, f16, f32, e4m3 or i32", outputs)?.unwrap_or(if narrow { input } else { DType::BF16 });
    let (bias, residual) = (ask.tensors.contains_key("bias"), ask.tensors.contains_key("residual"));
    let problem = GemmProblem { output, b: layout, act, bias, residual, ..GemmProblem::plain(input) };
    let (shape, batched) = shape(&problem, a, b)?;
    let [batch, m, n, _] = shape;
    let of_b: &[DType] = if input.is_fp8() { &[DType::E4M3, DType::E5M2] } else { &[input] };
    let Ok(of_b) = dtype_of("b", b, of_b) else {
        let or = if input.is_fp8() { ", or the other 8-bit float" } else { "" };
        return usage(format!("tensor `b` is {}: expected a's dtype, {:?}{or}", b.describe(), a.dtype));
    };
    let problem = GemmProblem { b_input: Some(of_b).filter(|d| *d != input), ..problem };
    let wide = n * problem.gates() as usize;
    if !problem.bytes()
        && let Some(name) = ["a_scale", "b_scale"].into_iter().find(|name| ask.tensors.contains_key(*name))
    {
        return usage(format!("tensor `{name}`: only F8_E4M3, F8_E5M2 and I8 operands have scales, a is {:?}", a.dtype));
    }
    if bias {
        ask.expect("bias", safetensors_dtype(problem.bias_dtype()), &[n * problem.gates() as usize])?;
    }
    if residual {
        let whole = [batch, m, n];
        ask.expect("residual", safetensors_dtype(output), if batched { &whole } else { &whole[1..] })?;
    }
    let a_scale = scales::take(&mut ask, "a_scale", m, shape, batched)?;
    let b_scale = scales::take(&mut ask, "b_scale", wide, shape, batched)?;
    let quant = ask.value("quant", "128", |q: &u32| *q == 128)?.is_some();
    let problem = GemmProblem { a_scale, b_scale, quant, ..problem };
    problem.check().map_err(bad_input)?;
    let [.., k] = shape;
    if problem.sums() == DType::I32 && k > MOST_BYTES {
        return usage(format!("k = {k}: sums of more than {MOST_BYTES} products of I8 do not fit 32 bits"));
    }
    if output == DType::I32 && ask.key("alpha").is_some() {
        return usage("key `alpha`: out=i32 gives the sums as they are");
    }
    let alpha = ask.value("alpha", "a number", |_| true)?.unwrap_or(1.0);
    let splits: Option<u32> = ask.value("split_k", "a whole number from 1", |s| *s >= 1)?;
    let config: Option<GemmConfig> = ask.parsed("config")?;
    Ok(Request {
        case: case(problem, shape, batched, alpha, ask.tensors)?,
        pinned: config.is_some() || splits.is_some(),
        plans: Box::new(move |arch| {
            let config = config.map_or_else(|| default_config(arch, &problem, shape), Ok)?;
            Ok(vec![plan(arch, &problem, &config, splits.unwrap_or(1)).map_err(bad_input)?])
        }),
    })
}

/// Batch, m, n, k of a and b; names the sizes that do not fit.
fn shape(p: &GemmProblem, a: &Tensor, b: &Tensor) -> Res<(Shape, bool)> {
    let rank = a.shape.len();
    if !(2..=3).contains(&rank) {
        return usage(format!("tensor `a` is {}: expected [m, k] or [batch, m, k]", a.describe()));
    }
    let order = if p.b == BLayout::Nk { "[n, k]" } else { "[k, n]" };
    if b.shape.len() != rank {
        return usage(format!("tensor `b` is {}: expected {order} with as many dimensions as a, {}", b.describe(), a.describe()));
    }
    let (batch, m, k) = (if rank == 3 { a.shape[0] } else { 1 }, a.shape[rank - 2], a.shape[rank - 1]);
    let (wide, kb) =
        if p.b == BLayout::Nk { (b.shape[rank - 2], b.shape[rank - 1]) } else { (b.shape[rank - 1], b.shape[rank - 2]) };
    if kb != k {
        return usage(format!(
            "k differs: a is {:?} with k = {k}, b is {:?} as {order} with k = {kb}{}",
            a.shape,
            b.shape,
            if p.b == BLayout::Nk { " (--set b=kn takes [k, n])" } else { "" }
        ));
    }
    if rank == 3 && b.shape[0] != batch {
        return usage(format!("batch differs: a is {:?}, b is {:?}", a.shape, b.shape));
    }
    if !wide.is_multiple_of(p.gates() as usize) {
        return usage(format!("act=swiglu: b has {wide} columns of weights, which are not gate and up of equal number"));
    }
    let shape = [batch, m, wide / p.gates() as usize, k];
    if shape.contains(&0) {
        return usage(format!("a is {:?}, b is {:?}: every size must be at least 1", a.shape, b.shape));
    }
    if shape.iter().any(|s| *s > i32::MAX as usize / 4) {
        return usage(format!("a is {:?}, b is {:?}: sizes are limited to {}", a.shape, b.shape, i32::MAX / 4));
    }
    Ok((shape, rank == 3))
}

/// A config that fits the sizes: the model's choice among a few.
pub(super) fn default_config(arch: Arch, p: &GemmProblem, [_, m, n, k]: Shape) -> Res<GemmConfig> {
    let multiple = |x: usize, of: &[u32]| of.iter().copied().find(|a| x.is_multiple_of(*a as usize)).unwrap_or(1);
    let rows_aligned = k.is_multiple_of(8) && (p.b == BLayout::Nk || n.is_multiple_of(8));
    let mut list = Vec::new();
    if p.bytes() && !arch.is_hopper() {
        let missing = match p.input {
            DType::I8 if p.block_scaled() => Some("block scales"),
            DType::I8 if p.b == BLayout::Kn => Some("i8 with b as [k, n]"),
            DType::I8 => None,
            _ => Some("8-bit floats"),
        };
        if let Some(missing) = missing {
            return usage(format!("{missing}: only sm90's kernels multiply these, the target is {arch}"));
        }
    }
    if p.quant && !arch.is_hopper() {
        return usage(format!("quant = 128: only sm90's kernels quantise their output, the target is {arch}"));
    }
    if arch.is_hopper() && (p.bytes() || rows_aligned) {
        let tiles: &[[u32; 3]] = if p.bytes() {
            &[[128, 256, 2], [128, 192, 2], [128, 128, 2], [64, 256, 1], [64, 128, 1], [64, 64, 1], [64, 32, 1], [128, 64, 2]]
        } else {
            &[[128, 256, 2], [128, 128, 2], [64, 128, 1], [64, 64, 1], [64, 32, 1]]
        };
        let (n_align, promote) = (multiple(n, &[8, 2]), promotes(p));
        let pad = p.bytes() && (p.b == BLayout::Kn || !k.is_multiple_of(16));
        list.extend(tiles.iter().map(|&[bm, bn, math_wgs]| {
            let tile = WgmmaConfig::new([bm, bn, 128 / p.input.bytes()], 2, math_wgs);
            GemmConfig::Wgmma(WgmmaConfig { n_align, promote, pad, ..tile }.deepest(p))
        }));
    }
    let wide_copies: &[u32] = if p.bytes() { &[16, 8, 4] } else { &[8, 4, 2] };
    let load_align = multiple(if p.b == BLayout::Nk { k } else { gcd(k, n) }, wide_copies);
    let n_align = multiple(n, &[2]);
    for (bm, bn, warps_m, warps_n) in [(128, 128, 2, 4), (64, 64, 2, 2), (16, 64, 1, 4)] {
        list.push(GemmConfig::Mma(MmaConfig {
            bm,
            bn,
            bk: 64 / p.input.bytes(),
            stages: 3,
            warps_m,
            warps_n,
            raster: 8,
            load_align,
            n_align,
            split: false,
        }));
    }
    list.retain(|c| c.check(p).is_ok());
    let ids: Vec<String> = list.iter().map(GemmConfig::to_string).collect();
    let candidates: Vec<Candidate> =
        list.iter().zip(&ids).map(|(config, id)| Candidate { id, problem: p, config, splits: 1 }).collect();
    let order = rank(DeviceProfile::typical(arch), Sizes { m: m as f64, n: n as f64, k: k as f64 }, &candidates);
    order.first().map(|i| list[*i]).ok_or_else(|| failure(format!("no config of gemm fits class {} on {arch}", p.class())))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Whether sums of stages are added in f32: 8-bit floats lose bits inside the tensor cores, integers do not. A quantised output of
/// gate and up leaves no room for two sets of sums.
pub fn promotes(p: &GemmProblem) -> bool {
    let room = !(p.quant && p.gates() == 2);
    p.block_scaled() || p.input.is_fp8() && room
}
