//! What a call returns, and why: statuses, each thread's last error, the border that no panic crosses.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use tilewright_runtime::device::DeviceError;
use tilewright_runtime::dispatch::SelectError;
use tilewright_runtime::engine::EngineError;
use tilewright_runtime::pack::PackError;

/// Done. After any other status tw_last_error says why in one line.
pub const TW_OK: i32 = 0;
/// The pack was refused, or the device reported an error.
pub const TW_FAILED: i32 = 1;
/// An argument is null, no UTF-8, or out of range.
pub const TW_INVALID: i32 = 2;
/// No NVIDIA driver on this machine.
pub const TW_NO_DRIVER: i32 = 3;
/// No plan, or not this plan, is correct for the problem.
pub const TW_UNFIT: i32 = 4;

/// The ABI that this header declares: what to give to tw_check_abi. It grows by one with every addition; a change that
/// breaks callers changes the library's name.
pub const TW_ABI: u32 = 2;

/// A status and its reason.
pub(crate) struct Failure(pub i32, pub String);

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// The library's version.
#[unsafe(no_mangle)]
pub extern "C" fn tw_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

/// TW_OK when the library has everything that a program built with this header may call: `tw_check_abi(TW_ABI)`.
#[unsafe(no_mangle)]
pub extern "C" fn tw_check_abi(abi: u32) -> i32 {
    guard(|| match abi {
        1..=TW_ABI => Ok(()),
        _ => Err(invalid(format!("the program is built for ABI {abi}, this library has 1 to {TW_ABI}: use a newer library"))),
    })
}

/// A status in words; lives as long as the library.
#[unsafe(no_mangle)]
pub extern "C" fn tw_status_text(status: i32) -> *const c_char {
    let text = match status {
        TW_OK => c"done",
        TW_FAILED => c"the pack was refused, or the device reported an error",
        TW_INVALID => c"an argument is null, no UTF-8, or out of range",
        TW_NO_DRIVER => c"no NVIDIA driver on this machine",
        TW_UNFIT => c"no plan, or not this plan, is correct for the problem",
        _ => c"no such status",
    };
    text.as_ptr()
}

/// Why the last call of this thread that did not return TW_OK failed; "" before any. Valid until the thread's next call.
#[unsafe(no_mangle)]
pub extern "C" fn tw_last_error() -> *const c_char {
    // Null only while the thread ends and its storage is gone.
    LAST_ERROR.try_with(|text| text.borrow().as_ptr()).unwrap_or(ptr::null())
}

/// Runs a call: its failure becomes the status and the last error, and so does a panic.
pub(crate) fn guard(call: impl FnOnce() -> Result<(), Failure>) -> i32 {
    // A panic may leave an op half written; it is the caller's to close, and nothing here reads it unchecked.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => TW_OK,
        Ok(Err(Failure(status, why))) => {
            remember(&why);
            status
        }
        Err(_) => {
            remember("internal error: the call panicked; the message is on standard error");
            TW_FAILED
        }
    }
}

pub(crate) fn invalid(why: String) -> Failure {
    Failure(TW_INVALID, why)
}

/// A zero byte inside would end the text early; a space stands for it.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// Keeps `why` for `tw_last_error` of this thread.
fn remember(why: &str) {
    // Fails only while the thread ends, when nobody can ask any more.
    let _ = LAST_ERROR.try_with(|text| *text.borrow_mut() = c_text(why));
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let status = match &error {
            EngineError::Select(_) => TW_UNFIT,
            EngineError::TensorCount { .. } | EngineError::Address { .. } => TW_INVALID,
            _ => TW_FAILED,
        };
        Failure(status, error.to_string())
    }
}

impl From<SelectError> for Failure {
    fn from(error: SelectError) -> Self {
        EngineError::from(error).into()
    }
}

impl From<PackError> for Failure {
    fn from(error: PackError) -> Self {
        Failure(TW_FAILED, error.to_string())
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        let status = if error == DeviceError::NoDriver { TW_NO_DRIVER } else { TW_FAILED };
        Failure(status, error.to_string())
    }
}
