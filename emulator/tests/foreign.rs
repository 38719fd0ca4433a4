//! Kernels written in Triton and CUDA C++, compiled by their own compilers and run unmodified (`foreign/README.md`).

#[path = "foreign/cases.rs"]
mod cases;

use cases::Case;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use tilewright_emulator::Severity;

/// Fixtures that the emulator refuses so far, and the words it does so with.
const PENDING: &[(&str, &str)] = &[
    ("matmul_device_tma.sm_90a", "unknown instruction `tensormap.replace"),
    ("matmul_warp_specialized.sm_90a", "mbarrier.init over the live mbarrier"),
];

/// What is wrong with a case on one schedule.
fn trouble(case: &Case, text: &str, seed: u64) -> Option<String> {
    let ran = match cases::run(text, case, seed) {
        Ok(ran) => ran,
        Err(error) => return Some(error),
    };
    let finding = ran.report.findings.iter().find(|finding| finding.severity == Severity::Error);
    match (finding, ran.mistake) {
        (Some(finding), mistake) => {
            let kinds: BTreeSet<_> = ran.report.findings.iter().map(|f| (f.kind, f.line)).collect();
            Some(format!("line {}: {} (of {kinds:?}); {mistake:?}", finding.line, finding.message))
        }
        (None, mistake) => mistake,
    }
}

#[test]
fn foreign_kernels_run_unmodified_clean_and_right() {
    let only = std::env::args().nth(2).filter(|word| !word.starts_with('-'));
    let all: Vec<Case> =
        cases::all().into_iter().filter(|case| only.as_ref().is_none_or(|word| case.fixture.contains(word))).collect();
    // A schedule that nobody chose; it is named when it fails.
    let chance = 2 + RandomState::new().hash_one(0) % 1_000_000;
    let failures: Vec<String> = all
        .par_iter()
        .flat_map_iter(|case| {
            let text = case.text();
            let pending = PENDING.iter().find(|(name, _)| *name == case.fixture);
            [0, 1, chance].into_iter().filter_map(move |seed| {
                let found = trouble(case, &text, seed);
                let told = match (pending, found) {
                    (None, found) => found?,
                    (Some((_, words)), Some(found)) if found.contains(words) => return None,
                    (Some((_, words)), Some(found)) => format!("pending with `{words}`, but: {found}"),
                    (Some(_), None) => "works now: take it off PENDING".into(),
                };
                Some(format!("{} {:?} seed {seed}: {told}", case.fixture, case.size))
            })
        })
        .collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn there_are_kernels_enough() {
    let fixtures: BTreeSet<String> = cases::all().into_iter().map(|case| case.fixture).collect();
    assert!(fixtures.len() >= 45, "{} fixtures", fixtures.len());
}

/// Triton's layer norm tutorial: nothing keeps the first warp from setting the count before another warp has read it.
#[test]
fn the_lock_of_the_tutorial_is_caught() {
    let case = cases::all().into_iter().find(|case| case.fixture == "lock_accumulate.sm_80").expect("the case");
    let tutorial = case.of("lock_tutorial.sm_80");
    for seed in [0, 1] {
        let found = trouble(&tutorial, &tutorial.text(), seed).expect("a finding");
        assert!(found.contains("that nobody wrote"), "{found}");
    }
}
