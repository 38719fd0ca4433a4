//! Codes of 4 bits: a word is one lane's part of an m16k16 A fragment, a vector of four words that of a chunk of 64 columns.
//!
//! Values stand in the nibbles so that `(word >> 4 j) & 0x000f000f` is the pair (2 j, 2 j + 1), j = 0..4, in the halves of a register: two
//! neighbours along k, as the fragment has them. OR-ed into the mantissa of 128 (BF16) or 1024 (F16) the pair is `128 + code` or
//! `1024 + code` exactly, so a zero point is stored with the same number added (Kim et al., "Who Says Elephants Can't Run", arXiv
//! 2211.10017).

use super::format::Format;

/// The format.
pub const FORMAT: Format =
    Format { bits: 4, chunk_k: 64, words_per_step: 1, slots: &[0, 4, 1, 5, 2, 6, 3, 7], biases: [128, 1024] };
