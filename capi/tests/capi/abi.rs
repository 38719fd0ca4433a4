//! The C ABI as C sees it: status codes, last error, a product on the emulator.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use tilewright::*;

use crate::{emulated, last_error, pack_path};

fn open(folder: &str) -> (i32, *mut PackHandle) {
    let folder = CString::new(folder).unwrap();
    let mut pack = ptr::dangling_mut();
    // SAFETY: both pointers are valid for the call.
    let status = unsafe { tw_open(folder.as_ptr(), 0, &mut pack) };
    (status, pack)
}

pub const CLASS: &CStr = c"a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";
pub const PROBLEM: Gemm = Gemm { m: 3, n: 8, k: 8, batch: 1, split_k: 0, alpha: 1.0 };

const NOTHING: Sizes = Sizes { sizes: ptr::null(), numbers: ptr::null(), n_sizes: 0, n_numbers: 0 };

#[test]
fn null_pointers_are_invalid_arguments() {
    let text = c"x".as_ptr();
    let (mut pack, mut op, mut id, mut address) = (ptr::null_mut(), ptr::null_mut(), ptr::null(), 0);
    let none = ptr::null();
    // SAFETY: every pointer is null or valid.
    unsafe {
        let calls: [(i32, &str); 20] = [
            (tw_open(ptr::null(), 0, &mut pack), "path is null"),
            (tw_open(text, 0, ptr::null_mut()), "pack is null"),
            (tw_open_on(text, ptr::null(), &mut pack), "device is null"),
            (tw_open_on(text, text, &mut pack), "`x` is no device"),
            (tw_verify(none), "pack is null"),
            (tw_alloc(none, 1, &mut address), "pack is null"),
            (tw_free(none, 0), "pack is null"),
            (tw_upload(none, 0, ptr::null(), 0), "pack is null"),
            (tw_download(none, ptr::null_mut(), 0, 0), "pack is null"),
            (tw_sync(none), "pack is null"),
            (tw_select_gemm(none, text, TW_FASTEST, &PROBLEM, &mut id), "pack is null"),
            (tw_check_gemm(none, text, &PROBLEM), "pack is null"),
            (tw_prepare_gemm(none, text, TW_FASTEST, &PROBLEM, &mut op), "pack is null"),
            (tw_prepare_plan(none, text, &PROBLEM, &mut op), "pack is null"),
            (tw_select(none, text, text, TW_FASTEST, &NOTHING, &mut id), "pack is null"),
            (tw_check(none, text, &NOTHING), "pack is null"),
            (tw_prepare(none, text, &NOTHING, &mut op), "pack is null"),
            (tw_op_tensor(ptr::null(), 0, ptr::null_mut()), "op is null"),
            (tw_run_dlpack(ptr::null_mut(), ptr::null(), 0, ptr::null_mut()), "op is null"),
            (tw_run(ptr::null_mut(), ptr::null(), 0, ptr::null_mut()), "op is null"),
        ];
        assert!(calls.iter().all(|call| call.0 == TW_INVALID), "{calls:?}");
        assert_eq!(tw_op_tensor_count(ptr::null()), 0);
        assert_eq!(tw_op_workspace_bytes(ptr::null()), 0);
        assert!(tw_manifest_hash(none).is_null() && tw_device(none).is_null());
        tw_close(ptr::null_mut());
        tw_op_close(ptr::null_mut());
    }
    assert_eq!(last_error(), "op is null", "the last failure's words");
    // SAFETY: as above.
    unsafe { tw_open(ptr::null(), 0, &mut pack) };
    assert_eq!(last_error(), "path is null");
}

#[test]
fn text_that_is_not_utf8_is_an_invalid_argument() {
    let mut pack = ptr::null_mut();
    let bytes = [0xff_u8, 0];
    // SAFETY: zero-terminated, and both pointers are valid.
    let status = unsafe { tw_open(bytes.as_ptr().cast::<c_char>(), 0, &mut pack) };
    assert_eq!(status, TW_INVALID);
    assert!(last_error().starts_with("path is not UTF-8"), "{}", last_error());
}

#[test]
fn a_bad_pack_is_refused_before_the_gpu_is_looked_for() {
    let (status, pack) = open("/nowhere");
    assert_eq!(status, TW_FAILED);
    assert!(pack.is_null());
    assert!(last_error().starts_with("/nowhere"), "{}", last_error());
}

