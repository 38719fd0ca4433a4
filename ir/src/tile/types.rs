//! Types of Tile IR values.

use crate::dtype::DType;
use crate::layout::{Layout, Swizzle};
use crate::text::{Cursor, ParseError};
use std::fmt;

/// A tile spread over the registers of a role's unit (one warpgroup, or the whole CTA).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegTile {
    /// Element type.
    pub dtype: DType,
    /// Rows and columns.
    pub shape: [u32; 2],
    /// `(reg, lane, warp) -> (row, col)`; `reg` counts elements.
    pub layout: Layout,
}

/// A tile in shared memory, as one TMA box per panel leaves it: panels of `swizzle` bytes width, rows packed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SmemTile {
    /// Element type.
    pub dtype: DType,
    /// Rows and columns.
    pub shape: [u32; 2],
    /// Swizzle; its span is the panel width (the whole row where there is none).
    pub swizzle: Swizzle,
    /// Bytes from one panel to the next.
    pub panel_bytes: u32,
}

impl SmemTile {
    /// A tile of its own, with the widest swizzle its rows allow.
    pub fn new(dtype: DType, shape: [u32; 2]) -> Self {
        let row_bytes = shape[1] * dtype.bytes();
        let swizzle = Swizzle::widest(row_bytes);
        let mut tile = SmemTile { dtype, shape, swizzle, panel_bytes: 0 };
        tile.panel_bytes = shape[0] * tile.pitch_bytes();
        tile
    }

    /// A tile whose rows follow each other, without a swizzle.
    pub fn packed(dtype: DType, shape: [u32; 2]) -> Self {
        let panel_bytes = shape[0] * shape[1] * dtype.bytes();
        SmemTile { dtype, shape, swizzle: Swizzle::None, panel_bytes }
    }

    /// Bytes of one row of one panel.
    pub fn pitch_bytes(&self) -> u32 {
        self.swizzle.span_bytes().unwrap_or(self.shape[1] * self.dtype.bytes())
    }

    /// Columns of one panel.
    pub fn panel_cols(&self) -> u32 {
        self.pitch_bytes() / self.dtype.bytes()
    }

    /// Number of panels.
    pub fn panels(&self) -> u32 {
        self.shape[1] / self.panel_cols()
    }

    /// Its panels as rows below each other: swizzles repeat every eight rows, and panels have a multiple of these.
    pub fn stacked(&self) -> SmemTile {
        let shape = [self.shape[0] * self.panels(), self.panel_cols()];
        SmemTile { shape, panel_bytes: self.panel_bytes * self.panels(), ..self.clone() }
    }

    /// Bytes of the whole tile.
    pub fn bytes(&self) -> u32 {
        self.shape[0] * self.shape[1] * self.dtype.bytes()
    }
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ty {
    /// One number, the same in every thread of the unit.
    Scalar(DType),
    /// A register tile.
    Reg(RegTile),
    /// A shared-memory tile.
    Smem(SmemTile),
    /// A place that holds a scalar or a register tile and may be written again.
    Cell(Box<Ty>),
}

impl Ty {
    /// 32-bit integer scalar.
    pub const I32: Ty = Ty::Scalar(DType::I32);
    /// Truth value.
    pub const I1: Ty = Ty::Scalar(DType::I1);
    /// f32 scalar.
    pub const F32: Ty = Ty::Scalar(DType::F32);

    /// The register tile that a value is, or that a cell holds.
    pub fn held_tile(&self) -> Option<&RegTile> {
        match self {
            Ty::Reg(t) => Some(t),
            Ty::Cell(inner) => inner.held_tile(),
            Ty::Scalar(_) | Ty::Smem(_) => None,
        }
    }

    /// Reads a type from text.
    pub fn parse(c: &mut Cursor) -> Result<Ty, ParseError> {
        let word = c.word()?;
        match word {
            "reg" => {
                c.expect("<")?;
                let dtype = dtype(c)?;
                c.expect(",")?;
                let shape = shape(c)?;
                c.expect(",")?;
                let text = c.until('>')?.to_string();
                // `->` inside the layout ends `until` early: take the rest of it too.
                let text = if text.ends_with('-') {
                    c.expect(">")?;
                    format!("{text}>{}", c.until('>')?)
                } else {
                    text
                };
                c.expect(">")?;
                let layout = text.trim().parse().map_err(|e| c.error(format!("layout `{text}`: {e}")))?;
                Ok(Ty::Reg(RegTile { dtype, shape, layout }))
            }
            "smem" => {
                c.expect("<")?;
                let dtype = dtype(c)?;
                c.expect(",")?;
                let shape = shape(c)?;
                c.expect(",")?;
                let swizzle = swizzle(c)?;
                c.expect(",")?;
                let panel_bytes = c.u32()?;
                c.expect(">")?;
                Ok(Ty::Smem(SmemTile { dtype, shape, swizzle, panel_bytes }))
            }
            "cell" => {
                c.expect("<")?;
                let inner = Ty::parse(c)?;
                c.expect(">")?;
                Ok(Ty::Cell(Box::new(inner)))
            }
            other => other.parse().map(Ty::Scalar).map_err(|e| c.error(format!("{e}"))),
        }
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ty::Scalar(d) => write!(f, "{d}"),
            Ty::Reg(t) => write!(f, "reg<{}, {}x{}, {}>", t.dtype, t.shape[0], t.shape[1], t.layout),
            Ty::Smem(t) => {
                write!(f, "smem<{}, {}x{}, {}, {}>", t.dtype, t.shape[0], t.shape[1], swizzle_name(t.swizzle), t.panel_bytes)
            }
            Ty::Cell(t) => write!(f, "cell<{t}>"),
        }
    }
}

const SWIZZLES: [(Swizzle, &str); 4] =
    [(Swizzle::None, "none"), (Swizzle::B32, "b32"), (Swizzle::B64, "b64"), (Swizzle::B128, "b128")];

/// The text form's name of a swizzle.
pub(super) fn swizzle_name(s: Swizzle) -> &'static str {
    SWIZZLES.iter().find(|(k, _)| *k == s).expect("every swizzle has a name").1
}

fn swizzle(c: &mut Cursor) -> Result<Swizzle, ParseError> {
    let word = c.word()?;
    let hit = SWIZZLES.iter().find(|(_, n)| *n == word);
    hit.map(|(s, _)| *s).ok_or_else(|| c.error(format!("unknown swizzle `{word}`")))
}

pub(super) fn dtype(c: &mut Cursor) -> Result<DType, ParseError> {
    let word = c.word()?;
    word.parse().map_err(|e: crate::dtype::UnknownDType| c.error(e.to_string()))
}

/// `64x256`.
pub(super) fn shape(c: &mut Cursor) -> Result<[u32; 2], ParseError> {
    let word = c.word()?;
    let parse = || {
        let (r, k) = word.split_once('x')?;
        Some([r.parse().ok()?, k.parse().ok()?])
    };
    parse().ok_or_else(|| c.error(format!("expected a shape such as 64x256, found `{word}`")))
}
