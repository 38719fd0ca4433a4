//! Tensor maps in the driver's encoding.

use std::ptr;

use cudarc::driver::sys;

use crate::device::{DeviceError, EncodedTensorMap, TensorMapArg, TensorMapDesc};
use crate::dtype::Dtype;
use crate::manifest::{Interleave, L2Promotion, OobFill, Swizzle};

use super::driver::check;

/// The 128 bytes for `desc`, whose `rank` is 1 to 5.
pub(super) fn encode(desc: &TensorMapDesc) -> Result<EncodedTensorMap, DeviceError> {
    let mut encoded = EncodedTensorMap::default();
    // SAFETY: `encoded` has the size and alignment of CUtensorMap (a test holds them together); the arrays hold five and
    // four entries, and the driver reads `rank` and `rank - 1` of them. The address is stored, not read.
    let result = unsafe {
        sys::cuTensorMapEncodeTiled(
            ptr::from_mut(&mut encoded).cast(),
            data_type(desc.dtype),
            desc.rank as u32,
            address(desc.address),
            desc.dims.as_ptr(),
            desc.strides.as_ptr(),
            desc.box_dims.as_ptr(),
            desc.element_strides.as_ptr(),
            interleave(desc.interleave),
            swizzle(desc.swizzle),
            l2_promotion(desc.l2_promotion),
            oob_fill(desc.oob),
        )
    };
    check(result, "cuTensorMapEncodeTiled", || format!("encoding {desc:?}"))?;
    Ok(encoded)
}

/// Encodes the map the first time and only replaces the address after that, which is several times cheaper.
pub(super) fn rebase(map: &mut TensorMapArg, to: u64) -> Result<(), DeviceError> {
    let fresh = map.encoded == EncodedTensorMap::default();
    map.desc.address = to;
    if fresh {
        map.encoded = encode(&map.desc)?;
        return Ok(());
    }
    // SAFETY: `encoded` came from `encode`; the address is stored, not read.
    let result = unsafe { sys::cuTensorMapReplaceAddress(ptr::from_mut(&mut map.encoded).cast(), address(to)) };
    check(result, "cuTensorMapReplaceAddress", || format!("moving a tensor map to {to:#x}"))
}

fn address(address: u64) -> *mut std::ffi::c_void {
    ptr::without_provenance_mut(address as usize)
}

fn data_type(dtype: Dtype) -> sys::CUtensorMapDataType {
    use sys::CUtensorMapDataType as T;
    match dtype {
        Dtype::F64 => T::CU_TENSOR_MAP_DATA_TYPE_FLOAT64,
        Dtype::F32 => T::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
        Dtype::Tf32 => T::CU_TENSOR_MAP_DATA_TYPE_TFLOAT32,
        Dtype::F16 => T::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        Dtype::Bf16 => T::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        Dtype::I64 => T::CU_TENSOR_MAP_DATA_TYPE_INT64,
        Dtype::I32 => T::CU_TENSOR_MAP_DATA_TYPE_INT32,
        Dtype::U32 => T::CU_TENSOR_MAP_DATA_TYPE_UINT32,
        Dtype::U16 => T::CU_TENSOR_MAP_DATA_TYPE_UINT16,
        // The copy engine has no 8-bit floats and needs none: it moves bytes.
        Dtype::E4m3 | Dtype::E5m2 | Dtype::I8 | Dtype::U8 => T::CU_TENSOR_MAP_DATA_TYPE_UINT8,
    }
}

fn swizzle(swizzle: Swizzle) -> sys::CUtensorMapSwizzle {
    use sys::CUtensorMapSwizzle as S;
    match swizzle {
        Swizzle::None => S::CU_TENSOR_MAP_SWIZZLE_NONE,
        Swizzle::B32 => S::CU_TENSOR_MAP_SWIZZLE_32B,
        Swizzle::B64 => S::CU_TENSOR_MAP_SWIZZLE_64B,
        Swizzle::B128 => S::CU_TENSOR_MAP_SWIZZLE_128B,
    }
}

fn interleave(interleave: Interleave) -> sys::CUtensorMapInterleave {
    use sys::CUtensorMapInterleave as I;
    match interleave {
        Interleave::None => I::CU_TENSOR_MAP_INTERLEAVE_NONE,
        Interleave::B16 => I::CU_TENSOR_MAP_INTERLEAVE_16B,
        Interleave::B32 => I::CU_TENSOR_MAP_INTERLEAVE_32B,
    }
}

fn l2_promotion(promotion: L2Promotion) -> sys::CUtensorMapL2promotion {
    use sys::CUtensorMapL2promotion as L;
    match promotion {
        L2Promotion::None => L::CU_TENSOR_MAP_L2_PROMOTION_NONE,
        L2Promotion::B64 => L::CU_TENSOR_MAP_L2_PROMOTION_L2_64B,
        L2Promotion::B128 => L::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
        L2Promotion::B256 => L::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
    }
}

fn oob_fill(fill: OobFill) -> sys::CUtensorMapFloatOOBfill {
    use sys::CUtensorMapFloatOOBfill as O;
    match fill {
        OobFill::Zero => O::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        OobFill::Nan => O::CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA,
    }
}
