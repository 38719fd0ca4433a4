//! NVIDIA GPUs through the driver, which is looked for at run time: nothing of CUDA is needed to build or to start.
//!
//! Works in the device's primary context, the one that PyTorch and the CUDA runtime use, so their pointers and streams
//! are valid here. Loading needs no compiler when the pack has cubins; PTX is compiled by the driver.

mod clock;
mod driver;
mod encode;

pub use clock::{CudaEvent, CudaFacts, CudaGraph, CudaStream};

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys;

use crate::arch::ComputeCapability;
use crate::compat::CudaVersion;
use crate::device::{
    ArgValue, Device, DeviceError, EncodedTensorMap, Geometry, ImageKind, KernelImage, Stream, TensorMapArg, TensorMapDesc,
};
use crate::validate::MAX_PARAMS;
use driver::{Context, check};

/// Largest cluster that every device of an architecture with clusters can launch.
const PORTABLE_CLUSTER_BLOCKS: u32 = 8;
/// Room for what the driver's PTX compiler has to say.
const JIT_LOG_BYTES: usize = 8192;

/// A GPU.
pub struct CudaDevice {
    context: Arc<Context>,
    name: String,
    capability: ComputeCapability,
    driver: CudaVersion,
    sm_count: u32,
}

/// Device memory.
pub struct CudaBuffer {
    address: sys::CUdeviceptr,
    bytes: u64,
    context: Arc<Context>,
}

/// A loaded kernel.
pub struct CudaKernel {
    id: String,
    function: sys::CUfunction,
    library: sys::CUlibrary,
    context: Arc<Context>,
}

// SAFETY: the driver's handles belong to the process, and its calls may come from any thread (CUDA driver API, "the
// functions are thread safe"); a context is made current around each call.
unsafe impl Send for CudaKernel {}
// SAFETY: as above; nothing here is changed through a shared reference.
unsafe impl Sync for CudaKernel {}

impl CudaDevice {
    /// The device with this ordinal among those the driver shows (`CUDA_VISIBLE_DEVICES` applies).
    ///
    /// # Errors
    /// [`DeviceError::NoDriver`] where no driver is installed, [`DeviceError::NoDevice`] beyond the last device.
    pub fn open(ordinal: u32) -> Result<Self, DeviceError> {
        let (device, context) = Context::retain(ordinal)?;
        let attribute = |attribute| driver::attribute(device, attribute);
        use sys::CUdevice_attribute as A;
        let major = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        Ok(CudaDevice {
            name: driver::name(device)?,
            capability: ComputeCapability { major, minor },
            driver: CudaVersion::from_number(driver::version()?),
            sm_count: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            context: Arc::new(context),
        })
    }

    /// The marketing name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Device for CudaDevice {
    type Buffer = CudaBuffer;
    type Kernel = CudaKernel;

    fn capability(&self) -> ComputeCapability {
        self.capability
    }

    fn driver(&self) -> Option<CudaVersion> {
        Some(self.driver)
    }

    fn sm_count(&self) -> u32 {
        self.sm_count
    }

    fn wants(&self) -> ImageKind {
        ImageKind::Cubin
    }

    fn alloc(&self, bytes: u64) -> Result<CudaBuffer, DeviceError> {
        let _current = self.context.enter()?;
        let mut address = 0;
        // SAFETY: a context is current and `address` is written before it returns.
        let result = unsafe { sys::cuMemAlloc_v2(&mut address, bytes as usize) };
        check(result, "cuMemAlloc", || format!("allocating {bytes} bytes on {}", self.name))?;
        Ok(CudaBuffer { address, bytes, context: Arc::clone(&self.context) })
    }

    fn address(&self, buffer: &CudaBuffer) -> u64 {
        buffer.address
    }

    fn upload(&self, buffer: &CudaBuffer, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        let address = buffer.range(offset, data.len())?;
        let _current = self.context.enter()?;
        let what = || format!("copying {} bytes to {}", data.len(), self.name);
        // SAFETY: `range` proved that the target holds as many bytes, and `data` outlives the call.
        let result = unsafe { sys::cuMemcpyHtoD_v2(address, data.as_ptr().cast(), data.len()) };
        check(result, "cuMemcpyHtoD", what)?;
        // A copy from pageable memory may return before the last bytes arrive, and other streams do not wait for it.
        driver::synchronize(what)
    }

