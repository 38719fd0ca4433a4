//! Entries, functions and the statements of their bodies.

use super::ast::{Formal, Function, Instr, RegClass, RegId, ScopeId, Space, Variable};
use super::lexer::Token;
use super::module::{Parser, describe, type_bits};
use crate::error::ParseError;
use rustc_hash::FxHashMap;

/// Registers and scopes while a body is parsed.
pub(super) struct Body {
    names: Vec<FxHashMap<String, RegId>>,
    /// `%r<24>`: prefix to first register and count.
    ranges: Vec<FxHashMap<String, (u32, u32)>>,
    open: Vec<ScopeId>,
    /// Variables of each open scope: the name in the text to the one in [`Function::variables`].
    variables: Vec<FxHashMap<String, String>>,
}

/// Registers a function may declare, of all classes together.
const MAX_REGISTERS: u64 = 250_000;

impl Body {
    pub fn register(&self, name: &str) -> Option<RegId> {
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (prefix, index) = name.split_at(name.len() - digits);
        // `%r01` is not `%r1`.
        let index = if index.len() > 1 && index.starts_with('0') { None } else { index.parse::<u32>().ok() };
        for (names, ranges) in self.names.iter().zip(&self.ranges).rev() {
            if let Some(&reg) = names.get(name) {
                return Some(reg);
            }
            if let (Some(&(first, count)), Some(index)) = (ranges.get(prefix), index)
                && index < count
            {
                return Some(RegId(first + index));
            }
        }
        None
    }

    /// The unique name of a variable declared in an open scope.
    pub fn variable(&self, name: &str) -> Option<&String> {
        self.variables.iter().rev().find_map(|names| names.get(name))
    }

    pub fn scope(&self) -> ScopeId {
        self.open.last().copied().unwrap_or(ScopeId(0))
    }
}

fn register_class(name: &str) -> Option<RegClass> {
    if name == "pred" {
        return Some(RegClass::Pred);
    }
    Some(match type_bits(name)? {
        64 => RegClass::Double,
        128 => RegClass::Quad,
        bits => RegClass::Word(bits as u8),
    })
}

impl Parser {
    /// After `.entry` or `.func`.
    pub(super) fn function(&mut self, is_entry: bool) -> Result<(), ParseError> {
        let mut function = Function { is_entry, ..Function::default() };
        let mut body = Body {
            names: vec![FxHashMap::default()],
            ranges: vec![FxHashMap::default()],
            open: vec![ScopeId(0)],
            variables: vec![FxHashMap::default()],
        };
        if !is_entry && self.is_sign('(') {
            function.returns = self.formals(&mut function, &mut body)?;
        }
        function.line = self.line();
        function.name = self.word("a function name")?;
        if self.is_sign('(') {
            if is_entry {
                function.params = self.parameters()?;
            } else {
                function.formals = self.formals(&mut function, &mut body)?;
            }
        }
        loop {
            match self.peek().clone() {
                Token::Dot(name) => {
                    self.at += 1;
                    self.performance_directive(&name, &mut function)?;
                }
                // A prototype without a body.
                Token::Sign(';') => {
                    self.at += 1;
                    return Ok(());
                }
                Token::Sign('{') => {
                    self.at += 1;
                    break;
                }
                other => return self.error(format!("expected a function body, found {}", describe(&other))),
            }
        }
        function.scopes.push(ScopeId(0));
        self.body(&mut function, &mut body)?;
        self.module.functions.push(function);
        Ok(())
    }

    fn parameters(&mut self) -> Result<Vec<super::ast::Variable>, ParseError> {
        self.expect('(')?;
        let mut params = Vec::new();
        while !self.accept(')') {
            match self.next() {
                Token::Dot(name) if name == "param" || name == "reg" => {}
                other => return self.error(format!("expected `.param`, found {}", describe(&other))),
            }
            let (align, bits) = self.declared_type()?;
            params.push(self.declarator(Space::Param, align, bits)?);
            self.accept(',');
        }
        Ok(params)
    }

