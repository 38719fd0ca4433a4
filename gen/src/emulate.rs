//! `gen emulate`: any PTX file in the emulator.

use crate::cli::EmulateArgs;
use crate::emulate_args;
use crate::emulate_memory::{Left, Memory};
use crate::launch_file::{LaunchFile, LaunchSpec};
use serde_json::{Value, json};
use tilewright_emulator::{Checks, DeviceConfig, Finding, FindingKind, Module, Numerics, Rendering, Report, Severity};
use tilewright_emulator_device::{describe, is_error};
use tilewright_ops::error::{Fail, Res, failed, usage};
use tilewright_ops::{files, tensors};

/// Runs the command.
pub fn emulate(args: &EmulateArgs) -> Res<()> {
    let at = |path: &std::path::Path, e: &dyn std::fmt::Display| Fail::Usage(format!("{}: {e}", path.display()));
    [Some(&args.output), args.report.as_ref()].into_iter().flatten().try_for_each(|path| files::check_folder(path))?;
    let text = std::fs::read_to_string(&args.ptx).map_err(|e| at(&args.ptx, &e))?;
    let module = Module::parse(&text).map_err(|e| at(&args.ptx, &e))?;
    let file = std::fs::read_to_string(&args.launch).map_err(|e| at(&args.launch, &e))?;
    let mut file: LaunchFile = serde_json::from_str(&file).map_err(|e| at(&args.launch, &e))?;
    let launches = file.take_launches().map_err(|e| at(&args.launch, &e))?;
    let inputs = args.input.as_deref().map(tensors::read).transpose()?.unwrap_or_default();
    let seeds = args.seed.map_or(0..args.schedules, |seed| seed..seed.saturating_add(1));
    let config = DeviceConfig {
        checks: if args.checks == "all" { Checks::All } else { Checks::None },
        numerics: numerics(&args.numerics)?,
        resident: file.resident,
        ..DeviceConfig::default()
    };
    let mut total = Total::default();
    let path = args.ptx.display().to_string();
    let mut words = String::new();
    for seed in seeds {
        let mut memory = Memory::new(DeviceConfig { seed, ..config }, &module, &file, &inputs)
            .and_then(|mut m| run(&mut m, &module, &launches).map(|ran| (m, ran)))
            .map_err(|e| at(&args.launch, &e))?;
        let left = memory.0.read(&file.outputs);
        let rendering = memory.0.name(Rendering::new(&text, &path).replay(command(args)));
        let compared = (config.checks == Checks::All).then_some(text.as_str());
        let report = total.add(seed, std::mem::take(&mut memory.1), left, compared);
        // Each finding is told once, with names of the run that showed it.
        words = report.iter().fold(words, |words, finding| words + &rendering.finding(finding) + "\n");
        if total.all.findings.iter().any(is_error) {
            break;
        }
    }
    let counts = Report { findings: Vec::new(), ..total.all.clone() }.render("", &path);
    let counts = counts.strip_prefix("0 errors, 0 lints\n").unwrap_or(&counts);
    let (errors, lints): (Vec<&Finding>, Vec<&Finding>) = total.all.findings.iter().partition(|f| is_error(f));
    let (e, l, s) = (count(errors.len(), "error"), count(lints.len(), "lint"), count(total.schedules as usize, "schedule"));
    eprint!("{words}{e}, {l} in {s}\n{counts}");
    if let Some(path) = &args.report {
        files::write_whole(path, format!("{:#}\n", total.json(&launches)).as_bytes())?;
    }
    if let Some(f) = errors.first() {
        return failed(format!("{} at schedule {}: {}", launches[total.failed_at].entry, f.seed, describe(f)));
    }
    let Some(left) = total.left else { return failed("no schedule was run") };
    tensors::write(&args.output, &left.tensors)
}

/// `1 lint`, `2 lints`.
fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// How to compute.
fn numerics(name: &str) -> Res<Numerics> {
    Ok(match name {
        "fast" => Numerics::Fast,
        "exact" => Numerics::Exact,
        "ring" => Numerics::Ring,
        other => return usage(format!("--numerics {other}: expected fast, exact or ring")),
    })
}

/// The command line that replays a schedule, but for its seed.
fn command(args: &EmulateArgs) -> String {
    let mut words = format!("gen emulate {} --launch {}", args.ptx.display(), args.launch.display());
    if let Some(input) = &args.input {
        words += &format!(" --input {}", input.display());
    }
    words += &format!(" --output {}", args.output.display());
    if args.numerics != "fast" {
        words += &format!(" --numerics {}", args.numerics);
    }
    if args.checks != "all" {
        words += &format!(" --checks {}", args.checks);
    }
    words
}

