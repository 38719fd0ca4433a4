//! A network with its data: what the plan takes and gives, and the comparison with f64.

use super::super::ask::safetensors_dtype;
use super::super::case::{Case, Check, Facts, FromRecord, More, Output, numbers, set, whole};
use super::{class, plan};
use crate::error::{Res, bad_input, failed, failure, usage};
use crate::tensors::{Tensor, Tensors};
use safetensors::Dtype;
use serde_json::json;
use std::collections::BTreeMap;
use tilewright_autotune::DeviceProfile;
use tilewright_autotune::sparse::{NetworkWork, Precision, Record, Source, Space};
use tilewright_ir::DType;
use tilewright_runtime::expr::Vars;
use tilewright_templates::plan::OpPlan;
use tilewright_templates::sparse_conv::Dataflow;
use tilewright_templates::sparse_conv::network::{
    GroupChoice, GroupId, Kind, Layer, LevelId, Network, NetworkChoice, NetworkMaps, network_reference,
};

/// Work (multiply-adds) up to which a network is compared with the reference.
const REFERENCE_LIMIT: usize = 1 << 31;

/// A network on its tensors.
pub fn case(network: &Network, d: DType, maps: NetworkMaps, mut inputs: Tensors) -> Res<Case> {
    let Some(last) = network.layers.last() else { return failed("a network without layers") };
    let n = maps.rows(LevelId(0));
    inputs.insert("count".into(), Tensor { dtype: Dtype::I32, shape: vec![1], data: (n as i32).to_le_bytes().to_vec() });
    let mut vars = Vars::new();
    maps.variables().iter().try_for_each(|(name, value)| set(&mut vars, &[(name.as_str(), *value)]))?;
    let rows = maps.rows(last.level);
    let own = last.level != LevelId(0);
    let output = |name, dtype, shape| Output { name, dtype, shape };
    let mut outputs =
        vec![output("features_out", safetensors_dtype(d), vec![rows, last.cout as usize]), output("status", Dtype::I32, vec![4])];
    let mut internal = vec!["status"];
    if own {
        outputs.push(output("coords_out", Dtype::I32, vec![rows, 4]));
        outputs.push(output("count_out", Dtype::I32, vec![1]));
        internal.push("count_out");
    }
    let levels: Vec<usize> = maps.levels.iter().map(|l| l.rows().len()).collect();
    let pairs: Vec<usize> = maps.maps.iter().map(|m| m.pairs()).collect();
    let (own_network, own_maps) = (network.clone(), maps.clone());
    let from_record: FromRecord = Box::new(move |device, text| recorded(device, text, &own_network, &own_maps, d));
    let facts: Facts = Box::new(move |_| Ok(vec![("levels", json!(levels)), ("pairs", json!(pairs))]));
    Ok(Case {
        sizes: format!("{} voxels", n),
        class: class(network, d),
        vars,
        scalars: Vec::new(),
        inputs,
        outputs,
        unused: Vec::new(),
        check: check(network.clone(), d, maps),
        more: More { internal, facts: Some(facts), from_record: Some(from_record) },
    })
}

/// The plan of what a record chose for each group, where it was measured and is of this network, device and about this scene.
fn recorded(device: &DeviceProfile, text: &str, network: &Network, maps: &NetworkMaps, d: DType) -> Res<OpPlan> {
    let precision = match d {
        DType::F16 => Precision::F16,
        DType::BF16 => Precision::Bf16,
        _ => Precision::Tf32,
    };
    let record = Record::from_json(text).map_err(bad_input)?;
    if record.source != Source::Measured {
        return usage("the times of the record were not measured: they choose nothing here");
    }
    let work = NetworkWork::exact(network, maps, precision).map_err(failure)?;
    let (choice, _) = record.choices(&work, device, &Space::new(device.arch)).map_err(bad_input)?;
    let groups = choice.iter().enumerate().map(|(i, c)| (GroupId(i), c.choice())).collect();
    let otherwise = GroupChoice::plain(d, Dataflow::Implicit);
    plan(device.arch, network, d, &NetworkChoice { groups, otherwise })
}

fn check(network: Network, d: DType, maps: NetworkMaps) -> Check {
    // How a dataflow cuts its sums does not show beside what a deep network rounds.
    let choice = NetworkChoice::all(GroupChoice::plain(d, Dataflow::Implicit));
    Box::new(move |inputs, outputs, _| {
        let status = whole(outputs, "status");
        if status != [i32::MAX; 4] {
            return failed(format!("the device's status is {status:?}: it found duplicates, or no room, which the host did not"));
        }
        let level = network.layers.last().map_or(LevelId(0), |l| l.level);
        if level != LevelId(0) {
            let want: Vec<i32> = maps.levels[level.0].rows().iter().flatten().copied().collect();
            let (count, found) = (whole(outputs, "count_out"), whole(outputs, "coords_out"));
            if count != [maps.rows(level) as i32] {
                return failed(format!("the device counts {count:?} outputs, the host {}", maps.rows(level)));
            }
            if let Some(i) = (0..want.len()).find(|i| found.get(*i) != Some(&want[*i])) {
                return failed(format!("row {} of coords_out is not the host's", i / 4));
            }
        }
        let work = work(&network, &maps);
        if work > REFERENCE_LIMIT {
            let why = format!("{work} multiply-adds are more than {REFERENCE_LIMIT}");
            return Ok(json!({"reference": null, "why": why, "coords_out": "exact"}));
        }
        let tensors: BTreeMap<String, Vec<f64>> =
            inputs.keys().map(|name| Ok((name.clone(), numbers(inputs, name)?))).collect::<Res<_>>()?;
        if tensors.values().flatten().any(|x| !x.is_finite()) {
            return Ok(json!({"reference": null, "why": "the inputs hold infinities or NaNs"}));
        }
        let want = network_reference(&network, &maps, d, &choice, &tensors).map_err(failure)?;
        let found = numbers(outputs, "features_out")?;
        let (error, bound) = (want.error(&found), want.bound());
        if error <= bound {
            let form = "root mean square: 2*|lowp-ref| + slack";
            return Ok(json!({"reference": "f64", "elements": found.len(), "error": error, "bound": bound, "form": form}));
        }
        failed(format!("features_out is off by {error:e} (root mean square) from the f64 reference, the bound is {bound:e}"))
    })
}

/// Multiply-adds of all layers.
fn work(network: &Network, maps: &NetworkMaps) -> usize {
    let of = |l: &Layer| match &l.kind {
        Kind::Conv(c) => maps.maps[c.group.0].pairs() * (l.cin * l.cout) as usize,
        Kind::Concat(_) => 0,
    };
    network.layers.iter().map(of).sum()
}
