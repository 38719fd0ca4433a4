//! Made-up tensors, and their bytes.

use half::{bf16, f16};
use tilewright_ir::DType;
use tilewright_runtime::fp8::Fp8;

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

    /// Numbers that the dtype holds: in -1..1, of I8 in -127..127.
    pub fn list(&mut self, dtype: DType, n: usize) -> Vec<f64> {
        let range = if dtype == DType::I8 { 127.0 } else { 1.0 };
        let values: Vec<f64> = (0..n).map(|_| range * self.unit()).collect();
        decode(dtype, &encode(dtype, &values))
    }
}

/// Numbers that the dtype holds, as [`Random::list`].
pub fn random(n: usize, dtype: DType, seed: u64) -> Vec<f64> {
    Random::new(seed).list(dtype, n)
}

/// Elements as bytes, to nearest; 8-bit ones saturate.
pub fn encode(dtype: DType, v: &[f64]) -> Vec<u8> {
    match dtype {
        DType::BF16 => v.iter().flat_map(|x| bf16::from_f64(*x).to_le_bytes()).collect(),
        DType::F16 => v.iter().flat_map(|x| f16::from_f64(*x).to_le_bytes()).collect(),
        DType::F32 => v.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
        DType::E4M3 => v.iter().map(|x| Fp8::E4M3.encode(*x)).collect(),
        DType::E5M2 => v.iter().map(|x| Fp8::E5M2.encode(*x)).collect(),
        DType::I8 => v.iter().map(|x| x.round_ties_even().clamp(-128.0, 127.0) as i8 as u8).collect(),
        DType::I32 => v.iter().flat_map(|x| (*x as i32).to_le_bytes()).collect(),
        other => panic!("{other} has no numbers"),
    }
}

/// The inverse of [`encode`].
pub fn decode(dtype: DType, v: &[u8]) -> Vec<f64> {
    match dtype {
        DType::BF16 => v.chunks(2).map(|b| f64::from(bf16::from_le_bytes([b[0], b[1]]))).collect(),
        DType::F16 => v.chunks(2).map(|b| f64::from(f16::from_le_bytes([b[0], b[1]]))).collect(),
        DType::E4M3 => v.iter().map(|b| f64::from(Fp8::E4M3.decode(*b))).collect(),
        DType::E5M2 => v.iter().map(|b| f64::from(Fp8::E5M2.decode(*b))).collect(),
        DType::I8 => v.iter().map(|b| f64::from(*b as i8)).collect(),
        DType::I32 => v.chunks(4).map(|b| f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
        DType::F32 => v.chunks(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
        other => panic!("{other} has no numbers"),
    }
}

/// I32 as bytes.
pub fn i32s(v: &[i32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}
