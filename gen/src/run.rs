//! `gen run`: an op on tensors from a file.

use crate::build::{build, compiler};
use crate::cli::RunArgs;
use crate::rung::{self, Stood};
use serde_json::{Value, json};
use tilewright_autotune::DeviceProfile;
use tilewright_autotune::ladder::{self, Rung};
use tilewright_codegen::{Compiler, Inspect};
use tilewright_emulator_device::{self as emulator_device, EmulatorDevice, Found, SMS};
use tilewright_ir::Arch;
use tilewright_ops::error::{Res, bad_input, failed, failure, usage};
use tilewright_ops::execute::execute;
use tilewright_ops::tensors::{self, Tensors};
use tilewright_ops::{self as ops, Family, ask::Ask, case::Request};
use tilewright_ops::{dispatch, files, library};
use tilewright_runtime::archive::ARCHIVE;
use tilewright_runtime::cuda::CudaDevice;
use tilewright_runtime::device::Device;
use tilewright_runtime::dispatch::{PlanIndex, Policy};
use tilewright_runtime::engine::Engine;
use tilewright_runtime::expr::{VarId, Vars};
use tilewright_runtime::pack::{MANIFEST, Pack};
use tilewright_templates::plan::OpPlan;

/// Runs the command.
pub fn run(args: &RunArgs) -> Res<()> {
    let family = ops::find(&args.op)?;
    [Some(&args.output), args.report.as_ref()].into_iter().flatten().try_for_each(|path| files::check_folder(path))?;
    let arch: Arch = args.target.parse().map_err(bad_input)?;
    let cuda = device_ordinal(&args.device)?;
    let request = (family.request)(Ask::new(&args.set, tensors::read(&args.input)?)?)?;
    let typical = DeviceProfile::typical(arch);
    let (chosen, mut outcome) = match cuda {
        None => {
            let chosen = choose(arch, typical, family, &request)?;
            let outcome = emulated(arch, &request, &chosen)?;
            (chosen, outcome)
        }
        Some(ordinal) => {
            let device = CudaDevice::open(ordinal).map_err(failure)?;
            let chosen = choose(arch, &rung::profile(&device, typical)?, family, &request)?;
            let engine = Engine::new(chosen.open()?, device).map_err(failure)?;
            let outcome = run_on(&engine, &request, &chosen, true)?;
            (chosen, outcome)
        }
    };
    if let Some(path) = &args.report {
        let mut report = json!({
            "findings": outcome.findings, "kernel": outcome.kernels, "plan": outcome.plan, "counters": outcome.counters,
            "verified_against": outcome.verified.as_ref().map_or_else(|e| json!({"failed": e.to_string()}), Clone::clone),
            "device": args.device, "source": chosen.source, "rung": chosen.stood.as_ref().map(|s| s.rung),
            "rung_passed": chosen.stood.as_ref().map(|s| &s.passed),
        });
        outcome.facts.iter().for_each(|(name, value)| report[*name] = value.clone());
        files::write_whole(path, format!("{report:#}\n").as_bytes())?;
    }
    eprint!("{}", outcome.words);
    if let Some(f) = outcome.findings.iter().find(|f| emulator_device::is_error(&f.finding)) {
        return failed(format!("{}: {}", outcome.plan, emulator_device::describe(&f.finding)));
    }
    outcome.verified?;
    outcome.outputs.retain(|name, _| !request.case.more.internal.contains(&name.as_str()));
    tensors::write(&args.output, &outcome.outputs)?;
    if let Some(stood) = &chosen.stood {
        eprintln!("{}", ladder::line(stood.rung, &stood.passed));
    }
    eprintln!("{} ({})", outcome.plan, chosen.source);
    Ok(())
}

