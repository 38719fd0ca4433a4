//! Plans: an op as a chain of launches over named tensors, workspaces and shape expressions.
//!
//! Launches run in list order. What must wait for what follows from the tensors they read and write
//! ([`Plan::dependencies`]), so a caller with several streams and workspaces of its own may overlap the rest; the engine, which
//! packs workspaces, runs them on one stream.
//!
//! Expressions of a plan see the problem's variables and `sms`. Expressions of a launched kernel see those plus the
//! launch's `sets`, which replace a problem variable of the same name: a plan with a fixed split sets `split_k` to `4`,
//! whatever the caller left it at.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::dtype::Dtype;
use crate::expr::Expr;
use crate::manifest::{Access, Kernel};

/// How one op is done for one class of problems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Unique in the manifest; what `Policy::Pinned` names.
    pub id: String,
    /// The op, such as `gemm`.
    pub op: String,
    /// What of the problem is fixed: `a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0`.
    pub class: String,
    /// Every tensor the launches touch. Callers give inputs and outputs in this order.
    pub tensors: Vec<PlanTensor>,
    /// Launches in order.
    pub launches: Vec<PlanLaunch>,
    /// Conditions beyond those of the kernels.
    pub requires: Vec<Expr>,
}

/// A tensor of a plan, row-major and dense.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanTensor {
    /// Its name in the op's contract, or the plan's own for a workspace.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Extents in elements, outermost first.
    pub shape: Vec<Expr>,
    /// Who provides it.
    pub role: Role,
}

/// Who provides a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The caller, with contents.
    Input,
    /// The caller, to be filled.
    Output,
    /// The runtime; contents are undefined before the first write.
    Workspace,
}

/// One launch of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanLaunch {
    /// Kernel id.
    pub kernel: String,
    /// The kernel's tensor names to the plan's.
    pub binds: BTreeMap<String, String>,
    /// Variables for this launch's expressions, over the plan's.
    pub sets: BTreeMap<String, Expr>,
}

/// What is wrong with a plan; `plan` and `launch` (counted from 0) say where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field is
pub enum PlanError {
    #[error("plan `{plan}` launches nothing")]
    Empty { plan: String },
    #[error("plan `{plan}` has two tensors named `{tensor}`")]
    DuplicateTensor { plan: String, tensor: String },
    #[error("plan `{plan}` launch {launch}: no kernel `{kernel}` in the manifest")]
    UnknownKernel { plan: String, launch: usize, kernel: String },
    #[error("plan `{plan}` launch {launch}: kernel `{kernel}` needs tensor `{tensor}` bound")]
    Unbound { plan: String, launch: usize, kernel: String, tensor: String },
    #[error("plan `{plan}` launch {launch}: binds `{tensor}`, which kernel `{kernel}` does not have")]
    ForeignBind { plan: String, launch: usize, kernel: String, tensor: String },
    #[error("plan `{plan}` launch {launch}: bound to tensor `{tensor}`, which the plan does not have")]
    UnknownTensor { plan: String, launch: usize, tensor: String },
    #[error("plan `{plan}` launch {launch} writes input `{tensor}`")]
    WritesInput { plan: String, launch: usize, tensor: String },
    #[error("plan `{plan}` launch {launch} reads `{tensor}` before any launch wrote it")]
    ReadBeforeWrite { plan: String, launch: usize, tensor: String },
    #[error("plan `{plan}`: no launch writes `{tensor}`")]
    NeverWritten { plan: String, tensor: String },
    #[error("plan `{plan}`: no launch reads `{tensor}`")]
    NeverRead { plan: String, tensor: String },
}

/// Launch `after` must wait for launch `before`; both are positions in [`Plan::launches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    /// The earlier launch.
    pub before: usize,
    /// The later one.
    pub after: usize,
}

