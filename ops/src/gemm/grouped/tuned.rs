//! A grouped GEMM at the sizes of a tuner's task.

use super::super::super::case::Random;
use super::super::super::tuned::{Sizes as Asked, Tuned};
use super::case::{Sizes, case};
use super::problem;
use super::random::made;
use crate::error::{Res, usage};
use tilewright_ir::DType;

/// The problem of a class: rows fall on experts at random, none evenly, as a router spreads them.
pub fn tuned(class: &str, sizes: &Asked<'_>, seed: u64) -> Res<Tuned> {
    let (weights, gather) = problem(class)?;
    if weights.source.is_some() {
        return usage(format!("{class}: weights that come as a checkpoint has them are packed first: tune source=none"));
    }
    let p = weights.problem;
    let (tokens, e) = (sizes.get("tokens")?, sizes.get("e")?);
    let mut random = Random::new(seed ^ 0x6027);
    let mut counts = vec![0; e];
    (0..tokens).for_each(|_| counts[random.below(e)] += 1);
    let max_m = counts.iter().copied().max().unwrap_or(1).max(1);
    let s = Sizes { counts, max_m, n: sizes.get("n")?, k: sizes.get("k")?, rows: gather.then_some(tokens) };
    let (inputs, weights) = made(&p, &s, seed);
    let alpha = if p.output == DType::I32 { 1.0 } else { 0.75 };
    Ok(Tuned { case: case(p, s, alpha, inputs, weights)?, sample: None })
}
