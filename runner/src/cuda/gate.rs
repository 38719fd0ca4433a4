//! The gate: whether a candidate's numbers can be believed.

use super::guarded::{Guarded, POISON};
use super::timing::Timed;
use super::{Problem, crashed, launched, refused};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::fmt::Display;
use tilewright_autotune::search::Failure;
use tilewright_autotune::space::Point;
use tilewright_ops::case::{Case, Run, Trial};
use tilewright_ops::level::Level;
use tilewright_ops::tensors::{Tensor, Tensors, to_f64};
use tilewright_runtime::cuda::{CudaDevice, CudaStream};
use tilewright_runtime::device::{Device, Stream};
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::engine::{Engine, Problem as Sized};
use tilewright_runtime::plan::Role;

/// Outputs of the first candidate that came through the gate, as numbers.
pub(super) type Outputs = BTreeMap<String, Vec<f64>>;

/// Relative distance of two candidates' outputs, against the element and against four times the root mean square of all: sums in
/// another order and probabilities rounded elsewhere leave a few units of the output's or the operands' last place.
const APART: f64 = 1.0 / 64.0;

/// The op's verification cases against the f64 reference.
pub(super) fn small<D: Device>(engine: &Engine<D>, plan: PlanIndex, seed: u64) -> Result<(), Failure> {
    let manifest = engine.pack().manifest();
    let entry = manifest.plans.get(plan.0 as usize).ok_or_else(super::lost)?;
    let fits = |vars: &_| engine.check(plan, vars).is_ok();
    let trial = Trial { manifest, plan: entry, level: Level::Quick, seed: seed + 1, fits: &fits };
    let family = tilewright_ops::find(&entry.op).map_err(refused)?;
    let cases = (family.cases)(&trial).map_err(refused)?;
    if cases.is_empty() {
        return Err(Failure::Refused(format!("plan {}: no test shape meets its requirements", entry.id)));
    }
    for case in cases {
        let outputs = run(engine, plan, &case).map_err(|failure| at(&case, failure))?;
        case.compare(&outputs, manifest, plan, true).map_err(|e| wrong(&case, e))?;
    }
    Ok(())
}

/// Launches a plan on a case's inputs, with poison around everything and in the outputs.
fn run<D: Device>(engine: &Engine<D>, plan: PlanIndex, case: &Case) -> Result<Tensors, Failure> {
    let device = engine.device();
    let mut ready = engine.prepare(plan, &Sized { vars: case.vars, scalars: &case.scalars }).map_err(refused)?;
    let mut buffers = Vec::new();
    for t in ready.tensors() {
        let buffer = Guarded::new(device, t.bytes).map_err(refused)?;
        if t.role == Role::Input {
            let input = case.inputs.get(&t.name).filter(|i| i.data.len() as u64 == t.bytes);
            let input =
                input.ok_or_else(|| Failure::Refused(format!("the case has no tensor `{}` of {} bytes", t.name, t.bytes)))?;
            buffer.upload(device, &input.data).map_err(crashed)?;
        }
        buffers.push(buffer);
    }
    let addresses: Vec<u64> = buffers.iter().map(|b| b.address(device)).collect();
    engine.launch(&mut ready, &addresses, Stream::default()).map_err(launched)?;
    device.sync().map_err(crashed)?;
    let tensors = ready.tensors().iter().zip(&buffers);
    let outputs = tensors.filter(|(t, _)| t.role == Role::Output).map(|(t, b)| (t.name.as_str(), b));
    collect(device, case, outputs)
}

