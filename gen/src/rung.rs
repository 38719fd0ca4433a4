//! Where the plan of a run comes from, when the library has none: records of this device or another, else the op's own list.

use std::collections::BTreeMap;
use std::path::Path;
use tilewright_autotune::ladder::{self, Rung};
use tilewright_autotune::task::Task;
use tilewright_autotune::{Capabilities, DeviceProfile, Match, space, workload};
use tilewright_ops::case::{FromRecord, Request};
use tilewright_ops::error::{Fail, Res, bad_input, failure};
use tilewright_ops::{library, records};
use tilewright_runtime::cuda::CudaDevice;
use tilewright_runtime::device::Device;
use tilewright_runtime::expr::VarId;
use tilewright_templates::plan::OpPlan;

/// A rung, and why it was none above it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stood {
    /// The rung.
    pub rung: Rung,
    /// Higher ones.
    pub passed: Vec<(Rung, String)>,
}

impl Stood {
    /// The recorded plan cannot be had after all: the op's own list is next.
    pub fn failed(mut self, op: &str, why: &Fail) -> Self {
        self.passed.push((self.rung, why.to_string()));
        Stood { rung: own(op), ..self }
    }
}

/// What an op's own list is: those of multiplications are the model's order of a few configs.
fn own(op: &str) -> Rung {
    if op.starts_with("gemm") { Rung::Model } else { Rung::Default }
}

/// The plan that records have for a request; where they have none, the rung that the op's own list stands for.
pub fn recorded(device: &DeviceProfile, op: &str, r: &Request) -> Res<(Option<OpPlan>, Stood)> {
    let mut passed = vec![(Rung::Library, format!("no plan of {} for this class and these sizes", device.arch.caps().name))];
    let own = own(op);
    let root = library::root().ok();
    if let Some(of_text) = &r.case.more.from_record {
        return Ok(match of_scene(root.as_deref(), device, op, &r.case.class, of_text) {
            Ok(plan) => (Some(plan), Stood { rung: Rung::Record, passed }),
            Err(why) => {
                passed.push((Rung::Record, why));
                (None, Stood { rung: own, passed })
            }
        });
    }
    let found = root.map(|root| records::read(&root, device.arch)).transpose()?.unwrap_or_default();
    let task = match task(op, r) {
        Ok(task) if !found.known.is_empty() => task,
        Err(why) if !found.known.is_empty() => {
            passed.push((Rung::Record, why));
            return Ok((None, Stood { rung: own, passed }));
        }
        _ => {
            let none = format!("no record of {op} for {}", device.name);
            passed.push((Rung::Record, found.refused.iter().fold(none, |all, why| format!("{all}; {why}"))));
            return Ok((None, Stood { rung: own, passed }));
        }
    };
    let space = space::of(device.arch, op, &task.class).map_err(bad_input)?;
    match ladder::recorded(space.as_ref(), device, &task, &found.known, &found.refused) {
        Ok(choice) => {
            passed.extend(choice.passed);
            let plan = choice.point.map(|p| space.plan(&p)).transpose().map_err(failure)?;
            Ok((plan, Stood { rung: choice.rung, passed }))
        }
        Err(why) => {
            passed.extend(why);
            Ok((None, Stood { rung: own, passed }))
        }
    }
}

/// The plan of a record that is of a scene, `records/PROFILE/OP_NETWORK_DTYPE.json`, or why there is none.
fn of_scene(root: Option<&Path>, device: &DeviceProfile, op: &str, class: &str, of_text: &FromRecord) -> Result<OpPlan, String> {
    let values: Vec<&str> = class.split(',').filter_map(|field| Some(field.split_once('=')?.1)).collect();
    let name = format!("records/{}/{op}_{}.json", device.name.to_lowercase(), values.join("_"));
    let Some(text) = root.and_then(|root| std::fs::read_to_string(root.join(&name)).ok()) else {
        return Err(format!("no {name}"));
    };
    of_text(device, &text).map_err(|e| format!("{name}: {e}"))
}

/// The task of a request, as the tuner has it.
fn task(op: &str, r: &Request) -> Result<Task, String> {
    let value = |name: &str| r.case.vars.get(VarId::of(name)).map(|v| (name.to_string(), v));
    let mut sizes: BTreeMap<String, i64> = workload::sizes_of(op).into_iter().filter_map(value).collect();
    // One matrix is no batch.
    if op == "gemm" && sizes.get("batch") == Some(&1) {
        sizes.remove("batch");
    }
    workload::task(op, &r.case.class, sizes).map_err(|e| e.to_string())
}

/// The profile of a GPU: its own, or the nearest with its rates in place, which then is none that records are of.
pub fn profile(gpu: &CudaDevice, typical: &DeviceProfile) -> Res<DeviceProfile> {
    let facts = gpu.facts().map_err(failure)?;
    let capability = gpu.capability();
    let caps = Capabilities {
        compute: [capability.major, capability.minor],
        sms: facts.sms,
        smem_per_sm_bytes: u32::try_from(facts.shared_bytes_per_sm).unwrap_or(u32::MAX),
        l2_bytes: facts.l2_bytes,
        // Two transfers a clock, as every memory of a GPU has had since GDDR3.
        memory_bytes_per_second: f64::from(facts.memory_clock_khz) * 1e3 * 2.0 * f64::from(facts.memory_bus_bits) / 8.0,
        clock_hz: f64::from(facts.sm_clock_khz) * 1e3,
    };
    Ok(match DeviceProfile::matching(&caps) {
        Match::Exact(d) => d.clone(),
        Match::Near { profile, .. } => {
            let name = format!("a device near {}", profile.name);
            DeviceProfile { name, ..profile.with(&caps) }
        }
        Match::None { .. } => typical.clone(),
    })
}
