//! Grouped GEMM as launches: rows gathered where an index says so, the list of tiles, the product.

use super::{gather_rows, group_tiles};
use crate::gemm::config::GemmConfig;
use crate::gemm::plan::{GemmError, build};
use crate::gemm::problem::{BLayout, GemmProblem, Groups, Scale, Weight};
use crate::gemm::scale::BLOCK;
use crate::gemm::weight::{dense, packed_tensor, row_align, unpacked_first};
use crate::manifest::{dtype, expr};
use crate::plan::{OpPlan, TemplateKernel};
use std::collections::BTreeMap;
use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::plan::{Plan, PlanLaunch, PlanTensor, Role};

/// The plan of a class with groups and a config.
///
/// Tensors: `a [tokens, k]` with `offsets` I32 `[e + 1]`, or `a [e, max_m, k]` with `counts` I32 `[e]`; `b [e, n, k]`, or of a
/// packed weight `packed` I32 `[e, blocks of n, blocks of k, words]`; `bias` `[e, n]` (`[e, 2n]` for swiglu) and `residual` where the
/// class has them; `a_scale` and `b_scale` of bytes, f32 `[1]` or a factor for each row, each column of each expert or each block,
/// the leading extents those of a and b; d as a with columns n, and `d_scale` with its blocks of columns where d is quantised. With `gather`, a class with offsets takes `a [rows, k]` and `gather` I32 `[tokens]`, for
/// each sorted row the row of a; a number that is none gives zeros.
///
/// Variables: `e`, `n`, `k`, `tokens` or `max_m`, `rows` with `gather`, and for the choice among plans `m`, the rows an expert is
/// expected to have.
pub fn grouped_plan(arch: Arch, p: &GemmProblem, c: &GemmConfig, gather: bool) -> Result<OpPlan, GemmError> {
    if p.groups == Groups::Batch || gather && p.groups != Groups::Offsets {
        return Err(GemmError::Groups { class: p.class(), gather });
    }
    let kernel = build(arch, p, c)?;
    let (bm, align) = match c {
        GemmConfig::Wgmma(c) => (c.bm, 16 / p.input.bytes()),
        GemmConfig::Mma(c) => (c.bm, c.load_align),
        GemmConfig::WeightWgmma(c) => (c.bm, 8),
        GemmConfig::WeightMma(c) => (c.bm, c.load_align),
    };
    let offsets = p.groups == Groups::Offsets;
    let wide = if p.gates() == 2 { "2*n" } else { "n" };
    let rows: &[&str] = if offsets { &["tokens"] } else { &["e", "max_m"] };
    let matrix = [rows, &["n"]].concat();
    let source = if gather { vec!["rows"] } else { rows.to_vec() };
    let mut id = format!("gemm_grouped_{}_{}", p.slug(), c.slug());
    if gather {
        id += "_gather";
    }
    let class = grouped_class(&p.class(), gather);
    let (tensors, launches, requires) = (Vec::new(), Vec::new(), Vec::new());
    let plan = Plan { id, op: "gemm_grouped".into(), class, tensors, launches, requires };
    let mut draft = Draft { plan, kernels: Vec::new() };
    let input = dtype(p.input);
    draft.tensor("a", input, &[&source[..], &["k"]].concat(), Role::Input)?;
    if let Weight::Packed(packed) = p.weight {
        draft.plan.tensors.push(packed_tensor(packed, p.gates(), "e", Role::Input)?);
    } else {
        draft.tensor(
            "b",
            dtype(p.b_dtype()),
            &if p.b == BLayout::Nk { ["e", wide, "k"] } else { ["e", "k", wide] },
            Role::Input,
        )?;
    }
    let (lengths, len) = if offsets { ("offsets", "e+1") } else { ("counts", "e") };
    draft.tensor(lengths, Dtype::I32, &[len], Role::Input)?;
    let blocks_k = format!("ceil_div(k,{BLOCK})");
    match p.a_scale {
        Scale::None => {}
        Scale::Tensor => draft.tensor("a_scale", Dtype::F32, &["1"], Role::Input)?,
        Scale::Row => draft.tensor("a_scale", Dtype::F32, &source, Role::Input)?,
        Scale::Block => draft.tensor("a_scale", Dtype::F32, &[&source[..], &[&blocks_k]].concat(), Role::Input)?,
    }
    match p.b_scale {
        Scale::None => {}
        Scale::Tensor => draft.tensor("b_scale", Dtype::F32, &["1"], Role::Input)?,
        Scale::Row => draft.tensor("b_scale", Dtype::F32, &["e", wide], Role::Input)?,
        Scale::Block => {
            let blocks_n = format!("ceil_div({wide},{BLOCK})");
            draft.tensor("b_scale", Dtype::F32, &["e", &blocks_n, &blocks_k], Role::Input)?;
        }
    }
    if p.bias {
        draft.tensor("bias", dtype(p.bias_dtype()), &["e", wide], Role::Input)?;
    }
    if p.residual {
        draft.tensor("residual", dtype(p.output), &matrix, Role::Input)?;
    }
    let mut sorted = Vec::new();
    if gather {
        sorted.push(("a", "sorted"));
        draft.tensor("gather", Dtype::I32, &["tokens"], Role::Input)?;
        draft.tensor("sorted", input, &["tokens", "k"], Role::Workspace)?;
        draft.launch(gather_kernel(arch, p.input, align)?, &[], &[])?;
        // Factors of rows go where the rows go.
        let columns = match p.a_scale {
            Scale::None | Scale::Tensor => None,
            Scale::Row => Some("1"),
            Scale::Block => Some(&blocks_k[..]),
        };
        if let Some(columns) = columns {
            draft.tensor("sorted_scale", Dtype::F32, &["tokens", columns], Role::Workspace)?;
            let names = [("a", "a_scale"), ("sorted", "sorted_scale")];
            draft.launch(gather_kernel(arch, DType::F32, 1)?, &names, &[("k", columns)])?;
            sorted.push(("a_scale", "sorted_scale"));
        }
    }
    draft.tensor("tiles", Dtype::I32, &[&p.groups.most_tiles(bm), "3"], Role::Workspace)?;
    draft.tensor("tile_count", Dtype::I32, &["1"], Role::Workspace)?;
    draft.launch(tiles_kernel(arch, p.groups, bm)?, &[], &[])?;
    draft.launch(kernel, &sorted, &[])?;
    draft.tensor("d", dtype(p.output), &matrix, Role::Output)?;
    if p.quant {
        let blocks = format!("ceil_div(n,{BLOCK})");
        draft.tensor("d_scale", Dtype::F32, &[rows, &[&blocks[..]]].concat(), Role::Output)?;
    }
    Ok(OpPlan { plan: draft.plan, kernels: draft.kernels })
}

