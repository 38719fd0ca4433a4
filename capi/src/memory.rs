//! Device memory for callers that have no other way to it: no CUDA runtime, or a pack on the emulator.

use std::ffi::c_void;
use std::sync::{Arc, PoisonError};

use tilewright_runtime::device::Device;

use crate::device::AnyBuffer;
use crate::pack::PackHandle;
use crate::read::{handle, list, list_mut, target};
use crate::status::{Failure, guard, invalid};

impl PackHandle {
    /// The allocation that `address` lies in, and how far from its start.
    fn place(&self, address: u64) -> Result<(Arc<AnyBuffer>, u64), Failure> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        match memory.range(..=address).next_back() {
            Some((start, buffer)) => Ok((Arc::clone(buffer), address - start)),
            None => Err(invalid(format!("address {address:#x} is not from tw_alloc of this pack"))),
        }
    }
}

fn length(bytes: u64) -> Result<usize, Failure> {
    usize::try_from(bytes).map_err(|_| invalid(format!("bytes = {bytes}: more than this machine can address")))
}

/// Allocates device memory, aligned to 256, contents undefined. Of any size: 0 bytes have an address too.
///
/// # Safety
/// `pack` is null or open; `address` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_alloc(pack: *const PackHandle, bytes: u64, address: *mut u64) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (pack, address) = unsafe { (handle("pack", pack)?, target("address", address)?) };
        *address = 0;
        let device = pack.engine.device();
        let buffer = device.alloc(bytes.max(1))?;
        *address = device.address(&buffer);
        pack.memory.lock().unwrap_or_else(PoisonError::into_inner).insert(*address, Arc::new(buffer));
        Ok(())
    })
}

/// Frees what tw_alloc gave at this address. Launches that use it must have finished. 0 is allowed.
///
/// # Safety
/// `pack` is null or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_free(pack: *const PackHandle, address: u64) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let pack = unsafe { handle("pack", pack)? };
        let freed = pack.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        match freed {
            None if address != 0 => Err(invalid(format!("address {address:#x} is not from tw_alloc of this pack"))),
            _ => Ok(()),
        }
    })
}

/// Copies host memory to an address in memory of tw_alloc; done when it returns.
///
/// # Safety
/// `pack` is null or open; `from` is null or holds `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_upload(pack: *const PackHandle, address: u64, from: *const c_void, bytes: u64) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (pack, data) = unsafe { (handle("pack", pack)?, list("from", from.cast::<u8>(), length(bytes)?)?) };
        let (buffer, offset) = pack.place(address)?;
        Ok(pack.engine.device().upload(&buffer, offset, data)?)
    })
}

/// Copies from an address in memory of tw_alloc to host memory, after everything queued on the device.
///
/// # Safety
/// `pack` is null or open; `to` is null, or `bytes` bytes that nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_download(pack: *const PackHandle, to: *mut c_void, address: u64, bytes: u64) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (pack, data) = unsafe { (handle("pack", pack)?, list_mut("to", to.cast::<u8>(), length(bytes)?)?) };
        let (buffer, offset) = pack.place(address)?;
        Ok(pack.engine.device().download(&buffer, offset, data)?)
    })
}

/// Waits for everything queued on the device, and reports what failed.
///
/// # Safety
/// `pack` is null or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_sync(pack: *const PackHandle) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let pack = unsafe { handle("pack", pack)? };
        Ok(pack.engine.device().sync()?)
    })
}
