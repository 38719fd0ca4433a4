//! Tensor maps as 128 opaque bytes. The layout is the emulator's own: the driver's is not documented.

use crate::program::memory_op::MapField;
use crate::tensor::im2col::Im2col;
use crate::tensor::swizzle::Swizzle;
use crate::tensor::tma::{Interleave, OobFill, TensorDType, TensorMap, TensorMapError};

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

const INTERLEAVES: [Interleave; 3] = [Interleave::None, Interleave::B16, Interleave::B32];
const RANK_AT: usize = 16;
const DTYPE_AT: usize = 17;
const SWIZZLE_AT: usize = 18;
/// Bit 0: NaN fill; above it the interleave mode.
const FLAGS_AT: usize = 19;
const DIMS_AT: usize = 20;
/// Of a dimension: 5 bytes of size, 5 of the stride to the next, 2 of the box, 1 of the element stride.
const DIM_BYTES: usize = 13;

/// Why 128 bytes cannot be used as a map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    #[error("these 128 bytes are not a tensor map: encode one on the host, or build one with tensormap.replace")]
    NotMap,
    #[error("the tensor map breaks a rule: {0}")]
    Rule(#[from] TensorMapError),
}

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
    let interleave = INTERLEAVES.iter().position(|mode| *mode == map.interleave).unwrap_or(0) as u8;
    put(&[map.rank() as u8, dtype, swizzle, u8::from(map.oob_fill == OobFill::Nan) | (interleave << 1)]);
    for dim in 0..RANK_MAX {
        put(&map.dims.get(dim).copied().unwrap_or(0).to_le_bytes()[..5]);
        put(&map.strides.get(dim).copied().unwrap_or(0).to_le_bytes()[..5]);
        put(&map.box_dims.get(dim).copied().unwrap_or(0).to_le_bytes()[..2]);
        put(&map.element_strides.get(dim).copied().unwrap_or(0).to_le_bytes()[..1]);
    }
    seal(&mut out);
    out
}

/// Of im2col maps: 1 more than the pixels, so that 0 says tiled; then three lower and three upper corners of two bytes.
const PIXELS_AT: usize = DIMS_AT + DIM_BYTES * RANK_MAX;

/// Writes an im2col map; the box of `map` is the channels of one pixel.
pub fn encode_im2col(map: &TensorMap, window: &Im2col) -> [u8; BYTES] {
    let mut out = encode(map);
    out[PIXELS_AT..PIXELS_AT + 2].copy_from_slice(&(window.pixels as u16 + 1).to_le_bytes());
    for (corner, values) in [&window.lower, &window.upper].into_iter().enumerate() {
        for (dim, value) in values.iter().enumerate() {
            let at = PIXELS_AT + 2 + 6 * corner + 2 * dim;
            out[at..at + 2].copy_from_slice(&(*value as i16).to_le_bytes());
        }
    }
    seal(&mut out);
    out
}

/// The window of an im2col map; `None` for a tiled one.
pub fn window(bytes: &[u8; BYTES], map: &TensorMap) -> Option<Im2col> {
    let short = |at: usize| [bytes[at], bytes[at + 1]];
    let pixels = u32::from(u16::from_le_bytes(short(PIXELS_AT))).checked_sub(1)?;
    let corner = |which: usize| {
        let spatial = 0..map.rank().saturating_sub(2);
        spatial.map(|dim| i16::from_le_bytes(short(PIXELS_AT + 2 + 6 * which + 2 * dim)).into()).collect()
    };
    Some(Im2col { lower: corner(0), upper: corner(1), channels: map.box_dims[0], pixels })
}

