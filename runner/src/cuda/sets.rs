//! The tensors of a problem several times over.

use super::guarded::{Guarded, POISON};
use super::{crashed, refused};
use tilewright_autotune::search::Failure;
use tilewright_ops::case::Case;
use tilewright_runtime::cuda::{CudaDevice, CudaStream};
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::engine::{Engine, Problem, TensorInfo};
use tilewright_runtime::plan::Role;

/// Most sets: tiny problems would need thousands, whose launches cost more than they tell.
const MOST: u64 = 256;

/// Buffers for each tensor that a plan takes from its caller, in several sets.
pub(super) struct Sets {
    names: Vec<(String, Role)>,
    /// By set, then in the order of `names`.
    sets: Vec<Vec<Guarded<CudaDevice>>>,
}

impl Sets {
    /// As many as together are twice the L2, at least two; every one holds the case's inputs.
    ///
    /// All plans of a class take the same tensors, so any of them says which.
    pub fn new(
        device: &CudaDevice,
        stream: &CudaStream,
        engine: &Engine<CudaDevice>,
        plan: PlanIndex,
        case: &Case,
        l2_bytes: u64,
    ) -> Result<Self, Failure> {
        let ready = engine.prepare(plan, &Problem { vars: case.vars, scalars: &case.scalars }).map_err(refused)?;
        let one: u64 = ready.tensors().iter().map(|t| t.bytes).sum();
        let count = (2 * l2_bytes).div_ceil(one.max(1)).clamp(2, MOST);
        let (free, _) = device.memory().map_err(crashed)?;
        if one.saturating_mul(count) > free / 4 * 3 {
            return Err(Failure::Refused(format!("{count} sets of {one} bytes do not fit the {free} free bytes of the device")));
        }
        let names = ready.tensors().iter().map(|t| (t.name.clone(), t.role)).collect();
        let mut made = Sets { names, sets: Vec::new() };
        for _ in 0..count {
            let mut set = Vec::new();
            for t in ready.tensors() {
                let buffer = Guarded::raw(device, t.bytes).map_err(refused)?;
                device.fill(buffer.buffer(), POISON, stream.id()).map_err(crashed)?;
                stream.wait().map_err(crashed)?;
                if t.role == Role::Input {
                    let input = case.inputs.get(&t.name).filter(|i| i.data.len() as u64 == t.bytes);
                    let missing = || Failure::Refused(format!("the problem has no tensor `{}` of {} bytes", t.name, t.bytes));
                    buffer.upload(device, &input.ok_or_else(missing)?.data).map_err(crashed)?;
                }
                set.push(buffer);
            }
            made.sets.push(set);
        }
        Ok(made)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sets.len()
    }

    /// Addresses of a plan's tensors in each set, in the plan's own order.
    pub fn addresses(&self, device: &CudaDevice, tensors: &[TensorInfo]) -> Result<Vec<Vec<u64>>, Failure> {
        let at = |t: &TensorInfo| {
            let known = self.names.iter().position(|(name, _)| *name == t.name);
            known.ok_or_else(|| Failure::Refused(format!("the plan takes a tensor `{}` that others of its class do not", t.name)))
        };
        let order = tensors.iter().map(at).collect::<Result<Vec<usize>, _>>()?;
        Ok(self.sets.iter().map(|set| order.iter().map(|i| set[*i].address(device)).collect()).collect())
    }

    /// Outputs of a set by name.
    pub fn outputs(&self, set: usize) -> Vec<(&str, &Guarded<CudaDevice>)> {
        let all = self.names.iter().zip(&self.sets[set % self.sets.len()]);
        all.filter(|((_, role), _)| *role == Role::Output).map(|((name, _), b)| (name.as_str(), b)).collect()
    }
}
