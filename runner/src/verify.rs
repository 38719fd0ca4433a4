//! The emulator's verdict on a plan: boundary trip counts, ragged edges, several schedules.

use tilewright_emulator_device::{self as emulator_device, EmulatorDevice, Found, SMS};
use tilewright_ops::error::{Fail, Res, failed, failure};
use tilewright_ops::execute::execute;
use tilewright_ops::level::Level;
use tilewright_ops::{self as ops, case::Trial};
use tilewright_runtime::arch::Arch as RuntimeArch;
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::engine::Engine;
use tilewright_runtime::pack::Pack;

/// What became of a plan that holds.
pub struct Verdict {
    /// What was run.
    pub ran: String,
    /// Lints, each once, in words.
    pub lints: Vec<(Found, String)>,
}

/// Runs one plan of a pack. Findings that are errors fail it, lints do not.
pub fn verify(folder: &std::path::Path, plan: PlanIndex, level: Level) -> Res<Verdict> {
    let seeds = if level == Level::Full { 4 } else { 2 };
    let mut ran = 0;
    let mut lints: Vec<(Found, String)> = Vec::new();
    let mut id = String::new();
    for seed in 0..seeds {
        let pack = Pack::open(folder).map_err(failure)?;
        let arch: RuntimeArch = pack.manifest().arch.parse().map_err(failure)?;
        let engine = Engine::new(pack, EmulatorDevice::new(arch.base, seed, SMS)).map_err(failure)?;
        let manifest = engine.pack().manifest();
        let entry = &manifest.plans[plan.0 as usize];
        id.clone_from(&entry.id);
        let fits = |vars: &_| engine.check(plan, vars).is_ok();
        let trial = Trial { manifest, plan: entry, level, seed: seed + 1, fits: &fits };
        for case in (ops::find(&entry.op)?.cases)(&trial)? {
            let what = format!("plan {id} at {}, schedule {seed}", case.sizes);
            let told = |e: Fail| Fail::Failed(format!("{what}: {e}"));
            let result = execute(&engine, plan, &case).map_err(told)?;
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
            for (name, buffer) in result.buffers {
                let unused = case.unused.iter().find(|u| u.0 == name).map_or(0, |u| u.1);
                let unwritten = engine.device().unwritten(&buffer).saturating_sub(unused);
                if unwritten > 0 && !result.outputs[&name].data.is_empty() {
                    return failed(format!("{what}: {unwritten} bytes of {name} were never written"));
                }
            }
            case.compare(&result.outputs, manifest, plan, false).map_err(told)?;
            ran += 1;
        }
    }
    if ran == 0 {
        return failed(format!("plan {id}: no test shape meets its requirements"));
    }
    Ok(Verdict { ran: format!("{ran} runs, {seeds} schedules"), lints })
}
