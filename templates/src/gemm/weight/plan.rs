//! Packing, unpacking and the gather as launches before a multiplication.
//!
//! A multiplication by a packed weight takes `packed` instead of `b`. Two things may stand before it: [`with_source`] packs a
//! checkpoint's tensors first, [`with_perm`] puts the columns of a in the order of the packed weight. [`dequantised_plan`] is the other
//! way to multiply: unpack to a workspace, then the dense kernel.

use super::block::words;
use super::order::{copy_kernel, gather_kernel};
use super::pack::{PackProblem, pack_kernel};
use super::source::Source;
use super::unpack::{UnpackProblem, unpack_kernel};
use crate::gemm::config::GemmConfig;
use crate::gemm::plan::{GemmError, plan};
use crate::gemm::problem::{BLayout, GemmProblem, Packed, ProblemError, Weight};
use crate::manifest::{dtype, expr};
use crate::plan::{OpPlan, TemplateKernel};
use std::collections::BTreeMap;
use std::fmt::Display;
use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::plan::{Plan, PlanLaunch, PlanTensor, Role};

/// A class of multiplications by a packed weight, with what stands before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeightClass {
    /// The multiplication.
    pub problem: GemmProblem,
    /// Where the weight comes from; `None` where it is packed already.
    pub source: Option<Source>,
    /// Columns of a come in the order of `perm`.
    pub perm: bool,
}

impl WeightClass {
    /// How the weight is packed; `None` of a dense class.
    pub fn packed(&self) -> Option<Packed> {
        match self.problem.weight {
            Weight::Packed(p) => Some(p),
            Weight::Same => None,
        }
    }

    /// The class key: that of the multiplication, with `source=` and `perm=1` where there are such.
    pub fn class(&self) -> String {
        let source = self.source.map_or(String::new(), |s| format!(",source={s}"));
        format!("{}{source}{}", self.problem.class(), if self.perm { ",perm=1" } else { "" })
    }

    /// The class behind a key.
    pub fn from_class(text: &str) -> Result<Self, ProblemError> {
        let bad = || ProblemError::Class(text.to_string());
        let (rest, perm) = text.strip_suffix(",perm=1").map_or((text, false), |rest| (rest, true));
        let (rest, source) = match rest.split_once(",source=") {
            Some((rest, source)) => (rest, Some(source.parse().map_err(|_| bad())?)),
            None => (rest, None),
        };
        let class = WeightClass { problem: GemmProblem::from_class(rest)?, source, perm };
        let fits = match class.packed() {
            Some(p) => source.is_none_or(|s: Source| s.packs_as(p)),
            None => source.is_none() && !perm,
        };
        if fits { Ok(class) } else { Err(bad()) }
    }

    /// How its source is packed, where it has one.
    pub fn pack(&self) -> Option<PackProblem> {
        let (source, packed) = (self.source?, self.packed()?);
        Some(PackProblem { source, dtype: self.problem.input, packed, gates: self.problem.gates(), perm: self.perm })
    }

    /// A plan that multiplies by `packed`, with what the class has before it.
    pub fn complete(&self, arch: Arch, mut plan: OpPlan) -> Result<OpPlan, GemmError> {
        if self.perm {
            plan = with_perm(arch, plan, self.problem.input)?;
        }
        if let Some(pack) = self.pack() {
            plan = with_source(arch, plan, &pack)?;
        }
        plan.plan.class = self.class();
        Ok(plan)
    }
}

impl PackProblem {
    /// The class key of a packing: `source=awq,dtype=bf16,weight=int4g128z,gates=1,perm=0`.
    pub fn class(&self) -> String {
        let PackProblem { source, dtype, packed, gates, perm } = self;
        format!("source={source},dtype={dtype},weight={},gates={gates},perm={}", Weight::Packed(*packed), u8::from(*perm))
    }

