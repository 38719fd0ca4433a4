//! What the packed form needs to know of a format: how many bits, which codes a word holds, and the number stored for a
//! zero point. One row for each format, in a file of its own.

use super::{int4, int8};
use tilewright_ir::DType;

/// A format of codes.
#[derive(Debug)]
pub struct Format {
    /// Bits of a code.
    pub bits: u32,
    /// Columns of a chunk of codes.
    pub chunk_k: usize,
    /// Words of a lane's part of one m16k16 A fragment.
    pub words_per_step: usize,
    /// Slot of each value of a word, in units of `bits`: the values are those of the fragment in register order.
    pub slots: &'static [u32],
    /// What is added to a zero point of weights that become BF16, F16.
    pub biases: [u32; 2],
}

/// A value of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// Row in the block.
    pub row: usize,
    /// Column in the chunk.
    pub col: usize,
    /// Its lowest bit.
    pub shift: u32,
}

impl Format {
    /// The format of a number of bits.
    ///
    /// # Panics
    /// If no format has them: a class with such a weight does not parse.
    pub fn of(bits: u32) -> &'static Format {
        let hit = [&int4::FORMAT, &int8::FORMAT].into_iter().find(|f| f.bits == bits);
        hit.expect("packed weights have 4 or 8 bits")
    }

    /// Half the range of the codes: the zero point of weights that have none of their own.
    pub fn middle(&self) -> u32 {
        1 << (self.bits - 1)
    }

    /// What is added to a zero point of weights that become `dtype`.
    pub fn bias(&self, dtype: DType) -> u32 {
        self.biases[usize::from(dtype == DType::F16)]
    }

    /// Word and bit of the code at a row and a column of a block.
    ///
    /// Value i of lane `l` of warp `w` in the A fragment of m16k16 is row `16 w + l/4 + 8 (i/2 % 2)`, column `2 (l%4) + i%2 + 8 (i/4)` (PTX ISA,
    /// "Matrix fragments for mma.m16n8k16 with floating point type", and for wgmma, "Register fragments").
    pub fn place(&self, row: usize, col: usize) -> (usize, u32) {
        let (chunk, col) = (col / self.chunk_k, col % self.chunk_k);
        let (step, in_step) = (col / 16, col % 16);
        let lane = 32 * (row / 16) + 4 * (row % 8) + in_step % 8 / 2;
        let value = col % 2 + 2 * (row / 8 % 2) + 4 * (in_step / 8);
        let word = step * self.words_per_step + value / self.slots.len();
        (chunk * super::block::CHUNK + 4 * lane + word, self.bits * self.slots[value % self.slots.len()])
    }

    /// First row and column of a word of a chunk: those of its value 0.
    pub fn first(&self, word: usize) -> (usize, usize) {
        let (lane, s) = (word / 4, word % 4);
        let (step, half) = (s / self.words_per_step, s % self.words_per_step);
        (16 * (lane / 32) + lane % 32 / 4, 16 * step + 2 * (lane % 4) + 8 * half)
    }

    /// Rows and columns of the values of a word beyond its first, and their bits: the same for every word.
    pub fn values(&self) -> impl Iterator<Item = Value> + '_ {
        self.slots.iter().enumerate().map(|(i, slot)| Value {
            row: 8 * (i / 2 % 2),
            col: i % 2 + 8 * (i / 4),
            shift: self.bits * slot,
        })
    }

    /// The values of a word of a chunk.
    pub fn word(&self, word: usize) -> Vec<Value> {
        let (row, col) = self.first(word);
        self.values().map(|v| Value { row: row + v.row, col: col + v.col, shift: v.shift }).collect()
    }
}
