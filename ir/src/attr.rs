//! Attributes: the compile-time constants an operation carries.

use std::fmt;

/// One attribute's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attr {
    /// An integer (also the bit pattern of a float constant).
    Int(i64),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A word, such as a dtype or the name of a tensor or pipe.
    Sym(String),
}

/// An operation's attributes, in the order of its table row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attrs(pub Vec<(&'static str, Attr)>);

impl Attrs {
    /// No attributes.
    pub fn none() -> Self {
        Attrs(Vec::new())
    }

    /// Adds an integer.
    pub fn int(mut self, key: &'static str, value: i64) -> Self {
        self.0.push((key, Attr::Int(value)));
        self
    }

    /// Adds a word.
    pub fn sym(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.push((key, Attr::Sym(value.into())));
        self
    }

    /// Adds a list.
    pub fn ints(mut self, key: &'static str, value: Vec<i64>) -> Self {
        self.0.push((key, Attr::Ints(value)));
        self
    }

    /// An attribute by name.
    pub fn get(&self, key: &str) -> Option<&Attr> {
        self.0.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// An attribute by name, to change it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Attr> {
        self.0.iter_mut().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// An integer by name, 0 where absent. The verifier has already refused an operation that lacks a required one.
    pub fn get_int(&self, key: &str) -> i64 {
        match self.get(key) {
            Some(Attr::Int(v)) => *v,
            _ => 0,
        }
    }

    /// A word by name, empty where absent.
    pub fn get_sym(&self, key: &str) -> &str {
        match self.get(key) {
            Some(Attr::Sym(v)) => v,
            _ => "",
        }
    }

    /// A list by name, empty where absent.
    pub fn get_ints(&self, key: &str) -> &[i64] {
        match self.get(key) {
            Some(Attr::Ints(v)) => v,
            _ => &[],
        }
    }
}

impl fmt::Display for Attrs {
    /// ` {n=256, dtype=bf16, at=[0, 64]}`; nothing at all when empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_str(" {")?;
        for (i, (k, v)) in self.0.iter().enumerate() {
            let sep = if i == 0 { "" } else { ", " };
            match v {
                Attr::Int(n) => write!(f, "{sep}{k}={n}")?,
                Attr::Sym(s) => write!(f, "{sep}{k}={s}")?,
                Attr::Ints(l) => {
                    write!(f, "{sep}{k}=[{}]", l.iter().map(i64::to_string).collect::<Vec<_>>().join(", "))?;
                }
            }
        }
        f.write_str("}")
    }
}
