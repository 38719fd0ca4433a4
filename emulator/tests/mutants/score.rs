//! Runs mutants, and counts those that show.

use crate::equivalent::Equivalent;
use crate::good::{Good, Outcome, SEEDS};
use crate::operators::edits;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write;
use tilewright_emulator::{Module, Severity};

/// How a mutant was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Finding { kind: String, seed: u64 },
    WrongValue { seed: u64 },
    Refused,
    Survived,
}

#[derive(Clone, Debug)]
pub struct Mutant {
    pub kernel: String,
    /// Line of the PTX text, 0 for what the host passes.
    pub line: usize,
    pub operator: String,
    pub was: String,
    /// Which of the kernel's instructions that read the same it was, from 1.
    pub nth: usize,
    pub verdict: Verdict,
    /// The lines around the edit.
    pub context: String,
}

impl Mutant {
    pub fn survived(&self) -> bool {
        self.verdict == Verdict::Survived
    }

    pub fn name(&self) -> String {
        format!("{}:{}:{}", self.kernel, self.line, self.operator)
    }
}

/// Findings and wrong values of a good kernel, by seed: there should be none.
pub fn noise(good: &Good) -> Vec<String> {
    let module = match Module::parse(good.text()) {
        Ok(module) => module,
        Err(error) => return vec![format!("{}: {error}", good.name)],
    };
    let runs = SEEDS.par_iter().flat_map(|&seed| {
        let said = match good.run(&module, good.text(), seed, 2_000_000) {
            Outcome::Refused(why) => vec![why],
            Outcome::Ran { findings, wrong, .. } => {
                let findings = findings.iter().map(|f| format!("{:?} at line {}: {}", f.kind, f.line, f.message));
                findings.chain(wrong).collect()
            }
        };
        said.into_iter().map(|said| format!("{}, seed {seed}: {said}", good.name)).collect::<Vec<_>>()
    });
    runs.collect()
}

/// All mutants of the kernels, each run until it shows.
pub fn mutants(kernels: &[Good]) -> Vec<Mutant> {
    kernels.par_iter().flat_map(mutants_of).collect()
}

fn mutants_of(good: &Good) -> Vec<Mutant> {
    let module = Module::parse(good.text()).expect("a good kernel parses");
    let steps = match good.run(&module, good.text(), SEEDS[0], u64::MAX) {
        Outcome::Ran { steps, .. } => steps,
        Outcome::Refused(why) => panic!("{}: {why}", good.name),
    };
    let limit = 2 * steps + 5_000;
    let lines: Vec<&str> = good.text().lines().collect();
    let text = edits(good.text(), &good.stages).into_par_iter().map(|edit| Mutant {
        kernel: good.name.clone(),
        line: edit.line,
        nth: edit.nth,
        operator: edit.operator,
        was: edit.was,
        verdict: judge(good, &edit.text, limit),
        context: lines[edit.line.saturating_sub(4)..(edit.line + 3).min(lines.len())].join("\n"),
    });
    let host = good.host_edits().into_par_iter().map(|(operator, was, changed)| Mutant {
        kernel: good.name.clone(),
        line: 0,
        nth: 1,
        operator,
        was,
        verdict: judge(&changed, changed.text(), limit),
        context: String::new(),
    });
    text.chain(host).collect()
}

fn judge(good: &Good, text: &str, max_steps: u64) -> Verdict {
    let Ok(module) = Module::parse(text) else { return Verdict::Refused };
    for seed in SEEDS {
        match good.run(&module, text, seed, max_steps) {
            Outcome::Refused(_) => return Verdict::Refused,
            Outcome::Ran { findings, wrong, .. } => {
                if let Some(finding) = findings.first() {
                    let lint = if finding.severity == Severity::Lint { "?" } else { "" };
                    return Verdict::Finding { kind: format!("{:?}{lint}", finding.kind), seed };
                }
                if wrong.is_some() {
                    return Verdict::WrongValue { seed };
                }
            }
        }
    }
    Verdict::Survived
}

