//! `manifest.json`: every kernel of a pack, the plans that use them and the tables that choose between plans.
//!
//! The types here are the file format. Unknown fields are refused, so an older runtime never ignores something a newer
//! generator relied on; maps are sorted, so the file is deterministic.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dispatch::Dispatch;
use crate::dtype::Dtype;
use crate::expr::Expr;
use crate::plan::Plan;

/// The only schema this runtime reads.
pub const SCHEMA: u32 = 2;

/// A pack's table of contents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Target folder's name, such as `sm90`.
    pub target: String,
    /// Architecture the kernels were assembled for, such as `sm_90a`.
    pub arch: String,
    /// What built the pack.
    pub toolchain: Toolchain,
    /// Kernels, by ascending id.
    pub kernels: Vec<Kernel>,
    /// Plans; dispatch cells refer to them by position.
    pub plans: Vec<Plan>,
    /// One table per op and class.
    pub dispatch: Vec<Dispatch>,
}

/// Versions of what built the pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toolchain {
    /// This project's version.
    pub tilewright: String,
    /// LLVM's version.
    pub llvm: String,
    /// ptxas' version; empty when no cubin was made.
    pub ptxas: String,
    /// PTX `.version` of the files, the highest where they differ.
    pub ptx_version: String,
}

/// One compiled kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Unique in the manifest.
    pub id: String,
    /// Template it came from.
    pub template: String,
    /// The template's configuration, axis to value.
    pub config: BTreeMap<String, String>,
    /// Entry symbol in the PTX and cubin.
    pub entry: String,
    /// PTX text.
    pub ptx: File,
    /// Machine code for [`Manifest::arch`]; without it the driver compiles the PTX when the kernel is loaded.
    pub cubin: Option<File>,
    /// Parameters in the entry's order.
    pub params: Vec<Param>,
    /// How it is launched.
    pub launch: Launch,
    /// Conditions under which it is correct, such as `k % 8 == 0`.
    pub requires: Vec<Expr>,
    /// What the assembler reported.
    pub resources: Resources,
    /// What decides its rounding.
    pub numerics: Numerics,
    /// What vouched for it.
    pub verified: Vec<Verification>,
}

/// A file of the pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Relative to the manifest, with `/`, never leaving its folder.
    pub path: String,
    /// BLAKE3 of the contents, 64 lower-case hex digits.
    pub blake3: String,
    /// Length.
    pub bytes: u64,
}

/// A kernel parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// Its name in the template.
    pub name: String,
    /// What it is and where its value comes from.
    pub kind: ParamKind,
}

/// What a parameter is and where its value comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ParamKind {
    /// A 128-byte tensor map by value.
    TensorMap(TensorMapSpec),
    /// A device address.
    Ptr {
        /// The kernel's name for the tensor.
        tensor: String,
        /// What the kernel does with it.
        access: Access,
    },
    /// A 32-bit integer; a value outside is refused at preparation.
    I32 {
        /// Its value.
        value: Expr,
    },
    /// A 64-bit integer.
    I64 {
        /// Its value.
        value: Expr,
    },
    /// A number the caller gives, such as `alpha`.
    F32 {
        /// The scalar's name.
        scalar: String,
    },
}

/// What a kernel does with a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Only reads it.
    Read,
    /// Only writes it.
    Write,
    /// Both, such as an accumulation in place.
    ReadWrite,
}

/// How to encode a tensor map: the tiled form of `cuTensorMapEncodeTiled`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorMapSpec {
    /// The kernel's name for the tensor.
    pub tensor: String,
    /// What the kernel does with it.
    pub access: Access,
    /// Element type.
    pub dtype: Dtype,
    /// Extents in elements, innermost first, 1 to 5 of them.
    pub dims: Vec<Expr>,
    /// Bytes between neighbours along dims 1.., one fewer than `dims`.
    pub strides: Vec<Expr>,
    /// Tile extents in elements, innermost first.
    pub r#box: Vec<u32>,
    /// Steps in elements, innermost first; 1 everywhere for a dense tile.
    pub element_strides: Vec<u32>,
    /// Shared-memory swizzle.
    pub swizzle: Swizzle,
    /// Interleaved layout.
    pub interleave: Interleave,
    /// L2 sector promotion.
    pub l2_promotion: L2Promotion,
    /// What elements outside the tensor read as.
    pub oob: OobFill,
}

/// Shared-memory swizzle of a tensor map, by its span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Swizzle {
    /// Row after row.
    #[serde(rename = "none")]
    None,
    /// 32-byte span.
    #[serde(rename = "32B")]
    B32,
    /// 64-byte span.
    #[serde(rename = "64B")]
    B64,
    /// 128-byte span.
    #[serde(rename = "128B")]
    B128,
}

/// Interleaved layout of a tensor map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interleave {
    /// Plain.
    #[serde(rename = "none")]
    None,
    /// 16 bytes (8 channels of two bytes).
    #[serde(rename = "16B")]
    B16,
    /// 32 bytes (16 channels of two bytes).
    #[serde(rename = "32B")]
    B32,
}

