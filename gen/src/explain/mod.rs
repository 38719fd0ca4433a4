//! `gen explain`: what is chosen for a problem, or for each group of a network's layers, and why.
//!
//! | file | holds |
//! |---|---|
//! | `op` | problems of ops without tensors |
//! | `scene` | from a network and its voxels to layers and statistics of maps |
//! | `text` | an explanation in words |

mod op;
mod scene;
mod text;

use crate::cli::ExplainArgs;
use serde_json::json;
use std::path::Path;
use tilewright_autotune::DeviceProfile;
use tilewright_autotune::sparse::{
    COEFFICIENTS, Explanation, Fit, Model, NetworkWork, Precision, Record, Search, Settings, Source, Space,
};
use tilewright_ops::ask::Ask;
use tilewright_ops::error::{Fail, Res, bad_input, failure, usage};
use tilewright_ops::files::{check_folder, write_whole};

/// The op that is explained with a scene, group by group.
const NETWORK: &str = "sparse_network";
/// Other ops that are explained.
const OPS: [&str; 4] = ["gemm", "gemm_grouped", "attention", "attention_decode"];
/// The GPU of networks where none is named.
const TYPICAL: &str = "h200";
const KEYS: [&str; 3] = ["network", "dtype", "deterministic"];

/// Runs the command.
pub fn explain(args: &ExplainArgs) -> Res<()> {
    if OPS.contains(&args.op.as_str()) {
        return op::explain(args);
    }
    if args.op != NETWORK {
        return usage(format!("{}: expected {NETWORK}, {}", args.op, OPS.join(", ")));
    }
    if let Some(target) = &args.target {
        return usage(format!("--target {target}: a network's is that of --device-profile"));
    }
    [&args.save_work, &args.save_record].into_iter().flatten().try_for_each(|p| check_folder(p))?;
    let device = device(args.device_profile.as_deref().unwrap_or(TYPICAL))?;
    let ask = Ask::new(&args.set, Default::default())?;
    ask.only_keys(&KEYS)?;
    let work = work(args, &ask)?;
    let deterministic = ask.value("deterministic", "true or false", |_: &bool| true)?.unwrap_or(false);
    let space = Space { deterministic, ..Space::new(device.arch) };
    let search = Search::new(&work, Model { device }, space, Settings::default()).map_err(bad_input)?;
    let (choice, from) = match &args.record {
        None => (search.modelled(), From { source: Source::Model, fit: Fit::Same, record_us: None }),
        Some(path) => {
            let record = at(path, Record::from_json(&read(path)?))?;
            let (choice, fit) = at(path, record.choices(&work, device, &space))?;
            (choice, From { source: record.source, fit, record_us: Some(record.microseconds) })
        }
    };
    let explanation = Explanation::new(&search, &choice);
    if let Some(path) = &args.save_work {
        write_whole(path, serde_json::to_string_pretty(&work).map_err(failure)?.as_bytes())?;
    }
    if let Some(path) = &args.save_record {
        write_whole(path, Record::modelled(&search).to_json().as_bytes())?;
    }
    if args.json {
        let coefficients: Vec<_> = COEFFICIENTS.iter().map(|c| json!([c.name, c.value, c.unit, c.source])).collect();
        let apart = if let Fit::Near(factor) = from.fit { Some(factor) } else { None };
        println!(
            "{}",
            json!({
                "chosen_by": from.source, "record_us": from.record_us, "scene_differs_by": apart, "fitted": false,
                "explanation": explanation, "coefficients": coefficients,
            })
        );
    } else {
        print!("{}", text::words(&explanation, &from));
    }
    Ok(())
}

/// Where a choice comes from.
struct From {
    source: Source,
    fit: Fit,
    record_us: Option<f64>,
}

fn device(name: &str) -> Res<&'static DeviceProfile> {
    DeviceProfile::named(name).ok_or_else(|| {
        let names: Vec<_> = DeviceProfile::all().iter().map(|d| d.name.to_lowercase()).collect();
        Fail::Usage(format!("--device-profile {name}: expected {}", names.join(", ")))
    })
}

fn work(args: &ExplainArgs, ask: &Ask) -> Res<NetworkWork> {
    if let Some(path) = &args.work {
        if let Some(key) = ["network", "dtype"].into_iter().find(|k| ask.key(k).is_some()) {
            return usage(format!("--set {key}: --work says it already"));
        }
        return at(path, serde_json::from_str(&read(path)?));
    }
    let Some(input) = &args.input else { return usage("a scene is needed: --input, or --work") };
    let precision = match ask.key("dtype").unwrap_or("f16") {
        "f16" => Precision::F16,
        "bf16" => Precision::Bf16,
        "f32" => Precision::Tf32,
        other => return usage(format!("dtype = `{other}`: expected f16, bf16 or f32")),
    };
    let Some(network) = ask.key("network") else {
        return usage(format!("key `network` is missing: one of {}, or a TOML file", scene::names()));
    };
    scene::work(&scene::network(network)?, scene::coords(input)?, precision)
}

fn read(path: &Path) -> Res<String> {
    at(path, std::fs::read_to_string(path))
}

fn at<T>(path: &Path, found: Result<T, impl std::fmt::Display>) -> Res<T> {
    found.map_err(|e| Fail::Usage(format!("{}: {e}", path.display())))
}
