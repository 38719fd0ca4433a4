//! The protocol on a GPU: what is checked before a candidate is timed, and how it is timed. [`PROTOCOL`](tilewright_autotune::search::PROTOCOL) counts its
//! changes.
//!
//! | file | holds |
//! |---|---|
//! | `guarded` | buffers between guard bytes, filled with NaNs before a kernel writes them |
//! | `gate` | small ragged cases against the f64 reference, then the tuning problem itself |
//! | `sets` | the problem's tensors several times over, so that no launch finds its own in L2 |
//! | `timing` | bursts of launches between two events, one by one or as a graph; warming up |
//! | `sensors` | clocks, temperature and power, read and never set |
//!
//! 1. **Gate.** The op's verification cases (ragged shapes, f64 reference), then the tuning problem: outputs and the bytes around every
//!    tensor hold 0xFF, a NaN of every float, before each launch. Every element must have been written, no guard byte changed.
//!    The tuning problem's output is compared with the f64 reference: whole where that is affordable, else a sample of rows and
//!    columns where the op has one, else with the output of the first candidate that came this far.
//! 2. **Data.** Random, as the op draws it; at least two sets of buffers, of twice the L2's size together, taken in turns.
//! 3. **Warm-up** until the SM clock moved less than 1 % over 200 ms, or for a limited time; none where the GPU was busy just now.
//! 4. **A sample** is the mean of a burst: a graph of launches where one takes less than 50 us, else launches between two events.
//!    Clock, temperature and power are read while it runs. No clock is ever set.

mod gate;
mod guarded;
mod sensors;
mod sets;
mod timing;

#[cfg(test)]
mod tests;

pub use sensors::{Nvml, Reading, Sensors};
pub use timing::Protocol;

use crate::pack::{Entry, TuningPack};
use gate::Outputs;
use sets::Sets;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;
use tilewright_autotune::Capabilities;
use tilewright_autotune::search::{Failure, Sample};
use tilewright_autotune::space::Point;
use tilewright_autotune::task::Task;
use tilewright_ops::tuned::{Tuned, tuned};
use tilewright_runtime::cuda::{CudaDevice, CudaFacts, CudaStream};
use tilewright_runtime::device::{Device, DeviceError};
use tilewright_runtime::engine::{Engine, EngineError};
use timing::Timed;

/// A GPU and what is on it.
pub struct Gpu {
    ordinal: u32,
    seed: u64,
    protocol: Protocol,
    device: CudaDevice,
    facts: CudaFacts,
    stream: CudaStream,
    sensors: Option<Box<dyn Sensors>>,
    engines: BTreeMap<PathBuf, Engine<CudaDevice>>,
    problem: Option<Problem>,
    /// When it was busy last.
    last: Option<Instant>,
}

/// The problem that candidates are tried on.
struct Problem {
    task: Task,
    tuned: Tuned,
    sets: Sets,
    first: Option<Outputs>,
    /// Candidates ready to be timed, the one used last behind.
    timed: Vec<(Point, Timed)>,
}

/// Candidates that are kept ready, finalists above all: each has workspaces of its own.
const KEPT: usize = 8;

impl Problem {
    /// Keeps a candidate ready; the one that was used the longest ago makes room.
    fn keep(&mut self, point: &Point, timed: Timed) {
        self.timed.retain(|t| t.0 != *point);
        if self.timed.len() == KEPT {
            self.timed.remove(0);
        }
        self.timed.push((point.clone(), timed));
    }
}

impl Gpu {
    /// Opens a device.
    pub fn open(ordinal: u32, seed: u64, protocol: Protocol, sensors: Option<Box<dyn Sensors>>) -> Result<Self, DeviceError> {
        let device = CudaDevice::open(ordinal)?;
        let (facts, stream) = (device.facts()?, device.stream()?);
        Ok(Gpu { ordinal, seed, protocol, device, facts, stream, sensors, engines: BTreeMap::new(), problem: None, last: None })
    }

