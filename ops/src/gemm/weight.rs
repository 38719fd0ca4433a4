//! `gen run gemm` with key `weight`: a checkpoint's tensors, or a weight that `gemm_pack` packed, instead of `b`.

use super::super::ask::{Ask, dtype_of, safetensors_dtype};
use super::super::case::Request;
use super::case::{Weights, case_of};
use super::checkpoint::{self, Loaded, Wanted, check_name, int_tensor, ints, load, take_prefix};
use super::request::default_config;
use crate::error::{Fail, Res, bad_input, failure, usage};
use crate::tensors::Tensors;
use safetensors::Dtype;
use std::rc::Rc;
use std::str::FromStr;
use tilewright_autotune::{Candidate, DeviceProfile, Sizes, crossover, rank};
use tilewright_ir::{Arch, DType};
use tilewright_runtime::expr::VarId;
use tilewright_templates::gemm::weight::{self, Blocks, WeightClass, WeightMmaConfig, WeightWgmmaConfig, dequantised_plan};
use tilewright_templates::gemm::{Act, GemmConfig, GemmProblem, Packed, Weight, plan};
use tilewright_templates::plan::OpPlan;

/// Which way a packed weight is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The one that is faster by the estimate.
    Auto,
    /// The kernel that decodes as it multiplies.
    Packed,
    /// Unpack, then the dense kernel.
    Dequantised,
}

impl FromStr for Path {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(Path::Auto),
            "packed" => Ok(Path::Packed),
            "dequantised" => Ok(Path::Dequantised),
            _ => Err(format!("path = `{s}`: expected auto, packed or dequantised")),
        }
    }
}

/// Keys of every gemm, and those of weights.
const KEYS: [&str; 13] =
    ["out", "act", "alpha", "split_k", "config", "weight", "gptq_version", "prefix", "path", "bits", "group", "zero", "n"];

