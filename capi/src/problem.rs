//! Problems as C describes them.

use std::ffi::c_char;

use tilewright_runtime::dispatch::Policy;
use tilewright_runtime::engine::EngineError;
use tilewright_runtime::expr::{VarId, Vars};

use crate::read::{list, text};
use crate::status::{Failure, invalid};

/// Policy: the first plan that fits.
pub const TW_FASTEST: i32 = 0;
/// Policy: one plan for each (n, k) whatever m is.
pub const TW_BATCH_INVARIANT: i32 = 1;

/// d\[m,n\] = act(alpha * sum_k a*b + bias) + residual, batch times.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Gemm {
    /// Rows of the output.
    pub m: i64,
    /// Columns of the output.
    pub n: i64,
    /// Length of the sums.
    pub k: i64,
    /// Products of the same sizes; 1 when not batched.
    pub batch: i64,
    /// Parts the sum is cut into; 0 lets the plan choose.
    pub split_k: i64,
    /// Factor of the sum; refused unless 1 where the plan takes none.
    pub alpha: f32,
}

/// A size of a problem, by the name that plans use for it: batch, sq, hkv, ...
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Size {
    /// The variable.
    pub name: *const c_char,
    /// Its value, at least 0.
    pub value: i64,
}

/// A number that kernels take, by name: scale, softcap, ...
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Number {
    /// The scalar.
    pub name: *const c_char,
    /// Its value.
    pub value: f32,
}

/// A problem of any op. Sizes that the plan does not mention are allowed; numbers that it does not take are refused. m, n
/// and k are what dispatch looks at; only tw_select needs them where the plan does not mention them.
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

impl Gemm {
    pub(crate) fn vars(&self) -> Result<Vars, Failure> {
        let &Gemm { m, n, k, batch, split_k, .. } = self;
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
}

impl Sizes {
    /// # Safety
    /// `sizes` is null or points to `n_sizes` entries whose names are null or zero-terminated.
    pub(crate) unsafe fn vars(&self) -> Result<Vars, Failure> {
        let mut vars = Vars::new();
        // SAFETY: the caller's promise.
        for size in unsafe { list("sizes", self.sizes, self.n_sizes as usize)? } {
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
    /// `numbers` is null or points to `n_numbers` entries whose names are null or zero-terminated.
    pub(crate) unsafe fn numbers<'a>(&self) -> Result<Vec<(&'a str, f32)>, Failure> {
        let mut numbers: Vec<(&str, f32)> = Vec::new();
        // SAFETY: the caller's promise.
        for number in unsafe { list("numbers", self.numbers, self.n_numbers as usize)? } {
            // SAFETY: likewise.
            let name = unsafe { text("name of a number", number.name)? };
            if numbers.iter().any(|given| given.0 == name) {
                return Err(invalid(format!("number `{name}` is given twice")));
            }
            numbers.push((name, number.value));
        }
        Ok(numbers)
    }
}

pub(crate) fn policy(policy: i32) -> Result<Policy<'static>, Failure> {
    match policy {
        TW_FASTEST => Ok(Policy::Fastest),
        TW_BATCH_INVARIANT => Ok(Policy::BatchInvariant),
        _ => Err(invalid(format!("policy {policy} is neither TW_FASTEST nor TW_BATCH_INVARIANT"))),
    }
}
