//! A plan as choosing sees it: its conditions.

use std::collections::HashMap;

use super::policy::SelectError;
use crate::expr::{Expr, Scope, VarId, Vars};
use crate::manifest::Kernel;
use crate::plan::{Plan, PlanLaunch};

#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) id: String,
    pub(super) op: String,
    pub(super) class: String,
    /// Of the plan and of its kernels, each once.
    conditions: Vec<Condition>,
    /// Of kernels whose launch sets variables, where those could not be written into the conditions.
    launches: Vec<Scoped>,
    /// Its rows do not depend on the first axis, nor does whether it fits.
    pub(super) batch_invariant: bool,
}

#[derive(Clone, Debug)]
struct Condition {
    expr: Expr,
    /// `variable % number == 0`, which most are, and which needs no interpreter.
    multiple: Option<(VarId, i64)>,
}

/// What one launch's kernel requires, and the variables it sees besides the problem's.
#[derive(Clone, Debug)]
struct Scoped {
    sets: Vec<(VarId, Expr)>,
    requires: Vec<Expr>,
}

impl Candidate {
    /// `first` is the first axis of its class's table.
    pub(super) fn new(plan: &Plan, kernels: &HashMap<&str, &Kernel>, first: VarId) -> Self {
        let with_first = |expr: &Expr| expr.mentions(first);
        let mut candidate = Candidate {
            id: plan.id.clone(),
            op: plan.op.clone(),
            class: plan.class.clone(),
            conditions: Vec::new(),
            launches: Vec::new(),
            batch_invariant: !plan.requires.iter().any(with_first),
        };
        plan.requires.iter().for_each(|expr| candidate.add(expr.clone()));
        for launch in &plan.launches {
            let Some(kernel) = kernels.get(&*launch.kernel) else { continue };
            let sets = sets(launch);
            candidate.batch_invariant &= kernel.numerics.batch_invariant
                && !kernel.requires.iter().any(with_first)
                && !sets.iter().any(|(_, expr)| with_first(expr));
            let replaced: Option<Vec<Expr>> = kernel.requires.iter().map(|expr| expr.replaced(&sets)).collect();
            match replaced {
                Some(requires) => requires.into_iter().for_each(|expr| candidate.add(expr)),
                None => candidate.launches.push(Scoped { sets, requires: kernel.requires.clone() }),
            }
        }
        candidate
    }

    /// The first condition that does not hold.
    pub(super) fn unmet(&self, scope: Scope<'_>) -> Result<Option<&Expr>, SelectError> {
        for condition in &self.conditions {
            if !condition.holds(scope)? {
                return Ok(Some(&condition.expr));
            }
        }
        for Scoped { sets, requires } in &self.launches {
            let inner = self::scope(&scope.all()?, sets)?;
            for requirement in requires {
                if !requirement.holds(&inner)? {
                    return Ok(Some(requirement));
                }
            }
        }
        Ok(None)
    }

    fn add(&mut self, expr: Expr) {
        if !self.conditions.iter().any(|known| known.expr.same_code(&expr)) {
            self.conditions.push(Condition { multiple: expr.as_multiple(), expr });
        }
    }
}

impl Condition {
    fn holds(&self, scope: Scope<'_>) -> Result<bool, SelectError> {
        if let Some((var, of)) = self.multiple
            && let Some(value) = scope.get(var)
        {
            return Ok(value % of == 0);
        }
        // Without a value, the expression says which variable it lacks.
        Ok(self.expr.eval_in(scope)? != 0)
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
pub(super) fn describe(scope: Scope<'_>) -> String {
    let all = scope.all().unwrap_or(*scope.vars);
    let parts: Vec<String> = all.iter().map(|(id, value)| format!("{} = {value}", id.name())).collect();
    parts.join(", ")
}