/// Checks keys and tensors against each other.
pub fn request(mut ask: Ask) -> Res<Request> {
    let name = ask.key("weight").unwrap_or_default().to_string();
    check_name(&name, &["packed"])?;
    if ask.key("b").is_some() {
        return usage(format!("key `b` says how b lies, which weight={name} has no use for"));
    }
    ask.only_keys(&KEYS)?;
    let from_file = name != "packed";
    let parts: &[&str] = if from_file { checkpoint::names(&name) } else { &["packed", "perm"] };
    let own = ["bits", "group", "zero", "n"].into_iter().find(|k| from_file && ask.key(k).is_some());
    if let Some(key) = own {
        return usage(format!("key `{key}` goes with weight=packed: weight={name} has it from its tensors"));
    }
    const OWN: [&str; 3] = ["a", "bias", "residual"];
    take_prefix(&mut ask, parts, &OWN)?;
    if let Some(stranger) = ask.tensors.keys().find(|n| !OWN.contains(&n.as_str()) && !parts.contains(&n.as_str())) {
        let hint = if stranger.ends_with(parts[0]) { " (--set prefix=... takes one layer of a checkpoint)" } else { "" };
        return usage(format!(
            "unknown tensor `{stranger}`: weight={name} takes a, {}, and optionally bias, residual{hint}",
            parts.join(", ")
        ));
    }
    let a = ask.need("a")?;
    let input = dtype_of("a", a, &[DType::BF16, DType::F16])?;
    let (batch, m, k) = match a.shape[..] {
        [m, k] if m * k > 0 => (None, m, k),
        [batch, m, k] if batch * m * k > 0 => (Some(batch), m, k),
        _ => return usage(format!("tensor `a` is {}: expected [m, k] or [batch, m, k], every size at least 1", a.describe())),
    };
    let act = ask.parsed("act")?.unwrap_or(Act::None);
    let outputs = |d: &DType| matches!(d, DType::BF16 | DType::F16 | DType::F32);
    let output = ask.value("out", "bf16, f16 or f32", outputs)?.unwrap_or(input);
    let (bias, residual) = (ask.tensors.contains_key("bias"), ask.tensors.contains_key("residual"));
    let plain = GemmProblem { output, act, bias, residual, ..GemmProblem::plain(input) };
    let gates = plain.gates() as usize;
    let found = if from_file {
        Found::file(load(&ask, &name, Wanted { dtype: Some(input), k: Some(k), batch: Some(batch), gptq_bits: None })?)
    } else {
        Found::packed(&ask, input, k, batch, gates)?
    };
    if !found.rows.is_multiple_of(gates) {
        return usage(format!("act=swiglu: the weight has {} rows, which are not gate and up of equal number", found.rows));
    }
    let n = found.rows / gates;
    let shape = [batch.unwrap_or(1), m, n, k];
    if shape.iter().any(|s| *s > i32::MAX as usize / 4) || found.rows.saturating_mul(k) > i32::MAX as usize {
        return usage(format!("m = {m}, n = {n}, k = {k}: sizes are limited to {}, a weight to 2^31 codes", i32::MAX / 4));
    }
    if bias {
        ask.expect("bias", safetensors_dtype(input), &[found.rows])?;
    }
    if residual {
        let whole = [shape[0], m, n];
        ask.expect("residual", safetensors_dtype(output), if batch.is_some() { &whole } else { &whole[1..] })?;
    }
    let alpha = ask.value("alpha", "a number", |_| true)?.unwrap_or(1.0);
    let splits: Option<u32> = ask.value("split_k", "a whole number from 1", |s| *s >= 1)?;
    let config: Option<GemmConfig> = ask.parsed("config")?;
    let path: Path = ask.key("path").map_or(Ok(Path::Auto), str::parse).map_err(bad_input)?;
    let problem = GemmProblem { weight: Weight::Packed(found.packed), ..plain };
    let class = WeightClass { problem, source: found.source, perm: found.perm.is_some() };
    let mut inputs = ask.tensors;
    if let Some(perm) = &found.perm {
        inputs.insert("perm".into(), int_tensor(perm));
    }
    let mut case = case_of(problem, shape, batch.is_some(), alpha, inputs, found.weights)?;
    case.class = class.class();
    case.vars.set(VarId::of("group"), found.group as i64).map_err(failure)?;
    Ok(Request {
        case,
        pinned: config.is_some() || splits.is_some() || path != Path::Auto,
        plans: Box::new(move |arch| {
            let list = plans(arch, &class.problem, shape, path, config, splits.unwrap_or(1))?;
            list.into_iter().map(|p| class.complete(arch, p).map_err(bad_input)).collect()
        }),
    })
}

/// A weight, wherever it comes from.
pub struct Found {
    /// How it is packed.
    pub packed: Packed,
    /// Where its codes come from; `None` where it is packed already.
    pub source: Option<weight::Source>,
    /// Rows of each matrix: output columns, twice for gate and up.
    pub rows: usize,
    /// Neighbours along k that share a scale.
    pub group: usize,
    /// The order of columns of a that its columns have.
    pub perm: Option<Vec<i32>>,
    /// Its numbers.
    pub weights: Weights,
}

impl Found {
    /// From a file's tensors.
    pub fn file(loaded: Loaded) -> Found {
        let Loaded { packed, source, rows, group, .. } = loaded;
        let perm = loaded.perm.clone();
        Found { packed, source: Some(source), rows, group, perm, weights: Rc::new(move |t| loaded.weights(t)) }
    }

