//! A plan as choosing sees it: its conditions.

use std::collections::HashMap;

use super::policy::SelectError;
use crate::expr::{Expr, VarId, Vars};
use crate::manifest::Kernel;
use crate::plan::{Plan, PlanLaunch};

#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) id: String,
    pub(super) op: String,
    pub(super) class: String,
    requires: Vec<Expr>,
    launches: Vec<Conditions>,
    /// Its rows do not depend on the first axis, nor does whether it fits.
    pub(super) batch_invariant: bool,
}

/// What one launch's kernel requires, and the variables it sees besides the problem's.
#[derive(Clone, Debug)]
struct Conditions {
    sets: Vec<(VarId, Expr)>,
    requires: Vec<Expr>,
}

impl Candidate {
    /// `first` is the first axis of its class's table.
    pub(super) fn new(plan: &Plan, kernels: &HashMap<&str, &Kernel>, first: VarId) -> Self {
        let used: Vec<&Kernel> = plan.launches.iter().filter_map(|launch| kernels.get(&*launch.kernel).copied()).collect();
        let launches: Vec<Conditions> = plan
            .launches
            .iter()
            .zip(&used)
            .map(|(launch, kernel)| Conditions { sets: sets(launch), requires: kernel.requires.clone() })
            .collect();
        let with_first = |expr: &Expr| expr.mentions(first);
        let depends_on_first = plan.requires.iter().any(with_first)
            || launches.iter().any(|c| c.requires.iter().any(with_first) || c.sets.iter().any(|(_, expr)| with_first(expr)));
        Candidate {
            id: plan.id.clone(),
            op: plan.op.clone(),
            class: plan.class.clone(),
            requires: plan.requires.clone(),
            batch_invariant: !depends_on_first && used.iter().all(|kernel| kernel.numerics.batch_invariant),
            launches,
        }
    }

    /// The first condition that does not hold.
    pub(super) fn unmet(&self, vars: &Vars) -> Result<Option<&Expr>, SelectError> {
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
pub(super) fn describe(vars: &Vars) -> String {
    let parts: Vec<String> = vars.iter().map(|(id, value)| format!("{} = {value}", id.name())).collect();
    parts.join(", ")
}
