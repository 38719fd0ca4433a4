//! Choosing a plan for a problem: sorted shape buckets, no lock, no allocation.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::expr::{EvalError, Expr, TooManyVars, VarId, Vars};
use crate::manifest::{Kernel, Manifest};
use crate::plan::{Plan, PlanLaunch};

/// Position of a plan in its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanIndex(pub u32);

/// The table of one op and class, as the manifest holds it.
///
/// Edges are the inclusive upper bounds of every bucket but the last, which is open: `m_edges: [16, 64]` makes the
/// buckets 1..=16, 17..=64 and 65.. . A dimension that does not matter has no edges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dispatch {
    /// The op.
    pub op: String,
    /// The class, as its plans spell it.
    pub class: String,
    /// Bounds on m, ascending.
    pub m_edges: Vec<i64>,
    /// Bounds on n, ascending.
    pub n_edges: Vec<i64>,
    /// Bounds on k, ascending.
    pub k_edges: Vec<i64>,
    /// For each bucket, m outermost and k innermost, the plans to try, best first.
    pub cells: Vec<Vec<PlanIndex>>,
    /// What ranked them.
    pub chosen_by: ChosenBy,
}

/// What ranked the plans of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChosenBy {
    /// The performance model.
    Model,
    /// Measurements on a device.
    Tuned,
}

/// How to choose among plans that are all correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy<'a> {
    /// The first plan of the cell that fits the problem.
    Fastest,
    /// One plan for each (n, k) whatever m is, whose rows do not depend on m either: the same row gives the same bits in
    /// any batch.
    BatchInvariant,
    /// The plan with this id.
    Pinned(&'a str),
}

/// Why no plan was chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// The pack has nothing for the op and class.
    #[error("no {op} for class `{class}` in this pack")]
    UnknownClass {
        /// Op asked for.
        op: String,
        /// Class asked for.
        class: String,
    },
    /// No plan of the cell admits the problem.
    #[error("no plan of {op} `{class}` fits {problem} under policy {policy}")]
    NoPlan {
        /// Op asked for.
        op: String,
        /// Class asked for.
        class: String,
        /// The variables.
        problem: String,
        /// `fastest` or `batch-invariant`.
        policy: &'static str,
    },
    /// No plan has the pinned id.
    #[error("no plan `{id}` for {op} `{class}` in this pack")]
    UnknownPlan {
        /// Id asked for.
        id: String,
        /// Op asked for.
        op: String,
        /// Class asked for.
        class: String,
    },
    /// The plan asked for is not correct for the problem.
    #[error("plan `{id}` requires `{requirement}`, which does not hold for {problem}")]
    Unfit {
        /// Id asked for.
        id: String,
        /// The condition.
        requirement: String,
        /// The variables.
        problem: String,
    },
    /// The problem lacks m, n or k.
    #[error("dispatch needs variable `{}`", .0.name())]
    MissingVariable(VarId),
    /// A condition has no value for the problem.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A launch sets more variables than there is room for.
    #[error(transparent)]
    TooManyVars(#[from] TooManyVars),
}

/// The tables of a manifest, ready to choose from.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    /// Sorted by the hash of op and class: classes share long prefixes, which makes comparing them at every step of a
    /// search cost more than the rest of the choice.
    tables: Vec<(u64, Dispatch)>,
    plans: Vec<Candidate>,
}

#[derive(Clone, Debug)]
struct Candidate {
    id: String,
    op: String,
    class: String,
    requires: Vec<Expr>,
    launches: Vec<Conditions>,
    batch_invariant: bool,
}

/// What one launch's kernel requires, and the variables it sees besides the problem's.
#[derive(Clone, Debug)]
struct Conditions {
    sets: Vec<(VarId, Expr)>,
    requires: Vec<Expr>,
}

