//! The operations of Tile IR: one row each. Printer, parser and verifier read the rows; what an operation means for the
//! protocol stands in `passes::check_protocol`, how it becomes instructions in `passes::expand`.

/// What fits an operand or a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `i32` scalar.
    Int,
    /// `i1` scalar.
    Bool,
    /// Any scalar.
    Scalar,
    /// Register tile.
    Reg,
    /// Shared-memory tile.
    Smem,
    /// Register or shared-memory tile.
    Tile,
    /// Cell.
    Cell,
    /// Scalar or register tile.
    Data,
    /// Any number of `i32` scalars, last.
    Ints,
    /// At most one `i1`, last.
    MaybeBool,
    /// At most one register tile.
    MaybeReg,
    /// One register tile or more, last.
    Regs,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct OpRow {
    /// The operation.
    pub kind: OpKind,
    /// Name in the text form.
    pub name: &'static str,
    /// Operands.
    pub ins: &'static [Class],
    /// Results.
    pub outs: &'static [Class],
    /// Attributes; those that end in `?` may be missing.
    pub attrs: &'static [&'static str],
    /// Number of regions.
    pub regions: u32,
    /// True when nothing but the results depends on it: unused ones are removed, equal ones merged.
    pub pure: bool,
    /// What it is.
    pub doc: &'static str,
}

use Class::*;

macro_rules! rows {
    ($($kind:ident $name:literal [$($in:ident),*] => [$($out:ident),*] {$($attr:literal),*} $regions:literal $pure:ident, $doc:literal;)*) => {
        /// An operation of Tile IR: a row of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum OpKind { $(#[doc = $doc] $kind,)* }

        /// Every row, in the order of [`OpKind`].
        pub const TABLE: &[OpRow] = &[
            $(OpRow { kind: OpKind::$kind, name: $name, ins: &[$($in),*], outs: &[$($out),*], attrs: &[$($attr),*],
                      regions: $regions, pure: rows!(@$pure), doc: $doc },)*
        ];
    };
    (@pure) => { true };
    (@effect) => { false };
}

