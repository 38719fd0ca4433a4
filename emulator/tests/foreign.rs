//! Kernels written in Triton and CUDA C++, compiled by their own compilers and run unmodified (`foreign/README.md`).

#[path = "foreign/cases.rs"]
mod cases;

use cases::Case;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use tilewright_emulator::{Finding, FindingKind, Severity};

/// Fixtures that the emulator refuses so far, and the words it does so with.
const PENDING: &[(&str, &str)] = &[];

/// Fixtures that break the rules of PTX, and what is said of them. Triton 3.6 leaves out the proxy fence between
/// `cp.async` and the `wgmma` that reads what it copied, and its warp specialisation puts tiles over mbarriers of which
/// it has no use left but which nobody invalidated. What 3.9 makes of the same sources must be clean.
const BROKEN: &[(&str, FindingKind, &str)] = &[
    ("matmul_tf32.sm_90a", FindingKind::Proxy, FENCE),
    ("matmul_int8.sm_90a", FindingKind::Proxy, FENCE),
    ("matmul_fp8.sm_90a", FindingKind::Proxy, FENCE),
    ("attention.sm_90a", FindingKind::Proxy, FENCE),
    ("attention_causal.sm_90a", FindingKind::Proxy, FENCE),
    ("attention_d128.sm_90a", FindingKind::Proxy, FENCE),
    ("matmul_warp_specialized.sm_90a", FindingKind::Mbarrier, "over the live mbarrier"),
    ("lock_tutorial.sm_80", FindingKind::Race, "after the atomic by warp 0 at line"),
];

const FENCE: &str = "after the write by cp.async";

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
        .filter(|case| BROKEN.iter().all(|(name, ..)| *name != case.fixture))
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

#[test]
fn what_compilers_got_wrong_is_caught() {
    for (name, kind, words) in BROKEN {
        let cases: Vec<Case> = cases::all().into_iter().filter(|case| case.fixture == *name).collect();
        assert!(!cases.is_empty(), "{name} has no case");
        for case in cases {
            let text = case.text();
            for seed in [0, 1, 2] {
                let ran = cases::run(&text, &case, seed).expect("it runs");
                let said = |finding: &&Finding| finding.kind == *kind && finding.message.contains(words);
                assert!(ran.report.findings.iter().any(|f| said(&f)), "{name} seed {seed}: {:#?}", ran.report.findings);
                if *kind == FindingKind::Proxy {
                    // The missing fence is all that is wrong, and nothing but a device shows it in the values.
                    let other = |f: &&Finding| f.severity == Severity::Error && f.kind != FindingKind::Proxy;
                    assert_eq!(ran.report.findings.iter().find(other), None);
                    assert_eq!(ran.mistake, None);
                }
            }
        }
    }
}

#[test]
fn a_finding_names_the_line_of_the_triton_source() {
    let case = cases::all().into_iter().find(|case| case.fixture == "lock_tutorial.sm_80").expect("the case");
    let ran = cases::run(&case.text(), &case, 0).expect("it runs");
    let race = ran.report.findings.iter().find(|f| f.kind == FindingKind::Race).expect("a race");
    let source = include_str!("foreign/src/scans.py");
    let line_of = |source_name: &Option<String>| {
        let (file, line) = source_name.as_ref()?.rsplit_once(':')?;
        file.ends_with("scans.py").then(|| source.lines().nth(line.parse::<usize>().ok()? - 1)).flatten()
    };
    assert_eq!(line_of(&race.source).map(str::trim), Some("count = tl.load(count_ptr)"));
    let other = race.other.as_ref().expect("the other side");
    assert_eq!(line_of(&other.source).map(str::trim), Some("tl.atomic_xchg(count_ptr, 1)"));
}