    fn download(&self, buffer: &CudaBuffer, offset: u64, data: &mut [u8]) -> Result<(), DeviceError> {
        let address = buffer.range(offset, data.len())?;
        let _current = self.context.enter()?;
        let bytes = data.len();
        let what = || format!("copying {bytes} bytes from {}", self.name);
        driver::synchronize(what)?;
        // SAFETY: `range` proved that the source holds as many bytes; `data` is ours until the call returns.
        let result = unsafe { sys::cuMemcpyDtoH_v2(data.as_mut_ptr().cast(), address, bytes) };
        check(result, "cuMemcpyDtoH", what)
    }

    fn load_kernel(&self, image: &KernelImage<'_>) -> Result<CudaKernel, DeviceError> {
        let kernel = image.kernel;
        let _current = self.context.enter()?;
        let mut loaded = CudaKernel {
            id: kernel.id.clone(),
            function: ptr::null_mut(),
            library: load_library(image)?,
            context: Arc::clone(&self.context),
        };
        let what = || format!("loading kernel `{}` ({})", kernel.id, image.kind);
        let refuse = |why: String| DeviceError::Refused { what: what(), why };
        let entry = CString::new(kernel.entry.as_str()).map_err(|error| refuse(error.to_string()))?;
        let mut handle = ptr::null_mut();
        // SAFETY: the library was just loaded; `entry` is zero-terminated and outlives the call.
        let result = unsafe { sys::cuLibraryGetKernel(&mut handle, loaded.library, entry.as_ptr()) };
        check(result, "cuLibraryGetKernel", what)?;
        // SAFETY: `handle` is a kernel of that library and a context is current.
        let result = unsafe { sys::cuKernelGetFunction(&mut loaded.function, handle) };
        check(result, "cuKernelGetFunction", what)?;

        // Reading an attribute also loads the code now: under lazy loading it would load at the first launch, which
        // fails inside a graph capture.
        use sys::CUfunction_attribute as A;
        let mut most_threads: c_int = 0;
        let attribute = A::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK;
        // SAFETY: the function is loaded in the current context.
        let result = unsafe { sys::cuFuncGetAttribute(&mut most_threads, attribute, loaded.function) };
        check(result, "cuFuncGetAttribute", what)?;
        let threads: u32 = kernel.launch.block.iter().product();
        if i64::from(threads) > i64::from(most_threads) {
            return Err(refuse(format!("its block has {threads} threads, but the code allows {most_threads}")));
        }
        let set = |attribute, value: u32| {
            // SAFETY: the function is loaded in the current context.
            let result = unsafe { sys::cuFuncSetAttribute(loaded.function, attribute, value as c_int) };
            check(result, "cuFuncSetAttribute", || format!("{} with {attribute:?} = {value}", what()))
        };
        if kernel.launch.shared_bytes > 0 {
            set(A::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kernel.launch.shared_bytes)?;
        }
        if kernel.launch.cluster.iter().product::<u32>() > PORTABLE_CLUSTER_BLOCKS {
            set(A::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1)?;
        }
        Ok(loaded)
    }

    fn encode_tensor_map(&self, desc: &TensorMapDesc) -> Result<EncodedTensorMap, DeviceError> {
        encode::encode(desc)
    }

    fn rebase_tensor_map(&self, map: &mut TensorMapArg, address: u64) -> Result<(), DeviceError> {
        encode::rebase(map, address)
    }

    fn launch(&self, kernel: &CudaKernel, geometry: &Geometry, args: &[ArgValue], stream: Stream) -> Result<(), DeviceError> {
        let _current = self.context.enter()?;
        let mut params = [ptr::null_mut::<c_void>(); MAX_PARAMS];
        for (slot, arg) in params.iter_mut().zip(args) {
            *slot = value_address(arg).cast_mut();
        }
        let Geometry { grid, block, cluster, shared_bytes } = *geometry;
        let [x, y, z] = cluster;
        let mut attribute = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { pad: [0; 64] },
        };
        attribute.value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x, y, z };
        let config = sys::CUlaunchConfig {
            gridDimX: grid[0],
            gridDimY: grid[1],
            gridDimZ: grid[2],
            blockDimX: block[0],
            blockDimY: block[1],
            blockDimZ: block[2],
            sharedMemBytes: shared_bytes,
            hStream: stream.0 as sys::CUstream,
            attrs: &mut attribute,
            numAttrs: u32::from(cluster != [1; 3]),
        };
        // SAFETY: the kernel is loaded in this context; `params` points to one live value for each parameter of the
        // manifest entry that the image was loaded from, of its size, and the driver copies them before it returns. The
        // stream is the caller's promise (0 always exists).
        let result = unsafe { sys::cuLaunchKernelEx(&config, kernel.function, params.as_mut_ptr(), ptr::null_mut()) };
        check(result, "cuLaunchKernelEx", || format!("launching kernel `{}` with {geometry:?}", kernel.id))
    }

    fn sync(&self) -> Result<(), DeviceError> {
        let _current = self.context.enter()?;
        driver::synchronize(|| format!("waiting for {}", self.name))
    }
}

