//! DLPack tensors: what is taken, and what is said of the rest.

use std::process::Command;
use std::ptr;

use tilewright::*;

use crate::abi::{CLASS, PROBLEM};
use crate::{built, emulated, last_error, pack_path};

const BF16: DLDataType = DLDataType { code: 4, bits: 16, lanes: 1 };
const EXTENSION: DLDevice = DLDevice { device_type: 12, device_id: 0 };

/// A tensor and what it points to.
struct Given {
    managed: DLManagedTensorVersioned,
    shape: Vec<i64>,
    strides: Option<Vec<i64>>,
}

impl Given {
    fn new(address: u64, shape: &[i64]) -> Self {
        let dl_tensor = DLTensor {
            data: ptr::without_provenance_mut(address as usize),
            device: EXTENSION,
            ndim: 0,
            dtype: BF16,
            shape: ptr::null_mut(),
            strides: ptr::null_mut(),
            byte_offset: 0,
        };
        let version = DLPackVersion { major: 1, minor: 1 };
        let managed = DLManagedTensorVersioned { version, manager_ctx: ptr::null_mut(), deleter: None, flags: 0, dl_tensor };
        Given { managed, shape: shape.to_vec(), strides: None }
    }

    fn pointer(&mut self) -> *const DLManagedTensorVersioned {
        let tensor = &mut self.managed.dl_tensor;
        (tensor.ndim, tensor.shape) = (self.shape.len() as i32, self.shape.as_mut_ptr());
        tensor.strides = self.strides.as_mut().map_or(ptr::null_mut(), |strides| strides.as_mut_ptr());
        &self.managed
    }
}

/// A product of 3 by 8 by 8 on the emulator, its tensors `a`, `b`, `d`, and what is spoiled in them.
struct Product {
    pack: *mut PackHandle,
    op: *mut OpHandle,
    addresses: [u64; 3],
}

impl Product {
    fn new() -> Self {
        let pack = emulated();
        let (mut op, mut addresses) = (ptr::null_mut(), [0; 3]);
        // SAFETY: the pack is open, and every pointer is valid for its call.
        unsafe {
            assert_eq!(tw_prepare_gemm(pack, CLASS.as_ptr(), TW_FASTEST, &PROBLEM, &mut op), TW_OK, "{}", last_error());
            for address in &mut addresses {
                assert_eq!(tw_alloc(pack, 256, address), TW_OK);
                assert_eq!(tw_upload(pack, *address, [0x3f80_u16; 128].as_ptr().cast(), 256), TW_OK);
            }
        }
        Product { pack, op, addresses }
    }

    fn run(&self, spoil: impl FnOnce(&mut [Given; 3])) -> Result<(), String> {
        let [a, b, d] = self.addresses;
        let mut given = [Given::new(a, &[3, 8]), Given::new(b, &[8, 8]), Given::new(d, &[3, 8])];
        spoil(&mut given);
        let pointers = given.each_mut().map(Given::pointer);
        // SAFETY: the op is prepared, and the tensors keep DLPack's rules.
        match unsafe { tw_run_dlpack(self.op, pointers.as_ptr(), 3, ptr::null_mut()) } {
            TW_OK => Ok(()),
            TW_INVALID => Err(last_error()),
            status => panic!("{status}: {}", last_error()),
        }
    }

    fn d(&self, at: usize) -> u16 {
        let mut value = 0_u16;
        // SAFETY: the pack is open, and two bytes are copied.
        let status = unsafe { tw_download(self.pack, (&raw mut value).cast(), self.addresses[2] + 2 * at as u64, 2) };
        assert_eq!(status, TW_OK);
        value
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        // SAFETY: each is closed once.
        unsafe {
            tw_op_close(self.op);
            tw_close(self.pack);
        }
    }
}

#[test]
fn tensors_that_fit_run() {
    let product = Product::new();
    assert_eq!(product.run(|_| ()), Ok(()));
    assert_eq!(product.d(23), 0x4100, "the sum of eight ones");
    assert_eq!(product.d(24), 0x3f80, "what lies behind is as it was");
    // Shapes with leading ones, strides that say row-major, and an offset of four rows.
    let fits = product.run(|[a, b, d]| {
        a.shape = vec![1, 3, 8];
        b.strides = Some(vec![8, 1]);
        d.managed.dl_tensor.byte_offset = 64;
    });
    assert_eq!(fits, Ok(()));
    assert_eq!([product.d(31), product.d(32), product.d(55), product.d(56)], [0x3f80, 0x4100, 0x4100, 0x3f80]);
}