    /// Formals of a device function; those in registers are declared in its body.
    fn formals(&mut self, function: &mut Function, body: &mut Body) -> Result<Vec<Formal>, ParseError> {
        self.expect('(')?;
        let mut formals = Vec::new();
        while !self.accept(')') {
            match self.next() {
                Token::Dot(name) if name == "param" => {
                    let (align, bits) = self.declared_type()?;
                    formals.push(Formal::Memory(self.declarator(Space::Param, align, bits)?));
                }
                Token::Dot(name) if name == "reg" => {
                    let class = self.class()?;
                    let name = self.word("a register name")?;
                    let reg = RegId(function.regs.len() as u32);
                    if let Some(names) = body.names.first_mut() {
                        names.insert(name.clone(), reg);
                    }
                    function.regs.push((name, class));
                    formals.push(Formal::Register(reg));
                }
                other => return self.error(format!("expected `.param` or `.reg`, found {}", describe(&other))),
            }
            if !self.accept(',') && !self.is_sign(')') {
                return self.error("expected `,` or `)` after a parameter");
            }
        }
        Ok(formals)
    }

    fn class(&mut self) -> Result<RegClass, ParseError> {
        match self.next() {
            Token::Dot(name) => match register_class(&name) {
                Some(class) => Ok(class),
                None => self.error(format!("registers of type `.{name}` are not supported")),
            },
            other => self.error(format!("expected a register type, found {}", describe(&other))),
        }
    }

    /// Keeps the variables of a statement. Names of nested scopes are made unique; call parameters of the same name and
    /// shape in scopes that follow each other share one place.
    fn keep_variables(&mut self, function: &mut Function, body: &mut Body, variables: Vec<Variable>) {
        let nested = body.open.len() > 1;
        for mut variable in variables {
            let name = variable.name.clone();
            if variable.space == Space::Param {
                variable.name = format!("{name}#{}:{}:{}", body.open.len(), variable.bytes, variable.align);
            } else if nested {
                variable.name = format!("{name}#{}", body.scope().0);
            }
            if let Some(names) = body.variables.last_mut() {
                names.insert(name, variable.name.clone());
            }
            if variable.space != Space::Param || function.variables.iter().all(|old| old.name != variable.name) {
                function.variables.push(variable);
            }
        }
    }

    fn triple(&mut self) -> Result<[u32; 3], ParseError> {
        let mut out = [1; 3];
        for (index, slot) in out.iter_mut().enumerate() {
            if index > 0 && !self.accept(',') {
                break;
            }
            *slot = self.int("a number")? as u32;
        }
        Ok(out)
    }

    fn performance_directive(&mut self, name: &str, function: &mut Function) -> Result<(), ParseError> {
        match name {
            "reqntid" => function.reqntid = Some(self.triple()?),
            "maxntid" => function.maxntid = Some(self.triple()?),
            "reqnctapercluster" => function.reqcluster = Some(self.triple()?),
            "minnctapersm" | "maxnctapersm" => function.min_ctas = Some(self.int("a number")? as u32),
            "maxnreg" => function.maxnreg = Some(self.int("a number")? as u32),
            "maxclusterrank" => {
                self.int("a number")?;
            }
            "explicitcluster" => function.explicit_cluster = true,
            "blocksareclusters" | "noreturn" => {}
            "pragma" => self.skip_statement(),
            other => return self.error(format!("unknown directive `.{other}`")),
        }
        Ok(())
    }

