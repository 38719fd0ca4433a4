//! Which arithmetic the tensor instructions, and in the ring all float instructions, compute with.

use super::element::Reading;

/// How a device computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Numerics {
    /// Floating products are added with one f32 FMA each, k ascending, onto the accumulator; f64 the same in f64;
    /// integers exact. f16 accumulators are rounded once, to nearest even, when the instruction ends.
    #[default]
    Fast,
    /// The sums of the tensor cores of the device's architecture, bit for bit: see [`exact`](super::exact). All other
    /// instructions compute as in [`Numerics::Fast`], whose arithmetic the PTX ISA already fixes to the bit.
    Exact,
    /// No floats at all: every value is an integer modulo a power of two, in which any order, tiling or split of a sum
    /// gives the same bits. See [`ring`](crate::ring).
    Ring,
}

/// The tensor cores of a generation, as far as their sums differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Chip {
    /// sm_75
    Turing,
    /// sm_80 to sm_88
    Ampere,
    /// sm_89
    Ada,
    /// sm_90
    Hopper,
    /// sm_100 to sm_119
    Blackwell,
    /// sm_120 and sm_121
    BlackwellRtx,
}

impl Chip {
    /// The chip behind `sm_<sm>`; numbers between those that exist count as the one below.
    pub const fn of(sm: u32) -> Chip {
        match sm {
            ..80 => Chip::Turing,
            80..89 => Chip::Ampere,
            89 => Chip::Ada,
            90..100 => Chip::Hopper,
            100..120 => Chip::Blackwell,
            120.. => Chip::BlackwellRtx,
        }
    }
}

/// A [`Numerics`] with all it takes to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// [`Numerics::Fast`]
    Fast,
    /// [`Numerics::Exact`], on this chip.
    Exact(Chip),
    /// [`Numerics::Ring`]
    Ring,
}

impl Arithmetic {
    /// The arithmetic of a device that is `sm_<sm>`.
    pub const fn new(numerics: Numerics, sm: u32) -> Arithmetic {
        match numerics {
            Numerics::Fast => Arithmetic::Fast,
            Numerics::Exact => Arithmetic::Exact(Chip::of(sm)),
            Numerics::Ring => Arithmetic::Ring,
        }
    }

    /// What it works on.
    pub const fn reading(self) -> Reading {
        if matches!(self, Arithmetic::Ring) { Reading::Payloads } else { Reading::Values }
    }
}