    /// From a packed tensor and the keys that say what it holds.
    pub fn packed(ask: &Ask, dtype: DType, k: usize, batch: Option<usize>, gates: usize) -> Res<Found> {
        let missing = |key: &str| Fail::Usage(format!("key `{key}` is missing: weight=packed needs bits, group, zero and n"));
        let bits = ask.value("bits", "4 or 8", |b| [4, 8].contains(b))?.ok_or_else(|| missing("bits"))?;
        let group =
            ask.value("group", "16, 32, 64 or 128", |g| [16, 32, 64, 128].contains(g))?.ok_or_else(|| missing("group"))?;
        let zero: bool = ask.value("zero", "true or false", |_| true)?.ok_or_else(|| missing("zero"))?;
        let n: usize = ask.value("n", "a whole number from 1", |n| (1..1 << 29).contains(n))?.ok_or_else(|| missing("n"))?;
        let packed = Packed { bits, group, zero };
        let blocks = Blocks { packed, n, k, gates };
        let one = [blocks.along_n(), blocks.along_k(), weight::words(packed) as usize];
        let shape: Vec<usize> = batch.into_iter().chain(one).collect();
        let t = ask.need("packed")?;
        if t.dtype != Dtype::I32 || t.shape != shape {
            return usage(format!(
                "tensor `packed` is {}: expected I32 {shape:?} for n = {n}, k = {k}, bits = {bits}, group = {group}, zero = {zero}",
                t.describe()
            ));
        }
        let words = ints(t);
        let mut halves = words
            .chunks(one[2])
            .flat_map(|b| &b[weight::code_words(packed) as usize..])
            .flat_map(|w| [*w as u16, (*w >> 16) as u16]);
        let exponent = if dtype == DType::BF16 { 0x7F80 } else { 0x7C00 };
        if halves.any(|h| h & exponent == exponent) {
            return usage("tensor `packed`: a scale or zero point is NaN or infinite: it was packed for another dtype or group");
        }
        let perm = match ask.tensors.get("perm") {
            None => None,
            Some(t) => {
                let perm = ints(t);
                let mut seen = vec![false; k];
                let fresh =
                    |p: &i32| usize::try_from(*p).ok().and_then(|p| seen.get_mut(p)).is_some_and(|s| !std::mem::replace(s, true));
                if t.dtype != Dtype::I32 || t.shape != [k] || !perm.iter().all(fresh) {
                    return usage(format!("tensor `perm` is {}: expected I32 [{k}], each of 0 to {} once", t.describe(), k - 1));
                }
                Some(perm)
            }
        };
        let order = perm.clone();
        let weights = move |tensors: &Tensors| -> Res<Vec<f64>> {
            let Some(t) = tensors.get("packed") else { return usage("tensor `packed` is missing from the input") };
            let words = ints(t);
            let mut all = Vec::new();
            for one in words.chunks(blocks.len()) {
                let w = weight::unpack(packed, dtype, n, k, gates, one);
                all.extend(match &order {
                    None => w,
                    Some(order) => in_place(&w, order),
                });
            }
            Ok(all)
        };
        Ok(Found { packed, source: None, rows: n * gates, group: group as usize, perm, weights: Rc::new(weights) })
    }
}

/// Rows whose column `i` belongs at `order[i]`.
fn in_place(w: &[f64], order: &[i32]) -> Vec<f64> {
    let mut out = vec![0.0; w.len()];
    for (from, to) in w.chunks(order.len()).zip(out.chunks_mut(order.len())) {
        order.iter().zip(from).for_each(|(at, x)| to[*at as usize] = *x);
    }
    out
}

/// Plans that multiply by a packed weight, best first.
pub fn plans(
    arch: Arch,
    p: &GemmProblem,
    shape: [usize; 4],
    path: Path,
    config: Option<GemmConfig>,
    splits: u32,
) -> Res<Vec<OpPlan>> {
    let Weight::Packed(packed) = p.weight else { return usage(format!("class {}: its weight is not packed", p.class())) };
    let [_, m, n, k] = shape;
    let dense = GemmProblem { weight: Weight::Same, ..*p };
    let mine = |c: &GemmConfig| c.check(p).is_ok();
    if let Some(c) = config {
        let plan = match path {
            Path::Dequantised => dequantised_plan(arch, p, &c, splits),
            Path::Auto if !mine(&c) && c.check(&dense).is_ok() => dequantised_plan(arch, p, &c, splits),
            _ => plan(arch, p, &c, splits),
        };
        return Ok(vec![plan.map_err(bad_input)?]);
    }
    let late = m >= crossover(DeviceProfile::typical(arch), packed, n * p.gates() as usize, k);
    let mut list = Vec::new();
    if path == Path::Packed || path == Path::Auto && !late {
        // A few of the best: a kernel that needs more registers than there are gives way to the next.
        // One that does not split k gives way too.
        let made: Vec<_> = packed_configs(arch, p, shape).iter().map(|c| plan(arch, p, c, splits)).collect();
        match made.iter().find_map(|m| m.as_ref().err().cloned()) {
            Some(why) if path == Path::Packed && made.iter().all(Result::is_err) => return Err(bad_input(why)),
            _ => list.extend(made.into_iter().flatten().take(3)),
        }
    }
    if path != Path::Packed {
        let c = default_config(arch, &dense, shape)?;
        list.push(dequantised_plan(arch, p, &c, splits).map_err(bad_input)?);
    }
    Ok(list)
}