#[test]
fn a_good_pack_without_a_driver_says_so() {
    let (status, pack) = open(pack_path().to_str().unwrap());
    match status {
        TW_NO_DRIVER => {
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

#[test]
fn versions_and_statuses_have_words() {
    assert_eq!(tw_check_abi(TW_ABI), TW_OK);
    assert_eq!(tw_check_abi(TW_ABI + 1), TW_INVALID);
    let expected = format!("the program is built for ABI {}, this library has 1 to {TW_ABI}: use a newer library", TW_ABI + 1);
    assert_eq!(last_error(), expected);
    // SAFETY: the calls give strings that live as long as the library.
    let words = |status| unsafe { CStr::from_ptr(tw_status_text(status)) };
    let all = [TW_OK, TW_FAILED, TW_INVALID, TW_NO_DRIVER, TW_UNFIT, -1].map(words);
    assert!(all.iter().enumerate().all(|(at, text)| !text.is_empty() && !all[..at].contains(text)), "{all:?}");
    // SAFETY: as above.
    assert_eq!(unsafe { CStr::from_ptr(tw_version()) }.to_str(), Ok(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_product_runs_on_the_emulator() {
    let pack = emulated();
    // SAFETY: handles are open and closed once; every pointer is valid for its call.
    unsafe {
        assert_eq!(CStr::from_ptr(tw_device(pack)), c"emulator");
        let mut op = ptr::null_mut();
        assert_eq!(tw_prepare_gemm(pack, CLASS.as_ptr(), TW_FASTEST, &PROBLEM, &mut op), TW_OK, "{}", last_error());
        let mut addresses = [0; 3];
        for (at, address) in addresses.iter_mut().enumerate() {
            let mut tensor = std::mem::zeroed::<Tensor>();
            assert_eq!(tw_op_tensor(op, at as u32, &mut tensor), TW_OK);
            assert_eq!(tw_alloc(pack, tensor.bytes, address), TW_OK);
        }
        // 1.0 is 0x3f80, 2.0 is 0x4000, the sum of eight products 16.0 is 0x4180.
        let (a, b) = ([0x3f80_u16; 24], [0x4000_u16; 64]);
        assert_eq!(tw_upload(pack, addresses[0], a.as_ptr().cast(), 48), TW_OK);
        assert_eq!(tw_upload(pack, addresses[1], b.as_ptr().cast(), 128), TW_OK);
        assert_eq!(tw_run(op, addresses.as_ptr(), 3, ptr::null_mut()), TW_OK, "{}", last_error());
        assert_eq!(tw_sync(pack), TW_OK);
        let mut d = [0_u16; 24];
        assert_eq!(tw_download(pack, d.as_mut_ptr().cast(), addresses[2], 48), TW_OK);
        assert_eq!(d, [0x4180; 24]);

        // A copy may start inside an allocation, and ends where it ends.
        assert_eq!(tw_download(pack, d.as_mut_ptr().cast(), addresses[2] + 40, 8), TW_OK);
        assert_eq!(tw_download(pack, d.as_mut_ptr().cast(), addresses[2] + 44, 8), TW_FAILED);
        assert_eq!(tw_run(op, addresses.as_ptr(), 2, ptr::null_mut()), TW_INVALID);
        assert!(last_error().ends_with("takes 3 tensors and 2 were given"), "{}", last_error());

        // Memory that is gone is a mistake that the emulator finds, and the op lives on.
        assert_eq!(tw_free(pack, addresses[1]), TW_OK);
        assert_eq!(tw_free(pack, addresses[1]), TW_INVALID);
        assert_eq!(tw_run(op, addresses.as_ptr(), 3, ptr::null_mut()), TW_FAILED);
        assert!(last_error().contains("which was freed"), "{}", last_error());
        assert_eq!(tw_alloc(pack, 128, &mut addresses[1]), TW_OK);
        assert_eq!(tw_upload(pack, addresses[1], b.as_ptr().cast(), 128), TW_OK);
        assert_eq!(tw_run(op, addresses.as_ptr(), 3, ptr::null_mut()), TW_OK, "{}", last_error());
        tw_close(pack);
        tw_op_close(op);
    }
}

#[test]
fn threads_share_a_pack() {
    let pack = emulated() as usize;
    std::thread::scope(|scope| {
        for m in 1..=4_i64 {
            // SAFETY: the pack is open until the scope ends, each op is of one thread, every pointer is valid for its call.
            scope.spawn(move || unsafe {
                let pack = pack as *const PackHandle;
                let problem = Gemm { m, ..PROBLEM };
                let (mut op, mut addresses) = (ptr::null_mut(), [0; 3]);
                assert_eq!(tw_prepare_gemm(pack, CLASS.as_ptr(), TW_FASTEST, &problem, &mut op), TW_OK, "{}", last_error());
                for address in &mut addresses {
                    assert_eq!(tw_alloc(pack, 128, address), TW_OK);
                }
                let values = [0x3f80_u16; 64];
                for &address in &addresses[..2] {
                    assert_eq!(tw_upload(pack, address, values.as_ptr().cast(), 128), TW_OK);
                }
                for _ in 0..4 {
                    assert_eq!(tw_run(op, addresses.as_ptr(), 3, ptr::null_mut()), TW_OK, "{}", last_error());
                    let mut d = [0_u16; 8];
                    let last = addresses[2] + 16 * (m as u64 - 1);
                    assert_eq!(tw_download(pack, d.as_mut_ptr().cast(), last, 16), TW_OK);
                    assert_eq!(d, [0x4100; 8]);
                }
                tw_op_close(op);
            });
        }
    });
    // SAFETY: opened above and closed once.
    unsafe { tw_close(pack as *mut PackHandle) };
}
