//! Attention at the sizes of a tuner's task.

use super::super::tuned::{Sizes, Tuned};
use super::{decode_case, decode_random, forward_case, forward_random};
use crate::error::{Res, bad_input, usage};
use tilewright_templates::attention::DecodeProblem;

/// Keys of a block that windows and chunks of random problems end near.
const BLOCK: usize = 128;

/// A forward. Sequences of different lengths are as long as the first, or shorter.
pub fn tuned_forward(class: &str, sizes: &Sizes<'_>, seed: u64) -> Res<Tuned> {
    let (p, prefix) = forward_case::problem(class)?;
    if prefix {
        return usage(format!("{class}: prompts with a shared prefix are not tuned: tune the class without it"));
    }
    let sq = sizes.get("sq")?;
    let shape = [sizes.get("batch")?, sq, sizes.or("sk", sq)?, sizes.get("hq")?, sizes.get("hkv")?];
    heads(shape[3], shape[4])?;
    let (forward, tensors) = forward_random::random(p, shape, 0, BLOCK, seed);
    Ok(Tuned { case: forward_case::case(forward, tensors)?, sample: None })
}

/// A decode. Tables have room for two pages more than a sequence fills, as a growing cache has.
pub fn tuned_decode(class: &str, sizes: &Sizes<'_>, seed: u64) -> Res<Tuned> {
    let p = DecodeProblem::from_class(class).map_err(bad_input)?;
    let heads_of = [sizes.or("sq", 1)?, sizes.get("hq")?, sizes.get("hkv")?];
    heads(heads_of[1], heads_of[2])?;
    let (page, pages) = (sizes.get("page")?, sizes.get("max_pages")?);
    let lengths = vec![page * pages.saturating_sub(2).max(1); sizes.get("batch")?];
    let shape = decode_random::Shape { heads: heads_of, page, lengths, splits: 0, split_size: 0 };
    let (decode, tensors) = decode_random::random(p, &shape, seed);
    Ok(Tuned { case: decode_case::case(decode, tensors)?, sample: None })
}

fn heads(hq: usize, hkv: usize) -> Res<()> {
    if hq.is_multiple_of(hkv) { Ok(()) } else { usage(format!("hq = {hq} is no multiple of hkv = {hkv}")) }
}
