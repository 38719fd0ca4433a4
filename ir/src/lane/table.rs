//! The instruction table: one row for each operation of Lane IR.
//!
//! To add an instruction, add a row (docs/how-to/add-an-instruction.md). A row says what the operation takes and gives,
//! what it does besides, from which PTX ISA version and compute capability it exists, and how LLVM spells it: a plain
//! LLVM instruction, an NVVM intrinsic, or inline assembly where LLVM 22 has no intrinsic.

use super::types::{Space, Ty};

/// What fits an operand or a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Exactly this type.
    Is(Ty),
    /// Any integer.
    Int,
    /// Any float.
    Float,
    /// Any type at all.
    Any,
    /// A pointer to memory a thread may load and store.
    Mem,
    /// The type of operand `n`.
    Same(u8),
    /// Any number of values of this type, last in the list.
    Many(Ty),
    /// Any number of accumulators, all F32 or all I32, last in the list.
    Accumulators,
    /// Between one and four values of one loadable type, last in the list.
    Vector,
}

/// What an operation does besides computing its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: may be moved, merged, removed.
    Pure,
    /// Reads memory.
    Read,
    /// Writes memory.
    Write,
    /// Synchronises or orders; never moved, never duplicated, all threads of the warp together.
    Sync,
    /// Starts or awaits asynchronous work.
    Async,
}

/// A plain LLVM instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
    /// A literal; attribute `value` holds the bits.
    Const,
    /// A value nobody looks at.
    Poison,
    /// The kernel parameter `index`.
    Param,
    /// Start of dynamic shared memory.
    SmemBase,
    /// Two-operand arithmetic, by LLVM's own name.
    Binary(&'static str),
    /// `fneg`.
    FNeg,
    /// Integer comparison; attribute `pred`.
    ICmp,
    /// Ordered float comparison; attribute `pred`.
    FCmp,
    /// `select`.
    Select,
    /// A conversion, by LLVM's own name.
    Cast(&'static str),
    /// `llvm.fma`.
    Fma,
    /// `llvm.{maxnum,minnum,smax,smin,umax,umin}`.
    MinMax(&'static str),
    /// Pointer plus a byte offset.
    PtrAdd,
    /// Shared to cluster address space, same CTA.
    ToCluster,
    /// Load; attributes `align`, `readonly`.
    Load,
    /// Store; attribute `align`.
    Store,
}

/// An argument of an intrinsic call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// Operand `n`.
    Op(u8),
    /// Operand `n` as `<2 x half>`.
    OpF16x2(u8),
    /// An `i16` truncated from operand `n`.
    OpI16(u8),
    /// An attribute as an immediate of this width in bits.
    Attr(&'static str, u8),
    /// A literal of this width in bits.
    Lit(i64, u8),
}

/// What an intrinsic returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// Nothing.
    Void,
    /// As the results say: one value, or a struct of them.
    Results,
    /// Something nobody needs, of this width in bits.
    Ignored(u8),
    /// `<2 x bfloat>`, taken as an `i32`.
    BF16x2,
    /// `<2 x half>`, taken as an `i32`.
    F16x2,
    /// A struct whose last member is the only result.
    LastOf(&'static [Ty]),
}

/// How LLVM spells an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// A plain LLVM instruction.
    Native(Native),
    /// An intrinsic; `{x}` in the name is replaced by the attribute `x`.
    Call(&'static str, &'static [Arg], Returns),
    /// Inline assembly in LLVM's notation: text and constraints. `{x}` is replaced by the attribute `x`.
    Asm(&'static str, &'static str),
    /// Inline assembly whose text depends on the instance: [`super::asm::text`].
    AsmFn(AsmFn),
}

/// Assembly that is written for each instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsmFn {
    /// `wgmma.mma_async` with both operands in shared memory.
    WgmmaSs,
    /// `wgmma.mma_async` with A in registers.
    WgmmaRs,
    /// `wgmma.wait_group` that hands the accumulators through.
    WgmmaWait,
    /// A load under a predicate, zero elsewhere.
    LoadIf,
    /// A load under a predicate, zero elsewhere, of memory that the kernel writes.
    LoadIfCoherent,
    /// A load that keeps its place.
    LoadOnce,
    /// A store under a predicate.
    StoreIf,
    /// An atomic operation under a predicate, which gives the old value.
    Atom,
    /// An atomic sum of one float or several in a row, under a predicate.
    RedAdd,
}

/// Which unit an instruction keeps busy; the performance model counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Nothing at run time.
    None,
    /// Integer and float pipes.
    Alu,
    /// Special functions, 16 lanes a clock.
    Mufu,
    /// Loads, stores, shuffles.
    Memory,
    /// Tensor cores.
    Tensor,
    /// Barriers, fences, control.
    Control,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The operation.
    pub op: Op,
    /// Name in the text form.
    pub name: &'static str,
    /// Operands.
    pub ins: &'static [Class],
    /// Results.
    pub outs: &'static [Class],
    /// Attributes, all required unless they end in `?` in the row's source.
    pub attrs: &'static [&'static str],
    /// What it does besides.
    pub effect: Effect,
    /// Lowest PTX ISA version, times ten.
    pub ptx: u32,
    /// Lowest compute capability.
    pub sm: u32,
    /// LLVM's spelling.
    pub llvm: Spelling,
    /// The unit it keeps busy.
    pub unit: Unit,
    /// What it is.
    pub doc: &'static str,
}

