//! GEMM as launches: one kernel, or partial sums and their reduction.

use super::config::{ConfigError, GemmConfig, ReduceConfig};
use super::epilogue::Epilogue;
use super::problem::{Act, BLayout, GemmProblem, Groups, ProblemError, Weight};
use super::weight::{self, WeightWgmmaConfig};
use super::{mma, reduce, wgmma};
use crate::manifest::{dtype, expr};
use crate::plan::{OpPlan, TemplateKernel};
use std::collections::BTreeMap;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::expr::ParseError;
use tilewright_runtime::manifest::{Gelu, Numerics};
use tilewright_runtime::plan::{Plan, PlanLaunch, PlanTensor, Role};

/// The family's name in manifests.
const TEMPLATE: &str = "gemm";

/// Why a kernel or a plan cannot be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GemmError {
    /// The class does not exist.
    #[error(transparent)]
    Problem(#[from] ProblemError),
    /// The config is illegal.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A tile has no fragment layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The kernel's config needs a target the arch is not.
    #[error("config {config} needs sm90, the target is {arch}")]
    Target {
        /// Config id.
        config: String,
        /// Target.
        arch: Arch,
    },
    /// A grouped plan of a class without groups, or a gather where rows are not sorted.
    #[error("class `{class}`{}: a grouped plan takes groups=offsets or groups=counts, gathered rows only offsets", if *gather { " with gather" } else { "" })]
    Groups {
        /// The class.
        class: String,
        /// With an index of rows.
        gather: bool,
    },
    /// A split k where gate and up blocks alternate.
    #[error("class `{0}`: k is not split where packed gate and up rows alternate: leave split_k at 1")]
    SplitGates(String),
    /// Parts of k for a kernel that shares k in its own way.
    #[error("config {0}: packed weights share k among CTAs with stream=1, not in split_k parts: leave split_k at 1")]
    SplitStream(String),
    /// A plan of one class for another op.
    #[error("class `{0}` has groups: its plans are those of gemm_grouped")]
    Grouped(String),
    /// An expression of the plan does not parse: a mistake in the template.
    #[error("plan expression: {0}")]
    Expr(#[from] ParseError),
}

/// The kernel of a class and a config.
pub fn build(arch: Arch, p: &GemmProblem, c: &GemmConfig) -> Result<TemplateKernel, GemmError> {
    p.check()?;
    c.check(p)?;
    let id = format!("gemm_{}_{}", p.slug(), c.slug());
    let mut k = KernelBuilder::new(&id, arch);
    match c {
        GemmConfig::Wgmma(_) | GemmConfig::WeightWgmma(_) if !arch.is_hopper() => {
            return Err(GemmError::Target { config: c.to_string(), arch });
        }
        GemmConfig::Wgmma(c) => {
            let e = Epilogue::standard(&mut k, p, c.n_align);
            wgmma::wgmma(&mut k, p, c, &|r, acc, at| e.emit(r, acc, at))?;
        }
        GemmConfig::Mma(c) => {
            let e = Epilogue::standard(&mut k, p, c.n_align);
            mma::mma(&mut k, p, c, &|r, acc, at| e.emit(r, acc, at))?;
        }
        GemmConfig::WeightWgmma(c) => {
            let Weight::Packed(packed) = p.weight else { unreachable!("the config was checked against the class") };
            let e = Epilogue::standard(&mut k, p, 1);
            weight::wgmma(&mut k, p, packed, c, &|r, acc, at| e.emit(r, acc, at))?;
        }
        GemmConfig::WeightMma(c) => {
            let Weight::Packed(packed) = p.weight else { unreachable!("the config was checked against the class") };
            let e = Epilogue::standard(&mut k, p, 1);
            weight::mma(&mut k, p, packed, c, &|r, acc, at| e.emit(r, acc, at))?;
        }
    }
    let config = c.axes().into_iter().map(|(k, v)| (k.to_string(), v)).collect();
    let stream = matches!(c, GemmConfig::WeightWgmma(WeightWgmmaConfig { stream: true, .. }));
    let order = if c.split() || stream { "k16.seq.part" } else { "k16.seq" };
    let main_loop_wgmmas = match c {
        GemmConfig::Wgmma(c) => Some(c.bk / 16 * (c.warpgroup_rows() / 64) * p.gates()),
        GemmConfig::Mma(_) | GemmConfig::WeightMma(_) => None,
        GemmConfig::WeightWgmma(_) => Some(WeightWgmmaConfig::BK / 16 * p.gates()),
    };
    Ok(TemplateKernel {
        id,
        template: TEMPLATE,
        config,
        numerics: numerics(p, order),
        main_loop_wgmmas,
        hides_exponentials: false,
        budget: None,
        kernel: k.finish(),
    })
}

/// The kernel that sums partials for a class.
pub fn reduce_kernel(arch: Arch, p: &GemmProblem, c: &ReduceConfig) -> Result<TemplateKernel, GemmError> {
    let id = format!("gemm_{}_reduce_{}x{}_a{}", p.slug(), c.rows, c.cols, c.n_align);
    let mut k = KernelBuilder::new(&id, arch);
    let e = Epilogue::standard(&mut k, p, c.n_align);
    reduce::reduce(&mut k, p, c, &|r, acc, at| e.emit(r, acc, at))?;
    let axes = [
        ("kind", "reduce".to_string()),
        ("rows", c.rows.to_string()),
        ("cols", c.cols.to_string()),
        ("n_align", c.n_align.to_string()),
    ];
    let config = axes.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
    Ok(TemplateKernel {
        id,
        template: TEMPLATE,
        config,
        numerics: numerics(p, "splits.seq"),
        main_loop_wgmmas: None,
        hides_exponentials: false,
        budget: None,
        kernel: k.finish(),
    })
}

/// The kernel that adds up what CTAs of a stream share.
pub fn add_up_kernel(arch: Arch, p: &GemmProblem, c: &WeightWgmmaConfig) -> Result<TemplateKernel, GemmError> {
    let id = format!("gemm_{}_add_up_{}x{}_g{}_a{}", p.slug(), c.bm, c.bn, c.raster, c.n_align);
    let mut k = KernelBuilder::new(&id, arch);
    let e = Epilogue::standard(&mut k, p, c.n_align.min(4));
    weight::stream::add_up(&mut k, p, c, &|r, acc, at| e.emit(r, acc, at))?;
    let axes = [
        ("kind", "add_up".to_string()),
        ("bm", c.bm.to_string()),
        ("bn", c.bn.to_string()),
        ("raster", c.raster.to_string()),
        ("n_align", c.n_align.to_string()),
    ];
    Ok(TemplateKernel {
        id,
        template: TEMPLATE,
        config: axes.into_iter().map(|(k, v)| (k.to_string(), v)).collect(),
        // How a tile's blocks are shared depends on how many tiles there are.
        numerics: Numerics { batch_invariant: false, ..numerics(p, "ctas.seq") },
        main_loop_wgmmas: None,
        hides_exponentials: false,
        budget: None,
        kernel: k.finish(),
    })
}

/// The plan of a class and a config; `splits > 1` sums that many parts of k in a second launch.
pub fn plan(arch: Arch, p: &GemmProblem, c: &GemmConfig, splits: u32) -> Result<OpPlan, GemmError> {
    if p.groups != Groups::Batch {
        return Err(GemmError::Grouped(p.class()));
    }
    let tensor = |name: &str, d: Dtype, dims: &[String], role| -> Result<PlanTensor, GemmError> {
        let shape = dims.iter().map(|e| expr(e)).collect::<Result<_, _>>()?;
        Ok(PlanTensor { name: name.into(), dtype: d, shape, role })
    };
    let dim = |s: &str| s.to_string();
    let wide = if p.gates() == 2 { "2*n".to_string() } else { dim("n") };
    let input = dtype(p.input);
    let b = if p.b == BLayout::Nk { [dim("batch"), wide.clone(), dim("k")] } else { [dim("batch"), dim("k"), wide.clone()] };
    let mut tensors = vec![tensor("a", input, &[dim("batch"), dim("m"), dim("k")], Role::Input)?];
    let weights = match p.weight {
        Weight::Same => tensor("b", input, &b, Role::Input)?,
        Weight::Packed(packed) => weight::packed_tensor(packed, p.gates(), "batch", Role::Input)?,
    };
    let weights_name = weights.name.clone();
    tensors.push(weights);
    let mut extra = Vec::new();
    if p.bias {
        tensors.push(tensor("bias", input, std::slice::from_ref(&wide), Role::Input)?);
        extra.push("bias");
    }
    let matrix = [dim("batch"), dim("m"), dim("n")];
    if p.residual {
        tensors.push(tensor("residual", dtype(p.output), &matrix, Role::Input)?);
        extra.push("residual");
    }
    let mut kernels = Vec::new();
    let mut launches = Vec::new();
    let binds = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let same = |names: &[&str]| -> BTreeMap<String, String> { names.iter().map(|n| (n.to_string(), n.to_string())).collect() };
    let mut id = format!("gemm_{}_{}", p.slug(), c.with_split(false).slug());
    if splits > 1 {
        if matches!(c, GemmConfig::WeightWgmma(_)) {
            return Err(GemmError::SplitStream(c.to_string()));
        }
        if p.weight != Weight::Same && p.gates() == 2 {
            return Err(GemmError::SplitGates(p.class()));
        }
        id += &format!("_x{splits}");
        let lead = format!("{splits}*batch");
        tensors.push(tensor("partial", Dtype::F32, &[lead, dim("m"), wide.clone()], Role::Workspace)?);
        let part = GemmProblem { output: DType::F32, act: Act::None, bias: false, residual: false, ..*p };
        let partial = build(arch, &part, &c.with_split(true))?;
        let n_align = match c {
            GemmConfig::Wgmma(c) => c.n_align.min(4),
            GemmConfig::Mma(c) => c.n_align,
            GemmConfig::WeightWgmma(_) => unreachable!("refused above"),
            GemmConfig::WeightMma(_) => 1,
        };
        let sum = reduce_kernel(arch, p, &ReduceConfig { rows: 8, cols: 256, n_align: if n_align > 2 { 4 } else { n_align } })?;
        let splits = expr(&splits.to_string())?;
        let mut sets = BTreeMap::from([("splits".to_string(), splits.clone())]);
        launches.push(PlanLaunch { kernel: sum.id.clone(), binds: same(&extra), sets: sets.clone() });
        launches[0].binds.extend::<BTreeMap<String, String>>(binds(&[("partial", "partial"), ("d", "d")]));
        sets.insert("n".to_string(), expr(&wide)?);
        launches.insert(
            0,
            PlanLaunch {
                kernel: partial.id.clone(),
                binds: binds(&[("a", "a"), (&weights_name, &weights_name), ("d", "partial")]),
                sets,
            },
        );
        kernels.extend([partial, sum]);
    } else {
        let kernel = build(arch, p, &c.with_split(false))?;
        let mut all = same(&extra);
        all.extend(same(&["a", &weights_name, "d"]));
        launches.push(PlanLaunch { kernel: kernel.id.clone(), binds: all, sets: BTreeMap::new() });
        kernels.push(kernel);
        if let GemmConfig::WeightWgmma(c) = c
            && c.stream
        {
            let ctas = weight::stream::ctas(p, c);
            let dims = [format!("{}*{ctas}", 2 * p.gates()), c.bm.to_string(), c.bn.to_string()];
            tensors.push(tensor("partial", Dtype::F32, &dims, Role::Workspace)?);
            launches[0].binds.insert("partial".into(), "partial".into());
            let sum = add_up_kernel(arch, p, c)?;
            let mut all = same(&extra);
            all.extend(same(&["partial", "d"]));
            let sets = BTreeMap::from([("ctas".to_string(), expr(&ctas)?)]);
            launches.push(PlanLaunch { kernel: sum.id.clone(), binds: all, sets });
            kernels.push(sum);
        }
    }
    tensors.push(tensor("d", dtype(p.output), &matrix, Role::Output)?);
    let plan = Plan { id, op: "gemm".into(), class: p.class(), tensors, launches, requires: Vec::new() };
    Ok(OpPlan { plan, kernels })
}

fn numerics(p: &GemmProblem, order: &str) -> Numerics {
    let gelu = (p.act == Act::Gelu).then_some(Gelu::Tanh);
    Numerics { accumulator: Dtype::F32, order: order.into(), batch_invariant: true, gelu }
}
