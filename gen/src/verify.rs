//! The emulator's verdict on a plan: boundary trip counts, ragged edges, several schedules.

use crate::emulator_device::{self, EmulatorDevice, Found, SMS};
use crate::error::{Res, failed, failure};
use crate::gemm_run::{Shape, decode, launch, operand_bytes, random_operands, vars};
use tilewright_runtime::arch::Arch as RuntimeArch;
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::engine::Engine;
use tilewright_runtime::pack::Pack;
use tilewright_templates::gemm::{GemmProblem, reference};

/// How much to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Nothing.
    Off,
    /// A few ragged shapes.
    Quick,
    /// 1, S-1, S, S+1 and 2S+1 iterations of the main loop, ragged edges, four schedules.
    Full,
}

/// What became of a plan that holds.
pub struct Verdict {
    /// What was run.
    pub ran: String,
    /// Lints, each once, in words.
    pub lints: Vec<(Found, String)>,
}

/// Runs one plan of an open pack. Findings that are errors fail it, lints do not.
pub fn verify(folder: &std::path::Path, plan: PlanIndex, level: Level) -> Res<Verdict> {
    let pack = Pack::open(folder).map_err(failure)?;
    let arch: RuntimeArch = pack.manifest().arch.parse().map_err(failure)?;
    let entry = &pack.manifest().plans[plan.0 as usize];
    let (id, class) = (entry.id.clone(), entry.class.clone());
    let kernel = pack.manifest().kernel(&entry.launches[0].kernel).map(|i| &pack.manifest().kernels[i]);
    let axis = |name: &str| kernel.and_then(|k| k.config.get(name)).and_then(|v| v.parse::<usize>().ok()).unwrap_or(64);
    let (bm, bn, bk, stages) = (axis("bm"), axis("bn"), axis("bk"), axis("stages"));
    let p = GemmProblem::from_class(&class).map_err(failure)?;
    let seeds = if level == Level::Full { 4 } else { 2 };
    let device = |seed| EmulatorDevice::new(arch.base, seed, SMS);
    let mut engine = Engine::new(pack, device(0)).map_err(failure)?;
    let mut ran = 0;
    let mut lints: Vec<(Found, String)> = Vec::new();
    for seed in 0..seeds {
        if seed > 0 {
            engine = Engine::new(Pack::open(folder).map_err(failure)?, device(seed)).map_err(failure)?;
        }
        for wanted in shapes(level, bm, bn / p.gates() as usize, bk, stages) {
            let Some(shape) = nearest(&engine, plan, wanted)? else { continue };
            let o = random_operands(&p, shape, seed + 1);
            let (out, buffer) = launch(&engine, plan, shape, o.alpha as f32, &|name| operand_bytes(&p, &o, name))?;
            let what = format!("plan {id} at batch {} m {} n {} k {}, schedule {seed}", shape[0], shape[1], shape[2], shape[3]);
            for found in engine.device().take_log().findings {
                if emulator_device::is_error(&found.finding) {
                    eprint!("{}", engine.device().words(&found));
                    return failed(format!("{what}: {}", emulator_device::describe(&found.finding)));
                }
                if !lints.iter().any(|(known, _)| known.is_again(&found)) {
                    let words = engine.device().words(&found);
                    lints.push((found, words));
                }
            }
            let unwritten = engine.device().unwritten(buffer);
            if unwritten > 0 {
                return failed(format!("{what}: {unwritten} bytes of the output were never written"));
            }
            if let Some((i, found, want, bound)) = reference(&p, &o).first_miss(&decode(p.output, &out)) {
                return failed(format!("{what}: element {i} is {found}, the reference {want}, the bound {bound:e}"));
            }
            ran += 1;
        }
    }
    if ran == 0 {
        return failed(format!("plan {id}: no test shape meets its requirements"));
    }
    Ok(Verdict { ran: format!("{ran} runs, {seeds} schedules"), lints })
}

/// Shapes to try, before they are rounded to what a plan requires.
fn shapes(level: Level, bm: usize, bn: usize, bk: usize, stages: usize) -> Vec<Shape> {
    let mut list = vec![[1, 1, 8, 8], [2, bm + 5, bn + 9, bk + 9]];
    if level == Level::Full {
        let trips = [1, stages - 1, stages, stages + 1, 2 * stages + 1];
        list.extend(trips.into_iter().filter(|t| *t > 0).map(|t| [1, 17, 24, t * bk]));
        list.push([1, 3 * bm, bn, bk * 2 - 3]);
        list.push([1, bm - 1, 2 * bn + 1, 2 * bk + 5]);
    }
    list
}

/// The wanted shape with n and k rounded up to the first that the plan takes: exact sizes first, then alignments.
fn nearest(engine: &Engine<EmulatorDevice>, plan: PlanIndex, [batch, m, n, k]: Shape) -> Res<Option<Shape>> {
    for step_k in [1usize, 2, 4, 8, 64, 256, 512, 1024] {
        for step_n in [1usize, 2, 8] {
            let shape = [batch, m, n.next_multiple_of(step_n), k.next_multiple_of(step_k)];
            if engine.check(plan, &vars(shape)?).is_ok() {
                return Ok(Some(shape));
            }
        }
    }
    Ok(None)
}