    /// The packing behind a key.
    pub fn from_class(text: &str) -> Result<Self, ProblemError> {
        let bad = || ProblemError::Class(text.to_string());
        let values: Vec<&str> = text
            .split(',')
            .zip(["source", "dtype", "weight", "gates", "perm"])
            .filter_map(|(field, key)| field.strip_prefix(key)?.strip_prefix('='))
            .collect();
        let [source, dtype, weight, gates, perm] = values[..] else { return Err(bad()) };
        let Weight::Packed(packed) = weight.parse()? else { return Err(bad()) };
        let gates = gates.parse().ok().filter(|g| [1, 2].contains(g)).ok_or_else(bad)?;
        let source: Source = source.parse().map_err(|_| bad())?;
        let dtype = dtype.parse().ok().filter(|d| [DType::BF16, DType::F16].contains(d)).ok_or_else(bad)?;
        let p = PackProblem { source, dtype, packed, gates, perm: perm == "1" };
        let fits = p.class() == text && source.packs_as(packed);
        if fits { Ok(p) } else { Err(bad()) }
    }

    /// A short name for entries and files: `awq_int4g128z_bf16`.
    pub fn slug(&self) -> String {
        let PackProblem { source, dtype, packed, gates, perm } = self;
        let gates = if *gates == 2 { "_gates" } else { "" };
        format!("{source}_{}_{dtype}{gates}{}", Weight::Packed(*packed), if *perm { "_perm" } else { "" })
    }

    /// The kernel.
    pub fn kernel(&self, arch: Arch) -> Result<TemplateKernel, GemmError> {
        let id = format!("gemm_pack_{}", self.slug());
        let mut k = KernelBuilder::new(&id, arch);
        pack_kernel(&mut k, self)?;
        let axes = [("kind", "pack".to_string()), ("source", self.source.to_string())];
        Ok(TemplateKernel::plain(id, "gemm", axes, "none", k))
    }
}

/// The plan of a packing: the source's tensors -> `packed` I32 `[batch, blocks_n, blocks_k, words]`. With `perm` it takes it as `order` I32
/// `[k]` and gives it back as `perm`, which goes with the packed weight.
///
/// Variables: `batch`, `n`, `k`, `group`.
pub fn pack_plan(arch: Arch, p: &PackProblem) -> Result<OpPlan, GemmError> {
    let mut kernels = vec![p.kernel(arch)?];
    let mut launches = vec![pack_launch(p, &kernels[0], "batch")?];
    let mut tensors = source_tensors(p, "batch")?;
    if p.perm {
        let to = perm_tensor()?;
        tensors.push(PlanTensor { name: "order".into(), ..to.clone() });
        tensors.push(PlanTensor { role: Role::Output, ..to });
        launches[0].binds.insert("perm".into(), "order".into());
        let id = "gemm_pack_order";
        let mut k = KernelBuilder::new(id, arch);
        copy_kernel(&mut k)?;
        let copy = TemplateKernel::plain(id.into(), "gemm", [("kind", "order".to_string())], "none", k);
        let binds = binds([("order", "order"), ("perm", "perm")]);
        launches.push(PlanLaunch { kernel: copy.id.clone(), binds, sets: BTreeMap::new() });
        kernels.push(copy);
    }
    tensors.push(packed_tensor(p.packed, p.gates, "batch", Role::Output)?);
    let (id, op) = (kernels[0].id.clone(), "gemm_pack".into());
    Ok(OpPlan { plan: Plan { id, op, class: p.class(), tensors, launches, requires: Vec::new() }, kernels })
}

/// The plan that unpacks and multiplies densely: `packed` instead of `b`, which is a workspace.
pub fn dequantised_plan(arch: Arch, p: &GemmProblem, c: &GemmConfig, splits: u32) -> Result<OpPlan, GemmError> {
    unpacked_first(arch, p, plan(arch, &dense(p), c, splits)?, row_align(c))
}

/// What rows of b are a multiple of, for a dense config.
pub(in crate::gemm) fn row_align(c: &GemmConfig) -> u32 {
    match c {
        GemmConfig::Mma(c) => c.load_align,
        GemmConfig::Wgmma(c) if c.pad => 1,
        // The rest multiplies packed weights itself, which the dense class refuses.
        _ => 8,
    }
}

