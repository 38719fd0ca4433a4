//! The C ABI of `include/tilewright.h`, which documents each function for its callers.
//!
//! Every function checks its pointers for null, returns a status, leaves the reason in a thread's last error, and stops
//! panics at the border.

mod handles;
mod named;

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::cuda::CudaDevice;
use crate::device::{DeviceError, Stream};
use crate::dispatch::{Policy, SelectError};
use crate::engine::{Engine, EngineError};
use crate::expr::{VarId, Vars};
use crate::pack::{Pack, PackError};
use crate::plan::Role;

use handles::{LAST_ERROR, OpTexts, remember};
pub use handles::{OpHandle, PackHandle};
pub use named::{Number, Size, Sizes, tw_check, tw_prepare, tw_select};

/// Done.
pub const TW_OK: i32 = 0;
/// The pack was refused, or the driver reported an error.
pub const TW_FAILED: i32 = 1;
/// An argument is null, no UTF-8, or out of range.
pub const TW_INVALID: i32 = 2;
/// No NVIDIA driver on this machine.
pub const TW_NO_DRIVER: i32 = 3;
/// No plan, or not this plan, is correct for the problem.
pub const TW_UNFIT: i32 = 4;

/// Policy: the first plan that fits.
pub const TW_FASTEST: i32 = 0;
/// Policy: one plan for each (n, k) whatever m is.
pub const TW_BATCH_INVARIANT: i32 = 1;

/// Role: the caller fills it before the run.
pub const TW_INPUT: i32 = 0;
/// Role: the run fills it.
pub const TW_OUTPUT: i32 = 1;

/// Most dimensions of a tensor.
pub const TW_MAX_RANK: usize = 8;

/// `tw_gemm`: a matrix product's sizes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Gemm {
    /// Rows of the output.
    pub m: i64,
    /// Columns of the output.
    pub n: i64,
    /// Length of the sums.
    pub k: i64,
    /// Products of the same sizes.
    pub batch: i64,
    /// Parts of the sum; 0 lets the plan choose.
    pub split_k: i64,
    /// Factor of the sum.
    pub alpha: f32,
}

/// `tw_tensor`: what to give to `tw_run`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Tensor {
    /// Name in the op.
    pub name: *const c_char,
    /// Element type.
    pub dtype: *const c_char,
    /// `TW_INPUT` or `TW_OUTPUT`.
    pub role: i32,
    /// Entries of `shape` that count.
    pub rank: u32,
    /// Extents, outermost first.
    pub shape: [u64; TW_MAX_RANK],
    /// Size in memory.
    pub bytes: u64,
    /// What its address must be a multiple of.
    pub alignment: u64,
}

/// A status and its reason.
struct Failure(i32, String);

/// See `tilewright.h`.
#[unsafe(no_mangle)]
pub extern "C" fn tw_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

/// See `tilewright.h`.
#[unsafe(no_mangle)]
pub extern "C" fn tw_last_error() -> *const c_char {
    // Null only while the thread ends and its storage is gone.
    LAST_ERROR.try_with(|text| text.borrow().as_ptr()).unwrap_or(ptr::null())
}

/// See `tilewright.h`.
///
/// # Safety
/// `folder` is null or a zero-terminated string; `pack` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_open(folder: *const c_char, ordinal: u32, pack: *mut *mut PackHandle) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (folder, pack) = unsafe { (text("folder", folder)?, target("pack", pack)?) };
        *pack = ptr::null_mut();
        // The pack first: a bad one is reported on any machine.
        let opened = Pack::open(folder)?;
        let engine = Engine::new(opened, CudaDevice::open(ordinal)?)?;
        *pack = Box::into_raw(Box::new(PackHandle::new(engine)));
        Ok(())
    })
}

/// See `tilewright.h`.
///
/// # Safety
/// `pack` is null or from `tw_open` and not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_verify(pack: *const PackHandle) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let pack = unsafe { handle("pack", pack)? };
        Ok(pack.engine.pack().verify_all()?)
    })
}