#[test]
fn what_is_wrong_with_a_tensor_is_said() {
    let product = Product::new();
    type Spoil = fn(&mut [Given; 3]);
    let faults: [(Spoil, &str); 13] = [
        (|t| t[0].managed.version.major = 2, "tensor `a`: DLPack 2.1: only version 1 is understood"),
        (|t| t[2].managed.flags = 1, "tensor `d`: read only, and the run writes it"),
        (
            |t| t[0].managed.dl_tensor.device = DLDevice { device_type: 1, device_id: 0 },
            "tensor `a`: on kDLCPU 0, and the pack is on emulator, which takes kDLExtDev 0, memory of tw_alloc",
        ),
        (
            |t| t[1].managed.dl_tensor.device.device_type = -7,
            "tensor `b`: on unknown device 0, and the pack is on emulator, which takes kDLExtDev 0, memory of tw_alloc",
        ),
        (|t| t[1].managed.dl_tensor.dtype.code = 2, "tensor `b`: dtype kDLFloat of 16 bits and 1 lanes, and the op takes bf16"),
        (|t| t[1].managed.dl_tensor.dtype.lanes = 2, "tensor `b`: dtype kDLBfloat of 16 bits and 2 lanes, and the op takes bf16"),
        (|t| t[0].shape = vec![8, 3], "tensor `a`: shape [8, 3], and the op takes [1, 3, 8]"),
        (|t| t[0].shape = vec![-3, 8], "tensor `a`: shape [-3, 8], and the op takes [1, 3, 8]"),
        (|t| t[0].shape = vec![24], "tensor `a`: shape [24], and the op takes [1, 3, 8]"),
        (
            |t| t[1].strides = Some(vec![1, 8]),
            "tensor `b`: strides [1, 8] of shape [8, 8] are not dense and row-major: copy it first",
        ),
        (|t| t[1].managed.dl_tensor.byte_offset = u64::MAX, "tensor `b`: byte_offset 18446744073709551615 is too large"),
        (
            |t| t[1].managed.dl_tensor.data = ptr::null_mut(),
            "tensor `b` has address 0x0, which must not be null and be a multiple",
        ),
        (|t| t[0].managed.dl_tensor.byte_offset = 8, "8 is no multiple of 16: copy it first"),
    ];
    for (at, (spoil, expected)) in faults.into_iter().enumerate() {
        let why = product.run(spoil).expect_err(expected);
        assert!(why.contains(expected), "{at}: {why}");
    }
    assert_eq!(product.run(|_| ()), Ok(()), "the op is as good as before");

    // SAFETY: the op is prepared; a null tensor and a wrong count are looked at, not through.
    unsafe {
        assert_eq!(tw_run_dlpack(product.op, [ptr::null(); 3].as_ptr(), 3, ptr::null_mut()), TW_INVALID);
        assert_eq!(last_error(), "tensor `a`: pointer is null");
        assert_eq!(tw_run_dlpack(product.op, ptr::null(), 0, ptr::null_mut()), TW_INVALID);
        assert_eq!(last_error(), "the op takes 3 tensors and 0 were given");
    }
}

/// Structures made by numpy, which keep another's rules than ours: its tensors lie on the host, so they are refused until
/// device and address are put right in place.
const PYTHON: &str = r#"
import ctypes, sys
try:
    import numpy
    numpy.ones(1).__dlpack__(max_version=(1, 0))
except (ImportError, TypeError):
    sys.exit(77)
library = ctypes.CDLL(sys.argv[1])
library.tw_last_error.restype = ctypes.c_char_p
def call(name, *arguments):
    return getattr(library, name)(*arguments)
def done(status):
    assert status == 0, library.tw_last_error()
pack, op = ctypes.c_void_p(), ctypes.c_void_p()
done(call("tw_open_on", sys.argv[2].encode(), b"emulator", ctypes.byref(pack)))
class Gemm(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("m", "n", "k", "batch", "split_k")] + [("alpha", ctypes.c_float)]
problem = Gemm(3, 8, 8, 1, 0, 1.0)
done(call("tw_prepare_gemm", pack, b"a=f16,b=nk,out=f16,act=none,bias=0,residual=0", 0, ctypes.byref(problem), ctypes.byref(op)))
get = ctypes.pythonapi.PyCapsule_GetPointer
get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
host = [numpy.full((3, 8), 2, "float16"), numpy.ones((8, 8), "float16"), numpy.zeros((3, 8), "float16")]
capsules = [x.__dlpack__(max_version=(1, 0)) for x in host]
pointers = [get(capsule, b"dltensor_versioned") for capsule in capsules]
tensors = (ctypes.c_void_p * 3)(*pointers)
assert call("tw_run_dlpack", op, tensors, 3, None) == 2
print(library.tw_last_error().decode())
addresses = []
for x, pointer in zip(host, pointers):
    address = ctypes.c_uint64()
    done(call("tw_alloc", pack, ctypes.c_uint64(x.nbytes), ctypes.byref(address)))
    done(call("tw_upload", pack, address, x.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint64(x.nbytes)))
    ctypes.c_uint64.from_address(pointer + 32).value = address.value
    ctypes.c_int32.from_address(pointer + 40).value = 12
    addresses.append(address)
done(call("tw_run_dlpack", op, tensors, 3, None))
d = host[2]
done(call("tw_download", pack, d.ctypes.data_as(ctypes.c_void_p), addresses[2], ctypes.c_uint64(d.nbytes)))
print(set(d.flatten().tolist()))
"#;

#[test]
fn structures_of_numpy_are_read_as_numpy_lays_them_out() {
    let Some(library) = built("libtilewright.so") else { return };
    let output = match Command::new("python3").args(["-B", "-c", PYTHON]).arg(library).arg(pack_path()).output() {
        Ok(output) => output,
        Err(error) => return eprintln!("skipped: no python3: {error}"),
    };
    if output.status.code() == Some(77) {
        return eprintln!("skipped: no numpy with DLPack 1.0");
    }
    let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let refusal = "tensor `a`: on kDLCPU 0, and the pack is on emulator, which takes kDLExtDev 0, memory of tw_alloc";
    assert_eq!(words, format!("{refusal}\n{{16.0}}\n"));
}
