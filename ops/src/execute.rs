//! Runs one plan of a pack on a device.

use crate::case::Case;
use crate::error::{Res, failed, failure};
use crate::tensors::{Tensor, Tensors};
use tilewright_runtime::device::{Device, Stream};
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::engine::{Engine, Problem};
use tilewright_runtime::plan::Role;

/// What a run gave.
pub struct Ran<B> {
    /// Outputs by name, in the case's shapes.
    pub outputs: Tensors,
    /// Where they lie on the device.
    pub buffers: Vec<(String, B)>,
}

/// Launches a plan on a case's inputs.
pub fn execute<D: Device>(engine: &Engine<D>, plan: PlanIndex, case: &Case) -> Res<Ran<D::Buffer>> {
    let problem = Problem { vars: case.vars, scalars: &case.scalars };
    let mut ready = engine.prepare(plan, &problem).map_err(failure)?;
    let device = engine.device();
    let mut buffers = Vec::new();
    for t in ready.tensors() {
        // A tensor without elements has an address all the same.
        let buffer = device.alloc(t.bytes.max(1)).map_err(failure)?;
        device.name(&buffer, &t.name);
        if t.role == Role::Input {
            let input = case.inputs.get(&t.name).ok_or_else(|| failure(format!("plan needs tensor `{}`", t.name)))?;
            if input.data.len() as u64 != t.bytes {
                return failed(format!("plan takes {} bytes of tensor `{}`, there are {}", t.bytes, t.name, input.data.len()));
            }
            device.upload(&buffer, 0, &input.data).map_err(failure)?;
        }
        buffers.push(buffer);
    }
    let addresses: Vec<u64> = buffers.iter().map(|b| device.address(b)).collect();
    engine.launch(&mut ready, &addresses, Stream::default()).map_err(failure)?;
    device.sync().map_err(failure)?;
    let mut ran = Ran { outputs: Tensors::new(), buffers: Vec::new() };
    for (t, buffer) in ready.tensors().iter().zip(buffers).filter(|(t, _)| t.role == Role::Output) {
        let form = case.outputs.iter().find(|o| o.name == t.name);
        let form = form.ok_or_else(|| failure(format!("plan gives `{}`, which the op does not", t.name)))?;
        let mut data = vec![0; t.bytes as usize];
        device.download(&buffer, 0, &mut data).map_err(failure)?;
        ran.outputs.insert(t.name.clone(), Tensor { dtype: form.dtype, shape: form.shape.clone(), data });
        ran.buffers.push((t.name.clone(), buffer));
    }
    if let Some(missing) = case.outputs.iter().find(|o| !ran.outputs.contains_key(o.name)) {
        return failed(format!("plan does not give `{}`", missing.name));
    }
    Ok(ran)
}
