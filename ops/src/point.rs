//! Plans as points of their spaces.

use std::collections::BTreeMap;
use tilewright_autotune::space::Point;
use tilewright_runtime::manifest::Manifest;
use tilewright_runtime::plan::{Plan, PlanLaunch};

/// Kinds of kernels that have a space.
const KINDS: [&str; 4] = ["wgmma", "mma", "weight_wgmma", "weight_mma"];

/// The point of a manifest's plan; none of one that is made of no such kernel.
pub fn of(manifest: &Manifest, plan: &Plan) -> Option<Point> {
    let config = |l: &PlanLaunch| manifest.kernel(&l.kernel).map(|i| &manifest.kernels[i].config);
    let configs = plan.launches.iter().map(config).collect::<Option<Vec<_>>>()?;
    point(&plan.op, &plan.launches, &configs)
}

/// The point of launches whose kernels have these configs.
fn point(op: &str, launches: &[PlanLaunch], configs: &[&BTreeMap<String, String>]) -> Option<Point> {
    let has = |kind: &str| configs.iter().any(|c| c.get("kind").is_some_and(|k| k == kind));
    let main = configs.iter().position(|c| c.get("kind").is_some_and(|k| KINDS.contains(&k.as_str())))?;
    // Whether k is split follows from the parts.
    let axes = configs[main].iter().filter(|(axis, _)| *axis != "split");
    let mut p = Point::new(axes.map(|(axis, value)| (axis.as_str(), value.as_str())));
    if op == "gemm" {
        // Kernels that share blocks, or multiply an unpacked weight, have no such axis where k is whole.
        let splits = launches[main].sets.get("splits").map_or("1", |e| e.text());
        if splits != "1" || !has("unpack") && p.get("kind") != Some("weight_wgmma") {
            p = p.with("splits", splits);
        }
    }
    if op == "attention_decode" {
        p = p.with("split", if launches.len() > 1 { "1" } else { "0" });
    }
    // Kernels beside the one that multiplies.
    for (kind, axis) in [("unpack", "unpack"), ("pad", "pad")] {
        if has(kind) {
            p = p.with(axis, "1");
        }
    }
    Some(p)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_autotune::space;
    use tilewright_ir::Arch;
    use tilewright_templates::plan::OpPlan;

    fn point_of(p: &OpPlan) -> Option<Point> {
        let configs: Vec<_> = p.kernels.iter().map(|k| &k.config).collect();
        point(&p.plan.op, &p.plan.launches, &configs)
    }

    #[test]
    fn the_plan_of_a_point_is_that_point() {
        let plain = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";
        let attention = "dtype=bf16,out=bf16,d=128,dv=128,causal=1,window=0,chunk=0,softcap=0,alibi=0,sink=0";
        for (op, class) in [
            ("gemm", plain.to_string()),
            ("gemm", format!("{plain},weight=int4g128")),
            ("gemm", plain.replace("a=bf16", "a=e4m3")),
            ("gemm_grouped", format!("{plain},groups=offsets")),
            ("attention", format!("{attention},bias=none,varlen=0,sparse=none")),
            ("attention_decode", format!("{attention},select=none")),
        ] {
            let space = space::of(Arch::Sm90a, op, &class).unwrap();
            let points = space.points();
            let mut seen = 0;
            // Some of thousands, from everywhere.
            for p in points.iter().step_by(points.len() / 12) {
                if let Ok(plan) = space.plan(p) {
                    assert_eq!(point_of(&plan).as_ref(), Some(p), "{}", plan.plan.id);
                    seen += 1;
                }
            }
            assert!(seen > 0, "{class}: {seen}");
        }
    }
}