use Arg::{Attr as A, Lit as L, Op as O, OpF16x2 as H, OpI16 as W};
use Class::*;
use Effect::*;
use Native as N;
use Returns::*;
use Spelling::{Asm, AsmFn as F, Call, Native as Nat};

const GL: Class = Is(Ty::Ptr(Space::Global));
const SH: Class = Is(Ty::Ptr(Space::Shared));
const CL: Class = Is(Ty::Ptr(Space::Cluster));
const GE: Class = Is(Ty::Ptr(Space::Generic));
const B1: Class = Is(Ty::I1);
const I16: Class = Is(Ty::I16);
const I32: Class = Is(Ty::I32);
const I64: Class = Is(Ty::I64);
const F32: Class = Is(Ty::F32);

macro_rules! rows {
    ($($op:ident $name:literal [$($in:expr),*] => [$($out:expr),*] {$($attr:literal),*} $fx:ident $ptx:literal $sm:literal $llvm:expr, $unit:ident, $doc:literal;)*) => {
        /// An operation of Lane IR: a row of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Op { $(#[doc = $doc] $op,)* }

        /// Every row, in the order of [`Op`].
        pub const TABLE: &[Row] = &[
            $(Row { op: Op::$op, name: $name, ins: &[$($in),*], outs: &[$($out),*], attrs: &[$($attr),*], effect: $fx,
                    ptx: $ptx, sm: $sm, llvm: $llvm, unit: Unit::$unit, doc: $doc },)*
        ];
    };
}

