//! A pack on a device.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::{Arc, Mutex};

use tilewright_runtime::arch::Arch;
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::engine::Engine;
use tilewright_runtime::pack::Pack;

use crate::device::{AnyBuffer, AnyDevice, DeviceName};
use crate::read::{handle, target, text};
use crate::status::{Failure, TW_UNFIT, c_text, guard, invalid};

/// A pack on a device. May be shared by threads.
pub struct PackHandle {
    /// Shared with the ops, so that closing the pack leaves them valid.
    pub(crate) engine: Arc<Engine<AnyDevice>>,
    /// What tw_alloc gave, by address.
    pub(crate) memory: Mutex<BTreeMap<u64, Arc<AnyBuffer>>>,
    pub(crate) plan_ids: Vec<CString>,
    manifest_hash: CString,
    device: CString,
}

impl PackHandle {
    fn open(path: &str, device: DeviceName) -> Result<Self, Failure> {
        // The pack first: a bad one is reported on any machine.
        let pack = Pack::open(path)?;
        let arch: Arch = pack.manifest().arch.parse().map_err(|error| invalid(format!("{path}: {error}")))?;
        let engine = Engine::new(pack, AnyDevice::open(device, arch.base)?)?;
        Ok(PackHandle {
            memory: Mutex::default(),
            plan_ids: engine.pack().manifest().plans.iter().map(|plan| c_text(&plan.id)).collect(),
            manifest_hash: c_text(engine.pack().manifest_blake3()),
            device: c_text(&engine.device().to_string()),
            engine: Arc::new(engine),
        })
    }

    pub(crate) fn plan(&self, id: &str) -> Result<PlanIndex, Failure> {
        let found = self.engine.pack().manifest().plan(id);
        let index = found.ok_or_else(|| Failure(TW_UNFIT, format!("no plan `{id}` in this pack")))?;
        Ok(PlanIndex(index as u32))
    }
}

/// Opens a pack on a GPU, counted among those the driver shows. Kernels are loaded, and their hashes checked, when first
/// prepared.
///
/// # Safety
/// `path` is null or a zero-terminated string; `pack` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_open(path: *const c_char, ordinal: u32, pack: *mut *mut PackHandle) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (path, pack) = unsafe { (text("path", path)?, target("pack", pack)?) };
        *pack = ptr::null_mut();
        *pack = Box::into_raw(Box::new(PackHandle::open(path, DeviceName::Cuda(ordinal))?));
        Ok(())
    })
}

/// Opens a pack on a device by name: "cuda:0", or "emulator" where the library is built with it, which plays a GPU of the
/// pack's architecture on the CPU and fails a launch that it finds a mistake in.
///
/// # Safety
/// `path` and `device` are null or zero-terminated strings; `pack` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_open_on(path: *const c_char, device: *const c_char, pack: *mut *mut PackHandle) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (path, device, pack) = unsafe { (text("path", path)?, text("device", device)?, target("pack", pack)?) };
        *pack = ptr::null_mut();
        *pack = Box::into_raw(Box::new(PackHandle::open(path, device.parse().map_err(invalid)?)?));
        Ok(())
    })
}

/// Checks the hash of every kernel of the pack.
///
/// # Safety
/// `pack` is null or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_verify(pack: *const PackHandle) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let pack = unsafe { handle("pack", pack)? };
        Ok(pack.engine.pack().verify_all()?)
    })
}

/// BLAKE3 of the manifest, 64 hex digits; lives as long as the pack. Null for a null pack.
///
/// # Safety
/// `pack` is null or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_manifest_hash(pack: *const PackHandle) -> *const c_char {
    // SAFETY: the caller's promise above.
    unsafe { pack.as_ref() }.map_or(ptr::null(), |pack| pack.manifest_hash.as_ptr())
}

/// The device as tw_open_on takes it; lives as long as the pack. Null for a null pack.
///
/// # Safety
/// `pack` is null or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_device(pack: *const PackHandle) -> *const c_char {
    // SAFETY: the caller's promise above.
    unsafe { pack.as_ref() }.map_or(ptr::null(), |pack| pack.device.as_ptr())
}

/// Closes the pack and frees what tw_alloc gave. Ops prepared from it stay valid, and the kernels stay loaded until the
/// last is closed. Null is allowed.
///
/// # Safety
/// `pack` is null or open and in no other call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_close(pack: *mut PackHandle) {
    guard(|| {
        if !pack.is_null() {
            // SAFETY: made by `Box::into_raw` when opened, and closed once by the caller's promise.
            drop(unsafe { Box::from_raw(pack) });
        }
        Ok(())
    });
}
