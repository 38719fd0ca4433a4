//! `gen list`.

use crate::cli::ListArgs;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::Arch;
use tilewright_ops::error::Res;
use tilewright_ops::library;
use tilewright_ops::{Family, OPS};
use tilewright_templates::plan::OpPlan;

/// Runs the command.
pub fn list(args: &ListArgs) -> Res<()> {
    let shipped: BTreeMap<&str, Vec<OpPlan>> = library::root().ok().map_or_else(BTreeMap::new, |root| {
        Arch::all().map(|arch| (arch.caps().name, library::plans(&root, arch).unwrap_or_default())).collect()
    });
    let ops: Vec<Value> = OPS.iter().map(|family| describe(family, &shipped)).collect();
    if args.json {
        println!("{}", json!({"ops": ops}));
    } else {
        ops.iter().for_each(print);
    }
    Ok(())
}

fn describe(family: &Family, shipped: &BTreeMap<&str, Vec<OpPlan>>) -> Value {
    let about = (family.about)();
    let targets: BTreeMap<&str, Value> = Arch::all()
        .map(|arch| {
            let configs = (family.configs)(arch);
            let mut axes: BTreeMap<&str, BTreeSet<(usize, &str)>> = BTreeMap::new();
            for (axis, value) in configs.iter().flatten() {
                axes.entry(axis).or_default().insert((value.len(), value));
            }
            let axes: BTreeMap<_, Vec<&str>> =
                axes.into_iter().map(|(k, v)| (k, v.into_iter().map(|(_, s)| s).collect())).collect();
            let plans = shipped.get(arch.caps().name).into_iter().flatten().filter(|p| p.plan.op == family.op);
            let plans: Vec<&str> = plans.map(|p| p.plan.id.as_str()).collect();
            (arch.caps().name, json!({"arch": arch.caps().ptx_target, "configs": configs.len(), "axes": axes, "plans": plans}))
        })
        .collect();
    let keys: Map<String, Value> = about.keys.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
    json!({
        "op": family.op, "templates": about.templates, "inputs": about.inputs, "outputs": about.outputs,
        "keys": keys, "targets": targets,
    })
}

fn print(op: &Value) {
    let words = |v: &Value| v.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    println!("op         {} (templates {})", op["op"].as_str().unwrap_or_default(), words(&op["templates"]).replace(' ', ", "));
    println!("dtypes     inputs {}; outputs {}", words(&op["inputs"]), words(&op["outputs"]));
    let keys: Vec<&str> = op["keys"].as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
    println!("keys       {}", keys.join(" "));
    for (target, found) in op["targets"].as_object().into_iter().flatten() {
        println!("{target}");
        for (axis, values) in found["axes"].as_object().into_iter().flatten() {
            println!("  {axis:<10} {}", words(values));
        }
        for plan in found["plans"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            println!("  plan       {plan}");
        }
    }
}
