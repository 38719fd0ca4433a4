//! `gen run gemm_pack`: any source to the packed weight that `weight=packed` takes, so that a server packs once.

use super::super::ask::Ask;
use super::super::case::{Case, Check, More, Output, Random, Request, Trial};
use super::super::{About, Family, Indexed};
use super::checkpoint::{Loaded, Wanted, check_name, int_tensor, ints, load, names, take_prefix};
use crate::error::{Res, bad_input, failed, failure, usage};
use crate::level::Level;
use crate::library::Entry;
use crate::tensors::{Tensor, Tensors, from_f64};
use safetensors::Dtype;
use serde_json::json;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::dispatch::Dispatch;
use tilewright_runtime::expr::{VarId, Vars};
use tilewright_templates::gemm::Act;
use tilewright_templates::gemm::weight::{self, Blocks, PackProblem, Source, pack_plan};
use tilewright_templates::plan::OpPlan;

/// The row of `gemm_pack`.
pub const FAMILY: Family = Family {
    op: "gemm_pack",
    about,
    configs: |_| Vec::new(),
    class: "source=awq,dtype=f16,weight=int4g128z,gates=1,perm=0",
    request,
    plans: |arch, entry: &Entry| {
        if !entry.configs.is_empty() || !entry.splits.is_empty() {
            return usage(format!("{}: gemm_pack has neither configs nor splits", entry.class));
        }
        Ok(vec![plan_of(arch, &entry.class)?])
    },
    kernel: |arch, class, config| match config {
        "" => plan_of(arch, class)?.kernels.into_iter().next().ok_or_else(|| failure("a packing launches nothing")),
        other => usage(format!("config `{other}`: gemm_pack has none, give an empty one")),
    },
    table,
    cases,
};

fn about() -> About {
    About {
        templates: vec!["pack"],
        inputs: vec!["bf16", "f16"],
        outputs: vec!["i32"],
        keys: vec![
            ("weight", json!(super::checkpoint::SOURCES)),
            ("gptq_version", json!([1, 2])),
            ("prefix", json!("what the names of one layer's tensors begin with")),
            ("dtype", json!(["bf16", "f16"])),
            ("act", json!(["none", "swiglu"])),
            ("bits", json!([4, 8])),
        ],
    }
}

fn plan_of(arch: Arch, class: &str) -> Res<OpPlan> {
    let p = PackProblem::from_class(class).map_err(bad_input)?;
    pack_plan(arch, &p).map_err(bad_input)
}

