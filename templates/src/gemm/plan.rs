//! GEMM as launches: one kernel, or partial sums and their reduction.

use super::config::{ConfigError, GemmConfig, ReduceConfig, WgmmaConfig};
use super::epilogue::Epilogue;
use super::problem::{Act, BLayout, GemmProblem, Groups, ProblemError, Scale, Weight};
use super::scale::BLOCK;
use super::weight::{self, WeightWgmmaConfig};
use super::{mma, pad, reduce, wgmma};
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
    /// Parts of k for a kernel that shares k in its own way.
    #[error("config {0}: packed weights share k among CTAs with stream=1, not in split_k parts: leave split_k at 1")]
    SplitStream(String),
    /// A plan of one class for another op.
    #[error("class `{0}` has groups: its plans are those of gemm_grouped")]
    Grouped(String),
    /// A quantised output of partial sums.
    #[error("quant=128 needs whole sums in one kernel: split_k is 1")]
    Quant,
    /// An expression of the plan does not parse: a mistake in the template.
    #[error("plan expression: {0}")]
    Expr(#[from] ParseError),
}

/// The kernel of a class and a config.
pub fn build(arch: Arch, p: &GemmProblem, c: &GemmConfig) -> Result<TemplateKernel, GemmError> {
    p.check()?;
    c.check(p)?;
    // What a first launch copies is like any other operand to the kernel.
    let (p, c) = match c {
        GemmConfig::Wgmma(w) if w.pad => {
            (&GemmProblem { b: BLayout::Nk, ..*p }, &GemmConfig::Wgmma(WgmmaConfig { pad: false, ..*w }))
        }
        _ => (p, c),
    };
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
    let (step, promoted) = match c {
        GemmConfig::Wgmma(c) if p.bytes() => ("k32", c.promote),
        _ => ("k16", false),
    };
    let part = c.split() || matches!(c, GemmConfig::WeightWgmma(WeightWgmmaConfig { stream: true, .. }));
    let order = [step, if promoted { ".k128" } else { "" }, ".seq", if part { ".part" } else { "" }].concat();
    let main_loop_wgmmas = match c {
        GemmConfig::Wgmma(c) => Some(c.bk * p.input.bytes() / 32 * (c.warpgroup_rows() / 64) * p.gates()),
        GemmConfig::Mma(_) | GemmConfig::WeightMma(_) => None,
        GemmConfig::WeightWgmma(_) => Some(WeightWgmmaConfig::BK / 16 * p.gates()),
    };
    let budget = match (c, p.weight) {
        (GemmConfig::WeightWgmma(_), Weight::Packed(packed)) => Some(weight::budget(packed)),
        // One multiply for each fragment of weights, as of wgmma; half blocks trade instructions for more CTAs.
        (GemmConfig::WeightMma(c), Weight::Packed(packed))
            if arch.is_hopper() && c.bm == 8 && c.parts(p) == 1 && c.load_align == 8 && c.depth == 1 =>
        {
            Some(weight::budget(packed))
        }
        _ => None,
    };
    Ok(TemplateKernel {
        id,
        template: TEMPLATE,
        config,
        numerics: numerics(p, &order),
        main_loop_wgmmas,
        hides_exponentials: false,
        budget,
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
    Ok(TemplateKernel { numerics: numerics(p, "splits.seq"), ..TemplateKernel::plain(id, TEMPLATE, axes, "", k) })
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
    // How a tile's blocks are shared depends on how many tiles there are.
    let numerics = Numerics { batch_invariant: false, ..numerics(p, "ctas.seq") };
    Ok(TemplateKernel { numerics, ..TemplateKernel::plain(id, TEMPLATE, axes, "", k) })
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
        Weight::Same => tensor("b", dtype(p.b_dtype()), &b, Role::Input)?,
        Weight::Packed(packed) => weight::packed_tensor(packed, p.gates(), "batch", Role::Input)?,
    };
    let weights_name = weights.name.clone();
    tensors.push(weights);
    let mut extra = Vec::new();
    for (name, scale, rows) in [("a_scale", p.a_scale, "m"), ("b_scale", p.b_scale, &wide[..])] {
        let blocks = |x: &str| format!("ceil_div({x},{BLOCK})");
        let shape = match scale {
            Scale::None => continue,
            Scale::Tensor => vec![dim("1")],
            Scale::Row => vec![dim("batch"), dim(rows)],
            Scale::Block if name == "a_scale" => vec![dim("batch"), dim(rows), blocks("k")],
            Scale::Block => vec![dim("batch"), blocks(rows), blocks("k")],
        };
        tensors.push(tensor(name, Dtype::F32, &shape, Role::Input)?);
    }
    let scales = |which: fn(Scale) -> bool| {
        let all = [("a_scale", p.a_scale), ("b_scale", p.b_scale)].into_iter();
        all.filter(move |(_, s)| which(*s)).map(|(name, _)| name)
    };
    if p.bias {
        tensors.push(tensor("bias", dtype(p.bias_dtype()), std::slice::from_ref(&wide), Role::Input)?);
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
    // The product's operands, and its k: copies where rows had to be.
    let (mut a, mut b, mut copied) = ("a", &weights_name[..], BTreeMap::new());
    if let GemmConfig::Wgmma(WgmmaConfig { pad: true, .. }) = c {
        let columns = pad::padded_k();
        for (from, to, rows, turn) in [("a", "a_rows", "m", false), ("b", "b_rows", &wide[..], p.b == BLayout::Kn)] {
            let of = if from == "a" { p.input } else { p.b_dtype() };
            tensors.push(tensor(to, dtype(of), &[dim("batch"), dim(rows), columns.clone()], Role::Workspace)?);
            let kernel = pad_kernel(arch, of, turn)?;
            let rows = if turn { dim(rows) } else { format!("batch*{rows}") };
            let sets = BTreeMap::from([("rows".to_string(), expr(&rows)?)]);
            launches.push(PlanLaunch { kernel: kernel.id.clone(), binds: binds(&[("x", from), ("y", to)]), sets });
            kernels.push(kernel);
        }
        (a, b) = ("a_rows", "b_rows");
        copied.insert("k".to_string(), expr(&columns)?);
    }
    if splits > 1 {
        if matches!(c, GemmConfig::WeightWgmma(_)) {
            return Err(GemmError::SplitStream(c.to_string()));
        }
        if p.quant {
            return Err(GemmError::Quant);
        }
        id += &format!("_x{splits}");
        let lead = format!("{splits}*batch");
        tensors.push(tensor("partial", dtype(p.sums()), &[lead, dim("m"), wide.clone()], Role::Workspace)?);
        let inner = |s: Scale| if s == Scale::Block { s } else { Scale::None };
        let (a_scale, b_scale) = (inner(p.a_scale), inner(p.b_scale));
        // Gate and up rows are columns of one product, but of a packed weight their blocks alternate.
        let one = p.weight == Weight::Same || p.gates() == 1;
        let act = if one { Act::None } else { p.act };
        let part = GemmProblem { output: p.sums(), act, bias: false, residual: false, a_scale, b_scale, ..*p };
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
        extra.extend(scales(|s| matches!(s, Scale::Tensor | Scale::Row)));
        let mut of_sum = same(&extra);
        of_sum.extend(same(&["partial", "d"]));
        let summing = PlanLaunch { kernel: sum.id.clone(), binds: of_sum, sets: sets.clone() };
        if one {
            sets.insert("n".to_string(), expr(&wide)?);
        }
        sets.extend(copied);
        let mut of_parts: BTreeMap<String, String> = binds(&[("a", a), (&weights_name, b), ("d", "partial")]);
        of_parts.extend(same(&scales(|s| s == Scale::Block).collect::<Vec<_>>()));
        launches.extend([PlanLaunch { kernel: partial.id.clone(), binds: of_parts, sets }, summing]);
        kernels.extend([partial, sum]);
    } else {
        let kernel = build(arch, p, &c.with_split(false))?;
        extra.extend(scales(|s| s != Scale::None));
        let mut all = same(&extra);
        all.extend::<BTreeMap<String, String>>(binds(&[("a", a), (&weights_name, b), ("d", "d")]));
        if p.quant {
            let blocks = format!("ceil_div(n,{BLOCK})");
            tensors.push(tensor("d_scale", Dtype::F32, &[dim("batch"), dim("m"), blocks], Role::Output)?);
            all.extend(same(&["d_scale"]));
        }
        launches.push(PlanLaunch { kernel: kernel.id.clone(), binds: all, sets: copied });
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

/// The kernel that copies rows of bytes for TMA, from `[k, rows]` if `turn`.
fn pad_kernel(arch: Arch, input: DType, turn: bool) -> Result<TemplateKernel, GemmError> {
    let id = format!("gemm_{}_{input}", if turn { "turn" } else { "pad" });
    let mut k = KernelBuilder::new(&id, arch);
    if turn {
        pad::turn_rows(&mut k, input)?
    } else {
        pad::pad_rows(&mut k, input)?
    };
    let axes = [("kind", "pad".to_string()), ("dtype", input.to_string()), ("turn", u8::from(turn).to_string())];
    Ok(TemplateKernel::plain(id, TEMPLATE, axes, "none", k))
}

fn numerics(p: &GemmProblem, order: &str) -> Numerics {
    let gelu = (p.act == Act::Gelu).then_some(Gelu::Tanh);
    Numerics { accumulator: dtype(p.sums()), order: order.into(), batch_invariant: true, gelu }
}
