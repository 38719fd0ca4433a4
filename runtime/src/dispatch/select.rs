//! Choosing a plan for a problem: no lock, no allocation.

use std::collections::HashMap;

use super::candidate::{Candidate, describe};
use super::check::MAX_AXES;
use super::policy::{Policy, SelectError};
use super::table::{CellIndex, Dispatch, PlanIndex};
use crate::expr::{Scope, VarId, Vars};
use crate::manifest::{Kernel, Manifest};
use crate::plan::Plan;

/// The tables of a manifest, ready to choose from.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    /// Sorted by hash.
    tables: Vec<Table>,
    plans: Vec<Candidate>,
    /// Plans by id.
    ids: HashMap<String, PlanIndex>,
}

/// An op and class of a [`Dispatcher`], found once by [`Dispatcher::class`]; means nothing to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(u32);

#[derive(Clone, Debug)]
struct Table {
    /// Of op and class: classes share long prefixes, which makes comparing them at every step of a search cost more than the
    /// rest of the choice.
    hash: u64,
    axes: Vec<VarId>,
    table: Dispatch,
}

impl Dispatcher {
    /// Readies the tables of a checked manifest.
    pub fn new(manifest: &Manifest) -> Self {
        let mut tables: Vec<Table> = manifest.dispatch.iter().map(Table::new).collect();
        tables.sort_by_key(|table| table.hash);
        let first_axes: HashMap<(&str, &str), VarId> =
            tables.iter().map(|t| ((&*t.table.op, &*t.table.class), t.axes[0])).collect();
        let kernels: HashMap<&str, &Kernel> = manifest.kernels.iter().map(|k| (k.id.as_str(), k)).collect();
        let candidate = |plan: &Plan| {
            let first = first_axes.get(&(&*plan.op, &*plan.class));
            Candidate::new(plan, &kernels, *first.unwrap_or(&VarId::M))
        };
        let plans = manifest.plans.iter().map(candidate).collect();
        let ids = manifest.plans.iter().enumerate().map(|(at, plan)| (plan.id.clone(), PlanIndex(at as u32))).collect();
        Dispatcher { tables, plans, ids }
    }

    /// The class to choose in, found once; [`Dispatcher::select_in`] then hashes and compares no text.
    pub fn class(&self, op: &str, class: &str) -> Option<ClassId> {
        let key = hash(op, class);
        let first = self.tables.partition_point(|table| table.hash < key);
        let same = self.tables[first..].iter().take_while(|table| table.hash == key);
        let at = same.map(|t| &t.table).position(|table| table.class == class && table.op == op)?;
        Some(ClassId((first + at) as u32))
    }

    /// The plan with this id, for [`Dispatcher::check`] and preparing.
    pub fn plan(&self, id: &str) -> Option<PlanIndex> {
        self.ids.get(id).copied()
    }

    /// The plan for a matrix product with `batch` 1 and the split left to the plan.
    pub fn select_mnk(&self, op: &str, class: &str, [m, n, k]: [i64; 3], policy: Policy<'_>) -> Result<PlanIndex, SelectError> {
        self.select(op, class, &Vars::gemm(m, n, k), policy)
    }

    /// The plan for a problem. `vars` holds the axes of the class's table and whatever else the plans' conditions mention.
    pub fn select(&self, op: &str, class: &str, vars: &Vars, policy: Policy<'_>) -> Result<PlanIndex, SelectError> {
        let unknown = || SelectError::UnknownClass { op: op.to_owned(), class: class.to_owned() };
        self.select_in(self.class(op, class).ok_or_else(unknown)?, vars, policy)
    }

    /// As [`Dispatcher::select`], in a class found before. Takes no lock and allocates nothing on success.
    pub fn select_in(&self, class: ClassId, vars: &Vars, policy: Policy<'_>) -> Result<PlanIndex, SelectError> {
        self.choose(class, vars.into(), policy)
    }

