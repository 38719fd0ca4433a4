//! Rows of all pairs, tap by tap: what gather-GEMM-scatter multiplies.

use super::class::{CoreError, padded, vec_of};
use super::kernel::TEMPLATE;
use super::rows::{COLS, ROWS, WARPS, matrix};
use crate::plan::TemplateKernel;
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, Unit};
use tilewright_ir::{Arch, DType};

/// The kernel: row p of `gathered [pairs, cin]` is row `pair_in[p]` of `x [n, cin]`, for the pairs that exist, `tap_start[taps]` of
/// them. Unless `aligned`, rows of `gathered` are as long as the next multiple of a 16-byte access, zeros past cin.
///
/// Scalars: `pairs`, `taps`, `cin`, which is a multiple of a 16-byte access where `aligned`.
pub fn gather_kernel(arch: Arch, dtype: DType, aligned: bool) -> Result<TemplateKernel, CoreError> {
    let id = gather_id(dtype, aligned);
    let mut k = KernelBuilder::new(&id, arch);
    for name in ["pairs", "taps", "cin"] {
        k.shape(name);
    }
    let vec = if aligned { vec_of(dtype) } else { 1 };
    let wide = if aligned { "cin".to_string() } else { padded("cin", dtype) };
    let x = k.tensor("x", dtype, [Dim::param("n"), Dim::param("cin")]);
    let pair_in = k.tensor("pair_in", DType::I32, [Dim::param("pairs")]);
    let start = k.tensor("tap_start", DType::I32, [Dim::param("taps+1")]);
    let gathered = k.tensor("gathered", dtype, [Dim::param("pairs"), Dim::param(&wide)]);
    if aligned {
        k.require(format!("cin % {vec} == 0"));
    }
    k.grid([format!("ceil_div(pairs,{ROWS})*ceil_div({wide},{COLS})"), "1".into(), "1".into()]);
    let like = matrix(dtype, vec)?;
    k.role("main", WARPS, None, Unit::Role, |r| {
        let (taps, cin) = (r.param("taps"), r.param("cin"));
        let columns = r.ceil_div(cin, vec_of(dtype));
        let columns = r.mul(columns, vec_of(dtype));
        let at = super::rows::place(r, &like, columns);
        let exist = r.load_scalar(&start, &[taps]);
        let some = r.cmp(CmpPred::Lt, at.first, exist);
        r.if_then(some, |r| {
            let to = at.rows_below(r, exist);
            let zero = r.splat_int(0, to);
            let there = r.compare(CmpPred::Ge, to, zero);
            let from = r.load_elems(&pair_in, &[], to, Some(there));
            let from = r.choose(there, from, to);
            let tile = r.load_rows(&x, like.clone(), from, at.col, vec);
            r.store_rows(&gathered, tile, to, at.col, vec);
        });
    });
    let axes = [("kind", "gather".to_string()), ("aligned", u8::from(aligned).to_string())];
    Ok(TemplateKernel::plain(id, TEMPLATE, axes, "none", k))
}

/// The id of [`gather_kernel`].
pub(super) fn gather_id(dtype: DType, aligned: bool) -> String {
    format!("sparse_gather_{dtype}{}", if aligned { "" } else { "_pad" })
}
