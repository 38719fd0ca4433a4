//! Weights of a few bits as files have them: which tensors they come in, and every refusal by name and size.

use super::super::ask::{Ask, dtype_of, safetensors_dtype};
use crate::error::{Fail, Res, usage};
use crate::tensors::{Tensor, Tensors, from_f64, to_f64};
use safetensors::Dtype;
use tilewright_ir::DType;
use tilewright_templates::gemm::Packed;
use tilewright_templates::gemm::weight::source::order;
use tilewright_templates::gemm::weight::{Source, Stored, packed_group};

/// The values of key `weight` that name a source.
pub const SOURCES: [&str; 4] = ["int4", "int8", "awq", "gptq"];
/// Values of key `weight` that the contract knows and that have no kernel yet.
const LATER: [&str; 10] = ["int2", "int3", "nf4", "fp4", "mxfp4", "nvfp4", "w4a8", "w4a4", "sparse24", "vq"];

/// A weight found in a file, its tensors checked against each other.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its form.
    pub source: Source,
    /// How it is packed.
    pub packed: Packed,
    /// Dtype of a.
    pub dtype: DType,
    /// Weights: a batch, or experts.
    pub batch: usize,
    /// Rows of each: output columns, twice for gate and up.
    pub rows: usize,
    /// Columns.
    pub k: usize,
    /// Neighbours along k that share a scale.
    pub group: usize,
    /// The order that puts its columns in ascending groups, where they are not.
    pub perm: Option<Vec<i32>>,
}

/// What must fit the weight from elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Dtype of a, which scales of `int4` and `int8` have.
    pub dtype: Option<DType>,
    /// k of a.
    pub k: Option<usize>,
    /// Leading extent of a; `None` for matrices, and where nothing is asked.
    pub batch: Option<Option<usize>>,
    /// Bits of a GPTQ weight, where nothing else tells them.
    pub gptq_bits: Option<u32>,
}

/// Refuses a value of key `weight` that is not one of those built.
pub fn check_name(name: &str, more: &[&str]) -> Res<()> {
    let known: Vec<&str> = SOURCES.iter().chain(more).copied().collect();
    if known.contains(&name) {
        return Ok(());
    }
    let why = if LATER.contains(&name) { "not built yet; " } else { "" };
    usage(format!("weight = `{name}`: {why}expected one of {}", known.join(", ")))
}

/// Takes the tensors of one layer of a checkpoint, key `prefix`, under their plain names, with `keep` also its `bias`; other tensors
/// of the file but `keep` are left aside.
pub fn take_prefix(ask: &mut Ask, parts: &[&str], keep: &[&str]) -> Res<()> {
    let Some(prefix) = ask.key("prefix").map(str::to_string) else { return Ok(()) };
    let mut mine = Tensors::new();
    for name in parts {
        if let Some(t) = ask.tensors.remove(&format!("{prefix}{name}")) {
            mine.insert((*name).to_string(), t);
        }
    }
    if mine.is_empty() {
        return usage(format!("prefix = `{prefix}`: the input has none of {prefix}{{{}}}", parts.join(", ")));
    }
    for name in keep {
        if let Some(t) = ask.tensors.remove(*name) {
            mine.insert((*name).to_string(), t);
        }
    }
    // A layer's bias is part of it. Checkpoints have it in F16, whatever a is.
    let bias = format!("{prefix}bias");
    if let (Some(t), Some(a)) = (ask.tensors.remove(&bias), mine.get("a")) {
        let dtype = dtype_of("a", a, &[DType::BF16, DType::F16])?;
        let data = from_f64(dtype, to_f64(t.dtype, &t.data)?.into_iter());
        if mine.insert("bias".into(), Tensor { dtype: safetensors_dtype(dtype), data, ..t }).is_some() {
            return usage(format!("tensors `bias` and `{bias}`: a gemm adds one bias"));
        }
    }
    ask.tensors = mine;
    Ok(())
}

/// The names a source's tensors have.
pub fn names(weight: &str) -> &'static [&'static str] {
    match weight {
        "int4" | "int8" => &["q", "scale", "zero"],
        "awq" => &["qweight", "qzeros", "scales"],
        _ => &["qweight", "qzeros", "scales", "g_idx"],
    }
}

