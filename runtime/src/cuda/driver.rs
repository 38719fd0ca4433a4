//! The driver itself: finding it, its error texts, the primary context.

use std::ffi::{CStr, c_char, c_int};
use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;

use cudarc::driver::sys;

use crate::compat::CudaVersion;
use crate::device::DeviceError;

/// `cuLibrary*` and `cuTensorMap*` came with CUDA 12.0; looking up a function that the driver lacks would panic.
const OLDEST_DRIVER: c_int = 12_000;

/// A device's primary context, held until dropped.
pub(super) struct Context {
    device: sys::CUdevice,
    handle: sys::CUcontext,
}

// SAFETY: a context handle is valid in every thread of the process; making it current is per thread and done by `enter`.
unsafe impl Send for Context {}
// SAFETY: as above; the handle never changes.
unsafe impl Sync for Context {}

/// The context is current on this thread until this is dropped.
pub(super) struct Current<'a> {
    pushed: bool,
    /// Ties it to the context and, being a raw pointer, to the thread.
    _context: PhantomData<(&'a Context, *const ())>,
}

impl Context {
    pub(super) fn retain(ordinal: u32) -> Result<(sys::CUdevice, Self), DeviceError> {
        ready()?;
        let what = || format!("opening CUDA device {ordinal}");
        let mut count: c_int = 0;
        // SAFETY: the driver is loaded and initialised; the pointer is valid for the call.
        check(unsafe { sys::cuDeviceGetCount(&mut count) }, "cuDeviceGetCount", what)?;
        let count = u32::try_from(count).unwrap_or(0);
        let number = c_int::try_from(ordinal).ok().filter(|_| ordinal < count);
        let number = number.ok_or(DeviceError::NoDevice { ordinal, count })?;
        let mut device = 0;
        // SAFETY: as above, and the ordinal exists.
        check(unsafe { sys::cuDeviceGet(&mut device, number) }, "cuDeviceGet", what)?;
        let mut handle = ptr::null_mut();
        // SAFETY: as above; released once, on drop.
        check(unsafe { sys::cuDevicePrimaryCtxRetain(&mut handle, device) }, "cuDevicePrimaryCtxRetain", what)?;
        Ok((device, Context { device, handle }))
    }

    /// The device it is of.
    pub(super) fn device(&self) -> sys::CUdevice {
        self.device
    }

    /// Makes the context current, leaving things as they are where it already is (as in a PyTorch thread).
    pub(super) fn enter(&self) -> Result<Current<'_>, DeviceError> {
        let what = || "entering the device's context".to_owned();
        let mut now = ptr::null_mut();
        // SAFETY: the driver is initialised, as a context exists.
        check(unsafe { sys::cuCtxGetCurrent(&mut now) }, "cuCtxGetCurrent", what)?;
        let pushed = now != self.handle;
        if pushed {
            // SAFETY: the context is retained by `self`.
            check(unsafe { sys::cuCtxPushCurrent_v2(self.handle) }, "cuCtxPushCurrent", what)?;
        }
        Ok(Current { pushed, _context: PhantomData })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once in `retain`; everything that used it held a reference to `self`.
        unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

impl Drop for Current<'_> {
    fn drop(&mut self) {
        if self.pushed {
            let mut popped = ptr::null_mut();
            // SAFETY: this thread pushed it, and guards end in reverse order.
            unsafe { sys::cuCtxPopCurrent_v2(&mut popped) };
        }
    }
}

pub(super) fn attribute(device: sys::CUdevice, attribute: sys::CUdevice_attribute) -> Result<u32, DeviceError> {
    let mut value: c_int = 0;
    // SAFETY: the driver is initialised and the device exists.
    let result = unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, device) };
    check(result, "cuDeviceGetAttribute", || format!("reading {attribute:?}"))?;
    Ok(u32::try_from(value).unwrap_or(0))
}

pub(super) fn name(device: sys::CUdevice) -> Result<String, DeviceError> {
    let mut text = [0u8; 256];
    // SAFETY: the driver is initialised, the device exists, and the buffer has the length given.
    let result = unsafe { sys::cuDeviceGetName(text.as_mut_ptr().cast(), text.len() as c_int, device) };
    check(result, "cuDeviceGetName", || "reading the device's name".to_owned())?;
    Ok(CStr::from_bytes_until_nul(&text).map(CStr::to_string_lossy).unwrap_or_default().into_owned())
}

/// The CUDA version of the driver, `major * 1000 + minor * 10`.
pub(super) fn version() -> Result<u32, DeviceError> {
    let mut version: c_int = 0;
    // SAFETY: the driver is loaded, as a device was opened.
    check(unsafe { sys::cuDriverGetVersion(&mut version) }, "cuDriverGetVersion", || {
        "asking for the driver's version".to_owned()
    })?;
    Ok(u32::try_from(version).unwrap_or(0))
}

pub(super) fn pci_bus_id(device: sys::CUdevice) -> Result<String, DeviceError> {
    let mut text = [0u8; 32];
    // SAFETY: the driver is initialised, the device exists, and the buffer has the length given.
    let result = unsafe { sys::cuDeviceGetPCIBusId(text.as_mut_ptr().cast(), text.len() as c_int, device) };
    check(result, "cuDeviceGetPCIBusId", || "asking where the device is".to_owned())?;
    Ok(CStr::from_bytes_until_nul(&text).map(CStr::to_string_lossy).unwrap_or_default().into_owned())
}

/// Waits for everything queued in the current context.
pub(super) fn synchronize(what: impl FnOnce() -> String) -> Result<(), DeviceError> {
    // SAFETY: the caller holds a `Current`.
    check(unsafe { sys::cuCtxSynchronize() }, "cuCtxSynchronize", what)
}

/// An error with the driver's own name and words; `what` is only asked on failure.
pub(super) fn check(result: sys::CUresult, call: &'static str, what: impl FnOnce() -> String) -> Result<(), DeviceError> {
    if result == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let text = |lookup: unsafe fn(sys::CUresult, *mut *const c_char) -> sys::CUresult| {
        let mut text = ptr::null();
        // SAFETY: the driver is loaded, as it gave `result`; it writes a pointer to a constant string, or null.
        unsafe { lookup(result, &mut text) };
        if text.is_null() {
            return format!("error {}", result as u32);
        }
        // SAFETY: not null, so a zero-terminated string that lives as long as the driver.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    };
    Err(DeviceError::Driver { what: what(), call, name: text(sys::cuGetErrorName), text: text(sys::cuGetErrorString) })
}

/// Finds and starts the driver, once for the process.
fn ready() -> Result<(), DeviceError> {
    static READY: OnceLock<Result<(), DeviceError>> = OnceLock::new();
    READY
        .get_or_init(|| {
            // SAFETY: loads libcuda, whose initialisers are the driver's own. Without this check the first call would
            // panic where there is no driver.
            if !unsafe { sys::is_culib_present() } {
                return Err(DeviceError::NoDriver);
            }
            let what = || "starting the NVIDIA driver".to_owned();
            let mut version: c_int = 0;
            // SAFETY: the library is present, and this function has been in it since CUDA 2.2.
            check(unsafe { sys::cuDriverGetVersion(&mut version) }, "cuDriverGetVersion", what)?;
            if version < OLDEST_DRIVER {
                let dotted = |version: c_int| CudaVersion::from_number(version.unsigned_abs()).to_string();
                return Err(DeviceError::DriverTooOld { found: dotted(version), needed: dotted(OLDEST_DRIVER) });
            }
            // SAFETY: as above; the flags must be 0.
            check(unsafe { sys::cuInit(0) }, "cuInit", what)
        })
        .clone()
}
