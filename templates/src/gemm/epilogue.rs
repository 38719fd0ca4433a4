//! Epilogues: what happens between the accumulator and the output, as closures over register tiles.
//!
//! [`Epilogue::standard`] gives what the class asks for. A template takes any closure, so a user's own epilogue needs no
//! change below this floor: see `docs/how-to/add-a-template.md`.

use super::problem::{Act, GemmProblem, Groups};
use super::scale::EpilogueScales;
use tilewright_ir::DType;
use tilewright_ir::tile::{Dim, KernelBuilder, RegTile, RoleBuilder, Scalar, TensorRef, TileRef};

/// Where the tile in hand lies in the output.
#[derive(Clone, Copy, Debug)]
pub struct EpilogueAt {
    /// Matrix of d.
    pub batch: Scalar,
    /// Matrix of b: the expert of a grouped GEMM, else that of d.
    pub weight: Scalar,
    /// First row.
    pub row: Scalar,
    /// First column.
    pub col: Scalar,
}

/// From accumulator tiles (one, or gate and up; f32, of bytes i32) to the f32 output tile of the same layout, or i32 sums.
pub type EpilogueFn<'a> = dyn Fn(&mut RoleBuilder, &[TileRef], EpilogueAt) -> TileRef + 'a;

/// The standard epilogue: `act(alpha * scales * acc + bias) + residual`.
#[derive(Clone, Debug)]
pub struct Epilogue {
    act: Act,
    /// The sums themselves are the output.
    sums_out: bool,
    /// Each expert has a bias of its own.
    grouped: bool,
    scales: EpilogueScales,
    bias: Option<TensorRef>,
    residual: Option<TensorRef>,
    /// Neighbours along n that may be accessed at once.
    vec: u32,
}

impl Epilogue {
    /// Declares the tensors and parameters the class needs: `alpha`, `bias`, `residual`. n is a multiple of `n_align`.
    pub fn standard(k: &mut KernelBuilder, p: &GemmProblem, n_align: u32) -> Self {
        k.scalar("alpha", DType::F32);
        let experts = (p.groups != Groups::Batch).then(|| p.groups.matrices());
        let wide = Dim { param: Some("n".into()), factor: p.gates() };
        let bias = p.bias.then(|| k.tensor("bias", p.bias_dtype(), experts.into_iter().chain([wide])));
        let [lead, rows] = p.groups.rows();
        let matrix = [lead, rows, Dim::param("n")];
        let residual = p.residual.then(|| k.tensor("residual", p.output, matrix));
        let scales = EpilogueScales::declare(k, p);
        Epilogue {
            act: p.act,
            scales,
            sums_out: p.output == DType::I32,
            grouped: p.groups != Groups::Batch,
            bias,
            residual,
            vec: n_align,
        }
    }

    /// Emits it.
    pub fn emit(&self, r: &mut RoleBuilder, acc: &[TileRef], at: EpilogueAt) -> TileRef {
        if self.sums_out {
            return acc[0];
        }
        let alpha = r.param("alpha");
        let mut parts = Vec::new();
        for (gate, tile) in acc.iter().enumerate() {
            let mut x = self.scales.apply(r, *tile, gate, at, alpha);
            if let Some(bias) = &self.bias {
                let n = r.param("n");
                let col = if gate == 0 { at.col } else { r.add(at.col, n) };
                let like = r.tile_type(x);
                // A gate's second half starts at n, which need not be aligned; an aligned n keeps both halves so.
                let coords = [at.weight, col];
                let coords = if self.grouped { &coords[..] } else { &coords[1..] };
                let b = r.load_tile(bias, like, coords, &[1], self.vec);
                let b = r.cast(b, DType::F32);
                x = r.binary("add", x, b);
            }
            parts.push(x);
        }
        let mut y = self.activate(r, &parts);
        if let Some(residual) = &self.residual {
            let like: RegTile = r.tile_type(y);
            let e = r.load_tile(residual, like, &[at.batch, at.row, at.col], &[0, 1], self.vec);
            let e = r.cast(e, DType::F32);
            y = r.binary("add", y, e);
        }
        y
    }

    fn activate(&self, r: &mut RoleBuilder, parts: &[TileRef]) -> TileRef {
        let y = activation(r, self.act, parts[0]);
        if self.act == Act::Swiglu { r.binary("mul", y, parts[1]) } else { y }
    }
}

/// An activation of f32 elements; of swiglu the gate's part, which the caller multiplies with the other.
pub(crate) fn activation(r: &mut RoleBuilder, act: Act, x: TileRef) -> TileRef {
    match act {
        Act::None => x,
        Act::Relu => {
            let zero = r.splat_f32(0.0, x);
            r.binary("max", x, zero)
        }
        Act::Silu | Act::Swiglu => times_sigmoid(r, x, x),
        // 0.5 (1 + tanh u) = sigmoid(2 u): no cancellation for negative x, and one exponential.
        Act::Gelu => {
            let square = r.binary("mul", x, x);
            let c = r.float(0.044_715);
            let cubic = r.scale(square, c);
            let one = r.splat_f32(1.0, x);
            let cubic = r.binary("add", cubic, one);
            let u = r.binary("mul", cubic, x);
            let c = r.float(2.0 * (2.0 / std::f32::consts::PI).sqrt());
            let u = r.scale(u, c);
            times_sigmoid(r, x, u)
        }
    }
}

/// `x / (1 + 2^(-u log2 e))`. For u far below zero the exponential is infinite and the product a zero.
fn times_sigmoid(r: &mut RoleBuilder, x: TileRef, u: TileRef) -> TileRef {
    let c = r.float(-std::f32::consts::LOG2_E);
    let e = r.scale(u, c);
    let e = r.unary("exp2", e);
    let one = r.splat_f32(1.0, x);
    let e = r.binary("add", e, one);
    let s = r.unary("rcp", e);
    r.binary("mul", x, s)
}
