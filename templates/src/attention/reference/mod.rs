//! What attention is by definition, in f64, and how far from it a kernel may be.
//!
//! | file | holds |
//! |---|---|
//! | `bound` | expected values with their bounds |
//! | `mask` | which keys a query sees |
//! | `row` | one query: scores, output, LSE, and the derivation of the bound |
//! | `forward`, `decode` | all queries over tensors, and over a paged cache |
//! | `merge` | partial results joined |
//! | `pages` | bounds of pages, and selections that are right |

mod bound;
mod decode;
mod forward;
mod mask;
mod merge;
mod pages;
mod row;
#[cfg(test)]
mod tests;

pub use bound::{Expected, Miss, Numerics};
pub use decode::{DecodeOperands, decode_reference};
pub use forward::{AttentionOperands, BlockMask, Streaming, attention_reference};
pub use merge::{MergeOperands, merge_reference};
pub use pages::{PageOperands, page_select_check, page_stats_reference};

/// What an attention op gives.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionReference {
    /// The output, in its tensor's order.
    pub o: Expected,
    /// The log of the denominators, in its tensor's order.
    pub lse: Expected,
}
