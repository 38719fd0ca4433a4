//! A plan on the emulator: its launches one after the other over one device's tensors, as a runtime would do them.

use crate::runner::{Built, Error, Runner};
use std::collections::BTreeMap;
use tilewright_emulator::{BufferId, Counters, Device, DeviceConfig, Fill, Rendering, Severity};
use tilewright_ir::tile::Kernel;
use tilewright_runtime::expr::{VarId, Vars};
use tilewright_runtime::plan::Plan;

/// A plan whose kernels are built.
pub struct BuiltPlan {
    plan: Plan,
    kernels: BTreeMap<String, Built>,
}

/// What a run of a plan left.
pub struct PlanRan {
    /// Bytes of each tensor of the plan, workspaces too.
    pub tensors: BTreeMap<String, Vec<u8>>,
    /// Bytes of each tensor that nothing wrote.
    pub unwritten: BTreeMap<String, u64>,
    /// Findings that are errors, in words, each with its launch.
    pub errors: Vec<String>,
    /// Findings that are lints, likewise.
    pub lints: Vec<String>,
    /// What each launch did, by the kernel's id.
    pub counters: Vec<(String, Counters)>,
}

impl Runner {
    /// Builds the kernels of a plan: id and Tile IR of each.
    pub fn build_plan<'k>(
        &self,
        plan: &Plan,
        kernels: impl IntoIterator<Item = (&'k str, &'k Kernel)>,
    ) -> Result<BuiltPlan, Error> {
        let build = |(id, kernel): (&str, &Kernel)| match self.build(kernel) {
            Ok(built) => Ok((id.to_string(), built)),
            Err(e) => Err(Error::from(format!("{id}: {e}"))),
        };
        Ok(BuiltPlan { plan: plan.clone(), kernels: kernels.into_iter().map(build).collect::<Result<_, _>>()? })
    }
}

impl BuiltPlan {
    /// The kernels, by id.
    pub fn kernels(&self) -> &BTreeMap<String, Built> {
        &self.kernels
    }

    /// The same kernels for another plan, whose kernels are among them.
    pub fn of(self, plan: &Plan) -> Self {
        BuiltPlan { plan: plan.clone(), ..self }
    }

    /// Runs every launch under schedule `seed`. `ints` are the plan's variables, `floats` the F32 scalars; `inputs` are the contents
    /// of tensors by name, and every other tensor starts undefined.
    pub fn run(
        &self,
        ints: &[(&str, i64)],
        floats: &[(&str, f32)],
        inputs: &[(&str, &[u8])],
        seed: u64,
    ) -> Result<PlanRan, Error> {
        let mut device = Device::new(DeviceConfig { seed, ..DeviceConfig::default() });
        let mut vars = Vars::new();
        vars.set(VarId::SMS, 4)?;
        for (name, value) in ints {
            vars.set(VarId::of(name), *value)?;
        }
        let mut buffers: BTreeMap<&str, (BufferId, usize)> = BTreeMap::new();
        for t in &self.plan.tensors {
            let mut bytes = t.dtype.bytes();
            for extent in &t.shape {
                bytes *= u64::try_from(extent.eval(&vars)?)?;
            }
            let id = device.alloc(bytes.max(1), Fill::Undefined)?;
            device.name(id, &t.name)?;
            if let Some((_, data)) = inputs.iter().find(|i| i.0 == t.name) {
                if data.len() as u64 != bytes {
                    return Err(format!("`{}` has {bytes} bytes, {} were given", t.name, data.len()).into());
                }
                device.write(id, data)?;
            }
            buffers.insert(&t.name, (id, bytes as usize));
        }
        let mut ran = PlanRan {
            tensors: BTreeMap::new(),
            unwritten: BTreeMap::new(),
            errors: Vec::new(),
            lints: Vec::new(),
            counters: Vec::new(),
        };
        for (i, launch) in self.plan.launches.iter().enumerate() {
            let kernel = self.kernels.get(&launch.kernel).ok_or_else(|| format!("no kernel `{}`", launch.kernel))?;
            let mut local = vars;
            for (name, value) in &launch.sets {
                local.set(VarId::of(name), value.eval(&vars)?)?;
            }
            let addresses: BTreeMap<&str, u64> = (launch.binds.iter())
                .map(|(inside, outside)| match buffers.get(outside.as_str()) {
                    Some((id, _)) => Ok((inside.as_str(), device.address(*id))),
                    None => Err(format!("launch {i} `{}`: the plan has no tensor `{outside}`", launch.kernel)),
                })
                .collect::<Result<_, _>>()?;
            let report = kernel
                .launch(&mut device, &local, floats, &addresses)
                .map_err(|e| format!("launch {i} `{}`: {e}", launch.kernel))?;
            ran.counters.push((launch.kernel.clone(), report.counters));
            let path = format!("launch {i} {}.ptx", launch.kernel);
            let words = buffers.iter().fold(Rendering::new(&kernel.compiled.ptx, &path), |r, (n, b)| r.name(n, &device, b.0));
            for finding in &report.findings {
                let list = if finding.severity == Severity::Error { &mut ran.errors } else { &mut ran.lints };
                list.push(words.finding(finding));
            }
        }
        for (name, (id, bytes)) in buffers {
            ran.tensors.insert(name.to_string(), device.read(id)[..bytes].to_vec());
            // An empty tensor still has an address.
            ran.unwritten.insert(name.to_string(), if bytes == 0 { 0 } else { device.unwritten(id) });
        }
        Ok(ran)
    }
}
