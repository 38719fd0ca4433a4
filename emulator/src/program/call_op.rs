//! Device functions and calls.
//!
//! The code of a kernel holds the functions it can reach behind its own. Every function has registers of its own, so a
//! call saves none unless the function is already on the thread's stack.

use super::memory_op::{Elem, Regs};
use super::reg::{D, R, Reg};
use std::ops::Range;

/// Where a parameter or return value is: on the caller's or the callee's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Bytes of the function's frame in local memory.
    Frame {
        offset: u32,
        bytes: u32,
    },
    Reg(Reg),
}

impl Slot {
    /// Bytes it holds; registers of at most 32 bits count as 4.
    pub fn bytes(self) -> u32 {
        match self {
            Slot::Frame { bytes, .. } => bytes,
            Slot::Reg(Reg::P(_) | Reg::R(_)) => 4,
            Slot::Reg(Reg::D(_)) => 8,
            Slot::Reg(Reg::Q(..)) => 16,
        }
    }

    /// Whether a value can go from one to the other.
    pub fn fits(self, other: Slot) -> bool {
        let is_reg = |slot| matches!(slot, Slot::Reg(_));
        self.bytes() == other.bytes() || ((is_reg(self) || is_reg(other)) && self.bytes() <= 4 && other.bytes() <= 4)
    }
}

/// A device function in the code of a kernel.
#[derive(Clone, Debug)]
pub struct Callee {
    pub name: String,
    /// What `mov` of its name gives.
    pub address: u64,
    pub entry: u32,
    pub params: Vec<Slot>,
    pub returns: Vec<Slot>,
    /// Bytes of its frame, a multiple of 16: local variables, parameters, and those of the calls it makes.
    pub frame_bytes: u32,
    /// Its own rows of each file.
    pub rows32: Range<u16>,
    pub rows64: Range<u16>,
    pub preds: Range<u16>,
    /// Rows that hold addresses in its frame, with their offsets.
    pub frame32: Vec<(R, u32)>,
    pub frame64: Vec<(D, u32)>,
}

/// Functions the emulator provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    Printf,
    AssertFail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Index into the kernel's callees.
    Direct(u32),
    Indirect(D),
    Builtin(Builtin),
}

#[derive(Clone, Debug)]
pub struct Call {
    pub target: Target,
    pub args: Vec<Slot>,
    pub returns: Vec<Slot>,
}

/// `ld.param` and `st.param` of call parameters: an offset in the executing function's frame.
#[derive(Clone, Debug)]
pub struct FrameAccess {
    pub offset: u32,
    pub elem: Elem,
    pub regs: Regs,
}