/// The launches of one schedule, in order, up to the first that fails.
fn run(m: &mut Memory, module: &Module, launches: &[LaunchSpec]) -> Res<Vec<Report>> {
    // All are looked at before the first one runs.
    let list = launches.iter().enumerate().map(|(n, spec)| {
        let what = if launches.len() > 1 { format!("launch {n}: ") } else { String::new() };
        emulate_args::launch(m, module, spec).map(|l| (what.clone(), l)).map_err(|e| Fail::Usage(format!("{what}{e}")))
    });
    let list = list.collect::<Res<Vec<_>>>()?;
    let mut reports = Vec::new();
    for (what, launch) in list {
        let report = m.device.launch(module, &launch).map_err(|e| Fail::Usage(format!("{what}{e}")))?;
        let clean = report.is_clean();
        reports.push(report);
        if !clean {
            break;
        }
    }
    Ok(reports)
}

/// What all schedules together gave.
#[derive(Default)]
struct Total {
    /// Findings of all schedules; counters and prints of the first.
    all: Report,
    /// Of each launch, in the first schedule.
    launches: Vec<Report>,
    /// Outputs of the first schedule.
    left: Option<Left>,
    schedules: u64,
    /// The seed of the last schedule.
    seed: u64,
    /// The launch with the first error.
    failed_at: usize,
}

impl Total {
    /// Adds a schedule, whose outputs are compared with the first one's if the text is there; gives what it found that none
    /// before did.
    fn add(&mut self, seed: u64, reports: Vec<Report>, left: Left, ptx: Option<&str>) -> Vec<Finding> {
        self.failed_at = reports.len().saturating_sub(1);
        let clean = reports.iter().all(Report::is_clean);
        let mut here = Report::default();
        reports.iter().for_each(|r| here.merge(r.clone()));
        if self.schedules == 0 {
            self.launches = reports;
        } else {
            here.counters = Default::default();
            here.printed.clear();
            here.printed_left_out = 0;
        }
        self.schedules += 1;
        self.seed = seed;
        match &self.left {
            Some(first) if clean => here.findings.extend(ptx.and_then(|ptx| differs(first, &left, seed, ptx))),
            Some(_) => {}
            None => self.left = Some(left),
        }
        let known = |f: &&Finding| !self.all.findings.iter().any(|k| k.kind == f.kind && k.line == f.line);
        let fresh = here.findings.iter().filter(known).cloned().collect();
        self.all.merge(here);
        fresh
    }

    fn json(&self, launches: &[LaunchSpec]) -> Value {
        let each = launches.iter().zip(&self.launches);
        let each: Vec<Value> = each.map(|(l, r)| json!({"entry": l.entry, "counters": r.counters})).collect();
        json!({
            "findings": self.all.findings, "counters": self.all.counters,
            "unwritten": self.left.as_ref().map(|l| &l.unwritten), "seed": self.seed, "schedules": self.schedules,
            "kernel": launches[self.failed_at].entry, "launches": each, "printed": self.all.printed,
            "plan": null, "verified_against": null,
        })
    }
}

/// Outputs of a schedule that differ from the first one's: wrong, unless the kernel lets threads go first come, first
/// served.
fn differs(first: &Left, left: &Left, seed: u64, ptx: &str) -> Option<Finding> {
    let (name, old, new) = first.tensors.iter().find_map(|(name, old)| {
        let new = left.tensors.get(name)?;
        (new.data != old.data).then_some((name, old, new))
    })?;
    let at = old.data.iter().zip(&new.data).position(|(a, b)| a != b).unwrap_or(0);
    let bytes = old.data.iter().zip(&new.data).filter(|(a, b)| a != b).count();
    let line = ptx.lines().position(is_atomic).map(|n| n as u32 + 1);
    let (severity, help) = match line {
        Some(_) => (
            Severity::Lint,
            "the order of atomic operations such as this one shows, as sums of floats or as places given out in turn: \
             expected where any order is right",
        ),
        None => (Severity::Error, "something depends on the order of threads or copies: look at its waits and fences"),
    };
    Some(Finding {
        kind: FindingKind::Nondeterminism,
        severity,
        line: line.unwrap_or(0),
        source: None,
        thread: None,
        address: None,
        message: format!("schedule {seed} gives other values for `{name}` than the first: {bytes} bytes, from byte {at}"),
        other: None,
        help: Some(help.into()),
        seed,
        count: 1,
    })
}

/// A line with an atomic operation or reduction.
fn is_atomic(line: &str) -> bool {
    let text = line.trim().trim_start_matches(|c| c != '@' && !char::is_alphabetic(c));
    let text =
        if text.starts_with('@') { text.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim()) } else { text };
    let opcode = text.split_whitespace().next().unwrap_or_default();
    ["atom.", "red.", "multimem.red.", "cp.reduce."].iter().any(|start| opcode.starts_with(start))
}
