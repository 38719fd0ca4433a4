//! What the compiler says of a plan before LLVM: the same passes and estimates that a build makes.

use super::Illegal;
use crate::DeviceProfile;
use crate::task::Task;
use tilewright_ir::Arch;
use tilewright_ir::passes::{self, PassError};
use tilewright_runtime::expr::{Expr, VarId, Vars};
use tilewright_templates::plan::OpPlan;

/// A launch's renamed variables and what its kernel requires.
type Conditions = (Vec<(VarId, Expr)>, Vec<Expr>);

/// What is known of a plan's kernels.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    requires: Vec<Expr>,
    launches: Vec<Conditions>,
    verdict: Result<(), Illegal>,
}

/// What a plan requires, and whether its kernels fit: shared memory, then registers. No protocol is checked and nothing expanded:
/// those fail for mistakes in a template, not for points.
pub(super) fn compile(op: &OpPlan) -> Result<Compiled, Illegal> {
    let mut launches = Vec::new();
    for (launch, kernel) in op.plan.launches.iter().zip(&op.kernels) {
        let sets = launch.sets.iter().map(|(name, e)| (VarId::of(name), e.clone())).collect();
        let parse = |text: &String| text.parse::<Expr>().map_err(|e| Illegal { rule: "template", why: e.to_string() });
        launches.push((sets, kernel.kernel.requires.iter().map(parse).collect::<Result<_, _>>()?));
    }
    let verdict = op.kernels.iter().try_for_each(|k| {
        let prepared = passes::prepare(k.kernel.clone()).map_err(|e| illegal(&e))?;
        passes::estimate_resources(&prepared).map(|_| ()).map_err(|e| illegal(&e.into()))
    });
    Ok(Compiled { requires: op.plan.requires.clone(), launches, verdict })
}

fn illegal(e: &PassError) -> Illegal {
    let rule = match e {
        PassError::SmemOverflow { .. } => "shared_memory",
        PassError::Resources(_) => "registers",
        _ => "compiler",
    };
    Illegal { rule, why: e.to_string() }
}

impl Compiled {
    /// Whether the plan is right for a task's sizes and its kernels fit a CTA.
    pub fn check(&self, arch: Arch, task: &Task) -> Result<(), Illegal> {
        let full = |what: &str| Illegal { rule: "requires", why: format!("{what} for {task}") };
        let mut vars = Vars::new();
        let sms = ("sms", i64::from(DeviceProfile::typical(arch).sms));
        let own = task.sizes.iter().map(|(name, value)| (name.as_str(), *value));
        for (name, value) in [sms].into_iter().chain(own) {
            vars.set(VarId::of(name), value).map_err(|e| full(&e.to_string()))?;
        }
        let holds = |e: &Expr, vars: &Vars| match e.holds(vars) {
            Ok(true) => Ok(()),
            Ok(false) => Err(full(&format!("`{}` does not hold", e.text()))),
            Err(e) => Err(full(&e.to_string())),
        };
        self.requires.iter().try_for_each(|e| holds(e, &vars))?;
        for (sets, requires) in &self.launches {
            let mut inner = vars;
            for (id, e) in sets {
                let value = e.eval(&vars).map_err(|e| full(&e.to_string()))?;
                inner.set(*id, value).map_err(|e| full(&e.to_string()))?;
            }
            requires.iter().try_for_each(|e| holds(e, &inner))?;
        }
        self.verdict.clone()
    }
}