/// The plan that unpacks the weights of all experts first and multiplies densely, for a class of packed weights.
pub fn grouped_dequantised_plan(arch: Arch, p: &GemmProblem, c: &GemmConfig, gather: bool) -> Result<OpPlan, GemmError> {
    let mut op = unpacked_first(arch, p, grouped_plan(arch, &dense(p), c, gather)?, row_align(c))?;
    op.plan.id = format!("gemm_grouped_{}_dequantised_{}{}", p.slug(), c.slug(), if gather { "_gather" } else { "" });
    op.plan.class = grouped_class(&p.class(), gather);
    Ok(op)
}

/// The class key of a plan whose rows may be gathered first.
pub fn grouped_class(class: &str, gather: bool) -> String {
    format!("{class}{}", if gather { ",gather=1" } else { "" })
}

/// The kernel that lists tiles of `bm` rows.
pub fn tiles_kernel(arch: Arch, groups: Groups, bm: u32) -> Result<TemplateKernel, GemmError> {
    let id = format!("gemm_tiles_{groups}_{bm}");
    let mut k = KernelBuilder::new(&id, arch);
    group_tiles(&mut k, groups, bm)?;
    Ok(TemplateKernel::plain(
        id,
        "gemm",
        [("kind", "tiles".into()), ("groups", groups.to_string()), ("bm", bm.to_string())],
        "none",
        k,
    ))
}

/// The kernel that gathers rows of k, a multiple of `align`.
pub fn gather_kernel(arch: Arch, dtype: DType, align: u32) -> Result<TemplateKernel, GemmError> {
    let id = format!("gemm_gather_{dtype}_a{align}");
    let mut k = KernelBuilder::new(&id, arch);
    gather_rows(&mut k, dtype, align)?;
    Ok(TemplateKernel::plain(
        id,
        "gemm",
        [("kind", "gather".into()), ("dtype", dtype.to_string()), ("align", align.to_string())],
        "none",
        k,
    ))
}

/// A plan in the making.
struct Draft {
    plan: Plan,
    kernels: Vec<TemplateKernel>,
}

impl Draft {
    fn tensor(&mut self, name: &str, dtype: Dtype, dims: &[&str], role: Role) -> Result<(), GemmError> {
        let shape = dims.iter().map(|e| expr(e)).collect::<Result<_, _>>()?;
        self.plan.tensors.push(PlanTensor { name: name.into(), dtype, shape, role });
        Ok(())
    }

    /// Adds a launch. The kernel's tensors are the plan's of the same names, or those that `names` gives; `sets` replaces
    /// variables.
    fn launch(&mut self, kernel: TemplateKernel, names: &[(&str, &str)], sets: &[(&str, &str)]) -> Result<(), GemmError> {
        let name = |t: &str| names.iter().find(|n| n.0 == t).map_or(t, |n| n.1).to_string();
        let binds = kernel.kernel.tensors.iter().map(|t| (t.name.clone(), name(&t.name))).collect();
        let sets = sets.iter().map(|(n, e)| Ok((n.to_string(), expr(e)?))).collect::<Result<BTreeMap<_, _>, GemmError>>()?;
        self.plan.launches.push(PlanLaunch { kernel: kernel.id.clone(), binds, sets });
        self.kernels.push(kernel);
        Ok(())
    }
}
