//! Fills a manifest's dispatch tables.

use crate::OPS;
use crate::error::Res;
use std::collections::BTreeMap;
use tilewright_ir::Arch;
use tilewright_runtime::dispatch::{Dispatch, PlanIndex};
use tilewright_templates::plan::OpPlan;

/// One table for each op and class that has plans; positions are those in `plans`.
pub fn tables(arch: Arch, plans: &[OpPlan]) -> Res<Vec<Dispatch>> {
    let mut tables = Vec::new();
    for family in &OPS {
        let mut classes: BTreeMap<&str, Vec<(PlanIndex, &OpPlan)>> = BTreeMap::new();
        for (i, p) in plans.iter().enumerate().filter(|(_, p)| p.plan.op == family.op) {
            classes.entry(&p.plan.class).or_default().push((PlanIndex(i as u32), p));
        }
        for (class, plans) in classes {
            tables.push((family.table)(arch, class, &plans)?);
        }
    }
    Ok(tables)
}
