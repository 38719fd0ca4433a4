//! What may be asked for, and why nothing was chosen.

use crate::expr::{EvalError, TooManyVars, VarId};

/// How to choose among plans that are all correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy<'a> {
    /// The first plan of the cell that fits the problem.
    Fastest,
    /// One plan for each value of the other axes whatever the first one (m) is, whose rows do not depend on it either: the
    /// same row gives the same bits in any batch.
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
    /// The problem lacks an axis of the table.
    #[error("dispatch needs variable `{}`", .0.name())]
    MissingVariable(VarId),
    /// A condition has no value for the problem.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A launch sets more variables than there is room for.
    #[error(transparent)]
    TooManyVars(#[from] TooManyVars),
}
