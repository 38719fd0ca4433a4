//! A quantiser as a launch.

use super::kernel::quantize;
use super::problem::{QuantBlock, QuantizeProblem, QuantizeProblemError};
use crate::manifest::{dtype, expr};
use crate::plan::{OpPlan, TemplateKernel};
use std::collections::BTreeMap;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::expr::ParseError;
use tilewright_runtime::plan::{Plan, PlanLaunch, PlanTensor, Role};

/// Why a plan cannot be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The class does not exist.
    #[error(transparent)]
    Problem(#[from] QuantizeProblemError),
    /// A tile has no layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The target converts nothing to 8-bit floats.
    #[error("e4m3 codes need sm89 or later, the target is {0}: to=int8 works everywhere")]
    Target(Arch),
    /// An expression of the plan does not parse: a mistake in the template.
    #[error("plan expression: {0}")]
    Expr(#[from] ParseError),
}

/// The plan of a class: `x [m, k]` -> `q [m, k]`, `scale` F32 `[m]` or `[m, ceil(k/128)]`. Variables: `m`, `k`.
pub fn quantize_plan(arch: Arch, p: &QuantizeProblem) -> Result<OpPlan, QuantizeError> {
    p.check()?;
    if p.to == DType::E4M3 && arch.sm() < 89 {
        return Err(QuantizeError::Target(arch));
    }
    let id = format!("quantize_{}", p.slug());
    let mut k = KernelBuilder::new(&id, arch);
    quantize(&mut k, p)?;
    let blocks: &[&str] = if p.block == QuantBlock::Row { &["m"] } else { &["m", "ceil_div(k,128)"] };
    let tensor = |name: &str, dtype, shape: &[&str], role| -> Result<PlanTensor, QuantizeError> {
        let shape = shape.iter().map(|e| expr(e)).collect::<Result<_, _>>()?;
        Ok(PlanTensor { name: name.into(), dtype, shape, role })
    };
    let tensors = vec![
        tensor("x", dtype(p.input), &["m", "k"], Role::Input)?,
        tensor("q", dtype(p.to), &["m", "k"], Role::Output)?,
        tensor("scale", Dtype::F32, blocks, Role::Output)?,
    ];
    let binds = tensors.iter().map(|t| (t.name.clone(), t.name.clone())).collect();
    let launches = vec![PlanLaunch { kernel: id.clone(), binds, sets: BTreeMap::new() }];
    let axes = [("kind", "quantize".to_string()), ("block", p.block.to_string()), ("align", p.align.to_string())];
    let kernel = TemplateKernel::plain(id.clone(), "quantize", axes, "none", k);
    let plan = Plan { id, op: "quantize".into(), class: p.class(), tensors, launches, requires: Vec::new() };
    Ok(OpPlan { plan, kernels: vec![kernel] })
}
