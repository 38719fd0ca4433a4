//! Shape expressions as data: `ceil_div(m,128)*batch`, `k % 8 == 0`.
//!
//! An expression is parsed once into flat postfix code and evaluated against [`Vars`] without allocating, because launch
//! preparation and dispatch evaluate a handful of them for every call. Integers are `i64`; comparisons give 0 or 1 and
//! anything but 0 is true. `&&` and `||` do not evaluate their right side when the left one decides, so
//! `g != 0 && k % g == 0` is safe.
//!
//! | precedence, weakest first | operators |
//! |---|---|
//! | 1 | `\|\|` |
//! | 2 | `&&` |
//! | 3 | `==` `!=` `<` `<=` `>` `>=` (one per level: `a < b < c` is refused) |
//! | 4 | `+` `-` |
//! | 5 | `*` `/` `%` (toward zero, as in Rust) |
//! | 6 | `-x` `!x` |
//! | 7 | numbers, names, `(x)`, `min(a,b)` `max(a,b)` `ceil_div(a,b)` `round_up(a,b)` |

mod interner;
mod parse;
mod program;
mod shared;
#[cfg(test)]
mod tests;
mod vars;

use std::fmt;
use std::str::FromStr;
use std::sync;
use std::sync::Arc;

use serde::{Serialize, Serializer};

pub use parse::ParseError;
pub(crate) use program::{Program, ProgramBuilder, ValueId, Values};
pub(crate) use shared::Sharing;
pub(crate) use vars::Scope;
pub use vars::{MAX_VARS, TooManyVars, VarId, Vars};

/// A parsed shape expression. Serialised as its text, byte for byte as it was written.
#[derive(Clone)]
pub struct Expr {
    text: Arc<str>,
    code: Arc<[Op]>,
}

/// Why an expression has no value; each carries the expression's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A variable that the problem does not set.
    #[error("`{expr}`: variable `{name}` is not set for this problem")]
    UnknownVariable {
        /// The whole expression.
        expr: String,
        /// The variable.
        name: &'static str,
    },
    /// `/`, `%` by zero, or `ceil_div`, `round_up` by a number below 1.
    #[error("`{expr}`: division by {divisor}")]
    Division {
        /// The whole expression.
        expr: String,
        /// The divisor that was refused.
        divisor: i64,
    },
    /// A value outside `i64`.
    #[error("`{expr}`: a value does not fit 64 bits")]
    Overflow {
        /// The whole expression.
        expr: String,
    },
}

/// Deepest evaluation stack; the parser refuses more.
pub(crate) const MAX_STACK: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Const(i64),
    Var(VarId),
    Neg,
    Not,
    /// Leaves 0 and jumps when the top is 0, else drops it.
    AndElse(u32),
    /// Leaves 1 and jumps when the top is not 0, else drops it.
    OrElse(u32),
    /// Makes the top 0 or 1.
    Truth,
    Binary(Binary),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Min,
    Max,
    CeilDiv,
    RoundUp,
}

enum Fault {
    Division(i64),
    Overflow,
}

