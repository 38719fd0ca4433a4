//! Fills a manifest's dispatch tables.

use crate::build::Built;
use crate::error::Res;
use crate::ops::OPS;
use std::collections::BTreeMap;
use tilewright_ir::Arch;
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_templates::plan::OpPlan;

/// Fills `manifest.dispatch`: one table for each op and class that has plans.
pub fn fill(arch: Arch, built: &mut Built) -> Res<()> {
    let mut tables = Vec::new();
    for family in &OPS {
        let mut classes: BTreeMap<&str, Vec<(PlanIndex, &OpPlan)>> = BTreeMap::new();
        for (i, p) in built.plans.iter().enumerate().filter(|(_, p)| p.plan.op == family.op) {
            classes.entry(&p.plan.class).or_default().push((PlanIndex(i as u32), p));
        }
        for (class, plans) in classes {
            tables.push((family.table)(arch, class, &plans)?);
        }
    }
    built.manifest.dispatch = tables;
    Ok(())
}
