//! Runs PTX text on the CPU and checks it: the independent witness of tilewright.
//!
//! [`Module::parse`] reads PTX as compilers print it, [`Device`] holds memory, and [`Device::launch`] runs a kernel
//! and reports what it did wrong. Nothing here knows the compiler that made the text: an instruction that the emulator
//! does not know is an error with its line, never a no-op.
//!
//! Registers and memory are undefined until they are written. Undefined values travel through arithmetic and memory
//! and are reported where they matter: at addresses, branches, tensor-core operands and loads of unwritten bytes.
//!
//! Check a kernel under several schedules, say what is wrong, and read its output:
//!
//! ```
//! use tilewright_emulator::tensor::{swizzle::Swizzle, tma::{Interleave, OobFill, TensorDType}};
//! use tilewright_emulator::{Arg, DeviceConfig, Fill, Launch, Module, TensorMap, check_schedules};
//! // A tensor copy brings a 4 x 4 tile into shared memory; thread i writes element i to `y`.
//! let ptx = "
//! .version 8.0
//! .target sm_90
//! .address_size 64
//! .visible .entry tile(.param .align 64 .b8 map[128], .param .u64 y) {
//!     .reg .pred %p<3>;
//!     .reg .b32 %r<8>;
//!     .reg .b64 %rd<6>;
//!     .shared .align 128 .b8 box[64];
//!     .shared .align 8 .b8 full[8];
//!     mov.u32 %r1, %tid.x;
//!     mov.u32 %r2, full;
//!     mov.u32 %r3, box;
//!     mov.u32 %r4, 0;
//!     setp.ne.u32 %p1, %r1, 0;
//!     @%p1 bra ready;
//!     mbarrier.init.shared.b64 [%r2], 1;
//!     fence.mbarrier_init.release.cluster;
//!     mbarrier.arrive.expect_tx.shared.b64 _, [%r2], 64;
//!     mov.b64 %rd1, map;
//!     cvta.param.u64 %rd1, %rd1;
//!     cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes
//!         [%r3], [%rd1, {%r4, %r4}], [%r2];
//! ready:
//!     bar.sync 0;
//! wait:
//!     mbarrier.try_wait.parity.shared.b64 %p2, [%r2], 0;
//!     @!%p2 bra wait;
//!     shl.b32 %r5, %r1, 2;
//!     add.u32 %r6, %r3, %r5;
//!     ld.shared.b32 %r7, [%r6];
//!     ld.param.u64 %rd2, [y];
//!     cvt.u64.u32 %rd3, %r5;
//!     add.s64 %rd4, %rd2, %rd3;
//!     st.global.b32 [%rd4], %r7;
//!     ret;
//! }";
//! let module = Module::parse(ptx)?;
//! let x: Vec<u8> = (0..64).flat_map(|i: u32| i.to_le_bytes()).collect();
//! let mut out = Vec::new();
//! let report = check_schedules(DeviceConfig::default(), 0..4, |device| {
//!     let (input, y) = (device.alloc(256, Fill::Bytes(&x))?, device.alloc(64, Fill::Undefined)?);
//!     let map = device.encode_tensor_map(&TensorMap {
//!         dtype: TensorDType::U32,
//!         base: device.address(input),
//!         dims: vec![8, 8],
//!         strides: vec![32],
//!         box_dims: vec![4, 4],
//!         element_strides: vec![1, 1],
//!         swizzle: Swizzle::None,
//!         interleave: Interleave::None,
//!         oob_fill: OobFill::Zero,
//!     })?;
//!     let args = vec![Arg::Bytes(map.to_vec()), Arg::U64(device.address(y))];
//!     let report = device.launch(&module, &Launch { entry: "tile".into(), block: [16, 1, 1], args, ..Launch::default() })?;
//!     out = device.read(y).to_vec();
//!     Ok::<_, Box<dyn std::error::Error>>(report)
//! })?;
//! assert!(report.is_clean(), "{}", report.render(ptx, "tile.ptx"));
//! assert_eq!(out[16..20], 8u32.to_le_bytes()); // row 1 of the box
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The way through the crate: `parse` (text to syntax tree), `decode` (syntax tree to `program`), `engine` (runs a
//! cluster of blocks on one thread), with `lane` (what one lane computes), [`tensor`] (what tensor instructions
//! compute) and `memory` below.

mod check;
mod counters;
mod decode;
mod device;
mod engine;
mod error;
mod finding;
mod lane;
mod launch;
mod lints;
mod memory;
mod module;
mod parse;
mod program;
mod report;
pub mod ring;
mod schedules;
pub mod tensor;
mod tensor_map;

pub use counters::Counters;
pub use device::{BufferId, Checks, Device, DeviceConfig, Fill};
pub use error::{DeviceError, LaunchError, ParseError};
pub use finding::{Finding, FindingKind, OtherSide, Severity, Thread};
pub use launch::{Arg, Launch, Report};
pub use module::{Arch, Module};
pub use report::Rendering;
pub use schedules::check_schedules;
pub use tensor::Numerics;
pub use tensor::im2col::Im2col;
pub use tensor::tma::TensorMap;
