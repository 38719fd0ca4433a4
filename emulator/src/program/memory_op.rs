//! Operations that touch memory.

use super::reg::{D, P, R, Reg};
use crate::parse::ast::Space;
use smallvec::SmallVec;

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The offset alone.
    Zero,
    R(R),
    D(D),
    /// Offset of a variable in the block's own shared window.
    Shared,
}

/// `[base + offset]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addr {
    pub base: Base,
    pub offset: i64,
}

/// How the loaded or stored element maps to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elem {
    pub bytes: u32,
    pub signed: bool,
}

pub type Regs = SmallVec<[Reg; 4]>;

/// What the memory model sees beside the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    Weak,
    Volatile,
    Relaxed,
    Acquire,
    Release,
    AcqRel,
    /// `fence.sc` and `membar`.
    SeqCst,
}

/// Which threads an operation may order itself with (PTX ISA 8.5): each holds the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Cta,
    Cluster,
    Gpu,
    Sys,
}

#[derive(Clone, Debug)]
pub struct Load {
    pub space: Space,
    pub addr: Addr,
    pub elem: Elem,
    pub dst: Regs,
    pub order: Order,
    /// Without meaning for weak operations.
    pub scope: Scope,
}

/// `ld.param` from a fixed offset: the same for all lanes.
#[derive(Clone, Debug)]
pub struct LdParam {
    pub offset: u32,
    pub elem: Elem,
    pub dst: Regs,
}

#[derive(Clone, Debug)]
pub struct Store {
    pub space: Space,
    pub addr: Addr,
    pub elem: Elem,
    pub src: Regs,
    pub order: Order,
    /// Without meaning for weak operations.
    pub scope: Scope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomOp {
    Exch,
    Cas,
    Add,
    MinU,
    MaxU,
    MinS,
    MaxS,
    And,
    Or,
    Xor,
    Inc,
    Dec,
    AddF32,
    AddF64,
    AddF16,
    AddBf16,
    AddF16x2,
    AddBf16x2,
    MinF16,
    MaxF16,
    MinBf16,
    MaxBf16,
    MinF16x2,
    MaxF16x2,
    MinBf16x2,
    MaxBf16x2,
    Add16x2,
    MinS16x2,
    MaxS16x2,
}

impl AtomOp {
    /// The same on payloads of the ring.
    pub fn in_ring(self) -> AtomOp {
        match self {
            AtomOp::AddF32 | AtomOp::AddF64 | AtomOp::AddF16 | AtomOp::AddBf16 => AtomOp::Add,
            AtomOp::AddF16x2 | AtomOp::AddBf16x2 => AtomOp::Add16x2,
            AtomOp::MinF16 | AtomOp::MinBf16 => AtomOp::MinS,
            AtomOp::MaxF16 | AtomOp::MaxBf16 => AtomOp::MaxS,
            AtomOp::MinF16x2 | AtomOp::MinBf16x2 => AtomOp::MinS16x2,
            AtomOp::MaxF16x2 | AtomOp::MaxBf16x2 => AtomOp::MaxS16x2,
            other => other,
        }
    }
}

/// `atom` and `red`.
#[derive(Clone, Debug)]
pub struct Atom {
    pub space: Space,
    pub addr: Addr,
    pub op: AtomOp,
    pub bytes: u32,
    /// One of each per vector element; empty `dst` for `red`.
    pub dst: Regs,
    pub src: Regs,
    /// New value of `cas`.
    pub swap: Option<Reg>,
    pub order: Order,
    pub scope: Scope,
}

/// `st.async` and `red.async` to shared memory of the cluster.
#[derive(Clone, Debug)]
pub struct AsyncStore {
    pub space: Space,
    pub addr: Addr,
    /// Of each element.
    pub bytes: u32,
    pub src: Regs,
    pub barrier: Addr,
    pub reduce: Option<AtomOp>,
}

#[derive(Clone, Debug)]
pub struct Prefetch {
    pub space: Space,
    pub addr: Addr,
    pub tensormap: bool,
}

#[derive(Clone, Debug)]
pub struct CpAsync {
    pub dst: Addr,
    pub src: Addr,
    pub bytes: u32,
    pub src_bytes: Option<R>,
    pub ignore_src: Option<(P, bool)>,
}

#[derive(Clone, Debug)]
pub struct LdMatrix {
    pub space: Space,
    pub addr: Addr,
    pub trans: bool,
    pub dst: Regs,
}

#[derive(Clone, Debug)]
pub struct StMatrix {
    pub space: Space,
    pub addr: Addr,
    pub trans: bool,
    pub src: Regs,
}

/// How a bulk operation tells that it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    MBarrier(Addr),
    Group,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkRoute {
    GlobalToShared,
    SharedToGlobal,
    SharedToCluster,
}

/// Non-tensor `cp.async.bulk` and `cp.reduce.async.bulk`.
#[derive(Clone, Debug)]
pub struct Bulk {
    pub route: BulkRoute,
    pub dst: Addr,
    pub src: Addr,
    pub bytes: R,
    pub completion: Completion,
    pub multicast: Option<R>,
    pub reduce: Option<(AtomOp, u32)>,
    /// `.shared::cta` destination: the executing block's own.
    pub own_cta: bool,
}

/// `cp.async.bulk.tensor`, `cp.reduce.async.bulk.tensor`, tiled.
#[derive(Clone, Debug)]
pub struct Tma {
    pub load: bool,
    /// `.im2col`, with the offsets of a load; `.im2col_no_offs` has none.
    pub im2col: Option<SmallVec<[R; 3]>>,
    pub map: Addr,
    pub map_space: Space,
    pub shared: Addr,
    pub coords: SmallVec<[R; 5]>,
    pub completion: Completion,
    pub multicast: Option<R>,
    pub reduce: Option<TmaReduce>,
    pub own_cta: bool,
}

/// What `tensormap.replace` replaces; dimensions count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapField {
    GlobalAddress,
    /// Dimensions less one.
    Rank,
    BoxDim(u32),
    GlobalDim(u32),
    GlobalStride(u32),
    ElementStride(u32),
    ElementType,
    Interleave,
    Swizzle,
    Fill,
}

/// `tensormap.replace`.
#[derive(Clone, Debug)]
pub struct MapReplace {
    pub space: Space,
    pub addr: Addr,
    pub field: MapField,
    pub value: Reg,
}

/// `tensormap.cp_fenceproxy`: 128 bytes from shared to global memory, and a releasing fence.
#[derive(Clone, Debug)]
pub struct MapCopy {
    pub dst: Addr,
    pub src: Addr,
    pub scope: Scope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TmaReduce {
    Add,
    Min,
    Max,
    Inc,
    Dec,
    And,
    Or,
    Xor,
}