/// L2 sector promotion of a tensor map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum L2Promotion {
    /// Off.
    #[serde(rename = "none")]
    None,
    /// To 64 bytes.
    #[serde(rename = "64B")]
    B64,
    /// To 128 bytes.
    #[serde(rename = "128B")]
    B128,
    /// To 256 bytes.
    #[serde(rename = "256B")]
    B256,
}

/// What elements outside the tensor read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OobFill {
    /// Zero.
    Zero,
    /// The NaN that fused multiply-adds take for zero.
    Nan,
}

/// How a kernel is launched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// Threads, x y z.
    pub block: [u32; 3],
    /// Blocks of a cluster, x y z; all 1 without clusters.
    pub cluster: [u32; 3],
    /// Dynamic shared memory.
    pub shared_bytes: u32,
    /// Blocks, x y z; the grid must be a multiple of the cluster.
    pub grid: [Expr; 3],
}

/// What the assembler reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Registers of a thread at launch.
    pub registers: u32,
    /// Bytes spilled, stores plus loads.
    pub spill_bytes: u32,
    /// Local-memory frame of a thread.
    pub stack_bytes: u32,
    /// Static shared memory.
    pub static_shared_bytes: u32,
    /// Named barriers.
    pub barriers: u32,
    /// What one iteration of the main loop is made of; absent without a SASS report or a loop that multiplies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_loop: Option<MainLoop>,
}

/// Instructions a warp issues in one iteration of its main loop, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MainLoop {
    /// Multiplies of the tensor cores: wgmmas of any type, or warp multiplies where there is no wgmma.
    pub multiplies: u32,
    /// All instructions.
    pub instructions: u32,
    /// Integers and bits: IADD3, LOP3, SHF, PRMT, IMAD and their kin.
    pub int: u32,
    /// The same on the uniform datapath.
    pub uniform: u32,
    /// Pairs of 16-bit floats: HFMA2, HADD2, HMUL2.
    pub half: u32,
    /// Between number formats: F2F, F2FP, I2F.
    pub convert: u32,
    /// Floats: FADD, FMUL, FFMA.
    pub float: u32,
    /// Special functions: exponentials.
    pub special: u32,
    /// Copies of one register or constant.
    pub moves: u32,
    /// Loads from shared memory: LDS, LDSM.
    pub shared_loads: u32,
}

impl MainLoop {
    /// The kinds with their names, in the order they are shown.
    pub fn kinds(&self) -> [(&'static str, u32); 8] {
        [
            ("int", self.int),
            ("uniform", self.uniform),
            ("half", self.half),
            ("convert", self.convert),
            ("float", self.float),
            ("special", self.special),
            ("moves", self.moves),
            ("shared_loads", self.shared_loads),
        ]
    }

    /// A count as a number for each multiply.
    pub fn per_multiply(&self, count: u32) -> f64 {
        f64::from(count) / f64::from(self.multiplies.max(1))
    }
}

/// What decides a kernel's rounding. Two kernels equal here give the same bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numerics {
    /// Accumulator type.
    pub accumulator: Dtype,
    /// Order of summation, such as `k64.seq`.
    pub order: String,
    /// Whether a row of the result depends on that row of the input alone, whatever m is.
    pub batch_invariant: bool,
    /// Which gelu, where the kernel has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gelu: Option<Gelu>,
}

/// Which gelu a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gelu {
    /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    Tanh,
    /// `0.5 x (1 + erf(x / sqrt 2))`.
    Erf,
}

/// One statement that a kernel is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// Who says so.
    pub by: Verifier,
    /// What was run or checked.
    pub detail: String,
}

/// Who vouches for a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verifier {
    /// The emulator ran the PTX.
    Emulator,
    /// The machine code met its contract.
    Sass,
    /// A GPU ran it.
    Gpu,
}

impl ParamKind {
    /// The kernel's name for the tensor behind the parameter and what the kernel does with it.
    pub fn tensor(&self) -> Option<(&str, Access)> {
        match self {
            ParamKind::TensorMap(spec) => Some((&spec.tensor, spec.access)),
            ParamKind::Ptr { tensor, access } => Some((tensor, *access)),
            ParamKind::I32 { .. } | ParamKind::I64 { .. } | ParamKind::F32 { .. } => None,
        }
    }
}

impl Kernel {
    /// Its files with the fields that name them.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &File)> {
        [("ptx", Some(&self.ptx)), ("cubin", self.cubin.as_ref())].into_iter().filter_map(|(field, file)| Some((field, file?)))
    }
}

impl Access {
    /// Whether the kernel reads the tensor.
    pub fn reads(self) -> bool {
        self != Access::Write
    }

    /// Whether the kernel writes the tensor.
    pub fn writes(self) -> bool {
        self != Access::Read
    }
}

impl Manifest {
    /// Position of the kernel called `id`.
    pub fn kernel(&self, id: &str) -> Option<usize> {
        self.kernels.iter().position(|kernel| kernel.id == id)
    }

    /// Position of the plan called `id`.
    pub fn plan(&self, id: &str) -> Option<usize> {
        self.plans.iter().position(|plan| plan.id == id)
    }
}
