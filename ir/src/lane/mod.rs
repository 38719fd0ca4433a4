//! Lane IR: what one thread does. SSA values, blocks with parameters, one operation per PTX instruction.
//!
//! Every operation is a row of [`table`]: operands, results, attributes, effects, the PTX and SM version it needs, and
//! how LLVM spells it. Printer, parser, verifier and emitter read the rows; none of them knows an instruction by name,
//! except where the row says so.

pub mod asm;
mod builder;
mod func;
mod parse;
mod print;
pub mod table;
mod types;
mod verify;

pub use builder::LaneBuilder;
pub use func::{Block, BlockData, Func, Inst, LaunchBounds, Param, ParamKind, Target, Term, Value};
pub use parse::parse;
pub use table::{Op, Row};
pub use types::{Space, Ty};
pub use verify::{LaneError, verify};
