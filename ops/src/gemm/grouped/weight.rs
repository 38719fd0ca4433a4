//! `gen run gemm_grouped` with key `weight`: a matrix of codes for each expert, or what packing made of them, instead of `b`.

use super::super::super::ask::Ask;
use super::super::super::case::Request;
use super::super::checkpoint::{Wanted, check_name, load, names};
use super::super::weight::{Path, packed_configs};
use super::case::{Sizes, case};
use super::complete;
use super::request::{TENSORS, default_config};
use crate::error::{Res, bad_input, failure, usage};
use tilewright_autotune::{DeviceProfile, crossover};
use tilewright_ir::Arch;
use tilewright_runtime::expr::VarId;
use tilewright_templates::gemm::weight::WeightClass;
use tilewright_templates::gemm::{GemmConfig, GemmProblem, Weight};
use tilewright_templates::plan::OpPlan;

pub use super::super::weight::Found;

const KEYS: [&str; 11] = ["out", "act", "alpha", "config", "weight", "gptq_version", "path", "bits", "group", "zero", "n"];

/// Refuses keys and tensors that do not go with the weight's name.
pub fn check_words(ask: &Ask) -> Res<()> {
    let name = ask.key("weight").unwrap_or_default();
    check_name(name, &["packed"])?;
    if ask.key("b").is_some() {
        return usage(format!("key `b` says how b lies, which weight={name} has no use for"));
    }
    ask.only_keys(&KEYS)?;
    let own = ["bits", "group", "zero", "n"].into_iter().find(|k| ask.key(k).is_some());
    if let Some(key) = own.filter(|_| name != "packed") {
        return usage(format!("key `{key}` goes with weight=packed: weight={name} has it from its tensors"));
    }
    let parts = parts(name);
    match ask.tensors.keys().find(|n| !TENSORS.contains(&n.as_str()) && !parts.contains(&n.as_str())) {
        Some(stranger) => usage(format!(
            "unknown tensor `{stranger}`: weight={name} takes a, {}, offsets or counts, and optionally bias, residual, gather",
            parts.join(", ")
        )),
        None => Ok(()),
    }
}

fn parts(name: &str) -> &'static [&'static str] {
    if name == "packed" { &["packed"] } else { names(name) }
}

/// The weights of `e` experts.
pub fn find(ask: &Ask, p: &GemmProblem, e: usize, k: usize) -> Res<Found> {
    let name = ask.key("weight").unwrap_or_default();
    let main = parts(name)[0];
    let t = ask.need(main)?;
    let rank = if name == "packed" { 4 } else { 3 };
    if t.shape.len() != rank || t.shape[0] != e {
        return usage(format!("tensor `{main}` is {}: expected {rank} extents, the first {e} for as many experts", t.describe()));
    }
    let found = if name == "packed" {
        Found::packed(ask, p.input, k, Some(e), p.gates() as usize)?
    } else {
        Found::file(load(ask, name, Wanted { dtype: Some(p.input), k: Some(k), batch: Some(Some(e)), gptq_bits: None })?)
    };
    if found.perm.is_some() {
        return usage("tensor `g_idx`: experts whose columns are out of order are not built; put their columns in order first");
    }
    Ok(found)
}

/// A run on packed weights: by the kernel that decodes as it multiplies, or unpacked first.
pub fn request(ask: Ask, plain: GemmProblem, s: Sizes, found: Found, alpha: f32, config: Option<GemmConfig>) -> Res<Request> {
    let path: Path = ask.key("path").map_or(Ok(Path::Auto), str::parse).map_err(bad_input)?;
    let problem = GemmProblem { weight: Weight::Packed(found.packed), ..plain };
    let class = WeightClass { problem, source: found.source, perm: false };
    let chosen = s.clone();
    let gather = s.rows.is_some();
    let mut case = case(problem, s, alpha, ask.tensors, found.weights)?;
    case.class = tilewright_templates::gemm::grouped_class(&class.class(), gather);
    case.vars.set(VarId::of("group"), found.group as i64).map_err(failure)?;
    Ok(Request {
        case,
        pinned: config.is_some() || path != Path::Auto,
        plans: Box::new(move |arch| plans(arch, &class, &chosen, path, config)),
    })
}

/// Plans, best first: a few kernels that decode as they multiply, then the way by unpacked weights.
fn plans(arch: Arch, class: &WeightClass, s: &Sizes, path: Path, config: Option<GemmConfig>) -> Res<Vec<OpPlan>> {
    let p = &class.problem;
    let Weight::Packed(packed) = p.weight else { return usage(format!("class {}: its weight is not packed", p.class())) };
    let dense = GemmProblem { weight: Weight::Same, ..*p };
    let each = s.tokens().div_ceil(s.counts.len()).max(1);
    let late = each >= crossover(DeviceProfile::typical(arch), packed, s.n * p.gates() as usize, s.k);
    let mut ways: Vec<(GemmConfig, bool)> = Vec::new();
    match config {
        Some(c) => {
            let unpack = path == Path::Dequantised || path == Path::Auto && c.check(p).is_err() && c.check(&dense).is_ok();
            ways.push((c, unpack));
        }
        None => {
            if path == Path::Packed || path == Path::Auto && !late {
                let configs = packed_configs(arch, p, [1, each, s.n, s.k]);
                ways.extend(configs.into_iter().take(3).map(|c| (c, false)));
            }
            if path != Path::Packed {
                ways.push((default_config(arch, &dense, s), true));
            }
        }
    }
    if ways.is_empty() {
        return usage(format!(
            "path = packed: no kernel multiplies {} packed weights of experts with n = {}, k = {} on {arch}: path=dequantised does",
            p.weight, s.n, s.k
        ));
    }
    ways.into_iter().map(|(c, unpack)| complete(arch, class, &c, s.rows.is_some(), unpack).map_err(bad_input)).collect()
}
