//! Attention as launches: which kernels an op needs, in which order, and what lies between them.

use super::blocks::{BlockListProblem, block_lists};
use super::config::AttentionConfigError;
use super::decode_problem::{DecodeProblem, Select};
use super::kernel::{AttentionConfig, DecodeConfig, decode_kernel, forward_kernel, kernel};
use super::merge::{MergeError, MergeProblem, merge};
use super::pages::PageError;
use super::problem::{AttentionProblem, ProblemError};
use crate::manifest::{dtype, expr};
use crate::plan::{OpPlan, TemplateKernel};
use std::collections::BTreeMap;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::expr::ParseError;
use tilewright_runtime::plan::{Plan, PlanLaunch, PlanTensor, Role};

/// Why a kernel or a plan cannot be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AttentionError {
    /// The class does not exist.
    #[error(transparent)]
    Problem(#[from] ProblemError),
    /// The config is illegal.
    #[error(transparent)]
    Config(#[from] AttentionConfigError),
    /// The merge does not exist.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The page kernels do not exist.
    #[error(transparent)]
    Pages(#[from] PageError),
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
    /// A shared prefix with what counts positions.
    #[error("class `{0}`: a shared prefix goes with causal, softcap and sink only")]
    Prefix(String),
    /// An expression of the plan does not parse: a mistake in the template.
    #[error("plan expression: {0}")]
    Expr(#[from] ParseError),
}

/// The forward's plan. One launch; for a block-sparse class the lists of blocks come first.
///
/// With a prefix (Hydragen, arXiv 2402.05099) `k_prefix [prefix, hkv, d]` and `v_prefix` come before the keys of every
/// sequence: the queries of all sequences attend to it as those of one, then each to its own keys, and the two are merged.
pub fn forward_plan(arch: Arch, p: &AttentionProblem, c: &AttentionConfig, prefix: bool) -> Result<OpPlan, AttentionError> {
    let mut draft = Draft::new("attention", format!("attention_{}_{}", p.slug(), c.slug()), p.class());
    draft.forward_inputs(p)?;
    // No tensor map has an extent of 0. Sequences of a varlen batch may be empty.
    let some = if p.varlen { "total_q > 0 && total_k > 0" } else { "batch > 0 && sq > 0 && sk > 0" };
    draft.plan.requires.push(expr(some)?);
    let tokens = if p.varlen { vec!["total_q"] } else { vec!["batch", "sq"] };
    let dv = p.dv.to_string();
    if prefix {
        if p.window || p.chunk || p.alibi || p.bias.is_some() || p.varlen || p.sparse.is_some() {
            return Err(AttentionError::Prefix(p.class()));
        }
        draft.plan.id += "_prefix";
        draft.plan.class += ",prefix=1";
        draft.tensor("k_prefix", dtype(p.dtype), &["prefix", "hkv", &p.d.to_string()], Role::Input)?;
        draft.tensor("v_prefix", dtype(p.dtype), &["prefix", "hkv", &dv], Role::Input)?;
        draft.partials("2*batch", "sq", &dv)?;
        let part = AttentionProblem { output: DType::F32, sink: false, ..*p };
        let into = [("o", "partial_o"), ("lse", "partial_lse")];
        let all = forward_kernel(arch, &AttentionProblem { causal: false, ..part }, c)?;
        let names = [&into[..], &[("k", "k_prefix"), ("v", "v_prefix")]].concat();
        let one = [("batch", "1"), ("sq", "batch*sq"), ("sk", "prefix"), ("part", "0"), ("parts", "2")];
        draft.launch(all, &names, &one)?;
        draft.launch(forward_kernel(arch, &part, c)?, &into, &[("part", "1"), ("parts", "2")])?;
        draft.merge(arch, p.dtype, p.dv, p.sink, "2")?;
    } else {
        if p.sparse.is_some() {
            draft.block_lists(arch, p, c.tile())?;
        }
        draft.launch(forward_kernel(arch, p, c)?, &[], &[])?;
    }
    draft.tensor("o", dtype(p.output), &[&tokens[..], &["hq", &dv]].concat(), Role::Output)?;
    let lse: &[&str] = if p.varlen { &["hq", "total_q"] } else { &["batch", "hq", "sq"] };
    draft.tensor("lse", Dtype::F32, lse, Role::Output)?;
    Ok(draft.finish())
}

/// Tokens of a part where the plan chooses, at least.
const PART_TOKENS: u32 = 256;

/// Decode's plan: one launch, or with `split` one for all parts of the tokens and their merge.
///
/// Variables `splits` and `split_size` say how many parts there are or how long one is; where both are 0, as many as give
/// each multiprocessor two, `m` being the key heads of all sequences. The number depends on how long a sequence may be, not on
/// how long it is, so a captured launch serves growing sequences.
pub fn decode_plan(arch: Arch, p: &DecodeProblem, c: &DecodeConfig, split: bool) -> Result<OpPlan, AttentionError> {
    let id = format!("attention_decode_{}_{}{}", p.slug(), c.slug(), if split { "_split" } else { "" });
    let mut draft = Draft::new("attention_decode", id, p.class());
    let (d, dv, input) = (p.d.to_string(), p.dv.to_string(), dtype(p.dtype));
    draft.tensor("q", input, &["batch", "sq", "hq", &d], Role::Input)?;
    draft.tensor("k_pages", input, &["pages", "page", "hkv", &d], Role::Input)?;
    draft.tensor("v_pages", input, &["pages", "page", "hkv", &dv], Role::Input)?;
    draft.tensor("page_table", Dtype::I32, &["batch", "max_pages"], Role::Input)?;
    draft.tensor("kv_len", Dtype::I32, &["batch"], Role::Input)?;
    let (heads, tokens) = match p.select {
        Select::None => ("hkv", "max_pages*page"),
        Select::KvHeads => ("hkv", "n_select*page"),
        Select::Heads => ("hq", "n_select*page"),
    };
    if p.select != Select::None {
        draft.tensor("select", Dtype::I32, &["batch", heads, "n_select"], Role::Input)?;
    }
    draft.heads(p.alibi, p.sink)?;
    if split {
        // With m in it the plan is none that dispatch calls batch-invariant: how many parts there are depends on the batch.
        let choice = format!("min(max(2*sms/max(m,1),1),ceil_div({tokens},{PART_TOKENS}))");
        let parts = format!(
            "(split_size > 0)*ceil_div({tokens},max(split_size,1))+(split_size == 0)*((splits > 0)*splits+(splits == 0)*{choice})"
        );
        draft.plan.requires.push(expr("splits != 1")?);
        draft.partials(&format!("({parts})*batch"), "sq", &dv)?;
        let part = DecodeProblem { output: DType::F32, sink: false, ..*p };
        draft.launch(decode_kernel(arch, &part, c)?, &[("o", "partial_o"), ("lse", "partial_lse")], &[("splits", &parts)])?;
        draft.merge(arch, p.dtype, p.dv, p.sink, &parts)?;
    } else {
        draft.plan.requires.push(expr("splits <= 1 && split_size == 0")?);
        draft.launch(decode_kernel(arch, p, c)?, &[], &[("splits", "1")])?;
    }
    draft.tensor("o", dtype(p.output), &["batch", "sq", "hq", &dv], Role::Output)?;
    draft.tensor("lse", Dtype::F32, &["batch", "hq", "sq"], Role::Output)?;
    Ok(draft.finish())
}

/// The merge's plan.
pub fn merge_plan(arch: Arch, p: &MergeProblem) -> Result<OpPlan, AttentionError> {
    let kernel = merge_kernel(arch, p)?;
    let mut draft = Draft::new("attention_merge", kernel.id.clone(), p.class());
    draft.tensor("partial_o", dtype(p.input), &["parts*batch", "sq", "hq", "dv"], Role::Input)?;
    let lse: [&str; 3] = if p.token_major { ["parts*batch", "sq", "hq"] } else { ["parts*batch", "hq", "sq"] };
    draft.tensor("partial_lse", Dtype::F32, &lse, Role::Input)?;
    draft.heads(false, p.sink)?;
    draft.launch(kernel, &[], &[])?;
    draft.tensor("o", dtype(p.output), &["batch", "sq", "hq", "dv"], Role::Output)?;
    draft.tensor("lse", Dtype::F32, &["batch", "hq", "sq"], Role::Output)?;
    Ok(draft.finish())
}

/// The merge kernel of a class.
pub fn merge_kernel(arch: Arch, p: &MergeProblem) -> Result<TemplateKernel, AttentionError> {
    p.check()?;
    let id = format!("attention_merge_{}", p.slug());
    let mut k = KernelBuilder::new(&id, arch);
    merge(&mut k, p)?;
    Ok(kernel(id, vec![("kind", "merge".into())], "parts.seq", k))
}

/// A plan in the making.
struct Draft {
    plan: Plan,
    kernels: Vec<TemplateKernel>,
}

impl Draft {
    fn new(op: &str, id: String, class: String) -> Self {
        let (tensors, launches, requires) = (Vec::new(), Vec::new(), Vec::new());
        Draft { plan: Plan { id, op: op.into(), class, tensors, launches, requires }, kernels: Vec::new() }
    }

    fn tensor(&mut self, name: &str, dtype: Dtype, dims: &[&str], role: Role) -> Result<(), AttentionError> {
        let shape = dims.iter().map(|e| expr(e)).collect::<Result<_, _>>()?;
        self.plan.tensors.push(PlanTensor { name: name.into(), dtype, shape, role });
        Ok(())
    }

    /// Adds a launch. The kernel's tensors are the plan's of the same names, or those that `names` gives.
    fn launch(&mut self, kernel: TemplateKernel, names: &[(&str, &str)], sets: &[(&str, &str)]) -> Result<(), AttentionError> {
        let name = |t: &str| names.iter().find(|n| n.0 == t).map_or(t, |n| n.1).to_string();
        let binds = kernel.kernel.tensors.iter().map(|t| (t.name.clone(), name(&t.name))).collect();
        let sets = sets.iter().map(|(n, e)| Ok((n.to_string(), expr(e)?))).collect::<Result<BTreeMap<_, _>, ParseError>>()?;
        self.plan.launches.push(PlanLaunch { kernel: kernel.id.clone(), binds, sets });
        self.kernels.push(kernel);
        Ok(())
    }

    fn finish(self) -> OpPlan {
        OpPlan { plan: self.plan, kernels: self.kernels }
    }

    /// What a forward of the class is given.
    fn forward_inputs(&mut self, p: &AttentionProblem) -> Result<(), AttentionError> {
        let (d, dv) = (p.d.to_string(), p.dv.to_string());
        let tokens = |len: &'static str, total: &'static str| if p.varlen { vec![total] } else { vec!["batch", len] };
        let input = dtype(p.dtype);
        self.tensor("q", input, &[&tokens("sq", "total_q")[..], &["hq", &d]].concat(), Role::Input)?;
        self.tensor("k", input, &[&tokens("sk", "total_k")[..], &["hkv", &d]].concat(), Role::Input)?;
        self.tensor("v", input, &[&tokens("sk", "total_k")[..], &["hkv", &dv]].concat(), Role::Input)?;
        if p.varlen {
            self.tensor("cu_q", Dtype::I32, &["batch+1"], Role::Input)?;
            self.tensor("cu_k", Dtype::I32, &["batch+1"], Role::Input)?;
        }
        self.heads(p.alibi, p.sink)?;
        if let Some(bias) = p.bias {
            self.tensor("bias", dtype(bias), &["bias_b", "bias_h", "bias_q", "bias_k"], Role::Input)?;
        }
        if p.sparse.is_some_and(|s| s.mask) {
            self.tensor("block_mask", Dtype::U8, &["mask_b", "mask_h", "mask_q", "mask_k"], Role::Input)?;
        }
        if p.sparse.is_some_and(|s| s.heads) {
            self.tensor("head_type", Dtype::I32, &["hq"], Role::Input)?;
        }
        Ok(())
    }

    /// One number a head.
    fn heads(&mut self, alibi: bool, sink: bool) -> Result<(), AttentionError> {
        for (_, name) in [(alibi, "alibi"), (sink, "sink")].into_iter().filter(|x| x.0) {
            self.tensor(name, Dtype::F32, &["hq"], Role::Input)?;
        }
        Ok(())
    }

    /// Merges `parts` partial results into o and lse.
    fn merge(&mut self, arch: Arch, output: DType, dv: u32, sink: bool, parts: &str) -> Result<(), AttentionError> {
        let kernel = merge_kernel(arch, &MergeProblem::of_partials(output, dv, sink))?;
        self.launch(kernel, &[], &[("parts", parts), ("dv", &dv.to_string())])
    }

    /// Lists of the blocks of `bn` keys that each tile of `bm` queries visits.
    fn block_lists(&mut self, arch: Arch, p: &AttentionProblem, [bm, bn]: [u32; 2]) -> Result<(), AttentionError> {
        let Some(lists) = BlockListProblem::of(p) else { return Ok(()) };
        lists.check()?;
        let id = format!("attention_blocks_{}", lists.slug());
        let mut k = KernelBuilder::new(&id, arch);
        block_lists(&mut k, &lists)?;
        let rows = format!("batch*hq*ceil_div(sq,{bm})");
        self.tensor("blocks", Dtype::I32, &[&rows, &format!("ceil_div(sk,{bn})")], Role::Workspace)?;
        self.tensor("block_count", Dtype::I32, &[&rows, "2"], Role::Workspace)?;
        let sets = [("tile_m", bm.to_string()), ("tile_n", bn.to_string())];
        self.launch(kernel(id, vec![("kind", "blocks".into())], "none", k), &[], &sets.each_ref().map(|(n, v)| (*n, v.as_str())))
    }

    /// Partial results, `lead` = parts times sequences.
    fn partials(&mut self, lead: &str, sq: &str, dv: &str) -> Result<(), AttentionError> {
        self.tensor("partial_o", Dtype::F32, &[lead, sq, "hq", dv], Role::Workspace)?;
        self.tensor("partial_lse", Dtype::F32, &[lead, sq, "hq"], Role::Workspace)
    }
}
