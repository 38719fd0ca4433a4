//! `act((sum + bias) * bn_scale + bn_shift + residual)` in f32, rounded once by whoever stores it.

use super::class::EpilogueClass;
use crate::gemm::activation;
use tilewright_ir::DType;
use tilewright_ir::tile::{Dim, KernelBuilder, RoleBuilder, Scalar, TensorRef, TileRef};

/// The tensors of an epilogue.
#[derive(Clone, Debug)]
pub(super) struct Epilogue {
    class: EpilogueClass,
    dtype: DType,
    bias: Option<TensorRef>,
    bn: Option<[TensorRef; 2]>,
    residual: Option<TensorRef>,
    /// Neighbours along cout that may be accessed at once.
    n_align: u32,
}

impl Epilogue {
    /// Declares `bias`, `bn_scale`, `bn_shift` `[cout]` and `residual [m, cout]`, those the class has, beside outputs of `dtype`.
    pub fn declare(k: &mut KernelBuilder, class: EpilogueClass, dtype: DType, n_align: u32) -> Self {
        let cout = || [Dim::param("cout")];
        let bias = class.bias.map(|d| k.tensor("bias", d, cout()));
        let bn = class.bn.map(|d| ["bn_scale", "bn_shift"].map(|name| k.tensor(name, d, cout())));
        let residual = class.residual.then(|| k.tensor("residual", dtype, [Dim::param("m"), Dim::param("cout")]));
        Epilogue { class, dtype, bias, bn, residual, n_align }
    }

    /// Applies it to f32 sums whose first column is `col` and whose rows are `rows` of the output: I32 `[rows, 1]` in the sums'
    /// layout, -1 for none.
    pub fn emit(&self, r: &mut RoleBuilder, sums: TileRef, rows: TileRef, col: Scalar) -> TileRef {
        let mut y = sums;
        let like = r.tile_type(sums);
        let vector = |r: &mut RoleBuilder, t: &TensorRef| {
            let v = r.load_tile(t, like.clone(), &[col], &[1], self.n_align.min(16 / t.dtype.bytes()));
            r.cast(v, DType::F32)
        };
        if let Some(bias) = &self.bias {
            let b = vector(r, bias);
            y = r.binary("add", y, b);
        }
        if let Some([scale, shift]) = &self.bn {
            let (scale, shift) = (vector(r, scale), vector(r, shift));
            y = r.fma(y, scale, shift);
        }
        if let Some(residual) = &self.residual {
            let e = r.load_rows(residual, like.clone(), rows, col, self.n_align.min(16 / self.dtype.bytes()));
            let e = r.cast(e, DType::F32);
            y = r.binary("add", y, e);
        }
        activation(r, self.class.act, y)
    }
}