impl Dispatcher {
    /// Readies the tables of a checked manifest.
    pub fn new(manifest: &Manifest) -> Self {
        let mut tables: Vec<(u64, Dispatch)> =
            manifest.dispatch.iter().map(|table| (hash(&table.op, &table.class), table.clone())).collect();
        tables.sort_by_key(|table| table.0);
        let kernels: HashMap<&str, &Kernel> = manifest.kernels.iter().map(|k| (k.id.as_str(), k)).collect();
        let plans = manifest.plans.iter().map(|plan| Candidate::new(plan, &kernels)).collect();
        Dispatcher { tables, plans }
    }

    /// The plan for a matrix product with `batch` 1 and the split left to the plan.
    pub fn select_mnk(&self, op: &str, class: &str, [m, n, k]: [i64; 3], policy: Policy<'_>) -> Result<PlanIndex, SelectError> {
        self.select(op, class, &Vars::gemm(m, n, k), policy)
    }

    /// The plan for a problem. `vars` holds m, n, k and whatever else the plans' conditions mention.
    pub fn select(&self, op: &str, class: &str, vars: &Vars, policy: Policy<'_>) -> Result<PlanIndex, SelectError> {
        let table =
            self.table(op, class).ok_or_else(|| SelectError::UnknownClass { op: op.to_owned(), class: class.to_owned() })?;
        let no_plan =
            |policy| SelectError::NoPlan { op: op.to_owned(), class: class.to_owned(), problem: describe(vars), policy };
        match policy {
            Policy::Fastest => {
                let m_bucket = bucket(&table.m_edges, value(vars, VarId::M)?);
                self.first_fit(table.cell(m_bucket, vars)?, vars, |_| true)?.ok_or_else(|| no_plan("fastest"))
            }
            Policy::BatchInvariant => {
                // From the largest m down, so the plan is good where the work is; m itself is never looked at.
                for m_bucket in (0..=table.m_edges.len()).rev() {
                    let plans = table.cell(m_bucket, vars)?;
                    if let Some(plan) = self.first_fit(plans, vars, |candidate| candidate.batch_invariant)? {
                        return Ok(plan);
                    }
                }
                Err(no_plan("batch-invariant"))
            }
            Policy::Pinned(id) => {
                let of_class = |plan: &Candidate| plan.id == id && plan.op == op && plan.class == class;
                let at = self.plans.iter().position(of_class).ok_or_else(|| SelectError::UnknownPlan {
                    id: id.to_owned(),
                    op: op.to_owned(),
                    class: class.to_owned(),
                })?;
                self.check(PlanIndex(at as u32), vars)?;
                Ok(PlanIndex(at as u32))
            }
        }
    }

    /// Whether a plan is correct for a problem; the error names the condition that does not hold.
    pub fn check(&self, plan: PlanIndex, vars: &Vars) -> Result<(), SelectError> {
        let candidate = &self.plans[plan.0 as usize];
        match candidate.unmet(vars)? {
            None => Ok(()),
            Some(requirement) => Err(SelectError::Unfit {
                id: candidate.id.clone(),
                requirement: requirement.text().to_owned(),
                problem: describe(vars),
            }),
        }
    }

    fn table(&self, op: &str, class: &str) -> Option<&Dispatch> {
        let key = hash(op, class);
        let first = self.tables.partition_point(|table| table.0 < key);
        let same = self.tables[first..].iter().take_while(|table| table.0 == key);
        same.map(|table| &table.1).find(|table| table.class == class && table.op == op)
    }

    fn first_fit(
        &self,
        plans: &[PlanIndex],
        vars: &Vars,
        eligible: impl Fn(&Candidate) -> bool,
    ) -> Result<Option<PlanIndex>, SelectError> {
        for &plan in plans {
            let candidate = &self.plans[plan.0 as usize];
            if eligible(candidate) && candidate.unmet(vars)?.is_none() {
                return Ok(Some(plan));
            }
        }
        Ok(None)
    }
}

