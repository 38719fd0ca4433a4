//! One decoded instruction.

use super::call_op::{Call, FrameAccess};
use super::convert_op::{Convert, ConvertPack, ConvertUnpack};
use super::memory_op::{
    Addr, AsyncStore, Atom, Bulk, CpAsync, LdMatrix, LdParam, Load, MapCopy, MapReplace, Order, Prefetch, Scope, StMatrix, Store,
    Tma,
};
use super::reg::{D, P, R, Reg};
use super::sync_op::{Bar, Elect, MBarrier, Match, Mma, Redux, Shfl, Vote, Wgmma, Wmma, WmmaMemory};
use crate::parse::ast::Space;

/// When an instruction runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    pub reg: P,
    pub negated: bool,
}

#[derive(Clone, Debug)]
pub struct Inst {
    pub op: Op,
    pub guard: Option<Guard>,
    pub line: u32,
    /// Entry in [`super::watch::Watch`] if it touches registers of `wgmma`, or 0.
    pub watch: u32,
}

/// Binary operations on 32-bit rows with a loop of their own; the rest go through [`Op::L2`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bin32 {
    Add,
    Sub,
    MulLo,
    MinU,
    MaxU,
    MinS,
    MaxS,
    And,
    Or,
    Xor,
    Shl,
    ShrU,
    ShrS,
    FAdd,
    FSub,
    FMul,
    FAddFtz,
    FSubFtz,
    FMulFtz,
    FMin,
    FMax,
    FDiv,
    /// `cvt.rn.bf16x2.f32` and `.f16x2`: the first source in the high half.
    PackBf16,
    PackF16,
}

/// Unary operations on 32-bit rows with a loop of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Un32 {
    Not,
    NegI,
    NegF,
    AbsF,
    Rcp,
    Ex2,
    Ex2Ftz,
    /// `cvt.rn.f32.s32` and `.u32`
    OfS32,
    OfU32,
    /// `cvt.f32.bf16` and `.f16`
    FromBf16,
    FromF16,
    /// `cvt.rn.bf16.f32` and `.f16`
    ToBf16,
    ToF16,
}

/// Ternary operations on 32-bit rows with a loop of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tri32 {
    MadLo,
    Fma,
    FmaFtz,
}

/// Binary operations on 64-bit rows with a loop of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bin64 {
    Add,
    Sub,
    MulLo,
    And,
    Or,
    Xor,
    FAdd,
    FSub,
    FMul,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    Left,
    RightU,
    RightS,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logic {
    And,
    Or,
    Xor,
}

/// Comparisons with a loop of their own; `F` are ordered, `FU` true on NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    Eq,
    Ne,
    LtU,
    LeU,
    GtU,
    GeU,
    LtS,
    LeS,
    GtS,
    GeS,
    FEq,
    FNe,
    FLt,
    FLe,
    FGt,
    FGe,
    FEqU,
    FNeU,
    FLtU,
    FLeU,
    FGtU,
    FGeU,
    FNum,
    FNan,
}

/// Destinations of `setp`: `d = cmp op c`, `q = !cmp op c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetpTail {
    pub d: P,
    pub q: P,
    pub combine: Option<(Logic, P, bool)>,
}

/// How `add.cc` and its kin use the carry flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carry {
    pub reads: bool,
    pub writes: bool,
    pub subtracts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    Cycles,
    CyclesHigh,
    Nanoseconds,
    NanosecondsHigh,
}

/// 64-bit `mad.cc` and `madc`.
#[derive(Clone, Debug)]
pub struct MadCarry64 {
    pub carry: Carry,
    pub high: bool,
    pub signed: bool,
    pub d: D,
    pub a: D,
    pub b: D,
    pub c: D,
}

/// `lop3` with `p = (d != 0) op q`.
#[derive(Clone, Debug)]
pub struct Lop3P {
    pub lut: u8,
    pub d: R,
    pub p: P,
    pub sources: [R; 3],
    pub op: Logic,
    pub q: (P, bool),
}