    /// Whether a plan is correct for a problem; the error names the condition that does not hold.
    pub fn check(&self, plan: PlanIndex, vars: &Vars) -> Result<(), SelectError> {
        self.check_in(plan, vars.into())
    }

    pub(crate) fn choose(&self, class: ClassId, scope: Scope<'_>, policy: Policy<'_>) -> Result<PlanIndex, SelectError> {
        let Some(table) = self.tables.get(class.0 as usize) else {
            return Err(SelectError::UnknownClass { op: "an op".to_owned(), class: "of another pack".to_owned() });
        };
        match policy {
            Policy::Fastest => {
                let mut values = [0; MAX_AXES];
                let values = table.values(scope, 0, &mut values)?;
                let found = self.first_fit(table.table.plans(values), scope, |_| true)?;
                found.ok_or_else(|| table.no_plan(scope, "fastest"))
            }
            Policy::BatchInvariant => {
                let mut values = [0; MAX_AXES];
                let values = table.values(scope, 1, &mut values)?;
                let fit = |cell: CellIndex| {
                    self.first_fit(&table.table.cells[cell.0 as usize], scope, |candidate| candidate.batch_invariant)
                };
                table.table.from_largest(values, fit)?.ok_or_else(|| table.no_plan(scope, "batch-invariant"))
            }
            Policy::Pinned(id) => {
                let of_class = |plan: &PlanIndex| {
                    let Candidate { op, class, .. } = &self.plans[plan.0 as usize];
                    *op == table.table.op && *class == table.table.class
                };
                let plan = self.plan(id).filter(of_class).ok_or_else(|| SelectError::UnknownPlan {
                    id: id.to_owned(),
                    op: table.table.op.clone(),
                    class: table.table.class.clone(),
                })?;
                self.check_in(plan, scope)?;
                Ok(plan)
            }
        }
    }

    pub(crate) fn check_in(&self, plan: PlanIndex, scope: Scope<'_>) -> Result<(), SelectError> {
        let Some(candidate) = self.plans.get(plan.0 as usize) else {
            let (op, class) = ("any op".to_owned(), "of any kind".to_owned());
            return Err(SelectError::UnknownPlan { id: format!("number {}", plan.0), op, class });
        };
        match candidate.unmet(scope)? {
            None => Ok(()),
            Some(requirement) => Err(SelectError::Unfit {
                id: candidate.id.clone(),
                requirement: requirement.text().to_owned(),
                problem: describe(scope),
            }),
        }
    }

    fn first_fit(
        &self,
        plans: &[PlanIndex],
        scope: Scope<'_>,
        eligible: impl Fn(&Candidate) -> bool,
    ) -> Result<Option<PlanIndex>, SelectError> {
        for &plan in plans {
            let candidate = &self.plans[plan.0 as usize];
            if eligible(candidate) && candidate.unmet(scope)?.is_none() {
                return Ok(Some(plan));
            }
        }
        Ok(None)
    }
}

impl Table {
    fn new(table: &Dispatch) -> Self {
        Table {
            hash: hash(&table.op, &table.class),
            axes: table.axes.iter().map(|name| VarId::of(name)).collect(),
            table: table.clone(),
        }
    }

    /// The problem's values of the axes from `first` on, into `room`; the manifest's checks found that they fit.
    fn values<'r>(&self, scope: Scope<'_>, first: usize, room: &'r mut [i64; MAX_AXES]) -> Result<&'r [i64], SelectError> {
        for (value, &axis) in room.iter_mut().zip(&self.axes).skip(first) {
            *value = scope.get(axis).ok_or(SelectError::MissingVariable(axis))?;
        }
        Ok(&room[..self.axes.len()])
    }

    #[cold]
    fn no_plan(&self, scope: Scope<'_>, policy: &'static str) -> SelectError {
        let Dispatch { op, class, .. } = &self.table;
        SelectError::NoPlan { op: op.clone(), class: class.clone(), problem: describe(scope), policy }
    }
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
