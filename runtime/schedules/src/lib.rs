//! The runtime's own files with another `sync`: locks and cells of shuttle, which runs the threads of a test one at a time and
//! picks at every step which one goes on. The shipped crate needs no feature and no `cfg` for it.
//!
//! Shuttle rather than loom: it explores engines with a dozen locks in milliseconds a schedule, where loom's exhaustive search of
//! the memory model does not end; and what is shared here goes through locks and once-cells, not through atomics of weak order.

// Parts that only the driver and the C ABI use are not here.
#![allow(dead_code)]

#[path = "../../src/arch.rs"]
pub mod arch;
#[path = "../../src/archive/mod.rs"]
pub mod archive;
#[path = "../../src/compat.rs"]
pub mod compat;
#[path = "../../src/device.rs"]
pub mod device;
#[path = "../../src/dispatch/mod.rs"]
pub mod dispatch;
#[path = "../../src/dtype.rs"]
pub mod dtype;
#[path = "../../src/engine/mod.rs"]
pub mod engine;
#[path = "../../src/expr/mod.rs"]
pub mod expr;
#[path = "../../src/manifest.rs"]
pub mod manifest;
#[path = "../../src/pack.rs"]
pub mod pack;
#[path = "../../src/plan.rs"]
pub mod plan;
#[path = "../../src/seal.rs"]
mod seal;
pub mod sync;
#[path = "../../src/tensor_map.rs"]
pub mod tensor_map;
#[path = "../../src/validate.rs"]
pub mod validate;
