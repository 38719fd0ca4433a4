//! Random programs, whole and damaged: a whole one must run without findings and give the same bytes in two schedules, a
//! damaged one must come back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tilewright_emulator::{Arg, Device, DeviceConfig, Fill, Launch, Module, Severity};
use tilewright_random_ptx::{Choices, Program, Target};

/// Output bytes, and the first error; nothing if the launch is refused.
fn run(program: &Program, module: &Module, seed: u64, max_steps: u64) -> Option<(Vec<u8>, Option<String>)> {
    let mut device = Device::new(DeviceConfig { seed, max_steps, ..DeviceConfig::default() });
    let input = device.alloc(program.input.len() as u64, Fill::Bytes(&program.input)).ok()?;
    let output = device.alloc(program.output_bytes.into(), Fill::Zero).ok()?;
    let launch = Launch {
        entry: "k".into(),
        grid: [program.blocks, 1, 1],
        block: [program.threads, 1, 1],
        args: vec![Arg::U64(device.address(input)), Arg::U64(device.address(output))],
        ..Launch::default()
    };
    let report = device.launch(module, &launch).ok()?;
    let error = report.findings.iter().find(|finding| finding.severity == Severity::Error);
    Some((device.read(output).to_vec(), error.map(|finding| format!("line {}: {}", finding.line, finding.message))))
}

fuzz_target!(|data: &[u8]| {
    let (target, data) = match data.split_first() {
        Some((first, rest)) if first & 1 == 1 => (Target::Sm90a, rest),
        Some((_, rest)) => (Target::Sm80, rest),
        None => return,
    };
    let program = Program::random(Choices::from_bytes(data), target);
    if program.maps.is_empty() {
        match Module::parse(&program.text) {
            Ok(module) => {
                let runs: Vec<_> = [0, 3].iter().filter_map(|seed| run(&program, &module, *seed, 5_000_000)).collect();
                for (_, error) in &runs {
                    assert_eq!(error, &None, "\n{}", program.text);
                }
                assert!(runs.windows(2).all(|pair| pair[0].0 == pair[1].0), "schedules differ\n{}", program.text);
            }
            Err(error) => panic!("{error}\n{}", program.text),
        }
    }
    // The same text with a few bytes changed.
    let mut bytes = program.text.into_bytes();
    for pair in data.chunks_exact(3).take(4) {
        let at = usize::from(u16::from_le_bytes([pair[0], pair[1]])) % bytes.len();
        bytes[at] = pair[2];
    }
    let program = Program { text: String::new(), maps: Vec::new(), ..Program::random(Choices::from_bytes(data), target) };
    if let Ok(text) = String::from_utf8(bytes)
        && let Ok(module) = Module::parse(&text)
    {
        let _ = run(&program, &module, 0, 10_000);
    }
});