#[rustfmt::skip] // One instruction a line.
rows! {
    // Values
    Const       "const"        [] => [Any] {"value"} Pure 0 0 Nat(N::Const), None, "a literal: integer value, or the bit pattern of a float";
    Poison      "poison"       [] => [Any] {} Pure 0 0 Nat(N::Poison), None, "a value that is never looked at (an accumulator before its first MMA)";
    Param       "param"        [] => [Any] {"index"} Pure 0 0 Nat(N::Param), None, "a kernel parameter; a tensor map gives its generic address";
    SmemBase    "smem.base"    [] => [SH] {} Pure 0 0 Nat(N::SmemBase), None, "start of the CTA's dynamic shared memory, 1024-byte aligned";
    // Integer and float arithmetic
    IAdd        "iadd"         [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("add")), Alu, "integer sum, wraps";
    ISub        "isub"         [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("sub")), Alu, "integer difference, wraps";
    IMul        "imul"         [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("mul")), Alu, "integer product, low half";
    MulWide     "mul.wide"     [I32, I32] => [I64] {} Pure 10 10 Asm("mul.wide.s32 $0, $1, $2;", "=l,r,r"), Alu, "signed product, all 64 bits, one instruction with a sum: LLVM does not see that where a factor is extended outside the loop";
    UDiv        "udiv"         [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("udiv")), Alu, "unsigned quotient";
    URem        "urem"         [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("urem")), Alu, "unsigned remainder";
    SDiv        "sdiv"         [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("sdiv")), Alu, "signed quotient, toward zero";
    SRem        "srem"         [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("srem")), Alu, "signed remainder";
    Shl         "shl"          [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("shl")), Alu, "shift left";
    LShr        "lshr"         [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("lshr")), Alu, "logical shift right";
    AShr        "ashr"         [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("ashr")), Alu, "arithmetic shift right";
    And         "and"          [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("and")), Alu, "bitwise and";
    Or          "or"           [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("or")), Alu, "bitwise or";
    Xor         "xor"          [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("xor")), Alu, "bitwise exclusive or";
    SMin        "smin"         [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::MinMax("smin")), Alu, "signed minimum";
    SMax        "smax"         [Int, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::MinMax("smax")), Alu, "signed maximum";
    ICmp        "icmp"         [Int, Same(0)] => [B1] {"pred"} Pure 0 0 Nat(N::ICmp), Alu, "integer comparison: eq ne slt sle sgt sge ult ule ugt uge";
    Select      "select"       [B1, Any, Same(1)] => [Same(1)] {} Pure 0 0 Nat(N::Select), Alu, "the second operand if the first holds, else the third";
    ZExt        "zext"         [Int] => [Int] {} Pure 0 0 Nat(N::Cast("zext")), Alu, "zero-extend";
    SExt        "sext"         [Int] => [Int] {} Pure 0 0 Nat(N::Cast("sext")), Alu, "sign-extend";
    Trunc       "trunc"        [Int] => [Int] {} Pure 0 0 Nat(N::Cast("trunc")), Alu, "keep the low bits";
    Bitcast     "bitcast"      [Any] => [Any] {} Pure 0 0 Nat(N::Cast("bitcast")), None, "the same bits as another type of the same size";
    SIToFP      "sitofp"       [Int] => [Float] {} Pure 0 0 Nat(N::Cast("sitofp")), Alu, "signed integer to float, to nearest";
    FAdd        "fadd"         [Float, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("fadd")), Alu, "float sum";
    FAddDown    "fadd.rm"      [F32, F32] => [F32] {} Pure 10 10 Call("llvm.nvvm.add.rm.f", &[O(0), O(1)], Results), Alu, "float sum rounded towards minus infinity (PTX ISA 9.7.3.3)";
    FSub        "fsub"         [Float, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("fsub")), Alu, "float difference";
    FMul        "fmul"         [Float, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Binary("fmul")), Alu, "float product";
    FNeg        "fneg"         [Float] => [Same(0)] {} Pure 0 0 Nat(N::FNeg), Alu, "float negation";
    Fma         "fma"          [Float, Same(0), Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::Fma), Alu, "a*b + c with one rounding";
    FMin        "fmin"         [Float, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::MinMax("minnum")), Alu, "float minimum; a NaN loses";
    FMax        "fmax"         [Float, Same(0)] => [Same(0)] {} Pure 0 0 Nat(N::MinMax("maxnum")), Alu, "float maximum; a NaN loses";
    FCmp        "fcmp"         [Float, Same(0)] => [B1] {"pred"} Pure 0 0 Nat(N::FCmp), Alu, "ordered float comparison: eq ne lt le gt ge";
    FPExt       "fpext"        [Float] => [Float] {} Pure 0 0 Nat(N::Cast("fpext")), Alu, "to a wider float, exact";
    FPTrunc     "fptrunc"      [Float] => [Float] {} Pure 0 0 Nat(N::Cast("fptrunc")), Alu, "to a narrower float, to nearest even";
    Ex2         "ex2.approx"   [F32] => [F32] {} Pure 20 30 Call("llvm.nvvm.ex2.approx.ftz.f32", &[O(0)], Results), Mufu, "2^x within 2 ulp (PTX ISA 9.7.3.22)";
    Lg2         "lg2.approx"   [F32] => [F32] {} Pure 20 30 Call("llvm.nvvm.lg2.approx.ftz.f", &[O(0)], Results), Mufu, "log2 x within 2^-22 where x is near 1 (PTX ISA 9.7.3.21)";
    Rcp         "rcp.approx"   [F32] => [F32] {} Pure 14 30 Call("llvm.nvvm.rcp.approx.ftz.f", &[O(0)], Results), Mufu, "1/x within 1 ulp (PTX ISA 9.7.3.14)";
    Tanh        "tanh.approx"  [F32] => [F32] {} Pure 70 75 Asm("tanh.approx.f32 $0, $1;", "=f,f"), Mufu, "tanh x, relative error 2^-11 (PTX ISA 9.7.3.23)";
    PackBF16    "pack.bf16x2"  [F32, F32] => [I32] {} Pure 70 80 Call("llvm.nvvm.ff2bf16x2.rn", &[O(1), O(0)], BF16x2), Alu, "two f32 rounded to nearest into one register, the first operand in the low half";
    PackF16     "pack.f16x2"   [F32, F32] => [I32] {} Pure 70 80 Call("llvm.nvvm.ff2f16x2.rn", &[O(1), O(0)], F16x2), Alu, "two f32 rounded to nearest into one register, the first operand in the low half";
    PackE4M3    "pack.e4m3x2"  [F32, F32] => [I16] {} Pure 81 89 Call("llvm.nvvm.ff.to.e4m3x2.rn", &[O(1), O(0)], Results), Alu, "two f32 as 8-bit floats, to nearest even and saturating; NaN stays NaN; the first operand in the low byte (PTX ISA 9.7.9.21)";
    PackE5M2    "pack.e5m2x2"  [F32, F32] => [I16] {} Pure 81 89 Call("llvm.nvvm.ff.to.e5m2x2.rn", &[O(1), O(0)], Results), Alu, "as pack.e4m3x2";
    UnpackE4M3  "unpack.e4m3x2" [I16] => [I32] {} Pure 81 89 Call("llvm.nvvm.e4m3x2.to.f16x2.rn", &[O(0)], F16x2), Alu, "two 8-bit floats as two f16, exact";
    UnpackE5M2  "unpack.e5m2x2" [I16] => [I32] {} Pure 81 89 Call("llvm.nvvm.e5m2x2.to.f16x2.rn", &[O(0)], F16x2), Alu, "as unpack.e4m3x2";
    FPToS8      "fptos8"       [F32] => [I32] {} Pure 10 10 Asm("cvt.rni.s8.f32 $0, $1;", "=r,f"), Alu, "f32 to the nearest even integer from -128 to 127, sign-extended; a NaN gives 0";
    RoundTF32   "cvt.rna.tf32" [F32] => [I32] {} Pure 70 80 Call("llvm.nvvm.f2tf32.rna", &[O(0)], Results), Alu, "the nearest tf32, ties away from zero, as the bits of an f32 (PTX ISA 9.7.9.21)";
    AddX2       "add.x2"       [I32, I32] => [I32] {"dtype"} Pure 60 53 Asm("add.rn.{dtype}x2 $0, $1, $2;", "=r,r,r"), Alu, "sums of the two 16-bit floats of a register; of bf16 from sm_90 on";
    SubX2       "sub.x2"       [I32, I32] => [I32] {"dtype"} Pure 60 53 Asm("sub.rn.{dtype}x2 $0, $1, $2;", "=r,r,r"), Alu, "differences, as add.x2";
    MulX2       "mul.x2"       [I32, I32] => [I32] {"dtype"} Pure 60 53 Asm("mul.rn.{dtype}x2 $0, $1, $2;", "=r,r,r"), Alu, "products, as add.x2";
    FmaX2       "fma.x2"       [I32, I32, I32] => [I32] {"dtype"} Pure 70 80 Asm("fma.rn.{dtype}x2 $0, $1, $2, $3;", "=r,r,r,r"), Alu, "a*b + c of the two 16-bit floats of a register, one rounding each (PTX ISA 9.7.4.4)";
    Lop3        "lop3"         [I32, I32, I32] => [I32] {"table"} Pure 43 50 Asm("lop3.b32 $0, $1, $2, $3, {table};", "=r,r,r,r"), Alu, "any bitwise function of three registers, by its truth table (PTX ISA 9.7.8.6); two instructions with constants would stay two";
    Prmt        "prmt"         [I32, I32] => [I32] {"selector"} Pure 20 20 Call("llvm.nvvm.prmt", &[O(0), O(1), A("selector", 32)], Results), Alu, "four of the eight bytes of two registers, by the nibbles of the selector (PTX ISA 9.7.9.7)";
    // Where a thread is
    TidX        "tid.x"        [] => [I32] {} Pure 10 10 Call("llvm.nvvm.read.ptx.sreg.tid.x", &[], Results), Alu, "thread index in the CTA";
    CtaIdX      "ctaid.x"      [] => [I32] {} Pure 10 10 Call("llvm.nvvm.read.ptx.sreg.ctaid.x", &[], Results), Alu, "CTA index in the grid, x";
    CtaIdY      "ctaid.y"      [] => [I32] {} Pure 10 10 Call("llvm.nvvm.read.ptx.sreg.ctaid.y", &[], Results), Alu, "CTA index in the grid, y";
    CtaIdZ      "ctaid.z"      [] => [I32] {} Pure 10 10 Call("llvm.nvvm.read.ptx.sreg.ctaid.z", &[], Results), Alu, "CTA index in the grid, z";
    NCtaIdX     "nctaid.x"     [] => [I32] {} Pure 10 10 Call("llvm.nvvm.read.ptx.sreg.nctaid.x", &[], Results), Alu, "CTAs of the grid, x";
    ClusterRank "cluster.ctarank" [] => [I32] {} Pure 78 90 Call("llvm.nvvm.read.ptx.sreg.cluster.ctarank", &[], Results), Alu, "this CTA's rank in its cluster";
    ShflIdx     "shfl.idx"     [I32, I32] => [I32] {} Sync 60 30 Call("llvm.nvvm.shfl.sync.idx.i32", &[L(-1, 32), O(0), O(1), L(31, 32)], Results), Memory, "the value of another lane; broadcasting a warp-uniform value tells ptxas that it is uniform";
    ShflBfly    "shfl.bfly"    [I32, I32] => [I32] {} Sync 60 30 Call("llvm.nvvm.shfl.sync.bfly.i32", &[L(-1, 32), O(0), O(1), L(31, 32)], Results), Memory, "the value of the lane whose number differs in the bits of the second operand";
    ShflUp      "shfl.up"      [I32, I32] => [I32] {} Sync 60 30 Call("llvm.nvvm.shfl.sync.up.i32", &[L(-1, 32), O(0), O(1), L(0, 32)], Results), Memory, "the value of the lane so many before this one; lanes without one keep their own";
    VoteAny     "vote.any"     [B1] => [B1] {} Sync 60 30 Call("llvm.nvvm.vote.any.sync", &[L(-1, 32), O(0)], Results), Control, "true in all lanes if the operand holds in one of the warp";
    Elect       "elect"        [] => [B1] {} Sync 80 90 Call("llvm.nvvm.elect.sync", &[L(-1, 32)], LastOf(&[Ty::I32, Ty::I1])), Control, "true in one lane of the warp (PTX ISA 9.7.14.14)";
    // Memory
    PtrAdd      "ptr.add"      [Any, Int] => [Same(0)] {} Pure 0 0 Nat(N::PtrAdd), Alu, "pointer plus bytes";
    ToCluster   "ptr.to_cluster" [SH] => [CL] {} Pure 0 90 Nat(N::ToCluster), None, "this CTA's shared address as a cluster address";
    PtrToInt    "ptr.to_int"   [SH] => [I32] {} Pure 0 0 Nat(N::Cast("ptrtoint")), None, "a shared address as a number";
    Mapa        "mapa"         [SH, I32] => [CL] {} Pure 78 90 Call("llvm.nvvm.mapa.shared.cluster", &[O(0), O(1)], Results), Alu, "the same shared address in another CTA of the cluster (PTX ISA 9.7.9.23)";
    Load        "ld"           [Mem] => [Vector] {"align", "readonly"} Read 10 10 Nat(N::Load), Memory, "load 1, 2 or 4 neighbours; readonly=1 uses the non-coherent path";
    Store       "st"           [Mem, Vector] => [] {"align"} Write 10 10 Nat(N::Store), Memory, "store 1, 2 or 4 neighbours";
    LoadIf      "ld.if"        [B1, GL] => [Vector] {} Read 31 32 F(AsmFn::LoadIf), Memory, "load 1, 2 or 4 neighbours from global memory where the predicate holds, zero elsewhere; non-coherent path";
    LoadIfCoherent "ld.if.coherent" [B1, GL] => [Vector] {} Read 10 10 F(AsmFn::LoadIfCoherent), Memory, "as ld.if, of memory that the kernel writes";
    LoadOnce    "ld.once"      [GL] => [Vector] {} Read 74 70 F(AsmFn::LoadOnce), Memory, "load 1, 2 or 4 neighbours that the kernel does not write and reads once, past L1; LLVM makes the loads of a loop's phi one load where the phi is used, this one stays where it is";
    LoadByte    "ld.u8"        [GL] => [I32] {} Read 10 10 Asm("ld.global.u8 $0, [$1];", "=r,l,~{memory}"), Memory, "load a byte from global memory, zero-extended";
    LoadByteIf  "ld.if.u8"     [B1, GL] => [I32] {} Read 10 10 Asm("mov.b32 $0, 0; @$1 ld.global.u8 $0, [$2];", "=&r,b,l,~{memory}"), Memory, "load a byte where the predicate holds, zero elsewhere";
    StoreByteIf "st.if.u8"     [B1, GL, I32] => [] {} Write 10 10 Asm("@$0 st.global.u8 [$1], $2;", "b,l,r,~{memory}"), Memory, "store the low byte where the predicate holds";
    StoreByteShared "st.shared.u8" [SH, I32] => [] {} Write 10 10 Asm("st.shared.u8 [$0], $1;", "r,r,~{memory}"), Memory, "store the low byte to shared memory";
    StoreIf     "st.if"        [B1, GL, Vector] => [] {} Write 10 10 F(AsmFn::StoreIf), Memory, "store 1, 2 or 4 neighbours to global memory where the predicate holds";
    Atom        "atom.if"      [B1, GL, Any] => [Same(2)] {"f"} Write 50 60 F(AsmFn::Atom), Memory, "an atomic operation on a word of global memory where the predicate holds: add (I32, F32), min, max, or (I32); gives the old value, zero elsewhere";
    AtomCas     "atom.cas.if"  [B1, GL, I32, I32] => [I32] {} Write 50 60 Asm("mov.b32 $0, 0; @$1 atom.relaxed.gpu.global.cas.b32 $0, [$2], $3, $4;", "=&r,b,l,r,r,~{memory}"), Memory, "compare and swap a word of global memory where the predicate holds: expected, new; gives the old value, zero elsewhere";
    RedAdd      "red.add.if"   [B1, GL, F32] => [] {} Write 50 60 F(AsmFn::RedAdd), Memory, "add a float to global memory atomically where the predicate holds";
    RedAddVec   "red.add.vec.if" [B1, GL, Vector] => [] {} Write 81 90 F(AsmFn::RedAdd), Memory, "as red.add.if, of 2 or 4 neighbours, each by itself atomic (PTX ISA 9.7.13.7)";
    CpAsync16   "cp.async.16"  [SH, GL, I32] => [] {} Async 70 80 Call("llvm.nvvm.cp.async.cg.shared.global.16.s", &[O(0), O(1), O(2)], Void), Memory, "copy 16 bytes to shared memory, zeros past the third operand's bytes (PTX ISA 9.7.9.25.3)";
    CpAsync8    "cp.async.8"   [SH, GL, I32] => [] {} Async 70 80 Call("llvm.nvvm.cp.async.ca.shared.global.8.s", &[O(0), O(1), O(2)], Void), Memory, "as cp.async.16 with 8 bytes";
    CpAsync4    "cp.async.4"   [SH, GL, I32] => [] {} Async 70 80 Call("llvm.nvvm.cp.async.ca.shared.global.4.s", &[O(0), O(1), O(2)], Void), Memory, "as cp.async.16 with 4 bytes";
    CpCommit    "cp.async.commit" [] => [] {} Async 70 80 Call("llvm.nvvm.cp.async.commit.group", &[], Void), Control, "close the thread's group of copies";
    CpWait      "cp.async.wait" [] => [] {"n"} Async 70 80 Call("llvm.nvvm.cp.async.wait.group", &[A("n", 32)], Void), Control, "wait until at most n of the thread's groups are pending";
    LdMatrix4   "ldmatrix.x4"  [SH] => [I32, I32, I32, I32] {} Read 65 75 Call("llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.b16.p3", &[O(0)], Results), Memory, "four 8x8 matrices of 16-bit elements, row addresses from the lanes (PTX ISA 9.7.15.5.15)";
    LdMatrix4T  "ldmatrix.x4.trans" [SH] => [I32, I32, I32, I32] {} Read 65 75 Call("llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.trans.b16.p3", &[O(0)], Results), Memory, "as ldmatrix.x4, each matrix transposed";
    LdMatrix2   "ldmatrix.x2"  [SH] => [I32, I32] {} Read 65 75 Call("llvm.nvvm.ldmatrix.sync.aligned.m8n8.x2.b16.p3", &[O(0)], Results), Memory, "two 8x8 matrices";
    LdMatrix2T  "ldmatrix.x2.trans" [SH] => [I32, I32] {} Read 65 75 Call("llvm.nvvm.ldmatrix.sync.aligned.m8n8.x2.trans.b16.p3", &[O(0)], Results), Memory, "two 8x8 matrices, transposed";
    StMatrix4   "stmatrix.x4"  [SH, I32, I32, I32, I32] => [] {} Write 78 90 Call("llvm.nvvm.stmatrix.sync.aligned.m8n8.x4.b16.p3", &[O(0), O(1), O(2), O(3), O(4)], Void), Memory, "the inverse of ldmatrix.x4 (PTX ISA 9.7.15.5.16)";
    StMatrix2   "stmatrix.x2"  [SH, I32, I32] => [] {} Write 78 90 Call("llvm.nvvm.stmatrix.sync.aligned.m8n8.x2.b16.p3", &[O(0), O(1), O(2)], Void), Memory, "the inverse of ldmatrix.x2";
    StMatrix4T  "stmatrix.x4.trans" [SH, I32, I32, I32, I32] => [] {} Write 78 90 Call("llvm.nvvm.stmatrix.sync.aligned.m8n8.x4.trans.b16.p3", &[O(0), O(1), O(2), O(3), O(4)], Void), Memory, "as stmatrix.x4, each matrix transposed";
    StMatrix2T  "stmatrix.x2.trans" [SH, I32, I32] => [] {} Write 78 90 Call("llvm.nvvm.stmatrix.sync.aligned.m8n8.x2.trans.b16.p3", &[O(0), O(1), O(2)], Void), Memory, "as stmatrix.x2, each matrix transposed";
    // Tensor cores
    MmaBF16     "mma.bf16"     [I32, I32, I32, I32, I32, I32, F32, F32, F32, F32] => [F32, F32, F32, F32] {} Pure 70 80 Call("llvm.nvvm.mma.m16n8k16.row.col.bf16", &[O(0), O(1), O(2), O(3), O(4), O(5), O(6), O(7), O(8), O(9)], Results), Tensor, "m16n8k16, A four registers, B two, C four (PTX ISA 9.7.15.5.8)";
    MmaF16      "mma.f16"      [I32, I32, I32, I32, I32, I32, F32, F32, F32, F32] => [F32, F32, F32, F32] {} Pure 70 80 Call("llvm.nvvm.mma.m16n8k16.row.col.f32.f32", &[H(0), H(1), H(2), H(3), H(4), H(5), O(6), O(7), O(8), O(9)], Results), Tensor, "as mma.bf16 with f16 inputs";
    MmaS8       "mma.s8"       [I32, I32, I32, I32, I32, I32, I32, I32, I32, I32] => [I32, I32, I32, I32] {} Pure 70 80 Call("llvm.nvvm.mma.m16n8k32.row.col.s8", &[O(0), O(1), O(2), O(3), O(4), O(5), O(6), O(7), O(8), O(9)], Results), Tensor, "m16n8k32 of signed bytes, sums in 32 bits, wrapping (PTX ISA 9.7.15.5.10)";
    MmaTF32     "mma.tf32"     [I32, I32, I32, I32, I32, I32, F32, F32, F32, F32] => [F32, F32, F32, F32] {} Pure 70 80 Call("llvm.nvvm.mma.m16n8k8.row.col.tf32", &[O(0), O(1), O(2), O(3), O(4), O(5), O(6), O(7), O(8), O(9)], Results), Tensor, "m16n8k8 of tf32, the low 13 bits of a register ignored (PTX ISA 9.7.15.5.7)";
    WgmmaFence  "wgmma.fence"  [] => [] {} Async 80 90 Call("llvm.nvvm.wgmma.fence.sync.aligned", &[], Void), Control, "order register writes before the next wgmma (PTX ISA 9.7.16.7.1)";
    WgmmaSs     "wgmma.ss"     [I64, I64, B1, Accumulators] => [Accumulators] {"n", "dtype", "trans_a", "trans_b"} Async 80 90 F(AsmFn::WgmmaSs), Tensor, "m64nNk16, or k32 of bytes; descriptors of A and B, scale-d, accumulators in and out, I32 for i8 (PTX ISA 9.7.16.5.2); dtype is both operands', or `e4m3_e5m2` where they differ";
    WgmmaRs     "wgmma.rs"     [I32, I32, I32, I32, I64, B1, Many(Ty::F32)] => [Many(Ty::F32)] {"n", "dtype", "trans_b"} Async 80 90 F(AsmFn::WgmmaRs), Tensor, "as wgmma.ss with A in four registers";
    WgmmaCommit "wgmma.commit" [] => [] {} Async 80 90 Call("llvm.nvvm.wgmma.commit_group.sync.aligned", &[], Void), Control, "close the warpgroup's group of wgmmas";
    WgmmaWait   "wgmma.wait"   [Accumulators] => [Accumulators] {"n"} Async 80 90 F(AsmFn::WgmmaWait), Control, "wait until at most n groups are pending; accumulators handed through may be read after it";
    // Barriers and asynchronous copies
    BarAll      "bar.all"      [] => [] {} Sync 60 30 Call("llvm.nvvm.barrier.cta.sync.aligned.all", &[L(0, 32)], Void), Control, "all threads of the CTA meet";
    BarSync     "bar.sync"     [I32] => [] {"threads"} Sync 60 30 Call("llvm.nvvm.barrier.cta.sync.aligned.count", &[O(0), A("threads", 32)], Void), Control, "meet at a named barrier (PTX ISA 9.7.13.1)";
    BarArrive   "bar.arrive"   [I32] => [] {"threads"} Sync 60 30 Call("llvm.nvvm.barrier.cta.arrive.aligned.count", &[O(0), A("threads", 32)], Void), Control, "arrive at a named barrier without waiting";
    BarWarp     "bar.warp"     [] => [] {} Sync 60 30 Call("llvm.nvvm.bar.warp.sync", &[L(-1, 32)], Void), Control, "the lanes of the warp meet, and what each did before is seen by all (PTX ISA 9.7.13.2)";
    ClusterArrive "cluster.arrive" [] => [] {} Sync 78 90 Call("llvm.nvvm.barrier.cluster.arrive", &[], Void), Control, "arrive at the cluster's barrier, release";
    ClusterWait "cluster.wait" [] => [] {} Sync 78 90 Call("llvm.nvvm.barrier.cluster.wait", &[], Void), Control, "wait at the cluster's barrier, acquire";
    MbarInit    "mbarrier.init" [SH, I32] => [] {} Sync 70 80 Call("llvm.nvvm.mbarrier.init.shared", &[O(0), O(1)], Void), Control, "make a barrier that expects so many arrivals";
    MbarFence   "fence.mbarrier_init" [] => [] {} Sync 80 90 Call("llvm.nvvm.fence.mbarrier_init.release.cluster", &[], Void), Control, "show initialised barriers to the cluster";
    MbarArrive  "mbarrier.arrive" [SH] => [] {} Sync 80 90 Call("llvm.nvvm.mbarrier.arrive.scope.cta.space.cta", &[O(0), L(1, 32)], Ignored(64)), Control, "arrive once, release";
    MbarArriveCluster "mbarrier.arrive.cluster" [CL] => [] {} Sync 80 90 Call("llvm.nvvm.mbarrier.arrive.scope.cta.space.cluster", &[O(0), L(1, 32)], Void), Control, "arrive once at a barrier of any CTA of the cluster; scope .cta, as CUTLASS does: only finished asynchronous reads are released, and .cluster costs a MEMBAR.GPU each time";
    MbarExpect  "mbarrier.expect_tx" [SH, I32] => [] {} Sync 80 90 Call("llvm.nvvm.mbarrier.arrive.expect.tx.scope.cta.space.cta", &[O(0), O(1)], Ignored(64)), Control, "expect so many bytes, then arrive once";
    MbarTryWait "mbarrier.try_wait" [SH, I32] => [B1] {} Sync 80 90 Call("llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space.cta", &[O(0), O(1)], Results), Control, "true once the phase of this parity has completed; may wait a while";
    FenceAsync  "fence.proxy_async" [] => [] {} Sync 80 90 Call("llvm.nvvm.fence.proxy.async.shared_cta", &[], Void), Control, "order generic shared-memory accesses before asynchronous ones (PTX ISA 9.7.13.4)";
    PrefetchMap "prefetch.tensormap" [GE] => [] {} Sync 80 90 Asm("prefetch.tensormap [$0];", "l,~{memory}"), Memory, "bring a tensor map near";
    BulkLoad    "bulk.load"    [CL, SH, GL, I32] => [] {} Async 80 90 Call("llvm.nvvm.cp.async.bulk.global.to.shared.cluster", &[O(0), O(1), O(2), O(3), L(0, 16), L(0, 64), L(0, 1), L(0, 1)], Void), Memory, "copy bytes in a row to shared memory, counted by the barrier; addresses and count are multiples of 16 (PTX ISA 9.7.9.25.4)";
    TmaLoad2    "tma.load.2d"  [CL, SH, GE, I32, I32] => [] {} Async 80 90 Call("llvm.nvvm.cp.async.bulk.tensor.g2s.tile.2d", &[O(0), O(1), O(2), O(3), O(4), L(0, 16), L(0, 64), L(0, 1), L(0, 1), L(0, 32)], Void), Memory, "copy a box to shared memory, bytes counted by the barrier (PTX ISA 9.7.9.27.1.2)";
    TmaLoad3    "tma.load.3d"  [CL, SH, GE, I32, I32, I32] => [] {} Async 80 90 Call("llvm.nvvm.cp.async.bulk.tensor.g2s.tile.3d", &[O(0), O(1), O(2), O(3), O(4), O(5), L(0, 16), L(0, 64), L(0, 1), L(0, 1), L(0, 32)], Void), Memory, "as tma.load.2d with three coordinates";
    TmaLoad4    "tma.load.4d"  [CL, SH, GE, I32, I32, I32, I32] => [] {} Async 80 90 Call("llvm.nvvm.cp.async.bulk.tensor.g2s.tile.4d", &[O(0), O(1), O(2), O(3), O(4), O(5), O(6), L(0, 16), L(0, 64), L(0, 1), L(0, 1), L(0, 32)], Void), Memory, "as tma.load.2d with four coordinates";
    TmaMulti2   "tma.multicast.2d" [CL, SH, GE, I32, I32, I32] => [] {} Async 80 90 Call("llvm.nvvm.cp.async.bulk.tensor.g2s.tile.2d", &[O(0), O(1), O(2), O(3), O(4), W(5), L(0, 64), L(1, 1), L(0, 1), L(0, 32)], Void), Memory, "as tma.load.2d into every CTA of the mask (last operand)";
    TmaMulti3   "tma.multicast.3d" [CL, SH, GE, I32, I32, I32, I32] => [] {} Async 80 90 Call("llvm.nvvm.cp.async.bulk.tensor.g2s.tile.3d", &[O(0), O(1), O(2), O(3), O(4), O(5), W(6), L(0, 64), L(1, 1), L(0, 1), L(0, 32)], Void), Memory, "as tma.load.3d into every CTA of the mask (last operand)";
    TmaStore2   "tma.store.2d" [SH, GE, I32, I32] => [] {} Async 80 90 Call("llvm.nvvm.cp.async.bulk.tensor.s2g.tile.2d", &[O(0), O(1), O(2), O(3), L(0, 64), L(0, 1)], Void), Memory, "copy a box to global memory; what lies outside the tensor is dropped";
    TmaStore3   "tma.store.3d" [SH, GE, I32, I32, I32] => [] {} Async 80 90 Call("llvm.nvvm.cp.async.bulk.tensor.s2g.tile.3d", &[O(0), O(1), O(2), O(3), O(4), L(0, 64), L(0, 1)], Void), Memory, "as tma.store.2d with three coordinates";
    BulkCommit  "bulk.commit"  [] => [] {} Async 80 90 Call("llvm.nvvm.cp.async.bulk.commit.group", &[], Void), Control, "close the thread's group of bulk stores";
    BulkWaitRead "bulk.wait.read" [] => [] {"n"} Async 80 90 Call("llvm.nvvm.cp.async.bulk.wait.group.read", &[A("n", 32)], Void), Control, "wait until at most n groups still read their source";
    BulkWait    "bulk.wait"    [] => [] {"n"} Async 80 90 Call("llvm.nvvm.cp.async.bulk.wait.group", &[A("n", 32)], Void), Control, "wait until at most n groups are incomplete";
    RegsInc     "setmaxnreg.inc" [] => [] {"n"} Sync 80 90 Call("llvm.nvvm.setmaxnreg.inc.sync.aligned.u32", &[A("n", 32)], Void), Control, "take registers from the CTA's pool (PTX ISA 9.7.19.5)";
    RegsDec     "setmaxnreg.dec" [] => [] {"n"} Sync 80 90 Call("llvm.nvvm.setmaxnreg.dec.sync.aligned.u32", &[A("n", 32)], Void), Control, "give registers back to the CTA's pool";
}

impl Op {
    /// The operation's row.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The operation of this name.
    pub fn from_name(name: &str) -> Option<Op> {
        TABLE.iter().find(|r| r.name == name).map(|r| r.op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_at_their_own_index_under_unique_names() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.op as usize, i, "{}", row.name);
            assert_eq!(Op::from_name(row.name), Some(row.op));
        }
    }

    #[test]
    fn intrinsic_arguments_name_real_operands() {
        for row in TABLE {
            let Spelling::Call(_, args, _) = row.llvm else { continue };
            for arg in args {
                match arg {
                    O(n) | H(n) | W(n) => assert!((*n as usize) < row.ins.len(), "{}", row.name),
                    A(key, _) => assert!(row.attrs.contains(key), "{}", row.name),
                    L(..) => {}
                }
            }
        }
    }
}
