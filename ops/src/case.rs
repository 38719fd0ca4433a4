//! One problem of an op with its data, and what must come out of it.

use crate::error::{Res, failure};
use crate::level::Level;
use crate::tensors::{Tensors, to_f64};
use safetensors::Dtype;
use serde_json::Value;
use tilewright_autotune::DeviceProfile;
use tilewright_ir::Arch;
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::expr::{VarId, Vars};
use tilewright_runtime::manifest::{Kernel, Manifest};
use tilewright_runtime::plan::Plan;
use tilewright_templates::plan::OpPlan;

/// One problem: what `gen run` is given, and what verification makes up.
pub struct Case {
    /// Its sizes in words, for messages.
    pub sizes: String,
    /// The op's class.
    pub class: String,
    /// Variables of expressions, without `sms`.
    pub vars: Vars,
    /// Numbers that kernels take.
    pub scalars: Vec<(&'static str, f32)>,
    /// Inputs by the plan's names.
    pub inputs: Tensors,
    /// What comes out.
    pub outputs: Vec<Output>,
    /// Bytes of outputs that need not be written: rows of a masked matrix that are nobody's.
    pub unused: Vec<(&'static str, u64)>,
    /// Gives what a report says of the comparison; an element out of bound is a failure.
    pub check: Check,
    /// What only some ops have.
    pub more: More,
}

/// What only some ops' cases have.
#[derive(Default)]
pub struct More {
    /// Outputs that are compared but not written to the file: what a device counted and found.
    pub internal: Vec<&'static str>,
    /// What a report says beside the comparison.
    pub facts: Option<Facts>,
    /// The plan that the text of a tuning record has for this very problem, where a record is of more than sizes.
    pub from_record: Option<FromRecord>,
}

/// A plan from the text of a tuning record for a device; refused where the record does not serve.
pub type FromRecord = Box<dyn Fn(&DeviceProfile, &str) -> Res<OpPlan>>;

/// Names and values for a report, of a plan that ran.
pub type Facts = Box<dyn Fn(&Run<'_>) -> Res<Vec<(&'static str, Value)>>>;

impl Case {
    /// Compares what a plan gave with the op's reference; `gpu` says whether a GPU computed it.
    pub fn compare(&self, outputs: &Tensors, manifest: &Manifest, plan: PlanIndex, gpu: bool) -> Res<Value> {
        (self.check)(&self.inputs, outputs, &Run::new(manifest, plan, gpu))
    }

    /// What a report says beside the comparison.
    pub fn facts(&self, manifest: &Manifest, plan: PlanIndex) -> Res<Vec<(&'static str, Value)>> {
        self.more.facts.as_ref().map_or(Ok(Vec::new()), |facts| facts(&Run::new(manifest, plan, false)))
    }
}

/// What gave outputs.
pub struct Run<'a> {
    /// The plan's id.
    pub plan: &'a str,
    /// The kernels that were launched.
    pub kernels: Vec<&'a Kernel>,
    /// A GPU ran them: its tensor cores drop bits of some sums, which the emulator keeps.
    pub gpu: bool,
}

impl<'a> Run<'a> {
    /// A plan of a manifest.
    pub fn new(manifest: &'a Manifest, plan: PlanIndex, gpu: bool) -> Self {
        let plan = &manifest.plans[plan.0 as usize];
        let kernels = plan.launches.iter().filter_map(|l| manifest.kernel(&l.kernel)).map(|i| &manifest.kernels[i]).collect();
        Run { plan: &plan.id, kernels, gpu }
    }
}

/// Compares outputs with a reference: inputs by name, outputs by name, what gave them.
pub type Check = Box<dyn Fn(&Tensors, &Tensors, &Run<'_>) -> Res<Value>>;

/// A tensor that an op gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name, in the plan and in the file.
    pub name: &'static str,
    /// Element type.
    pub dtype: Dtype,
    /// Shape in the file; the plan may see the same elements under another.
    pub shape: Vec<usize>,
}

/// What `gen run` is asked for.
pub struct Request {
    /// The problem.
    pub case: Case,
    /// Whether a config or the like is named, so that the library's plans are not it.
    pub pinned: bool,
    /// Plans to build when the library's are not it or it has none, best first: the first that can be built is taken.
    pub plans: Box<dyn Fn(Arch) -> Res<Vec<OpPlan>>>,
}

/// A plan under verification.
pub struct Trial<'a> {
    /// What it belongs to.
    pub manifest: &'a Manifest,
    /// The plan.
    pub plan: &'a Plan,
    /// How much to try.
    pub level: Level,
    /// Which random numbers.
    pub seed: u64,
    /// Whether the plan takes a problem.
    pub fits: &'a dyn Fn(&Vars) -> bool,
}

impl Trial<'_> {
    /// The kernel of a launch, counted from 0.
    pub fn kernel(&self, launch: usize) -> Option<&Kernel> {
        let launch = self.plan.launches.get(launch)?;
        self.manifest.kernel(&launch.kernel).map(|i| &self.manifest.kernels[i])
    }

    /// A number among the axes of a launch's config.
    pub fn axis(&self, launch: usize, name: &str) -> Option<usize> {
        self.kernel(launch)?.config.get(name)?.parse().ok()
    }
}

/// Sets variables by name.
pub fn set(vars: &mut Vars, list: &[(&str, i64)]) -> Res<()> {
    list.iter().try_for_each(|(name, value)| vars.set(VarId::of(name), *value).map_err(failure))
}

/// The numbers of a tensor; none where it is not given.
pub fn numbers(tensors: &Tensors, name: &str) -> Res<Vec<f64>> {
    tensors.get(name).map_or(Ok(Vec::new()), |t| to_f64(t.dtype, &t.data))
}

/// The whole numbers of an I32 tensor; none where it is not given.
pub fn whole(tensors: &Tensors, name: &str) -> Vec<i32> {
    let data = tensors.get(name).map_or(&[][..], |t| &t.data);
    data.chunks_exact(4).map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

/// Random numbers for verification: the same in every run.
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number in -1..1.
    pub fn unit(&mut self) -> f64 {
        // xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators").
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as f64 / f64::from(1u32 << 23) - 1.0
    }

    /// The next whole number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (((self.unit() + 1.0) / 2.0 * n as f64) as usize).min(n.saturating_sub(1))
    }
}
