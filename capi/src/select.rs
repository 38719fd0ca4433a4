//! Which plan for a problem, and whether a plan is correct for it.

use std::ffi::c_char;
use std::ptr;

use crate::pack::PackHandle;
use crate::problem::{Gemm, Sizes, policy as policy_of};
use crate::read::{handle, target, text};
use crate::status::guard;

/// The id of the plan that a policy chooses for a matrix product; the text lives as long as the pack.
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
        let plan = pack.engine.select("gemm", op_class, &problem.vars()?, policy_of(policy)?)?;
        *plan_id = pack.plan_ids[plan.0 as usize].as_ptr();
        Ok(())
    })
}

/// TW_OK when the plan is correct for the matrix product, TW_UNFIT when not.
///
/// # Safety
/// `pack` is null or open; `plan_id` is null or zero-terminated; `problem` is null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_check_gemm(pack: *const PackHandle, plan_id: *const c_char, problem: *const Gemm) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (pack, plan_id, problem) = unsafe { (handle("pack", pack)?, text("plan_id", plan_id)?, handle("problem", problem)?) };
        Ok(pack.engine.check(pack.plan(plan_id)?, &problem.vars()?)?)
    })
}

/// The id of the plan that a policy chooses for a problem of any op; the text lives as long as the pack.
///
/// # Safety
/// `pack` is null or open; texts are null or zero-terminated; `problem` and what it points to, and `plan_id`, are null or
/// valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_select(
    pack: *const PackHandle,
    op: *const c_char,
    op_class: *const c_char,
    policy: i32,
    problem: *const Sizes,
    plan_id: *mut *const c_char,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (pack, op, op_class) = unsafe { (handle("pack", pack)?, text("op", op)?, text("op_class", op_class)?) };
        // SAFETY: likewise.
        let (problem, plan_id) = unsafe { (handle("problem", problem)?, target("plan_id", plan_id)?) };
        *plan_id = ptr::null();
        // SAFETY: likewise.
        let vars = unsafe { problem.vars()? };
        let plan = pack.engine.select(op, op_class, &vars, policy_of(policy)?)?;
        *plan_id = pack.plan_ids[plan.0 as usize].as_ptr();
        Ok(())
    })
}

/// TW_OK when the plan is correct for the problem, TW_UNFIT when not.
///
/// # Safety
/// `pack` is null or open; `plan_id` is null or zero-terminated; `problem` and what it points to are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_check(pack: *const PackHandle, plan_id: *const c_char, problem: *const Sizes) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (pack, plan_id, problem) = unsafe { (handle("pack", pack)?, text("plan_id", plan_id)?, handle("problem", problem)?) };
        // SAFETY: likewise.
        let vars = unsafe { problem.vars()? };
        Ok(pack.engine.check(pack.plan(plan_id)?, &vars)?)
    })
}
