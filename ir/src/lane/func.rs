//! The Lane IR function: arenas of values, instructions and blocks.

use super::table::Op;
use super::types::Ty;
use crate::arch::Arch;
use crate::attr::Attrs;
use crate::loc::{Loc, SourceMap};
use smallvec::SmallVec;

/// An SSA value of a [`Func`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u32);

/// A basic block of a [`Func`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block(pub u32);

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inst {
    /// The table row.
    pub op: Op,
    /// Operands.
    pub args: SmallVec<[Value; 4]>,
    /// Results.
    pub outs: SmallVec<[Value; 2]>,
    /// Compile-time constants.
    pub attrs: Attrs,
    /// The template's line.
    pub loc: Loc,
}

/// How a block ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// Jump with arguments for the target's parameters.
    Br(Block, Vec<Value>),
    /// Two-way branch on an `i1`.
    CondBr {
        /// The predicate.
        cond: Value,
        /// Taken when true.
        then: (Block, Vec<Value>),
        /// Taken when false.
        other: (Block, Vec<Value>),
    },
    /// The thread ends.
    Ret,
}

impl Term {
    /// The blocks this one can go to, with the arguments it passes.
    pub fn targets(&self) -> Vec<(Block, &[Value])> {
        match self {
            Term::Br(b, a) => vec![(*b, a)],
            Term::CondBr { then, other, .. } => vec![(then.0, &then.1), (other.0, &other.1)],
            Term::Ret => Vec::new(),
        }
    }
}

/// A block: parameters, instructions, terminator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockData {
    /// Values the predecessors pass.
    pub params: Vec<Value>,
    /// Straight-line code.
    pub insts: Vec<Inst>,
    /// The end.
    pub term: Term,
    /// For a loop header: forbid unrolling (`llvm.loop.unroll.disable`, ptxas `.pragma "nounroll"`).
    pub no_unroll: bool,
}

/// What a kernel parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// A pointer to global memory, 16-byte aligned at least where `align` says so.
    Global {
        /// Alignment that holds for the pointer, bytes.
        align: u32,
        /// True when the kernel never writes through it.
        readonly: bool,
    },
    /// A scalar by value.
    Scalar(Ty),
    /// A 128-byte CUtensorMap by value (`.grid_constant`).
    TensorMap,
}

/// A kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name, unique in the kernel.
    pub name: String,
    /// Kind.
    pub kind: ParamKind,
}

/// What the launch must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchBounds {
    /// Threads of a CTA (x only), `.reqntid`.
    pub threads: u32,
    /// CTAs of a cluster.
    pub cluster: [u32; 3],
    /// CTAs that must fit one SM, `.minnctapersm`.
    pub min_ctas: u32,
    /// Dynamic shared memory, bytes.
    pub smem_bytes: u32,
}

/// The target and the PTX version it is emitted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// GPU.
    pub arch: Arch,
    /// PTX ISA version times ten: the lowest that has every instruction used.
    pub ptx: u32,
}

/// A kernel in Lane IR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Func {
    /// Entry name.
    pub name: String,
    /// GPU target.
    pub arch: Arch,
    /// Launch bounds.
    pub launch: LaunchBounds,
    /// Parameters, in order.
    pub params: Vec<Param>,
    /// Types of all values.
    pub types: Vec<Ty>,
    /// Blocks; the first is the entry.
    pub blocks: Vec<BlockData>,
    /// Template source files.
    pub sources: SourceMap,
}

impl Func {
    /// The type of a value.
    pub fn ty(&self, v: Value) -> Ty {
        self.types[v.0 as usize]
    }

    /// A fresh value.
    pub fn new_value(&mut self, ty: Ty) -> Value {
        self.types.push(ty);
        Value(self.types.len() as u32 - 1)
    }

    /// The lowest PTX version with every instruction this kernel uses.
    pub fn target(&self) -> Target {
        let used = self.blocks.iter().flat_map(|b| &b.insts).map(|i| i.op.row().ptx).max().unwrap_or(0);
        Target { arch: self.arch, ptx: used.max(self.arch.caps().base_ptx) }
    }
}
