//! One value in every element.

use super::lanes::WARPS;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{Dim, KernelBuilder, RegTile, Unit};

/// Elements of a CTA.
const COUNT: u32 = 32 * WARPS * 8;

/// Records the kernel: `x [len]`, every element `value` (I32), or 0 (F32).
///
/// Scalars: `len`; of I32 `value`.
///
/// # Errors
/// A tile without a layout: a mistake in the template.
pub fn fill(k: &mut KernelBuilder, dtype: DType) -> Result<(), LayoutError> {
    k.shape("len");
    if dtype == DType::I32 {
        k.shape("value");
    }
    let x = k.tensor("x", dtype, [Dim::param("len")]);
    k.grid([format!("ceil_div(len,{COUNT})"), "1".into(), "1".into()]);
    let like = RegTile { dtype, shape: [1, COUNT], layout: blocked(32 * WARPS, [1, COUNT], 1)? };
    k.role("main", WARPS, None, Unit::Role, |r| {
        let value = if dtype == DType::I32 { r.param("value") } else { r.float(0.0) };
        let tile = r.splat(value, like);
        let cta = r.cta_id(0);
        let at = r.mul(cta, COUNT);
        r.store_tile(&x, tile, &[at], 1);
    });
    Ok(())
}