/// Plans of a class in the order they come in: there is one.
fn table(_: Arch, class: &str, plans: &[Indexed<'_>]) -> Res<Dispatch> {
    Ok(Dispatch::single("gemm_pack", class, plans.iter().map(|(i, _)| *i).collect()))
}

/// Checks keys and tensors against each other.
fn request(mut ask: Ask) -> Res<Request> {
    let Some(name) = ask.key("weight").map(str::to_string) else {
        return usage("key `weight` is missing: gemm_pack packs int4, int8, awq or gptq");
    };
    check_name(&name, &[])?;
    ask.only_keys(&["weight", "gptq_version", "prefix", "dtype", "act", "bits"])?;
    let parts = names(&name);
    take_prefix(&mut ask, parts, &[])?;
    if let Some(stranger) = ask.tensors.keys().find(|n| !parts.contains(&n.as_str())) {
        return usage(format!("unknown tensor `{stranger}`: weight={name} packs {}", parts.join(", ")));
    }
    let dtype = ask.value("dtype", "bf16 or f16, the dtype of a", |d| matches!(d, DType::BF16 | DType::F16))?;
    let act: Act = ask.parsed("act")?.unwrap_or(Act::None);
    let gates = if act == Act::Swiglu { 2 } else { 1 };
    let bits: Option<u32> = ask.value("bits", "4 or 8", |b| [4, 8].contains(b))?;
    if bits.is_some() && name != "gptq" {
        return usage(format!("key `bits` goes with weight=gptq: weight={name} says them itself"));
    }
    let loaded = load(&ask, &name, Wanted { dtype, gptq_bits: bits, ..Wanted::default() })?;
    if !loaded.rows.is_multiple_of(gates) {
        return usage(format!("act=swiglu: the weight has {} rows, which are not gate and up of equal number", loaded.rows));
    }
    if loaded.rows.saturating_mul(loaded.k) > i32::MAX as usize {
        return usage(format!("n = {}, k = {}: a weight is limited to 2^31 codes", loaded.rows, loaded.k));
    }
    let lead = ask.tensors.get(parts[0]).is_some_and(|t| t.shape.len() == 3);
    let case = case(&loaded, gates, lead, ask.tensors)?;
    let p = problem(&loaded, gates);
    Ok(Request { case, pinned: false, plans: Box::new(move |arch| Ok(vec![pack_plan(arch, &p).map_err(bad_input)?])) })
}

fn problem(l: &Loaded, gates: usize) -> PackProblem {
    PackProblem { source: l.source, dtype: l.dtype, packed: l.packed, gates: gates as u32, perm: l.perm.is_some() }
}

fn case(l: &Loaded, gates: usize, lead: bool, mut inputs: Tensors) -> Res<Case> {
    let p = problem(l, gates);
    let n = l.rows / gates;
    let blocks = Blocks { packed: l.packed, n, k: l.k, gates };
    let one = [blocks.along_n(), blocks.along_k(), weight::words(l.packed) as usize];
    let shape: Vec<usize> = lead.then_some(l.batch).into_iter().chain(one).collect();
    let mut outputs = vec![Output { name: "packed", dtype: Dtype::I32, shape }];
    if let Some(perm) = &l.perm {
        inputs.insert("order".into(), int_tensor(perm));
        outputs.push(Output { name: "perm", dtype: Dtype::I32, shape: vec![l.k] });
    }
    let mut vars = Vars::gemm(1, n as i64, l.k as i64);
    vars.set(VarId::BATCH, l.batch as i64).map_err(failure)?;
    vars.set(VarId::of("group"), l.group as i64).map_err(failure)?;
    Ok(Case {
        sizes: format!("batch {} n {n} k {} group {}", l.batch, l.k, l.group),
        class: p.class(),
        vars,
        scalars: Vec::new(),
        inputs,
        outputs,
        unused: Vec::new(),
        more: More::default(),
        check: check(l.clone(), gates),
    })
}

/// The words must be those of the host's packing. The report says what `weight=packed` is to be told.
fn check(l: Loaded, gates: usize) -> Check {
    Box::new(move |inputs, outputs, _| {
        let found = outputs.get("packed").map(ints).unwrap_or_default();
        let (n, groups) = (l.rows / gates, l.k.div_ceil(l.group));
        let columns: Vec<i32> = l.perm.clone().unwrap_or_else(|| (0..l.k as i32).collect());
        if l.perm.is_some() && outputs.get("perm").map(ints) != l.perm {
            return failed("perm is not the order of g_idx");
        }
        let each = found.len() / l.batch;
        for i in 0..l.batch {
            let s = l.stored(inputs, None, i)?;
            let codes: Vec<u8> = (0..l.rows * l.k).map(|i| s.code(i / l.k, columns[i % l.k] as usize) as u8).collect();
            let scales: Vec<f32> = (0..l.rows * groups).map(|i| s.scale(i / groups, i % groups) as f32).collect();
            let zeros: Vec<u8> = (0..l.rows * groups).map(|i| s.zero(i / groups, i % groups) as u8).collect();
            let zeros = l.packed.zero.then_some(&zeros[..]);
            let want = weight::pack(l.packed, l.dtype, n, l.k, gates, l.group, &codes, &scales, zeros);
            if let Some(at) = (0..each.max(want.len())).find(|at| found.get(i * each + at) != want.get(*at)) {
                return failed(format!(
                    "word {at} of packed weight {i} is {:?}, not {:?}",
                    found.get(i * each + at),
                    want.get(at)
                ));
            }
        }
        let keys = json!({"bits": l.packed.bits, "group": l.packed.group, "zero": l.packed.zero, "n": n});
        Ok(json!({"reference": "packed on the host", "elements": found.len(), "max_error": 0.0, "bound": "exact", "keys": keys}))
    })
}

/// One group a row and several, rows that fill no block, a batch.
fn cases(t: &Trial<'_>) -> Res<Vec<Case>> {
    let p = PackProblem::from_class(&t.plan.class).map_err(bad_input)?;
    let (gates, pg) = (p.gates as usize, p.packed.group as usize);
    let mut shapes = vec![[1, 8, 2 * pg, pg], [2, 72, 3 * pg, pg]];
    if t.level == Level::Full {
        shapes.extend([[1, 136, 4 * pg, 2 * pg], [1, 64, pg, pg]]);
        shapes.extend((pg == 128 && !p.perm).then_some([1, 24, 328, 328]));
    }
    let mut list = Vec::new();
    for (i, [batch, n, k, group]) in shapes.into_iter().enumerate() {
        let l = Loaded {
            source: p.source,
            packed: p.packed,
            dtype: p.dtype,
            batch: if p.perm { 1 } else { batch },
            rows: n * gates,
            k,
            group,
            perm: p.perm.then(|| dealt(k, group)),
        };
        let inputs = random(&l, t.seed + i as u64);
        let case = case(&l, gates, true, inputs)?;
        if (t.fits)(&case.vars) {
            list.push(case);
        }
    }
    Ok(list)
}

/// The order that puts together columns that are dealt to groups one by one.
pub fn dealt(k: usize, group: usize) -> Vec<i32> {
    (0..k).map(|i| (i % group * (k / group) + i / group) as i32).collect()
}

/// Tensors of a source with random bits in codes and zero points.
pub fn random(l: &Loaded, seed: u64) -> Tensors {
    let mut random = Random::new(seed);
    let groups = l.k.div_ceil(l.group);
    let (bits, raw) = (l.source.bits() as usize, matches!(l.source, Source::Raw { .. }));
    let mut all = Tensors::new();
    for part in l.source.parts(l.dtype) {
        let size = |e: &str| match e {
            "k" => l.k,
            "groups" => groups,
            "wide" => l.rows,
            "k/2" => l.k / 2,
            other => other.split_once('/').map_or(1, |(a, b)| if a == "k" { l.k } else { l.rows } / b.parse().unwrap_or(1)),
        };
        let shape = vec![l.batch, size(&part.shape[0]), size(&part.shape[1])];
        let count: usize = shape.iter().product();
        // Zero points that the packed form leaves out are half the range, in every field of a byte.
        let middle = match (l.source, part.name) {
            _ if l.packed.zero => None,
            (Source::Raw { bits, .. }, "zero") => Some(1u8 << (bits - 1)),
            (Source::Gptq { bits: 4, version: 1 }, "qzeros") => Some(0x77),
            (Source::Gptq { bits: 8, version }, "qzeros") => Some(if version == 1 { 0x7f } else { 0x80 }),
            (_, "qzeros") => Some(0x88),
            _ => None,
        };
        let (dtype, data) = match part.dtype {
            DType::I32 | DType::U8 if middle.is_some() => {
                let (dtype, bytes) = if part.dtype == DType::I32 { (Dtype::I32, 4) } else { (Dtype::U8, 1) };
                (dtype, vec![middle.unwrap_or_default(); count * bytes])
            }
            DType::I32 => (Dtype::I32, (0..count * 4).map(|_| random.below(256) as u8).collect()),
            DType::U8 => {
                let top = if raw && part.name == "zero" { 1 << bits } else { 256 };
                (Dtype::U8, (0..count).map(|_| random.below(top) as u8).collect())
            }
            d => (super::super::ask::safetensors_dtype(d), from_f64(d, (0..count).map(|_| random.unit()))),
        };
        all.insert(part.name.to_string(), Tensor { dtype, shape, data });
    }
    all
}
