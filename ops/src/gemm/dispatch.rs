//! The dispatch table of a class in the order of the performance model.

use crate::error::{Res, failure};
use std::collections::BTreeSet;
use tilewright_autotune::{Candidate, DeviceProfile, Sizes, crossover, rank};
use tilewright_ir::Arch;
use tilewright_runtime::dispatch::{ChosenBy, Dispatch, PlanIndex, TableBuilder};
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
    let table = TableBuilder::new("gemm", class).axis("m", &M_EDGES).axis("n", &N_EDGES).axis("k", &K_EDGES);
    let table = table.build(ChosenBy::Model, |sizes| {
        let [m, n, k] = [0, 1, 2].map(|axis| sizes[axis] as f64);
        let mut order = rank(device, Sizes { m, n, k }, &candidates);
        // The model ranks kernels; which way a packed weight goes is the crossover's choice.
        if let Weight::Packed(packed) = problem.problem.weight {
            let wide = n * f64::from(problem.problem.gates());
            let late = m as usize >= crossover(device, packed, wide as usize, k as usize);
            order.sort_by_key(|i| entries[*i].unpacks != late);
        }
        reachable(&entries, &order)
    });
    table.map_err(failure)
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