/// The tuning problem itself, on the first set of buffers.
pub(super) fn whole(
    engine: &Engine<CudaDevice>,
    plan: PlanIndex,
    stream: &CudaStream,
    problem: &mut Problem,
    mut timed: Timed,
    point: &Point,
) -> Result<(), Failure> {
    let device = engine.device();
    let outputs = problem.sets.outputs(0);
    for (_, buffer) in &outputs {
        device.fill(buffer.buffer(), POISON, stream.id()).map_err(crashed)?;
    }
    timed.launch(engine, 0, stream)?;
    stream.wait().map_err(crashed)?;
    let case = &problem.tuned.case;
    let found = collect(device, case, outputs.iter().map(|(name, b)| (*name, *b))).map_err(|failure| at(case, failure))?;
    let manifest = engine.pack().manifest();
    let verdict = case.compare(&found, manifest, plan, true).map_err(|e| wrong(case, e))?;
    if verdict["reference"].is_null() {
        match &problem.tuned.sample {
            Some(sample) => {
                sample(&case.inputs, &found, &Run::new(manifest, plan, true)).map_err(|e| wrong(case, e))?;
            }
            None => agrees(&mut problem.first, &found).map_err(|e| wrong(case, e))?,
        }
    }
    problem.keep(point, timed);
    Ok(())
}

/// A wrong number, with the sizes it is wrong at.
fn wrong(case: &Case, why: impl Display) -> Failure {
    Failure::Wrong(format!("at {}: {why}", case.sizes))
}

/// The same for what a run says.
fn at(case: &Case, failure: Failure) -> Failure {
    match failure {
        Failure::Wrong(why) => wrong(case, why),
        other => other,
    }
}

/// Downloads outputs; guards that changed and elements that nobody wrote are failures.
fn collect<'a, D: Device + 'a>(
    device: &D,
    case: &Case,
    outputs: impl Iterator<Item = (&'a str, &'a Guarded<D>)>,
) -> Result<Tensors, Failure> {
    let mut found = Tensors::new();
    for (name, buffer) in outputs {
        let form = case.outputs.iter().find(|o| o.name == name);
        let form = form.ok_or_else(|| Failure::Refused(format!("the plan gives `{name}`, which the op does not")))?;
        let (data, guards) = buffer.download(device).map_err(crashed)?;
        if !guards {
            return Err(Failure::Wrong(format!("bytes before or after {name} were written")));
        }
        let unwritten = unwritten(form.dtype, &data);
        let unused = case.unused.iter().find(|u| u.0 == name).map_or(0, |u| u.1);
        if unwritten > unused {
            return Err(Failure::Wrong(format!("{unwritten} bytes of {name} were never written")));
        }
        found.insert(name.to_string(), Tensor { dtype: form.dtype, shape: form.shape.clone(), data });
    }
    Ok(found)
}

/// Bytes of elements that still hold the poison. It is -1 as an integer, which may be right: that integers were written, only the
/// comparison says.
fn unwritten(dtype: Dtype, data: &[u8]) -> u64 {
    let bytes = match dtype {
        Dtype::F32 => 4,
        Dtype::F16 | Dtype::BF16 => 2,
        Dtype::F8_E4M3 | Dtype::F8_E5M2 => 1,
        _ => return 0,
    };
    data.chunks_exact(bytes).filter(|e| e.iter().all(|b| *b == POISON)).count() as u64 * bytes as u64
}

/// Whether outputs agree with those of the first candidate, which they become where there is none.
fn agrees(first: &mut Option<Outputs>, found: &Tensors) -> Result<(), String> {
    let mut numbers = Outputs::new();
    for (name, t) in found {
        numbers.insert(name.clone(), to_f64(t.dtype, &t.data).map_err(|e| e.to_string())?);
    }
    let Some(first) = first else {
        if let Some((name, _)) = numbers.iter().find(|(_, values)| values.iter().any(|x| x.is_nan())) {
            return Err(format!("{name} holds NaNs"));
        }
        *first = Some(numbers);
        return Ok(());
    };
    for (name, values) in &numbers {
        let Some(others) = first.get(name).filter(|o| o.len() == values.len()) else {
            return Err(format!("the first right candidate has no {name} of this size"));
        };
        let finite = others.iter().filter(|x| x.is_finite());
        let size = (finite.clone().map(|x| x * x).sum::<f64>() / finite.count().max(1) as f64).sqrt();
        for (i, (x, y)) in values.iter().zip(others).enumerate() {
            // Equal infinities agree; a NaN agrees with nothing.
            let close = x == y || (x - y).abs() <= APART * (y.abs() + 4.0 * size);
            if !close {
                return Err(format!("element {i} of {name} is {x}, the first right candidate has {y}"));
            }
        }
    }
    Ok(())
}