/// See `tilewright.h`.
///
/// # Safety
/// `pack` is null or from `tw_open` and not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_manifest_hash(pack: *const PackHandle) -> *const c_char {
    // SAFETY: the caller's promise above.
    unsafe { pack.as_ref() }.map_or(ptr::null(), |pack| pack.manifest_hash.as_ptr())
}

/// See `tilewright.h`.
///
/// # Safety
/// `pack` is null or from `tw_open` and not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_close(pack: *mut PackHandle) {
    guard(|| {
        if !pack.is_null() {
            // SAFETY: made by `Box::into_raw` in `tw_open`, and closed once by the caller's promise.
            drop(unsafe { Box::from_raw(pack) });
        }
        Ok(())
    });
}

/// See `tilewright.h`.
///
/// # Safety
/// `pack` is null or open; texts are null or zero-terminated; `problem` and `plan_id` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_select_gemm(
    pack: *const PackHandle,
    op_class: *const c_char,
    policy: i32,
    problem: *const Gemm,
    plan_id: *mut *const c_char,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (pack, op_class, problem, plan_id) = unsafe {
            (handle("pack", pack)?, text("op_class", op_class)?, handle("problem", problem)?, target("plan_id", plan_id)?)
        };
        *plan_id = ptr::null();
        let plan = pack.engine.select("gemm", op_class, &vars(problem)?, policy_of(policy)?)?;
        *plan_id = pack.plan_ids[plan.0 as usize].as_ptr();
        Ok(())
    })
}

/// See `tilewright.h`.
///
/// # Safety
/// `pack` is null or open; `plan_id` is null or zero-terminated; `problem` is null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_check_gemm(pack: *const PackHandle, plan_id: *const c_char, problem: *const Gemm) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (pack, plan_id, problem) = unsafe { (handle("pack", pack)?, text("plan_id", plan_id)?, handle("problem", problem)?) };
        Ok(pack.engine.check(pack.plan(plan_id)?, &vars(problem)?)?)
    })
}

/// See `tilewright.h`.
///
/// # Safety
/// `pack` is null or open; `op_class` is null or zero-terminated; `problem` and `op` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_prepare_gemm(
    pack: *const PackHandle,
    op_class: *const c_char,
    policy: i32,
    problem: *const Gemm,
    op: *mut *mut OpHandle,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (pack, op_class, problem, op) =
            unsafe { (handle("pack", pack)?, text("op_class", op_class)?, handle("problem", problem)?, target("op", op)?) };
        *op = ptr::null_mut();
        let plan = pack.engine.select("gemm", op_class, &vars(problem)?, policy_of(policy)?)?;
        *op = Box::into_raw(Box::new(pack.prepare(plan, problem)?));
        Ok(())
    })
}

/// See `tilewright.h`.
///
/// # Safety
/// `pack` is null or open; `plan_id` is null or zero-terminated; `problem` and `op` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_prepare_plan(
    pack: *const PackHandle,
    plan_id: *const c_char,
    problem: *const Gemm,
    op: *mut *mut OpHandle,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (pack, plan_id, problem, op) =
            unsafe { (handle("pack", pack)?, text("plan_id", plan_id)?, handle("problem", problem)?, target("op", op)?) };
        *op = ptr::null_mut();
        *op = Box::into_raw(Box::new(pack.prepare(pack.plan(plan_id)?, problem)?));
        Ok(())
    })
}

/// See `tilewright.h`.
///
/// # Safety
/// `op` is null or prepared and not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_op_tensor_count(op: *const OpHandle) -> u32 {
    // SAFETY: the caller's promise above.
    unsafe { op.as_ref() }.map_or(0, |op| op.ready.tensors().len() as u32)
}

