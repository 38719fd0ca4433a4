//! Runs one plan of a pack on a device, and compares with the reference.

use crate::error::{Res, failure};
use crate::tensors::from_f64;
use tilewright_ir::DType;
use tilewright_runtime::device::{Device, Stream};
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::engine::{Engine, Problem};
use tilewright_runtime::expr::{VarId, Vars};
use tilewright_runtime::plan::Role;
use tilewright_templates::gemm::{GemmProblem, Operands};

/// Sizes of a GEMM: batch, m, n, k.
pub type Shape = [usize; 4];

/// The variables of expressions for a shape.
pub fn vars([batch, m, n, k]: Shape) -> Res<Vars> {
    let mut v = Vars::gemm(m as i64, n as i64, k as i64);
    v.set(VarId::BATCH, batch as i64).map_err(failure)?;
    Ok(v)
}

/// Elements of each tensor of a class.
pub fn elements(p: &GemmProblem, name: &str, [batch, m, n, k]: Shape) -> usize {
    let wide = n * p.gates() as usize;
    match name {
        "a" => batch * m * k,
        "b" => batch * wide * k,
        "bias" => wide,
        _ => batch * m * n,
    }
}

/// Random numbers in -1..1 that the dtypes hold exactly: the same in every run.
pub fn random_operands(p: &GemmProblem, shape: Shape, seed: u64) -> Operands {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    // xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators").
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as f64 / f64::from(1u32 << 23) - 1.0
    };
    let mut draw = |name: &str, d: DType, wanted: bool| -> Vec<f64> {
        let n = if wanted { elements(p, name, shape) } else { 0 };
        let bytes = from_f64(d, (0..n).map(|_| next()));
        decode(d, &bytes)
    };
    Operands {
        shape,
        a: draw("a", p.input, true),
        b: draw("b", p.input, true),
        bias: draw("bias", p.input, p.bias),
        residual: draw("residual", p.output, p.residual),
        alpha: 0.75,
    }
}

/// Elements as numbers.
pub fn decode(d: DType, bytes: &[u8]) -> Vec<f64> {
    let dtype = match d {
        DType::BF16 => safetensors::Dtype::BF16,
        DType::F16 => safetensors::Dtype::F16,
        _ => safetensors::Dtype::F32,
    };
    crate::tensors::to_f64(dtype, bytes).unwrap_or_default()
}

/// Launches a plan on inputs given by name; gives the output's bytes and those of them nothing wrote.
pub fn launch<D: Device>(
    engine: &Engine<D>,
    plan: PlanIndex,
    shape: Shape,
    alpha: f32,
    input: &dyn Fn(&str) -> Option<Vec<u8>>,
) -> Res<(Vec<u8>, D::Buffer)> {
    let scalars = [("alpha", alpha)];
    let problem = Problem { vars: vars(shape)?, scalars: &scalars };
    let mut ready = engine.prepare(plan, &problem).map_err(failure)?;
    let device = engine.device();
    let mut buffers = Vec::new();
    for t in ready.tensors() {
        let buffer = device.alloc(t.bytes).map_err(failure)?;
        device.name(&buffer, &t.name);
        if t.role == Role::Input {
            let bytes = input(&t.name).ok_or_else(|| failure(format!("plan needs tensor `{}`", t.name)))?;
            device.upload(&buffer, 0, &bytes).map_err(failure)?;
        }
        buffers.push(buffer);
    }
    let addresses: Vec<u64> = buffers.iter().map(|b| device.address(b)).collect();
    engine.launch(&mut ready, &addresses, Stream::default()).map_err(failure)?;
    device.sync().map_err(failure)?;
    let at = ready.tensors().iter().position(|t| t.role == Role::Output).ok_or_else(|| failure("plan has no output"))?;
    let mut out = vec![0; ready.tensors()[at].bytes as usize];
    device.download(&buffers[at], 0, &mut out).map_err(failure)?;
    Ok((out, buffers.swap_remove(at)))
}

/// The bytes of an operand.
pub fn operand_bytes(p: &GemmProblem, o: &Operands, name: &str) -> Option<Vec<u8>> {
    let (values, dtype) = match name {
        "a" => (&o.a, p.input),
        "b" => (&o.b, p.input),
        "bias" => (&o.bias, p.input),
        "residual" => (&o.residual, p.output),
        _ => return None,
    };
    Some(from_f64(dtype, values.iter().copied()))
}
