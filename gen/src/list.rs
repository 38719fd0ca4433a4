//! `gen list`.

use crate::cli::ListArgs;
use crate::error::Res;
use crate::library;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::{GemmProblem, space};

/// Runs the command.
pub fn list(args: &ListArgs) -> Res<()> {
    let value = contents();
    if args.json {
        println!("{value}");
        return Ok(());
    }
    println!("ops        gemm (templates wgmma, mma, reduce)");
    println!("dtypes     inputs bf16 f16; outputs bf16 f16 f32");
    println!("keys       out act alpha b split_k config");
    for (target, axes) in value["ops"][0]["targets"].as_object().into_iter().flatten() {
        println!("{target}");
        for (axis, values) in axes["axes"].as_object().into_iter().flatten() {
            let list: Vec<&str> = values.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            println!("  {axis:<10} {}", list.join(" "));
        }
        for plan in axes["plans"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            println!("  plan       {plan}");
        }
    }
    Ok(())
}

fn contents() -> Value {
    let problem = GemmProblem::plain(DType::BF16);
    let root = library::root();
    let targets: BTreeMap<&str, Value> = Arch::all()
        .map(|arch| {
            let mut axes: BTreeMap<&str, BTreeSet<(usize, String)>> = BTreeMap::new();
            let configs = space(arch, &problem);
            for (axis, value) in configs.iter().flat_map(|c| c.axes()) {
                axes.entry(axis).or_default().insert((value.len(), value));
            }
            let axes: BTreeMap<_, Vec<String>> =
                axes.into_iter().map(|(k, v)| (k, v.into_iter().map(|(_, s)| s).collect())).collect();
            let shipped = root.as_ref().ok().and_then(|r| library::plans(r, arch).ok()).unwrap_or_default();
            let plans: Vec<String> = shipped.into_iter().map(|p| p.plan.id).collect();
            (arch.caps().name, json!({"arch": arch.caps().ptx_target, "configs": configs.len(), "axes": axes, "plans": plans}))
        })
        .collect();
    json!({"ops": [{
        "op": "gemm",
        "templates": ["wgmma", "mma", "reduce"],
        "inputs": ["bf16", "f16"],
        "outputs": ["bf16", "f16", "f32"],
        "keys": {"out": ["bf16", "f16", "f32"], "act": ["none", "relu", "gelu", "silu", "swiglu"], "alpha": "f32", "b": ["nk", "kn"], "split_k": "integer", "config": "a config id"},
        "targets": targets,
    }]})
}
