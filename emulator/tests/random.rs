//! Random programs with one right answer: no findings, the same bytes in every schedule, and ptxas takes the text. And
//! damaged programs: whatever the text, no panic, no hang, no more memory than a kernel may have.

#[path = "common/random.rs"]
mod random;

use random::run;
use std::path::PathBuf;
use std::process::Command;
use tilewright_emulator::{DeviceConfig, Module, Severity};
use tilewright_random_ptx::{Choices, Program, Target};

const TARGETS: [Target; 2] = [Target::Sm80, Target::Sm90a];

fn check(program: &Program) -> Result<(), String> {
    let module = Module::parse(&program.text).map_err(|error| error.to_string())?;
    let mut first: Option<Vec<u8>> = None;
    for seed in 0..4 {
        let config = DeviceConfig { seed, max_steps: 2_000_000, ..DeviceConfig::default() };
        let (report, output) = run(program, &module, config).map_err(|why| format!("schedule {seed}: {why}"))?;
        if let Some(finding) = report.findings.iter().find(|finding| finding.severity == Severity::Error) {
            return Err(format!("schedule {seed}: line {}: {}", finding.line, finding.message));
        }
        match &first {
            None => first = Some(output),
            Some(before) => {
                if let Some(at) = (0..output.len()).find(|&at| output[at] != before[at]) {
                    return Err(format!("schedule {seed} gives another byte at {at} than schedule 0"));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn random_programs_have_one_answer() {
    let mut failures = Vec::new();
    let mut features = std::collections::BTreeSet::new();
    for seed in 0..150u64 {
        let program = Program::random(Choices::from_seed(seed), TARGETS[seed as usize % 2]);
        features.extend(program.features.iter().copied());
        if let Err(why) = check(&program) {
            failures.push(format!("seed {seed}: {why}"));
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures[..failures.len().min(8)].join("\n"));
    assert!(features.len() >= 13, "only {features:?}");
}

/// ptxas of the workspace's tools, if they are installed.
fn ptxas() -> Option<PathBuf> {
    let tools = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools"));
    let mut open = vec![tools];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().is_some_and(|name| name == "ptxas") {
                return Some(path);
            }
        }
    }
    None
}

#[test]
fn ptxas_takes_random_programs() {
    let Some(ptxas) = ptxas() else {
        eprintln!("skipped: no ptxas (cargo xtask setup installs it)");
        return;
    };
    let folder = std::env::temp_dir().join(format!("tilewright-random-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    for seed in 0..16u64 {
        let program = Program::random(Choices::from_seed(1_000 + seed), TARGETS[seed as usize % 2]);
        let path = folder.join("k.ptx");
        std::fs::write(&path, &program.text).expect("a file");
        let arch = format!("-arch={}", program.target.name());
        let out = Command::new(&ptxas).args([&arch, "-O0", "-o", "/dev/null"]).arg(&path).output().expect("ptxas runs");
        assert!(out.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&out.stderr));
    }
    let _ = std::fs::remove_dir_all(&folder);
}

/// Changes a few places of a text: bytes, numbers, whole lines.
fn damage(text: &str, choices: &mut Choices) -> String {
    const NUMBERS: [&str; 8] = ["0", "-1", "4294967295", "9223372036854775807", "0xffffffffffffffff", "1e400", "65536", "3"];
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    for _ in 0..choices.within(1, 4) {
        let at = choices.below(lines.len() as u32) as usize;
        match choices.below(6) {
            0 => {
                lines.remove(at);
                if lines.is_empty() {
                    return String::new();
                }
            }
            1 => {
                let from = choices.below(lines.len() as u32) as usize;
                let line = lines[from].clone();
                lines.insert(at, line);
            }
            2 => {
                let other = choices.below(lines.len() as u32) as usize;
                lines.swap(at, other);
            }
            3 => {
                let digits = |c: char| c.is_ascii_digit();
                if let Some(start) = lines[at].find(digits) {
                    let end = lines[at][start..].find(|c| !digits(c)).map_or(lines[at].len(), |len| start + len);
                    lines[at].replace_range(start..end, NUMBERS[choices.below(8) as usize]);
                }
            }
            4 => {
                let cut = choices.below(lines[at].len() as u32 + 1) as usize;
                if lines[at].is_char_boundary(cut) {
                    lines[at].truncate(cut);
                }
            }
            _ => {
                let byte = char::from(b' ' + choices.below(95) as u8);
                let cut = choices.below(lines[at].len() as u32 + 1) as usize;
                if lines[at].is_char_boundary(cut) {
                    lines[at].insert(cut, byte);
                }
            }
        }
    }
    lines.join("\n")
}

/// Only that it comes back matters; what it says does not.
fn survive(program: &Program, text: &str) {
    if let Ok(module) = Module::parse(text) {
        let config = DeviceConfig { max_steps: 20_000, ..DeviceConfig::default() };
        let _ = run(program, &module, config);
    }
}

#[test]
fn damaged_programs_neither_panic_nor_hang() {
    for seed in 0..600u64 {
        let program = Program::random(Choices::from_seed(seed % 40), TARGETS[seed as usize % 2]);
        let text = damage(&program.text, &mut Choices::from_seed(seed ^ 0x5eed));
        survive(&program, &text);
    }
}

#[test]
fn damaged_fixtures_neither_panic_nor_hang() {
    let mut open = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"))];
    let mut texts = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ext| ext == "ptx") {
                texts.push(std::fs::read_to_string(&path).expect("text"));
            }
        }
    }
    texts.sort();
    assert!(texts.len() > 60);
    let program = Program::random(Choices::from_seed(1), Target::Sm80);
    for (index, text) in texts.iter().enumerate() {
        for round in 0..4 {
            survive(&program, &damage(text, &mut Choices::from_seed(1_000 * round + index as u64)));
        }
    }
}

#[test]
fn absurd_sizes_are_refused() {
    let head = ".version 8.6\n.target sm_90a\n.address_size 64\n";
    let program = Program::random(Choices::from_seed(1), Target::Sm80);
    let body = |inside: &str| format!("{head}.visible .entry k(.param .u64 in, .param .u64 out) {{ {inside} ret; }}");
    let nested = format!("{}{}", "{".repeat(200_000), "}".repeat(200_000));
    let operand = format!("mov.b64 %r1, {}{};", "{".repeat(200_000), "}".repeat(200_000));
    let initialiser = format!(".global .b32 x[2] = {}{};", "{".repeat(200_000), "}".repeat(200_000));
    let registers: String = (0..2_000).map(|i| format!(".reg .b32 %a{i}_<60000>;\n")).collect();
    let labels: String = (0..20_000).map(|i| format!("l{i}: ")).collect();
    let list: Vec<String> = (0..20_000).map(|i| format!("l{i}")).collect();
    let branches = format!("{labels} ts: .branchtargets {};", list.join(", "));
    let texts = [
        body(".shared .align 16 .b8 x[9999999999999];"),
        body(".shared .b8 x[18446744073709551615];"),
        body(".local .align 8 .b8 x[4294967295];"),
        body(".local .b64 x[99999999];"),
        body(".reg .b32 %r<4000000000>;"),
        body(".reg .pred %p<70000>;"),
        body(&nested),
        body(&operand),
        body(&registers),
        body(&format!(".reg .b32 %r1; {branches} {}", "brx.idx %r1, ts;\n".repeat(2_000))),
        body(".reg .b32 %r<2>; ld.shared.b32 %r1, [%r1-9223372036854775808];"),
        format!("{head}{initialiser}\n.visible .entry k(.param .u64 in, .param .u64 out) {{ ret; }}"),
        format!("{head}.global .b8 x[9223372036854775807];\n.visible .entry k(.param .u64 in, .param .u64 out) {{ ret; }}"),
        format!("{head}.visible .entry k(.param .align 8 .b8 x[99999999999]) {{ ret; }}"),
        format!(
            "{head}.visible .entry k(.param .u64 in, .param .u64 out) .maxntid 4294967295, 4294967295, 4294967295 {{ ret; }}"
        ),
    ];
    for text in texts {
        survive(&program, &text);
    }
}