/// Kernels that decode as they multiply and take the sizes, in the model's order; none where there are none.
pub fn packed_configs(arch: Arch, p: &GemmProblem, [_, m, n, k]: [usize; 4]) -> Vec<GemmConfig> {
    let Weight::Packed(packed) = p.weight else { return Vec::new() };
    let mut list = Vec::new();
    // TMA brings tokens: their rows are whole 16 bytes.
    if arch.is_hopper() && k.is_multiple_of(8) {
        let n_align = if n.is_multiple_of(8) { 8 } else { 1 };
        for bm in [8, 16, 32, 64, 128, 256] {
            for bn in [64, 128, 192] {
                for stream in [false, true] {
                    let config = WeightWgmmaConfig { bm, bn, stages: 2, raster: 8, n_align, stream };
                    list.push(GemmConfig::WeightWgmma(config.deepest(p, packed)));
                }
            }
        }
    }
    let load_align = [8, 4, 2].into_iter().find(|a| k.is_multiple_of(*a as usize)).unwrap_or(1);
    for (bm, rows, wgs, depth, ctas) in [
        (8, 32, 4, 2, 2),
        (8, 64, 8, 1, 1),
        (8, 64, 4, 1, 2),
        (8, 64, 4, 1, 1),
        (16, 64, 4, 1, 1),
        (16, 64, 2, 1, 1),
        (32, 64, 2, 1, 1),
        (32, 64, 1, 1, 1),
        (32, 128, 2, 1, 1),
        (64, 128, 2, 1, 1),
    ] {
        let bn = rows * p.gates();
        let config = WeightMmaConfig { bm, bn, wgs, stages: 3, depth, load_align, ctas, split: false };
        list.push(GemmConfig::WeightMma(config));
    }
    list.retain(|c| c.check(p).is_ok());
    let ids: Vec<String> = list.iter().map(GemmConfig::to_string).collect();
    let candidates: Vec<Candidate> =
        list.iter().zip(&ids).map(|(config, id)| Candidate { id, problem: p, config, splits: 1 }).collect();
    let order = rank(DeviceProfile::typical(arch), Sizes { m: m as f64, n: n as f64, k: k as f64 }, &candidates);
    order.into_iter().map(|i| list[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids of the plans for m tokens and a layer of 8192 by 4096, best first.
    fn ids(arch: Arch, m: usize, k: usize, path: Path) -> Vec<String> {
        let weight = Weight::Packed(Packed { bits: 4, group: 128, zero: true });
        let p = GemmProblem { weight, ..GemmProblem::plain(DType::BF16) };
        plans(arch, &p, [1, m, 8192, k], path, None, 1).unwrap().into_iter().map(|p| p.plan.id).collect()
    }

    #[test]
    fn many_tokens_unpack_first_and_few_do_not() {
        for (arch, few, many) in [(Arch::Sm90a, 256, 1024), (Arch::Sm80, 64, 1024)] {
            let unpacks = |m, path| ids(arch, m, 4096, path)[0].contains("_dequantised_");
            assert_eq!([few, many].map(|m| unpacks(m, Path::Auto)), [false, true], "{arch}");
            assert_eq!([few, many].map(|m| unpacks(m, Path::Packed)), [false, false], "{arch}");
            assert_eq!([few, many].map(|m| unpacks(m, Path::Dequantised)), [true, true], "{arch}");
        }
        // Rows of a that TMA does not take go to the kernel that copies them.
        assert!(ids(Arch::Sm90a, 8, 3884, Path::Packed).iter().all(|id| !id.contains("wgmma")));
        // Whatever is built first, unpacking is there when it cannot be.
        assert!(ids(Arch::Sm90a, 8, 4096, Path::Auto).last().is_some_and(|id| id.contains("_dequantised_")));
    }
}