    /// The name the driver has for it.
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// What the driver says it can do.
    pub fn capabilities(&self) -> Capabilities {
        let f = &self.facts;
        let capability = self.device.capability();
        Capabilities {
            compute: [capability.major, capability.minor],
            sms: f.sms,
            smem_per_sm_bytes: u32::try_from(f.shared_bytes_per_sm).unwrap_or(u32::MAX),
            l2_bytes: f.l2_bytes,
            // Two transfers a clock, as every memory of a GPU has had since GDDR3.
            memory_bytes_per_second: f64::from(f.memory_clock_khz) * 1e3 * 2.0 * f64::from(f.memory_bus_bits) / 8.0,
            clock_hz: f64::from(f.sm_clock_khz) * 1e3,
        }
    }

    /// What samples lack.
    pub fn notes(&self) -> Vec<String> {
        let none = "no NVML: samples have no clocks, and warm-up takes its whole time".to_string();
        if self.sensors.is_some() { Vec::new() } else { vec![none] }
    }

    /// The gate.
    pub fn check(&mut self, pack: &TuningPack, task: &Task, point: &Point, entry: Entry) -> Result<(), Failure> {
        self.prepare(pack, task, entry)?;
        let Gpu { engines, problem: Some(problem), stream, seed, .. } = self else { return Err(lost()) };
        let engine = engines.get(pack.folder()).ok_or_else(lost)?;
        gate::small(engine, entry.plan, *seed)?;
        let timed = Timed::new(engine, entry.plan, &problem.tuned.case, &problem.sets)?;
        gate::whole(engine, entry.plan, stream, problem, timed, point)
    }

    /// Times of runs, a burst each.
    pub fn time(
        &mut self,
        pack: &TuningPack,
        task: &Task,
        point: &Point,
        entry: Entry,
        count: u32,
    ) -> Result<Vec<Sample>, Failure> {
        self.prepare(pack, task, entry)?;
        let Gpu { engines, problem: Some(problem), stream, sensors, protocol, last, .. } = self else { return Err(lost()) };
        let engine = engines.get(pack.folder()).ok_or_else(lost)?;
        let kept = problem.timed.iter().position(|t| t.0 == *point).map(|at| problem.timed.remove(at).1);
        let mut timed = kept.map_or_else(|| Timed::new(engine, entry.plan, &problem.tuned.case, &problem.sets), Ok)?;
        let mut run = timing::Run { engine, stream, sensors: sensors.as_deref(), protocol, last };
        let samples = (0..count).map(|_| timed.sample(&mut run)).collect();
        problem.keep(point, timed);
        samples
    }

    /// Kernels of a pack and data of a problem; those of the problem before are dropped.
    fn prepare(&mut self, pack: &TuningPack, task: &Task, entry: Entry) -> Result<(), Failure> {
        if !self.engines.contains_key(pack.folder()) {
            let kernels = pack.kernels().map_err(refused)?;
            let device = CudaDevice::open(self.ordinal).map_err(crashed)?;
            self.engines.insert(pack.folder().into(), Engine::new(kernels, device).map_err(refused)?);
        }
        if self.problem.as_ref().is_some_and(|p| p.task == *task) {
            return Ok(());
        }
        self.problem = None;
        let tuned = tuned(&task.op, &task.class, &task.sizes, self.seed).map_err(refused)?;
        let engine = self.engines.get(pack.folder()).ok_or_else(lost)?;
        let sets = Sets::new(&self.device, &self.stream, engine, entry.plan, &tuned.case, self.facts.l2_bytes)?;
        self.problem = Some(Problem { task: task.clone(), tuned, sets, first: None, timed: Vec::new() });
        Ok(())
    }
}

/// A failure of the device while a candidate ran.
fn crashed(e: impl std::fmt::Display) -> Failure {
    Failure::Crashed(e.to_string())
}

/// Something that a candidate asks for and cannot have.
fn refused(e: impl std::fmt::Display) -> Failure {
    Failure::Refused(e.to_string())
}

/// Preparing fails on what a plan needs, launching on what it does.
fn launched(e: EngineError) -> Failure {
    match e {
        EngineError::Device(e) => crashed(e),
        other => refused(other),
    }
}

fn lost() -> Failure {
    Failure::Refused("no such problem in the pack".into())
}
