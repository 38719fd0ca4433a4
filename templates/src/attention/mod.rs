//! Attention: `o = softmax(score(scale * q k^T)) v` and the log of its denominators, over tensors or over a paged cache.
//!
//! | file | holds |
//! |---|---|
//! | `problem` | the forward's class: dtypes, head dims, masks, score terms, sparsity |
//! | `decode_problem` | the class of attention over a paged cache |
//! | `class` | reading class keys |
//! | `reference` | f64, and the bounds kernels are held to |
//! | `config` | configs, their constraints, their ids |
//! | `span` | which keys a query sees, which blocks of keys a tile visits |
//! | `score` | scale, softcap, ALiBi, bias, masks, a user's own mods: closures over tiles |
//! | `softmax` | the online softmax |
//! | `blocks` | lists of blocks from block masks and head types |
//! | `kernel` | the forward's and decode's kernels, made |
//! | `operands` | what the forward kernels share: tensors, a tile of queries, its rows, where its result goes |
//! | `paged` | what the decode kernels share: tensors, a CTA's rows and tokens, where its result goes |
//! | `plan` | launches, parameters and requirements for the manifest |
//! | `space` | which configs there are |
//! | `merge` | joins partial results |
//! | `pages` | bounds of a page's keys, scores of pages, the best pages; `page_plan` launches them |
//! | `mma` | cp.async and mma.sync: the forward on sm80, decode over a paged cache |
//! | `wgmma` | the Hopper forward: TMA, warp roles, wgmma; `wgmma/work` says which CTA computes what |

mod blocks;
mod class;
mod config;
mod decode_problem;
mod kernel;
mod merge;
mod mma;
mod operands;
mod page_plan;
mod paged;
mod pages;
mod plan;
mod problem;
mod reference;
mod score;
mod softmax;
mod space;
mod span;
mod wgmma;

pub use blocks::{BlockListProblem, block_lists};
pub use config::{AttentionConfigError, WgmmaAttentionConfig};
pub use decode_problem::{DecodeProblem, Select};
pub use kernel::{AttentionConfig, DecodeConfig, decode_kernel, forward_kernel};
pub use merge::{MergeError, MergeProblem, merge};
pub use mma::{MmaAttentionConfig, decode as mma_decode, forward as mma_forward};
pub use page_plan::{page_select_plan, page_stats_plan};
pub use paged::MAX_QUERIES;
pub use pages::{PageError, PageProblem, page_scores, page_stats, page_top};
pub use plan::{AttentionError, decode_plan, forward_plan, merge_kernel, merge_plan};
pub use problem::{AttentionProblem, HEAD_DIMS, ProblemError, Sparse};
pub use reference::{
    AttentionOperands, AttentionReference, BlockMask, DecodeOperands, Expected, MergeOperands, Miss, Numerics, PageOperands,
    Streaming, attention_reference, decode_reference, merge_reference, page_select_check, page_stats_reference,
};
pub use score::{MaskFn, Mods, Rows, ScoreAt, ScoreFn};
pub use space::{decode_space, default_configs, default_decode_configs, space};
pub use span::{UNLIMITED, Visibility};
pub use wgmma::{WgmmaDecodeConfig, decode as wgmma_decode, forward as wgmma_forward};
