//! Weights of a few bits: from a checkpoint to the packed form the kernels read, and back.
//!
//! | file | holds |
//! |---|---|
//! | `block` | the packed form as functions; packing and unpacking on the host, the kernels' witness |
//! | `decode` | from codes to an MMA operand, in registers |
//! | `config` | configs of the kernels that multiply |
//! | `stream` | stream-K: how CTAs share blocks, and the kernel that adds up what they share |
//! | `wgmma` | the Hopper kernel: weights as the A operand in registers, tokens as the columns of wgmma |
//! | `budget` | what decoding may cost while memory stays the limit |
//! | `mma` | the kernel for few tokens: weights as the A operand of mma.sync, warpgroups that share k |
//! | `format`, `int4`, `int8` | a format: bits, order of codes in a word, the number stored for a zero point |
//! | `source` | where codes, zero points and scales lie in a checkpoint, for the host and for kernels |
//! | `pack`, `unpack` | the kernels from a source to the packed form, and from there to dense weights |
//! | `order` | columns of a in the order of a packed weight |
//! | `plan` | packing, unpacking and gathering as launches before a multiplication |

pub mod block;
mod budget;
pub mod config;
pub mod decode;
pub mod format;
mod int4;
mod int8;
mod mma;
mod order;
mod pack;
mod plan;
pub mod source;
pub(in crate::gemm) mod space;
pub mod stream;
mod unpack;
mod wgmma;

pub use block::{Blocks, code_words, dequantised, pack, packed_group, rounded, scale_words, unpack, words};
pub use budget::budget;
pub use config::{WeightMmaConfig, WeightWgmmaConfig};
pub use format::Format;
pub use mma::mma;
pub use order::{copy_kernel, gather_kernel};
pub use pack::{PackProblem, pack_kernel};
pub use plan::{WeightClass, dense, dequantised_plan, pack_plan, unpacked_first, with_perm, with_source};
pub(in crate::gemm) use plan::{packed_tensor, row_align};
pub use source::{Source, Stored};
pub use unpack::{UnpackProblem, unpack_kernel};
pub use wgmma::wgmma;
