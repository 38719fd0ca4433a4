//! What `gen run` is given, checked word by word: keys, tensors, and the refusals every op shares.

use crate::error::{Fail, Res, usage};
use crate::tensors::{Tensor, Tensors};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use tilewright_ir::DType;

/// The largest size along any dimension: kernels count in 32 bits.
pub const MAX_SIZE: usize = i32::MAX as usize / 4;

/// Keys and tensors of a run.
pub struct Ask {
    keys: BTreeMap<String, String>,
    /// Tensors by name.
    pub tensors: Tensors,
}

impl Ask {
    /// Reads `key=value` texts.
    pub fn new(set: &[String], tensors: Tensors) -> Res<Self> {
        let mut keys = BTreeMap::new();
        for s in set {
            let (k, v) = s.split_once('=').ok_or_else(|| Fail::Usage(format!("--set {s}: expected key=value")))?;
            if keys.insert(k.to_string(), v.to_string()).is_some() {
                return usage(format!("--set {k} stands twice"));
            }
        }
        Ok(Ask { keys, tensors })
    }

    /// Refuses keys that are not of the op.
    pub fn only_keys(&self, known: &[&str]) -> Res<()> {
        match self.keys.keys().find(|k| !known.contains(&k.as_str())) {
            Some(k) => usage(format!("unknown key `{k}`: expected one of {}", known.join(", "))),
            None => Ok(()),
        }
    }

    /// Names of the keys given.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// A key's text.
    pub fn key(&self, name: &str) -> Option<&str> {
        self.keys.get(name).map(String::as_str)
    }

    /// A key's value, where its text reads as one and it fulfils a condition.
    pub fn value<T: FromStr>(&self, name: &str, expected: &str, fits: impl Fn(&T) -> bool) -> Res<Option<T>> {
        let Some(text) = self.key(name) else { return Ok(None) };
        let value = text.parse().ok().filter(|v| fits(v));
        value.map(Some).ok_or_else(|| Fail::Usage(format!("{name} = `{text}`: expected {expected}")))
    }

    /// A key's value as a type that says itself what is wrong with a text.
    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Res<Option<T>> {
        self.key(name).map(|text| text.parse().map_err(crate::error::bad_input)).transpose()
    }

    /// A tensor that must be there.
    pub fn need(&self, name: &str) -> Res<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Fail::Usage(format!("tensor `{name}` is missing from the input")))
    }

    /// Refuses a tensor of another dtype or shape.
    pub fn expect(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Res<()> {
        let t = self.need(name)?;
        if t.dtype != dtype || t.shape != shape {
            return usage(format!("tensor `{name}` is {}: expected {dtype:?} {shape:?}", t.describe()));
        }
        Ok(())
    }
}

/// The element type of a tensor, one of those allowed.
pub fn dtype_of(name: &str, t: &Tensor, allowed: &[DType]) -> Res<DType> {
    let names: Vec<String> = allowed.iter().map(|d| format!("{:?}", safetensors_dtype(*d))).collect();
    let found = allowed.iter().find(|d| safetensors_dtype(**d) == t.dtype);
    found.copied().ok_or_else(|| Fail::Usage(format!("tensor `{name}` is {}: expected {}", t.describe(), names.join(" or "))))
}

/// An element type's name in files.
pub fn safetensors_dtype(d: DType) -> Dtype {
    match d {
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::I32 => Dtype::I32,
        DType::I8 => Dtype::I8,
        DType::E4M3 => Dtype::F8_E4M3,
        DType::E5M2 => Dtype::F8_E5M2,
        _ => Dtype::F32,
    }
}

/// A key that is true or false; false where it is not given.
pub fn flag(ask: &Ask, name: &str) -> Res<bool> {
    Ok(ask.value(name, "true or false", |_: &bool| true)?.unwrap_or(false))
}

/// Refuses tensors and keys of what is not built, each by name, and then those nobody knows.
pub fn only(ask: &Ask, keys: &[&str], tensors: &[&str], unbuilt: &[(&str, &str)]) -> Res<()> {
    for (name, why) in unbuilt {
        let like = |n: &str| n == *name || name.strip_suffix('*').is_some_and(|start| n.starts_with(start));
        if let Some(key) = ask.keys().find(|k| like(k)) {
            return usage(format!("key `{key}`: {why}"));
        }
        if let Some(tensor) = ask.tensors.keys().find(|t| like(t)) {
            return usage(format!("tensor `{tensor}`: {why}"));
        }
    }
    ask.only_keys(keys)?;
    match ask.tensors.keys().find(|n| !tensors.contains(&n.as_str())) {
        Some(name) => usage(format!("unknown tensor `{name}`: expected some of {}", tensors.join(", "))),
        None => Ok(()),
    }
}

/// The numbers of an I32 tensor.
pub fn ints(ask: &Ask, name: &str) -> Res<Vec<i32>> {
    let t = ask.need(name)?;
    if t.dtype != Dtype::I32 {
        return usage(format!("tensor `{name}` is {}: expected I32", t.describe()));
    }
    Ok(t.data.chunks_exact(4).map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect())
}
