//! Made-up tensors, and their bytes.

use half::{bf16, f16};
use tilewright_ir::DType;

/// The same numbers in every run: xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators").
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// 24 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40
    }

    /// A number in -1..1.
    pub fn unit(&mut self) -> f64 {
        self.bits() as f64 / f64::from(1u32 << 23) - 1.0
    }

    /// Numbers in -1..1 that the dtype holds.
    pub fn list(&mut self, dtype: DType, n: usize) -> Vec<f64> {
        let values: Vec<f64> = (0..n).map(|_| self.unit()).collect();
        decode(dtype, &encode(dtype, &values))
    }
}

/// Numbers in -1..1 that the dtype holds.
pub fn random(n: usize, dtype: DType, seed: u64) -> Vec<f64> {
    Random::new(seed).list(dtype, n)
}

/// Elements of a float dtype as bytes, to nearest.
pub fn encode(dtype: DType, v: &[f64]) -> Vec<u8> {
    match dtype {
        DType::BF16 => v.iter().flat_map(|x| bf16::from_f64(*x).to_le_bytes()).collect(),
        DType::F16 => v.iter().flat_map(|x| f16::from_f64(*x).to_le_bytes()).collect(),
        DType::F32 => v.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
        other => panic!("{other} is no float dtype"),
    }
}

/// The inverse of [`encode`].
pub fn decode(dtype: DType, v: &[u8]) -> Vec<f64> {
    match dtype {
        DType::BF16 => v.chunks(2).map(|b| f64::from(bf16::from_le_bytes([b[0], b[1]]))).collect(),
        DType::F16 => v.chunks(2).map(|b| f64::from(f16::from_le_bytes([b[0], b[1]]))).collect(),
        DType::F32 => v.chunks(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
        other => panic!("{other} is no float dtype"),
    }
}

/// I32 as bytes.
pub fn i32s(v: &[i32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}
