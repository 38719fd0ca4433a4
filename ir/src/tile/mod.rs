//! Tile IR: what one CTA does, in tiles. A kernel is a set of resources (tensors, pipes, buffers) and roles; a role is
//! structured code (`for`, `if`) over scalars, register tiles and shared-memory tiles.
//!
//! Templates are written with [`KernelBuilder`], which records every operation with the template line it came from.
//! The schedule is explicit: roles, pipes, stages, waits. Fragment layouts, swizzles, TMA boxes, descriptors, barrier
//! counts, phases, proxy fences and predication are derived by [`crate::passes`].

mod builder;
mod kernel;
mod parse;
mod print;
pub mod table;
mod types;
mod verify;
mod verify_bits;
mod verify_rows;

pub use builder::{Cell, CmpPred, KernelBuilder, Operand, Pipe, RoleBuilder, Scalar, SmemRef, Staging, TensorRef, TileRef};
pub use kernel::{
    BarrierPlan, Buffer, Dim, Kernel, Op, PipeDecl, Probe, ProbeAxis, Region, Role, ScalarParam, SlotDecl, SmemPlan, Tensor,
    Unit, Value,
};
pub use parse::parse;
pub use table::{OpKind, OpRow};
pub use types::{RegTile, SmemTile, Ty};
pub use verify::{TileError, verify};
