//! The parsed module: names of registers resolved, instructions still text.

use rustc_hash::FxHashMap;

/// A state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    Generic,
    Global,
    Const,
    Shared,
    SharedCluster,
    Local,
    Param,
}

/// The width class of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegClass {
    Pred,
    /// 8, 16 or 32 bits: one 32-bit slot.
    Word(u8),
    Double,
    Quad,
}

/// A declared register of a function, numbered from 0 across its scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegId(pub u32);

/// A nested `{ }` scope of a function; 0 is the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScopeId(pub u32);

#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    Reg(RegId),
    NotReg(RegId),
    /// A special register such as `%tid.x`.
    Special(String),
    /// A label, variable or parameter, with a byte offset.
    Name {
        name: String,
        scope: ScopeId,
        offset: i64,
    },
    Int(i64),
    Double(f64),
    Single(u32),
    /// `[base + offset]`, with what follows a comma inside the brackets.
    Address {
        base: Option<Box<Operand>>,
        offset: i64,
        extra: Vec<Operand>,
    },
    Vector(Vec<Operand>),
    /// `(a, b)` of a call
    Args(Vec<Operand>),
    /// `a|b`
    Pair(Box<Operand>, Box<Operand>),
    /// `_`
    Sink,
}

#[derive(Clone, Debug)]
pub struct Instr {
    pub line: u32,
    /// Index into [`Module::sources`].
    pub source: Option<u32>,
    pub guard: Option<(RegId, bool)>,
    pub opcode: String,
    pub operands: Vec<Operand>,
}

/// A variable or parameter.
#[derive(Clone, Debug)]
pub struct Variable {
    pub name: String,
    pub space: Space,
    pub align: u32,
    /// Size in bytes; 0 for an unsized `extern` array.
    pub bytes: u64,
    pub external: bool,
    pub init: Vec<InitItem>,
    pub line: u32,
}

/// Bytes of an initialiser, in order.
#[derive(Clone, Debug)]
pub enum InitItem {
    Bytes(Vec<u8>),
    /// The 64-bit address of a variable.
    Symbol {
        name: String,
        offset: i64,
    },
    /// One byte of such an address, the lowest first.
    SymbolByte {
        name: String,
        offset: i64,
        byte: u32,
    },
}

/// A formal parameter or return value of a device function.
#[derive(Clone, Debug)]
pub enum Formal {
    /// `.param`
    Memory(Variable),
    /// `.reg`
    Register(RegId),
}

#[derive(Clone, Debug, Default)]
pub struct Function {
    pub name: String,
    pub is_entry: bool,
    pub line: u32,
    /// Parameters of an entry.
    pub params: Vec<Variable>,
    /// Parameters and return values of a device function.
    pub formals: Vec<Formal>,
    pub returns: Vec<Formal>,
    pub reqntid: Option<[u32; 3]>,
    pub maxntid: Option<[u32; 3]>,
    pub reqcluster: Option<[u32; 3]>,
    pub explicit_cluster: bool,
    pub min_ctas: Option<u32>,
    pub maxnreg: Option<u32>,
    pub regs: Vec<(String, RegClass)>,
    /// Parent of each scope.
    pub scopes: Vec<ScopeId>,
    pub labels: FxHashMap<(ScopeId, String), u32>,
    pub branch_targets: FxHashMap<(ScopeId, String), Vec<String>>,
    /// `.shared`, `.local` and call `.param` variables declared inside; those of nested scopes under unique names.
    pub variables: Vec<Variable>,
    pub body: Vec<Instr>,
}

#[derive(Clone, Debug, Default)]
pub struct Module {
    pub version: (u32, u32),
    pub target: String,
    pub variables: Vec<Variable>,
    pub functions: Vec<Function>,
    /// `.alias` names and what they stand for.
    pub aliases: Vec<(String, String)>,
    /// `file:line` strings of `.loc`.
    pub sources: Vec<String>,
}

impl Module {
    /// The index of a function with a body, by its name or an alias.
    pub fn function(&self, name: &str) -> Option<usize> {
        let alias = self.aliases.iter().find(|(alias, _)| alias == name).map(|(_, target)| target.as_str());
        let name = alias.unwrap_or(name);
        self.functions.iter().position(|function| function.name == name)
    }
}
