//! What a quantiser is asked for, apart from sizes.

use std::fmt;
use std::str::FromStr;
use tilewright_ir::DType;

/// What shares a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuantBlock {
    /// A row.
    Row,
    /// 128 neighbours of a row.
    Columns,
}

impl fmt::Display for QuantBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == QuantBlock::Row { "row" } else { "128" })
    }
}

impl FromStr for QuantBlock {
    type Err = QuantizeProblemError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "row" => Ok(QuantBlock::Row),
            "128" => Ok(QuantBlock::Columns),
            other => Err(QuantizeProblemError::Block(other.to_string())),
        }
    }
}

/// The class of a quantiser: what is fixed when its kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuantizeProblem {
    /// Dtype of x: BF16, F16 or F32.
    pub input: DType,
    /// Dtype of q: E4M3 or I8.
    pub to: DType,
    /// What shares a factor.
    pub block: QuantBlock,
    /// k is a multiple of this: 8, 4 or 1.
    pub align: u32,
}

/// A quantiser that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantizeProblemError {
    /// Another dtype of x.
    #[error("a quantiser takes bf16, f16 or f32, not {0}")]
    Input(DType),
    /// Another dtype of q.
    #[error("to = `{0}`: expected e4m3 or int8")]
    To(String),
    /// Another block.
    #[error("block = `{0}`: expected row or 128")]
    Block(String),
    /// Another alignment.
    #[error("align = {0}: 8, 4 or 1")]
    Align(u32),
    /// A class text that is not one.
    #[error("`{0}` is no quantize class: expected in=..,to=..,block=..,align=..")]
    Class(String),
}

impl QuantizeProblem {
    /// The class for rows of k elements.
    pub fn of(input: DType, to: DType, block: QuantBlock, k: usize) -> Self {
        let align = [8, 4].into_iter().find(|a| k.is_multiple_of(*a as usize)).unwrap_or(1);
        QuantizeProblem { input, to, block, align }
    }

    /// Checks dtypes and alignment.
    pub fn check(&self) -> Result<(), QuantizeProblemError> {
        if !matches!(self.input, DType::BF16 | DType::F16 | DType::F32) {
            return Err(QuantizeProblemError::Input(self.input));
        }
        if !matches!(self.to, DType::E4M3 | DType::I8) {
            return Err(QuantizeProblemError::To(self.to.to_string()));
        }
        if !matches!(self.align, 1 | 4 | 8) {
            return Err(QuantizeProblemError::Align(self.align));
        }
        Ok(())
    }

    /// The class key: `in=bf16,to=e4m3,block=128,align=8`.
    pub fn class(&self) -> String {
        format!("in={},to={},block={},align={}", self.input, self.to, self.block, self.align)
    }

    /// The class behind a key.
    pub fn from_class(text: &str) -> Result<Self, QuantizeProblemError> {
        let bad = || QuantizeProblemError::Class(text.to_string());
        let mut values = Vec::new();
        for (field, key) in text.split(',').zip(["in", "to", "block", "align"]) {
            values.push(field.strip_prefix(key).and_then(|v| v.strip_prefix('=')).ok_or_else(bad)?);
        }
        let [input, to, block, align] = values[..] else { return Err(bad()) };
        let dtype = |v: &str| v.parse::<DType>().map_err(|_| bad());
        let p = QuantizeProblem {
            input: dtype(input)?,
            to: dtype(to)?,
            block: block.parse()?,
            align: align.parse().map_err(|_| bad())?,
        };
        p.check()?;
        if p.class() == text { Ok(p) } else { Err(bad()) }
    }

    /// A short name for ids.
    pub fn slug(&self) -> String {
        format!("{}_{}_{}_a{}", self.input, self.to, self.block, self.align)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_reads_back() {
        for to in [DType::E4M3, DType::I8] {
            for (block, k) in [(QuantBlock::Row, 3884), (QuantBlock::Columns, 4096), (QuantBlock::Columns, 7)] {
                let p = QuantizeProblem::of(DType::BF16, to, block, k);
                assert_eq!(QuantizeProblem::from_class(&p.class()), Ok(p));
            }
        }
        for text in ["", "in=bf16,to=e4m3", "in=bf16,to=e4m3,block=64,align=8", "in=bf16,to=bf16,block=row,align=8"] {
            assert!(QuantizeProblem::from_class(text).is_err(), "{text}");
        }
        assert!(QuantizeProblem::from_class("in=bf16,to=e4m3,block=row,align=8,color=red").is_err());
    }
}