/// What a run gave.
struct Outcome {
    outputs: Tensors,
    /// What the reference says of them.
    verified: Res<Value>,
    findings: Vec<Found>,
    /// The findings in words.
    words: String,
    counters: Value,
    kernels: Vec<String>,
    plan: String,
    /// What a report says beside the comparison.
    facts: Vec<(&'static str, Value)>,
}

/// `None` for the emulator.
fn device_ordinal(text: &str) -> Res<Option<u32>> {
    match text.split_once(':') {
        None if text == "emulator" => Ok(None),
        None if text == "cuda" => Ok(Some(0)),
        Some(("cuda", n)) if n.parse::<u32>().is_ok() => Ok(n.parse().ok()),
        _ => usage(format!("--device {text}: expected emulator or cuda:N")),
    }
}

/// A plan in a pack: the library's, or one made for the occasion.
struct Chosen {
    folder: std::path::PathBuf,
    /// Keeps a temporary pack alive.
    _temporary: Option<tempfile::TempDir>,
    plan: PlanIndex,
    source: &'static str,
    /// How it was come by; nothing where the caller named it.
    stood: Option<Stood>,
}

impl Chosen {
    fn open(&self) -> Res<Pack> {
        Pack::open(&self.folder).map_err(bad_input)
    }
}

/// The library's best plan, unless a config or a split is asked for or the library has none; then what records say, then the op's
/// own list.
fn choose(arch: Arch, device: &DeviceProfile, family: &Family, r: &Request) -> Res<Chosen> {
    if !r.pinned
        && let Ok(root) = library::root()
    {
        let folder = root.join("kernels-generated").join(arch.caps().name);
        if [ARCHIVE, MANIFEST].iter().any(|name| folder.join(name).is_file()) {
            let pack = Pack::open(&folder).map_err(bad_input)?;
            let vars = with_sms(r.case.vars)?;
            if let Ok(plan) = pack.dispatcher().select(family.op, &r.case.class, &vars, Policy::Fastest) {
                // Every file of the plan is checked here, also those this device does not load.
                for launch in &pack.manifest().plans[plan.0 as usize].launches {
                    let kernel = pack.manifest().kernel(&launch.kernel).map(|i| &pack.manifest().kernels[i]);
                    kernel.map(|k| pack.verify(k)).transpose().map_err(bad_input)?;
                }
                let stood = Some(Stood { rung: Rung::Library, passed: Vec::new() });
                return Ok(Chosen { folder, _temporary: None, plan, source: "library", stood });
            }
        }
    }
    let compiler = compiler(Some(1), Inspect::WhenPtxasComplains)?;
    let mut why = failure(format!("no plan of {} for class {} on {arch}", family.op, r.case.class));
    let (recorded, mut stood) =
        if r.pinned { (None, None) } else { rung::recorded(device, family.op, r).map(|(p, s)| (p, Some(s)))? };
    if let Some(plan) = recorded {
        match try_plan(arch, plan, r, &compiler) {
            Ok(chosen) => return Ok(Chosen { stood, ..chosen }),
            Err(e) => stood = stood.map(|s| s.failed(family.op, &e)),
        }
    }
    for plan in (r.plans)(arch)? {
        match try_plan(arch, plan, r, &compiler) {
            Ok(chosen) => return Ok(Chosen { stood, ..chosen }),
            Err(e) => why = e,
        }
    }
    Err(why)
}

/// Builds a plan into a pack of its own; refused where it does not take the problem.
fn try_plan(arch: Arch, plan: OpPlan, r: &Request, compiler: &Compiler) -> Res<Chosen> {
    let mut built = build(arch, vec![plan], compiler, &|_, _, _| {})?;
    built.manifest.dispatch = dispatch::tables(arch, &built.plans)?;
    let folder = tempfile::tempdir().map_err(failure)?;
    built.write(folder.path())?;
    let chosen = Chosen {
        folder: folder.path().to_path_buf(),
        _temporary: Some(folder),
        plan: PlanIndex(0),
        source: "built",
        stood: None,
    };
    chosen.open()?.dispatcher().check(chosen.plan, &with_sms(r.case.vars)?).map_err(failure)?;
    Ok(chosen)
}

fn with_sms(mut vars: Vars) -> Res<Vars> {
    vars.set(VarId::SMS, i64::from(SMS)).map_err(failure)?;
    Ok(vars)
}

fn emulated(arch: Arch, r: &Request, chosen: &Chosen) -> Res<Outcome> {
    let (major, minor) = arch.caps().compute;
    let capability = tilewright_runtime::arch::ComputeCapability { major: major.into(), minor: minor.into() };
    let engine = Engine::new(chosen.open()?, EmulatorDevice::new(capability, 0, SMS)).map_err(bad_input)?;
    let outcome = run_on(&engine, r, chosen, false)?;
    let log = engine.device().take_log();
    let mut counters = serde_json::Map::new();
    for (kernel, counted) in &log.counters {
        // A plan may launch a kernel twice.
        let again = counters.keys().filter(|k| k.split(' ').next() == Some(kernel)).count();
        let name = if again == 0 { kernel.clone() } else { format!("{kernel} #{}", again + 1) };
        counters.insert(name, serde_json::to_value(counted).unwrap_or(Value::Null));
    }
    Ok(Outcome {
        words: log.findings.iter().map(|f| engine.device().words(f)).collect(),
        findings: log.findings,
        counters: counters.into(),
        ..outcome
    })
}

/// Runs the plan; what a device has to say of it is not in the outcome yet.
fn run_on<D: Device>(engine: &Engine<D>, r: &Request, chosen: &Chosen, gpu: bool) -> Res<Outcome> {
    let outputs = execute(engine, chosen.plan, &r.case)?.outputs;
    let manifest = engine.pack().manifest();
    let plan = &manifest.plans[chosen.plan.0 as usize];
    Ok(Outcome {
        verified: r.case.compare(&outputs, manifest, chosen.plan, gpu),
        outputs,
        findings: Vec::new(),
        words: String::new(),
        counters: Value::Null,
        kernels: plan.launches.iter().map(|l| l.kernel.clone()).collect(),
        plan: plan.id.clone(),
        facts: r.case.facts(manifest, chosen.plan)?,
    })
}
