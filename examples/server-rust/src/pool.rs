//! Ops ready to run, kept by shape: the part that a real server would copy. Choosing a plan and preparing it happens once a
//! shape; a request then only copies its data, launches and copies the result.

use std::sync::{Mutex, PoisonError};

use tilewright_runtime::device::{Device, Stream};
use tilewright_runtime::dispatch::Policy;
use tilewright_runtime::engine::{Engine, EngineError, Launchable, Problem};
use tilewright_runtime::expr::Vars;
use tilewright_runtime::plan::Role;

/// Ops that are kept while nobody uses them.
const MOST_IDLE: usize = 16;

/// What a request asks for. Two that are equal run the same op.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// gemm or attention.
    pub op: &'static str,
    /// As the pack's tables spell it.
    pub class: String,
    /// Sizes by name.
    pub sizes: Vec<(&'static str, i64)>,
    /// A number that the kernels take.
    pub number: (&'static str, f32),
}

/// A pack on a device, and its ops that are ready.
pub struct Pool<D: Device> {
    /// Before the engine, so that ops are dropped first.
    idle: Mutex<Vec<Ready<D>>>,
    engine: Engine<D>,
}

/// An op with device memory for its tensors. Whoever holds it has it for himself.
struct Ready<D: Device> {
    shape: Shape,
    op: Launchable<D>,
    buffers: Vec<D::Buffer>,
    addresses: Vec<u64>,
}

impl<D: Device> Pool<D> {
    /// A pool without ops.
    pub fn new(engine: Engine<D>) -> Self {
        Pool { idle: Mutex::default(), engine }
    }

    /// Runs an op on a body that holds its inputs one after another; gives the first output.
    pub fn run(&self, shape: Shape, body: &[u8]) -> Result<Vec<u8>, EngineError> {
        let mut ready = match self.take(&shape) {
            Some(ready) => ready,
            None => self.prepare(shape)?,
        };
        // After a failure nobody knows what its memory holds: only an op that ran goes back.
        let output = self.launch(&mut ready, body)?;
        self.give(ready);
        Ok(output)
    }

    /// The op for a shape that was used last.
    fn take(&self, shape: &Shape) -> Option<Ready<D>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().rposition(|ready| ready.shape == *shape)?;
        Some(idle.remove(at))
    }

    /// Keeps an op for the next request; the one that nobody asked for longest makes room.
    fn give(&self, ready: Ready<D>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = (idle.len() == MOST_IDLE).then(|| idle.remove(0));
        idle.push(ready);
        // Freeing its memory may take the device a while.
        drop(idle);
        drop(oldest);
    }

    fn prepare(&self, shape: Shape) -> Result<Ready<D>, EngineError> {
        let mut vars = Vars::new();
        for &(name, size) in &shape.sizes {
            vars.set(tilewright_runtime::expr::VarId::of(name), size)?;
        }
        let plan = self.engine.select(shape.op, &shape.class, &vars, Policy::Fastest)?;
        let op = self.engine.prepare(plan, &Problem { vars, scalars: &[shape.number] })?;
        let device = self.engine.device();
        let buffers = op.tensors().iter().map(|tensor| device.alloc(tensor.bytes.max(1))).collect::<Result<Vec<_>, _>>()?;
        let addresses = buffers.iter().map(|buffer| device.address(buffer)).collect();
        Ok(Ready { shape, op, buffers, addresses })
    }

    fn launch(&self, ready: &mut Ready<D>, mut body: &[u8]) -> Result<Vec<u8>, EngineError> {
        let device = self.engine.device();
        for (tensor, buffer) in ready.op.tensors().iter().zip(&ready.buffers).filter(|(tensor, _)| tensor.role == Role::Input) {
            let (input, rest) = body.split_at(body.len().min(tensor.bytes as usize));
            device.upload(buffer, 0, input)?;
            body = rest;
        }
        // The default stream serves an example. Where requests shall overlap on a GPU, each thread brings a stream of its own.
        self.engine.launch(&mut ready.op, &ready.addresses, Stream::default())?;
        let mut outputs = ready.op.tensors().iter().zip(&ready.buffers).filter(|(tensor, _)| tensor.role == Role::Output);
        let mut output = Vec::new();
        if let Some((tensor, buffer)) = outputs.next() {
            output.resize(tensor.bytes as usize, 0);
            device.download(buffer, 0, &mut output)?;
        }
        Ok(output)
    }
}