impl Plan {
    /// Position of the tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<usize> {
        self.tensors.iter().position(|tensor| tensor.name == name)
    }

    /// The tensors a caller gives, in order: inputs and outputs, no workspaces.
    pub fn external_tensors(&self) -> impl Iterator<Item = &PlanTensor> {
        self.tensors.iter().filter(|tensor| tensor.role != Role::Workspace)
    }

    /// Checks that every reference exists, that nothing is read before it is written and that each output is written.
    ///
    /// `kernel` finds a kernel by id.
    pub fn validate<'k>(&self, kernel: impl Fn(&str) -> Option<&'k Kernel>) -> Result<(), PlanError> {
        let plan = || self.id.clone();
        if self.launches.is_empty() {
            return Err(PlanError::Empty { plan: plan() });
        }
        let mut names = HashSet::new();
        for tensor in &self.tensors {
            if !names.insert(&tensor.name) {
                return Err(PlanError::DuplicateTensor { plan: plan(), tensor: tensor.name.clone() });
            }
        }
        let uses = self.uses(kernel)?;
        let (mut written, mut read) = (vec![false; self.tensors.len()], vec![false; self.tensors.len()]);
        for (launch, uses) in uses.iter().enumerate() {
            for &(tensor, access) in uses {
                let PlanTensor { name, role, .. } = &self.tensors[tensor];
                if access.reads() && *role != Role::Input && !written[tensor] {
                    return Err(PlanError::ReadBeforeWrite { plan: plan(), launch, tensor: name.clone() });
                }
                if access.writes() && *role == Role::Input {
                    return Err(PlanError::WritesInput { plan: plan(), launch, tensor: name.clone() });
                }
                read[tensor] |= access.reads();
            }
            // After the reads: a launch does not see its own writes.
            for &(tensor, access) in uses {
                written[tensor] |= access.writes();
            }
        }
        for (at, PlanTensor { name, role, .. }) in self.tensors.iter().enumerate() {
            if *role != Role::Input && !written[at] {
                return Err(PlanError::NeverWritten { plan: plan(), tensor: name.clone() });
            }
            if *role != Role::Output && !read[at] {
                return Err(PlanError::NeverRead { plan: plan(), tensor: name.clone() });
            }
        }
        Ok(())
    }

    /// Which launches must wait for which, sorted: later ones that read or overwrite what an earlier one wrote, or
    /// overwrite what it read. `before < after` always, so the graph has no cycle.
    pub fn dependencies<'k>(&self, kernel: impl Fn(&str) -> Option<&'k Kernel>) -> Result<Vec<Dependency>, PlanError> {
        let uses = self.uses(kernel)?;
        let conflict = |a: &[Use], b: &[Use]| a.iter().any(|x| b.iter().any(|y| x.0 == y.0 && (x.1.writes() || y.1.writes())));
        let mut edges = Vec::new();
        for after in 0..uses.len() {
            for before in 0..after {
                if conflict(&uses[before], &uses[after]) {
                    edges.push(Dependency { before, after });
                }
            }
        }
        edges.sort();
        Ok(edges)
    }

    /// For each launch, the plan tensors it touches, in the order of the kernel's parameters.
    pub(crate) fn uses<'k>(&self, kernel: impl Fn(&str) -> Option<&'k Kernel>) -> Result<Vec<Vec<Use>>, PlanError> {
        let positions: HashMap<&str, usize> = self.tensors.iter().enumerate().map(|(at, t)| (t.name.as_str(), at)).collect();
        let mut all = Vec::new();
        for (launch, PlanLaunch { kernel: id, binds, .. }) in self.launches.iter().enumerate() {
            let plan = || self.id.clone();
            let kernel = kernel(id).ok_or_else(|| PlanError::UnknownKernel { plan: plan(), launch, kernel: id.clone() })?;
            let mut uses: Vec<Use> = Vec::new();
            let mut known = Vec::new();
            for (name, access) in kernel.params.iter().filter_map(|param| param.kind.tensor()) {
                known.push(name);
                let bound = binds.get(name).ok_or_else(|| PlanError::Unbound {
                    plan: plan(),
                    launch,
                    kernel: id.clone(),
                    tensor: name.to_owned(),
                })?;
                let unknown = || PlanError::UnknownTensor { plan: plan(), launch, tensor: bound.clone() };
                uses.push((*positions.get(bound.as_str()).ok_or_else(unknown)?, access));
            }
            if let Some(foreign) = binds.keys().find(|name| !known.contains(&name.as_str())) {
                let (kernel, tensor) = (id.clone(), foreign.clone());
                return Err(PlanError::ForeignBind { plan: plan(), launch, kernel, tensor });
            }
            all.push(uses);
        }
        Ok(all)
    }
}

/// A plan tensor, by position, and what a launch does with it.
type Use = (usize, Access);