/// `mov` between a register and the parts it is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    pub whole: Reg,
    pub parts: Vec<Reg>,
    pub part_bits: u32,
}

/// A decoded instruction. Registers-only operations are inline, the rest boxed to keep the code array dense.
#[derive(Clone, Debug)]
pub enum Op {
    // Registers only: run by `engine::alu`.
    Nop,
    Mov32(R, R),
    Mov64(D, D),
    MovP {
        d: P,
        a: P,
        negated: bool,
    },
    U32(Un32, R, R),
    B32(Bin32, R, R, R),
    T32(Tri32, R, R, R, R),
    Lop3 {
        lut: u8,
        d: R,
        a: R,
        b: R,
        c: R,
    },
    B64(Bin64, D, D, D),
    MadLo64(D, D, D, D),
    Fma64(D, D, D, D),
    Shift64(Shift, D, D, R),
    MulWide {
        signed: bool,
        d: D,
        a: R,
        b: R,
    },
    MadWide {
        signed: bool,
        d: D,
        a: R,
        b: R,
        c: D,
    },
    ExtU(D, R),
    ExtS(D, R),
    Trunc(R, D),
    Sel32 {
        d: R,
        a: R,
        b: R,
        p: P,
        negated: bool,
    },
    Sel64 {
        d: D,
        a: D,
        b: D,
        p: P,
        negated: bool,
    },
    Setp32 {
        cmp: Cmp,
        a: R,
        b: R,
        tail: SetpTail,
    },
    Setp64 {
        cmp: Cmp,
        a: D,
        b: D,
        tail: SetpTail,
    },
    SetpFn32 {
        f: fn(u32, u32) -> bool,
        a: R,
        b: R,
        tail: SetpTail,
    },
    SetpFn64 {
        f: fn(u64, u64) -> bool,
        a: D,
        b: D,
        tail: SetpTail,
    },
    /// `setp` on packed halves: one predicate each.
    SetpHalves {
        f: fn(u32, u32) -> bool,
        a: R,
        b: R,
        tail: SetpTail,
    },
    PredLogic {
        op: Logic,
        d: P,
        a: (P, bool),
        b: (P, bool),
    },
    SelP {
        d: P,
        a: (P, bool),
        b: (P, bool),
        p: (P, bool),
    },
    Pack32 {
        d: R,
        low: R,
        high: R,
    },
    Unpack32 {
        low: R,
        high: R,
        a: R,
    },
    Pack64 {
        d: D,
        low: R,
        high: R,
    },
    Unpack64 {
        low: R,
        high: R,
        a: D,
    },
    /// More than two parts, or parts of 8 bits: low part first.
    Gather(Box<Parts>),
    Scatter(Box<Parts>),
    L1(fn(u32) -> u32, R, R),
    L2(fn(u32, u32) -> u32, R, R, R),
    L3(fn(u32, u32, u32) -> u32, R, R, R, R),
    L4(fn(u32, u32, u32, u32) -> u32, R, [R; 4]),
    Q1(fn(u64) -> u64, D, D),
    Q2(fn(u64, u64) -> u64, D, D, D),
    Q3(fn(u64, u64, u64) -> u64, D, D, D, D),
    /// Two 64-bit and two 32-bit sources, as `bfi.b64` has.
    Mixed(fn(u64, u64, u32, u32) -> u64, D, D, D, R, R),
    Narrow(fn(u64) -> u32, R, D),
    Compare32 {
        f: fn(u32, u32) -> bool,
        d: R,
        a: R,
        b: R,
        one: u32,
        combine: Option<(Logic, P, bool)>,
    },
    Compare64 {
        f: fn(u64, u64) -> bool,
        d: R,
        a: D,
        b: D,
        one: u32,
        combine: Option<(Logic, P, bool)>,
    },
    /// `set` on packed halves: `one` or 0 in each.
    CompareHalves {
        f: fn(u32, u32) -> bool,
        d: R,
        a: R,
        b: R,
        one: u32,
        combine: Option<(Logic, P, bool)>,
    },
    AddCarry32(Carry, R, R, R),
    AddCarry64(Carry, D, D, D),
    MadCarry32 {
        carry: Carry,
        high: bool,
        signed: bool,
        d: R,
        a: R,
        b: R,
        c: R,
    },
    MadCarry64(Box<MadCarry64>),
    Lop3P(Box<Lop3P>),
    PredOf {
        f: fn(u32) -> bool,
        d: P,
        a: R,
    },
    PredOf64 {
        f: fn(u64) -> bool,
        d: P,
        a: D,
    },
    Convert(Box<Convert>),
    ConvertPack(Box<ConvertPack>),
    ConvertUnpack(Box<ConvertUnpack>),
    Clock32(Clock, R),
    Clock64(Clock, D),
    ActiveMask(R),

