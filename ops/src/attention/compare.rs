//! Outputs against the references of the templates.

pub use super::super::case::{numbers, whole};
use crate::error::{Res, failed};
use crate::tensors::Tensors;
use serde_json::{Value, json};
use tilewright_runtime::manifest::Kernel;
use tilewright_templates::attention::{AttentionReference, Expected, Numerics};

/// Work (multiply-adds) up to which a result is compared with the reference.
const REFERENCE_LIMIT: usize = 1 << 29;

/// How the kernels compute: some share of the exponentials may be a polynomial's.
pub fn numerics(kernels: &[&Kernel]) -> Numerics {
    let cubic = kernels.iter().any(|k| k.config.get("exp_fma").is_some_and(|share| share != "0"));
    if cubic { Numerics::CUBIC } else { Numerics::APPROX }
}

/// What a report says where the work is too much for the reference.
pub fn too_much(work: usize) -> Option<Value> {
    let why = || format!("{work} multiply-adds are more than {REFERENCE_LIMIT}");
    (work > REFERENCE_LIMIT).then(|| json!({"reference": null, "why": why()}))
}

/// Compares `o` and `lse`.
pub fn compare(outputs: &Tensors, want: &AttentionReference) -> Res<Value> {
    let all = [("o", &want.o), ("lse", &want.lse)];
    // Inputs that the reference itself makes NaN of: infinities and NaNs where they are read.
    if all.iter().any(|(_, e)| e.value.iter().any(|x| x.is_nan())) {
        return Ok(json!({"reference": null, "why": "the inputs hold infinities or NaNs"}));
    }
    let (mut worst, mut elements) = ([0.0; 2], 0);
    for (i, (name, expected)) in all.into_iter().enumerate() {
        let found = numbers(outputs, name)?;
        if let Some(miss) = expected.first_miss(&found) {
            let (at, found, value, bound) = (miss.index, miss.found, miss.value, miss.bound);
            return failed(format!("element {at} of {name} is {found}, the f64 reference {value}, the bound {bound:e}"));
        }
        worst[i] = largest_error(expected, &found);
        elements += found.len();
    }
    let max_error = json!({"o": worst[0], "lse": worst[1]});
    Ok(json!({"reference": "f64", "elements": elements, "max_error": max_error, "bound": "2*|lowp-ref| + slack"}))
}

fn largest_error(expected: &Expected, found: &[f64]) -> f64 {
    let errors = found.iter().zip(&expected.value).map(|(x, y)| if x == y { 0.0 } else { (x - y).abs() });
    errors.fold(0.0, f64::max)
}
