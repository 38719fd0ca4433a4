//! Running with tensors as frameworks hand them over: DLPack 1.x.
//!
//! Structures and numbers are those of `dlpack.h`, version 1.1 (<https://dmlc.github.io/dlpack/latest/c_api.html>). Tensors
//! are looked at and never taken over: no deleter is called.

use std::ffi::{c_int, c_void};

use tilewright_runtime::device::Stream;
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::engine::TensorInfo;
use tilewright_runtime::plan::Role;

use crate::device::AnyDevice;
use crate::op::OpHandle;
use crate::read::{handle, list, target};
use crate::status::{Failure, guard, invalid};

/// The major version whose layout this is.
const MAJOR: u32 = 1;
/// `DLPACK_FLAG_BITMASK_READ_ONLY`.
const READ_ONLY: u64 = 1;

/// What every first element must be aligned to: the widest access of a kernel (`cp.async` and vector loads of 16 bytes). A
/// slice of a tensor may start anywhere, and a GPU that meets it is lost to the whole process.
const ALIGNMENT: u64 = 16;

const CUDA: c_int = 2;
/// `kDLExtDev`, which DLPack keeps for trying out devices: what addresses of the emulator are called.
#[cfg(feature = "emulator")]
const EXTENSION: c_int = 12;
const CUDA_MANAGED: c_int = 13;

/// Names of `DLDeviceType`, by number.
const DEVICES: [&str; 18] = [
    "no device",
    "kDLCPU",
    "kDLCUDA",
    "kDLCUDAHost",
    "kDLOpenCL",
    "device 5",
    "device 6",
    "kDLVulkan",
    "kDLMetal",
    "kDLVPI",
    "kDLROCM",
    "kDLROCMHost",
    "kDLExtDev",
    "kDLCUDAManaged",
    "kDLOneAPI",
    "kDLWebGPU",
    "kDLHexagon",
    "kDLMAIA",
];

/// Names of `DLDataTypeCode`, by number.
const CODES: [&str; 18] = [
    "kDLInt",
    "kDLUInt",
    "kDLFloat",
    "kDLOpaqueHandle",
    "kDLBfloat",
    "kDLComplex",
    "kDLBool",
    "kDLFloat8_e3m4",
    "kDLFloat8_e4m3",
    "kDLFloat8_e4m3b11fnuz",
    "kDLFloat8_e4m3fn",
    "kDLFloat8_e4m3fnuz",
    "kDLFloat8_e5m2",
    "kDLFloat8_e5m2fnuz",
    "kDLFloat8_e8m0fnu",
    "kDLFloat6_e2m3fn",
    "kDLFloat6_e3m2fn",
    "kDLFloat4_e2m1fn",
];

/// `DLPackVersion`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DLPackVersion {
    /// The layout.
    pub major: u32,
    /// Additions to it.
    pub minor: u32,
}

/// `DLDevice`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DLDevice {
    /// A `DLDeviceType`.
    pub device_type: c_int,
    /// Which of them.
    pub device_id: i32,
}

/// `DLDataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DLDataType {
    /// A `DLDataTypeCode`.
    pub code: u8,
    /// Bits of a lane.
    pub bits: u8,
    /// Lanes of an element.
    pub lanes: u16,
}

/// `DLTensor`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DLTensor {
    /// Where the memory starts.
    pub data: *mut c_void,
    /// Where it is.
    pub device: DLDevice,
    /// Dimensions.
    pub ndim: i32,
    /// Of each element.
    pub dtype: DLDataType,
    /// Extents, outermost first.
    pub shape: *mut i64,
    /// Steps in elements; null for row-major.
    pub strides: *mut i64,
    /// From `data` to the first element.
    pub byte_offset: u64,
}

/// `DLManagedTensorVersioned`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DLManagedTensorVersioned {
    /// Of the structure.
    pub version: DLPackVersion,
    /// The framework's own.
    pub manager_ctx: *mut c_void,
    /// Frees it; not called here.
    pub deleter: Option<unsafe extern "C" fn(*mut DLManagedTensorVersioned)>,
    /// Bit 0: read only.
    pub flags: u64,
    /// The tensor.
    pub dl_tensor: DLTensor,
}