/// The class of the multiplication that a class comes to when its weight is unpacked.
pub fn dense(p: &GemmProblem) -> GemmProblem {
    GemmProblem { weight: Weight::Same, b: BLayout::Nk, ..*p }
}

/// Unpacks to a workspace before a plan of the [`dense`] class, whose rows of `b` are multiples of `k_align` weights.
pub fn unpacked_first(arch: Arch, p: &GemmProblem, mut op: OpPlan, k_align: u32) -> Result<OpPlan, GemmError> {
    let Weight::Packed(packed) = p.weight else { return Err(ProblemError::Class(p.class()).into()) };
    let problem = UnpackProblem { packed, dtype: p.input, gates: p.gates(), k_align };
    let id = format!("gemm_unpack_{}_{}{}_a{k_align}", p.weight, p.input, if p.gates() == 2 { "_gates" } else { "" });
    let mut k = KernelBuilder::new(&id, arch);
    unpack_kernel(&mut k, &problem)?;
    let axes = [("kind", "unpack".to_string()), ("weight", p.weight.to_string()), ("k_align", k_align.to_string())];
    let kernel = TemplateKernel::plain(id, "gemm", axes, "none", k);
    let b = tensor_of(&mut op.plan, "b");
    b.role = Role::Workspace;
    let lead = b.shape[0].text().to_string();
    let binds = binds([("packed", "packed"), ("b", "b")]);
    let sets = sets(blocks(p.gates(), &lead))?;
    op.plan.tensors.push(packed_tensor(packed, p.gates(), &lead, Role::Input)?);
    op.plan.launches.insert(0, PlanLaunch { kernel: kernel.id.clone(), binds, sets });
    op.kernels.insert(0, kernel);
    op.plan.id = format!("gemm_{}_dequantised_{}", p.slug(), op.plan.id.trim_start_matches("gemm_"));
    op.plan.class = p.class();
    Ok(op)
}

/// Packs first: the source's tensors (and `perm`) instead of `packed`, which becomes a workspace.
pub fn with_source(arch: Arch, mut op: OpPlan, p: &PackProblem) -> Result<OpPlan, GemmError> {
    let kernel = p.kernel(arch)?;
    let packed = tensor_of(&mut op.plan, "packed");
    packed.role = Role::Workspace;
    let lead = packed.shape[0].text().to_string();
    op.plan.tensors.extend(source_tensors(p, &lead)?);
    if p.perm && op.plan.tensor("perm").is_none() {
        op.plan.tensors.push(perm_tensor()?);
    }
    op.plan.launches.insert(0, pack_launch(p, &kernel, &lead)?);
    op.kernels.insert(0, kernel);
    op.plan.id += &format!("_from_{}", p.source);
    Ok(op)
}

/// Puts the columns of a in the order of `perm` I32 `[k]` first.
pub fn with_perm(arch: Arch, mut op: OpPlan, a: DType) -> Result<OpPlan, GemmError> {
    let id = format!("gemm_gather_columns_{a}");
    let mut k = KernelBuilder::new(&id, arch);
    gather_kernel(&mut k, a)?;
    let kernel = TemplateKernel::plain(id, "gemm", [("kind", "gather_columns".to_string())], "none", k);
    for launch in &mut op.plan.launches {
        launch.binds.values_mut().filter(|to| *to == "a").for_each(|to| *to = "a_perm".into());
    }
    let from = tensor_of(&mut op.plan, "a").clone();
    op.plan.tensors.push(PlanTensor { name: "a_perm".into(), role: Role::Workspace, ..from });
    op.plan.tensors.push(perm_tensor()?);
    let binds = binds([("a", "a"), ("perm", "perm"), ("a_perm", "a_perm")]);
    op.plan.launches.insert(0, PlanLaunch { kernel: kernel.id.clone(), binds, sets: BTreeMap::new() });
    op.kernels.insert(0, kernel);
    op.plan.id += "_perm";
    Ok(op)
}

