//! The library as C meets it: statuses, the header, DLPack, installing and linking, the GPU kit.

mod abi;
mod dlpack;
mod header;
mod install;
mod kit;

use std::ffi::{CStr, CString};
use std::path::PathBuf;
use std::ptr;

use tilewright::{PackHandle, tw_last_error, tw_open_on};

/// The words of this thread's last failure.
fn last_error() -> String {
    // SAFETY: the call gives a string of this thread, valid until its next call.
    unsafe { CStr::from_ptr(tw_last_error()) }.to_str().unwrap().to_owned()
}

/// The shipped pack for Ampere, whose kernels are the quickest in the emulator.
fn pack_path() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels-generated/sm80").into()
}

/// That pack on the emulator.
fn emulated() -> *mut PackHandle {
    let path = CString::new(pack_path().to_str().unwrap()).unwrap();
    let mut pack = ptr::null_mut();
    // SAFETY: every pointer is valid for the call.
    let status = unsafe { tw_open_on(path.as_ptr(), c"emulator".as_ptr(), &mut pack) };
    assert_eq!(status, 0, "{}", last_error());
    pack
}

/// A file that cargo built beside this program.
fn built(name: &str) -> Option<PathBuf> {
    let file = std::env::current_exe().unwrap().with_file_name(name);
    if !file.is_file() {
        eprintln!("skipped: cargo built no {}", file.display());
        return None;
    }
    Some(file)
}
