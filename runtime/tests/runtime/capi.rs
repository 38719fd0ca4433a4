//! The C ABI as C sees it: status codes, last error, header. What needs a GPU ends at the missing driver.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char};
use std::process::Command;
use std::ptr;

use tilewright_runtime::capi::*;
use tilewright_runtime::cuda::CudaDevice;
use tilewright_runtime::device::DeviceError;

use crate::fixture::{manifest, write};

const HEADER: &str = include_str!("../../include/tilewright.h");
const SOURCE: &str = concat!(include_str!("../../src/capi/mod.rs"), include_str!("../../src/capi/named.rs"));

fn last_error() -> String {
    // SAFETY: the call gives a string of this thread, valid until its next call.
    unsafe { CStr::from_ptr(tw_last_error()) }.to_str().unwrap().to_owned()
}

fn open(folder: &str) -> (i32, *mut PackHandle) {
    let folder = CString::new(folder).unwrap();
    let mut pack = ptr::dangling_mut();
    // SAFETY: both pointers are valid for the call.
    let status = unsafe { tw_open(folder.as_ptr(), 0, &mut pack) };
    (status, pack)
}

const PROBLEM: Gemm = Gemm { m: 1, n: 8, k: 8, batch: 1, split_k: 0, alpha: 1.0 };

const NOTHING: Sizes = Sizes { sizes: ptr::null(), numbers: ptr::null(), n_sizes: 0, n_numbers: 0 };

#[test]
fn null_pointers_are_invalid_arguments() {
    let text = c"x".as_ptr();
    let (mut pack, mut op, mut id) = (ptr::null_mut(), ptr::null_mut(), ptr::null());
    let none = ptr::null();
    // SAFETY: every pointer is null or valid.
    unsafe {
        let calls: [(i32, &str); 12] = [
            (tw_open(ptr::null(), 0, &mut pack), "folder is null"),
            (tw_open(text, 0, ptr::null_mut()), "pack is null"),
            (tw_verify(none), "pack is null"),
            (tw_select_gemm(none, text, TW_FASTEST, &PROBLEM, &mut id), "pack is null"),
            (tw_check_gemm(none, text, &PROBLEM), "pack is null"),
            (tw_prepare_gemm(none, text, TW_FASTEST, &PROBLEM, &mut op), "pack is null"),
            (tw_prepare_plan(none, text, &PROBLEM, &mut op), "pack is null"),
            (tw_select(none, text, text, TW_FASTEST, &NOTHING, &mut id), "pack is null"),
            (tw_check(none, text, &NOTHING), "pack is null"),
            (tw_prepare(none, text, &NOTHING, &mut op), "pack is null"),
            (tw_op_tensor(ptr::null(), 0, ptr::null_mut()), "op is null"),
            (tw_run(ptr::null_mut(), ptr::null(), 0, ptr::null_mut()), "op is null"),
        ];
        assert!(calls.iter().all(|call| call.0 == TW_INVALID), "{calls:?}");
        assert_eq!(tw_op_tensor_count(ptr::null()), 0);
        assert_eq!(tw_op_workspace_bytes(ptr::null()), 0);
        assert!(tw_manifest_hash(none).is_null());
        tw_close(ptr::null_mut());
        tw_op_close(ptr::null_mut());
    }
    assert_eq!(last_error(), "op is null", "the last failure's words");
    // SAFETY: as above.
    unsafe { tw_open(ptr::null(), 0, &mut pack) };
    assert_eq!(last_error(), "folder is null");
}

#[test]
fn text_that_is_not_utf8_is_an_invalid_argument() {
    let mut pack = ptr::null_mut();
    let bytes = [0xff_u8, 0];
    // SAFETY: zero-terminated, and both pointers are valid.
    let status = unsafe { tw_open(bytes.as_ptr().cast::<c_char>(), 0, &mut pack) };
    assert_eq!(status, TW_INVALID);
    assert!(last_error().starts_with("folder is not UTF-8"), "{}", last_error());
}

#[test]
fn a_bad_pack_is_refused_before_the_gpu_is_looked_for() {
    let (status, pack) = open("/nowhere");
    assert_eq!(status, TW_FAILED);
    assert!(pack.is_null());
    assert_eq!(last_error(), "/nowhere/manifest.json: no such file; copy the pack again");
}

