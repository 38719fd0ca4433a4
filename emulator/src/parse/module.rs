//! Module-level directives and variables.

use super::ast::{InitItem, Module, Space, Variable};
use super::lexer::{Spanned, Token, lex};
use crate::error::ParseError;
use rustc_hash::FxHashMap;

/// Parses a whole module.
pub fn parse(text: &str) -> Result<Module, ParseError> {
    let mut parser = Parser {
        tokens: lex(text)?,
        at: 0,
        module: Module::default(),
        files: FxHashMap::default(),
        places: Vec::new(),
        dims: Vec::new(),
        depth: 0,
    };
    parser.module()?;
    let files = &parser.files;
    let name = |(file, line): &(u64, u64)| format!("{}:{line}", files.get(file).map_or("?", String::as_str));
    parser.module.sources = parser.places.iter().map(name).collect();
    Ok(parser.module)
}

pub(super) struct Parser {
    pub tokens: Vec<Spanned>,
    pub at: usize,
    pub module: Module,
    pub files: FxHashMap<u64, String>,
    /// File and line of each source; named at the end, since compilers print `.file` after the code.
    pub places: Vec<(u64, u64)>,
    /// Extents of the array declared last.
    dims: Vec<u64>,
    /// How many lists are open.
    pub depth: u32,
}

/// Bits of a fundamental type; predicates have none in memory.
pub(super) fn type_bits(name: &str) -> Option<u32> {
    Some(match name {
        "b8" | "u8" | "s8" => 8,
        "b16" | "u16" | "s16" | "f16" | "bf16" => 16,
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => 32,
        "b64" | "u64" | "s64" | "f64" => 64,
        "b128" => 128,
        _ => return None,
    })
}

/// Lists in lists in lists: PTX needs a few.
const MAX_DEPTH: u32 = 64;