/// See `tilewright.h`.
///
/// # Safety
/// `op` is null or prepared and not closed; `tensor` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_op_tensor(op: *const OpHandle, index: u32, tensor: *mut Tensor) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (op, tensor) = unsafe { (handle("op", op)?, target("tensor", tensor)?) };
        let tensors = op.ready.tensors();
        let index = index as usize;
        let (Some(info), Some(OpTexts { name, dtype })) = (tensors.get(index), op.texts.get(index)) else {
            return Err(invalid(format!("no tensor {index}: the op has {}", tensors.len())));
        };
        let rank = info.shape.len();
        let mut shape = [0; TW_MAX_RANK];
        let Some(extents) = shape.get_mut(..rank) else {
            return Err(invalid(format!("tensor `{}` has {rank} dims, more than {TW_MAX_RANK}", info.name)));
        };
        extents.copy_from_slice(&info.shape);
        let role = if info.role == Role::Input { TW_INPUT } else { TW_OUTPUT };
        let (bytes, alignment) = (info.bytes, info.alignment);
        let (name, dtype) = (name.as_ptr(), dtype.as_ptr());
        *tensor = Tensor { name, dtype, role, rank: rank as u32, shape, bytes, alignment };
        Ok(())
    })
}

/// See `tilewright.h`.
///
/// # Safety
/// `op` is null or prepared and not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_op_workspace_bytes(op: *const OpHandle) -> u64 {
    // SAFETY: the caller's promise above.
    unsafe { op.as_ref() }.map_or(0, |op| op.ready.workspace_bytes())
}

/// See `tilewright.h`.
///
/// # Safety
/// `op` is null or prepared, not closed and in no other call; `addresses` is null or holds `count` numbers; `stream` is
/// null or a stream of the device's primary context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_run(op: *mut OpHandle, addresses: *const u64, count: u32, stream: *mut c_void) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (op, _) = unsafe { (target("op", op)?, handle("addresses", addresses)?) };
        // SAFETY: not null, and `count` long by the caller's promise.
        let addresses = unsafe { std::slice::from_raw_parts(addresses, count as usize) };
        Ok(op.engine.launch(&mut op.ready, addresses, Stream(stream.addr()))?)
    })
}

/// See `tilewright.h`.
///
/// # Safety
/// `op` is null or prepared and not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_op_close(op: *mut OpHandle) {
    guard(|| {
        if !op.is_null() {
            // SAFETY: made by `Box::into_raw` when prepared, and closed once by the caller's promise.
            drop(unsafe { Box::from_raw(op) });
        }
        Ok(())
    });
}

/// Runs a call: its failure becomes the status and the last error, and so does a panic.
fn guard(call: impl FnOnce() -> Result<(), Failure>) -> i32 {
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

fn invalid(why: String) -> Failure {
    Failure(TW_INVALID, why)
}

/// # Safety
/// `pointer` is null or a zero-terminated string that outlives the call.
unsafe fn text<'a>(name: &str, pointer: *const c_char) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(invalid(format!("{name} is null")));
    }
    // SAFETY: not null, and the rest is the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|error| invalid(format!("{name} is not UTF-8: {error}")))
}

/// # Safety
/// `pointer` is null or valid for the call.
unsafe fn handle<'a, T>(name: &str, pointer: *const T) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| invalid(format!("{name} is null")))
}

/// # Safety
/// `pointer` is null, or valid and not shared during the call.
unsafe fn target<'a, T>(name: &str, pointer: *mut T) -> Result<&'a mut T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_mut() }.ok_or_else(|| invalid(format!("{name} is null")))
}

fn policy_of(policy: i32) -> Result<Policy<'static>, Failure> {
    match policy {
        TW_FASTEST => Ok(Policy::Fastest),
        TW_BATCH_INVARIANT => Ok(Policy::BatchInvariant),
        _ => Err(invalid(format!("policy {policy} is neither TW_FASTEST nor TW_BATCH_INVARIANT"))),
    }
}

fn vars(problem: &Gemm) -> Result<Vars, Failure> {
    let &Gemm { m, n, k, batch, split_k, .. } = problem;
    if [m, n, k, batch].iter().any(|&size| size < 1) || split_k < 0 {
        let sizes = format!("m = {m}, n = {n}, k = {k}, batch = {batch}, split_k = {split_k}");
        return Err(invalid(format!("{sizes}: sizes must be at least 1, and split_k at least 0")));
    }
    let mut vars = Vars::gemm(m, n, k);
    for (id, value) in [(VarId::BATCH, batch), (VarId::SPLIT_K, split_k)] {
        vars.set(id, value).map_err(EngineError::from)?;
    }
    Ok(vars)
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
