//! Attention: `o = softmax(score(scale * q k^T)) v` and the log of its denominators, over tensors or over a paged cache.
//!
//! | file | holds |
//! |---|---|
//! | `problem` | the forward's class: dtypes, head dims, masks, score terms, sparsity |
//! | `decode_problem` | the class of attention over a paged cache |
//! | `class` | reading class keys |

mod class;
mod decode_problem;
mod problem;

pub use decode_problem::{DecodeProblem, Select};
pub use problem::{AttentionProblem, HEAD_DIMS, ProblemError, Sparse};
