//! Problems of any op for C: sizes and numbers by name.

use std::ffi::c_char;
use std::slice;

use crate::engine::EngineError;
use crate::expr::{VarId, Vars};

use super::handles::{OpHandle, PackHandle};
use super::{Failure, guard, handle, invalid, policy_of, target, text};

/// `tw_size`: one size of a problem.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Size {
    /// The variable.
    pub name: *const c_char,
    /// Its value, at least 0.
    pub value: i64,
}

/// `tw_number`: one number that kernels take.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Number {
    /// The scalar.
    pub name: *const c_char,
    /// Its value.
    pub value: f32,
}

/// `tw_problem`: sizes and numbers.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Sizes {
    /// `n_sizes` of them.
    pub sizes: *const Size,
    /// `n_numbers` of them.
    pub numbers: *const Number,
    /// Entries of `sizes`.
    pub n_sizes: u32,
    /// Entries of `numbers`.
    pub n_numbers: u32,
}

/// See `tilewright.h`.
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
        *plan_id = std::ptr::null();
        // SAFETY: likewise.
        let vars = unsafe { vars(problem)? };
        let plan = pack.engine.select(op, op_class, &vars, policy_of(policy)?)?;
        *plan_id = pack.plan_ids[plan.0 as usize].as_ptr();
        Ok(())
    })
}

/// See `tilewright.h`.
///
/// # Safety
/// `pack` is null or open; `plan_id` is null or zero-terminated; `problem` and what it points to are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tw_check(pack: *const PackHandle, plan_id: *const c_char, problem: *const Sizes) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise above.
        let (pack, plan_id, problem) = unsafe { (handle("pack", pack)?, text("plan_id", plan_id)?, handle("problem", problem)?) };
        // SAFETY: likewise.
        let vars = unsafe { vars(problem)? };
        Ok(pack.engine.check(pack.plan(plan_id)?, &vars)?)
    })
}

/// See `tilewright.h`.
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
        *op = std::ptr::null_mut();
        // SAFETY: likewise.
        let (vars, numbers) = unsafe { (vars(problem)?, numbers(problem)?) };
        *op = Box::into_raw(Box::new(pack.ready(pack.plan(plan_id)?, vars, &numbers)?));
        Ok(())
    })
}

/// # Safety
/// `problem.sizes` is null or points to `n_sizes` entries whose names are null or zero-terminated.
unsafe fn vars(problem: &Sizes) -> Result<Vars, Failure> {
    let mut vars = Vars::new();
    // SAFETY: the caller's promise.
    for size in unsafe { list("sizes", problem.sizes, problem.n_sizes)? } {
        // SAFETY: likewise.
        let name = unsafe { text("name of a size", size.name)? };
        if size.value < 0 {
            return Err(invalid(format!("{name} = {}: sizes are at least 0", size.value)));
        }
        let id = VarId::of(name);
        if vars.get(id).is_some() {
            return Err(invalid(format!("size `{name}` is given twice")));
        }
        vars.set(id, size.value).map_err(EngineError::from)?;
    }
    Ok(vars)
}

/// # Safety
/// `problem.numbers` is null or points to `n_numbers` entries whose names are null or zero-terminated.
unsafe fn numbers<'a>(problem: &Sizes) -> Result<Vec<(&'a str, f32)>, Failure> {
    let mut numbers: Vec<(&str, f32)> = Vec::new();
    // SAFETY: the caller's promise.
    for number in unsafe { list("numbers", problem.numbers, problem.n_numbers)? } {
        // SAFETY: likewise.
        let name = unsafe { text("name of a number", number.name)? };
        if numbers.iter().any(|given| given.0 == name) {
            return Err(invalid(format!("number `{name}` is given twice")));
        }
        numbers.push((name, number.value));
    }
    Ok(numbers)
}

/// # Safety
/// `pointer` is null or points to `count` values.
unsafe fn list<'a, T>(name: &str, pointer: *const T, count: u32) -> Result<&'a [T], Failure> {
    match (pointer.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(invalid(format!("{name} is null, with {count} entries"))),
        // SAFETY: not null, and the rest is the caller's promise.
        (false, _) => Ok(unsafe { slice::from_raw_parts(pointer, count as usize) }),
    }
}