impl Parser {
    /// Enters a list, which is read by recursion.
    pub fn deeper(&mut self) -> Result<(), ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error("lists are nested too deeply");
        }
        Ok(())
    }

    pub fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)].token
    }

    pub fn line(&self) -> u32 {
        self.tokens[self.at.min(self.tokens.len() - 1)].line
    }

    pub fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    pub fn error<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        let at = &self.tokens[self.at.min(self.tokens.len() - 1)];
        Err(ParseError::at(at.line, at.column, message))
    }

    pub fn is_sign(&self, sign: char) -> bool {
        *self.peek() == Token::Sign(sign)
    }

    pub fn accept(&mut self, sign: char) -> bool {
        let found = self.is_sign(sign);
        if found {
            self.at += 1;
        }
        found
    }

    pub fn expect(&mut self, sign: char) -> Result<(), ParseError> {
        if self.accept(sign) {
            return Ok(());
        }
        let found = describe(self.peek());
        self.error(format!("expected `{sign}`, found {found}"))
    }

    pub fn word(&mut self, what: &str) -> Result<String, ParseError> {
        match self.peek() {
            Token::Word(word) => {
                let word = word.clone();
                self.at += 1;
                Ok(word)
            }
            other => {
                let found = describe(other);
                self.error(format!("expected {what}, found {found}"))
            }
        }
    }

    pub fn int(&mut self, what: &str) -> Result<u64, ParseError> {
        match *self.peek() {
            Token::Int(value) => {
                self.at += 1;
                Ok(value)
            }
            _ => {
                let found = describe(self.peek());
                self.error(format!("expected {what}, found {found}"))
            }
        }
    }

    fn module(&mut self) -> Result<(), ParseError> {
        let mut linkage = Linkage::default();
        loop {
            let line = self.line();
            match self.next() {
                Token::End => break,
                Token::Dot(name) => match name.as_str() {
                    "version" => self.version()?,
                    "target" => {
                        self.module.target = self.word("a target such as sm_90a")?;
                        while self.accept(',') {
                            self.next();
                        }
                    }
                    "address_size" => {
                        if self.int("32 or 64")? != 64 {
                            return Err(ParseError::on(line, "only .address_size 64 is supported"));
                        }
                    }
                    "visible" | "weak" | "common" => linkage.external = false,
                    "extern" => linkage.external = true,
                    "file" => self.file()?,
                    "section" => self.skip_section()?,
                    "pragma" => self.skip_statement(),
                    "alias" => self.alias()?,
                    "entry" | "func" => {
                        self.function(name == "entry")?;
                        linkage = Linkage::default();
                    }
                    "global" | "const" | "shared" => {
                        let space = match name.as_str() {
                            "global" => Space::Global,
                            "const" => Space::Const,
                            _ => Space::Shared,
                        };
                        let mut variables = self.variables(space, linkage.external)?;
                        self.module.variables.append(&mut variables);
                        linkage = Linkage::default();
                    }
                    other => return Err(ParseError::on(line, format!("unknown directive `.{other}`"))),
                },
                Token::Sign(';') => {}
                // Debug sections define labels at module level, e.g. `$L__debug_start:`.
                Token::Word(_) if self.is_sign(':') => self.at += 1,
                other => return Err(ParseError::on(line, format!("expected a directive, found {}", describe(&other)))),
            }
        }
        if self.module.target.is_empty() {
            return self.error("the module has no .target");
        }
        Ok(())
    }

    fn version(&mut self) -> Result<(), ParseError> {
        match self.next() {
            Token::Double(value) => {
                let tenths = (value * 10.0).round() as u32;
                self.module.version = (tenths / 10, tenths % 10);
                Ok(())
            }
            Token::Int(value) => {
                self.module.version = (value as u32, 0);
                Ok(())
            }
            other => self.error(format!("expected a version such as 8.6, found {}", describe(&other))),
        }
    }

    pub fn file(&mut self) -> Result<(), ParseError> {
        let index = self.int("a file number")?;
        if let Token::Text(path) = self.next() {
            self.files.insert(index, path);
        }
        while self.accept(',') {
            self.next();
        }
        Ok(())
    }

    /// `.loc file line column [, function_name ... , inlined_at ...]` to an index into the module's sources.
    pub fn loc(&mut self) -> Result<u32, ParseError> {
        let file = self.int("a file number")?;
        let line = self.int("a line number")?;
        self.int("a column number")?;
        while self.accept(',') {
            let attribute = self.word("an attribute of .loc")?;
            if attribute == "inlined_at" {
                for _ in 0..3 {
                    self.int("a position")?;
                }
            } else {
                self.next();
                if self.accept('+') {
                    self.next();
                }
            }
        }
        if self.places.last() != Some(&(file, line)) {
            self.places.push((file, line));
        }
        Ok(self.places.len() as u32 - 1)
    }

    pub fn skip_statement(&mut self) {
        while !self.is_sign(';') && *self.peek() != Token::End {
            self.at += 1;
        }
        self.accept(';');
    }

    /// `.alias name, target;`
    fn alias(&mut self) -> Result<(), ParseError> {
        let name = self.word("an alias")?;
        self.expect(',')?;
        let target = self.word("a function")?;
        self.module.aliases.push((name, target));
        self.expect(';')
    }

    fn skip_section(&mut self) -> Result<(), ParseError> {
        while !self.is_sign('{') {
            if *self.peek() == Token::End {
                return self.error("expected `{` after .section");
            }
            self.at += 1;
        }
        let mut depth = 0;
        loop {
            match self.next() {
                Token::Sign('{') => depth += 1,
                Token::Sign('}') => depth -= 1,
                Token::End => return self.error("section is never closed"),
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// After a space directive: `.align 16 .b8 a[64], b;`, one entry per name.
    pub fn variables(&mut self, space: Space, external: bool) -> Result<Vec<Variable>, ParseError> {
        let mut variables = Vec::new();
        let (align, bits) = self.declared_type()?;
        loop {
            let mut variable = self.declarator(space, align, bits)?;
            variable.external = external;
            if self.accept('=') {
                let dims = std::mem::take(&mut self.dims);
                self.initialiser(bits / 8, &dims, &mut variable.init)?;
                if variable.bytes == 0 {
                    variable.bytes = init_bytes(&variable.init);
                }
            }
            if variable.bytes == 0 && !external {
                return Err(ParseError::on(variable.line, format!("variable `{}` has no size", variable.name)));
            }
            variables.push(variable);
            if !self.accept(',') {
                break;
            }
        }
        self.expect(';')?;
        Ok(variables)
    }

    /// Alignment and bits of `.align 4 .ptr .global .b8`, in any order.
    pub fn declared_type(&mut self) -> Result<(u32, u32), ParseError> {
        let mut align = 0;
        let mut pointee_align = false;
        let mut lanes = 1;
        while let Token::Dot(name) = self.peek().clone() {
            self.at += 1;
            match name.as_str() {
                "align" => {
                    let value = self.int("an alignment")? as u32;
                    if !value.is_power_of_two() {
                        return self.error("alignment must be a power of two");
                    }
                    // `.ptr .align n` is the alignment of what the parameter points at.
                    if !pointee_align {
                        align = value;
                    }
                }
                "ptr" => pointee_align = true,
                "v2" => lanes = 2,
                "v4" => lanes = 4,
                "attribute" => {
                    self.expect('(')?;
                    while !self.accept(')') {
                        if self.next() == Token::End {
                            return self.error("attribute is never closed");
                        }
                    }
                }
                "global" | "const" | "shared" | "local" | "generic" | "param" => {}
                other => match type_bits(other) {
                    Some(bits) => {
                        let natural = (bits * lanes / 8).max(1);
                        // Types come last, except that a `.ptr` attribute may follow in parameters.
                        if matches!(self.peek(), Token::Dot(next) if next == "ptr") {
                            self.pointer_attributes()?;
                        }
                        return Ok((if align == 0 { natural } else { align }, bits * lanes));
                    }
                    None => return self.error(format!("unknown type `.{other}`")),
                },
            }
        }
        self.error("expected a type")
    }

    fn pointer_attributes(&mut self) -> Result<(), ParseError> {
        while let Token::Dot(name) = self.peek().clone() {
            self.at += 1;
            if name == "align" {
                self.int("an alignment")?;
            }
        }
        Ok(())
    }

    /// `name[2][4]`
    pub fn declarator(&mut self, space: Space, align: u32, bits: u32) -> Result<Variable, ParseError> {
        let line = self.line();
        let name = self.word("a variable name")?;
        let mut bytes = u64::from(bits / 8);
        self.dims.clear();
        while self.accept('[') {
            let count = if self.is_sign(']') { 0 } else { self.int("an array size")? };
            self.dims.push(count);
            let Some(total) = bytes.checked_mul(count) else {
                return Err(ParseError::on(line, format!("array `{name}` is too large")));
            };
            bytes = total;
            self.expect(']')?;
        }
        // Beyond what any device has; smaller sizes that do not fit are refused where the device is known.
        let limit: u64 = match space {
            Space::Param => 32_764,
            Space::Shared | Space::SharedCluster | Space::Local => 1 << 24,
            _ => 1 << 36,
        };
        if bytes > limit {
            return Err(ParseError::on(line, format!("`{name}` has {bytes} bytes, more than the {limit} there can be")));
        }
        Ok(Variable { name, space, align, bytes, external: false, init: Vec::new(), line })
    }

    /// The value of a variable with the extents `dims`; what a list leaves out is zero.
    fn initialiser(&mut self, item_bytes: u32, dims: &[u64], out: &mut Vec<InitItem>) -> Result<(), ParseError> {
        if self.accept('{') {
            let inner = dims.get(1..).unwrap_or_default();
            let start = init_bytes(out);
            self.deeper()?;
            while !self.accept('}') {
                self.initialiser(item_bytes, inner, out)?;
                if !self.accept(',') && !self.is_sign('}') {
                    return self.error("expected `,` or `}` in an initialiser");
                }
            }
            self.depth -= 1;
            let full = dims.iter().fold(u64::from(item_bytes), |all, count| all.saturating_mul(*count));
            let missing = full.saturating_sub(init_bytes(out) - start);
            // The last list of a variable needs no zeros: that is what memory starts with.
            if missing > 0 && missing < 1 << 20 {
                out.push(InitItem::Bytes(vec![0; missing as usize]));
            }
            return Ok(());
        }
        let negative = self.accept('-');
        let size = item_bytes as usize;
        let bytes = match self.next() {
            // `0xFF00(variable)`: the byte of its address under the mask.
            Token::Int(mask) if self.accept('(') => {
                let (name, offset) = self.symbol()?;
                self.expect(')')?;
                let byte = mask.trailing_zeros() / 8;
                if mask.checked_shr(8 * byte) != Some(0xff) || item_bytes != 1 {
                    return self.error("a mask of an address must select one byte of an 8-bit element");
                }
                out.push(InitItem::SymbolByte { name, offset, byte });
                return Ok(());
            }
            Token::Int(value) => {
                let value = if negative { value.wrapping_neg() } else { value };
                value.to_le_bytes()[..size.min(8)].to_vec()
            }
            Token::Single(bits) => bits.to_le_bytes().to_vec(),
            Token::Double(value) => {
                let value = if negative { -value } else { value };
                if size == 4 { (value as f32).to_le_bytes().to_vec() } else { value.to_le_bytes().to_vec() }
            }
            Token::Word(_) => {
                self.at -= 1;
                let (name, offset) = self.symbol()?;
                out.push(InitItem::Symbol { name, offset });
                return Ok(());
            }
            other => return self.error(format!("unexpected {} in an initialiser", describe(&other))),
        };
        out.push(InitItem::Bytes(bytes));
        Ok(())
    }
}

impl Parser {
    /// `variable + 4`, `generic(variable) - 4`
    fn symbol(&mut self) -> Result<(String, i64), ParseError> {
        let mut name = self.word("a variable")?;
        if name == "generic" && self.accept('(') {
            name = self.word("a variable")?;
            self.expect(')')?;
        }
        let negative = self.is_sign('-');
        let offset = if self.accept('+') || self.accept('-') { self.int("an offset")? as i64 } else { 0 };
        Ok((name, if negative { offset.wrapping_neg() } else { offset }))
    }
}

#[derive(Default)]
struct Linkage {
    external: bool,
}

fn init_bytes(items: &[InitItem]) -> u64 {
    let bytes = |item: &InitItem| match item {
        InitItem::Bytes(bytes) => bytes.len() as u64,
        InitItem::Symbol { .. } => 8,
        InitItem::SymbolByte { .. } => 1,
    };
    items.iter().map(bytes).sum()
}

/// A token as an error message shows it.
pub(super) fn describe(token: &Token) -> String {
    match token {
        Token::Word(word) => format!("`{word}`"),
        Token::Dot(name) => format!("`.{name}`"),
        Token::Int(value) => format!("`{value}`"),
        Token::Double(value) => format!("`{value}`"),
        Token::Single(bits) => format!("`0f{bits:08X}`"),
        Token::Text(text) => format!("\"{text}\""),
        Token::Sign(sign) => format!("`{sign}`"),
        Token::End => "the end of the text".into(),
    }
}
