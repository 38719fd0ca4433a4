//! Attention with a score mod and a mask of one's own: built, proven on the emulator, run, compared with f64.
//!
//! `cargo run --release -p tilewright-tests --example attention_mods`; explained in docs/how-to/add-a-score-mod.md.

use half::bf16;
use tilewright_codegen::WorkerCommand;
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, RoleBuilder, TensorRef, TileRef};
use tilewright_ir::{Arch, DType};
use tilewright_templates::attention::{AttentionProblem, Mods, ScoreAt, WgmmaAttentionConfig, wgmma_forward};
use tilewright_tests::Runner;

/// Subtracts `ln(1 + |p - j|)`: far keys weigh as one over their distance.
fn far_keys_weigh_less(r: &mut RoleBuilder, score: TileRef, at: &ScoreAt) -> TileRef {
    let (p, j) = (at.wide(r, at.rows.pos), at.wide(r, at.key));
    let (ahead, behind) = (r.binary("sub", j, p), r.binary("sub", p, j));
    let distance = r.binary("max", ahead, behind);
    let one = at.int(r, 1);
    let distance = r.binary("add", distance, one);
    let distance = r.cast(distance, DType::F32);
    let log2 = r.unary("log2", distance);
    let minus_ln2 = at.float(r, -std::f32::consts::LN_2);
    r.fma(log2, minus_ln2, score)
}

/// A query sees the keys of its own document: `doc [sk]` holds each token's.
fn same_document(r: &mut RoleBuilder, doc: &TensorRef, at: &ScoreAt) -> TileRef {
    let count = r.splat(at.len[1], at.like.clone());
    let (p, j) = (at.wide(r, at.rows.pos), at.wide(r, at.key));
    let (p_exists, j_exists) = (r.compare(CmpPred::Lt, p, count), r.compare(CmpPred::Lt, j, count));
    let (of_query, of_key) = (r.load_elems(doc, &[], p, Some(p_exists)), r.load_elems(doc, &[], j, Some(j_exists)));
    r.compare(CmpPred::Eq, of_query, of_key)
}

/// Tokens, heads and head dim of the run.
const TOKENS: usize = 150;
const HEADS: usize = 2;
const D: usize = 64;

/// Builds the kernel, runs it under several schedules and gives the largest difference from f64.
pub fn run(worker: WorkerCommand) -> Result<f64, Box<dyn std::error::Error>> {
    let problem = AttentionProblem::plain(DType::BF16, D as u32);
    let config: WgmmaAttentionConfig =
        "kind=wgmma,bm=128,bn=96,wgs=2,stages=2,overlap=1,pingpong=1,persistent=0,exp_fma=0".parse()?;
    let mut k = KernelBuilder::new("attention_with_mods", Arch::Sm90a);
    let doc = k.tensor("doc", DType::I32, [Dim::param("sk")]);
    let mask = |r: &mut RoleBuilder, at: &ScoreAt| same_document(r, &doc, at);
    wgmma_forward(&mut k, &problem, &config, &Mods { score: Some(&far_keys_weigh_less), mask: Some(&mask) })?;
    let kernel = Runner::with_worker(worker).build(&k.finish())?;

    let number = |i: usize| f64::from(bf16::from_f64(((i * 7919 + 13) % 256) as f64 / 128.0 - 1.0));
    let [q, k, v] = [0, 1000, 2000].map(|seed| (0..TOKENS * HEADS * D).map(|i| number(i + seed)).collect::<Vec<f64>>());
    let documents: Vec<i32> = (0..TOKENS).map(|i| (i / 40) as i32).collect();
    let pack = |v: &[f64]| v.iter().flat_map(|x| bf16::from_f64(*x).to_le_bytes()).collect::<Vec<u8>>();
    let docs: Vec<u8> = documents.iter().flat_map(|d| d.to_le_bytes()).collect();
    let n = TOKENS as i64;
    let sizes = [("batch", 1), ("sq", n), ("sk", n), ("hq", HEADS as i64), ("hkv", HEADS as i64)];
    let mut worst = 0.0f64;
    for schedule in 0..3 {
        let inputs = [("q", &pack(&q)[..]), ("k", &pack(&k)), ("v", &pack(&v)), ("doc", &docs)];
        let outputs = [("o", 2 * q.len()), ("lse", 4 * TOKENS * HEADS)];
        let ran = kernel.run(&sizes, &[("scale", 0.125)], &inputs, &outputs, schedule)?;
        if let Some(finding) = ran.errors.first() {
            return Err(finding.clone().into());
        }
        let o: Vec<f64> = ran.outputs[0].chunks(2).map(|b| f64::from(bf16::from_le_bytes([b[0], b[1]]))).collect();
        for (got, want) in o.iter().zip(expected(&q, &k, &v, &documents)) {
            worst = worst.max((got - want).abs());
        }
    }
    Ok(worst)
}

/// The definition, in f64.
fn expected(q: &[f64], k: &[f64], v: &[f64], documents: &[i32]) -> Vec<f64> {
    let row = |t: usize, h: usize| (t * HEADS + h) * D..(t * HEADS + h + 1) * D;
    let mut out = vec![0.0; q.len()];
    for (i, h) in (0..TOKENS).flat_map(|i| (0..HEADS).map(move |h| (i, h))) {
        let seen = (0..TOKENS).filter(|j| documents[*j] == documents[i]);
        let weights: Vec<(usize, f64)> = seen
            .map(|j| {
                let dot: f64 = q[row(i, h)].iter().zip(&k[row(j, h)]).map(|(a, b)| a * b).sum();
                (j, (0.125 * dot).exp() / (1 + i.abs_diff(j)) as f64)
            })
            .collect();
        let sum: f64 = weights.iter().map(|w| w.1).sum();
        for (j, w) in weights {
            out[row(i, h)].iter_mut().zip(&v[row(j, h)]).for_each(|(o, v)| *o += w / sum * v);
        }
    }
    out
}

#[allow(dead_code)] // the test of this example has a main of its own
fn main() -> std::process::ExitCode {
    if std::env::args().nth(1).as_deref() == Some("worker") {
        return tilewright_codegen::worker::worker_main();
    }
    let worker = std::env::current_exe().map(|program| WorkerCommand { program, args: vec!["worker".into()] });
    match worker.map_err(Into::into).and_then(run) {
        Ok(worst) => {
            println!("no findings under 3 schedules; largest difference from f64 {worst:.1e} (bf16 has steps of 3.9e-3 below 1)");
            std::process::ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{e}");
            std::process::ExitCode::FAILURE
        }
    }
}