/// Finds the weight that key `weight` names and checks its tensors.
pub fn load(ask: &Ask, weight: &str, wanted: Wanted) -> Res<Loaded> {
    let version: Option<u32> = ask.value("gptq_version", "1 or 2", |v| [1, 2].contains(v))?;
    if version.is_some() && weight != "gptq" {
        return usage(format!("key `gptq_version` goes with weight=gptq, not with weight={weight}"));
    }
    let (main, scales) = if matches!(weight, "int4" | "int8") { ("q", "scale") } else { ("qweight", "scales") };
    let (t, s) = (ask.need(main)?, ask.need(scales)?);
    let lead = leading(main, t, wanted.batch)?;
    let [rows_of, cols_of] = [t.shape[t.shape.len() - 2], t.shape[t.shape.len() - 1]];
    if t.shape.contains(&0) {
        return usage(format!("tensor `{main}` is {}: every size must be at least 1", t.describe()));
    }
    let of_k = wanted.k.map_or(String::new(), |k| format!(" for k = {k} of a"));
    let refuse = |expected: String| usage(format!("tensor `{main}` is {}: expected {expected}{of_k}", t.describe()));
    let (source, rows, k, scale_dtype) = match weight {
        "int4" | "int8" => {
            let bits = if weight == "int4" { 4 } else { 8 };
            let k = cols_of * 8 / bits;
            if t.dtype != Dtype::U8 || wanted.k.is_some_and(|want| want != k) {
                let cols = wanted.k.map_or("k*bits/8".to_string(), |k| (k * bits).div_ceil(8).to_string());
                let odd = if bits == 4 && wanted.k.is_some_and(|k| k % 2 == 1) { ", and an even k" } else { "" };
                return refuse(format!("U8 [n, {cols}], {bits} bits a code{odd},"));
            }
            let zero = ask.tensors.contains_key("zero");
            (Source::Raw { bits: bits as u32, zero }, rows_of, k, wanted.dtype)
        }
        "awq" => {
            if t.dtype != Dtype::I32 || wanted.k.is_some_and(|want| want != rows_of) {
                return refuse(format!("I32 [{}, n/8]", wanted.k.map_or("k".to_string(), |k| k.to_string())));
            }
            (Source::Awq, cols_of * 8, rows_of, Some(DType::F16))
        }
        _ => {
            let by_order = ask.tensors.get("g_idx").and_then(|g| g.shape.last().copied());
            let k = wanted.k.or_else(|| wanted.gptq_bits.map(|b| rows_of * 32 / b as usize)).or(by_order).unwrap_or(rows_of * 8);
            let bits = [4usize, 8].into_iter().find(|bits| rows_of * 32 == k * bits);
            let (true, Some(bits)) = (t.dtype == Dtype::I32, bits) else {
                return refuse(format!("I32 [k/8, n] of 4-bit or [k/4, n] of 8-bit codes, k = {k}"));
            };
            (Source::Gptq { bits: bits as u32, version: version.unwrap_or(1) }, cols_of, k, Some(DType::F16))
        }
    };
    let found = [DType::BF16, DType::F16].into_iter().find(|d| safetensors_dtype(*d) == s.dtype);
    let Some(found) = found.filter(|d| scale_dtype.is_none_or(|want| want == *d)) else {
        let want = scale_dtype.map_or("BF16 or F16".to_string(), |d| format!("{:?}", safetensors_dtype(d)));
        let why = if main == "q" { ", as a has" } else { "" };
        return usage(format!("tensor `{scales}` is {}: expected {want}{why}", s.describe()));
    };
    // Groups are the scales' other extent; everything else follows from them.
    let with = |dims: [usize; 2]| lead.into_iter().chain(dims).collect::<Vec<usize>>();
    let raw = main == "q";
    let groups = if s.shape.len() == t.shape.len() { s.shape[s.shape.len() - if raw { 1 } else { 2 }] } else { 0 };
    let shape = with(if raw { [rows, groups] } else { [groups, rows] });
    if groups == 0 || s.shape != shape {
        let form = if raw { format!("[{rows}, k/g]") } else { format!("[k/g, {rows}]") };
        let each = if lead.is_some() { ", each of a batch" } else { "" };
        return usage(format!("tensor `{scales}` is {}: expected {form}{each}", s.describe()));
    }
    if !k.is_multiple_of(groups) {
        return usage(format!("tensor `{scales}` is {}: {groups} groups do not divide k = {k}", s.describe()));
    }
    let group = k / groups;
    let Some(packed) = packed_group(group, k) else {
        return usage(format!(
            "tensor `{scales}` is {}: groups of {group} along k = {k}: multiples of 16 and groups of k are built",
            s.describe()
        ));
    };
    let per = 32 / source.bits() as usize;
    match source {
        Source::Raw { zero: false, .. } => (),
        Source::Raw { .. } => ask.expect("zero", Dtype::U8, &shape)?,
        Source::Awq | Source::Gptq { .. } if rows % per != 0 => {
            return usage(format!("tensor `{main}` is {}: n = {rows} is no multiple of the {per} codes of a word", t.describe()));
        }
        _ => ask.expect("qzeros", Dtype::I32, &with([groups, rows / per]))?,
    }
    check_finite(scales, s)?;
    if let (Source::Raw { bits: 4, zero: true }, Some(z)) = (source, ask.tensors.get("zero"))
        && let Some(at) = z.data.iter().position(|z| *z > 15)
    {
        return usage(format!("tensor `zero`: element {at} is {}: 4-bit zero points are 0 to 15", z.data[at]));
    }
    let perm = if weight == "gptq" { permutation(ask, k, group)? } else { None };
    let mut loaded = Loaded {
        source,
        packed: Packed { bits: source.bits(), group: packed, zero: source.zero() },
        dtype: wanted.dtype.unwrap_or(found),
        batch: lead.unwrap_or(1),
        rows,
        k,
        group,
        perm,
    };
    loaded.packed.zero = source.zero() && !loaded.symmetric(&ask.tensors)?;
    Ok(loaded)
}

