//! Register slots. A warp keeps three files: 32-bit rows, 64-bit rows, and predicates as lane masks.

/// A row of 32-bit values; 8- and 16-bit registers live here zero-extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct R(pub u16);

/// A row of 64-bit values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct D(pub u16);

/// A predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct P(pub u16);

impl R {
    /// Takes what is written to `_`; never read.
    pub const SINK: R = R(0);
}

impl D {
    /// Takes what is written to `_`; never read.
    pub const SINK: D = D(0);
}

impl P {
    /// Takes what is written to `_`; never read.
    pub const SINK: P = P(0);
    /// Always true.
    pub const TRUE: P = P(1);
    /// The carry flag of `add.cc` and its kin.
    pub const CARRY: P = P(2);
}

/// A slot of any file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reg {
    R(R),
    D(D),
    /// A 128-bit register, low half first.
    Q(D, D),
    P(P),
}