/// tw_run with DLPack tensors (DLPack 1.x), one for each tensor of the op, in its order. Refused unless device, dtype,
/// shape, strides (dense and row-major; null is allowed) and alignment are what the op takes, and an output may be written;
/// the error names the tensor and what is wrong with it. Leading extents of 1 may be left out or added. On a GPU tensors
/// are kDLCUDA or kDLCUDAManaged, on the emulator kDLExtDev 0 with addresses of tw_alloc as data. The tensors stay the
/// caller's: no deleter is called. First elements lie on multiples of 16 bytes. Allocates nothing.
///
/// # Safety
/// `op` is null or prepared, not closed and in no other call; `tensors` is null or holds `count` pointers, each null or to
/// a tensor that keeps DLPack's rules; `stream` is null or a stream of the device's primary context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_run_dlpack(
    op: *mut OpHandle,
    tensors: *const *const DLManagedTensorVersioned,
    count: u32,
    stream: *mut c_void,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (op, given) = unsafe { (target("op", op)?, list("tensors", tensors, count as usize)?) };
        let OpHandle { ready, engine, addresses, .. } = op;
        let wanted = ready.tensors();
        if given.len() != wanted.len() {
            return Err(invalid(format!("the op takes {} tensors and {count} were given", wanted.len())));
        }
        for ((info, &tensor), address) in wanted.iter().zip(given).zip(addresses.iter_mut()) {
            let told = |Failure(status, why)| Failure(status, format!("tensor `{}`: {why}", info.name));
            // SAFETY: the caller's promise above.
            *address = unsafe { address_of(info, tensor, engine.device()) }.map_err(told)?;
        }
        Ok(engine.launch(ready, addresses, Stream(stream.addr()))?)
    })
}

/// The address of a tensor's first element, if it is one that the op takes.
///
/// # Safety
/// `tensor` is null or keeps DLPack's rules.
unsafe fn address_of(info: &TensorInfo, tensor: *const DLManagedTensorVersioned, device: &AnyDevice) -> Result<u64, Failure> {
    // SAFETY: the caller's promise.
    let managed = unsafe { handle("pointer", tensor)? };
    let DLPackVersion { major, minor } = managed.version;
    if major != MAJOR {
        return Err(invalid(format!("DLPack {major}.{minor}: only version {MAJOR} is understood")));
    }
    if info.role == Role::Output && managed.flags & READ_ONLY != 0 {
        return Err(invalid("read only, and the run writes it".to_owned()));
    }
    let tensor = &managed.dl_tensor;
    check_device(tensor.device, device)?;
    check_dtype(tensor.dtype, info.dtype)?;
    let rank = usize::try_from(tensor.ndim).map_err(|_| invalid(format!("ndim is {}", tensor.ndim)))?;
    // SAFETY: the caller's promise; DLPack gives `shape` as many entries as dims.
    let shape = unsafe { list("shape", tensor.shape, rank)? };
    if !same_shape(shape, &info.shape) {
        return Err(invalid(format!("shape {shape:?}, and the op takes {:?}", info.shape)));
    }
    if !tensor.strides.is_null() {
        // SAFETY: not null, so as many entries as dims.
        let strides = unsafe { list("strides", tensor.strides, rank)? };
        if !is_dense(shape, strides) {
            return Err(invalid(format!("strides {strides:?} of shape {shape:?} are not dense and row-major: copy it first")));
        }
    }
    let start = tensor.data.addr() as u64;
    let address = start.checked_add(tensor.byte_offset);
    let address = address.ok_or_else(|| invalid(format!("byte_offset {} is too large", tensor.byte_offset)))?;
    let alignment = info.alignment.max(ALIGNMENT);
    if !address.is_multiple_of(alignment) {
        return Err(invalid(format!("address {address:#x} is no multiple of {alignment}: copy it first")));
    }
    Ok(address)
}

