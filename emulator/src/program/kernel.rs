//! A decoded kernel.

use super::call_op::Callee;
use super::op::Inst;
use super::reg::{D, R, Reg};
use super::watch::Watch;

/// A value that is the same in every instruction of a launch and is kept in a row of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Const {
    Bits(u64),
    Special(Special),
    /// Address of a byte of the block's shared memory, from the first user byte.
    Shared {
        offset: u32,
        generic: bool,
    },
    /// Address in the frame of the n-th device function; set when it is called.
    Frame {
        function: u32,
        offset: u32,
    },
    /// Address of the n-th module variable.
    Global {
        index: u32,
        offset: i64,
    },
}

/// Special registers that do not change while a kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    Tid(u8),
    NTid(u8),
    CtaId(u8),
    NCtaId(u8),
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    ClusterId(u8),
    NClusterId(u8),
    ClusterCtaId(u8),
    ClusterNCtaId(u8),
    ClusterCtaRank,
    ClusterNCtaRank,
    IsExplicitCluster,
    LaneMaskEq,
    LaneMaskLt,
    LaneMaskLe,
    LaneMaskGt,
    LaneMaskGe,
    TotalSmemSize,
    DynamicSmemSize,
    ReservedSmemBegin,
    ReservedSmemEnd,
    /// 0: not launched by a graph.
    CurrentGraphExec,
}

#[derive(Clone, Debug)]
pub struct ParamSlot {
    pub name: String,
    pub offset: u32,
    pub bytes: u32,
}

/// Where a branch's paths meet again.
#[derive(Clone, Debug, Default)]
pub struct Reconvergence {
    /// For each instruction, the first instruction of the immediate post-dominator of its block, or `u32::MAX`.
    pub at: Vec<u32>,
}

#[derive(Clone, Debug)]
pub struct Kernel {
    pub name: String,
    pub code: Vec<Inst>,
    /// Index into the module's sources of each instruction.
    pub sources: Vec<Option<u32>>,
    pub join: Reconvergence,
    pub rows32: usize,
    pub rows64: usize,
    pub preds: usize,
    pub consts32: Vec<(R, Const)>,
    pub consts64: Vec<(D, Const)>,
    /// Names of registers, for messages.
    pub names: Vec<(Reg, String)>,
    pub params: Vec<ParamSlot>,
    pub param_bytes: u32,
    /// Bytes of static shared memory, and where the dynamic part starts, both from the first user byte.
    pub static_shared: u32,
    pub dynamic_shared_at: u32,
    /// Local memory of a thread: the entry's own frame, then the stack of calls.
    pub local_bytes: u32,
    /// The entry's part of it.
    pub frame_bytes: u32,
    pub callees: Vec<Callee>,
    pub reqntid: Option<[u32; 3]>,
    pub maxntid: Option<[u32; 3]>,
    pub reqcluster: Option<[u32; 3]>,
    pub explicit_cluster: bool,
    pub min_ctas: Option<u32>,
    pub maxnreg: Option<u32>,
    /// Blocks may talk to each other through global memory, so all of them must make progress together.
    pub talks_through_global: bool,
    /// Registers of `wgmma`.
    pub watch: Watch,
}