/// Counts of one row of the table.
#[derive(Clone, Debug, Default)]
struct Row {
    kinds: BTreeMap<String, usize>,
    wrong: usize,
    refused: usize,
    equal: usize,
    survived: usize,
}

impl Row {
    fn add(&mut self, mutant: &Mutant, equal: bool) {
        match &mutant.verdict {
            Verdict::Finding { kind, .. } => *self.kinds.entry(kind.clone()).or_default() += 1,
            Verdict::WrongValue { .. } => self.wrong += 1,
            Verdict::Refused => self.refused += 1,
            Verdict::Survived if equal => self.equal += 1,
            Verdict::Survived => self.survived += 1,
        }
    }

    fn print(&self) -> String {
        let found: usize = self.kinds.values().sum();
        let kinds: Vec<String> = self.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        format!("{found:>6} {:>6} {:>8} {:>6} {:>9}  {}", self.wrong, self.refused, self.equal, self.survived, kinds.join(", "))
    }
}

/// Which part of the mutants that can be told from the kernel was told, and the report that says so.
#[derive(Clone, Debug)]
pub struct Score {
    pub share: f64,
    pub equal_share: f64,
    /// Entries of the list of equivalent mutants that are wrong about these mutants.
    pub wrong_entries: Vec<String>,
    pub report: String,
}

pub fn score(mutants: &[Mutant], list: &[Equivalent]) -> Score {
    let (mut by_operator, mut by_kernel): (BTreeMap<&str, Row>, BTreeMap<&str, Row>) = Default::default();
    let mut total = Row::default();
    let mut survivors = String::new();
    let mut wrong_entries = Vec::new();
    for mutant in mutants {
        let entry = list.iter().find(|entry| entry.matches(mutant));
        if let (Some(entry), false) = (entry, mutant.survived()) {
            wrong_entries.push(format!("line {}: {} is seen: {:?}", entry.line, mutant.name(), mutant.verdict));
        }
        by_operator.entry(&mutant.operator).or_default().add(mutant, entry.is_some());
        by_kernel.entry(&mutant.kernel).or_default().add(mutant, entry.is_some());
        total.add(mutant, entry.is_some());
        if mutant.survived() && entry.is_none() {
            let context: Vec<String> = mutant.context.lines().map(|l| format!("    | {}", shorten(l))).collect();
            let _ = writeln!(survivors, "{}\n    {}\n{}", mutant.name(), shorten(&mutant.was), context.join("\n"));
        }
    }
    for entry in list.iter().filter(|entry| mutants.iter().any(|m| entry.names_kernel(&m.kernel))) {
        if !mutants.iter().any(|mutant| entry.matches(mutant)) {
            wrong_entries.push(format!("line {}: no such mutant", entry.line));
        }
    }
    let count = mutants.len().max(1);
    let share = 1.0 - total.survived as f64 / (count - total.equal).max(1) as f64;
    let head = format!("{:46} {:>6} {:>6} {:>8} {:>6} {:>9}", "", "found", "wrong", "refused", "equal", "survived");
    let mut report = format!("survivors:\n{survivors}\n{head}\n");
    for (name, row) in by_operator.iter().chain(&by_kernel).chain([(&"all", &total)]) {
        let _ = writeln!(report, "{:46} {}", shorten_to(name, 46), row.print());
    }
    let _ = writeln!(report, "{count} mutants, {:.2} % seen of those that differ", 100.0 * share);
    Score { share, equal_share: total.equal as f64 / count as f64, wrong_entries, report }
}

fn shorten(line: &str) -> String {
    shorten_to(line.trim(), 140)
}

fn shorten_to(text: &str, most: usize) -> String {
    if text.len() <= most { text.into() } else { format!("{}..", text.chars().take(most - 2).collect::<String>()) }
}