    // Control.
    Bra(u32),
    Brx {
        index: R,
        targets: Box<[u32]>,
    },
    Exit,
    Trap,
    Call(Box<Call>),
    /// Back to the caller.
    Ret,
    LdFrame(Box<FrameAccess>),
    StFrame(Box<FrameAccess>),

    // Lanes of a warp together.
    Shfl(Box<Shfl>),
    Vote(Box<Vote>),
    Match(Box<Match>),
    Redux(Box<Redux>),
    Elect(Box<Elect>),

    // Memory.
    LdParam(Box<LdParam>),
    Load(Box<Load>),
    Store(Box<Store>),
    Atom(Box<Atom>),
    Prefetch(Box<Prefetch>),
    CpAsync(Box<CpAsync>),
    CpAsyncCommit,
    /// `None` waits for everything, committed or not.
    CpAsyncWait(Option<u32>),
    LdMatrix(Box<LdMatrix>),
    StMatrix(Box<StMatrix>),
    MovMatrix(R, R),
    AsyncStore(Box<AsyncStore>),
    Bulk(Box<Bulk>),
    Tma(Box<Tma>),
    MapReplace(Box<MapReplace>),
    MapCopy(Box<MapCopy>),
    BulkCommit,
    BulkWait {
        pending: u32,
        /// `.read`: the sources may be written again, but the copies may not have arrived.
        read: bool,
    },

    // Synchronisation.
    Bar(Box<Bar>),
    BarWarpSync(R),
    ClusterArrive {
        aligned: bool,
        relaxed: bool,
    },
    ClusterWait {
        aligned: bool,
    },
    MBarrier(Box<MBarrier>),
    Fence(Fence),
    SetMaxNReg {
        increase: bool,
        registers: u32,
    },

    // Tensor cores.
    Mma(Box<Mma>),
    Wmma(Box<Wmma>),
    WmmaMemory(Box<WmmaMemory>),
    WgmmaFence,
    Wgmma(Box<Wgmma>),
    WgmmaCommit,
    WgmmaWait(u32),
}

/// Fences order nothing in a sequential emulation; a checker of the order of accesses listens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// `fence` and `membar`.
    Memory {
        order: Order,
        scope: Scope,
        /// `.sync_restrict`: only objects of this space (`.shared::cta` to release, `.shared::cluster` to acquire).
        only: Option<Space>,
    },
    ProxyAlias,
    /// Both ways between the generic and the async proxy; in one state space or in all.
    ProxyAsync {
        only: Option<Space>,
    },
    /// `fence.proxy.async::generic`: one way, for shared memory of the cluster.
    ProxyAsyncGeneric {
        order: Order,
        only: Space,
    },
    /// `fence.proxy.tensormap::generic`; the acquiring form names the 128 bytes it is about.
    ProxyTensorMap {
        order: Order,
        scope: Scope,
        addr: Option<Addr>,
    },
    MBarrierInit,
    GridLaunch,
    GridDependency,
}
