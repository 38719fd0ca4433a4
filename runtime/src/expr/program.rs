//! Many expressions as one straight line of steps, each shared part computed once.
//!
//! [`super::Expr::eval`] interprets one expression and says why it has no value. Preparing a plan for a shape needs some dozens
//! to thousands of values at once, most of them products of the same few sizes; here equal parts are one step, and a launch's own
//! variables are replaced when the program is made. A value that does not exist (division by zero, overflow, a variable that
//! is not set) is [`None`] and makes those that need it [`None`], except behind a `&&` or `||` that does not look at it. What
//! the error was, the expression itself says when evaluated.

use std::collections::HashMap;

use super::{Binary, Expr, Op, Scope, VarId};

/// A value of a [`Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ValueId(u32);

/// Values for a problem, by [`ValueId`]; from [`Program::room`].
#[derive(Clone, Debug)]
pub(crate) struct Values(Vec<Option<i64>>);

/// Steps in order, each reading earlier values only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    /// Constants at their places, nothing elsewhere.
    initial: Vec<Option<i64>>,
    inputs: Vec<(VarId, ValueId)>,
    steps: Vec<(Step, ValueId)>,
}

/// Puts a [`Program`] together.
#[derive(Default)]
pub(crate) struct ProgramBuilder {
    program: Program,
    known: HashMap<Step, ValueId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Const(i64),
    Input(VarId),
    Neg(ValueId),
    Not(ValueId),
    Truth(ValueId),
    And(ValueId, ValueId),
    Or(ValueId, ValueId),
    Binary(Binary, ValueId, ValueId),
}

impl Program {
    /// Room for the values.
    pub(crate) fn room(&self) -> Values {
        Values(self.initial.clone())
    }

    /// Computes all values for a problem. `room` is this program's.
    pub(crate) fn run(&self, scope: Scope<'_>, room: &mut Values) {
        let values = room.0.as_mut_slice();
        for &(var, to) in &self.inputs {
            values[to.0 as usize] = scope.get(var);
        }
        for &(step, to) in &self.steps {
            values[to.0 as usize] = step.value(values);
        }
    }
}

impl Values {
    /// A value; none where it does not exist for the problem.
    pub(crate) fn get(&self, id: ValueId) -> Option<i64> {
        self.0[id.0 as usize]
    }
}

impl ProgramBuilder {
    /// The value of an expression, in which a variable of `sets` stands for the value given there.
    pub(crate) fn add(&mut self, expr: &Expr, sets: &[(VarId, ValueId)]) -> ValueId {
        self.range(&expr.code, 0, expr.code.len(), sets)
    }

    /// The program of all that was added.
    pub(crate) fn finish(self) -> Program {
        self.program
    }

    /// What `code[from..to]` leaves, which is one value.
    fn range(&mut self, code: &[Op], from: usize, to: usize, sets: &[(VarId, ValueId)]) -> ValueId {
        let mut stack = Vec::new();
        let mut pc = from;
        while pc < to {
            let op = code[pc];
            pc += 1;
            let value = match op {
                Op::Const(value) => self.step(Step::Const(value)),
                Op::Var(id) => {
                    let set = sets.iter().find(|set| set.0 == id).map(|set| set.1);
                    set.unwrap_or_else(|| self.step(Step::Input(id)))
                }
                op => {
                    // The parser leaves an operator its operands; a missing one would be its mistake and is no value.
                    let last = stack.pop().unwrap_or_else(|| self.nothing());
                    match op {
                        Op::Neg => self.step(Step::Neg(last)),
                        Op::Not => self.step(Step::Not(last)),
                        Op::Truth => self.step(Step::Truth(last)),
                        Op::AndElse(target) | Op::OrElse(target) => {
                            let right = self.range(code, pc, target as usize, sets);
                            pc = target as usize;
                            self.step(if matches!(op, Op::AndElse(_)) { Step::And(last, right) } else { Step::Or(last, right) })
                        }
                        Op::Binary(op) => {
                            let left = stack.pop().unwrap_or_else(|| self.nothing());
                            self.step(Step::Binary(op, left, last))
                        }
                        Op::Const(_) | Op::Var(_) => last,
                    }
                }
            };
            stack.push(value);
        }
        stack.pop().unwrap_or_else(|| self.nothing())
    }

    fn nothing(&mut self) -> ValueId {
        let zero = self.step(Step::Const(0));
        self.step(Step::Binary(Binary::Div, zero, zero))
    }

    fn step(&mut self, step: Step) -> ValueId {
        if let Some(&id) = self.known.get(&step) {
            return id;
        }
        // A step of constants is one.
        let initial = match step {
            Step::Const(value) => Some(value),
            Step::Input(_) => None,
            _ => step.value(&self.program.initial),
        };
        let id = ValueId(self.program.initial.len() as u32);
        self.program.initial.push(initial);
        match step {
            Step::Const(_) => {}
            Step::Input(var) => self.program.inputs.push((var, id)),
            _ if initial.is_some() => {}
            _ => self.program.steps.push((step, id)),
        }
        self.known.insert(step, id);
        id
    }
}

impl Step {
    fn value(self, values: &[Option<i64>]) -> Option<i64> {
        let at = |id: ValueId| values[id.0 as usize];
        match self {
            Step::Const(value) => Some(value),
            Step::Input(_) => None,
            Step::Neg(a) => at(a)?.checked_neg(),
            Step::Not(a) => Some(i64::from(at(a)? == 0)),
            Step::Truth(a) => Some(i64::from(at(a)? != 0)),
            Step::And(a, b) => {
                if at(a)? == 0 {
                    Some(0)
                } else {
                    at(b)
                }
            }
            Step::Or(a, b) => {
                if at(a)? != 0 {
                    Some(1)
                } else {
                    at(b)
                }
            }
            Step::Binary(op, a, b) => op.apply(at(a)?, at(b)?).ok(),
        }
    }
}
