//! What callers hand over, looked at before it is believed.

use std::ffi::{CStr, c_char};
use std::slice;

use crate::status::{Failure, invalid};

/// # Safety
/// `pointer` is null or a zero-terminated string that outlives the call.
pub(crate) unsafe fn text<'a>(name: &str, pointer: *const c_char) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(invalid(format!("{name} is null")));
    }
    // SAFETY: not null, and the rest is the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|error| invalid(format!("{name} is not UTF-8: {error}")))
}

/// # Safety
/// `pointer` is null or valid for the call.
pub(crate) unsafe fn handle<'a, T>(name: &str, pointer: *const T) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| invalid(format!("{name} is null")))
}

/// # Safety
/// `pointer` is null, or valid and not shared during the call.
pub(crate) unsafe fn target<'a, T>(name: &str, pointer: *mut T) -> Result<&'a mut T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_mut() }.ok_or_else(|| invalid(format!("{name} is null")))
}

/// # Safety
/// `pointer` is null or points to `count` values.
pub(crate) unsafe fn list<'a, T>(name: &str, pointer: *const T, count: usize) -> Result<&'a [T], Failure> {
    match (pointer.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(invalid(format!("{name} is null, with {count} entries"))),
        // SAFETY: not null, and the rest is the caller's promise.
        (false, _) => Ok(unsafe { slice::from_raw_parts(pointer, count) }),
    }
}

/// # Safety
/// `pointer` is null, or points to `count` values that nobody else reads or writes during the call.
pub(crate) unsafe fn list_mut<'a, T>(name: &str, pointer: *mut T, count: usize) -> Result<&'a mut [T], Failure> {
    match (pointer.is_null(), count) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err(invalid(format!("{name} is null, with {count} entries"))),
        // SAFETY: not null, and the rest is the caller's promise.
        (false, _) => Ok(unsafe { slice::from_raw_parts_mut(pointer, count) }),
    }
}
