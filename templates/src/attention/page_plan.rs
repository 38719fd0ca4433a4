//! Page statistics and page selection as launches.

use super::kernel::kernel;
use super::pages::{PageProblem, page_scores, page_stats, page_top};
use super::plan::AttentionError;
use crate::manifest::{dtype, expr};
use crate::plan::{OpPlan, TemplateKernel};
use std::collections::BTreeMap;
use tilewright_ir::Arch;
use tilewright_ir::tile::KernelBuilder;
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::plan::{Plan, PlanLaunch, PlanTensor, Role};

/// The plan of the page statistics: `k_pages [pages, page, hkv, d]` -> `page_min`, `page_max` `[pages, hkv, d]`, with logical pages
/// `[pages, sub, hkv, d]`.
///
/// Variables: `pages`, `page`, `hkv`, with logical pages `sub`.
pub fn page_stats_plan(arch: Arch, p: &PageProblem) -> Result<OpPlan, AttentionError> {
    p.check()?;
    let id = format!("page_stats_{}", p.slug());
    let mut k = KernelBuilder::new(&id, arch);
    page_stats(&mut k, p)?;
    let mut tensors = vec![tensor("k_pages", dtype(p.dtype), &["pages", "page", "hkv", &p.d.to_string()], Role::Input)?];
    tensors.extend(bounds(p, Role::Output)?);
    Ok(plan("page_stats", id.clone(), p, tensors, vec![kernel(id, vec![("kind", "page_stats".into())], "none", k)]))
}

/// The plan of a page selection: `q [batch, 1, hq, d]`, `page_min`, `page_max` (as the statistics leave them), `page_table` I32
/// `[batch, max_pages]`, `kv_len` I32 `[batch]` -> `select` I32 `[batch, hq, top]`. Scores first, then the best ones.
///
/// Variables: `batch`, `hq`, `hkv`, `pages`, `page`, `max_pages`, `top`, with logical pages `sub`.
pub fn page_select_plan(arch: Arch, p: &PageProblem) -> Result<OpPlan, AttentionError> {
    p.check()?;
    let ids = [format!("page_scores_{}", p.slug()), "page_top".to_string()];
    let mut scores = KernelBuilder::new(&ids[0], arch);
    page_scores(&mut scores, p)?;
    let mut top = KernelBuilder::new(&ids[1], arch);
    page_top(&mut top)?;
    let mut tensors = vec![tensor("q", dtype(p.dtype), &["batch", "1", "hq", &p.d.to_string()], Role::Input)?];
    tensors.extend(bounds(p, Role::Input)?);
    tensors.push(tensor("page_table", Dtype::I32, &["batch", "max_pages"], Role::Input)?);
    tensors.push(tensor("kv_len", Dtype::I32, &["batch"], Role::Input)?);
    tensors.push(tensor("scores", Dtype::F32, &["batch", "hq", "max_pages"], Role::Workspace)?);
    tensors.push(tensor("select", Dtype::I32, &["batch", "hq", "top"], Role::Output)?);
    let [score_id, top_id] = ids;
    let kind = |name: &str| vec![("kind", name.to_string())];
    let kernels = vec![kernel(score_id, kind("page_scores"), "d.tree", scores), kernel(top_id, kind("page_top"), "none", top)];
    Ok(plan("page_select", format!("page_select_{}", p.slug()), p, tensors, kernels))
}

/// Every kernel once, its tensors the plan's of the same names.
fn plan(op: &str, id: String, p: &PageProblem, tensors: Vec<PlanTensor>, kernels: Vec<TemplateKernel>) -> OpPlan {
    let launch = |k: &TemplateKernel| PlanLaunch {
        kernel: k.id.clone(),
        binds: k.kernel.tensors.iter().map(|t| (t.name.clone(), t.name.clone())).collect(),
        sets: BTreeMap::new(),
    };
    let launches = kernels.iter().map(launch).collect();
    OpPlan { plan: Plan { id, op: op.into(), class: p.class(), tensors, launches, requires: Vec::new() }, kernels }
}

fn bounds(p: &PageProblem, role: Role) -> Result<Vec<PlanTensor>, AttentionError> {
    let d = p.d.to_string();
    let shape: &[&str] = if p.logical { &["pages", "sub", "hkv", &d] } else { &["pages", "hkv", &d] };
    ["page_min", "page_max"].into_iter().map(|name| tensor(name, dtype(p.bounds), shape, role)).collect()
}

fn tensor(name: &str, dtype: Dtype, shape: &[&str], role: Role) -> Result<PlanTensor, AttentionError> {
    let shape = shape.iter().map(|e| expr(e)).collect::<Result<_, _>>()?;
    Ok(PlanTensor { name: name.into(), dtype, shape, role })
}
