//! Quantisers: numbers of 16 or 32 bits as 8-bit codes with a factor for each row, or for each 128 neighbours of a row.
//!
//! `scale = max(amax, 1e-10) / largest`, `q = x / scale` to nearest even, with `amax` the largest magnitude of the row or block and
//! `largest` 448 (e4m3) or 127 (i8). Both quotients are those of IEEE division but for a last bit where they are subnormal. The
//! floor keeps a row of zeros from dividing by zero. A NaN does not count for `amax` and stays one in e4m3, in i8 it is 0; an
//! infinity makes the factor infinite and spoils its row or block.
//!
//! | file | holds |
//! |---|---|
//! | `problem` | dtypes, block and alignment: the class |
//! | `codes` | factors and codes of a tile: what the epilogue of a GEMM uses as well |
//! | `kernel` | the kernels: a warp for each row, or one read of tiles of 128 columns |
//! | `plan` | the launch as data |
//! | `reference` | f64, and the bound a kernel is held to |

pub(crate) mod codes;
mod kernel;
mod plan;
mod problem;
mod reference;

pub use kernel::quantize;
pub use plan::{QuantizeError, quantize_plan};
pub use problem::{QuantBlock, QuantizeProblem};
pub use reference::{QuantizeReference, codes_of, quantize_reference};

/// The smallest magnitude a factor is made for.
pub const FLOOR: f32 = 1e-10;
