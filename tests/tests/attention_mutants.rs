//! The emulator sees it when an attention kernel's synchronisation breaks: every barrier, fence and wait is taken out of the
//! PTX, one at a time. That a kernel runs without findings says something only because this holds.

use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_templates::attention::{AttentionProblem, Mods, WgmmaAttentionConfig, wgmma_forward};
use tilewright_tests::mutants::{Outcome, all_are_seen, outcome};
use tilewright_tests::{Built, Runner};

/// Tokens of each sequence: several tiles of queries and blocks of keys, ragged ends, a sequence of one block. The device
/// has 4 multiprocessors, so each CTA walks several tiles.
const LENGTHS: [i32; 4] = [150, 80, 20, 300];
const TOTAL: usize = 550;

/// Runs the kernel once.
fn run(built: &Built, seed: u64) -> Outcome {
    let number = |i: usize| half::bf16::from_f64(((i * 7919 + 13) % 256) as f64 / 128.0 - 1.0).to_le_bytes();
    let data = |start: usize| (start..start + TOTAL * 64).flat_map(number).collect::<Vec<u8>>();
    let starts = (0..=LENGTHS.len()).map(|n| LENGTHS[..n].iter().sum::<i32>());
    let cu: Vec<u8> = starts.flat_map(|n| n.to_le_bytes()).collect();
    let sizes = ["batch", "sq", "sk", "hq", "hkv", "total_q", "total_k"].into_iter();
    let sizes: Vec<(&str, i64)> = sizes.zip([4, 300, 300, 1, 1, TOTAL as i64, TOTAL as i64]).collect();
    let (q, k, v) = (data(0), data(1000), data(2000));
    let inputs = [("q", &q[..]), ("k", &k), ("v", &v), ("cu_q", &cu), ("cu_k", &cu)];
    let outputs = [("o", 2 * TOTAL * 64), ("lse", 4 * TOTAL)];
    outcome(built.run(&sizes, &[("scale", 0.125)], &inputs, &outputs, seed))
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
    all_are_seen(&built, 40, run, equal);
}
