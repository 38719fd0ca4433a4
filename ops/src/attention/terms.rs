//! What the forward and decode share: masks and score terms, from keys and tensors to variables and scalars.

use super::super::ask::Ask;
pub use super::super::ask::{MAX_SIZE, flag, ints, only};
pub use super::super::case::set;
use crate::error::{Res, usage};
use safetensors::Dtype;
use tilewright_ir::DType;
use tilewright_runtime::expr::Vars;

/// A window's side without a limit, as the kernels take it.
pub const UNLIMITED: i64 = 1 << 30;

/// Keys of the masks and score terms.
pub const KEYS: [&str; 6] = ["causal", "window_left", "window_right", "softcap", "scale", "chunk"];

/// Masks and score terms of a problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Key j is visible iff it is not after the query's position.
    pub causal: bool,
    /// Keys visible before and after the position; [`UNLIMITED`] for a side that is not limited.
    pub window: Option<[i64; 2]>,
    /// Tokens of a chunk.
    pub chunk: Option<i64>,
    /// Cap of the scaled score.
    pub softcap: Option<f32>,
    /// Factor of the products.
    pub scale: f32,
    /// `alibi [hq]` is given.
    pub alibi: bool,
    /// `sink [hq]` is given.
    pub sink: bool,
}

impl Terms {
    /// Reads the keys, and checks `alibi` and `sink`.
    pub fn read(ask: &Ask, d: u32, hq: usize) -> Res<Self> {
        let tokens = |name: &str| ask.value::<i64>(name, "a number of tokens, from 0; leave it out for no limit", |n| *n >= 0);
        let side = |given: Option<i64>| given.unwrap_or(UNLIMITED).min(UNLIMITED);
        let (left, right) = (tokens("window_left")?, tokens("window_right")?);
        for name in ["alibi", "sink"] {
            if ask.tensors.contains_key(name) {
                ask.expect(name, Dtype::F32, &[hq])?;
            }
        }
        let above_zero = |x: &f32| x.is_finite() && *x > 0.0;
        Ok(Terms {
            causal: flag(ask, "causal")?,
            window: (left.is_some() || right.is_some()).then_some([side(left), side(right)]),
            chunk: ask.value("chunk", "a number of tokens from 1 to 1073741824", |n| (1..=UNLIMITED).contains(n))?,
            softcap: ask.value("softcap", "a number above 0", above_zero)?,
            scale: ask.value("scale", "a number above 0", above_zero)?.unwrap_or(1.0 / (d as f32).sqrt()),
            alibi: ask.tensors.contains_key("alibi"),
            sink: ask.tensors.contains_key("sink"),
        })
    }

    /// Sets their variables.
    pub fn set(&self, vars: &mut Vars) -> Res<()> {
        if let Some([left, right]) = self.window {
            set(vars, &[("window_left", left), ("window_right", right)])?;
        }
        self.chunk.map_or(Ok(()), |chunk| set(vars, &[("chunk", chunk)]))
    }

    /// Their numbers.
    pub fn scalars(&self) -> Vec<(&'static str, f32)> {
        [("scale", Some(self.scale)), ("softcap", self.softcap)].into_iter().filter_map(|(n, v)| Some((n, v?))).collect()
    }
}

/// Extents of a tensor of a rank, none of them 0 and none too large.
pub fn extents<const N: usize>(ask: &Ask, name: &str, form: &str) -> Res<[usize; N]> {
    let t = ask.need(name)?;
    let Ok(shape) = <[usize; N]>::try_from(t.shape.as_slice()) else {
        return usage(format!("tensor `{name}` is {}: expected {form}", t.describe()));
    };
    if shape.contains(&0) || shape.iter().any(|s| *s > MAX_SIZE) {
        return usage(format!("tensor `{name}` is {}: every size must be from 1 to {MAX_SIZE}", t.describe()));
    }
    Ok(shape)
}

/// The dtype of q: what k and v must have too.
pub fn dtype_of_q(ask: &Ask) -> Res<DType> {
    let q = ask.need("q")?;
    match q.dtype {
        Dtype::BF16 => Ok(DType::BF16),
        Dtype::F16 => Ok(DType::F16),
        Dtype::F8_E4M3 | Dtype::F8_E5M2 | Dtype::I8 | Dtype::U8 => {
            usage(format!("tensor `q` is {}: 8-bit attention is not built yet; expected BF16 or F16", q.describe()))
        }
        _ => usage(format!("tensor `q` is {}: expected BF16 or F16", q.describe())),
    }
}

/// Refuses heads that do not share keys evenly.
pub fn check_groups(hq: usize, hkv: usize) -> Res<()> {
    if !hq.is_multiple_of(hkv) {
        return usage(format!("hq = {hq} query heads are no multiple of hkv = {hkv} key heads"));
    }
    Ok(())
}