fn seal(bytes: &mut [u8; BYTES]) {
    let sum = checksum(bytes);
    bytes[BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
}

fn is_sealed(bytes: &[u8; BYTES]) -> bool {
    bytes[..8] == MAGIC && checksum(bytes).to_le_bytes() == bytes[BYTES - 4..]
}

/// The number that `tensormap.replace` has for an element type (PTX ISA 9.7.9.28, table of `elemtype`), as this
/// layout's; `None` for the types that change values on the way and the packed ones.
pub fn element_code(code: u32) -> Option<u32> {
    use TensorDType as T;
    let dtype = match code {
        0 => T::U8,
        1 => T::U16,
        2 => T::U32,
        3 => T::S32,
        4 => T::U64,
        5 => T::S64,
        6 => T::F16,
        7 => T::F32,
        9 => T::F64,
        10 => T::Bf16,
        _ => return None,
    };
    DTYPES.iter().position(|other| *other == dtype).map(|at| at as u32)
}

/// Changes one field of a map, which may start as zeros and need not keep the rules until a copy uses it. Values too
/// large for their field become the largest, which no rule allows. False if the bytes are neither a map nor zeros.
pub fn replace(bytes: &mut [u8; BYTES], field: MapField, value: u64) -> bool {
    if bytes.iter().all(|byte| *byte == 0) {
        bytes[..8].copy_from_slice(&MAGIC);
    } else if !is_sealed(bytes) {
        return false;
    }
    let mut put = |at: usize, len: usize| {
        let most = if len == 8 { u64::MAX } else { (1 << (8 * len)) - 1 };
        bytes[at..at + len].copy_from_slice(&value.min(most).to_le_bytes()[..len]);
    };
    let dim = |dim: u32, skip: usize| DIMS_AT + DIM_BYTES * dim as usize + skip;
    match field {
        MapField::GlobalAddress => put(8, 8),
        MapField::Rank => bytes[RANK_AT] = value.saturating_add(1).min(255) as u8,
        MapField::GlobalDim(at) => put(dim(at, 0), 5),
        MapField::GlobalStride(at) => put(dim(at, 5), 5),
        MapField::BoxDim(at) => put(dim(at, 10), 2),
        MapField::ElementStride(at) => put(dim(at, 12), 1),
        MapField::ElementType => put(DTYPE_AT, 1),
        MapField::Swizzle => put(SWIZZLE_AT, 1),
        MapField::Interleave => bytes[FLAGS_AT] = (bytes[FLAGS_AT] & 1) | ((value as u8 & 3) << 1),
        MapField::Fill => bytes[FLAGS_AT] = (bytes[FLAGS_AT] & !1) | (value as u8 & 1),
    }
    seal(bytes);
    true
}

/// Reads a map back.
pub fn decode(bytes: &[u8; BYTES]) -> Result<TensorMap, MapError> {
    if !is_sealed(bytes) {
        return Err(MapError::NotMap);
    }
    let body = bytes;
    let number = |at: usize, len: usize| {
        let mut value = [0; 8];
        value[..len].copy_from_slice(&body[at..at + len]);
        u64::from_le_bytes(value)
    };
    let rank = usize::from(bytes[RANK_AT]);
    if !(1..=RANK_MAX).contains(&rank) {
        return Err(TensorMapError::Rank { rank }.into());
    }
    let field = |dim: usize, skip: usize, len: usize| number(DIMS_AT + DIM_BYTES * dim + skip, len);
    let map = TensorMap {
        dtype: *DTYPES.get(usize::from(bytes[DTYPE_AT])).ok_or(MapError::NotMap)?,
        base: number(8, 8),
        dims: (0..rank.min(RANK_MAX)).map(|dim| field(dim, 0, 5)).collect(),
        strides: (0..rank.min(RANK_MAX).saturating_sub(1)).map(|dim| field(dim, 5, 5)).collect(),
        box_dims: (0..rank.min(RANK_MAX)).map(|dim| field(dim, 10, 2) as u32).collect(),
        element_strides: (0..rank.min(RANK_MAX)).map(|dim| field(dim, 12, 1) as u32).collect(),
        swizzle: *Swizzle::ALL.get(usize::from(bytes[SWIZZLE_AT])).ok_or(MapError::NotMap)?,
        interleave: *INTERLEAVES.get(usize::from(bytes[FLAGS_AT] >> 1)).ok_or(MapError::NotMap)?,
        oob_fill: if bytes[FLAGS_AT] & 1 == 1 { OobFill::Nan } else { OobFill::Zero },
    };
    map.validate()?;
    Ok(map)
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
        assert_eq!(decode(&bytes), Ok(map));
        bytes[30] ^= 1;
        assert_eq!(decode(&bytes), Err(MapError::NotMap));
        assert_eq!(decode(&[0; BYTES]), Err(MapError::NotMap));
    }

    #[test]
    fn fields_replaced_one_by_one_make_the_map_the_host_encodes() {
        let map = TensorMap {
            dtype: TensorDType::Bf16,
            base: 0x7_1234_5600,
            dims: vec![300, 17],
            strides: vec![1 << 33],
            box_dims: vec![64, 16],
            element_strides: vec![1, 2],
            swizzle: Swizzle::B128,
            interleave: Interleave::None,
            oob_fill: OobFill::Nan,
        };
        let fields = [
            (MapField::GlobalAddress, map.base),
            (MapField::Rank, 1),
            (MapField::GlobalDim(0), 300),
            (MapField::GlobalDim(1), 17),
            (MapField::GlobalStride(0), 1 << 33),
            (MapField::BoxDim(0), 64),
            (MapField::BoxDim(1), 16),
            (MapField::ElementStride(0), 1),
            (MapField::ElementStride(1), 2),
            (MapField::ElementType, u64::from(element_code(10).expect("bf16"))),
            (MapField::Interleave, 0),
            (MapField::Swizzle, 3),
            (MapField::Fill, 1),
        ];
        let mut bytes = [0; BYTES];
        for (at, (field, value)) in fields.into_iter().enumerate() {
            // Until the last element stride is there; what follows may be zero.
            assert!(at > 8 || decode(&bytes).is_err(), "a map with {at} fields");
            assert!(replace(&mut bytes, field, value));
        }
        assert_eq!(bytes, encode(&map));
        assert!(replace(&mut bytes, MapField::BoxDim(0), 1 << 20));
        assert_eq!(decode(&bytes), Err(TensorMapError::Box { dim: 0, size: 65_535 }.into()));
        bytes[40] ^= 1;
        assert!(!replace(&mut bytes, MapField::Rank, 1));
    }
}
