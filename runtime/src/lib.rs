//! Manifest, plans, dispatch and launch: what a server links.
//!
//! A pack is a folder with `manifest.json` and the kernels it names. Open one, choose a plan for a problem, prepare it
//! once for its shape, launch it as often as wanted:
//!
//! - [`expr`], [`manifest`], [`plan`], [`dispatch`]: the pack's data, and choosing a plan from it;
//! - [`pack`]: loading with every hash checked;
//! - [`device`], [`engine`]: preparing and launching on anything that implements [`device::Device`];
//! - [`cuda`]: the NVIDIA driver, found at run time. The C ABI is a crate of its own, `capi/`.
//!
//! Nothing here compiles, tunes, or links a compiler, and launching allocates nothing.

pub mod arch;
pub mod archive;
pub mod compat;
pub mod cuda;
pub mod device;
pub mod dispatch;
pub mod dtype;
pub mod engine;
pub mod expr;
pub mod fp8;
pub mod manifest;
pub mod pack;
pub mod plan;
mod seal;
mod sync;
pub mod tensor_map;
pub mod validate;
