//! Text to tokens. PTX is lexically simple: the one twist is that `a.b::c` chains (opcodes, `%tid.x`) are one word.

use crate::error::ParseError;

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// An identifier or a dotted opcode chain, `%`-names included.
    Word(String),
    /// A directive such as `.reg` or a type such as `.b32`, without the dot.
    Dot(String),
    /// An integer literal, as its 64-bit pattern.
    Int(u64),
    /// A decimal or `0d` literal.
    Double(f64),
    /// A `0f` literal, as its bits.
    Single(u32),
    /// A quoted string.
    Text(String),
    /// One character of punctuation.
    Sign(char),
    /// The end of the text.
    End,
}

/// A token and where it starts.
#[derive(Clone, Debug)]
pub struct Spanned {
    pub token: Token,
    pub line: u32,
    pub column: u32,
}

/// Splits `text` into tokens, dropping comments.
pub fn lex(text: &str) -> Result<Vec<Spanned>, ParseError> {
    let mut lexer = Lexer { bytes: text.as_bytes(), text, at: 0, line: 1, line_start: 0 };
    let mut tokens = Vec::with_capacity(text.len() / 4);
    loop {
        let spanned = lexer.next()?;
        let end = spanned.token == Token::End;
        tokens.push(spanned);
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
    line: u32,
    line_start: usize,
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$' | b'%')
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::at(self.line, (self.at - self.line_start + 1) as u32, message)
    }

    fn newline(&mut self) {
        self.line += 1;
        self.line_start = self.at + 1;
    }

    fn skip_blank(&mut self) -> Result<(), ParseError> {
        loop {
            match self.peek(0) {
                b'\n' => {
                    self.newline();
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'/' if self.peek(1) == b'/' => {
                    while self.at < self.bytes.len() && self.peek(0) != b'\n' {
                        self.at += 1;
                    }
                }
                b'/' if self.peek(1) == b'*' => {
                    let opened = self.error("comment is never closed");
                    self.at += 2;
                    while !(self.peek(0) == b'*' && self.peek(1) == b'/') {
                        if self.at >= self.bytes.len() {
                            return Err(opened);
                        }
                        if self.peek(0) == b'\n' {
                            self.newline();
                        }
                        self.at += 1;
                    }
                    self.at += 2;
                }
                // LLVM emits `#` line markers in some debug outputs.
                b'#' if self.text[self.line_start..self.at].trim().is_empty() => {
                    while self.at < self.bytes.len() && self.peek(0) != b'\n' {
                        self.at += 1;
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    fn next(&mut self) -> Result<Spanned, ParseError> {
        self.skip_blank()?;
        let (line, column) = (self.line, (self.at - self.line_start + 1) as u32);
        let byte = self.peek(0);
        let token = if self.at >= self.bytes.len() {
            Token::End
        } else if starts_word(byte) {
            Token::Word(self.word())
        } else if byte == b'.' && starts_word(self.peek(1)) {
            self.at += 1;
            let start = self.at;
            while in_word(self.peek(0)) || self.is_path_separator() {
                self.at += if self.peek(0) == b':' { 2 } else { 1 };
            }
            Token::Dot(self.text[start..self.at].to_string())
        } else if byte.is_ascii_digit() || (byte == b'.' && self.peek(1).is_ascii_digit()) {
            self.number()?
        } else if byte == b'"' {
            self.string()?
        } else if byte.is_ascii_graphic() {
            self.at += 1;
            Token::Sign(byte as char)
        } else {
            return Err(self.error(format!("unexpected byte 0x{byte:02x}")));
        };
        Ok(Spanned { token, line, column })
    }

    fn is_path_separator(&self) -> bool {
        self.peek(0) == b':' && self.peek(1) == b':' && in_word(self.peek(2))
    }

    fn word(&mut self) -> String {
        let start = self.at;
        self.at += 1;
        loop {
            if in_word(self.peek(0)) {
                self.at += 1;
            } else if (self.peek(0) == b'.' && in_word(self.peek(1))) || self.is_path_separator() {
                self.at += 2;
            } else {
                return self.text[start..self.at].to_string();
            }
        }
    }

    fn string(&mut self) -> Result<Token, ParseError> {
        let opened = self.error("string is never closed");
        let start = self.at + 1;
        self.at += 1;
        while self.peek(0) != b'"' {
            if self.at >= self.bytes.len() || self.peek(0) == b'\n' {
                return Err(opened);
            }
            self.at += if self.peek(0) == b'\\' { 2 } else { 1 };
        }
        if self.at >= self.bytes.len() {
            return Err(opened);
        }
        let text = self.text.get(start..self.at).ok_or(opened)?.to_string();
        self.at += 1;
        Ok(Token::Text(text))
    }

    fn digits(&mut self, radix: u32, exact: Option<usize>) -> Result<u64, ParseError> {
        let start = self.at;
        while (self.peek(0) as char).is_digit(radix) && exact.is_none_or(|n| self.at - start < n) {
            self.at += 1;
        }
        if exact.is_some_and(|n| self.at - start != n) || start == self.at {
            return Err(self.error("malformed number"));
        }
        u64::from_str_radix(&self.text[start..self.at], radix).map_err(|_| self.error("number does not fit in 64 bits"))
    }

    fn number(&mut self) -> Result<Token, ParseError> {
        let token = match (self.peek(0), self.peek(1) | 0x20) {
            (b'0', b'f') => {
                self.at += 2;
                Token::Single(self.digits(16, Some(8))? as u32)
            }
            (b'0', b'd') => {
                self.at += 2;
                Token::Double(f64::from_bits(self.digits(16, Some(16))?))
            }
            (b'0', b'x') => {
                self.at += 2;
                Token::Int(self.digits(16, None)?)
            }
            (b'0', b'b') => {
                self.at += 2;
                Token::Int(self.digits(2, None)?)
            }
            _ => self.decimal()?,
        };
        if matches!(token, Token::Int(_)) && self.peek(0) == b'U' {
            self.at += 1;
        }
        if in_word(self.peek(0)) {
            return Err(self.error("malformed number"));
        }
        Ok(token)
    }

    fn decimal(&mut self) -> Result<Token, ParseError> {
        let start = self.at;
        let mut real = false;
        loop {
            match self.peek(0) {
                b'0'..=b'9' => self.at += 1,
                b'.' if self.peek(1).is_ascii_digit() || !starts_word(self.peek(1)) => {
                    real = true;
                    self.at += 1;
                }
                b'e' | b'E' if matches!(self.peek(1), b'0'..=b'9' | b'+' | b'-') => {
                    real = true;
                    self.at += 2;
                }
                _ => break,
            }
        }
        let text = &self.text[start..self.at];
        if real {
            return text.parse().map(Token::Double).map_err(|_| self.error("malformed number"));
        }
        // A leading zero means octal, as in C.
        let (digits, radix) = match text.strip_prefix('0') {
            Some(octal) if !octal.is_empty() => (octal, 8),
            _ => (text, 10),
        };
        u64::from_str_radix(digits, radix).map(Token::Int).map_err(|_| self.error("malformed number"))
    }
}
