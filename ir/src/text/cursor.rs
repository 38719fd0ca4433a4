//! A cursor over IR text: words, numbers, punctuation, attributes; every error has its line.

use crate::attr::{Attr, Attrs};
use crate::loc::Loc;

/// A text that is not the IR it claims to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: u32,
    /// What was found and what was expected.
    pub message: String,
}

/// Reads a text from left to right. Spaces, newlines and `#` comments separate words.
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

impl<'a> Cursor<'a> {
    /// At the start of `text`.
    pub fn new(text: &'a str) -> Self {
        Cursor { text, at: 0, line: 1 }
    }

    /// An error at the present line.
    pub fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError { line: self.line, message: message.into() }
    }

    /// What follows, past spaces.
    pub fn rest(&mut self) -> &'a str {
        self.skip();
        &self.text[self.at..]
    }

    /// True at the end of the text.
    pub fn at_end(&mut self) -> bool {
        self.rest().is_empty()
    }

    /// The next character, past spaces.
    pub fn peek(&mut self) -> Option<char> {
        self.rest().chars().next()
    }

    /// The next character if it stands on the same line: an operation's operands never start on the next one.
    pub fn peek_on_line(&self) -> Option<char> {
        self.text[self.at..].chars().find(|c| !matches!(c, ' ' | '\t' | '\r'))
    }

    /// Takes `mark` if it is next.
    pub fn eat(&mut self, mark: &str) -> bool {
        let hit = self.rest().starts_with(mark);
        if hit {
            self.at += mark.len();
        }
        hit
    }

    /// Takes `mark` or fails.
    pub fn expect(&mut self, mark: &str) -> Result<(), ParseError> {
        if self.eat(mark) {
            return Ok(());
        }
        let found = self.found();
        Err(self.error(format!("expected `{mark}`, found `{found}`")))
    }

    /// Takes the word `word` (a whole word) if it is next.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let hit = self.peek_word() == word;
        if hit {
            self.at += word.len();
        }
        hit
    }

    /// The next word without taking it; empty where there is none.
    pub fn peek_word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        &rest[..end]
    }

    /// Takes a word (letters, digits, `_`, `.`, `:`).
    pub fn word(&mut self) -> Result<&'a str, ParseError> {
        let w = self.peek_word();
        if w.is_empty() {
            let found = self.found();
            return Err(self.error(format!("expected a word, found `{found}`")));
        }
        self.at += w.len();
        Ok(w)
    }

    /// Takes an integer, possibly negative.
    pub fn int(&mut self) -> Result<i64, ParseError> {
        let rest = self.rest();
        let digits = rest.strip_prefix('-').unwrap_or(rest);
        let len = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let text = &rest[..len + (rest.len() - digits.len())];
        match text.parse() {
            Ok(v) => {
                self.at += text.len();
                Ok(v)
            }
            Err(_) => {
                let found = self.found();
                Err(self.error(format!("expected a number, found `{found}`")))
            }
        }
    }

    /// Takes an unsigned 32-bit number.
    pub fn u32(&mut self) -> Result<u32, ParseError> {
        let v = self.int()?;
        u32::try_from(v).map_err(|_| self.error(format!("{v} is out of range")))
    }

    /// Takes `%12`.
    pub fn value_id(&mut self) -> Result<u32, ParseError> {
        self.expect("%")?;
        self.u32()
    }

    /// Takes a double-quoted string without escapes.
    pub fn quoted(&mut self) -> Result<&'a str, ParseError> {
        self.expect("\"")?;
        let rest = &self.text[self.at..];
        let end = rest.find('"').ok_or_else(|| self.error("a string has no closing quote"))?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    /// Takes everything up to `end` on this nesting level (braces and brackets balance), without `end`.
    pub fn until(&mut self, end: char) -> Result<&'a str, ParseError> {
        let rest = self.rest();
        let mut depth = 0i32;
        for (i, c) in rest.char_indices() {
            match c {
                _ if depth == 0 && c == end => {
                    self.at += i;
                    return Ok(&rest[..i]);
                }
                '{' | '[' | '(' => depth += 1,
                '}' | ']' | ')' => depth -= 1,
                _ => {}
            }
        }
        Err(self.error(format!("expected `{end}` before the end")))
    }

    /// Takes ` {k=v, ...}` where present; `key` maps a name to the table's own spelling.
    pub fn attrs(&mut self, keys: &[&'static str]) -> Result<Attrs, ParseError> {
        let mut attrs = Attrs::none();
        // A region opens with `{` too, but what follows is then never `word=`.
        if !self.rest().starts_with('{') || !self.looks_like_attrs() {
            return Ok(attrs);
        }
        self.expect("{")?;
        while !self.eat("}") {
            let name = self.word()?;
            // A key that may be missing ends in `?`.
            let key = keys.iter().map(|k| k.trim_end_matches('?')).find(|k| *k == name);
            let key = key.ok_or_else(|| self.error(format!("unknown attribute `{name}`: expected one of {keys:?}")))?;
            self.expect("=")?;
            let value = if self.eat("[") {
                let mut list = Vec::new();
                while !self.eat("]") {
                    list.push(self.int()?);
                    self.eat(",");
                }
                Attr::Ints(list)
            } else if self.peek().is_some_and(|c| c == '-' || c.is_ascii_digit())
                && !self.peek_word().contains(|c: char| c.is_ascii_alphabetic())
            {
                Attr::Int(self.int()?)
            } else {
                Attr::Sym(self.word()?.to_string())
            };
            attrs.0.push((key, value));
            self.eat(",");
        }
        Ok(attrs)
    }

    /// Takes ` @file:line` where present.
    pub fn loc(&mut self) -> Result<Loc, ParseError> {
        if !self.eat("@") {
            return Ok(Loc::default());
        }
        let file = self.u32()?;
        self.expect(":")?;
        Ok(Loc { file, line: self.u32()? })
    }

    fn looks_like_attrs(&self) -> bool {
        let body = self.text[self.at + 1..].trim_start();
        let end = body.find(|c: char| !is_word(c)).unwrap_or(body.len());
        end > 0 && body[end..].trim_start().starts_with('=') && !body.starts_with('%')
    }

    fn found(&mut self) -> String {
        let word = self.peek_word();
        if word.is_empty() { self.peek().map_or_else(|| "the end".to_string(), String::from) } else { word.to_string() }
    }

    fn skip(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(&c) = bytes.get(self.at) {
            match c {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                b'#' => {
                    while bytes.get(self.at + 1).is_some_and(|&c| c != b'\n') {
                        self.at += 1;
                    }
                }
                _ => break,
            }
            self.at += 1;
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.')
}
