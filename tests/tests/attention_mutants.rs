//! The emulator sees it when an attention kernel's synchronisation breaks: every barrier, fence and wait is taken out of the
//! PTX, one at a time. That a kernel runs without findings says something only because this holds.

use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_templates::attention::{AttentionProblem, Mods, WgmmaAttentionConfig, wgmma_forward};
use tilewright_tests::{Built, Runner};

/// Tokens of each sequence: several tiles of queries and blocks of keys, ragged ends, a sequence of one block. The device
/// has 4 multiprocessors, so each CTA walks several tiles.
const LENGTHS: [i32; 4] = [150, 80, 20, 300];
const TOTAL: usize = 550;

/// What a run gave: O and LSE, or the first thing found.
fn outcome(built: &Built, seed: u64) -> Result<Vec<Vec<u8>>, String> {
    let number = |i: usize| half::bf16::from_f64(((i * 7919 + 13) % 256) as f64 / 128.0 - 1.0).to_le_bytes();
    let data = |start: usize| (start..start + TOTAL * 64).flat_map(number).collect::<Vec<u8>>();
    let starts = (0..=LENGTHS.len()).map(|n| LENGTHS[..n].iter().sum::<i32>());
    let cu: Vec<u8> = starts.flat_map(|n| n.to_le_bytes()).collect();
    let sizes = ["batch", "sq", "sk", "hq", "hkv", "total_q", "total_k"].into_iter();
    let sizes: Vec<(&str, i64)> = sizes.zip([4, 300, 300, 1, 1, TOTAL as i64, TOTAL as i64]).collect();
    let (q, k, v) = (data(0), data(1000), data(2000));
    let inputs = [("q", &q[..]), ("k", &k), ("v", &v), ("cu_q", &cu), ("cu_k", &cu)];
    let ran = built.run(&sizes, &[("scale", 0.125)], &inputs, &[("o", 2 * TOTAL * 64), ("lse", 4 * TOTAL)], seed);
    let ran = ran.map_err(|e| e.to_string())?;
    match (ran.errors.first(), ran.unwritten.iter().sum::<u64>()) {
        (Some(e), _) => Err(e.clone()),
        (None, 0) => Ok(ran.outputs),
        (None, n) => Err(format!("{n} bytes never written")),
    }
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

/// Why a mutant may be the same kernel as far as PTX is concerned.
fn equal(lines: &[&str], at: usize) -> Option<&'static str> {
    let last_sync = lines.iter().rposition(|l| l.trim_start().starts_with("bar.sync"));
    let before = lines[..at].iter().rposition(|l| l.contains("wgmma.fence"));
    if lines[at].contains("wgmma.fence") && before.is_some_and(|b| !lines[b..at].iter().any(|l| l.contains("wgmma.wait_group"))) {
        // P and O were written before the scores were started; ptxas wants a fence before each group all the same (C7519).
        return Some("the fence before the scores came after the same writes");
    }
    (last_sync == Some(at)).then_some("the turn nobody takes ends with the CTA")
}

#[test]
fn broken_synchronisation_is_seen() {
    let p = AttentionProblem { causal: true, varlen: true, ..AttentionProblem::plain(DType::BF16, 64) };
    let c: WgmmaAttentionConfig =
        "kind=wgmma,bm=128,bn=32,wgs=2,stages=2,overlap=1,pingpong=1,persistent=1,exp_fma=0".parse().unwrap();
    let mut k = KernelBuilder::new("attention", Arch::Sm90a);
    wgmma_forward(&mut k, &p, &c, &Mods::default()).unwrap();
    let built = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker")).build(&k.finish()).unwrap();
    let right = outcome(&built, 0).unwrap();
    (1..4).for_each(|seed| assert_eq!(outcome(&built, seed).as_ref(), Ok(&right), "schedule {seed}"));
    let lines: Vec<&str> = built.compiled.ptx.lines().collect();
    let (mut tried, mut unseen) = (0, Vec::new());
    for (at, line) in lines.iter().enumerate() {
        let Some(instead) = broken(line) else { continue };
        tried += 1;
        let text: Vec<&str> = lines.iter().enumerate().map(|(i, l)| if i == at { &instead[..] } else { l }).collect();
        let mutant = built.with_ptx(text.join("\n")).unwrap();
        if (0..4).all(|seed| outcome(&mutant, seed).as_ref() == Ok(&right)) {
            match equal(&lines, at) {
                Some(why) => eprintln!("line {}: {}: {why}", at + 1, line.trim()),
                None => unseen.push(format!("line {}: {}", at + 1, line.trim())),
            }
        }
    }
    eprintln!("{tried} mutants");
    assert!(tried > 40, "{tried} mutants are too few: is the PTX spelled otherwise now?");
    assert!(unseen.is_empty(), "{unseen:#?}");
}
