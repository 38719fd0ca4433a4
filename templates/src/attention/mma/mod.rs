//! Kernels of cp.async and mma.sync, for sm80 and up: the forward where there is no wgmma, and decode over a paged cache
//! everywhere.
//!
//! | file | holds |
//! |---|---|
//! | `config` | configs, their constraints, their ids |
//! | `core` | the loop over blocks of keys: rings, products, softmax |
//! | `forward` | queries, keys and values in tensors |
//! | `decode` | keys and values in pages |

mod config;
mod core;
mod decode;

mod forward;

pub use config::MmaAttentionConfig;
pub use decode::decode;

pub use forward::forward;
