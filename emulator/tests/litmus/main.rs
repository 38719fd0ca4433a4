//! Litmus tests of the PTX memory model. The emulator gives memory the values that some sequential order gives it; what
//! is tested is what it says of the order: a race, a missing proxy fence, or nothing.

mod cases;
mod program;

use cases::{CASES, Litmus, Verdict};
use program::Program;
use std::collections::BTreeSet;
use tilewright_emulator::{Arg, Device, DeviceConfig, Fill, FindingKind, Launch, Module};

const SEEDS: u64 = 6;

fn run(litmus: &Litmus, seed: u64) -> Result<(), String> {
    let program = Program { place: litmus.place, space: litmus.space, threads: litmus.threads };
    let text = program.ptx();
    let module = Module::parse(&text).map_err(|error| format!("{error}\n{text}"))?;
    let mut device = Device::new(DeviceConfig { seed, max_steps: 20_000, ..DeviceConfig::default() });
    let vars = device.alloc(64, Fill::Zero).map_err(|error| error.to_string())?;
    let sevens: Vec<u8> = std::iter::repeat_n(7u32.to_le_bytes(), 4).flatten().collect();
    let spare = device.alloc(16, Fill::Bytes(&sevens)).map_err(|error| error.to_string())?;
    let [blocks, threads, cluster] = program.shape();
    let launch = Launch {
        entry: "k".into(),
        grid: [blocks, 1, 1],
        block: [threads, 1, 1],
        cluster: [cluster, 1, 1],
        args: vec![Arg::U64(device.address(vars)), Arg::U64(device.address(spare))],
        ..Launch::default()
    };
    let report = device.launch(&module, &launch).map_err(|error| error.to_string())?;
    let order = [FindingKind::Race, FindingKind::RaceEqual, FindingKind::Proxy];
    let found: BTreeSet<FindingKind> = report.findings.iter().map(|finding| finding.kind).collect();
    let said =
        || report.findings.iter().map(|f| format!("\n    {:?} at line {}: {}", f.kind, f.line, f.message)).collect::<String>();
    if found.iter().any(|kind| !order.contains(kind)) {
        return Err(format!("a finding that is not about order:{}\n{text}", said()));
    }
    let right = match litmus.verdict {
        Verdict::Free => found.is_empty(),
        Verdict::Race => found.contains(&FindingKind::Race) && !found.contains(&FindingKind::Proxy),
        Verdict::RaceEqual => found.iter().eq([&FindingKind::RaceEqual]),
        Verdict::Proxy => found.iter().eq([&FindingKind::Proxy]),
    };
    if right { Ok(()) } else { Err(format!("expected {:?}, found:{}", litmus.verdict, said())) }
}

#[test]
fn verdicts_are_those_of_the_memory_model() {
    let mut failures = Vec::new();
    for litmus in CASES {
        // One failing schedule is enough to say.
        if let Some((seed, why)) = (0..SEEDS).find_map(|seed| Some((seed, run(litmus, seed).err()?))) {
            failures.push(format!("{}, seed {seed}: {why}", litmus.name));
        }
    }
    assert!(failures.is_empty(), "{} of {} litmus tests:\n{}", failures.len(), CASES.len(), failures.join("\n"));
}

#[test]
fn names_are_distinct_and_every_verdict_occurs() {
    let names: BTreeSet<&str> = CASES.iter().map(|litmus| litmus.name).collect();
    assert_eq!(names.len(), CASES.len());
    for verdict in [Verdict::Free, Verdict::Race, Verdict::RaceEqual, Verdict::Proxy] {
        assert!(CASES.iter().filter(|litmus| litmus.verdict == verdict).count() >= 2, "{verdict:?}");
    }
}