fn check_device(given: DLDevice, device: &AnyDevice) -> Result<(), Failure> {
    let DLDevice { device_type, device_id } = given;
    let fits = match device {
        AnyDevice::Cuda(_, ordinal) => [CUDA, CUDA_MANAGED].contains(&device_type) && i64::from(device_id) == i64::from(*ordinal),
        #[cfg(feature = "emulator")]
        AnyDevice::Emulator(_) => device_type == EXTENSION && device_id == 0,
    };
    if fits {
        return Ok(());
    }
    let name = usize::try_from(device_type).ok().and_then(|at| DEVICES.get(at)).copied().unwrap_or("unknown device");
    let wanted = match device {
        AnyDevice::Cuda(_, ordinal) => format!("{} {ordinal}", DEVICES[CUDA as usize]),
        #[cfg(feature = "emulator")]
        AnyDevice::Emulator(_) => format!("{} 0, memory of tw_alloc", DEVICES[EXTENSION as usize]),
    };
    Err(invalid(format!("on {name} {device_id}, and the pack is on {device}, which takes {wanted}")))
}

/// An element type in DLPack's words; frameworks give the integer types that have no code of their own as bytes.
fn check_dtype(given: DLDataType, wanted: Dtype) -> Result<(), Failure> {
    let is = |code: u8, bits: u8| given == DLDataType { code, bits, lanes: 1 };
    let fits = match wanted {
        Dtype::I64 => is(0, 64),
        Dtype::I32 => is(0, 32),
        Dtype::I8 => is(0, 8),
        Dtype::U32 => is(1, 32),
        Dtype::U16 => is(1, 16),
        Dtype::U8 => is(1, 8),
        Dtype::F64 => is(2, 64),
        Dtype::F32 | Dtype::Tf32 => is(2, 32),
        Dtype::F16 => is(2, 16),
        Dtype::Bf16 => is(4, 16),
        Dtype::E4m3 => is(10, 8) || is(1, 8),
        Dtype::E5m2 => is(12, 8) || is(1, 8),
    };
    if fits {
        return Ok(());
    }
    let code = CODES.get(usize::from(given.code)).copied().unwrap_or("an unknown code");
    let DLDataType { bits, lanes, .. } = given;
    Err(invalid(format!("dtype {code} of {bits} bits and {lanes} lanes, and the op takes {wanted}")))
}

/// Whether the extents are the same but for leading ones.
fn same_shape(given: &[i64], wanted: &[u64]) -> bool {
    let given_from = given.iter().position(|&extent| extent != 1).unwrap_or(given.len());
    let wanted_from = wanted.iter().position(|&extent| extent != 1).unwrap_or(wanted.len());
    given[given_from..].iter().map(|&extent| u64::try_from(extent).ok()).eq(wanted[wanted_from..].iter().copied().map(Some))
}

/// Whether the strides are those of a row-major tensor; where nothing is stepped over, a stride does not count.
fn is_dense(shape: &[i64], strides: &[i64]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut step = 1i64;
    shape.iter().zip(strides).rev().all(|(&extent, &stride)| {
        let fits = extent == 1 || stride == step;
        step = step.saturating_mul(extent);
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_equal_but_for_leading_ones() {
        assert!(same_shape(&[3, 4], &[1, 3, 4]) && same_shape(&[1, 1, 3, 4], &[1, 3, 4]) && same_shape(&[], &[1, 1]));
        assert!(!same_shape(&[4, 3], &[1, 3, 4]) && !same_shape(&[2, 3, 4], &[1, 3, 4]) && !same_shape(&[-3, 4], &[3, 4]));
    }

    #[test]
    fn row_major_is_what_memory_order_says() {
        assert!(is_dense(&[2, 3, 4], &[12, 4, 1]) && is_dense(&[2, 1, 4], &[4, 77, 1]) && is_dense(&[0, 4], &[9, 9]));
        assert!(!is_dense(&[2, 3, 4], &[1, 2, 6]) && !is_dense(&[2, 3], &[4, 1]) && !is_dense(&[2, 2], &[0, 1]));
    }
}