    fn body(&mut self, function: &mut Function, body: &mut Body) -> Result<(), ParseError> {
        let mut source = None;
        loop {
            let line = self.line();
            match self.next() {
                Token::Sign('{') => {
                    let scope = ScopeId(function.scopes.len() as u32);
                    function.scopes.push(body.scope());
                    body.open.push(scope);
                    body.names.push(FxHashMap::default());
                    body.ranges.push(FxHashMap::default());
                    body.variables.push(FxHashMap::default());
                }
                Token::Sign('}') => {
                    body.open.pop();
                    body.names.pop();
                    body.ranges.pop();
                    body.variables.pop();
                    if body.open.is_empty() {
                        return Ok(());
                    }
                }
                Token::Sign(';') => {}
                Token::Dot(name) => match name.as_str() {
                    "reg" => self.registers(function, body)?,
                    "loc" => source = Some(self.loc()?),
                    "file" => self.file()?,
                    "pragma" => self.skip_statement(),
                    "shared" | "local" | "param" => {
                        let space = match name.as_str() {
                            "shared" => Space::Shared,
                            "local" => Space::Local,
                            _ => Space::Param,
                        };
                        let variables = self.variables(space, false)?;
                        self.keep_variables(function, body, variables);
                    }
                    other => return Err(ParseError::on(line, format!("unknown directive `.{other}` in a function"))),
                },
                Token::Sign('@') => {
                    let negated = self.accept('!');
                    let name = self.word("a predicate")?;
                    let Some(reg) = body.register(&name) else {
                        return Err(ParseError::on(line, format!("`{name}` is not a declared register")));
                    };
                    if function.regs[reg.0 as usize].1 != RegClass::Pred {
                        return Err(ParseError::on(line, format!("guard `{name}` is not a predicate")));
                    }
                    let opcode = self.word("an instruction")?;
                    let operands = self.operands(body)?;
                    function.body.push(Instr { line, source, guard: Some((reg, negated)), opcode, operands });
                }
                Token::Word(word) => {
                    if self.accept(':') {
                        self.label(word, function, body, line)?;
                    } else {
                        let operands = self.operands(body)?;
                        function.body.push(Instr { line, source, guard: None, opcode: word, operands });
                    }
                }
                Token::End => return self.error(format!("the body of `{}` is never closed", function.name)),
                other => return Err(ParseError::on(line, format!("expected a statement, found {}", describe(&other)))),
            }
        }
    }

    fn label(&mut self, word: String, function: &mut Function, body: &Body, line: u32) -> Result<(), ParseError> {
        let key = (body.scope(), word);
        if matches!(self.peek(), Token::Dot(name) if name == "branchtargets") {
            self.at += 1;
            let mut targets = Vec::new();
            loop {
                targets.push(self.word("a label")?);
                if !self.accept(',') {
                    break;
                }
            }
            self.expect(';')?;
            function.branch_targets.insert(key, targets);
            return Ok(());
        }
        if let Token::Dot(name) = self.peek()
            && matches!(name.as_str(), "callprototype" | "calltargets")
        {
            // The call's own arguments say the same, and every function's address is known.
            self.skip_statement();
            return Ok(());
        }
        let name = key.1.clone();
        if function.labels.insert(key, function.body.len() as u32).is_some() {
            return Err(ParseError::on(line, format!("label `{name}` is defined twice")));
        }
        Ok(())
    }

    /// After `.reg`: `.b32 %r<24>, %x;`.
    fn registers(&mut self, function: &mut Function, body: &mut Body) -> Result<(), ParseError> {
        let class = self.class()?;
        loop {
            let name = self.word("a register name")?;
            let first = function.regs.len() as u32;
            let (Some(names), Some(ranges)) = (body.names.last_mut(), body.ranges.last_mut()) else {
                return self.error("register declared outside a scope");
            };
            if self.accept('<') {
                let count = self.int("a register count")?;
                self.expect('>')?;
                // Slots are 16-bit numbers; ptxas itself gives up long before.
                if count > 60_000 || function.regs.len() as u64 + count > MAX_REGISTERS {
                    return self.error(format!("{count} registers `{name}` are too many"));
                }
                ranges.insert(name.clone(), (first, count as u32));
                function.regs.extend((0..count).map(|index| (format!("{name}{index}"), class)));
            } else {
                names.insert(name.clone(), RegId(first));
                function.regs.push((name, class));
            }
            if !self.accept(',') {
                break;
            }
        }
        self.expect(';')
    }
}
