//! `gen explain` of ops without tensors: sizes and keys only.

use crate::cli::ExplainArgs;
use std::path::Path;
use tilewright_autotune::DeviceProfile;
use tilewright_autotune::explain::{Explanation, LibraryPlan};
use tilewright_autotune::ladder::{self, Choice, Known, Rung};
use tilewright_autotune::space::{self, Point, Space};
use tilewright_autotune::task::Task;
use tilewright_ir::Arch;
use tilewright_ops::error::{Res, bad_input, failure, usage};
use tilewright_ops::{library, point, records, task};
use tilewright_runtime::archive::ARCHIVE;
use tilewright_runtime::dispatch::{ChosenBy, Policy};
use tilewright_runtime::expr::VarId;
use tilewright_runtime::pack::{MANIFEST, Pack};

/// Runs the command.
pub fn explain(args: &ExplainArgs) -> Res<()> {
    for (flag, given) in [
        ("--input", &args.input),
        ("--work", &args.work),
        ("--save-work", &args.save_work),
        ("--record", &args.record),
        ("--save-record", &args.save_record),
    ] {
        if given.is_some() {
            return usage(format!("{flag} goes with sparse_network: {} is explained by its sizes, --set m=.. ", args.op));
        }
    }
    let task = task::of_keys(&args.op, &args.set)?;
    let (arch, device) = target(args)?;
    let space = space::of(arch, &task.op, &task.class).map_err(bad_input)?;
    // Without a workspace there are no records and no library, and the model has the word.
    let root = library::root().ok();
    let found = root.as_deref().map(|root| records::read(root, arch)).transpose()?.unwrap_or_default();
    let chosen = match root.as_deref().map(|root| of_library(root, arch, device, &task)).transpose()?.flatten() {
        Some((plan, point)) => (with_point(space.as_ref(), device, &task, point, &found.known), Some(plan)),
        None => {
            let mut choice = ladder::choose(space.as_ref(), device, &task, &found.known, &found.refused);
            choice.passed.insert(0, (Rung::Library, format!("no plan of {} for this class and these sizes", arch.caps().name)));
            (choice, None)
        }
    };
    let explanation = Explanation::new(space.as_ref(), device, &task, &chosen.0, chosen.1);
    if args.json {
        println!("{}", serde_json::to_string(&explanation).map_err(failure)?);
    } else {
        print!("{explanation}");
    }
    Ok(())
}

/// The target and the device; each stands for the other where it is not named.
fn target(args: &ExplainArgs) -> Res<(Arch, &'static DeviceProfile)> {
    let arch = args.target.as_deref().map(str::parse::<Arch>).transpose().map_err(bad_input)?;
    let named = args.device_profile.as_deref().map(super::device).transpose()?;
    match (arch, named) {
        (Some(arch), Some(d)) if d.arch != arch => {
            usage(format!("--device-profile {}: it runs {}, the target is {arch}", d.name, d.arch))
        }
        (arch, Some(d)) => Ok((arch.unwrap_or(d.arch), d)),
        (Some(arch), None) => Ok((arch, DeviceProfile::typical(arch))),
        (None, None) => Ok((Arch::Sm90a, DeviceProfile::typical(Arch::Sm90a))),
    }
}

/// The plan that the library's dispatch table chooses, and its point.
fn of_library(root: &Path, arch: Arch, device: &DeviceProfile, task: &Task) -> Res<Option<(LibraryPlan, Option<Point>)>> {
    let folder = root.join("kernels-generated").join(arch.caps().name);
    if ![ARCHIVE, MANIFEST].iter().any(|name| folder.join(name).is_file()) {
        return Ok(None);
    }
    let pack = Pack::open(&folder).map_err(bad_input)?;
    let mut vars = task::vars(task)?;
    vars.set(VarId::SMS, device.sms.into()).map_err(failure)?;
    let Ok(index) = pack.dispatcher().select(&task.op, &task.class, &vars, Policy::Fastest) else { return Ok(None) };
    let manifest = pack.manifest();
    let plan = &manifest.plans[index.0 as usize];
    let table = manifest.dispatch.iter().find(|t| t.op == task.op && t.class == task.class);
    let values = |axes: &[String]| axes.iter().map(|a| vars.get(VarId::of(a))).collect::<Option<Vec<i64>>>();
    let ranked_by = table.and_then(|t| {
        let values = values(&t.axes)?;
        Some(t.entry(&values).map_or(t.tree.chosen_by, |e| e.chosen_by))
    });
    let ranked_by = if ranked_by == Some(ChosenBy::Tuned) { "measurements" } else { "the model" };
    Ok(Some((LibraryPlan { id: plan.id.clone(), ranked_by: ranked_by.into() }, point::of(manifest, plan))))
}

/// The library's plan as a choice.
fn with_point(space: &dyn Space, device: &DeviceProfile, task: &Task, point: Option<Point>, known: &[Known]) -> Choice {
    let own = |k: &&Known| k.profile == device.name && k.task == *task && Some(&k.best.0) == point.as_ref();
    let estimate = point.as_ref().map(|p| space.estimate(device, task, p, None)).filter(|e| e.seconds.is_finite());
    Choice { rung: Rung::Library, measured: known.iter().find(own).map(|k| k.best.1), estimate, point, passed: Vec::new() }
}
