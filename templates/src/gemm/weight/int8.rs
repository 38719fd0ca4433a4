//! Codes of 8 bits: two words are one lane's part of an m16k16 A fragment, a vector of four words that of a chunk of 32 columns.
//!
//! Bytes are in the order of values. A byte above `0x64` is the F16 number `1024 + code`, so zero points that go with F16 have 1024 added;
//! BF16 has not enough mantissa bits for that trick with 8 bits, and its zero points are the number itself.

use super::format::Format;

/// The format.
pub const FORMAT: Format = Format { bits: 8, chunk_k: 32, words_per_step: 2, slots: &[0, 1, 2, 3], biases: [0, 1024] };
