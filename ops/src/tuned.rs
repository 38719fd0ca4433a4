//! Problems at the sizes that a task of the tuner names, with random data and what can be said of the result.

use crate::case::{Case, Check};
use crate::error::{Res, usage};
use crate::{attention, gemm};
use std::collections::BTreeMap;

/// A problem of the tuner.
pub struct Tuned {
    /// Its data. Its own comparison leaves the reference out where the work is too much.
    pub case: Case,
    /// Where it does: a comparison of some elements with the f64 reference, for ops whose elements can be computed one by one.
    pub sample: Option<Check>,
}

/// Sizes by name.
pub struct Sizes<'a> {
    op: &'a str,
    sizes: &'a BTreeMap<String, i64>,
    known: &'static [&'static str],
}

/// The problem of an op's class at these sizes; the same data from the same seed.
///
/// Sizes are m, n, k and batch (1 where absent) of `gemm`; tokens, e, n, k of `gemm_grouped`; batch, sq, hq, hkv and sk (sq where
/// absent) of `attention`; batch, hq, hkv, page, max_pages and sq (1 where absent) of `attention_decode`.
///
/// # Errors
/// An op or a class that is not tuned, a size that is missing, unknown or not positive.
pub fn tuned(op: &str, class: &str, sizes: &BTreeMap<String, i64>, seed: u64) -> Res<Tuned> {
    type Make = fn(&str, &Sizes<'_>, u64) -> Res<Tuned>;
    let rows: [(&str, &'static [&'static str], Make); 4] = [
        ("gemm", &["batch", "m", "n", "k"], gemm::tuned),
        ("gemm_grouped", &["tokens", "e", "m", "n", "k"], gemm::tuned_grouped),
        ("attention", &["batch", "sq", "sk", "hq", "hkv"], attention::tuned_forward),
        ("attention_decode", &["batch", "sq", "hq", "hkv", "page", "max_pages"], attention::tuned_decode),
    ];
    let Some((op, known, make)) = rows.into_iter().find(|r| r.0 == op) else {
        return usage(format!("op `{op}` is not tuned: expected {}", rows.map(|r| r.0).join(", ")));
    };
    if let Some(name) = sizes.keys().find(|name| !known.contains(&name.as_str())) {
        return usage(format!("{op}: no size `{name}`: expected {}", known.join(", ")));
    }
    make(class, &Sizes { op, sizes, known }, seed)
}

impl Sizes<'_> {
    /// A size that must be there.
    pub fn get(&self, name: &str) -> Res<usize> {
        self.read(name)?
            .map_or_else(|| usage(format!("{}: size `{name}` is missing: it takes {}", self.op, self.known.join(", "))), Ok)
    }

    /// A size, or what it is where absent.
    pub fn or(&self, name: &str, other: usize) -> Res<usize> {
        Ok(self.read(name)?.unwrap_or(other))
    }

    fn read(&self, name: &str) -> Res<Option<usize>> {
        match self.sizes.get(name) {
            None => Ok(None),
            Some(value) => match usize::try_from(*value) {
                Ok(size @ 1..=0x7fff_ffff) => Ok(Some(size)),
                _ => usage(format!("{}: {name} = {value}: expected 1 to 2147483647", self.op)),
            },
        }
    }
}
