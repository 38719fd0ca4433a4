//! Operations of several lanes, warps or blocks together, and the tensor cores.

use super::memory_op::{Addr, Order, Regs, Scope};
use super::reg::{D, P, R};
use crate::parse::ast::Space;
use crate::tensor::{
    mma::MmaKind,
    sparse::SparseKind,
    wgmma::WgmmaKind,
    wmma::{WmmaKind, WmmaMatrix},
};
use smallvec::SmallVec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShflMode {
    Up,
    Down,
    Bfly,
    Idx,
}

#[derive(Clone, Debug)]
pub struct Shfl {
    pub mode: ShflMode,
    pub d: R,
    pub p: P,
    pub a: R,
    pub b: R,
    pub c: R,
    pub members: Option<R>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteMode {
    All,
    Any,
    Uni,
    Ballot(R),
}

#[derive(Clone, Debug)]
pub struct Vote {
    pub mode: VoteMode,
    pub d: P,
    pub a: (P, bool),
    pub members: Option<R>,
}

#[derive(Clone, Debug)]
pub struct Match {
    pub d: R,
    /// `match.all` with its predicate.
    pub all: Option<P>,
    pub a: MatchSource,
    pub members: R,
}

#[derive(Clone, Copy, Debug)]
pub enum MatchSource {
    R(R),
    D(D),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduxOp {
    Add,
    MinU,
    MaxU,
    MinS,
    MaxS,
    And,
    Or,
    Xor,
    FMin { abs: bool, nan: bool },
    FMax { abs: bool, nan: bool },
}

#[derive(Clone, Debug)]
pub struct Redux {
    pub op: ReduxOp,
    pub d: R,
    pub a: R,
    pub members: R,
}

#[derive(Clone, Debug)]
pub struct Elect {
    pub d: R,
    pub p: P,
    pub members: R,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarMode {
    Sync,
    Arrive,
    RedPopc(R),
    RedAnd(P),
    RedOr(P),
}

/// `bar`, `barrier`, `barrier.cta`.
#[derive(Clone, Debug)]
pub struct Bar {
    pub mode: BarMode,
    pub id: R,
    pub count: Option<R>,
    pub aligned: bool,
    /// Predicate of the `.red` forms.
    pub a: (P, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MBarrierWait {
    /// Phase parity.
    Parity(R),
    /// State token of an arrive.
    State(D),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MBarrierKind {
    Init {
        count: R,
    },
    Inval,
    Arrive {
        state: D,
        count: Option<R>,
        drop: bool,
        no_complete: bool,
        expect: Option<R>,
    },
    ExpectTx {
        bytes: R,
    },
    CompleteTx {
        bytes: R,
    },
    Wait {
        d: P,
        on: MBarrierWait,
        may_block: bool,
    },
    PendingCount {
        d: R,
        state: D,
    },
    /// `cp.async.mbarrier.arrive`
    CpAsyncArrive {
        no_inc: bool,
    },
}

#[derive(Clone, Debug)]
pub struct MBarrier {
    pub kind: MBarrierKind,
    pub addr: Addr,
    pub space: Space,
    /// Release or relaxed where it arrives, acquire or relaxed where it waits, relaxed for transaction counts.
    pub order: Order,
    pub scope: Scope,
}

#[derive(Clone, Debug)]
pub struct Mma {
    pub kind: MmaKind,
    pub sparse: Option<Sparsity>,
    pub a: Regs,
    pub b: Regs,
    pub c: Regs,
    pub d: Regs,
}

/// What `mma.sp` has beside the operands of `mma`, whose kind is that of half the depth.
#[derive(Clone, Copy, Debug)]
pub struct Sparsity {
    pub kind: SparseKind,
    pub metadata: R,
    pub selector: u32,
}

/// `wmma.mma`
#[derive(Clone, Debug)]
pub struct Wmma {
    pub kind: WmmaKind,
    pub a: Regs,
    pub b: Regs,
    pub c: Regs,
    pub d: Regs,
}

/// `wmma.load` and `wmma.store`
#[derive(Clone, Debug)]
pub struct WmmaMemory {
    pub load: bool,
    pub matrix: WmmaMatrix,
    pub space: Space,
    pub addr: Addr,
    /// Elements from line to line.
    pub stride: Option<R>,
    pub regs: Regs,
}

#[derive(Clone, Debug)]
pub enum WgmmaA {
    Registers(SmallVec<[R; 4]>),
    Descriptor(D),
}

#[derive(Clone, Debug)]
pub struct Wgmma {
    pub kind: WgmmaKind,
    pub d: Vec<u32>,
    pub a: WgmmaA,
    pub b: D,
    pub scale_d: (P, bool),
    pub negate_a: bool,
    pub negate_b: bool,
    pub trans_a: bool,
    pub trans_b: bool,
}