#[test]
fn a_good_pack_without_a_driver_says_so() {
    let folder = write(&manifest());
    match CudaDevice::open(0) {
        Err(DeviceError::NoDriver) => {
            let (status, pack) = open(folder.path().to_str().unwrap());
            assert_eq!(status, TW_NO_DRIVER);
            assert!(pack.is_null());
            assert!(last_error().starts_with("no NVIDIA driver: libcuda.so.1 not found"), "{}", last_error());
        }
        _ => eprintln!("skipped: this machine has an NVIDIA driver"),
    }
}

#[test]
fn each_thread_has_its_own_last_error() {
    open("/nowhere");
    std::thread::spawn(|| assert_eq!(last_error(), "")).join().unwrap();
    assert_ne!(last_error(), "");
}

/// Names that follow `prefix` and are followed by `(`, with the number of their parameters.
fn functions(text: &str, prefix: &str) -> BTreeSet<(String, usize)> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(prefix) {
        let rest = &text[at + prefix.len() - "tw_".len()..];
        let Some(open) = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) else { continue };
        if !rest[open..].starts_with('(') {
            continue;
        }
        let close = rest.find(')').unwrap();
        let parameters = rest[open + 1..close].split(',').filter(|p| !["", "void"].contains(&p.trim())).count();
        found.insert((rest[..open].to_owned(), parameters));
    }
    found
}

#[test]
fn header_and_library_declare_the_same_functions() {
    // The example and comments at the top of the header call functions; declarations come after the include guard.
    let comment_free: String = HEADER.split("/*").map(|part| part.split_once("*/").map_or(part, |p| p.1)).collect();
    let declared = functions(&comment_free, "tw_");
    let defined = functions(SOURCE, "extern \"C\" fn tw_");
    assert_eq!(declared, defined);
    assert!(defined.len() >= 18, "{defined:?}");
    assert_eq!(SOURCE.matches("#[unsafe(no_mangle)]").count(), defined.len());
}

#[test]
fn header_and_library_agree_on_constants() {
    let value = |name: &str| {
        let line = HEADER.lines().find(|line| line.starts_with(&format!("#define {name} "))).expect(name);
        line.split_whitespace().nth(2).unwrap().parse::<i32>().unwrap()
    };
    for (name, expected) in [
        ("TW_OK", TW_OK),
        ("TW_FAILED", TW_FAILED),
        ("TW_INVALID", TW_INVALID),
        ("TW_NO_DRIVER", TW_NO_DRIVER),
        ("TW_UNFIT", TW_UNFIT),
        ("TW_FASTEST", TW_FASTEST),
        ("TW_BATCH_INVARIANT", TW_BATCH_INVARIANT),
        ("TW_INPUT", TW_INPUT),
        ("TW_OUTPUT", TW_OUTPUT),
        ("TW_MAX_RANK", TW_MAX_RANK as i32),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
}

#[test]
fn a_c_compiler_takes_the_header_and_its_layouts() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("layout.c");
    let checks = [
        ("sizeof(tw_gemm)", size_of::<Gemm>()),
        ("offsetof(tw_gemm, alpha)", std::mem::offset_of!(Gemm, alpha)),
        ("sizeof(tw_size)", size_of::<Size>()),
        ("sizeof(tw_number)", size_of::<Number>()),
        ("sizeof(tw_problem)", size_of::<Sizes>()),
        ("offsetof(tw_problem, numbers)", std::mem::offset_of!(Sizes, numbers)),
        ("offsetof(tw_problem, n_numbers)", std::mem::offset_of!(Sizes, n_numbers)),
        ("sizeof(tw_tensor)", size_of::<Tensor>()),
        ("offsetof(tw_tensor, rank)", std::mem::offset_of!(Tensor, rank)),
        ("offsetof(tw_tensor, shape)", std::mem::offset_of!(Tensor, shape)),
        ("offsetof(tw_tensor, alignment)", std::mem::offset_of!(Tensor, alignment)),
    ];
    let mut text = "#include <stddef.h>\n#include \"tilewright.h\"\n".to_owned();
    for (expression, expected) in checks {
        text += &format!("_Static_assert({expression} == {expected}, \"{expression}\");\n");
    }
    std::fs::write(&source, text).unwrap();
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
    let command = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I", include])
        .arg(&source)
        .output();
    match command {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => eprintln!("skipped: no C compiler: {error}"),
    }
}