impl Expr {
    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its value for these variables.
    ///
    /// ```
    /// use tilewright_runtime::expr::{Expr, VarId, Vars};
    /// let tiles: Expr = "ceil_div(m,128)*ceil_div(n,256)".parse()?;
    /// let mut vars = Vars::new();
    /// vars.set(VarId::M, 1000)?;
    /// vars.set(VarId::N, 520)?;
    /// assert_eq!(tiles.eval(&vars)?, 8 * 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn eval(&self, vars: &Vars) -> Result<i64, EvalError> {
        self.eval_in(vars.into())
    }

    pub(crate) fn eval_in(&self, scope: Scope<'_>) -> Result<i64, EvalError> {
        let mut stack = [0i64; MAX_STACK];
        let mut top = 0; // number of values on the stack; the parser proved it stays within 1..=MAX_STACK
        let mut pc = 0;
        while let Some(&op) = self.code.get(pc) {
            pc += 1;
            match op {
                Op::Const(value) => {
                    stack[top] = value;
                    top += 1;
                }
                Op::Var(id) => {
                    let Some(value) = scope.get(id) else {
                        return Err(self.unknown(id));
                    };
                    stack[top] = value;
                    top += 1;
                }
                Op::Neg => {
                    stack[top - 1] = stack[top - 1].checked_neg().ok_or_else(|| self.fault(Fault::Overflow))?;
                }
                Op::Not => stack[top - 1] = i64::from(stack[top - 1] == 0),
                Op::Truth => stack[top - 1] = i64::from(stack[top - 1] != 0),
                Op::AndElse(target) => {
                    if stack[top - 1] == 0 {
                        pc = target as usize;
                    } else {
                        top -= 1;
                    }
                }
                Op::OrElse(target) => {
                    if stack[top - 1] != 0 {
                        stack[top - 1] = 1;
                        pc = target as usize;
                    } else {
                        top -= 1;
                    }
                }
                Op::Binary(op) => {
                    top -= 1;
                    stack[top - 1] = op.apply(stack[top - 1], stack[top]).map_err(|fault| self.fault(fault))?;
                }
            }
        }
        Ok(stack[0])
    }

    /// Whether the expression is true (not 0) for these variables.
    pub fn holds(&self, vars: &Vars) -> Result<bool, EvalError> {
        Ok(self.eval(vars)? != 0)
    }

    /// The expression with others in the place of variables. It keeps its text, for messages. None where it would need too deep
    /// a stack.
    pub(crate) fn replaced(&self, sets: &[(VarId, Expr)]) -> Option<Expr> {
        let mut code = Vec::new();
        let (mut starts, mut jumps) = (Vec::new(), Vec::new());
        for op in &*self.code {
            let start = code.len();
            starts.push(start as u32);
            match op {
                Op::Var(id) => match sets.iter().find(|set| set.0 == *id) {
                    Some((_, expr)) => code.extend(expr.code.iter().map(|op| op.moved(|target| target + start as u32))),
                    None => code.push(*op),
                },
                Op::AndElse(_) | Op::OrElse(_) => {
                    jumps.push(start);
                    code.push(*op);
                }
                _ => code.push(*op),
            }
        }
        starts.push(code.len() as u32);
        for at in jumps {
            code[at] = code[at].moved(|target| starts[target as usize]);
        }
        let fits = parse::stack_depth(&code) <= MAX_STACK;
        fits.then(|| Expr { text: self.text.clone(), code: code.into() })
    }

    /// `variable % number == 0`, if it is that.
    pub(crate) fn as_multiple(&self) -> Option<(VarId, i64)> {
        match *self.code {
            [Op::Var(id), Op::Const(of), Op::Binary(Binary::Rem), Op::Const(0), Op::Binary(Binary::Eq)] if of > 0 => {
                Some((id, of))
            }
            _ => None,
        }
    }

    /// Whether both compute the same in the same way, however they are written.
    pub(crate) fn same_code(&self, other: &Expr) -> bool {
        self.code == other.code
    }

    /// Whether `var` occurs in it.
    pub fn mentions(&self, var: VarId) -> bool {
        self.code.contains(&Op::Var(var))
    }

    /// The variables it reads, in order of first occurrence.
    pub fn variables(&self) -> Vec<VarId> {
        let mut seen = Vec::new();
        for op in &*self.code {
            if let Op::Var(id) = op
                && !seen.contains(id)
            {
                seen.push(*id);
            }
        }
        seen
    }

    #[cold]
    fn unknown(&self, id: VarId) -> EvalError {
        EvalError::UnknownVariable { expr: self.text.to_string(), name: id.name() }
    }

    #[cold]
    fn fault(&self, fault: Fault) -> EvalError {
        let expr = self.text.to_string();
        match fault {
            Fault::Division(divisor) => EvalError::Division { expr, divisor },
            Fault::Overflow => EvalError::Overflow { expr },
        }
    }
}

impl Op {
    /// With another target, if it jumps.
    fn moved(self, to: impl Fn(u32) -> u32) -> Op {
        match self {
            Op::AndElse(target) => Op::AndElse(to(target)),
            Op::OrElse(target) => Op::OrElse(to(target)),
            op => op,
        }
    }
}

impl Binary {
    fn apply(self, a: i64, b: i64) -> Result<i64, Fault> {
        let checked = match self {
            Binary::Add => a.checked_add(b),
            Binary::Sub => a.checked_sub(b),
            Binary::Mul => a.checked_mul(b),
            Binary::Div | Binary::Rem if b == 0 => return Err(Fault::Division(b)),
            Binary::Div => a.checked_div(b),
            Binary::Rem => a.checked_rem(b),
            Binary::Eq => Some(i64::from(a == b)),
            Binary::Ne => Some(i64::from(a != b)),
            Binary::Lt => Some(i64::from(a < b)),
            Binary::Le => Some(i64::from(a <= b)),
            Binary::Gt => Some(i64::from(a > b)),
            Binary::Ge => Some(i64::from(a >= b)),
            Binary::Min => Some(a.min(b)),
            Binary::Max => Some(a.max(b)),
            Binary::CeilDiv | Binary::RoundUp if b < 1 => return Err(Fault::Division(b)),
            Binary::CeilDiv => Some(ceil_div(a, b)),
            Binary::RoundUp => ceil_div(a, b).checked_mul(b),
        };
        checked.ok_or(Fault::Overflow)
    }
}

/// `b` is at least 1.
fn ceil_div(a: i64, b: i64) -> i64 {
    a.div_euclid(b) + i64::from(a.rem_euclid(b) != 0)
}

impl FromStr for Expr {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Ok(Expr { code: parse::compile(text)?.into(), text: text.into() })
    }
}

impl From<u32> for Expr {
    fn from(value: u32) -> Self {
        Expr { text: value.to_string().into(), code: Arc::new([Op::Const(i64::from(value))]) }
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expr {}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.text)
    }
}

impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
