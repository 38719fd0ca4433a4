//! The text form, on one line with balanced braces:
//!
//! ```text
//! layout := '{' input* '}' '->' '{' dim* '}'
//! input  := dim ':' '[' basis* ( '|' ( extent '*' basis )* )? ']'
//! basis  := '0' | term ( '+' term )*
//! term   := dim value                        the name and the number joined: row8
//! ```
//! Atom bits stand before the bar, lowest first; outer factors after it, fastest first. `0` moves no output.
//! `{reg: [col1 row8 | 12*col8] lane: [col2 col4 row1 row2 row4]} -> {row col}`

use std::fmt;
use std::str::FromStr;

use super::{Basis, Dim, Layout, LayoutError};

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, input) in self.inputs.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            let mut factors: Vec<String> = input.bases.iter().map(|b| self.basis_text(b)).collect();
            if !input.outers.is_empty() {
                factors.push("|".to_owned());
            }
            factors.extend(input.outers.iter().map(|o| format!("{}*{}", o.extent, self.basis_text(&o.stride))));
            write!(f, "{space}{}: [{}]", input.dim, factors.join(" "))?;
        }
        let outputs: Vec<&str> = self.outputs.iter().map(|d| d.name()).collect();
        write!(f, "}} -> {{{}}}", outputs.join(" "))
    }
}

impl Layout {
    fn basis_text(&self, basis: &Basis) -> String {
        let moved = self.outputs.iter().zip(basis.values()).filter(|(_, v)| **v != 0);
        let terms: Vec<String> = moved.map(|(dim, value)| format!("{dim}{value}")).collect();
        if terms.is_empty() { "0".to_owned() } else { terms.join("+") }
    }
}

impl FromStr for Layout {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Layout, LayoutError> {
        let mut cursor = Cursor { text, at: 0 };
        let mut factors = Vec::new();
        cursor.expect("{", "`{`")?;
        while !cursor.take("}") {
            let input = cursor.dim()?;
            cursor.expect(":", "`:`")?;
            cursor.expect("[", "`[`")?;
            let mut in_atom = true;
            factors.push(Factor::Input(input));
            while !cursor.take("]") {
                if in_atom && cursor.take("|") {
                    in_atom = false;
                } else if in_atom {
                    factors.push(Factor::Bit(input, cursor.basis()?));
                } else {
                    let extent = cursor.number("an extent, as in `12*col8`")?;
                    cursor.expect("*", "`*`")?;
                    factors.push(Factor::Outer(input, extent, cursor.basis()?));
                }
            }
        }
        cursor.expect("->", "`->`")?;
        cursor.expect("{", "`{`")?;
        let mut outputs = Vec::new();
        while !cursor.take("}") {
            outputs.push(cursor.dim()?);
        }
        cursor.end()?;
        check_inputs(&factors)?;
        let apply = |builder: super::Builder, factor| match factor {
            Factor::Input(input) => builder.input(input),
            Factor::Bit(input, terms) => builder.bit(input, terms),
            Factor::Outer(input, extent, terms) => builder.outer(input, extent, terms),
        };
        factors.into_iter().fold(Layout::onto(outputs), apply).build()
    }
}

enum Factor {
    Input(Dim),
    Bit(Dim, Vec<(Dim, u32)>),
    Outer(Dim, u32, Vec<(Dim, u32)>),
}

// The builder lets one input be named many times; text must not.
fn check_inputs(factors: &[Factor]) -> Result<(), LayoutError> {
    let mut seen = Vec::new();
    for factor in factors {
        if let Factor::Input(dim) = *factor {
            if seen.contains(&dim) {
                return Err(LayoutError::DuplicateDim { dim, side: "input" });
            }
            seen.push(dim);
        }
    }
    Ok(())
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str, expected: &'static str) -> Result<(), LayoutError> {
        if self.take(token) { Ok(()) } else { Err(self.error(expected)) }
    }

    fn end(&mut self) -> Result<(), LayoutError> {
        if self.rest().is_empty() { Ok(()) } else { Err(self.error("nothing more")) }
    }

    fn dim(&mut self) -> Result<Dim, LayoutError> {
        let name = self.run(|c| c.is_ascii_alphabetic());
        if name.is_empty() {
            return Err(self.error("the name of a dim"));
        }
        self.at += name.len();
        name.parse()
    }

    fn number(&mut self, expected: &'static str) -> Result<u32, LayoutError> {
        let digits = self.run(|c| c.is_ascii_digit());
        let value = digits.parse().map_err(|_| self.error(expected))?;
        self.at += digits.len();
        Ok(value)
    }

    fn basis(&mut self) -> Result<Vec<(Dim, u32)>, LayoutError> {
        if self.run(|c| c.is_ascii_digit()) == "0" {
            self.at += 1;
            return Ok(Vec::new());
        }
        let mut terms = Vec::new();
        loop {
            let dim = self.dim()?;
            terms.push((dim, self.number("a value joined to its dim, as in `col8`")?));
            if !self.take("+") {
                return Ok(terms);
            }
        }
    }

    /// The longest run of such characters from here, not yet taken.
    fn run(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        &rest[..rest.find(|c| !keep(c)).unwrap_or(rest.len())]
    }

    fn error(&mut self, expected: &'static str) -> LayoutError {
        let rest = self.rest();
        let found = if rest.is_empty() { "end of text".to_owned() } else { rest.chars().take(20).collect() };
        LayoutError::Parse { column: self.at + 1, expected, found }
    }
}
