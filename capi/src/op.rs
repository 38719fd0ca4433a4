//! A plan prepared for a shape: what it takes, and running it.

use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;

use tilewright_runtime::device::Stream;
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::engine::{Engine, Launchable, Problem};
use tilewright_runtime::expr::Vars;
use tilewright_runtime::plan::Role;

use crate::device::AnyDevice;
use crate::pack::PackHandle;
use crate::problem::{Gemm, Sizes, policy as policy_of};
use crate::read::{handle, list, target, text};
use crate::status::{Failure, c_text, guard, invalid};

/// Role: the caller fills it before the run.
pub const TW_INPUT: i32 = 0;
/// Role: the run fills it.
pub const TW_OUTPUT: i32 = 1;

/// Most dimensions of a tensor.
pub const TW_MAX_RANK: usize = 8;

/// A tensor to give to tw_run; row-major and dense. The texts live as long as the op.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Tensor {
    /// Name in the op.
    pub name: *const c_char,
    /// Element type: bf16, f16, f32, e4m3, ...
    pub dtype: *const c_char,
    /// TW_INPUT or TW_OUTPUT.
    pub role: i32,
    /// Entries of `shape` that count.
    pub rank: u32,
    /// Extents, outermost first.
    pub shape: [u64; TW_MAX_RANK],
    /// Size in memory.
    pub bytes: u64,
    /// Its address must be a multiple of this.
    pub alignment: u64,
}

/// A plan prepared for a shape, with its workspaces. One thread and one stream at a time.
pub struct OpHandle {
    /// First, so that it is dropped before the engine.
    pub(crate) ready: Launchable<AnyDevice>,
    pub(crate) engine: Arc<Engine<AnyDevice>>,
    /// Room for as many addresses as there are tensors.
    pub(crate) addresses: Vec<u64>,
    texts: Vec<Texts>,
}

/// A tensor's texts for C.
struct Texts {
    name: CString,
    dtype: CString,
}

impl PackHandle {
    fn prepare_gemm(&self, plan: PlanIndex, problem: &Gemm) -> Result<OpHandle, Failure> {
        // An alpha of 1 may be left out; any other one that the plan would ignore is refused by `prepare`.
        let takes_alpha = self.engine.scalars(plan)?.contains(&"alpha");
        let alpha = [("alpha", problem.alpha)];
        let scalars: &[(&str, f32)] = if takes_alpha || problem.alpha != 1.0 { &alpha } else { &[] };
        self.prepare(plan, problem.vars()?, scalars)
    }

    fn prepare(&self, plan: PlanIndex, vars: Vars, scalars: &[(&str, f32)]) -> Result<OpHandle, Failure> {
        let ready = self.engine.prepare(plan, &Problem { vars, scalars })?;
        let texts = ready.tensors().iter();
        let texts = texts.map(|info| Texts { name: c_text(&info.name), dtype: c_text(info.dtype.name()) }).collect();
        let addresses = vec![0; ready.tensors().len()];
        Ok(OpHandle { ready, engine: Arc::clone(&self.engine), addresses, texts })
    }
}

/// Prepares the plan that a policy chooses for a matrix product.
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
        let plan = pack.engine.select("gemm", op_class, &problem.vars()?, policy_of(policy)?)?;
        *op = Box::into_raw(Box::new(pack.prepare_gemm(plan, problem)?));
        Ok(())
    })
}

/// Prepares the plan with this id for a matrix product.
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
        *op = Box::into_raw(Box::new(pack.prepare_gemm(pack.plan(plan_id)?, problem)?));
        Ok(())
    })
}

/// Prepares the plan with this id for a problem of any op.
///
/// # Safety
/// `pack` is null or open; `plan_id` is null or zero-terminated; `problem` and what it points to, and `op`, are null or
/// valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_prepare(
    pack: *const PackHandle,
    plan_id: *const c_char,
    problem: *const Sizes,
    op: *mut *mut OpHandle,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (pack, plan_id, problem, op) =
            unsafe { (handle("pack", pack)?, text("plan_id", plan_id)?, handle("problem", problem)?, target("op", op)?) };
        *op = ptr::null_mut();
        // SAFETY: likewise.
        let (vars, numbers) = unsafe { (problem.vars()?, problem.numbers()?) };
        *op = Box::into_raw(Box::new(pack.prepare(pack.plan(plan_id)?, vars, &numbers)?));
        Ok(())
    })
}

/// How many addresses tw_run takes; 0 for a null op.
///
/// # Safety
/// `op` is null or prepared and not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_op_tensor_count(op: *const OpHandle) -> u32 {
    // SAFETY: the caller's promise above.
    unsafe { op.as_ref() }.map_or(0, |op| op.ready.tensors().len() as u32)
}

/// The tensor whose address comes at `index`.
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
        let (Some(info), Some(Texts { name, dtype })) = (tensors.get(index), op.texts.get(index)) else {
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

/// Device memory that the op holds; 0 for a null op.
///
/// # Safety
/// `op` is null or prepared and not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_op_workspace_bytes(op: *const OpHandle) -> u64 {
    // SAFETY: the caller's promise above.
    unsafe { op.as_ref() }.map_or(0, |op| op.ready.workspace_bytes())
}

/// Queues the op on a CUstream (null is the default stream) with one device address for each tensor. Allocates nothing, so
/// it may be captured into a graph. The emulator takes no notice of the stream and is done when this returns.
///
/// # Safety
/// `op` is null or prepared, not closed and in no other call; `addresses` is null or holds `count` numbers; `stream` is
/// null or a stream of the device's primary context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_run(op: *mut OpHandle, addresses: *const u64, count: u32, stream: *mut c_void) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (op, addresses) = unsafe { (target("op", op)?, list("addresses", addresses, count as usize)?) };
        Ok(op.engine.launch(&mut op.ready, addresses, Stream(stream.addr()))?)
    })
}

/// Frees the op. Its launches must have finished, and graphs that captured it must not run again: they hold its
/// workspaces. Null is allowed.
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
