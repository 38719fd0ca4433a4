//! Instruction operands.

use super::ast::Operand;
use super::function::Body;
use super::lexer::Token;
use super::module::{Parser, describe};
use crate::error::ParseError;

impl Parser {
    /// Operands up to the closing `;`.
    pub(super) fn operands(&mut self, body: &Body) -> Result<Vec<Operand>, ParseError> {
        let mut operands = Vec::new();
        while !self.accept(';') {
            operands.push(self.operand(body)?);
            if !self.accept(',') && !self.is_sign(';') {
                let found = describe(self.peek());
                return self.error(format!("expected `,` or `;`, found {found}"));
            }
        }
        Ok(operands)
    }

    fn operand(&mut self, body: &Body) -> Result<Operand, ParseError> {
        let first = self.simple(body)?;
        if self.accept('|') {
            let second = self.simple(body)?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn list(&mut self, body: &Body, close: char) -> Result<Vec<Operand>, ParseError> {
        let mut items = Vec::new();
        self.deeper()?;
        while !self.accept(close) {
            items.push(self.operand(body)?);
            if !self.accept(',') && !self.is_sign(close) {
                let found = describe(self.peek());
                return self.error(format!("expected `,` or `{close}`, found {found}"));
            }
        }
        self.depth -= 1;
        Ok(items)
    }

    fn simple(&mut self, body: &Body) -> Result<Operand, ParseError> {
        let line = self.line();
        match self.next() {
            Token::Sign('{') => Ok(Operand::Vector(self.list(body, '}')?)),
            Token::Sign('(') => Ok(Operand::Args(self.list(body, ')')?)),
            Token::Sign('[') => self.address(body),
            Token::Sign('!') => {
                let name = self.word("a predicate")?;
                match body.register(&name) {
                    Some(reg) => Ok(Operand::NotReg(reg)),
                    None => Err(ParseError::on(line, format!("`{name}` is not a declared register"))),
                }
            }
            Token::Sign('-') => match self.next() {
                Token::Int(value) => Ok(Operand::Int((value as i64).wrapping_neg())),
                Token::Double(value) => Ok(Operand::Double(-value)),
                Token::Single(bits) => Ok(Operand::Single(bits ^ 0x8000_0000)),
                other => self.error(format!("unexpected {} after `-`", describe(&other))),
            },
            Token::Sign('~') => Ok(Operand::Int(!(self.int("a number")? as i64))),
            Token::Int(value) => Ok(Operand::Int(value as i64)),
            Token::Double(value) => Ok(Operand::Double(value)),
            Token::Single(bits) => Ok(Operand::Single(bits)),
            Token::Word(word) if word == "_" => Ok(Operand::Sink),
            Token::Word(word) => {
                let base = self.named(body, word, line)?;
                match base {
                    Operand::Name { name, scope, .. } => Ok(Operand::Name { name, scope, offset: self.offset()? }),
                    other => Ok(other),
                }
            }
            other => Err(ParseError::on(line, format!("expected an operand, found {}", describe(&other)))),
        }
    }

    fn named(&mut self, body: &Body, word: String, line: u32) -> Result<Operand, ParseError> {
        if let Some(reg) = body.register(&word) {
            return Ok(Operand::Reg(reg));
        }
        if word == "WARP_SZ" {
            return Ok(Operand::Int(32));
        }
        if word.starts_with('%') {
            if crate::decode::is_special(&word) {
                return Ok(Operand::Special(word));
            }
            return Err(ParseError::on(line, format!("`{word}` is not a declared register")));
        }
        let name = body.variable(&word).cloned().unwrap_or(word);
        Ok(Operand::Name { name, scope: body.scope(), offset: 0 })
    }

    fn offset(&mut self) -> Result<i64, ParseError> {
        let mut total = 0i64;
        loop {
            let sign = if self.accept('+') {
                1
            } else if self.accept('-') {
                -1
            } else {
                return Ok(total);
            };
            let negative = self.accept('-');
            let value = self.int("an offset")? as i64;
            let minus = negative != (sign < 0);
            total = total.wrapping_add(if minus { value.wrapping_neg() } else { value });
        }
    }

    fn address(&mut self, body: &Body) -> Result<Operand, ParseError> {
        let line = self.line();
        let base = match self.next() {
            Token::Word(word) => Some(Box::new(self.named(body, word, line)?)),
            Token::Int(value) => {
                let extra = self.address_tail(body)?;
                return Ok(Operand::Address { base: None, offset: value as i64, extra });
            }
            other => return Err(ParseError::on(line, format!("unexpected {} in an address", describe(&other)))),
        };
        let offset = self.offset()?;
        let extra = self.address_tail(body)?;
        Ok(Operand::Address { base, offset, extra })
    }

    fn address_tail(&mut self, body: &Body) -> Result<Vec<Operand>, ParseError> {
        if self.accept(']') {
            return Ok(Vec::new());
        }
        self.expect(',')?;
        self.list(body, ']')
    }
}
