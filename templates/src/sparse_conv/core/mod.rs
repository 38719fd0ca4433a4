//! The multiplication of a sparse convolution: rows of features by the weights of the taps that join them to outputs. One core
//! for every dataflow: where rows come from and where sums go are parts of their own.
//!
//! | file | holds |
//! |---|---|
//! | `class` | what a kernel of the core is: dtype, source, exit, epilogue |
//! | `config` | tile sizes, and why a point is illegal |
//! | `source` | which taps and rows a CTA multiplies |
//! | `exit` | where sums go |
//! | `epilogue` | bias, batch norm, residual, activation |
//! | `mma` | the multiplication with cp.async and mma.sync |
//! | `wgmma` | on Hopper: rows gathered by one warpgroup, multiplied by others |
//! | `kernel` | kernels by class and config |
//! | `gather`, `scatter` | rows of all pairs in a row; products summed by output |
//! | `finish` | f32 sums to the output |
//! | `pad` | copies with longer rows, zeros |
//! | `rows` | what these small kernels share |
//! | `conv` | the launches of each dataflow |

mod class;
mod config;
mod conv;
mod epilogue;
mod exit;
mod finish;
mod gather;
mod kernel;
mod mma;
mod pad;
mod rows;
mod scatter;
mod source;
mod wgmma;

pub use class::{CoreClass, CoreError, EpilogueClass, Exit, Source};
pub use config::{CoreConfig, MmaConfig, WgmmaConfig};
pub use conv::{ConvIo, Flow, conv};
pub use finish::{FinishClass, finish_kernel};
pub use gather::gather_kernel;
pub use kernel::core_kernel;
pub use pad::{pad_kernel, zero_kernel};
pub use scatter::scatter_kernel;
