//! Weights of a few bits: from a checkpoint to the packed form the kernels read, and back.
//!
//! | file | holds |
//! |---|---|
//! | `block` | the packed form as functions; packing and unpacking on the host, the kernels' witness |
//! | `decode` | from codes to an MMA operand, in registers |
//! | `config` | configs of the kernels that multiply |
//! | `stream` | stream-K: how CTAs share blocks, and the kernel that adds up what they share |
//! | `wgmma` | the Hopper kernel: weights as the A operand in registers, tokens as the columns of wgmma |
//! | `mma` | the kernel for few tokens: weights as the A operand of mma.sync, warpgroups that share k |
//! | `format`, `int4`, `int8` | a format: bits, order of codes in a word, the number stored for a zero point |

pub mod block;
pub mod config;
pub mod decode;
pub mod format;
mod int4;
mod int8;
mod mma;
pub mod stream;
mod wgmma;

pub use block::{Blocks, code_words, dequantised, pack, packed_group, rounded, scale_words, unpack, words};
pub use config::{WeightMmaConfig, WeightWgmmaConfig};
pub use format::Format;
pub use mma::mma;
pub use wgmma::wgmma;
