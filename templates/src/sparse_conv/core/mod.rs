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

mod class;
mod config;
mod epilogue;
mod exit;
mod kernel;
mod mma;
mod source;
mod wgmma;

pub use class::{CoreClass, CoreError, EpilogueClass, Exit, Source};
pub use config::{CoreConfig, MmaConfig, WgmmaConfig};
pub use kernel::core_kernel;
