//! Kernels with one piece of synchronisation taken out: the emulator must see each of them.

use crate::runner::Built;

/// What a run gave: its outputs, or the first thing found.
pub type Outcome = Result<Vec<Vec<u8>>, String>;

/// A run of several launches comes down to this: findings first, then bytes that nothing wrote.
pub fn outcome(ran: Result<crate::Ran, Box<dyn std::error::Error>>) -> Outcome {
    let ran = ran.map_err(|e| e.to_string())?;
    match (ran.errors.first(), ran.unwritten.iter().sum::<u64>()) {
        (Some(e), _) => Err(e.clone()),
        (None, 0) => Ok(ran.outputs),
        (None, n) => Err(format!("{n} bytes never written")),
    }
}

/// Takes every barrier, fence and wait out of the PTX, one at a time, and runs what is left under schedules 0 to 3. `equal` says
/// why a mutant (the lines, and which is gone) is the same kernel as far as PTX is concerned.
///
/// # Panics
/// If the kernel itself is not silent and the same under every schedule, if a mutant is, or if there are no more than
/// `at_least` of them.
pub fn all_are_seen(
    built: &Built,
    at_least: usize,
    run: impl Fn(&Built, u64) -> Outcome,
    equal: impl Fn(&[&str], usize) -> Option<&'static str>,
) {
    let right = run(built, 0).unwrap();
    (1..4).for_each(|seed| assert_eq!(run(built, seed).as_ref(), Ok(&right), "schedule {seed}"));
    let lines: Vec<&str> = built.compiled.ptx.lines().collect();
    let (mut tried, mut unseen) = (0, Vec::new());
    for (at, line) in lines.iter().enumerate() {
        let Some(instead) = broken(line) else { continue };
        tried += 1;
        let text: Vec<&str> = lines.iter().enumerate().map(|(i, l)| if i == at { &instead[..] } else { l }).collect();
        let mutant = built.with_ptx(text.join("\n")).unwrap();
        if (0..4).all(|seed| run(&mutant, seed).as_ref() == Ok(&right)) {
            match equal(&lines, at) {
                Some(why) => eprintln!("line {}: {}: {why}", at + 1, line.trim()),
                None => unseen.push(format!("line {}: {}", at + 1, line.trim())),
            }
        }
    }
    eprintln!("{tried} mutants");
    assert!(tried > at_least, "{tried} mutants are too few: is the PTX spelled otherwise now?");
    assert!(unseen.is_empty(), "{unseen:#?}");
}

/// The line without its effect, if it synchronises.
fn broken(line: &str) -> Option<String> {
    let text = line.trim_start();
    if text.starts_with("mbarrier.try_wait") {
        // Always through: `try_wait p, [bar], parity` becomes a comparison that holds.
        let predicate = text.split_whitespace().nth(1)?.trim_end_matches(',');
        return Some(format!("\tsetp.eq.b32 \t{predicate}, 0, 0;"));
    }
    let kinds = ["mbarrier.arrive", "wgmma.wait_group", "wgmma.fence", "wgmma.commit_group", "bar", "fence.proxy.async"];
    kinds.iter().any(|k| text.starts_with(k)).then(|| "\t// taken out".to_string())
}
