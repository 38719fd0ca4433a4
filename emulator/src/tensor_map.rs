//! Tensor maps as 128 opaque bytes. The layout is the emulator's own: the driver's is not documented.

use crate::tensor::swizzle::Swizzle;
use crate::tensor::tma::{Interleave, OobFill, TensorDType, TensorMap};

/// Bytes of a tensor map.
pub const BYTES: usize = 128;

const MAGIC: [u8; 8] = *b"twtmap01";
const RANK_MAX: usize = 5;

const DTYPES: [TensorDType; 10] = [
    TensorDType::U8,
    TensorDType::U16,
    TensorDType::U32,
    TensorDType::S32,
    TensorDType::U64,
    TensorDType::S64,
    TensorDType::F16,
    TensorDType::Bf16,
    TensorDType::F32,
    TensorDType::F64,
];

/// Writes a map that [`TensorMap::validate`] accepts.
pub fn encode(map: &TensorMap) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&MAGIC);
    put(&map.base.to_le_bytes());
    let dtype = DTYPES.iter().position(|dtype| *dtype == map.dtype).unwrap_or(0) as u8;
    let swizzle = Swizzle::ALL.iter().position(|swizzle| *swizzle == map.swizzle).unwrap_or(0) as u8;
    put(&[map.rank() as u8, dtype, swizzle, u8::from(map.oob_fill == OobFill::Nan)]);
    for dim in 0..RANK_MAX {
        put(&map.dims.get(dim).copied().unwrap_or(0).to_le_bytes()[..5]);
        put(&map.strides.get(dim).copied().unwrap_or(0).to_le_bytes()[..5]);
        put(&map.box_dims.get(dim).copied().unwrap_or(0).to_le_bytes()[..2]);
        put(&map.element_strides.get(dim).copied().unwrap_or(0).to_le_bytes()[..1]);
    }
    let sum = checksum(&out);
    out[BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
    out
}

/// Reads a map back; `None` if these bytes are not one.
pub fn decode(bytes: &[u8; BYTES]) -> Option<TensorMap> {
    let (body, sum) = bytes.split_at(BYTES - 4);
    if bytes[..8] != MAGIC || checksum(bytes).to_le_bytes() != sum {
        return None;
    }
    let number = |at: usize, len: usize| {
        let mut value = [0; 8];
        value[..len].copy_from_slice(&body[at..at + len]);
        u64::from_le_bytes(value)
    };
    let rank = usize::from(bytes[16]);
    let field = |dim: usize, skip: usize, len: usize| number(20 + 13 * dim + skip, len);
    let map = TensorMap {
        dtype: *DTYPES.get(usize::from(bytes[17]))?,
        base: number(8, 8),
        dims: (0..rank.min(RANK_MAX)).map(|dim| field(dim, 0, 5)).collect(),
        strides: (0..rank.min(RANK_MAX).saturating_sub(1)).map(|dim| field(dim, 5, 5)).collect(),
        box_dims: (0..rank.min(RANK_MAX)).map(|dim| field(dim, 10, 2) as u32).collect(),
        element_strides: (0..rank.min(RANK_MAX)).map(|dim| field(dim, 12, 1) as u32).collect(),
        swizzle: *Swizzle::ALL.get(usize::from(bytes[18]))?,
        interleave: Interleave::None,
        oob_fill: if bytes[19] == 1 { OobFill::Nan } else { OobFill::Zero },
    };
    map.validate().is_ok().then_some(map)
}

fn checksum(bytes: &[u8; BYTES]) -> u32 {
    bytes[..BYTES - 4].iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_survive_and_damage_is_seen() {
        let map = TensorMap {
            dtype: TensorDType::Bf16,
            base: 0x7_1234_5600,
            dims: vec![1 << 32, 17, 5],
            strides: vec![1 << 33, 1 << 36],
            box_dims: vec![64, 16, 1],
            element_strides: vec![1, 2, 1],
            swizzle: Swizzle::B128,
            interleave: Interleave::None,
            oob_fill: OobFill::Nan,
        };
        let mut bytes = encode(&map);
        assert_eq!(decode(&bytes), Some(map));
        bytes[30] ^= 1;
        assert_eq!(decode(&bytes), None);
        assert_eq!(decode(&[0; BYTES]), None);
    }
}
