//! Text to postfix code, by precedence climbing.

use super::{Binary, MAX_STACK, Op, VarId};

/// Longest expression; a manifest's are under a hundred characters.
const MAX_TEXT: usize = 4096;
/// Deepest nesting, so that a hostile file cannot exhaust the stack.
const MAX_NESTING: usize = 64;

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Something else stands where `expected` should.
    #[error("expression `{text}`: expected {expected} at character {}", .at + 1)]
    Syntax {
        /// The whole expression.
        text: String,
        /// Byte offset of the mistake.
        at: usize,
        /// What could stand there.
        expected: &'static str,
    },
    /// A call of a function that does not exist.
    #[error("expression `{text}`: no function `{name}`: there are min, max, ceil_div, round_up")]
    UnknownFunction {
        /// The whole expression.
        text: String,
        /// The name called.
        name: String,
    },
    /// Nested or long beyond what any shape needs.
    #[error("expression of {length} characters is too long or too deeply nested")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
    },
}

pub(super) fn compile(text: &str) -> Result<Vec<Op>, ParseError> {
    let mut parser = Parser { text, at: 0, nesting: 0, code: Vec::new() };
    if text.len() > MAX_TEXT {
        return Err(parser.too_large());
    }
    parser.level(0)?;
    parser.skip_space();
    if parser.at != text.len() {
        return Err(parser.syntax("an operator or the end"));
    }
    if stack_depth(&parser.code) > MAX_STACK {
        return Err(parser.too_large());
    }
    Ok(parser.code)
}

/// Operators by level, weakest first; a longer spelling stands before its prefix.
const LEVELS: [&[(&str, Infix)]; 5] = [
    &[("||", Infix::Or)],
    &[("&&", Infix::And)],
    &[
        ("==", Infix::Compare(Binary::Eq)),
        ("!=", Infix::Compare(Binary::Ne)),
        ("<=", Infix::Compare(Binary::Le)),
        (">=", Infix::Compare(Binary::Ge)),
        ("<", Infix::Compare(Binary::Lt)),
        (">", Infix::Compare(Binary::Gt)),
    ],
    &[("+", Infix::Arithmetic(Binary::Add)), ("-", Infix::Arithmetic(Binary::Sub))],
    &[("*", Infix::Arithmetic(Binary::Mul)), ("/", Infix::Arithmetic(Binary::Div)), ("%", Infix::Arithmetic(Binary::Rem))],
];

const FUNCTIONS: [(&str, Binary); 4] =
    [("min", Binary::Min), ("max", Binary::Max), ("ceil_div", Binary::CeilDiv), ("round_up", Binary::RoundUp)];

#[derive(Clone, Copy)]
enum Infix {
    Or,
    And,
    Compare(Binary),
    Arithmetic(Binary),
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    nesting: usize,
    code: Vec<Op>,
}

impl<'a> Parser<'a> {
    fn level(&mut self, level: usize) -> Result<(), ParseError> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        self.level(level + 1)?;
        while let Some(infix) = self.infix(operators) {
            match infix {
                Infix::Or => self.short_circuit(level, Op::OrElse)?,
                Infix::And => self.short_circuit(level, Op::AndElse)?,
                Infix::Arithmetic(op) => {
                    self.level(level + 1)?;
                    self.code.push(Op::Binary(op));
                }
                Infix::Compare(op) => {
                    self.level(level + 1)?;
                    self.code.push(Op::Binary(op));
                    let after = self.at;
                    if self.infix(operators).is_some() {
                        self.at = after;
                        return Err(self.syntax("one comparison, not a chain (use &&),"));
                    }
                }
            }
        }
        Ok(())
    }

    fn short_circuit(&mut self, level: usize, jump: fn(u32) -> Op) -> Result<(), ParseError> {
        let from = self.code.len();
        self.code.push(jump(0));
        self.level(level + 1)?;
        self.code.push(Op::Truth);
        // The jump lands on `Truth`'s successor for a left side already 0 or 1.
        self.code[from] = jump(self.code.len() as u32);
        Ok(())
    }

    fn unary(&mut self) -> Result<(), ParseError> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(self.too_large());
        }
        self.skip_space();
        let op = match self.peek() {
            Some(b'-') => Some(Op::Neg),
            Some(b'!') => Some(Op::Not),
            _ => None,
        };
        match op {
            Some(op) => {
                self.at += 1;
                self.unary()?;
                self.code.push(op);
            }
            None => self.primary()?,
        }
        self.nesting -= 1;
        Ok(())
    }

    fn primary(&mut self) -> Result<(), ParseError> {
        match self.peek() {
            Some(b'(') => {
                self.at += 1;
                self.level(0)?;
                self.expect(b')', "`)`")
            }
            Some(c) if c.is_ascii_digit() => {
                let start = self.at;
                let digits = self.take_while(|c| c.is_ascii_digit());
                let value = digits.parse().map_err(|_| ParseError::Syntax {
                    text: self.text.to_owned(),
                    at: start,
                    expected: "a number that fits 64 bits",
                })?;
                self.code.push(Op::Const(value));
                Ok(())
            }
            Some(c) if c.is_ascii_alphabetic() || c == b'_' => {
                let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == b'_');
                self.skip_space();
                if self.peek() == Some(b'(') {
                    return self.call(name);
                }
                self.code.push(Op::Var(VarId::of(name)));
                Ok(())
            }
            _ => Err(self.syntax("a number, a name or `(`")),
        }
    }

    fn call(&mut self, name: &str) -> Result<(), ParseError> {
        let Some(&(_, op)) = FUNCTIONS.iter().find(|f| f.0 == name) else {
            return Err(ParseError::UnknownFunction { text: self.text.to_owned(), name: name.to_owned() });
        };
        self.expect(b'(', "`(`")?;
        self.level(0)?;
        self.expect(b',', "`,` and a second argument")?;
        self.level(0)?;
        self.expect(b')', "`)`")?;
        self.code.push(Op::Binary(op));
        Ok(())
    }

    fn infix(&mut self, operators: &[(&str, Infix)]) -> Option<Infix> {
        self.skip_space();
        let rest = &self.text[self.at..];
        let &(spelling, infix) = operators.iter().find(|(spelling, _)| rest.starts_with(spelling))?;
        self.at += spelling.len();
        Some(infix)
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), ParseError> {
        self.skip_space();
        if self.peek() != Some(byte) {
            return Err(self.syntax(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let length = rest.bytes().position(|c| !keep(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|c| c == b' ') {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn syntax(&self, expected: &'static str) -> ParseError {
        ParseError::Syntax { text: self.text.to_owned(), at: self.at, expected }
    }

    fn too_large(&self) -> ParseError {
        ParseError::TooLarge { length: self.text.len() }
    }
}

/// Most values on the stack at once. A jump lands where falling through would leave the same depth, so one walk is enough.
pub(super) fn stack_depth(code: &[Op]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for op in code {
        match op {
            Op::Const(_) | Op::Var(_) => depth += 1,
            Op::Binary(_) | Op::AndElse(_) | Op::OrElse(_) => depth -= 1,
            Op::Neg | Op::Not | Op::Truth => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}
