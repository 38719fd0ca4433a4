//! The middle of tilewright: from a kernel described with tiles to one instruction per line, ready for LLVM.
//!
//! - [`layout`]: one algebra for fragments, swizzles, shared-memory tiles and TMA boxes.
//! - [`tile`]: Tile IR and its builder, the DSL templates are written in. One program per CTA, split into roles.
//! - [`lane`]: Lane IR, one thread's view: SSA over a control-flow graph, one operation per PTX instruction, every
//!   one of them a row of [`lane::table`].
//! - [`passes`]: the pipeline from one to the other, with the protocol check and the resource estimate.
//!
//! This crate does no IO, links no LLVM and never sees a GPU.

pub mod arch;
pub mod attr;
pub mod dtype;
pub mod lane;
pub mod layout;
pub mod loc;
pub mod passes;
pub mod text;
pub mod tile;

pub use arch::Arch;
pub use attr::{Attr, Attrs};
pub use dtype::DType;
pub use loc::{Loc, SourceMap};
