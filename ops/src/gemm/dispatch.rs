//! The dispatch table of a class in the order of the performance model.

use crate::error::{Res, failure};
use std::collections::BTreeSet;
use tilewright_autotune::{Candidate, DeviceProfile, Sizes, crossover, rank};
use tilewright_ir::Arch;
use tilewright_runtime::dispatch::{ChosenBy, Dispatch, PlanIndex};
use tilewright_templates::gemm::weight::WeightClass;
use tilewright_templates::gemm::{GemmConfig, GemmProblem, Weight};
use tilewright_templates::plan::{OpPlan, TemplateKernel};

/// Upper bounds of the buckets; the last is open. m finely, since that is what varies in a server.
const M_EDGES: [i64; 12] = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192];
const N_EDGES: [i64; 4] = [512, 2048, 6144, 16384];
const K_EDGES: [i64; 3] = [1024, 4096, 12288];

/// What ranking needs of a plan.
struct Entry {
    index: u32,
    id: String,
    problem: GemmProblem,
    config: GemmConfig,
    splits: u32,
    requires: BTreeSet<String>,
    /// The weight is unpacked first.
    unpacks: bool,
}

/// The table of a class in the model's order.
pub fn table(arch: Arch, class: &str, plans: &[(PlanIndex, &OpPlan)]) -> Res<Dispatch> {
    let device = DeviceProfile::typical(arch);
    let problem = WeightClass::from_class(class).map_err(failure)?;
    let entries = plans.iter().map(|(i, p)| entry(*i, p)).collect::<Res<Vec<Entry>>>()?;
    let candidates: Vec<Candidate> =
        entries.iter().map(|e| Candidate { id: &e.id, problem: &e.problem, config: &e.config, splits: e.splits }).collect();
    let mut cells = Vec::new();
    for m in sizes(&M_EDGES) {
        for n in sizes(&N_EDGES) {
            for k in sizes(&K_EDGES) {
                let mut order = rank(device, Sizes { m, n, k }, &candidates);
                // The model ranks kernels; which way a packed weight goes is the crossover's choice.
                if let Weight::Packed(packed) = problem.problem.weight {
                    let wide = n * f64::from(problem.problem.gates());
                    let late = m as usize >= crossover(device, packed, wide as usize, k as usize);
                    order.sort_by_key(|i| entries[*i].unpacks != late);
                }
                cells.push(reachable(&entries, &order));
            }
        }
    }
    Ok(Dispatch {
        op: "gemm".into(),
        class: class.into(),
        m_edges: M_EDGES.to_vec(),
        n_edges: N_EDGES.to_vec(),
        k_edges: K_EDGES.to_vec(),
        cells,
        chosen_by: ChosenBy::Model,
    })
}

fn entry(PlanIndex(index): PlanIndex, p: &OpPlan) -> Res<Entry> {
    let problem = WeightClass::from_class(&p.plan.class).map_err(failure)?.problem;
    let kind = |k: &TemplateKernel, kind: &str| k.config.get("kind").is_some_and(|found| found == kind);
    let unpacks = p.kernels.iter().any(|k| kind(k, "unpack"));
    // The kernel that multiplies: what packs, unpacks, pads or gathers before it has no config of a gemm.
    let pads = p.kernels.iter().any(|k| kind(k, "pad"));
    let config_of = |k: &TemplateKernel| {
        let mut axes: Vec<String> = k.config.iter().map(|(k, v)| format!("{k}={v}")).collect();
        axes.extend(pads.then(|| "pad=1".to_string()));
        axes.join(",").parse::<GemmConfig>().ok()
    };
    let found = p.kernels.iter().enumerate().find_map(|(i, k)| config_of(k).map(|c| (i, c)));
    let (main, config) = found.ok_or_else(|| failure(format!("plan {} multiplies nothing", p.plan.id)))?;
    let splits = p.plan.launches[main].sets.get("splits").and_then(|e| e.text().parse().ok()).unwrap_or(1);
    let problem = if unpacks { GemmProblem { weight: Weight::Same, ..problem } } else { problem };
    // A launch may rename variables: then the same words mean something else.
    let scoped = |(l, k): (&tilewright_runtime::plan::PlanLaunch, &TemplateKernel)| {
        let sets: Vec<String> = l.sets.iter().map(|(k, v)| format!("{k}:={}", v.text())).collect();
        k.kernel.requires.iter().map(|r| format!("{r} {}", sets.join(" "))).collect::<Vec<_>>()
    };
    let requires = p.plan.launches.iter().zip(&p.kernels).flat_map(scoped).collect();
    Ok(Entry { index, id: p.plan.id.clone(), problem, config, splits, requires, unpacks })
}

/// The size that stands for a bucket: its upper bound, twice the last for the open one.
fn sizes(edges: &[i64]) -> impl Iterator<Item = f64> + '_ {
    edges.iter().map(|e| *e as f64).chain(edges.last().map(|e| 2.0 * *e as f64))
}

/// The order without plans that can never be chosen: an earlier one requires no more than they do.
fn reachable(entries: &[Entry], order: &[usize]) -> Vec<PlanIndex> {
    let mut kept: Vec<&Entry> = Vec::new();
    for e in order.iter().map(|i| &entries[*i]) {
        if !kept.iter().any(|k| k.requires.is_subset(&e.requires)) {
            kept.push(e);
        }
    }
    kept.iter().map(|e| PlanIndex(e.index)).collect()
}
