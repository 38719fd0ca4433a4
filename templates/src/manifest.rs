//! From lowered kernels to manifest entries: parameters and expressions.

use tilewright_ir::DType;
use tilewright_ir::layout::Swizzle as IrSwizzle;
use tilewright_ir::passes::{Lowered, ParamDesc, Touch};
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::expr::{Expr, ParseError};
use tilewright_runtime::manifest::{Access, Interleave, L2Promotion, Launch, OobFill, Param, ParamKind, Swizzle, TensorMapSpec};

/// An expression from its text.
pub fn expr(text: &str) -> Result<Expr, ParseError> {
    text.parse()
}

/// The runtime's name of an element type.
pub fn dtype(d: DType) -> Dtype {
    match d {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::Bf16,
        DType::U8 => Dtype::U8,
        DType::I8 => Dtype::I8,
        DType::E4M3 => Dtype::E4m3,
        DType::E5M2 => Dtype::E5m2,
        DType::I32 | DType::I64 | DType::I1 => Dtype::I32,
    }
}

/// The parameters of a kernel, in launch order.
pub fn params(lowered: &Lowered) -> Result<Vec<Param>, ParseError> {
    let entry = lowered.lane.params.iter().zip(&lowered.params);
    entry.map(|(p, desc)| Ok(Param { name: p.name.clone(), kind: kind(desc)? })).collect()
}

/// Launch geometry of a kernel.
pub fn launch(lowered: &Lowered) -> Result<Launch, ParseError> {
    let l = &lowered.lane.launch;
    let [x, y, z] = &lowered.tile.grid;
    Ok(Launch { block: [l.threads, 1, 1], cluster: l.cluster, shared_bytes: l.smem_bytes, grid: [expr(x)?, expr(y)?, expr(z)?] })
}

/// Conditions a kernel puts on the shape.
pub fn requires(lowered: &Lowered) -> Result<Vec<Expr>, ParseError> {
    lowered.tile.requires.iter().map(|r| expr(r)).collect()
}

fn kind(desc: &ParamDesc) -> Result<ParamKind, ParseError> {
    let access = |written: bool| if written { Access::Write } else { Access::Read };
    Ok(match desc {
        ParamDesc::Ptr(tensor, touch) => {
            let access = match touch {
                Touch::Read => Access::Read,
                Touch::Write => Access::Write,
                Touch::Update => Access::ReadWrite,
            };
            ParamKind::Ptr { tensor: tensor.clone(), access }
        }
        ParamDesc::Scalar(name, DType::F32) => ParamKind::F32 { scalar: name.clone() },
        ParamDesc::Scalar(name, _) => ParamKind::I32 { value: expr(name)? },
        ParamDesc::TensorMap(m) => ParamKind::TensorMap(TensorMapSpec {
            tensor: m.tensor.clone(),
            access: access(m.written),
            dtype: dtype(m.dtype),
            dims: m.dims.iter().map(|d| expr(d)).collect::<Result<_, _>>()?,
            strides: m.strides.iter().map(|s| expr(s)).collect::<Result<_, _>>()?,
            r#box: m.box_dims.clone(),
            element_strides: vec![1; m.box_dims.len()],
            swizzle: match m.swizzle {
                IrSwizzle::None => Swizzle::None,
                IrSwizzle::B32 => Swizzle::B32,
                IrSwizzle::B64 => Swizzle::B64,
                IrSwizzle::B128 => Swizzle::B128,
            },
            interleave: Interleave::None,
            l2_promotion: if m.written { L2Promotion::None } else { L2Promotion::B128 },
            oob: OobFill::Zero,
        }),
    })
}
