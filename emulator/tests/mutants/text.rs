//! PTX text as lines that can be edited one at a time.

/// One instruction on a line of its own.
#[derive(Clone, Debug)]
pub struct Instr {
    /// `@%p1 `, or nothing.
    pub guard: String,
    pub opcode: String,
    pub operands: Vec<String>,
}

impl Instr {
    /// `None` for labels, directives, comments and lines with several instructions.
    pub fn parse(line: &str) -> Option<Instr> {
        let code = line.split("//").next()?.trim();
        let code = code.strip_suffix(';')?;
        if code.starts_with(['.', '{', '$']) || code.contains(';') || code.contains(':') && !code.contains("::") {
            return None;
        }
        let (guard, code) = match code.split_once(char::is_whitespace) {
            Some((guard, rest)) if guard.starts_with('@') => (format!("{guard} "), rest.trim()),
            _ => (String::new(), code),
        };
        let (opcode, rest) = code.split_once(char::is_whitespace).unwrap_or((code, ""));
        Some(Instr { guard, opcode: opcode.into(), operands: split(rest) })
    }

    pub fn root(&self) -> &str {
        self.opcode.split('.').next().unwrap_or_default()
    }

    /// Whether the opcode starts with this and goes on with a modifier or ends.
    pub fn is(&self, prefix: &str) -> bool {
        self.opcode.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    pub fn has(&self, modifier: &str) -> bool {
        self.opcode.split('.').skip(1).any(|part| part == modifier)
    }

    /// The opcode with one modifier replaced.
    pub fn with_modifier(&self, from: &str, to: &str) -> Instr {
        let parts: Vec<&str> = self.opcode.split('.').map(|part| if part == from { to } else { part }).collect();
        Instr { opcode: parts.join("."), ..self.clone() }
    }

    pub fn with_operand(&self, at: usize, text: &str) -> Instr {
        let mut changed = self.clone();
        changed.operands[at] = text.into();
        changed
    }

    pub fn print(&self) -> String {
        format!("{}{} {};", self.guard, self.opcode, self.operands.join(", "))
    }

    /// The instruction with operand `at` replaced by `operand op value`; `ty` is its type, such as `b32`.
    pub fn shifted(&self, at: usize, op: &str, ty: &str, value: i64) -> String {
        let operand = &self.operands[at];
        if let Some(number) = integer(operand) {
            let changed = match op {
                "add" => number.wrapping_add(value),
                "xor" => number ^ value,
                "shr" => number >> value,
                other => unreachable!("no {other} of constants"),
            };
            return self.with_operand(at, &changed.to_string()).print();
        }
        let op_ty = match op {
            "add" => ty.replace('b', "s"),
            "shr" => ty.replace('b', "u"),
            _ => ty.to_string(),
        };
        let changed = self.with_operand(at, "%mutant").print();
        format!("{{ .reg .{ty} %mutant; {op}.{op_ty} %mutant, {operand}, {value}; {changed} }}")
    }
}

/// Operands at the top level of brackets and braces.
pub fn split(text: &str) -> Vec<String> {
    let (mut parts, mut depth, mut part) = (Vec::new(), 0, String::new());
    for c in text.chars() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            parts.push(part.trim().to_string());
            part.clear();
        } else {
            part.push(c);
        }
    }
    if !part.trim().is_empty() {
        parts.push(part.trim().to_string());
    }
    parts
}

/// A decimal or hexadecimal constant; those above `i64::MAX` wrap.
pub fn integer(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(|value| value as i64),
        None => text.parse::<i64>().ok().or_else(|| text.parse::<u64>().ok().map(|value| value as i64)),
    }
}

/// `[base+offset]` with `more` added to the offset.
pub fn address_plus(operand: &str, more: i64) -> Option<String> {
    let inner = operand.strip_prefix('[')?.strip_suffix(']')?;
    match inner.rsplit_once('+') {
        Some((base, offset)) => Some(format!("[{base}+{}]", integer(offset.trim())? + more)),
        None => Some(format!("[{inner}+{more}]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_taken_apart_and_changed() {
        let line = "\t@!%p1 mbarrier.try_wait.parity.shared::cta.b64 \t%p8, [%r44], %r210; // wait";
        let instr = Instr::parse(line).expect("an instruction");
        assert_eq!((instr.guard.as_str(), instr.root()), ("@!%p1 ", "mbarrier"));
        assert_eq!(instr.operands, ["%p8", "[%r44]", "%r210"]);
        assert!(instr.is("mbarrier.try_wait") && !instr.is("mbarrier.try") && instr.has("parity"));
        assert_eq!(
            instr.shifted(2, "xor", "b32", 1),
            "{ .reg .b32 %mutant; xor.b32 %mutant, %r210, 1; \
             @!%p1 mbarrier.try_wait.parity.shared::cta.b64 %p8, [%r44], %mutant; }"
        );
        let copy = Instr::parse("cp.async.bulk.tensor.2d.x [%r5], [%rd2, {%r6,%r3}], [bar+8];").expect("an instruction");
        assert_eq!(copy.operands[1], "[%rd2, {%r6,%r3}]");
        assert_eq!(address_plus(&copy.operands[2], 8).as_deref(), Some("[bar+16]"));
        for other in ["$L__BB0_1:", "\t.reg .b32 %r<4>;", "// bar.sync 0;", "L0: bar.sync 0;", "ret; ret;"] {
            assert!(Instr::parse(other).is_none(), "{other}");
        }
    }
}
