//! Syntax tree to decoded kernels. Every form the engine runs is listed here; anything else is an error with its line.

mod arith;
mod arith_int;
mod async_copy;
mod async_store;
mod bits;
mod calls;
mod carry;
mod compare;
mod control;
mod convert;
mod decoder;
mod fence;
mod layout;
mod matrix;
mod mbarrier;
mod memory;
mod modifiers;
mod moves;
mod operand;
mod packed;
mod ring;
mod slots;
mod special;
mod sync;
mod tensormap;
mod ty;
mod wmma;

pub use decoder::decode;
pub use special::is_special;