impl Loaded {
    /// Weight `i` of the batch, from the tensors it was found in.
    pub fn stored<'t>(&self, tensors: &'t Tensors, g_idx: Option<&'t [i32]>, i: usize) -> Res<Stored<'t>> {
        let names =
            if matches!(self.source, Source::Raw { .. }) { ["q", "scale", "zero"] } else { ["qweight", "scales", "qzeros"] };
        let part = |name: &str| {
            tensors.get(name).map(|t| {
                let each = t.data.len() / self.batch;
                &t.data[i * each..][..each]
            })
        };
        let need = |name: &str| part(name).ok_or_else(|| Fail::Usage(format!("tensor `{name}` is missing from the input")));
        Ok(Stored {
            source: self.source,
            scale_dtype: self.dtype,
            rows: self.rows,
            k: self.k,
            group: self.group,
            codes: need(names[0])?,
            scales: need(names[1])?,
            zeros: part(names[2]),
            g_idx,
        })
    }

    /// Whether every zero point is half the range: then the packed form needs none. Symmetric GPTQ checkpoints are so.
    fn symmetric(&self, tensors: &Tensors) -> Res<bool> {
        let middle = 1u32 << (self.source.bits() - 1);
        for i in 0..self.batch {
            let s = self.stored(tensors, None, i)?;
            if (0..self.rows).any(|row| (0..s.groups()).any(|g| s.zero(row, g) != middle)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The weights `[batch, rows, k]` by definition, as `dtype` holds them.
    pub fn weights(&self, tensors: &Tensors) -> Res<Vec<f64>> {
        let g_idx = self.perm.as_ref().and_then(|_| tensors.get("g_idx")).map(ints);
        let mut all = Vec::new();
        for i in 0..self.batch {
            all.extend(self.stored(tensors, g_idx.as_deref(), i)?.weights(self.dtype));
        }
        Ok(all)
    }
}

/// Elements of an I32 tensor.
pub fn ints(t: &Tensor) -> Vec<i32> {
    t.data.chunks_exact(4).map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

/// An I32 vector as a tensor.
pub fn int_tensor(v: &[i32]) -> Tensor {
    Tensor { dtype: Dtype::I32, shape: vec![v.len()], data: v.iter().flat_map(|x| x.to_le_bytes()).collect() }
}

/// Refuses NaN and infinite scales.
pub fn check_finite(name: &str, t: &Tensor) -> Res<()> {
    let values = to_f64(t.dtype, &t.data)?;
    match values.iter().position(|x| !x.is_finite()) {
        Some(at) => usage(format!("tensor `{name}`: element {at} is {}: scales are finite", values[at])),
        None => Ok(()),
    }
}

/// The leading extent of a weight's tensor, `None` of a matrix; it must be that of a.
fn leading(name: &str, t: &Tensor, wanted: Option<Option<usize>>) -> Res<Option<usize>> {
    let lead = match t.shape.len() {
        2 => None,
        3 => Some(t.shape[0]),
        _ => return usage(format!("tensor `{name}` is {}: expected a matrix, or a batch of them", t.describe())),
    };
    match wanted {
        Some(want) if want != lead => {
            let of = |l: Option<usize>| l.map_or("no batch".to_string(), |b| format!("a batch of {b}"));
            usage(format!("tensor `{name}` is {}: {}, a has {}", t.describe(), of(lead), of(want)))
        }
        _ => Ok(lead),
    }
}

/// The order of columns of `g_idx`; `None` where they are in order.
fn permutation(ask: &Ask, k: usize, group: usize) -> Res<Option<Vec<i32>>> {
    let Some(t) = ask.tensors.get("g_idx") else { return Ok(None) };
    if t.dtype != Dtype::I32 || t.shape != [k] {
        return usage(format!("tensor `g_idx` is {}: expected I32 [{k}]", t.describe()));
    }
    let g_idx = ints(t);
    let perm = order(&g_idx, group).map_err(|e| Fail::Usage(format!("tensor `g_idx`: {e}")))?;
    Ok((!perm.is_sorted()).then_some(perm))
}