#[rustfmt::skip] // One operation a line.
rows! {
    // Scalars
    Const      "const"       [] => [Scalar] {"value"} 0 pure, "a literal: integer, or the bits of an f32";
    Param      "param"       [] => [Scalar] {"name"} 0 pure, "a scalar kernel parameter";
    CtaId      "cta_id"      [] => [Int] {"axis"} 0 pure, "the CTA's index in the grid";
    NCtas      "n_ctas"      [] => [Int] {} 0 pure, "CTAs of the grid along x";
    ClusterRank "cluster_rank" [] => [Int] {} 0 pure, "the CTA's rank in its cluster";
    WgIndex    "wg_index"    [] => [Int] {} 0 pure, "the warpgroup's index in its role";
    Add        "add"         [Int, Int] => [Int] {} 0 pure, "sum";
    Sub        "sub"         [Int, Int] => [Int] {} 0 pure, "difference";
    Mul        "mul"         [Int, Int] => [Int] {} 0 pure, "product";
    Div        "div"         [Int, Int] => [Int] {} 0 pure, "quotient of numbers that are not negative";
    Rem        "rem"         [Int, Int] => [Int] {} 0 pure, "remainder of numbers that are not negative";
    Min        "min"         [Int, Int] => [Int] {} 0 pure, "minimum";
    Max        "max"         [Int, Int] => [Int] {} 0 pure, "maximum";
    Cmp        "cmp"         [Int, Int] => [Bool] {"pred"} 0 pure, "signed comparison: eq ne lt le gt ge";
    Select     "select"      [Bool, Int, Int] => [Int] {} 0 pure, "the second operand if the first holds, else the third";
    Uniform    "uniform"     [Int] => [Int] {} 0 effect, "the same number, broadcast in each warp: what follows from it is worked out here and not before";
    // Structure
    For        "for"         [Int, Int, Int] => [] {"unroll"} 1 effect, "from, to, step; the region's argument is the index";
    If         "if"          [Bool] => [] {} 1 effect, "the region runs if the operand holds, which is the same in all threads";
    WhileAny   "while.any"   [Cell] => [] {} 1 effect, "the region runs again while an element of the place's i1 tile holds in the warp";
    CellNew    "cell.new"    [] => [Cell] {} 0 effect, "a place without a value";
    CellGet    "cell.get"    [Cell] => [Data] {} 0 effect, "the value a place holds";
    CellSet    "cell.set"    [Cell, Data] => [] {} 0 effect, "put a value in a place";
    // Pipes
    PipeAcquire "pipe.acquire" [] => [Int] {"pipe"} 0 effect, "producer: wait for a free stage and announce its bytes; gives the stage";
    PipeCommit "pipe.commit" [Int] => [] {"pipe"} 0 effect, "producer: all loads of the stage are under way";
    PipeWait   "pipe.wait"   [] => [Int] {"pipe"} 0 effect, "consumer: wait for the next full stage; gives the stage";
    PipePeek   "pipe.peek"   [] => [Int] {"pipe"} 0 effect, "consumer: wait for the next full stage and leave it the next; gives the stage";
    PipeRelease "pipe.release" [MaybeBool] => [] {"pipe"} 0 effect, "consumer: hand back the oldest stage not yet released (if the operand holds)";
    PipeSkip   "pipe.skip"   [Int] => [] {"pipe"} 0 effect, "consumer: pass over stages another warpgroup consumes";
    PipeSlot   "pipe.slot"   [Int] => [Smem] {"pipe", "slot"} 0 pure, "a tile of a stage";
    // Shared memory and movement
    BufferTile "buffer"      [Int] => [Smem] {"buffer"} 0 pure, "a copy of a buffer";
    SmemRows   "smem.rows"   [Smem, Int] => [Smem] {} 0 pure, "some rows of a tile, from a multiple of eight";
    SmemView   "smem.view"   [Smem] => [Smem] {"offset"} 0 pure, "bytes of an unswizzled tile from an offset on, as an unswizzled tile of another type";
    SmemPanels "smem.panels" [Smem] => [Smem] {} 0 pure, "the panels of a swizzled tile as rows below each other: the same bytes";
    LoadShared "ld.shared"   [Smem] => [Reg] {} 0 effect, "a shared tile in registers, in the widest loads the layout allows";
    StoreShared "st.shared"  [Smem, Reg] => [] {} 0 effect, "registers into a shared tile, in the widest stores the layout allows";
    ZeroRows   "smem.zero_rows" [Smem, Int] => [] {} 0 effect, "the unit clears the rows of a tile from one on";
    TmaLoad    "tma.load"    [Smem, Int, Ints] => [] {"tensor", "pipe", "slot", "row_dim?"} 0 effect, "copy a box into a stage: tile, stage, coordinates outermost first";
    BulkLoad   "bulk.load"   [Smem, Int, Ints] => [] {"tensor", "pipe", "slot"} 0 effect, "copy elements in a row into an unswizzled tile of a stage: tile, stage, leading coordinates of the first";
    TmaStore   "tma.store"   [Smem, Ints] => [] {"tensor"} 0 effect, "copy a tile to a tensor and close the group: tile, coordinates outermost first";
    TmaStoreWait "tma.store_wait" [] => [] {"n"} 0 effect, "wait until at most n store groups still read shared memory";
    CopyAsync  "copy.async"  [Smem, Ints] => [] {"tensor", "vec"} 0 effect, "cp.async of a tile, zeros outside the tensor; vec = elements a thread copies at once";
    CopyCommit "copy.commit" [] => [] {} 0 effect, "close the group of copies";
    CopyWait   "copy.wait"   [] => [] {"n"} 0 effect, "wait until at most n groups of copies are pending";
    LdTile     "ld.tile"     [Ints] => [Reg] {"tensor", "axes", "vec"} 0 effect, "load a register tile, zeros outside; axes = tile axes that are the tensor's last ones";
    StTile     "st.tile"     [Reg, Ints] => [] {"tensor", "vec"} 0 effect, "store a register tile, nothing outside the tensor";
    LdMatrix   "ld.matrix"   [Smem] => [Reg] {"operand", "k"} 0 effect, "ldmatrix of one step of 32 bytes of k: operand a, b ([n,k]) or bt ([k,n])";
    StMatrix   "st.matrix"   [Smem, Reg] => [] {} 0 effect, "stmatrix of a 16-bit accumulator tile";
    // Memory by index; a row of a tensor is a run of its last extent
    LoadScalar "load.scalar" [Ints] => [Scalar] {"tensor"} 0 effect, "one element, the same in all threads: I32 or F32; a coordinate for each extent";
    LoadElems  "load.elems"  [Reg, MaybeReg, Ints] => [Reg] {"tensor"} 0 effect, "elements at an index each, counted from leading coordinates: index, mask, coordinates; 0 where the mask is false";
    StoreElems "store.elems" [Reg, Reg, MaybeReg, Ints] => [] {"tensor"} 0 effect, "store elements at an index each: index, values, mask, coordinates; nothing where the mask is false";
    LoadRun    "load.run"    [Ints] => [Reg] {"tensor", "offset"} 0 effect, "load a row-major register tile from elements in a row, all inside the tensor: leading coordinates of the first, which lies `offset` further";
    LoadRows   "load.rows"   [Reg, Int] => [Reg] {"tensor", "vec"} 0 effect, "load a register tile from rows by number, from a column on; zeros for a negative row and for columns outside";
    StoreRows  "store.rows"  [Reg, Reg, Int] => [] {"tensor", "vec"} 0 effect, "store a register tile to rows by number, from a column on; nothing for a negative row and for columns outside";
    CopyRows   "copy.rows"   [Smem, Reg, Int] => [] {"tensor", "vec", "moves?"} 0 effect, "cp.async of rows by number into a shared tile, zeros as load.rows; moves=1: the column is another each time";
    Atomic     "atomic"      [Reg, Reg, MaybeReg, Ints] => [Reg] {"tensor", "f"} 0 effect, "add, min, max or or to elements at an index each: index, values, mask, coordinates; the old values, 0 where the mask is false";
    AtomicCas  "atomic.cas"  [Reg, Reg, Reg, MaybeReg, Ints] => [Reg] {"tensor"} 0 effect, "compare and swap elements at an index each: index, expected, new, mask, coordinates; the old values, 0 where the mask is false";
    AddRows    "add.rows"    [Reg, Reg, Int] => [] {"tensor", "vec"} 0 effect, "add a f32 tile atomically to rows by number, from a column on; nothing for a negative row and for columns outside";
    // Tensor cores
    MmaAsync   "mma.async"   [Cell, Tile, Smem, Bool] => [] {"trans_b"} 0 effect, "wgmma over a whole stage as one group: accumulator, A [m,k] (in shared memory or registers), B [n,k] (or [k,n]), start from zero";
    MmaWait    "mma.wait"    [Cell] => [] {"n"} 0 effect, "wait until at most n groups are pending; n = 0 makes the accumulator readable";
    MmaReady   "mma.ready"   [Cell] => [] {"n"} 0 effect, "wait until at most n groups are pending, the accumulator's not among them, and make it readable";
    MmaSync    "mma.sync"    [Cell, Reg, Reg] => [] {} 0 effect, "m16n8 over all fragments of 32 bytes of k: accumulator, A, B";
    // Register tiles
    Splat      "splat"       [Scalar] => [Reg] {} 0 pure, "the same number everywhere; an f32 is rounded to a 16-bit tile's elements";
    Unary      "unary"       [Reg] => [Reg] {"f", "fma_share?"} 0 pure, "of each element: neg, abs, exp2, log2, rcp, tf32 (f32), not (i1)";
    Exp2       "exp2"        [Reg] => [Reg] {"fma_share"} 0 pure, "2^x of each f32, so many sixteenths of them on the FMA pipe";
    Binary     "binary"      [Reg, Reg] => [Reg] {"f"} 0 pure, "of each pair: add, sub, mul (f32, f16, bf16, i32), min, max (f32, i32), mulhi (the upper half of an unsigned product), div, rem of numbers that are not negative, shl, shr, ushr (i32), and, or, xor (i32, i1)";
    Cast       "cast"        [Reg] => [Reg] {} 0 pure, "each element to another dtype, to nearest even";
    Iota       "iota"        [] => [Reg] {"axis"} 0 pure, "each element's row (0) or column (1), I32";
    Broadcast  "broadcast"   [Reg] => [Reg] {} 0 pure, "a column [rows,1] or a row [1,cols] repeated, and columns repeated in runs; costs nothing but a byte permutation where elements share registers";
    Fma        "fma"         [Reg, Reg, Reg] => [Reg] {} 0 pure, "a*b + c of each element (f32, f16, bf16), one rounding";
    CmpTile    "cmp.tile"    [Reg, Reg] => [Reg] {"pred"} 0 pure, "comparison of each pair, I1: eq ne lt le gt ge, ordered";
    Choose     "choose"      [Reg, Reg, Reg] => [Reg] {} 0 pure, "the second operand's elements where the first holds, else the third's";
    Reduce     "reduce"      [Reg] => [Reg] {"f"} 0 effect, "max, min or sum of each row, in every lane that holds the row";
    ReduceThread "reduce.thread" [Reg] => [Reg] {"f"} 0 pure, "max, min or sum of a thread's own elements of each row: lanes hold different parts";
    ReduceLanes "reduce.lanes" [Reg] => [Reg] {"f"} 0 effect, "joins the parts that the lanes of a row hold";
    Scan       "scan"        [Reg] => [Reg] {} 0 effect, "inclusive prefix sums along the one row of an i32 tile that a warp holds, lanes neighbouring runs";
    Any        "any"         [Reg] => [Int] {} 0 effect, "1 if an element of an i1 tile holds in the role's one warp, else 0";
    ScalarOf   "scalar.of"   [Reg] => [Scalar] {} 0 effect, "the number that all threads hold in a tile of one element";
    Reinterpret "reinterpret" [Regs] => [Reg] {} 0 pure, "the 32-bit registers of tiles in turn (the first of each, then the second) as those of a tile of another type";
    Transpose  "transpose"   [Reg] => [Reg] {} 0 pure, "rows and columns exchanged, the same registers; costs nothing";
    Bitwise    "bitwise"     [Reg, Reg, Reg] => [Reg] {"table"} 0 pure, "a bitwise function of three i32, by its truth table: f(0xF0, 0xCC, 0xAA)";
    PermuteBytes "permute.bytes" [Reg, Reg] => [Reg] {"selector"} 0 pure, "four of the eight bytes of each pair of i32, by the nibbles of the selector: 0 to 3 of the first, 4 to 7 of the second";
    Slice      "slice"       [Reg] => [Reg] {"row", "col"} 0 pure, "part of a tile; costs nothing";
    // Synchronisation
    UnitSync   "unit.sync"   [] => [] {} 0 effect, "all threads of the unit meet";
    BarSync    "bar.sync"    [Int] => [] {"threads"} 0 effect, "meet at a named barrier";
    BarArrive  "bar.arrive"  [Int] => [] {"threads"} 0 effect, "arrive at a named barrier without waiting";
    FenceAsync "fence.async" [] => [] {} 0 effect, "order generic writes to shared memory before asynchronous reads";
}

impl OpKind {
    /// The operation's row.
    pub fn row(self) -> &'static OpRow {
        &TABLE[self as usize]
    }

    /// The operation of this name.
    pub fn from_name(name: &str) -> Option<OpKind> {
        TABLE.iter().find(|r| r.name == name).map(|r| r.kind)
    }
}
