//! PTX to cubin, and what the cubin says about itself.
//!
//! - [`find`]: where `ptxas` and `nvdisasm` are, and which versions are accepted.
//! - [`ptxas`]: PTX to cubin, with ptxas' messages and resource counts as data ([`messages`]).
//! - [`source`]: from a PTX line to the template line of its `.loc`.
//! - [`cubin`], [`line_table`]: the machine code inside a cubin, and which PTX line each instruction came from.
//! - [`strip`]: a cubin without the PTX text in it.
//! - [`nvdisasm`]: machine code to instructions, many kernels a run.
//! - [`flow`], [`operands`], [`kinds`], [`sass`]: loops, register widths, kinds of work, and the counts taken from them.
//! - [`contract`], [`allowed`]: what a shipped kernel must look like, and the reviewed exceptions.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let ptx = String::new();
//! use tilewright_codegen::toolchain::{PtxasOptions, SassContract, Search, Toolchain};
//!
//! let tools = Toolchain::find(&Search::default())?;
//! let assembled = tools.ptxas.assemble(&ptx, &PtxasOptions::new("sm_90a"))?;
//! let inspected = tools.nvdisasm()?.inspect(&[&assembled])?;
//! match SassContract::clean().check(&inspected[0]) {
//!     Ok(report) => println!("{}", serde_json::to_string(&report)?),
//!     Err(violations) => violations.iter().for_each(|v| eprintln!("{v}")),
//! }
//! # Ok(()) }
//! ```

pub mod allowed;
pub mod contract;
pub mod cubin;
pub mod find;
pub mod flow;
pub mod kinds;
pub mod line_table;
pub mod messages;
pub mod nvdisasm;
pub mod operands;
pub mod ptxas;
pub mod sass;
pub mod source;
pub mod strip;
#[cfg(test)]
mod tests;

pub use contract::{Breach, ContractViolation, Place, SassContract};
pub use find::{Search, ToolError, ToolVersion, Toolchain};
pub use messages::{Message, PtxasReport, Severity};
pub use nvdisasm::{Inspection, Nvdisasm, SassError};
pub use ptxas::{Assembled, Ptxas, PtxasError, PtxasOptions};
pub use sass::{LoopReport, OpCounts, SassReport};
pub use source::{PtxLines, SourceLoc};