/// Extents of `packed` as expressions.
fn blocks(gates: u32, lead: &str) -> [(String, String); 3] {
    let n = if gates == 2 { "2*ceil_div(n,64)" } else { "ceil_div(n,64)" };
    [("e", lead), ("blocks_n", n), ("blocks_k", "ceil_div(k,128)")].map(|(name, e)| (name.to_string(), e.to_string()))
}

/// `packed` of a plan.
pub(crate) fn packed_tensor(p: Packed, gates: u32, lead: &str, role: Role) -> Result<PlanTensor, GemmError> {
    let [e, n, k] = blocks(gates, lead).map(|(_, e)| e);
    let shape = [e, n, k, words(p).to_string()].iter().map(|e| expr(e)).collect::<Result<_, _>>()?;
    Ok(PlanTensor { name: "packed".into(), dtype: Dtype::I32, shape, role })
}

fn perm_tensor() -> Result<PlanTensor, GemmError> {
    Ok(PlanTensor { name: "perm".into(), dtype: Dtype::I32, shape: vec![expr("k")?], role: Role::Input })
}

/// An expression of a source's part over a problem's variables.
fn of_problem(text: &str, gates: u32) -> String {
    let wide = if gates == 2 { "(2*n)" } else { "n" };
    text.replace("wide", wide).replace("groups", "ceil_div(k,group)")
}

fn source_tensors(p: &PackProblem, lead: &str) -> Result<Vec<PlanTensor>, GemmError> {
    let parts = p.source.parts(p.dtype).into_iter();
    parts
        .map(|part| {
            let [rows, cols] = part.shape.map(|e| of_problem(&e, p.gates));
            let shape = [lead.to_string(), rows, cols].iter().map(|e| expr(e)).collect::<Result<_, _>>()?;
            Ok(PlanTensor { name: part.name.into(), dtype: dtype(part.dtype), shape, role: Role::Input })
        })
        .collect()
}

fn pack_launch(p: &PackProblem, kernel: &TemplateKernel, lead: &str) -> Result<PlanLaunch, GemmError> {
    let bound = |name: &str| if name == "packed_halves" { "packed".to_string() } else { name.to_string() };
    let own = p.source.sets(p.dtype).into_iter().map(|(name, e)| (name, of_problem(&e, p.gates)));
    Ok(PlanLaunch {
        kernel: kernel.id.clone(),
        binds: kernel.kernel.tensors.iter().map(|t| (t.name.clone(), bound(&t.name))).collect(),
        sets: sets(blocks(p.gates, lead).into_iter().chain(own))?,
    })
}

fn binds<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn sets<K: Into<String>, E: Display>(
    pairs: impl IntoIterator<Item = (K, E)>,
) -> Result<BTreeMap<String, tilewright_runtime::expr::Expr>, GemmError> {
    pairs.into_iter().map(|(name, e)| Ok((name.into(), expr(&e.to_string())?))).collect()
}

/// A tensor that a plan of this family has.
fn tensor_of<'p>(plan: &'p mut Plan, name: &str) -> &'p mut PlanTensor {
    plan.tensors.iter_mut().find(|t| t.name == name).expect("a multiplication has its operands")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_read_back() {
        let packed = Packed { bits: 4, group: 128, zero: true };
        let problem = GemmProblem { weight: Weight::Packed(packed), ..GemmProblem::plain(DType::BF16) };
        for source in [None, Some(Source::Awq), Some(Source::Gptq { bits: 4, version: 1 })] {
            for perm in [false, true] {
                let class = WeightClass { problem, source, perm };
                assert_eq!(WeightClass::from_class(&class.class()), Ok(class));
                let Some(pack) = class.pack() else { continue };
                assert_eq!(PackProblem::from_class(&pack.class()), Ok(pack));
            }
        }
        let text = WeightClass { problem, source: None, perm: false }.class();
        assert!(WeightClass::from_class(&format!("{text},source=int8")).is_err());
        assert!(WeightClass::from_class(&format!("{},perm=1", GemmProblem::plain(DType::F16).class())).is_err());
    }
}