impl Dispatch {
    /// Buckets of each dimension, [m, n, k].
    pub fn buckets(&self) -> [usize; 3] {
        [self.m_edges.len() + 1, self.n_edges.len() + 1, self.k_edges.len() + 1]
    }

    fn cell(&self, m_bucket: usize, vars: &Vars) -> Result<&[PlanIndex], SelectError> {
        let [_, n_buckets, k_buckets] = self.buckets();
        let n_bucket = bucket(&self.n_edges, value(vars, VarId::N)?);
        let k_bucket = bucket(&self.k_edges, value(vars, VarId::K)?);
        Ok(&self.cells[(m_bucket * n_buckets + n_bucket) * k_buckets + k_bucket])
    }
}

impl Candidate {
    fn new(plan: &Plan, kernels: &HashMap<&str, &Kernel>) -> Self {
        let used: Vec<&Kernel> = plan.launches.iter().filter_map(|launch| kernels.get(&*launch.kernel).copied()).collect();
        let launches: Vec<Conditions> = plan
            .launches
            .iter()
            .zip(&used)
            .map(|(launch, kernel)| Conditions { sets: sets(launch), requires: kernel.requires.clone() })
            .collect();
        let with_m = |expr: &Expr| expr.mentions(VarId::M);
        let depends_on_m = plan.requires.iter().any(with_m)
            || launches.iter().any(|c| c.requires.iter().any(with_m) || c.sets.iter().any(|(_, expr)| with_m(expr)));
        Candidate {
            id: plan.id.clone(),
            op: plan.op.clone(),
            class: plan.class.clone(),
            requires: plan.requires.clone(),
            batch_invariant: !depends_on_m && used.iter().all(|kernel| kernel.numerics.batch_invariant),
            launches,
        }
    }

    /// The first condition that does not hold.
    fn unmet(&self, vars: &Vars) -> Result<Option<&Expr>, SelectError> {
        for requirement in &self.requires {
            if !requirement.holds(vars)? {
                return Ok(Some(requirement));
            }
        }
        for Conditions { sets, requires } in &self.launches {
            if requires.is_empty() {
                continue;
            }
            let inner;
            let scope = if sets.is_empty() {
                vars
            } else {
                inner = scope(vars, sets)?;
                &inner
            };
            for requirement in requires {
                if !requirement.holds(scope)? {
                    return Ok(Some(requirement));
                }
            }
        }
        Ok(None)
    }
}

/// The variables a launch sets, by id.
pub(crate) fn sets(launch: &PlanLaunch) -> Vec<(VarId, Expr)> {
    launch.sets.iter().map(|(name, expr)| (VarId::of(name), expr.clone())).collect()
}

/// A launch's variables: the plan's, with `sets` (evaluated against the plan's) over them.
pub(crate) fn scope(vars: &Vars, sets: &[(VarId, Expr)]) -> Result<Vars, SelectError> {
    let mut inner = *vars;
    for (id, expr) in sets {
        inner.set(*id, expr.eval(vars)?)?;
    }
    Ok(inner)
}

/// `m = 1, n = 8`, for messages.
pub(crate) fn describe(vars: &Vars) -> String {
    let parts: Vec<String> = vars.iter().map(|(id, value)| format!("{} = {value}", id.name())).collect();
    parts.join(", ")
}

/// Eight bytes a step, as in rustc's FxHash; equal hashes are told apart by the texts.
fn hash(op: &str, class: &str) -> u64 {
    let mut hash = 0u64;
    for text in [op, class] {
        let (words, rest) = text.as_bytes().as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        for &word in words.iter().chain([&last]) {
            hash = (hash.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x51_7c_c1_b7_27_22_0a_95);
        }
    }
    hash
}

fn bucket(edges: &[i64], value: i64) -> usize {
    edges.partition_point(|&edge| edge < value)
}

fn value(vars: &Vars, id: VarId) -> Result<i64, SelectError> {
    vars.get(id).ok_or(SelectError::MissingVariable(id))
}