impl CudaBuffer {
    /// The address of `length` bytes from `offset` on, if the buffer holds them.
    fn range(&self, offset: u64, length: usize) -> Result<u64, DeviceError> {
        match offset.checked_add(length as u64) {
            Some(end) if end <= self.bytes => Ok(self.address + offset),
            _ => Err(DeviceError::Refused {
                what: format!("copying {length} bytes at offset {offset}"),
                why: format!("the buffer has {} bytes", self.bytes),
            }),
        }
    }
}

impl Drop for CudaBuffer {
    fn drop(&mut self) {
        if let Ok(_current) = self.context.enter() {
            // SAFETY: the address came from `cuMemAlloc` in this context and is freed once. An error here is an earlier
            // launch's, which `sync` reports.
            unsafe { sys::cuMemFree_v2(self.address) };
        }
    }
}

impl Drop for CudaKernel {
    fn drop(&mut self) {
        if let Ok(_current) = self.context.enter() {
            // Launches under way still run this code. An error is an earlier launch's; nobody is left to hear it.
            let _ = driver::synchronize(|| format!("unloading kernel `{}`", self.id));
            // SAFETY: loaded once and unloaded once, with nothing running.
            unsafe { sys::cuLibraryUnload(self.library) };
        }
    }
}

/// Where a parameter's bytes are.
fn value_address(arg: &ArgValue) -> *const c_void {
    match arg {
        ArgValue::Ptr(value) => ptr::from_ref(value).cast(),
        ArgValue::I32(value) => ptr::from_ref(value).cast(),
        ArgValue::I64(value) => ptr::from_ref(value).cast(),
        ArgValue::F32(value) => ptr::from_ref(value).cast(),
        ArgValue::TensorMap(map) => ptr::from_ref(&map.encoded).cast(),
    }
}

fn load_library(image: &KernelImage<'_>) -> Result<sys::CUlibrary, DeviceError> {
    // A copy: PTX must end with a zero, and an embedded cubin need not be aligned as the ELF reader wants.
    let mut code = Vec::with_capacity(image.bytes.len() + 1);
    code.extend_from_slice(image.bytes);
    code.push(0);
    let mut log = vec![0u8; JIT_LOG_BYTES];
    let mut options = [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // The driver takes numbers in place of pointers for options that are numbers.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), ptr::without_provenance_mut::<c_void>(JIT_LOG_BYTES)];
    let mut library = ptr::null_mut();
    // SAFETY: `code` is zero-terminated, the log has the size given, and both outlive the call: without
    // CU_LIBRARY_BINARY_IS_PRESERVED the driver keeps its own copy of the code.
    let result = unsafe {
        sys::cuLibraryLoadData(
            &mut library,
            code.as_ptr().cast(),
            options.as_mut_ptr(),
            values.as_mut_ptr(),
            options.len() as u32,
            ptr::null_mut(),
            ptr::null_mut(),
            0,
        )
    };
    check(result, "cuLibraryLoadData", || {
        let said = CStr::from_bytes_until_nul(&log).map(CStr::to_string_lossy).unwrap_or_default();
        let said = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        let colon = if said.is_empty() { "" } else { ": " };
        format!("loading kernel `{}` ({}){colon}{said}", image.kernel.id, image.kind)
    })?;
    Ok(library)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What runs on every machine: with a driver there is nothing to see here, and the test says so.
    #[test]
    fn a_missing_driver_is_an_error_that_names_the_way_out() {
        match CudaDevice::open(0) {
            Err(DeviceError::NoDriver) => assert_eq!(
                DeviceError::NoDriver.to_string(),
                "no NVIDIA driver: libcuda.so.1 not found on the library path; use --device emulator"
            ),
            Ok(device) => eprintln!("skipped: this machine has a GPU, {}", device.name()),
            Err(error) => eprintln!("skipped: this machine has a driver, which says: {error}"),
        }
    }

    #[test]
    fn a_pack_and_its_ops_may_move_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<crate::engine::Engine<CudaDevice>>();
        shared::<crate::engine::Launchable<CudaDevice>>();
    }

    #[test]
    fn encoded_maps_have_the_drivers_size_and_alignment() {
        assert_eq!(size_of::<EncodedTensorMap>(), size_of::<sys::CUtensorMap>());
        assert_eq!(align_of::<EncodedTensorMap>(), align_of::<sys::CUtensorMap>());
    }
}
